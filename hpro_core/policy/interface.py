"""What a policy is to fine-tuning, rewards and sampling, whatever its size.

Letters: B batch, S text symbol, L speech token, P position in the sequence, H width, V output
class.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import Batch, length_mask

END_OF_SPEECH = N_SPEECH_TOKENS
N_OUTPUTS = N_SPEECH_TOKENS + 3
"""Output classes of CosyVoice2's head: the speech tokens, end of speech, and two more."""


@dataclass(frozen=True)
class Output:
    """What the policy says about a batch, after the batch's history."""

    logits_BLV: Tensor  # (B, L + 1, V): position t predicts token t, position length the end
    text_attention_BLS: Tensor | None = None  # of the guided head, (B, L + 1, S), if there is one
    emotion_B9: Tensor | None = None  # logits of the emotion that the text suggests, if asked for


@dataclass
class Cache:
    """What generation remembers: keys and values, which of them are real, the last position."""

    keys_values: DynamicCache
    mask_BP: Tensor
    position_B: Tensor

    def keep(self, places: Tensor) -> None:
        """Forget all rows but those at these places, int64."""
        self.keys_values.batch_select_indices(places)
        self.mask_BP, self.position_B = self.mask_BP[places], self.position_B[places]


class SpeechPolicy(Protocol):
    """A language model over speech tokens."""

    training: bool

    def __call__(self, batch: Batch) -> Output:
        """Predict every speech token of the batch from its history.

        Args:
            batch: text and history, and whatever of the reference the policy reads.
        """
        ...

    def begin(self, batch: Batch, prompt: Batch | None = None) -> tuple[Tensor, Cache]:
        """Read everything before the first speech token.

        Args:
            batch: texts and reference embeddings; its speech tokens are not read.
            prompt: one reference utterance per row, with its text and speech tokens.

        Returns:
            The hidden state that predicts the first token, (B, H), and the cache.
        """
        ...

    def advance(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        """Read one more speech token per row; the hidden state that predicts the next, (B, H)."""
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
