"""Compatibility flags: corrections of the released codec that change a value.

The authors' code (XXH333/HD-EMO) has nine errors, listed in docs/method.md and named by the tests
in tests/test_codec_traps.py. The flags below correct those that change what is computed. The others
are corrected without a flag because the value stays the same: CCC from covariances (3), word
pooling as one product (5), no word error rate in every step (6), codes in float32 (8). The rule for
word edges (9) is the argument `rounding` of `train.batching.spans_to_frames`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Compatibility:
    """Corrections of the released codec; each is on by default and off in the released code."""

    embedding_frozen: bool = True
    """Error 1: stage B freezes the token embedding together with the content extractor. Otherwise
    the embedding changes and the extractor's output drifts.
    """

    frozen_in_eval: bool = True
    """Error 2: frozen parts stay in eval mode. Otherwise `train()` turns their dropout on again."""

    text_padding_ignored: bool = True
    """Error 4: the text cross-entropy is a mean over real tokens. Otherwise padding counts, and the
    loss depends on the batch.
    """

    frame_padding_hidden: bool = True
    """Error 4, second part: the text decoder attends to real frames only."""

    content_attached: bool = True
    """Error 7: in a reward the content code is attached. Otherwise L_cp gives the policy no
    gradient.
    """


CORRECTED = Compatibility()
RELEASED = Compatibility(
    embedding_frozen=False,
    frozen_in_eval=False,
    text_padding_ignored=False,
    frame_padding_hidden=False,
    content_attached=False,
)
"""Values equal to those of the released code (tests/test_codec_golden.py)."""
