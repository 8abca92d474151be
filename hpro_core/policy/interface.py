"""Interface of a policy for fine-tuning, rewards and sampling.

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
from hpro_core.policy.qwen2 import KeyValueCache, Qwen2
from hpro_core.train.batching import Batch, length_mask

END_OF_SPEECH = N_SPEECH_TOKENS
N_OUTPUTS = N_SPEECH_TOKENS + 3
"""Output classes of CosyVoice2's head: the speech tokens, end of speech, and two more."""


@dataclass(frozen=True)
class Output:
    """Outputs of a policy for a batch, given the batch's history."""

    logits_BLV: Tensor  # (B, L + 1, V): position t predicts token t, position length the end
    text_attention_BLS: Tensor | None = None  # guided head, (B, L + 1, S), if requested
    emotion_B9: Tensor | None = None  # logits of the emotion predicted from text, if requested


@dataclass
class Cache:
    """Key-value cache of a batch: the prefix and the speech tokens after it.

    T counts the positions of the buffers: prefix, speech, and room for further speech.
    """

    keys_values: KeyValueCache
    mask_BT: Tensor  # bool, false in the padding of the prefix; true for all speech
    position_B: Tensor  # rotary position of the last element of the prefix
    prefix: int  # length of the prefix with padding

    @classmethod
    def empty(cls, blocks: int, mask_BP: Tensor, position_B: Tensor, capacity: int) -> Self:
        """Create an empty cache for a prefix.

        Args:
            blocks: number of blocks of the decoder.
            mask_BP: bool, true where the prefix is not padding.
            position_B: rotary position of the last element of the prefix.
            capacity: largest number of speech tokens that follow.
        """
        prefix = mask_BP.shape[1]
        mask_BT = functional.pad(mask_BP, (0, capacity), value=True)
        return cls(KeyValueCache(blocks, prefix + capacity), mask_BT, position_B, prefix)

    def next_positions(self, count: int) -> Tensor:
        """Compute the rotary positions of the next `count` speech tokens, (B, count)."""
        n_read = self.keys_values.length - self.prefix
        steps = torch.arange(n_read + 1, n_read + 1 + count, device=self.position_B.device)
        return self.position_B[:, None] + steps

    def next_mask(self, count: int) -> Tensor:
        """Compute the attention mask of the next `count` speech tokens, bool (B, 1, count, T)."""
        before = self.keys_values.length
        size = before + count
        row_P1 = torch.arange(before, size, device=self.mask_BT.device)[:, None]
        causal_PT = torch.arange(size, device=self.mask_BT.device) <= row_P1
        return causal_PT & self.mask_BT[:, None, None, :size]

    def read(self, decoder: Qwen2, vectors_BLH: Tensor) -> Tensor:
        """Append speech tokens, given as vectors; return the decoder's hidden states (B, L, H)."""
        count = vectors_BLH.shape[1]
        positions, allowed = self.next_positions(count), self.next_mask(count)
        return decoder(vectors_BLH, positions, allowed, self.keys_values)

    def rewind(self) -> None:
        """Remove the speech tokens from the cache; the prefix stays."""
        self.keys_values.rewind(self.prefix)

    def select_rows(self, places: Tensor) -> None:
        """Keep only the rows at these int64 indices, in their order."""
        self.keys_values.select_rows(places)
        self.mask_BT, self.position_B = self.mask_BT[places], self.position_B[places]


class SpeechPolicy(Protocol):
    """A language model over speech tokens."""

    training: bool

    def __call__(self, batch: Batch, guides: bool = False) -> Output:
        """Predict every speech token of the batch from its history.

        Args:
            batch: text, history, and the parts of the reference that the policy uses.
            guides: whether to compute the auxiliary outputs of fine-tuning, if the policy has them.

        Returns:
            The outputs, with gradients.
        """
        ...

    def begin(
        self, batch: Batch, capacity: int, prompt: Batch | None = None
    ) -> tuple[Tensor, Cache]:
        """Run the prefix and fill a new cache; no gradients.

        Args:
            batch: texts and reference embeddings; its speech tokens are not used.
            capacity: largest number of speech tokens that follow.
            prompt: reference utterance of each row with text and speech tokens, or None.

        Returns:
            The hidden state that predicts the first token, (B, H), and the cache.
        """
        ...

    def read(self, tokens_BL: Tensor, cache: Cache) -> Tensor:
        """Append speech tokens to the cache; no gradients.

        Args:
            tokens_BL: int64; a shorter row may be padded with any token.
            cache: cache from `begin`, extended in place.

        Returns:
            The hidden states that predict the token after each, (B, L, H).
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the output classes, (..., V), from hidden states (..., H)."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over all submodules."""
        ...

    def eval(self) -> Self:
        """Set eval mode, which disables dropout."""
        ...


def speech_targets(batch: Batch) -> tuple[Tensor, Tensor]:
    """Build the targets of `Output.logits_BLV` and their mask.

    Returns:
        int64 (B, L + 1), the tokens followed by END_OF_SPEECH; and bool (B, L + 1), false in the
        padding.
    """
    targets = functional.pad(batch.tokens_BL, (0, 1))
    targets = targets.scatter(1, batch.token_lengths_B[:, None], END_OF_SPEECH)
    return targets, length_mask(batch.token_lengths_B + 1, targets.shape[1])
