"""Published naturalness judge: SCOREQ without reference (Ragano et al. 2024, NeurIPS).

The network is the ONNX file that its authors publish: adapt_nr_synthetic.onnx for synthetic speech,
adapt_nr_telephone.onnx for degraded recordings. It is a wav2vec2 with a linear layer.
Letters: T samples.
"""

import math
from pathlib import Path

import numpy as np
import onnxruntime

from hpro_core.errors import HproError
from hpro_core.judges.quality import ClipJudge, check_judge

ORIGIN = "adapt_nr_synthetic.onnx of SCOREQ's authors"
MULTIPLE = 320
"""Clips are zero-padded to a multiple of this number of samples: wav2vec2's stride (authors)."""


class Scoreq(ClipJudge):
    """Published judge that scores whole clips, one at a time, on the CPU."""

    def __init__(self, path: Path, threads: int):
        """Load the file, for `threads` CPU threads.

        Raises:
            HproError: the file is missing, broken or of another network, such as SCOREQ's with a
                reference, which returns an embedding.
        """
        super().__init__(path, "SCOREQ")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises exceptions of many types
            raise HproError(f"{path} cannot be read ({str(error)[:160]}): use {ORIGIN}") from error
        check_judge(self._score, path, ORIGIN)

    def _score(self, audio_T: np.ndarray) -> float:
        lacking = math.ceil(len(audio_T) / MULTIPLE) * MULTIPLE - len(audio_T)
        [samples] = self._session.get_inputs()
        [found] = self._session.run(None, {samples.name: np.pad(audio_T, (0, lacking))[None]})
        return found.item()
