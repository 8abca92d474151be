"""`hpro align`: utterances -> words with times; `hpro align-check`: accuracy of the boundaries."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from hpro_core import tables
from hpro_core.align import accuracy
from hpro_core.align.jobs import Job, Outcome
from hpro_core.align.textgrid import write_words
from hpro_core.errors import HproError
from hpro_core.io import write_json
from hpro_core.params import Align
from hpro_core.progress import track
from hpro_core.shards import OF_ONE_JOB, folder_of, remove

STAGE = "align"


def run(
    root: Path,
    settings: Align,
    threads: int,
    shard: int | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Align the utterances of `root`/corpus/utterances.parquet.

    Writes align/words.parquet, align/rejected.parquet and align/textgrids/<utt_id>.TextGrid. Every
    utterance is in one of the two tables, except those of the splits in `leave_out`. The output
    bytes do not depend on `threads`.

    Args:
        root: results folder of the run.
        settings: backend and its options.
        threads: number of processes.
        shard: align only this shard (hpro_core.shards), without a check of the rejected fraction.
        leave_out: splits that need no word times.

    Raises:
        HproError: there are no utterances, the backend cannot run, or, without `shard`, the
            rejected fraction exceeds `max_rejected_fraction`.
    """
    source = folder_of(root, "corpus", shard) / "utterances.parquet"
    utterances = tables.read_table(source, tables.UTTERANCES)
    utterances = utterances[~utterances["split"].isin(leave_out)]
    if utterances.empty:
        raise HproError(f"{source} has no utterances to align: check the corpus")
    folder = _empty_folder(folder_of(root, "align", shard))
    outcomes = list(_outcomes(_jobs(root, utterances), settings, threads, folder))
    lost = [(outcome.utt_id, outcome.reason) for outcome in outcomes if outcome.reason]
    tables.write_table(tables.rejected(lost, STAGE), folder / "rejected.parquet", tables.REJECTED)
    if shard is None:
        tables.check_rejected(lost, STAGE, len(outcomes), settings.max_rejected_fraction)
    duration_s = dict(zip(utterances["utt_id"], utterances["duration_s"], strict=True))
    for outcome in outcomes:
        if outcome.spans:
            grid = folder / "textgrids" / f"{outcome.utt_id}.TextGrid"
            write_words(grid, list(outcome.spans), duration_s[outcome.utt_id])
    tables.write_table(_word_table(outcomes), folder / "words.parquet", tables.WORDS)
    _report(outcomes, lost)


def check(root: Path, references: Mapping[str, Path], exact: Collection[str]) -> None:
    """Measure the accuracy of word boundaries and write align/accuracy.json.

    Args:
        root: results folder of the run, aligned.
        references: corpus set -> zip of MFA TextGrids, */<original id>.TextGrid.
        exact: corpus sets with exact word times, corpus/<set>/truth_words.parquet.

    Raises:
        HproError: the run is not aligned, no set is named, or a set has no utterance to compare.
    """
    if not references and not exact:
        raise HproError("nothing to compare with: name a set, SET=ZIP or --exact SET")
    words = tables.read_table(root / "align" / "words.parquet", tables.WORDS)
    figures = {}
    for name, reference_zip in references.items():
        pairs, counts = accuracy.compare_textgrids(words, reference_zip, f"{name}_")
        figures[name] = accuracy.summary(pairs, "MFA TextGrids", **counts)
    for name in exact:
        truth = tables.read_table(root / "corpus" / name / "truth_words.parquet", tables.WORDS)
        pairs, counts = accuracy.compare_words(words, truth)
        figures[name] = accuracy.summary(pairs, "exact times", **counts)
    write_json(root / "align" / "accuracy.json", figures)
    print(pd.DataFrame(figures).T.to_string())


def parsed_references(given: Iterable[str]) -> dict[str, Path]:
    """Parse arguments of the form SET=ZIP: corpus set -> zip of its TextGrids.

    Raises:
        HproError: an argument has another form, or a set is named twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path or name in found:
            raise HproError(f"{text!r}: SET=ZIP is expected, each set once, as acted=grids.zip")
        found[name] = Path(path)
    return found


def _empty_folder(folder: Path) -> Path:
    """The stage's folder after removal of the output of earlier jobs, including killed ones."""
    remove(folder, ["words.parquet", "rejected.parquet", "accuracy.json", *OF_ONE_JOB[STAGE]])
    (folder / "textgrids").mkdir(parents=True)
    return folder


def _jobs(root: Path, utterances: pd.DataFrame) -> list[Job]:
    """One job per utterance; speakers are prefixed by corpus, since corpora number theirs."""
    columns = utterances[["utt_id", "corpus", "speaker", "audio", "words"]]
    return [
        Job(utt_id, f"{corpus}_{speaker}", root / audio, tuple(words.split()))
        for utt_id, corpus, speaker, audio, words in columns.to_numpy(dtype=object).tolist()
    ]


def _outcomes(jobs: list[Job], settings: Align, threads: int, folder: Path) -> Iterator[Outcome]:
    """Outcomes of the chosen backend; local imports, since MFA's environment lacks pocketsphinx."""
    if settings.backend == "mfa":
        from hpro_core.align import mfa_aligner

        return mfa_aligner.align_all(jobs, settings, threads, folder)
    from hpro_core.align import workers

    return track(workers.align_all(jobs, threads), len(jobs), STAGE)


def _word_table(outcomes: list[Outcome]) -> pd.DataFrame:
    rows = [
        (outcome.utt_id, index, span.word, span.start_s, span.end_s, span.score)
        for outcome in outcomes
        for index, span in enumerate(outcome.spans)
    ]
    table = pd.DataFrame(rows, columns=list(tables.WORDS.columns))
    return table.astype({"score": float})


def _report(outcomes: list[Outcome], lost: list[tuple[str, str]]) -> None:
    unknown = Counter(word for outcome in outcomes for word in outcome.unknown_words)
    words = sum(len(outcome.spans) for outcome in outcomes)
    print(f"{STAGE}: {len(outcomes) - len(lost)} utterances, {words} words; {len(lost)} rejected")
    for reason, count in Counter(reason.split(" (")[0] for _, reason in lost).most_common():
        print(f"  rejected {count}: {reason}")
    if unknown:
        common = ", ".join(word for word, _ in unknown.most_common(8))
        print(f"  {len(unknown)} words are not in the aligner's dictionary, such as {common}")
