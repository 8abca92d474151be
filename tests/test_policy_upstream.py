"""CosyVoice2's language model against upstream's classes, where they are installed.

What these tests compare on fresh random weights, `test_policy_cosyvoice2` compares with recorded
numbers everywhere.
"""

import json
import random
from functools import partial

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.llm_file import QWEN_FOLDER, read_llm, write_llm
from hpro_core.policy.sampling import Sampling, _draw
from hpro_core.text.tokenizers import load_frontend
from tests.test_policy_cosyvoice2 import as_example, batch_of
from tests.test_text_tokenizers import byte_pairs

llm = pytest.importorskip(
    "cosyvoice.llm.llm",
    reason="the optional package token2wav-cosyvoice is not installed (docs/cosyvoice2.md)",
)
common = pytest.importorskip("cosyvoice.utils.common")

SIZES = CosyVoice2Config(width=48, blocks=3, heads=6, key_heads=2, hidden=80, vocabulary=120)


def upstream_model(folder, config, seed=0):
    """Upstream's Qwen2LM with random weights, its Qwen folder below `folder`."""
    qwen = Qwen2Config(
        hidden_size=config.width,
        num_hidden_layers=config.blocks,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_heads,
        intermediate_size=config.hidden,
        vocab_size=config.vocabulary,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    Qwen2ForCausalLM(qwen).save_pretrained(folder / QWEN_FOLDER)
    encoder = llm.Qwen2Encoder(str(folder / QWEN_FOLDER))
    sampling = partial(common.ras_sampling, top_p=0.8, top_k=25, win_size=10, tau_r=0.1)
    return llm.Qwen2LM(config.width, config.width, 6561, encoder, sampling).eval()


def upstream_logits(model, examples):
    """Its logits at the positions that predict speech, one utterance at a time."""
    seen = []
    handle = model.llm_decoder.register_forward_hook(lambda module, given, out: seen.append(out))
    for example in examples:
        model(
            {
                "text_token": torch.tensor(example.symbols)[None],
                "text_token_len": torch.tensor([len(example.symbols)]),
                "speech_token": torch.tensor(example.tokens)[None],
                "speech_token_len": torch.tensor([len(example.tokens)]),
            },
            torch.device("cpu"),
        )
    handle.remove()
    return [out[0, 1 + len(e.symbols) :] for out, e in zip(seen, examples, strict=True)]


def ragged(examples, vocabulary, sizes=((9, 40), (31, 12), (6, 25)), seed=0):
    rng = np.random.default_rng(seed)
    return [
        as_example(e, rng.integers(0, vocabulary, s), rng.integers(0, 6561, n))
        for e, (s, n) in zip(examples[: len(sizes)], sizes, strict=True)
    ]


def check_agreement(model, ours, made):
    with torch.no_grad():
        theirs, logits = upstream_logits(model, made), ours(batch_of(made)).logits_BLV
    for i, expected in enumerate(theirs):
        torch.testing.assert_close(logits[i, : len(expected)], expected, atol=1e-5, rtol=1e-5)
    assert theirs[0].std() > 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_logits_are_upstreams_on_random_weights(tmp_path, examples, monkeypatch, seed):
    monkeypatch.setattr(random, "random", lambda: 0.9)  # never the bistream layout
    model = upstream_model(tmp_path, SIZES, seed)
    torch.save(model.state_dict() | {"epoch": 0, "step": 1}, tmp_path / "llm.pt")
    check_agreement(model, read_llm(tmp_path), ragged(examples, 120, seed=seed))


def test_upstream_loads_our_file_strictly(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.9)
    torch.manual_seed(3)
    ours = CosyVoice2LM(SIZES).eval()
    write_llm(ours, tmp_path / "llm.pt")
    model = upstream_model(tmp_path, SIZES, seed=4)
    state = torch.load(tmp_path / "llm.pt", weights_only=True)
    assert list(model.load_state_dict(state, strict=True)) == [[], []]
    check_agreement(model, ours, ragged(examples, 120))


@pytest.mark.slow
def test_full_size_agrees_both_ways(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.9)
    torch.manual_seed(0)
    ours = CosyVoice2LM(CosyVoice2Config()).eval()
    write_llm(ours, tmp_path / "llm.pt")
    model = upstream_model(tmp_path, CosyVoice2Config(), seed=1)
    state = torch.load(tmp_path / "llm.pt", weights_only=True)
    model.load_state_dict(state, strict=True)
    check_agreement(model, ours, ragged(examples, 151_936))
    del model, state, ours
    again = read_llm(tmp_path)
    assert again.config == CosyVoice2Config()


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_is_upstreams_given_the_same_numbers(monkeypatch, seed):
    """Upstream's own function, its `multinomial` replaced by the inverse of the cumulative."""
    torch.manual_seed(seed)
    logits = 4 * torch.randn(6564)
    likely = logits.topk(4).indices.tolist()
    past = random.Random(seed).choices(likely, k=12)
    theirs_numbers = torch.Generator().manual_seed(seed)

    def multinomial(values, count, replacement=False):
        cumulative = values.cumsum(0)
        uniform = torch.rand((), generator=theirs_numbers)
        return (cumulative < uniform * cumulative[-1]).sum()[None]

    how = Sampling("ras", 0.8, 25, 1.0, 0.0, 2.0)
    own_numbers = torch.Generator().manual_seed(seed)
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "multinomial", multinomial)
        scores = logits.log_softmax(-1)
        theirs = [
            int(common.ras_sampling(scores, past, 25, top_p=0.8, top_k=25, win_size=10, tau_r=0.1))
            for _ in range(50)
        ]
    ours = [int(_draw(logits[None], [own_numbers], how, [past])[0]) for _ in range(50)]
    assert ours == theirs
    assert len(set(ours)) > 2


def test_text_tokens_are_upstreams(tmp_path):
    tokenizer = pytest.importorskip("cosyvoice.tokenizer.tokenizer")
    folder, _ = byte_pairs(tmp_path / QWEN_FOLDER, {"tokenizer_class": "Qwen2Tokenizer"})
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    theirs = tokenizer.get_qwen_tokenizer(str(folder), skip_special_tokens=True)
    reads = load_frontend(str(folder), "phones")
    for text in (
        "Good day!", " two  blanks ", "It's 25 o'clock\n", "[laughter] so <strong>good</strong>",
        "You are kind.<|endofprompt|>Hello[breath][mn]", "naïve café, 你好",
        "<laughter>oo</laughter>",
    ):  # fmt: skip
        assert reads.policy(text, "")[0] == theirs.encode(text), text
