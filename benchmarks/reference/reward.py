"""A reward step as one would first write it: every utterance, sample, word and redraw in a loop.

The policy reads the whole sequence again in each sweep. The sample is drawn over all 6561 speech
tokens, those outside the nucleus at minus infinity.
Letters: K sample, R redraw, B batch, L speech token, N speech-token class, C candidate, P position.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.reward.objective import Objective
from hpro_core.train.batching import Batch
from reference.codec import Codec, Read
from reference.policy import Policy


@dataclass(frozen=True)
class Rewarded:
    """Of one batch: the terms, and the history that the policy was rewarded after."""

    terms: dict[str, Tensor]
    history_BL: Tensor


def reward(
    policy: Policy,
    frozen: Policy,
    codec: Codec,
    batch: Batch,
    objective: Objective,
    noise_KRBLC: Tensor,
) -> Rewarded:
    """The six terms and their weighted sum, as `hpro_core.reward.objective.reward_terms`."""
    with torch.no_grad():
        for _ in range(objective.jacobi_iterations):
            logits_BLN = policy.read(batch).logits_BPV[:, :-1, :N_SPEECH_TOKENS]
            history_BL = batch.tokens_BL.clone()
            for row, length in enumerate(batch.token_lengths_B.tolist()):
                within = nucleus(logits_BLN[row, :length], objective)
                noise_LC = noise_KRBLC[0, 0, row, :length]
                history_BL[row, :length] = (within.kept_LN + within.noise(noise_LC)).argmax(-1)
            batch = replace(batch, history_BL=history_BL)
        frozen_BPV = frozen.read(batch).logits_BPV
    logits_BPV = policy.read(batch).logits_BPV
    found: dict[str, list[Tensor]] = {"sp": [], "cp": [], "asr": [], "wvad": [], "ser": []}
    counts: dict[str, list[int]] = {"sp": [], "cp": [], "asr": []}
    kl = []
    for row, length in enumerate(batch.token_lengths_B.tolist()):
        kl.append(divergence(logits_BPV[row, : length + 1], frozen_BPV[row, : length + 1]))
        logits_LN = logits_BPV[row, :length, :N_SPEECH_TOKENS]
        recorded_LN = torch.nn.functional.one_hot(batch.tokens_BL[row, :length], N_SPEECH_TOKENS)
        content_LD, style_LD = codec.codes(recorded_LN.float())
        content_LD = (content_LD * (codec.sizes["content_levels"] - 1)).round()
        content_LD = content_LD / (codec.sizes["content_levels"] - 1)
        style_LD = (style_LD * (codec.sizes["style_levels"] - 1)).round()
        style_LD = style_LD / (codec.sizes["style_levels"] - 1)
        words = int(batch.word_lengths_B[row])
        spans = [(int(a), int(b)) for a, b in batch.spans_BW2[row, :words]]
        text_J = batch.transcript_BJ[row, : int(batch.transcript_lengths_B[row])]
        within = nucleus(logits_LN, objective)
        for noise_RLC in noise_KRBLC[:, :, row, :length]:
            sample_LN = straight_through(within, noise_RLC, objective.temperature)
            read = codec.read(sample_LN, spans, text_J[:-1])
            found["sp"].append((read.style_LD - style_LD).abs().sum())
            counts["sp"].append(style_LD.numel())
            found["cp"].append((read.content_LD - content_LD).abs().sum())
            counts["cp"].append(content_LD.numel())
            log_p_JV = read.text_JV.log_softmax(-1)
            found["asr"].append(-log_p_JV[torch.arange(len(text_J) - 1), text_J[1:]].sum())
            counts["asr"].append(len(text_J) - 1)
            found["wvad"].append(word_affect_loss(read, batch.vad_BW3[row, :words]))
            found["ser"].append(-(batch.emotion_B9[row] * read.emotion_9.log_softmax(-1)).sum())
    terms = {"kl": torch.stack(kl).mean()}
    for name, values in found.items():
        # codes and symbols are averaged over all frames and symbols of the batch, not per utterance
        terms[name] = torch.stack(values).sum() / sum(counts.get(name, [len(values)]))
    terms["loss"] = sum((objective.weights[name] * terms[name] for name in terms), torch.zeros(()))
    return Rewarded(terms, batch.history_BL)


@torch.no_grad()
def margins(policy: Policy, batch: Batch, objective: Objective, noise_KRBLC: Tensor) -> list[float]:
    """The smallest `Nucleus.margin` of each utterance: less rounding changes no token of it."""
    found = [torch.inf] * len(batch.tokens_BL)
    for sweep in range(objective.jacobi_iterations + 1):
        logits_BLN = policy.read(batch).logits_BPV[:, :-1, :N_SPEECH_TOKENS]
        history_BL = batch.tokens_BL.clone()
        noises_BLC = (
            noise_KRBLC[:1, 0] if sweep < objective.jacobi_iterations else noise_KRBLC[:, 0]
        )
        for row, length in enumerate(batch.token_lengths_B.tolist()):
            within = nucleus(logits_BLN[row, :length], objective)
            near = [within.margin(noise_LC) for noise_LC in noises_BLC[:, row, :length]]
            found[row] = min(found[row], *near)
            noise_LN = within.noise(noises_BLC[0, row, :length])
            history_BL[row, :length] = (within.kept_LN + noise_LN).argmax(-1)
        batch = replace(batch, history_BL=history_BL)
    return found


@dataclass(frozen=True)
class Nucleus:
    """What can be drawn at the positions of one utterance."""

    logits_LN: Tensor  # of all, without gradient
    kept_LN: Tensor  # logits, all that cannot be drawn at minus infinity
    token_LN: Tensor  # all speech tokens, the likeliest first
    mass_LN: Tensor  # probability of a rank and all ranks before it
    top_p: float

    def noise(self, noise_LC: Tensor) -> Tensor:
        """Noise of the tokens (L, N) from noise of the ranks: its first is the likeliest's."""
        noise_LN = torch.zeros_like(self.kept_LN)
        return noise_LN.scatter(-1, self.token_LN[:, : noise_LC.shape[1]], noise_LC)

    def margin(self, noise_LC: Tensor) -> float:
        """By about how much a logit can move before another token is drawn somewhere.

        Three things decide: which perturbed logit is the largest; whether the token that would be
        drawn is in the nucleus; and the rank of the drawn token, as the noise goes with the rank.
        """
        ranks = noise_LC.shape[1]
        logits_LC = self.logits_LN.gather(-1, self.token_LN[:, :ranks])
        perturbed_LC = logits_LC + noise_LC
        before_LC = torch.nn.functional.pad(self.mass_LN[:, : ranks - 1], (1, 0))
        edge_LC = (before_LC - self.top_p).abs()
        kept_LC = perturbed_LC.masked_fill(before_LC >= self.top_p, -torch.inf)
        two_L2, drawn_L2 = kept_LC.topk(2, dim=-1)
        is_drawn_LC = torch.zeros_like(edge_LC, dtype=torch.bool).scatter(-1, drawn_L2[:, :1], True)
        decides_LC = (perturbed_LC > two_L2[:, :1]) | is_drawn_LC
        decides_LC[:, 0] = False  # the likeliest is always in the nucleus
        apart_LC = (logits_LC - logits_LC.gather(-1, drawn_L2[:, :1])).abs()
        apart_LC = apart_LC.masked_fill(is_drawn_LC, torch.inf)
        near = (two_L2[:, 0] - two_L2[:, 1], apart_LC, edge_LC[decides_LC])
        return min(float(values.min()) for values in near if values.numel())


