"""Amount of speech of each corpus, from the run's own tables or published figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.params import CorpusSet, Params

PUBLISHED: dict[str, tuple[float, int, str]] = {
    "emovoice_db": (40.45, 22_100, "Yang et al. 2025 and its dataset card"),
    "lssed": (206.0 + 25 / 60, 147_025, "Fan et al. 2021"),
    # 100.6 + 363.6 + 496.7 hours of training, 10.7 of dev, 10.5 of test
    "librispeech": (982.1, 292_367, "Panayotov et al. 2015; the card of openslr/librispeech_asr"),
    "amazon_queen": (43.4 / 60, 946, "docs/corpora.md"),
}
"""Reader -> hours, utterances, source."""

PRESCRIBED_TESTS = {"emovoice_db": 700}
"""Reader -> utterances of the test set that the corpus prescribes (its dataset card)."""

RENDERED_S = (51.4 + 8.2 + 4.5) * 60 / (1200 + 192 + 104)
"""Mean duration of a rendered sentence in seconds (docs/corpora.md, the default run)."""


@dataclass(frozen=True)
class Amount:
    """Amount of speech of one corpus."""

    hours: float
    utterances: int
    test: int  # number of test utterances
    judge: int  # number of utterances for training the judges
    source: str  # of these numbers

    @property
    def mean_s(self) -> float:
        return self.hours * 3600 / self.utterances


def amounts(settings: Params, given: Mapping[str, tuple[float, int]]) -> dict[str, Amount | None]:
    """Return the amount of speech of every corpus of the settings; None if it is unknown.

    Tables of corpora that were already read take precedence over published figures, and `given`
    (set -> hours and utterances) over both.

    Raises:
        HproError: `given` names an unknown set, or a table of the run cannot be read.
    """
    unknown = sorted(given.keys() - settings.corpus.sets.keys())
    if unknown:
        known = ", ".join(settings.corpus.sets)
        raise HproError(f"--hours: corpus.sets has no {unknown[0]!r} ({known})")
    return {
        name: _amount(name, chosen, settings, given)
        for name, chosen in settings.corpus.sets.items()
    }


def _amount(
    name: str, chosen: CorpusSet, settings: Params, given: Mapping[str, tuple[float, int]]
) -> Amount | None:
    if name in given:
        return _split(*given[name], "--hours", chosen, settings)
    if (read := _read_already(name, settings.run)) is not None:
        return _split(*read, f"results/{settings.run}", chosen, settings)
    if chosen.reader == "controlled" and not chosen.texts:
        counts = settings.controlled
        n = counts.train + counts.dev + counts.test + counts.judge
        hours = n * RENDERED_S / 3600
        if chosen.split:
            return _split(hours, n, "docs/corpora.md", chosen, settings)
        return Amount(hours, n, counts.test, counts.judge, "docs/corpora.md")
    whole = not (chosen.speakers or chosen.leave_out_speakers or chosen.path.endswith(".1c"))
    if chosen.reader in PUBLISHED and whole:
        return _split(*PUBLISHED[chosen.reader], chosen, settings)
    return None


def _read_already(name: str, run: str) -> tuple[float, int] | None:
    """Hours and utterances of a corpus that the run has read; only one column is loaded."""
    table = Path("results", run, "corpus", name, "utterances.parquet")
    if not table.is_file():
        return None
    import pyarrow.parquet as pq

    try:
        durations = pq.read_table(table, columns=["duration_s"])["duration_s"].to_numpy()
    except (OSError, ValueError) as error:
        raise HproError(
            f"{table} has no readable column duration_s ({str(error).splitlines()[0]}): delete it, "
            "and the run creates it again"
        ) from error
    return (float(durations.sum()) / 3600, len(durations)) if len(durations) else None


def _split(hours: float, n: int, source: str, chosen: CorpusSet, settings: Params) -> Amount:
    splits = settings.corpus.splits
    if chosen.split:
        test = min(n, splits.max_test_utterances) if chosen.split == "test" else 0
        return Amount(hours, n, test, n if chosen.split == "judge" else 0, source)
    wanted = PRESCRIBED_TESTS.get(chosen.reader, round(splits.test_fraction * n))
    test = min(wanted, splits.max_test_utterances)
    return Amount(hours, n, test, round(splits.judge_fraction * n), source)
