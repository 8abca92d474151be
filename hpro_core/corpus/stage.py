"""`hpro corpus-read SET`, `hpro corpus-render SET`: one corpus -> 16 kHz audio and its tables."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpro_core import tables
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus import amazon_queen, audio, controlled, queen_file
from hpro_core.corpus.readers import READERS
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.params import Controlled, Corpus, CorpusSet
from hpro_core.progress import track
from hpro_core.text.normalise import normalised_words

STAGE = "corpus-read"


def read(root: Path, name: str, corpus: Corpus) -> None:
    """Read one corpus of the settings into `root`/corpus/`name`/.

    Writes utterances.parquet, rejected.parquet and audio/<utt_id>.wav.

    Args:
        root: results folder of the run.
        name: key of `corpus.sets`; it becomes the corpus and the prefix of utt_id.
        corpus: settings; a relative path of a corpus is relative to the working directory.

    Raises:
        HproError: unknown set, or one to be rendered, metadata that cannot be used, no utterance
            that can be used, or more rejected than `corpus.max_rejected_share`.
    """
    recordings = _recordings(_chosen(corpus, name, rendered=False), name)
    folder = root / "corpus" / name
    _write(folder, name, *_read_files(folder, name, recordings, corpus), corpus)


def render(root: Path, name: str, corpus: Corpus, settings: Controlled, workers: int = 2) -> None:
    """Render a controlled corpus into `root`/corpus/`name`/.

    Writes what `read` writes, and its truth tables. The same settings give the same bytes on the
    same machine; on another, they can differ (docs/corpora.md).

    Args:
        root: results folder of the run.
        name: key of `corpus.sets`.
        corpus: its limits of duration, and of what may be rejected.
        settings: section `controlled`.
        workers: processes.

    Raises:
        HproError: unknown set, or one to be read, or more rejected than
            `corpus.max_rejected_share`.
    """
    _chosen(corpus, name, rendered=True)
    folder = root / "corpus" / name
    _write(folder, name, *controlled.render(folder, name, settings, corpus, workers), corpus)


def _chosen(corpus: Corpus, name: str, rendered: bool) -> CorpusSet:
    if name not in corpus.sets:
        raise HproError(f"corpus.sets has no {name!r}; it has: {', '.join(corpus.sets)}")
    chosen = corpus.sets[name]
    if (chosen.reader == "controlled") != rendered:
        command = "corpus-read" if rendered else "corpus-render"
        raise HproError(f"corpus.sets.{name}: reader {chosen.reader!r} is for `hpro {command}`")
    return chosen


def _write(
    folder: Path, name: str, utterances: pd.DataFrame, lost: dict[str, str], corpus: Corpus
) -> None:
    check_rejected_share(lost, len(utterances) + len(lost), corpus.max_rejected_share, name)
    tables.write_table(utterances, folder / "utterances.parquet", tables.UTTERANCES)
    tables.write_table(
        tables.rejected(lost.items(), STAGE), folder / "rejected.parquet", tables.REJECTED
    )
    print(f"{name}: {len(utterances)} utterances, {utterances.duration_s.sum() / 60:.1f} minutes")


def check_rejected_share(lost: dict[str, str], n_entered: int, max_share: float, name: str) -> None:
    """Say what was rejected and why; stop if nothing is left or more than a share is lost.

    Args:
        lost: utt_id -> reason.
        n_entered: utterances that entered the stage.

    Raises:
        HproError: nothing is left, or the share is above `max_share`.
    """
    counts = ", ".join(f"{n} {reason}" for reason, n in Counter(lost.values()).most_common())
    if lost:
        print(f"{name}: rejected {len(lost)} of {n_entered}: {counts}")
    if len(lost) == n_entered:
        raise HproError(f"corpus {name!r}: no utterance is left ({counts})")
    if len(lost) > max_share * n_entered:
        raise HproError(
            f"corpus {name!r}: {len(lost)} of {n_entered} utterances rejected, more than "
            f"corpus.max_rejected_share {max_share} ({counts}); mend the corpus or raise the share"
        )


def _recordings(chosen: CorpusSet, name: str) -> Sequence[Recording | Fault]:
    path = Path(chosen.path)
    if chosen.reader == "amazon_queen" and path.suffix == queen_file.SUFFIX:
        return queen_file.dialogue(path)
    if chosen.reader == "amazon_queen_scenes":
        return queen_file.cut_scenes(path)
    if not chosen.path or not path.is_dir():
        raise HproError(f"corpus.sets.{name}.path: {chosen.path!r} is not a folder")
    if chosen.reader == "amazon_queen":
        return amazon_queen.recordings(path)
    return list(READERS[chosen.reader].read(path))


def _read_files(
    folder: Path, name: str, recordings: Sequence[Recording | Fault], corpus: Corpus
) -> tuple[pd.DataFrame, dict[str, str]]:
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    rows: list[dict] = []
    lost: dict[str, str] = {}
    seen: set[str] = set()
    for recording in track(recordings, len(recordings), f"reading {name}"):
        utt_id = f"{name}_{recording.utterance}"
        if utt_id in seen:
            raise HproError(f"corpus {name!r}: {recording.utterance!r} is a duplicate id")
        seen.add(utt_id)
        if isinstance(recording, Fault):
            lost[utt_id] = recording.reason
            continue
        try:
            rows.append(_row(folder, name, utt_id, recording, corpus))
        except audio.Unusable as reason:
            lost[utt_id] = str(reason)
    kept = _without_lonely_speakers(rows, lost)
    for row in rows:
        if row["utt_id"] in lost:
            (folder / "audio" / f"{row['utt_id']}.wav").unlink()
    columns = list(tables.UTTERANCES.columns)
    return pd.DataFrame(kept, columns=columns), lost


def _row(folder: Path, name: str, utt_id: str, recording: Recording, corpus: Corpus) -> dict:
    """Write the audio of one recording and describe it, or raise Unusable with the reason."""
    words = normalised_words(recording.text)
    if not words:
        raise audio.Unusable("transcript without words")
    samples = audio.decoded(recording.audio)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    if duration_s < corpus.min_duration_s:
        raise audio.Unusable(f"shorter than {corpus.min_duration_s:g} s")
    if duration_s > corpus.max_duration_s:
        raise audio.Unusable(f"longer than {corpus.max_duration_s:g} s")
    audio.write_wav(folder / "audio" / f"{utt_id}.wav", samples)
    return {
        "utt_id": utt_id,
        "corpus": name,
        "speaker": recording.speaker,
        "text": recording.text,
        "words": words,
        "audio": f"corpus/{name}/audio/{utt_id}.wav",
        "duration_s": duration_s,
        "split": recording.split,
        "group": recording.group,
        "emotion": recording.emotion,
        "label": recording.label or None,
    }


def _without_lonely_speakers(rows: list[dict], lost: dict[str, str]) -> list[dict]:
    """Move speakers with one utterance to `lost`: zero-shot synthesis needs a reference."""
    counts = Counter(row["speaker"] for row in rows)
    for row in rows:
        if counts[row["speaker"]] == 1:
            lost[row["utt_id"]] = "speaker with one utterance"
    return [row for row in rows if row["utt_id"] not in lost]
