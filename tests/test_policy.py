"""The embedded policy: layout, cache, learning; and what holds for any policy's folder."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.errors import HproError
from hpro_core.params import Policy, Sft, Synthesis
from hpro_core.policy.interface import END_OF_SPEECH, speech_targets
from hpro_core.policy.model import SpeechLM
from hpro_core.policy.sampling import Sampling, _nucleus_draw, sample
from hpro_core.policy.sft import (
    alignment_guide,
    history_noise,
    load_policy,
    make_policy,
    save_policy,
    sft_terms,
    train_sft,
)
from hpro_core.synthesis.stage import references_of, sample_tokens
from hpro_core.text.phones import N_SYMBOLS
from hpro_core.train.batching import collate
from hpro_core.train.terms import Terms, cut
from tests.results import run_in, write_dataset

MINIATURE = Policy(preset="miniature", path="", dropout=0.1)


@pytest.fixture(scope="module")
def policy(examples):
    torch.manual_seed(0)
    return make_policy(MINIATURE, examples).eval()


def test_targets_end_with_the_end_symbol_at_each_length(batch):
    targets, mask = speech_targets(batch)
    for row, length in enumerate(batch.token_lengths_B.tolist()):
        assert targets[row, length] == END_OF_SPEECH
        assert torch.equal(targets[row, :length], batch.tokens_BL[row, :length])
        assert mask[row].sum() == length + 1


def test_a_ragged_batch_equals_one_by_one(policy, examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    together = policy(batch).logits_BLV
    for i, example in enumerate(examples):
        alone = policy(collate([example], [example.speaker_embedding])).logits_BLV[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=0)


def test_a_token_is_predicted_from_the_past_alone(policy, batch):
    base = policy(batch).logits_BLV
    changed = batch.tokens_BL.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % N_SPEECH_TOKENS
    got = policy(replace(batch, history_BL=changed)).logits_BLV
    torch.testing.assert_close(got[:, :11], base[:, :11], atol=1e-5, rtol=0)
    assert not torch.allclose(got[:, 12], base[:, 12])


def test_the_cache_gives_the_teacher_forced_logits(policy, batch):
    forced = policy(batch).logits_BLV
    hidden, cache = policy.begin(batch, 8)
    for t in range(8):
        torch.testing.assert_close(policy.logits(hidden), forced[:, t], atol=1e-5, rtol=0)
        hidden = policy.read(batch.tokens_BL[:, t : t + 1], cache)[:, 0]


def drawn(policy, batch, seed=0, **changes):
    settings = dict(
        method="nucleus", top_p=0.8, top_k=25, temperature=1.0, min_ratio=0.5, max_ratio=2.0
    )
    rows = range(len(batch.symbols_BS))
    generators = [torch.Generator().manual_seed(seed + r) for r in rows]
    return sample(policy, batch, generators, Sampling(**(settings | changes)))


def test_sampling_repeats_with_the_seed_and_keeps_the_limits(policy, batch):
    first, again, other = (drawn(policy, batch, seed) for seed in (0, 0, 99))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.tokens, b.tokens) for a, b in zip(first, other, strict=True))
    for result, symbols in zip(first, batch.symbol_lengths_B.tolist(), strict=True):
        assert symbols * 0.5 - 1 <= len(result.tokens) <= symbols * 2
        assert int(result.tokens.max()) < N_SPEECH_TOKENS
        assert result.stopped == (len(result.tokens) < int(symbols * 2))


def test_the_end_symbol_stops_a_row(policy, batch):
    bias = policy.head_bias.detach().clone()
    with torch.no_grad():
        policy.head_bias[END_OF_SPEECH] += 50
    results = drawn(policy, batch)
    with torch.no_grad():
        policy.head_bias.copy_(bias)
    for result, symbols in zip(results, batch.symbol_lengths_B.tolist(), strict=True):
        assert result.stopped
        assert len(result.tokens) == int(symbols * 0.5)  # as soon as it may


def test_the_nucleus_keeps_the_likeliest_and_their_proportions():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(20_000, -1)
    one = torch.Generator().manual_seed(0)
    drawn = _nucleus_draw(logits, [one] * len(logits), top_p=0.75, top_k=3)
    counts = torch.bincount(drawn, minlength=4) / len(logits)
    # 0.5 and 0.3 reach 0.75 together; the third starts at 0.8 and is out.
    torch.testing.assert_close(counts, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.02, rtol=0)


def test_terms_of_parts_add_up_to_those_of_the_batch(policy, examples):
    whole = collate(examples, [e.speaker_embedding for e in examples])
    expected = sft_terms(policy, whole, guided_attention_weight=0.3, emotion_weight=0.5)
    for pieces in (2, 8):
        parts = cut(whole, pieces)
        terms = [sft_terms(policy, part, 0.3, 0.5) for part in parts]
        together = reduce(Terms.plus, terms)
        for name in ("ce", "token_accuracy", "attention_guide", "text_emotion"):
            torch.testing.assert_close(together[name], expected[name], atol=1e-5, rtol=1e-5)
        shares = [t.share(p.counts(), whole.counts()) for t, p in zip(terms, parts, strict=True)]
        loss = torch.stack(shares).sum()
        torch.testing.assert_close(loss, expected["loss"], atol=1e-5, rtol=1e-5)


def test_the_emotion_is_predicted_before_the_first_token_is_read(policy, batch):
    foreign = torch.randint(0, N_SPEECH_TOKENS, batch.tokens_BL.shape)
    asked, again = (
        policy(b, guides=True).emotion_B9 for b in (batch, replace(batch, history_BL=foreign))
    )
    torch.testing.assert_close(asked, again)
    emotion_B9 = torch.eye(9)[torch.arange(len(foreign)) % 9]
    terms = sft_terms(policy, replace(batch, emotion_B9=emotion_B9), 0.3, 0.5)
    expected = -(emotion_B9 * asked.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(terms["text_emotion"], expected)
    parts = terms["ce"] + 0.3 * terms["attention_guide"] + 0.5 * expected
    torch.testing.assert_close(terms["loss"], parts)


def test_the_history_is_read_and_the_recording_is_the_target(policy, batch):
    foreign = torch.randint(0, N_SPEECH_TOKENS, batch.tokens_BL.shape)
    noisy = replace(batch, history_BL=foreign)
    clean_BLV, noisy_BLV = (policy(b).logits_BLV for b in (batch, noisy))
    torch.testing.assert_close(noisy_BLV[:, 0], clean_BLV[:, 0])  # nothing has been read yet
    assert not torch.allclose(noisy_BLV[:, 1:], clean_BLV[:, 1:])
    spoken = policy(replace(batch, tokens_BL=foreign, history_BL=foreign)).logits_BLV
    torch.testing.assert_close(noisy_BLV, spoken)
    targets, mask = speech_targets(batch)
    expected = torch.nn.functional.cross_entropy(noisy_BLV[mask], targets[mask])
    torch.testing.assert_close(sft_terms(policy, noisy, 0.3, 0.5)["ce"], expected)


def test_the_noise_of_the_history_grows_with_the_square_of_the_training():
    settings = SHORT.model_copy(update={"history_noise": 0.6, "noise_warmup": 0.8})
    shares = [history_noise(done, settings) for done in (0.001, 0.4, 0.8, 1.0)]
    assert shares == pytest.approx([0.6 * 0.001**2 / 0.64, 0.15, 0.6, 0.6])
    at_once = SHORT.model_copy(update={"history_noise": 0.6, "noise_warmup": 0.0})
    assert history_noise(0.001, at_once) == 0.6


def test_the_guide_counts_attention_to_the_spoken_word(batch):
    rows, frames = len(batch.tokens_BL), batch.tokens_BL.shape[1] + 1
    symbols = batch.symbols_BS.shape[1]
    attention = torch.zeros(rows, frames, symbols)
    for b in range(rows):
        length = int(batch.symbol_lengths_B[b])
        for w, (start, end) in enumerate(batch.spans_BW2[b, : batch.word_lengths_B[b]].tolist()):
            own = (batch.symbol_word_BS[b, :length] == w).nonzero()[:, 0]
            for t in range(start, end):
                attention[b, t, own[(t - start) * len(own) // (end - start)]] = 1.0
    assert float(alignment_guide(attention, batch).value) == pytest.approx(0.0, abs=1e-6)
    wrong_word = attention.roll(8, dims=2)
    assert float(alignment_guide(wrong_word, batch).value) > 5
    assert float(alignment_guide(torch.full_like(attention, 1 / symbols), batch).value) > 0.5


def test_the_guide_looks_between_two_words_that_share_a_token(batch):
    spans = batch.spans_BW2.clone()
    starts = spans[:, 1, 0]
    spans[:, 0, 1] = starts + 1
    # the last symbol of the first word, where both meet
    last = ((batch.symbol_word_BS == 0) & batch.symbol_mask_BS).long().cumsum(1).argmax(1)
    rows, symbols = len(last), batch.symbols_BS.shape[1]
    ours = torch.full((rows, batch.tokens_BL.shape[1] + 1, symbols), 1 / symbols)
    there = ours.clone()
    there[range(rows), starts] = torch.nn.functional.one_hot(last, symbols).float()
    shared = replace(batch, spans_BW2=spans)
    assert (
        float(alignment_guide(there, shared).value)
        < float(alignment_guide(ours, shared).value) - 1e-3
    )


def test_one_batch_can_be_learnt(examples, batch):
    torch.manual_seed(0)
    policy = make_policy(Policy(preset="miniature", path="", dropout=0.0), examples)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    values = []
    for _ in range(40):
        terms = sft_terms(policy, batch, guided_attention_weight=0.3, emotion_weight=0.5)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["ce"].detach()))
    assert values[-1] < 0.6 * values[0]


SHORT = Sft(
    steps=2, batch_size=2, learning_rate=1e-3, guided_attention_weight=0.3, emotion_weight=0.5,
    history_noise=0.1, noise_warmup=0.5, clip_norm=1.0, decay_fraction=0.2, ema=0.5,
)  # fmt: skip


def fine_tuned(examples, out, start, seed=0, **changed):
    """Weights after two steps from the policy in a folder, or from nothing."""
    run = run_in(out / "results", out / "work", {f"policy/sft/seed{seed}": out})
    write_dataset(run.root, examples, examples[:2])
    train_sft(run, MINIATURE, SHORT.model_copy(update=changed), seed, start)
    return load_file(out / "model.safetensors")


def test_fine_tuning_goes_on_from_the_weights_it_is_given(policy, examples, tmp_path):
    given = {name: weight.clone() for name, weight in policy.state_dict().items()}
    save_policy(tmp_path / "base", policy, variant="sft", seed=0)
    still = fine_tuned(examples, tmp_path / "still", tmp_path / "base", seed=7, learning_rate=1e-12)
    for name, weight in given.items():
        torch.testing.assert_close(still[name], weight, atol=1e-7, rtol=0, msg=name)
    fresh = fine_tuned(examples, tmp_path / "fresh", None, seed=7, learning_rate=1e-12)
    assert any(not torch.allclose(fresh[name], weight) for name, weight in given.items())


def test_what_is_given_sets_the_sizes(examples, tmp_path):
    torch.manual_seed(0)
    narrow = SpeechLM(replace(make_policy(MINIATURE, examples).config, width=16))
    save_policy(tmp_path / "base", narrow, variant="sft", seed=0)
    fine_tuned(examples, tmp_path / "tuned", tmp_path / "base")
    assert load_policy(tmp_path / "tuned").config == narrow.config


def test_the_seed_decides_the_batches_of_a_given_policy(policy, examples, tmp_path):
    save_policy(tmp_path / "base", policy, variant="sft", seed=0)
    runs = [
        fine_tuned(examples, tmp_path / str(index), tmp_path / "base", seed)
        for index, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(weight, runs[1][name]) for name, weight in runs[0].items())
    assert any(not torch.equal(weight, runs[2][name]) for name, weight in runs[0].items())


def test_a_saved_policy_comes_back_and_another_size_is_refused(policy, batch, tmp_path):
    save_policy(tmp_path, policy, variant="sft", seed=0)
    again = load_policy(tmp_path)
    assert torch.equal(again(batch).logits_BLV, policy(batch).logits_BLV)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"blocks": 2', '"blocks": 3'))
    with pytest.raises(HproError, match=r"model.safetensors does not fit"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"embedded"', '"gpt"'))
    with pytest.raises(HproError, match=r"policy is 'gpt', not 'embedded' or 'cosyvoice2'"):
        load_policy(tmp_path)


def test_text_tokens_of_another_policy_are_refused(policy, examples, tmp_path):
    foreign = replace(examples[0], symbols=np.array([5, N_SYMBOLS, 7]))
    save_policy(tmp_path, policy)
    for start in (None, tmp_path):
        with pytest.raises(HproError, match=r"takes phones.*set dataset.policy_text to phones"):
            make_policy(MINIATURE, [foreign], start=start)


def test_fine_tuning_a_trained_policy_has_the_dropout_of_the_settings(policy, examples, tmp_path):
    save_policy(tmp_path, policy)
    settings = MINIATURE.model_copy(update={"dropout": 0.4})
    started = make_policy(settings, examples, start=tmp_path)
    assert (started.dropout.p, started.config.dropout) == (0.4, 0.4)
    save_policy(tmp_path, started)
    assert load_policy(tmp_path).dropout.p == 0.4


def test_what_is_spoken_does_not_depend_on_the_batch(policy, examples):
    settings = Synthesis(
        method="ras", window=10, tau=0.1, top_p=0.8, top_k=25, temperature=1.0, min_ratio=0.5,
        max_ratio=2.0, batch_size=3, seed=0,
    )  # fmt: skip
    references = references_of(examples, examples, [], 0)

    def spoken(sentences, batch_size, seed=0):
        changed = settings.model_copy(update={"batch_size": batch_size})
        device = torch.device("cpu")
        said = sample_tokens(policy, sentences, references, changed, seed, device, "test")
        return {utt_id: result.tokens.tolist() for utt_id, result in said.items()}

    base = spoken(examples, 3)
    assert base == spoken(examples[::-1], 8)
    assert base != spoken(examples, 3, seed=1)
    one = examples[4]
    assert spoken([one], 1) == {one.utt_id: base[one.utt_id]}


def test_references_are_other_utterances_of_the_speaker_and_fixed(examples):
    for example in examples:
        chosen = references_of([example], examples, [], seed=0)[example.utt_id]
        assert chosen.speaker == example.speaker
        assert chosen.utt_id != example.utt_id
        assert chosen is references_of([example], examples, [], seed=0)[example.utt_id]
    with pytest.raises(HproError, match="has no other utterance"):
        references_of(examples[:1], examples[:1], [], seed=0)
