"""Teacher of a corpus with exact labels: reads them from the corpus's tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.label.teachers import AlignedUtterance
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, read_table, vad_by_utterance


class ExactLabels:
    """The exact labels of a corpus, in the order of EMOTIONS and VAD."""

    def __init__(self, folder: Path):
        """Read truth_vad.parquet and truth_emotion.parquet in the folder of a corpus.

        Raises:
            HproError: a table is missing or broken.
        """
        self.folder = folder
        vad = read_table(folder / "truth_vad.parquet", WORD_VAD)
        emotion = read_table(folder / "truth_emotion.parquet", EMOTION_POSTERIORS)
        self._vad = vad_by_utterance(vad)
        self._emotion = emotion.set_index("utt_id")[list(EMOTIONS)]

    @staticmethod
    def exist(folder: Path) -> bool:
        """Return whether a corpus folder has exact labels."""
        return (folder / "truth_vad.parquet").is_file()

    def word_vad(self, utterances: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        """Return the affect of the words of each utterance, (W, 3); words are matched by position.

        Raises:
            HproError: an utterance has no labels, or labels for another number of words.
        """
        return [self._of(utterance) for utterance in utterances]

    def posteriors(self, utterances: Sequence[AlignedUtterance]) -> np.ndarray:
        """Return the posteriors of utterances, float (N, 9).

        Raises:
            HproError: an utterance has no label.
        """
        for utterance in utterances:
            if utterance.utt_id not in self._emotion.index:
                raise HproError(
                    f"{self.folder}/truth_emotion.parquet has no row for {utterance.utt_id}: run "
                    "`hpro corpus-render` again"
                )
        return self._emotion.loc[[u.utt_id for u in utterances]].to_numpy()

    def _of(self, utterance: AlignedUtterance) -> np.ndarray:
        known = self._vad.get(utterance.utt_id, np.empty((0, 3)))
        if len(known) != len(utterance.words):
            raise HproError(
                f"{self.folder}/truth_vad.parquet has {len(known)} words for {utterance.utt_id}, "
                f"which has {len(utterance.words)}: run `hpro corpus-render` and `hpro align` again"
            )
        return known
