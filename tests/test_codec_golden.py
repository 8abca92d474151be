"""The codec in its `RELEASED` form against numbers recorded from the authors' own class.

Tolerances: encoders 2e-5 absolute, losses 1e-5 relative, gradients 1e-4 of the largest element,
indices exact. Nothing here knows the sizes of a recording: they are in its golden.json.
"""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from hpro_core.codec.compatibility import RELEASED
from hpro_core.codec.encoder import _distances
from hpro_core.codec.losses import (
    concordance,
    covered_words,
    soft_cross_entropy,
    text_cross_entropy,
    word_vad_loss,
)
from hpro_core.codec.model import CodecOutput, HdEmo
from hpro_core.codec.noise import NO_NOISE, Noise, perturb
from hpro_core.codec.released import UnstoredSettings, from_released
from hpro_core.codec.state_dict_map import DECODER, PARTS, released_names
from hpro_core.codec.training import content_terms, style_terms, text_of
from hpro_core.reward.losses import code_loss
from hpro_core.speech import fsq
from hpro_core.train.batching import Batch, length_mask, spans_to_frames

FOLDERS = sorted((Path(__file__).parent / "data").glob("codec_golden*"))


class Golden:
    """One recording, the codec with its weights, and its inputs as a batch."""

    def __init__(self, folder: Path):
        self.notes = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        self.tensors = load_file(folder / "golden.safetensors")
        sizes, whisper = self.notes["config"]["codec"], self.notes["config"]["whisper"]
        self.unstored = UnstoredSettings(
            content_levels=sizes["con_fsq_scale"],
            style_levels=sizes["emo_fsq_scale"],
            emotion_heads=self.notes["config"]["emotion_score_attention_heads"],
            text_heads=whisper["decoder_attention_heads"],
        )
        self.codec = from_released(self.below("state."), folder.name, self.unstored, RELEASED)
        self.codec.eval()
        self.first_word = 1 + max(whisper[f"{name}_token_id"] for name in ("pad", "bos", "eos"))
        self.batch = self._batch(whisper["eos_token_id"])

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def below(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    def _batch(self, end: int) -> Batch:
        tokens, text = self["in.speech_token"], self["in.label_ids"]
        text_lengths = (text == end).int().argmax(1) + 1
        words, counts = self["in.align_words"], self["in.n_words"]
        spans = torch.zeros(*words.shape[:2], 2, dtype=torch.int64)
        for row, count in enumerate(counts.tolist()):
            # Truncated, and clamped to the padded length: the released rule.
            times = words[row, :count, :2].numpy()
            spans[row, :count] = torch.as_tensor(
                spans_to_frames(times, tokens.shape[1], rounding="truncate")
            )
        return Batch(
            symbols_BS=torch.zeros(len(tokens), 1, dtype=torch.int64),
            symbol_word_BS=torch.zeros(len(tokens), 1, dtype=torch.int64),
            symbol_lengths_B=torch.ones(len(tokens), dtype=torch.int64),
            transcript_BJ=text.masked_fill(~length_mask(text_lengths, text.shape[1]), 0),
            transcript_lengths_B=text_lengths,
            tokens_BL=tokens,
            history_BL=tokens,
            token_lengths_B=self["in.speech_token_len"],
            reference_BE=torch.zeros(len(tokens), 1),
            emotion_B9=self["in.emotion"],
            spans_BW2=spans,
            vad_BW3=words[..., 2:].nan_to_num().float(),
            word_lengths_B=counts,
        )

    def read(self, tokens: Tensor) -> CodecOutput:
        batch = self.batch
        text, *_ = text_of(batch, RELEASED)
        return self.codec(tokens, batch.token_lengths_B, batch.spans_BW2, text)

    def written(self, logits_BJV: Tensor) -> list[str]:
        """What the text decoder writes, teacher-forced: the recording's words are token ids."""
        rows = logits_BJV.argmax(-1).tolist()
        return [" ".join(str(i) for i in row if i >= self.first_word) for row in rows]

    def indices(self, code_BLD: Tensor, kind: str) -> Tensor:
        config = self.codec.config
        levels = config.content_levels if kind == "content" else config.style_levels
        return fsq.to_indices(fsq.quantise(code_BLD, levels), levels)


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def golden(request) -> Golden:
    return Golden(request.param)


def close(got: Tensor, want: Tensor, absolute: float = 2e-5, relative: float = 0.0) -> None:
    torch.testing.assert_close(got.detach(), want, atol=absolute, rtol=relative)


def same_loss(got: Tensor | float, want: Tensor | float) -> None:
    assert float(got) == pytest.approx(float(want), rel=1e-5)


def outputs_of(codec: HdEmo, modules: list[str], call) -> dict[str, list[Tensor]]:
    """What modules returned, call by call, while something ran."""
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str):
        return lambda _, __, out: seen[name].append(out[0] if isinstance(out, tuple) else out)

    hooks = [codec.get_submodule(name).register_forward_hook(keep(name)) for name in modules]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def test_there_is_a_recording():
    assert FOLDERS


