"""CosyVoice2's language model: against upstream's recorded numbers, and against itself."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hpro_core.errors import HproError
from hpro_core.params import Policy, Sft
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.interface import END_OF_SPEECH
from hpro_core.policy.llm_file import QWEN_FOLDER, read_llm, upstream_weights, write_llm
from hpro_core.policy.sampling import Sampling, sample
from hpro_core.policy.sft import load_policy, make_policy, save_policy, sft_terms, train_sft
from hpro_core.train.batching import collate
from tests.results import run_in, write_dataset

GOLDEN = Path(__file__).parent / "data" / "qwen2lm_golden"
TINY = CosyVoice2Config(
    width=16, blocks=2, heads=4, key_heads=2, hidden=40, vocabulary=97, rope_theta=1e6
)


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "golden.safetensors")


@pytest.fixture(scope="module")
def facts():
    return json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture
def model_folder(golden, facts, tmp_path):
    """The recorded weights as a CosyVoice2 folder, with what a training loop adds."""
    folder = tmp_path / "CosyVoice2-0.5B"
    (folder / QWEN_FOLDER).mkdir(parents=True)
    (folder / QWEN_FOLDER / "config.json").write_text(json.dumps(facts["config"]))
    weights = {n[8:]: v.float() for n, v in golden.items() if n.startswith("weights.")}
    torch.save(weights | {"epoch": 3, "step": 1200}, folder / "llm.pt")
    return folder


@pytest.fixture
def recorded(model_folder):
    return read_llm(model_folder)


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return CosyVoice2LM(TINY).eval()


def as_example(example, symbols, tokens):
    """An utterance with other text and speech; its labels do not matter here."""
    symbols = np.asarray(symbols)
    return replace(
        example, symbols=symbols, symbol_word=np.zeros_like(symbols), tokens=np.asarray(tokens)
    )


def batch_of(examples):
    return collate(examples, [e.speaker_embedding for e in examples])


@pytest.fixture(scope="module")
def ragged(examples):
    """Utterances whose longest text is not the one with the longest speech."""
    rng = np.random.default_rng(0)
    sizes = ((9, 4), (3, 12), (6, 8))
    return [
        as_example(e, rng.integers(0, 97, s), rng.integers(0, 6561, n))
        for e, (s, n) in zip(examples[: len(sizes)], sizes, strict=True)
    ]


def test_teacher_forced_logits_are_upstreams(recorded, golden, examples):
    texts = zip(golden["text_token"], golden["text_token_len"], strict=True)
    speech = zip(golden["speech_token"], golden["speech_token_len"], strict=True)
    made = [
        as_example(examples[i], text[:s].numpy(), tokens[:n].numpy())
        for i, ((text, s), (tokens, n)) in enumerate(zip(texts, speech, strict=True))
    ]
    batch = batch_of(made)
    logits = recorded(batch).logits_BLV
    for i, example in enumerate(made):
        expected = golden[f"logits.{i}"]
        assert expected.std() > 1  # numbers that say something
        got = logits[i, : len(example.tokens) + 1]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    terms = sft_terms(recorded, batch, guided_attention_weight=0.0, emotion_weight=0.0)
    torch.testing.assert_close(terms["loss"], golden["loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(terms["token_accuracy"], golden["accuracy"].float())


def test_zero_shot_draws_are_upstreams(recorded, golden, facts, examples):
    settings = facts["sampling"]
    how = Sampling("ras", temperature=1.0, min_ratio=0.0, **settings)
    assert sum(facts["redrawn"]) > 5  # repeats happened, so the second draw is tested
    ends = []
    for i in range(len(facts["redrawn"])):
        text, prompt_text, prompt_speech, drawn = (
            golden[f"spoken.{i}.{name}"].numpy()
            for name in ("text", "prompt_text", "prompt_speech", "drawn")
        )
        batch = batch_of([as_example(examples[0], text, [1])])
        prompt = batch_of([as_example(examples[0], prompt_text, prompt_speech)])
        (result,) = sample(recorded, batch, [torch.Generator().manual_seed(i)], how, prompt)
        assert result.tokens.tolist() == drawn.tolist()
        assert result.stopped == (len(drawn) < int(len(text) * settings["max_ratio"]))
        ends.append(result.stopped)
    assert any(ends)
    assert not all(ends)


def test_zero_shot_in_a_batch_is_as_one_by_one(recorded, golden, facts, examples):
    how = Sampling("ras", temperature=1.0, min_ratio=0.0, **facts["sampling"])
    rows = range(len(facts["redrawn"]))
    parts = [[golden[f"spoken.{i}.{n}"].numpy() for i in rows] for n in ("text", "prompt_text")]
    speech = [golden[f"spoken.{i}.prompt_speech"].numpy() for i in rows]
    batch = batch_of([as_example(examples[0], text, [1]) for text in parts[0]])
    prompts = [as_example(examples[0], *pair) for pair in zip(parts[1], speech, strict=True)]
    generators = [torch.Generator().manual_seed(i) for i in rows]
    together = sample(recorded, batch, generators, how, batch_of(prompts))
    for i, result in enumerate(together):
        assert result.tokens.tolist() == golden[f"spoken.{i}.drawn"].tolist()


def test_a_ragged_batch_equals_one_by_one(policy, ragged):
    together = policy(batch_of(ragged)).logits_BLV
    for i, example in enumerate(ragged):
        alone = policy(batch_of([example])).logits_BLV[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=0)


def test_padding_changes_no_gradient(policy, ragged):
    def gradients(examples):
        terms = [sft_terms(policy, batch_of(e), 0.0, 0.0)["loss"] for e in examples]
        counts = [sum(len(x.tokens) + 1 for x in e) for e in examples]
        total = sum(n * t for n, t in zip(counts, terms, strict=True)) / sum(counts)
        return torch.autograd.grad(total, list(policy.parameters()))

    pairs = zip(gradients([ragged]), gradients([[e] for e in ragged]), strict=True)
    for together, apart in pairs:
        torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-4)


def test_the_cache_gives_the_teacher_forced_logits(policy, ragged):
    batch = batch_of(ragged)
    forced = policy(batch).logits_BLV
    hidden, cache = policy.begin(batch, batch.tokens_BL.shape[1])
    for t in range(batch.tokens_BL.shape[1]):
        real = batch.token_lengths_B >= t
        torch.testing.assert_close(policy.logits(hidden)[real], forced[real, t], atol=1e-5, rtol=0)
        hidden = policy.read(batch.tokens_BL[:, t : t + 1], cache)[:, 0]


def test_a_prompt_is_the_beginning_of_text_and_speech(policy, ragged):
    prompts = [ragged[1], ragged[2], ragged[0]]  # ragged against the texts as well
    hidden, cache = policy.begin(batch_of(ragged), 1, batch_of(prompts))
    step = policy.read(torch.tensor([[5], [6], [7]]), cache)[:, 0]
    for i, (example, prompt) in enumerate(zip(ragged, prompts, strict=True)):
        joined = as_example(example, [*prompt.symbols, *example.symbols], [*prompt.tokens, 5 + i])
        forced = policy(batch_of([joined])).logits_BLV[0]
        torch.testing.assert_close(policy.logits(hidden)[i], forced[-2], atol=1e-5, rtol=0)
        torch.testing.assert_close(policy.logits(step)[i], forced[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [False, True])
def test_checkpointing_recomputes_blocks_and_changes_no_gradient(policy, ragged, training):
    light = CosyVoice2LM(TINY, checkpointing=True).train(training)  # rewards train in eval mode
    light.load_state_dict(policy.state_dict())
    calls = []
    light.qwen.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    batch = batch_of(ragged)
    terms = [sft_terms(p, batch, 0.0, 0.0)["loss"] for p in (policy, light)]
    got = [
        torch.autograd.grad(loss, list(p.parameters()))
        for loss, p in zip(terms, (policy, light), strict=True)
    ]
    for plain, recomputed in zip(*got, strict=True):
        torch.testing.assert_close(plain, recomputed)
    assert len(calls) == 2
    _, cache = light.begin(batch, 1)  # generation keeps its cache
    light.read(batch.tokens_BL[:, :1], cache)
    assert cache.keys_values.length == cache.keys_values.capacity == cache.mask_BT.shape[1]


def test_the_file_comes_back_as_it_went_out(recorded, model_folder, tmp_path):
    write_llm(recorded, tmp_path / "out" / "llm.pt")
    before = torch.load(model_folder / "llm.pt", weights_only=True)
    after = torch.load(tmp_path / "out" / "llm.pt", weights_only=True)
    assert after.keys() == before.keys() - {"epoch", "step"}
    assert all(torch.equal(after[name], before[name]) for name in after)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["llm.pt"]
    table, head = (after[f"llm.model.{n}.weight"] for n in ("model.embed_tokens", "lm_head"))
    assert table.data_ptr() == head.data_ptr()  # stored once


def test_the_policys_folder_names_its_class(recorded, ragged, tmp_path):
    save_policy(tmp_path, recorded, variant="sft", seed=0)
    again = load_policy(tmp_path, checkpointing=True)
    assert isinstance(again, CosyVoice2LM)
    assert again.config == recorded.config
    assert again.qwen.checkpointing
    batch = batch_of(ragged)
    assert torch.equal(again(batch).logits_BLV, recorded(batch).logits_BLV)


def test_the_default_sizes_are_those_of_the_published_model():
    with torch.device("meta"):
        weights = CosyVoice2LM(CosyVoice2Config()).state_dict()
    # Qwen2.5-0.5B has 494,032,768 weights; two tables and a head with bias for speech come on top.
    own = 2 * 896 + 6564 * 896 + (6564 * 896 + 6564)
    assert sum(value.numel() for value in weights.values()) == 494_032_768 + own


def test_import_and_export_by_command(model_folder, tmp_path, monkeypatch, recorded):
    from hpro_core.policy.commands import llm

    ours, theirs = tmp_path / "policy", tmp_path / "exported" / "llm.pt"
    llm(["import", str(model_folder), str(ours)], standalone_mode=False)
    llm(["export", str(ours), str(theirs)], standalone_mode=False)
    written = torch.load(theirs, weights_only=True)
    assert all(torch.equal(written[n], v) for n, v in upstream_weights(recorded).items())


def test_an_embedded_policy_is_no_llm_file(examples, tmp_path):
    from hpro_core.policy.commands import llm

    save_policy(tmp_path, make_policy(Policy(preset="miniature", path="", dropout=0.0), examples))
    with pytest.raises(HproError, match=r"policy of kind embedded: only cosyvoice2 can be"):
        llm(["export", str(tmp_path), str(tmp_path / "llm.pt")], standalone_mode=False)


def edit_llm(folder, change):
    weights = torch.load(folder / "llm.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "llm.pt")


def edit_config(folder, **changes):
    path = folder / QWEN_FOLDER / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def rename_to_first_version(weights):
    weights["text_encoder.embed.out.0.weight"] = weights.pop("llm_embedding.weight")


def fold_specials_as_third_version(weights):
    del weights["llm_embedding.weight"], weights["llm_decoder.bias"]
    weights["speech_embedding.weight"] = torch.zeros(6761, 16)


SPEECH = "speech_embedding.weight"
HEAD, TABLE = "llm.model.lm_head.weight", "llm.model.model.embed_tokens.weight"
NORM = "llm.model.model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "llm.pt").unlink(), r"llm.pt does not exist: get it"),
        (lambda f: (f / "llm.pt").write_bytes(b"not a file"), r"llm.pt is not a PyTorch file"),
        (lambda f: (f / "llm.pt").write_bytes(b""), r"llm.pt is not a PyTorch file"),
        (lambda f: torch.save({"a": Path("x")}, f / "llm.pt"), r"objects that could run code"),
        (lambda f: torch.save([1], f / "llm.pt"), r"holds a list: save a plain"),
        (lambda f: torch.save({"lr": 0.1}, f / "llm.pt"), r"'lr' is not a weight"),
        (lambda f: edit_llm(f, rename_to_first_version), r"is of CosyVoice 1: use the llm.pt of"),
        (lambda f: edit_llm(f, fold_specials_as_third_version), r"is of CosyVoice 3: use"),
        (
            lambda f: edit_llm(f, lambda w: w.update({SPEECH: torch.ones(4099, 16)})),
            r"has 4096 speech tokens, but 6561 are expected",
        ),
        (lambda f: edit_llm(f, lambda w: w.pop(NORM)), rf"lacks {NORM} \(1 such names\)"),
        (
            lambda f: edit_llm(f, lambda w: w.update(extra=torch.ones(1))),
            r"has the unknown extra \(1 such names\)",
        ),
        (
            lambda f: edit_llm(f, lambda w: w.update({f"module.{NORM}": w.pop(NORM)})),
            rf"lacks {NORM} .* and has the unknown module.{NORM}.*save the merged model only",
        ),
        (
            lambda f: edit_llm(f, lambda w: w.update({HEAD: w[HEAD] + 1})),
            rf"{HEAD} differs from {TABLE}",
        ),
        (lambda f: edit_config(f, vocab_size=98), r"has shape \(97, 16\), but .* gives \(98, 16\)"),
        (lambda f: edit_config(f, hidden_size=32), r"gives .*: use files of one model"),
        (lambda f: edit_config(f, num_hidden_layers=3), r"lacks llm.model.model.layers.2"),
        (lambda f: edit_config(f, tie_word_embeddings=False), r"tie_word_embeddings is False"),
        (lambda f: edit_config(f, model_type="llama"), r"model_type is 'llama', but .* 'qwen2'"),
        (lambda f: edit_config(f, rope_theta=...), r"config.json lacks 'rope_theta'"),
        (
            lambda f: (f / QWEN_FOLDER / "config.json").unlink(),
            r"config.json does not exist: copy the folder CosyVoice-BlankEN",
        ),
    ],
)
def test_a_wrong_file_is_named_in_one_line(model_folder, spoil, message):
    spoil(model_folder)
    with pytest.raises(HproError, match=message) as caught:
        read_llm(model_folder)
    assert "\n" not in str(caught.value)


def test_both_ways_to_write_the_rotary_base_are_read(model_folder, recorded):
    edit_config(
        model_folder, rope_theta=..., rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    )
    assert asdict(read_llm(model_folder).config) == asdict(recorded.config)
    edit_config(model_folder, rope_parameters={"rope_type": "yarn", "rope_theta": 1e6})
    with pytest.raises(HproError, match=r"rope_type is 'yarn'"):
        read_llm(model_folder)


def published(folder, **changes):
    return Policy(**({"preset": "cosyvoice2", "dropout": 0.0, "path": str(folder)} | changes))


def test_fine_tuning_starts_from_the_published_weights(model_folder, recorded, ragged, examples):
    policy = make_policy(published(model_folder), ragged)
    assert all(
        torch.equal(a, b) for a, b in zip(policy.parameters(), recorded.parameters(), strict=True)
    )
    with pytest.raises(HproError, match=r"the dataset has phones: set dataset.policy_text to"):
        make_policy(published(model_folder), examples)
    foreign = as_example(examples[0], [3, 97], [1])
    with pytest.raises(HproError, match=r"has text token 97, but .* has 97: build the dataset"):
        make_policy(published(model_folder), [foreign])
    with pytest.raises(HproError, match=r"policy.dropout is 0.1, but cosyvoice2 has none"):
        make_policy(published(model_folder, dropout=0.1), ragged)


def test_fine_tuning_from_a_folder_is_checked_alike(tmp_path, recorded, ragged, examples):
    save_policy(tmp_path, recorded)
    policy = make_policy(published("elsewhere"), ragged, checkpointing=True, start=tmp_path)
    assert policy.qwen.checkpointing
    with pytest.raises(HproError, match=r"the dataset has phones: set dataset.policy_text to"):
        make_policy(published("elsewhere"), examples, start=tmp_path)
    with pytest.raises(HproError, match=r"policy.dropout is 0.1, but cosyvoice2 has none"):
        make_policy(published("elsewhere", dropout=0.1), ragged, start=tmp_path)


def test_fine_tuning_guides_are_refused(model_folder, ragged):
    policy = make_policy(published(model_folder), ragged)
    for guide, emotion in ((0.3, 0.0), (0.0, 0.3)):
        with pytest.raises(
            HproError, match=rf"guided_attention_weight is {guide} and emotion_weight is {emotion},"
        ):
            sft_terms(policy, batch_of(ragged), guide, emotion)


def test_one_batch_can_be_learnt(ragged):
    torch.manual_seed(0)
    policy = CosyVoice2LM(TINY)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-2)
    batch, values = batch_of(ragged), []
    for _ in range(60):
        terms = sft_terms(policy, batch, guided_attention_weight=0.0, emotion_weight=0.0)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["ce"].detach()))
    assert values[-1] < 0.05 * values[0]
    how = Sampling("greedy", 0.8, 25, 1.0, min_ratio=0.0, max_ratio=10.0)
    spoken = sample(policy.eval(), batch, [torch.Generator() for _ in ragged], how)
    for result, example in zip(spoken, ragged, strict=True):
        assert result.stopped
        assert result.tokens.tolist() == example.tokens.tolist()


def test_published_to_fine_tuned_and_back(model_folder, ragged, tmp_path):
    """All the way: a CosyVoice2 folder in, two steps in four micro-batches, an llm.pt out."""
    settings = Sft(
        steps=2, batch_size=3, learning_rate=1e-3, guided_attention_weight=0.0, emotion_weight=0.0,
        history_noise=0.0, noise_warmup=0.0, clip_norm=5.0, decay_fraction=0.0, ema=0.0,
    )  # fmt: skip
    out = {}
    for accumulate in (1, 3):
        cut = {"accumulate": accumulate, "checkpointing": accumulate > 1}
        run = run_in(tmp_path / f"results_{accumulate}")
        write_dataset(run.root, ragged, ragged)
        train_sft(run, published(model_folder), settings.model_copy(update=cut), seed=0)
        out[accumulate] = load_policy(run.root / "policy/sft/seed0")
        assert isinstance(out[accumulate], CosyVoice2LM)
    start = read_llm(model_folder)
    names = dict(start.named_parameters())
    moved = 0
    for name, value in out[1].named_parameters():
        torch.testing.assert_close(value, out[3].get_parameter(name), atol=2e-5, rtol=0)
        moved += int(not torch.equal(value, names[name]))
    assert moved == len(names)
    write_llm(out[1], model_folder / "llm.pt")
    batch = batch_of(ragged)
    assert torch.equal(read_llm(model_folder)(batch).logits_BLV, out[1](batch).logits_BLV)


def test_the_end_is_among_the_targets(recorded, ragged):
    with torch.no_grad():
        base = sft_terms(recorded, batch_of(ragged), 0.0, 0.0)["ce"]
        recorded.speech_head.bias[END_OF_SPEECH] -= 5
        assert sft_terms(recorded, batch_of(ragged), 0.0, 0.0)["ce"] > base + 0.1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 10**6),
        ("hidden_size", "16"),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", {}),
        ("intermediate_size", 10**12),
        ("vocab_size", 10**12),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("rope_theta", [[]]),
        ("rope_theta", "many"),
        ("rms_norm_eps", None),
        ("rope_parameters", ["x"]),
    ],
)
def test_odd_sizes_are_named_before_memory_is_taken(model_folder, key, value):
    path = model_folder / QWEN_FOLDER / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "rope_parameters": None, "rope_theta": 1e6, key: value}))
    if key == "rope_parameters":
        read_llm(model_folder)  # the older place of the rotary base counts
        return
    with pytest.raises(HproError, match=r"config\.json"):
        read_llm(model_folder)