def nucleus(logits_LN: Tensor, objective: Objective) -> Nucleus:
    """The likeliest `top_k` tokens within `top_p` of the probability."""
    probability_LN, token_LN = logits_LN.detach().softmax(-1).sort(-1, descending=True)
    mass_LN = probability_LN.cumsum(-1)
    inside_LN = mass_LN - probability_LN < objective.top_p
    inside_LN[:, objective.top_k :] = False
    allowed_LN = torch.zeros_like(inside_LN).scatter(-1, token_LN, inside_LN)
    kept_LN = logits_LN.masked_fill(~allowed_LN, -torch.inf)
    return Nucleus(logits_LN.detach(), kept_LN, token_LN, mass_LN, objective.top_p)


def straight_through(within: Nucleus, noise_RLC: Tensor, temperature: float) -> Tensor:
    """The sample as one-hot rows (L, N), whose gradient is the mean of the redraws' softmaxes."""
    perturbed_LN = within.kept_LN + within.noise(noise_RLC[0])
    drawn_L1 = perturbed_LN.argmax(-1, keepdim=True)
    softs = [(perturbed_LN / temperature).softmax(-1)]
    for noise_LC in noise_RLC[1:]:
        again_LN = given_the_largest(within.kept_LN.detach(), drawn_L1, within.noise(noise_LC))
        softs.append(((within.kept_LN + again_LN) / temperature).softmax(-1))
    soft_LN = torch.stack(softs).mean(0)
    hard_LN = torch.zeros_like(soft_LN).scatter(-1, drawn_L1, 1.0)
    return hard_LN + soft_LN - soft_LN.detach()


def given_the_largest(kept_LN: Tensor, drawn_L1: Tensor, noise_LN: Tensor) -> Tensor:
    """Noise with which the drawn token is the largest again (Maddison et al. 2014, 1411.0030)."""
    top_L1 = kept_LN.logsumexp(-1, keepdim=True) + noise_LN.gather(-1, drawn_L1)
    others_LN = -torch.log(torch.exp(-top_L1) + torch.exp(-(kept_LN + noise_LN)))
    perturbed_LN = others_LN.scatter(-1, drawn_L1, top_L1)
    return torch.where(kept_LN.isinf(), 0.0, perturbed_LN - kept_LN)


def divergence(policy_PV: Tensor, frozen_PV: Tensor) -> Tensor:
    """KL of one utterance, summed over its positions."""
    policy, frozen = policy_PV.log_softmax(-1), frozen_PV.log_softmax(-1)
    return (policy.exp() * (policy - frozen)).sum()


def word_affect_loss(read: Read, truth_W3: Tensor) -> Tensor:
    """Sum over V, A, D of 1 - CCC over the words; of one word, the mean squared error."""
    if len(truth_W3) < 2:
        return (read.vad_W3 - truth_W3).square().mean()
    loss = torch.zeros(())
    for truth_W, heard_W in zip(truth_W3.T, read.vad_W3.T, strict=True):
        centred_truth, centred_heard = truth_W - truth_W.mean(), heard_W - heard_W.mean()
        n = len(truth_W) - 1
        covariance = (centred_truth * centred_heard).sum() / n
        spread = (centred_truth.square().sum() + centred_heard.square().sum()) / n
        apart = (truth_W.mean() - heard_W.mean()).square()
        loss = loss + 1 - 2 * covariance / (spread + apart + 1e-8)
    return loss
