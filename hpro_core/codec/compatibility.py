"""Compatibility flags: corrections of the released codec that change a number.

The authors' code (XXH333/HD-EMO) has nine errors, listed in docs/method.md and named by the tests
in tests/test_codec_traps.py. The flags below change what is computed. The others are corrected
without a flag, because the value stays the same: the concordance in covariances (3), word pooling
as one product (5), no word error rate in every step (6), codes in float32 (8). The rule for word
edges (9) is the argument `rounding` of `engine.batching.spans_to_frames`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Compatibility:
    """Each true by default; each false in the released code."""

    embedding_frozen: bool = True
    """1: stage B freezes the token embedding with the content extractor that reads it, which
    otherwise drifts."""

    frozen_in_eval: bool = True
    """2: frozen parts stay in eval mode; `train()` otherwise brings their dropout back."""

    text_padding_ignored: bool = True
    """4: the text cross-entropy is a mean over real tokens; otherwise padding counts, and the loss
    depends on the batch."""

    frame_padding_hidden: bool = True
    """4, its other half: the text decoder attends to real frames only."""

    content_attached: bool = True
    """7: in a reward the content code is attached; otherwise L_cp gives the policy no gradient."""


CORRECTED = Compatibility()
RELEASED = Compatibility(
    embedding_frozen=False,
    frozen_in_eval=False,
    text_padding_ignored=False,
    frame_padding_hidden=False,
    content_attached=False,
)
"""The released code, number by number (tests/test_codec_golden.py)."""