def test_sizes_are_read_from_the_weights(golden):
    config, wanted = golden.codec.config, golden.notes["config"]
    sizes = {
        "width": wanted["codec"]["hidden_size"],
        "extractor_blocks": wanted["decoupler"]["num_blocks"],
        "adapter_blocks": wanted["adapter"]["num_blocks"],
        "heads": wanted["decoupler"]["attention_heads"],
        "hidden": wanted["decoupler"]["linear_units"],
        "combiner_blocks": wanted["combiner"]["num_blocks"],
        "combiner_heads": wanted["combiner"]["attention_heads"],
        "combiner_hidden": wanted["combiner"]["linear_units"],
        "content_dimensions": wanted["codec"]["con_fsq_dim"],
        "style_dimensions": wanted["codec"]["emo_fsq_dim"],
        "text_vocabulary": wanted["whisper"]["vocab_size"],
        "text_width": wanted["whisper"]["d_model"],
        "text_blocks": wanted["whisper"]["decoder_layers"],
        "text_hidden": wanted["whisper"]["decoder_ffn_dim"],
        "text_positions": wanted["whisper"]["max_target_positions"],
    }
    assert {name: getattr(config, name) for name in sizes} == sizes


def test_word_spans_are_the_released_ones(golden):
    counts = golden["in.n_words"].tolist()
    for row, count in enumerate(counts):
        got = golden.batch.spans_BW2[row, :count]
        want = golden["derived.word_span_frames"][row, :count]
        kept = want[:, 1] > want[:, 0]
        assert torch.equal(covered_words(got), kept)
        assert torch.equal(got[kept], want[kept])


def test_text_and_target_are_the_released_ones(golden):
    text, target, mask = text_of(golden.batch, RELEASED)
    assert torch.equal(text, golden["in.label_ids"])
    assert torch.equal(target, golden["in.target_label_ids"])
    assert mask.all()


