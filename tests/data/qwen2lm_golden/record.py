"""Record what upstream's Qwen2LM computes at a tiny size: weights, inputs, logits, drawn tokens.

    pip install --no-deps token2wav-cosyvoice==0.1.0   # and what it needs, see docs/cosyvoice2.md
    python tests/data/qwen2lm_golden/record.py tests/data/qwen2lm_golden

Upstream draws by `Tensor.multinomial`. Here every draw is the inverse of the cumulative
distribution at a recorded uniform number instead, so that another sampler can be given the same
numbers; what is drawn from which distribution, and when, stays upstream's.

Upstream hands Qwen2 an attention mask for the newest position alone. The transformers 4 that it was
written for read that as "everything"; transformers 5 reads that the whole cache is hidden. So each
step is computed here from the whole sequence, by upstream's own teacher-forced forward.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from cosyvoice.llm.llm import Qwen2Encoder, Qwen2LM
from cosyvoice.utils.common import ras_sampling
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

SPEECH_TOKENS = 6561
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 97,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
SAMPLING = {"top_p": 0.8, "top_k": 25, "window": 10, "tau": 0.1, "max_ratio": 8.0}
TEXT_LENGTHS, SPEECH_LENGTHS = (7, 4, 6), (9, 5, 7)  # too little speech for the bistream layout
SPOKEN = 6  # sentences that are spoken zero-shot


def tiny_model() -> Qwen2LM:
    """Random weights that float16 can hold; peaked predictions, so that tokens repeat."""
    torch.manual_seed(20261123)
    with tempfile.TemporaryDirectory() as folder:
        Qwen2ForCausalLM(Qwen2Config(**SIZES)).save_pretrained(folder)
        encoder = Qwen2Encoder(folder)
    sampling = partial(
        ras_sampling,
        top_p=SAMPLING["top_p"],
        top_k=SAMPLING["top_k"],
        win_size=SAMPLING["window"],
        tau_r=SAMPLING["tau"],
    )
    model = Qwen2LM(16, 16, SPEECH_TOKENS, encoder, sampling)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.copy_(1 + 0.2 * torch.randn_like(value))
            else:
                value.copy_(torch.randn_like(value) * (0.3 if "layers" in name else 1.0))
        model.llm_decoder.bias.zero_()
        model.llm_decoder.bias[SPEECH_TOKENS] = 10.0  # some sentences end, some do not
        model.llm_decoder.bias[SPEECH_TOKENS + 1 :] = -60.0  # upstream's handling of these varies
        for value in model.parameters():
            value.copy_(value.half().float())
    return model.eval()


def teacher_forced(model: Qwen2LM) -> dict[str, Tensor]:
    """Logits of a ragged batch, with the loss and accuracy that upstream makes of them."""
    texts = [torch.randint(0, 97, (n,)) for n in TEXT_LENGTHS]
    speech = [torch.randint(0, SPEECH_TOKENS, (n,)) for n in SPEECH_LENGTHS]
    batch = {
        "text_token": torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
        "text_token_len": torch.tensor(TEXT_LENGTHS),
        "speech_token": torch.nn.utils.rnn.pad_sequence(speech, batch_first=True),
        "speech_token_len": torch.tensor(SPEECH_LENGTHS),
    }
    seen: list[Tensor] = []
    handle = model.llm_decoder.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        result = model(batch, torch.device("cpu"))
    handle.remove()
    rows = zip(seen[0], TEXT_LENGTHS, SPEECH_LENGTHS, strict=True)
    logits = {f"logits.{i}": row[1 + s : 2 + s + n].clone() for i, (row, s, n) in enumerate(rows)}
    return {**batch, **logits, "loss": result["loss"], "accuracy": result["acc"]}


def uncached(encoder: Qwen2Encoder) -> Callable[..., tuple[Tensor, Tensor]]:
    """Upstream's `forward_one_step` without its cache: what is remembered is the input so far."""

    def step(xs: Tensor, masks: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        whole = xs if cache is None else torch.cat([cache, xs], dim=1)
        hidden, _ = encoder(whole, torch.tensor([whole.shape[1]]))
        return hidden, whole

    return step


def spoken(model: Qwen2LM, index: int) -> tuple[dict[str, Tensor], int]:
    """One sentence zero-shot, the seed of its uniform numbers, and how many draws were repeated."""
    generator = torch.Generator().manual_seed(index)
    prompt_text, text = (torch.randint(0, 97, (1, 3 + (index + k) % 4)) for k in range(2))
    prompt_speech = torch.randint(0, SPEECH_TOKENS, (1, 5 + index))
    sizes: list[int] = []

    def multinomial(values: Tensor, count: int, replacement: bool = False) -> Tensor:
        sizes.append(len(values))
        cumulative = values.cumsum(0)
        uniform = torch.rand((), generator=generator)
        return (cumulative < uniform * cumulative[-1]).sum()[None]

    original = torch.Tensor.multinomial
    torch.Tensor.multinomial = multinomial
    try:
        drawn = list(
            model.inference(
                text,
                torch.tensor([text.shape[1]]),
                prompt_text,
                torch.tensor([prompt_text.shape[1]]),
                prompt_speech,
                torch.tensor([prompt_speech.shape[1]]),
                torch.zeros(0, 192),
                max_token_text_ratio=SAMPLING["max_ratio"],
                min_token_text_ratio=0,
            )
        )
    finally:
        torch.Tensor.multinomial = original
    tensors = {
        "text": text[0],
        "prompt_text": prompt_text[0],
        "prompt_speech": prompt_speech[0],
        "drawn": torch.tensor(drawn, dtype=torch.int64),
    }
    named = {f"spoken.{index}.{name}": value for name, value in tensors.items()}
    return named, sum(size > SAMPLING["top_k"] for size in sizes)


def main(folder: Path) -> None:
    model = tiny_model()
    model.llm.forward_one_step = uncached(model.llm)
    tensors = {f"weights.{n}": v.half().clone() for n, v in model.state_dict().items()}
    tensors |= teacher_forced(model)
    redrawn = []
    for index in range(SPOKEN):
        named, repeats = spoken(model, index)
        tensors |= named
        redrawn.append(repeats)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / "golden.safetensors")
    facts = {"config": {"model_type": "qwen2", **SIZES}, "sampling": SAMPLING, "redrawn": redrawn}
    (folder / "golden.json").write_text(json.dumps(facts, indent=2) + "\n")
    lengths = [len(tensors[f"spoken.{i}.drawn"]) for i in range(SPOKEN)]
    print(f"tokens {lengths}, of them redrawn {redrawn}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
