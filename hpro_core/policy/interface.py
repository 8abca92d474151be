"""What a policy is to fine-tuning, rewards and sampling, whatever its size.

Letters: B batch, S text symbol, L speech token, P position in the sequence, H width, V output
class.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import Batch, length_mask
from hpro_core.policy.qwen2 import KeyValueCache, Qwen2

END_OF_SPEECH = N_SPEECH_TOKENS
N_OUTPUTS = N_SPEECH_TOKENS + 3
"""Output classes of CosyVoice2's head: the speech tokens, end of speech, and two more."""


@dataclass(frozen=True)
class Output:
    """What the policy says about a batch, after the batch's history."""

    logits_BLV: Tensor  # (B, L + 1, V): position t predicts token t, position length the end
    text_attention_BLS: Tensor | None = None  # of the guided head, (B, L + 1, S), if asked for
    emotion_B9: Tensor | None = None  # logits of the emotion that the text suggests, if asked for


@dataclass
class Cache:
    """What a policy has read of a batch: the prefix, and the speech tokens behind it.

    T counts the positions of the buffers: prefix, speech, and room for speech to come.
    """

    keys_values: KeyValueCache
    mask_BT: Tensor  # bool, false in the padding of the prefix; true for all speech
    position_B: Tensor  # rotary position of the last place of the prefix
    prefix: int  # places of the prefix

    @classmethod
    def empty(cls, blocks: int, mask_BP: Tensor, position_B: Tensor, room: int) -> Self:
        """A cache for a prefix that is about to be read.

        Args:
            blocks: of the decoder.
            mask_BP: true where the prefix is not padding.
            position_B: rotary position of the prefix's last place.
            room: speech tokens that may follow.
        """
        prefix = mask_BP.shape[1]
        mask_BT = functional.pad(mask_BP, (0, room), value=True)
        return cls(KeyValueCache(blocks, prefix + room), mask_BT, position_B, prefix)

    def next_positions(self, count: int) -> Tensor:
        """Rotary positions of the speech tokens that are read next, (B, count)."""
        spoken = self.keys_values.length - self.prefix
        steps = torch.arange(spoken + 1, spoken + 1 + count, device=self.position_B.device)
        return self.position_B[:, None] + steps

    def next_mask(self, count: int) -> Tensor:
        """What the speech tokens that are read next attend to, bool (B, 1, count, T so far)."""
        before = self.keys_values.length
        size = before + count
        row_P1 = torch.arange(before, size, device=self.mask_BT.device)[:, None]
        causal_PT = torch.arange(size, device=self.mask_BT.device) <= row_P1
        return causal_PT & self.mask_BT[:, None, None, :size]

    def read(self, decoder: Qwen2, vectors_BLH: Tensor) -> Tensor:
        """The decoder's states (B, L, H) after speech tokens, given as vectors, that are added."""
        count = vectors_BLH.shape[1]
        positions, allowed = self.next_positions(count), self.next_mask(count)
        return decoder(vectors_BLH, positions, allowed, self.keys_values)

    def rewind(self) -> None:
        """Forget the speech; the prefix stays."""
        self.keys_values.rewind(self.prefix)

    def keep(self, places: Tensor) -> None:
        """Forget all rows but those at these places, int64."""
        self.keys_values.keep(places)
        self.mask_BT, self.position_B = self.mask_BT[places], self.position_B[places]


class SpeechPolicy(Protocol):
    """A language model over speech tokens."""

    training: bool

    def __call__(self, batch: Batch, guides: bool = False) -> Output:
        """Predict every speech token of the batch from its history.

        Args:
            batch: text and history, and whatever of the reference the policy reads.
            guides: whether fine-tuning's auxiliary outputs are wanted, from a policy that has them.
        """
        ...

    def begin(self, batch: Batch, room: int, prompt: Batch | None = None) -> tuple[Tensor, Cache]:
        """Read everything before the first speech token; no gradients.

        Args:
            batch: texts and reference embeddings; its speech tokens are not read.
            room: most speech tokens that are read afterwards.
            prompt: one reference utterance per row, with its text and speech tokens.

        Returns:
            The hidden state that predicts the first token, (B, H), and the cache.
        """
        ...

    def read(self, tokens_BL: Tensor, cache: Cache) -> Tensor:
        """Read speech tokens behind those in the cache; no gradients.

        Args:
            tokens_BL: int64; a shorter row may be padded with any token.
            cache: from `begin`; it then holds these tokens too.

        Returns:
            The hidden states that predict the token after each, (B, L, H).
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the output classes, (..., V)."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """What training changes."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """All parts of it."""
        ...

    def eval(self) -> Self:
        """Switch dropout off."""
        ...


def speech_targets(batch: Batch) -> tuple[Tensor, Tensor]:
    """Targets of `Output.logits_BLV`, (B, L + 1) with the end symbol, and their mask."""
    targets = functional.pad(batch.tokens_BL, (0, 1))
    targets = targets.scatter(1, batch.token_lengths_B[:, None], END_OF_SPEECH)
    return targets, length_mask(batch.token_lengths_B + 1, targets.shape[1])