ENCODERS = {
    "decoupler": "style_extractor",
    "adapter": "emotion_adapter",
    "combiner": "combiner",
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(golden, name):
    recorded = golden.below(f"encoder.{name}.")
    encoder = golden.codec.get_submodule(ENCODERS[name])
    x, lengths = recorded["in"], recorded["lens"]
    inner = ["input", "blocks.0.attention", "blocks.0"]
    seen = outputs_of(encoder, inner, lambda: close(encoder(x, lengths), recorded["out"]))
    assert torch.equal(length_mask(lengths, x.shape[1])[:, None], recorded["mask"])
    if "embed_out" in recorded:
        close(seen["input"][0] * x.shape[-1] ** 0.5, recorded["embed_out"])
        earlier = recorded["pos_emb"][:, : x.shape[1]]  # later frames are never seen
        close(_distances(x.shape[1], x.shape[-1], x.device)[None], earlier)
        close(seen["blocks.0.attention"][0], recorded["layer0_selfattn_out"])
        close(seen["blocks.0"][0], recorded["layer0_out"])


def test_preference_codes_in_the_padding_too(golden):
    codec, batch = golden.codec, golden.batch
    content, style = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
    features = codec.content_features(batch.tokens_BL, batch.token_lengths_B)
    before = {
        "content": codec.content_code(features, batch.token_lengths_B),
        "emotion": codec.style_code(codec.style_features(batch.tokens_BL, batch.token_lengths_B)),
    }
    for kind, code in {"content": content, "emotion": style}.items():
        close(before[kind], golden[f"generate_token.{kind}_code_before_round"])
        close(code, golden[f"generate_token.{kind}_code_after_round"], absolute=1e-6)
        want = golden[f"generate_token.{kind}_index"].long()
        assert torch.equal(golden.indices(code, kind), want)


def test_codes_of_indices(golden):
    config = golden.codec.config
    books = {
        "content": (config.content_levels, config.content_dimensions),
        "emotion": (config.style_levels, config.style_dimensions),
    }
    for kind, (levels, dimensions) in books.items():
        table = fsq.from_indices(torch.arange(levels**dimensions), levels, dimensions)
        close(table, golden[f"afsq.all_{kind}_codes"], absolute=1e-7)
        indices = golden[f"generate_token.{kind}_index"].long()
        code = fsq.from_indices(indices, levels, dimensions)
        close(code, golden[f"afsq.{kind}_code_from_index"], absolute=1e-7)


def train_values(golden: Golden, terms: dict[str, Tensor], text: dict[str, Tensor], name: str):
    """Compare stage B and the text loss beside it with a recorded forward pass."""
    recorded = golden.below(name)
    same_loss(terms["loss"], recorded["loss"])
    same_loss(4 * terms["rec"], recorded["re_loss"])
    same_loss(0.2 * terms["ser"], recorded["emotion_loss"])
    same_loss(terms["wvad"], recorded["vad_loss"])
    same_loss(terms["token_accuracy"], recorded["acc"])
    same_loss(terms["emotion_similarity"], recorded["emo_sim"])
    if "asr_loss_internal" in recorded:
        same_loss(text["asr"], recorded["asr_loss_internal"])


def test_training_step_and_every_part_of_it(golden):
    codec, batch = golden.codec, golden.batch
    parts = {name.removeprefix("forward.mid."): value for name, value in golden.tensors.items()
             if name.startswith("forward.mid.")}  # fmt: skip
    ours = {theirs: part for part, theirs in PARTS.items()}
    modules = {ours[theirs]: want for theirs, want in parts.items() if theirs in ours}
    assert len(modules) >= 14
    results = {}

    def run():
        results["style"] = style_terms(codec, batch, NO_NOISE)
        results["text"] = content_terms(codec, batch, guided_attention_weight=0.0)

    with torch.no_grad():
        seen = outputs_of(codec, [*modules, "to_tokens"], run)
    train_values(golden, results["style"], results["text"], "forward.")
    for module, want in modules.items():
        close(seen[module][0], want, relative=1e-5)
    logits = seen["to_tokens"][0]
    close(logits[..., ::331], parts["output_logits_every_331st"], relative=1e-5)
    close(logits.logsumexp(-1), parts["output_logsumexp"], relative=1e-5)
    assert torch.equal(logits.argmax(-1), parts["output_argmax"])


def test_what_the_text_decoder_writes(golden):
    logits = golden.read(golden.batch.tokens_BL).text_BJV
    close(logits, golden["forward.mid.content_token_encoder.proj_out"], relative=1e-5)
    written = golden.written(logits)
    assert written == golden.notes["forward_predicted_text"]
    same_loss(jiwer.wer(golden.notes["text"], written), golden["forward.err"])


def test_gradient_of_every_weight_in_stage_b(golden):
    codec = golden.codec
    codec.zero_grad()
    style_terms(codec, golden.batch, NO_NOISE)["loss"].backward()
    names = released_names(codec.state_dict())
    recorded = golden.notes["forward_loss_grad_norm_per_parameter"]
    want = {name: norm for name, norm in recorded.items() if norm is not None}
    largest = max(want.values())
    got = {
        names[ours]: float(weight.grad.norm())
        for ours, weight in codec.named_parameters()
        if weight.grad is not None
    }
    assert got == pytest.approx(want, rel=1e-4, abs=1e-6 * largest)
    codec.zero_grad()


def test_the_same_parts_are_frozen_in_stage_b(golden):
    codec = from_released(golden.below("state."), "again", golden.unstored, RELEASED)
    codec.freeze(codec.frozen_parts())
    names = released_names(codec.state_dict())
    frozen = tuple(golden.notes["requires_grad_false_params"])
    for ours, weight in codec.named_parameters():
        assert weight.requires_grad != names[ours].startswith(frozen), names[ours]


def test_training_step_with_the_recorded_noise(golden):
    draws = golden.below("noisy.in.")
    uniform = golden.notes["noisy_uniform_draws_in_order_[low,high,value_used]"]
    shares = {"emotion": uniform[0][2], "content": uniform[1][2]}
    config = golden.codec.config
    levels = {"emotion": config.style_levels, "content": config.content_levels}
    indices = {}

    def add(kind: str, code: Tensor) -> Tensor:
        strong = draws[f"{kind}_mask_rand"][..., 0] < shares[kind]
        weak, high = draws[f"{kind}_low_randn"], draws[f"{kind}_high_randn"]
        noisy = perturb(code, levels[kind], strong, torch.where(strong[..., None], high, weak))
        indices[kind] = golden.indices(code, kind), golden.indices(noisy, kind)
        return noisy

    noise = Noise(
        content=lambda code: add("content", code),
        style=lambda code: add("emotion", code),
        emotion=lambda features: features + 0.1 * draws["emotion_hidden_randn"],
    )
    with torch.no_grad():
        terms = style_terms(golden.codec, golden.batch, noise)
    train_values(golden, terms, {}, "noisy.out.")
    for kind, rate in {"emotion": "pt_sr", "content": "ct_sr"}.items():
        before, after = indices[kind]
        assert torch.equal(after, golden[f"noisy.out.{kind}_index_after_noise"].long())
        same_loss((before == after).float().mean(), golden[f"noisy.out.{rate}"])


def rewards(golden: Golden, reading: CodecOutput) -> dict[str, Tensor]:
    """The five losses by their recorded names."""
    batch, mask = golden.batch, golden.batch.token_mask_BL
    _, target, text_mask = text_of(batch, RELEASED)
    truth = {kind: golden[f"afsq.{kind}_code_from_index"] for kind in ("emotion", "content")}
    words = covered_words(batch.spans_BW2)
    return {
        "emotion_loss": soft_cross_entropy(reading.emotion_B9, batch.emotion_B9).value,
        "vad_loss": word_vad_loss(batch.vad_BW3, reading.vad_BW3, words).value,
        "asr_loss": text_cross_entropy(reading.text_BJV, target, text_mask).value,
        "emotion_token_loss": code_loss(reading.style_BLD, truth["emotion"], mask, "mse").value,
        "content_token_loss": code_loss(reading.content_BLD, truth["content"], mask, "mse").value,
    }


def soft_tokens(golden: Golden) -> Tensor:
    """The recorded distribution over tokens, float32 (B, L, V)."""
    drawn = golden.below("reward_soft.in.")
    logits = drawn["logit_factor_a"].double() @ drawn["logit_factor_b"].double()
    onehot = functional.one_hot(golden.batch.tokens_BL, logits.shape[-1])
    logits = logits + drawn["true_token_boost"].double()[..., None] * onehot
    return logits.softmax(-1).float()


def distributions(golden: Golden, kind: str) -> Tensor:
    if kind == "reward_soft":
        return soft_tokens(golden)
    vocabulary = len(golden["state.speech_token_embedding.weight"])
    return functional.one_hot(golden.batch.tokens_BL, vocabulary).float()


@pytest.mark.parametrize("kind", ["reward_onehot", "reward_soft"])
def test_all_nine_values_of_the_reward(golden, kind):
    recorded, batch = golden.below(kind + "."), golden.batch
    with torch.no_grad():
        reading = golden.read(distributions(golden, kind))
    for name, loss in rewards(golden, reading).items():
        same_loss(loss, recorded[name])
    similarity = torch.cosine_similarity(reading.emotion_B9.softmax(-1), batch.emotion_B9).mean()
    same_loss(similarity, recorded["emo_sim"])
    written = golden.written(reading.text_BJV)
    same_loss(jiwer.wer(golden.notes["text"], written), recorded["word_er"])
    for name, code in {"emotion": reading.style_BLD, "content": reading.content_BLD}.items():
        truth = golden[f"generate_token.{name}_index"].long()
        hits = (golden.indices(code, name) == truth)[batch.token_mask_BL].float().mean()
        same_loss(hits, recorded[f"{name}_token_sim"])


def test_codes_of_the_soft_distribution(golden):
    soft, recorded = soft_tokens(golden), golden.below("reward_soft.")
    rows = tuple(recorded["slice_index_btv"].T)
    close(soft[rows], recorded["in.prob_slice"], absolute=1e-7)
    close(soft.amax(-1), recorded["in.prob_max"], absolute=1e-6)
    with torch.no_grad():
        reading = golden.read(soft)
        close(golden.codec.embedding(soft), recorded["mid.embedded_input"])
    mask = golden.batch.token_mask_BL
    for name, code in {"emotion": reading.style_BLD, "content": reading.content_BLD}.items():
        close(code, recorded[f"mid.{name}_code_before_round"])
        want = recorded[f"mid.{name}_index"].long()
        assert torch.equal(golden.indices(code, name)[mask], want[mask])


GRADIENTS = ["emotion_loss", "vad_loss", "asr_loss", "emotion_token_loss"]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_of_each_reward_on_the_distribution(golden, name):
    recorded = golden.below(f"reward_soft.grad.{name}.")
    soft = soft_tokens(golden).requires_grad_()
    readings = []
    seen = outputs_of(golden.codec, ["embedding"], lambda: readings.append(golden.read(soft)))
    loss = rewards(golden, readings[0])[name]
    on_soft, *on_embedded = torch.autograd.grad(loss, [soft, *seen["embedding"]], allow_unused=True)
    embedded = sum(g for g in on_embedded if g is not None)

    def agree(got: Tensor, want: Tensor) -> None:
        close(got, want, absolute=1e-4 * float(want.abs().max()))

    agree(embedded, recorded["wrt_embedded"])
    agree(on_soft[tuple(golden["reward_soft.slice_index_btv"].T)], recorded["slice"])
    agree(on_soft.norm(dim=-1), recorded["frame_norm"])
    assert float(on_soft.norm()) == pytest.approx(float(recorded["norm"]), rel=1e-4)
    assert on_soft[~golden.batch.token_mask_BL].abs().max() == 0


def test_the_released_content_loss_gives_the_distribution_no_gradient(golden):
    soft = soft_tokens(golden).requires_grad_()
    loss = rewards(golden, golden.read(soft))["content_token_loss"]
    assert golden.notes["reward_soft_gradients"]["content_token_loss"].startswith("None")
    assert torch.autograd.grad(loss, soft, allow_unused=True) == (None,)


def utterances(golden: Golden) -> list[tuple[str, Tensor, Tensor, int]]:
    """Recorded inferences: name, tokens, lengths, and the utterance whose words row 0 has."""
    tokens, lengths = golden.batch.tokens_BL, golden.batch.token_lengths_B
    alone = [(f"single{b}", tokens[b : b + 1, :length], lengths[b : b + 1], b)
             for b, length in enumerate(lengths.tolist())]  # fmt: skip
    return [*alone, ("batch", tokens, lengths, 0)]


def test_inference_alone_and_in_a_batch(golden):
    codec, words = golden.codec, golden["in.align_words"]
    for name, tokens, lengths, first in utterances(golden):
        recorded = golden.below(f"inference.{name}.")
        frames = tokens.shape[1]
        times = words[first, : golden["in.n_words"][first], :2].numpy()
        spans = torch.as_tensor(spans_to_frames(times, frames, rounding="truncate"))
        kept = covered_words(spans)
        with torch.no_grad():
            features = codec.emotion_features(codec.style_features(tokens, lengths), lengths)
            logits = codec.emotion_head(features, length_mask(lengths, frames))
            whole = torch.stack([torch.zeros_like(lengths), lengths], -1)[:, None]
            sentence = codec.word_vad_head(features, whole)[:, 0]
            each = torch.stack([torch.arange(frames), torch.arange(frames) + 1], -1)
            frame = codec.word_vad_head(features, each.expand(len(tokens), -1, -1))
            word = codec.word_vad_head(features[:1], spans[None])[0]
        close(logits, recorded["emotion_logits"])
        close(logits.softmax(-1), recorded["emotion_probability"])
        assert torch.equal(logits.argmax(-1), recorded["emotion_class"])
        close(sentence, recorded["sentence_vad"])
        if kept.any():
            close(word[kept], recorded["word_vad"])
            assert torch.equal(kept.nonzero()[:, 0], recorded["word_vad_index"])
        else:
            assert "word_vad" not in recorded
        content, style = codec.preference_codes(tokens, lengths)
        for row, length in enumerate(lengths.tolist()):
            mark = f"u{row if name == 'batch' else first}"
            close(frame[row, :length], recorded[f"frame_vad.{mark}"])
            for kind, code in {"emotion": style, "content": content}.items():
                close(code[row, :length], recorded[f"{kind}_code.{mark}"], absolute=1e-6)
                got = golden.indices(code[row, :length], kind)
                assert torch.equal(got, recorded[f"{kind}_token.{mark}"].long())


def test_what_the_text_decoder_attends_to_in_inference(golden):
    codec = golden.codec
    for name, tokens, lengths, row in utterances(golden)[:-1]:  # not recorded of the batch
        recorded = golden.below(f"inference.{name}.")
        begin = golden["in.label_ids"][row : row + 1, :1]
        with torch.no_grad():
            content = codec.content_features(tokens, lengths)

            def read(content=content, lengths=lengths, begin=begin):
                codec.text_logits(content, lengths, begin)

            seen = outputs_of(codec, ["text_decoder.affine"], read)
        close(seen["text_decoder.affine"][0], recorded["transcribe_hidden"])
        mask = length_mask(lengths, tokens.shape[1]).long()
        assert torch.equal(mask, recorded["transcribe_mask"])


def test_concordance_cases(golden):
    cases = golden.notes["ccc_cases"]
    assert len(cases) >= 5
    for number, case in enumerate(cases):
        recorded = golden.below(f"ccc.{number}.")
        predicted = recorded["pred"].clone().requires_grad_()
        mask = torch.ones(1, case["n"], dtype=torch.bool)
        columns = recorded["target"][None, :, None], predicted[None, :, None]
        loss = 1 - concordance(*columns, mask).sum()
        assert float(loss.detach()) == pytest.approx(float(recorded["loss"]), rel=1e-5, abs=1e-6)
        loss.backward()
        assert torch.isfinite(predicted.grad).all()
        if not case["grad_is_nan"]:  # the released form has no number where predictions are equal
            largest = float(recorded["grad"].abs().max())
            close(predicted.grad, recorded["grad"], absolute=max(1e-4 * largest, 1e-6))


def test_the_whole_table_of_words_is_what_the_loss_saw(golden):
    """Each recorded call of the concordance loss inside the forward pass, in order."""
    with torch.no_grad():
        vad = golden.read(golden.batch.tokens_BL).vad_BW3
    kept = covered_words(golden.batch.spans_BW2)
    seen = iter(golden.notes["forward_vad_ccc_calls"])
    for row in range(len(vad)):
        if int(kept[row].sum()) < 2:
            continue
        for dimension in range(3):
            call = next(seen)
            got = vad[row, kept[row], dimension].numpy()
            np.testing.assert_allclose(got, call["pred"], atol=2e-5)
    assert next(seen, None) is None


def test_copies_of_the_text_decoder_are_named(golden):
    aliases = {frozenset(names) for names in golden.notes["state_aliases"]}
    decoder = {name for name in golden.below("state.") if name.startswith(DECODER)}
    assert decoder <= frozenset().union(*aliases)
