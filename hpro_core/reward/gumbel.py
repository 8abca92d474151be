"""Differentiable sampling of speech tokens by straight-through Gumbel-softmax (paper II-B).

Letters: B batch, L speech token, V output class, N speech-token class, C candidate, R draw of the
noise (the first one determines the sample).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.policy.sampling import nucleus
from hpro_core.speech.token_table import TokenMix
from hpro_core.train.precision import at_least_float32

SMALLEST = 1e-20
"""Lower bound that keeps the double logarithm of the noise finite."""


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard Gumbel noise, float32 of this shape, on the generator's device."""
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log((-torch.log(uniform.clamp(min=SMALLEST))).clamp(min=SMALLEST))


def noise_for(
    tokens_BL: Tensor,
    generator: torch.Generator,
    gumbel_rao_samples: int = 0,
    candidates: int = N_SPEECH_TOKENS,
) -> Tensor:
    """Draw the noise of one sample per utterance of a batch.

    The noise is drawn for the whole batch and passed to `sample`. A row therefore has the same
    noise in its batch, in a micro-batch, in another process and alone.

    Args:
        tokens_BL: speech tokens of the batch; only the shape is used.
        generator: source of the noise.
        gumbel_rao_samples: additional draws for the backward pass, see `sample`.
        candidates: number of candidates per position, C.

    Returns:
        float32 (1 + `gumbel_rao_samples`, B, L, C).
    """
    return gumbel_noise((1 + gumbel_rao_samples, *tokens_BL.shape, candidates), generator)


@dataclass(frozen=True)
class Candidates:
    """The speech tokens that can be sampled at each position.

    Attributes:
        logits_BLC: logits of the candidates, at least float32; minus infinity excludes one.
        tokens_BLC: token ids, int64, in descending order of probability; None if C = N and the
            candidates are all speech tokens in the order of their ids.
    """

    logits_BLC: Tensor
    tokens_BLC: Tensor | None = None

    def drawn(self, noise_BLC: Tensor) -> Tensor:
        """Speech tokens, int64 (B, L), that this noise selects: the argmax of logits plus noise."""
        best_BL = (self.logits_BLC + noise_BLC).argmax(-1)
        if self.tokens_BLC is None:
            return best_BL
        return self.tokens_BLC.gather(-1, best_BL[..., None])[..., 0]

    def repeated(self, times: int) -> "Candidates":
        """The candidates of the batch repeated `times` times along the batch dimension."""
        tokens_BLC = None if self.tokens_BLC is None else self.tokens_BLC.repeat(times, 1, 1)
        return Candidates(self.logits_BLC.repeat(times, 1, 1), tokens_BLC)


def within_nucleus(logits_BLV: Tensor, top_p: float, top_k: int) -> Candidates:
    """Restrict the policy's distribution to the candidates of top-k and nucleus sampling.

    Synthesis samples from the `top_k` most probable tokens within `top_p` of the probability (0.8
    and 25 in CosyVoice2), so samples in training come from the same candidates (ours; the paper
    names no nucleus). Samples from the whole distribution have a rare token every few frames: the
    codec has to tolerate them, and the policy mainly learns to avoid them (docs/log/index.md). Few
    candidates also reduce the cost of noise, softmax and codec, which skip the other 6536 tokens.

    Args:
        logits_BLV: logits of the policy, V at least N. Only the N speech tokens are candidates:
            end of speech and the other special classes are excluded (ours; the codec has no
            embedding for them).
        top_p: probability mass of the nucleus; 1 keeps all tokens.
        top_k: maximum number of candidates.

    Returns:
        min(`top_k`, N) candidates per position; gradients reach the logits of those within
        `top_p`.
    """
    logits_BLN = at_least_float32(logits_BLV[..., :N_SPEECH_TOKENS])
    size = logits_BLN.shape[-1]
    if top_k >= size and top_p >= 1:
        return Candidates(logits_BLN)
    with torch.no_grad():
        _, tokens_BLC, outside_BLC = nucleus(logits_BLN, top_p, min(top_k, size))
    if top_k >= size:
        outside_BLN = outside_BLC.scatter(-1, tokens_BLC, outside_BLC)
        return Candidates(logits_BLN.masked_fill(outside_BLN, -torch.inf))
    logits_BLC = logits_BLN.gather(-1, tokens_BLC).masked_fill(outside_BLC, -torch.inf)
    return Candidates(logits_BLC, tokens_BLC)


def sample(candidates: Candidates, temperature: float, noise_RBLC: Tensor) -> Tensor | TokenMix:
    """Sample one speech token per position, as one-hot rows with a straight-through gradient.

    Forward: the one-hot vector of argmax(logits + noise), which does not depend on the temperature.
    Backward: the gradient of softmax((logits + noise) / temperature). With several noise draws it
    is the mean over the draws, each conditioned on the sampled tokens: the same expected gradient
    with lower variance (Gumbel-Rao, Paulus et al. 2021, arXiv 2010.04838; ours, the paper names
    none). The codec processes one sample, whatever R is.

    Args:
        candidates: candidates from the policy's logits.
        temperature: tau; 2, 1 and 0.8 in stages I, II and III (paper).
        noise_RBLC: standard Gumbel noise, see `noise_for`.

    Returns:
        One-hot rows over the candidates, float32 or, for float64 logits, float64: a tensor
        (B, L, N) if all N tokens are candidates, otherwise a `TokenMix`. Gradients reach
        `candidates.logits_BLC`.
    """
    logits_BLC = candidates.logits_BLC
    perturbed_BLC = logits_BLC + noise_RBLC[0]
    drawn_BL1 = perturbed_BLC.argmax(-1, keepdim=True)
    redrawn = [_redrawn(logits_BLC, drawn_BL1, noise_BLC) for noise_BLC in noise_RBLC[1:]]
    softs = [(one / temperature).softmax(-1) for one in (perturbed_BLC, *redrawn)]
    soft = torch.stack(softs).mean(0) if redrawn else softs[0]
    hard = torch.zeros_like(soft).scatter(-1, drawn_BL1, 1.0)
    rows = hard + (soft - soft.detach())
    return rows if candidates.tokens_BLC is None else TokenMix(candidates.tokens_BLC, rows)


def _redrawn(logits_BLC: Tensor, drawn_BL1: Tensor, noise_BLC: Tensor) -> Tensor:
    """Logits plus other noise, conditioned on the sampled tokens being the largest.

    The maximum is Gumbel around the log-sum-exp of the logits, independent of its index; the others
    are Gumbel around their logits, truncated at the maximum (Maddison et al. 2014, arXiv
    1411.0030). The noise is detached, as unconditioned noise is.
    """
    with torch.no_grad():
        top_BL1 = logits_BLC.logsumexp(-1, keepdim=True) + noise_BLC.gather(-1, drawn_BL1)
        below_BLC = -torch.logaddexp(-top_BL1, -(logits_BLC + noise_BLC))
        noise_BLC = below_BLC.scatter(-1, drawn_BL1, top_BL1) - logits_BLC
        noise_BLC = noise_BLC.masked_fill(logits_BLC.isinf(), 0.0)
    return logits_BLC + noise_BLC
