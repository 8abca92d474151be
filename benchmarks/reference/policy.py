"""The small policy by transformers' Qwen2Model, over the whole sequence at every call.

No key-value cache, eager attention, and all layers' attention weights computed where one is read.
Letters: B batch, S text symbol, L speech token, P = L + 1 position, V output class.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2Config, Qwen2Model

from hpro_core.train.batching import Batch
from reference.tables import token_rows

GUIDED_LAYER, GUIDED_HEAD = 1, 0


@dataclass(frozen=True)
class Read:
    """What the policy makes of a batch, as `hpro_core.policy.interface.Output`."""

    logits_BPV: Tensor
    text_attention_BPS: Tensor
    emotion_B9: Tensor


class Policy:
    """A policy of the base, as it is stored: one tensor per name."""

    def __init__(self, folder: Path):
        """`folder`: with model.safetensors (float32) and config.json."""
        self.weights = load_file(folder / "model.safetensors")
        self.sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
        config = Qwen2Config(
            vocab_size=1,
            hidden_size=self.sizes["width"],
            intermediate_size=self.sizes["hidden"],
            num_hidden_layers=self.sizes["blocks"],
            num_attention_heads=self.sizes["heads"],
            num_key_value_heads=self.sizes["heads"],
            max_position_embeddings=4096,
            use_cache=False,
            pad_token_id=None,
        )
        config._attn_implementation = "eager"
        self.qwen = Qwen2Model(config).eval()
        self.qwen.load_state_dict(
            {n.removeprefix("qwen."): w for n, w in self.weights.items() if n.startswith("qwen.")}
        )
        for name, parameter in self.qwen.named_parameters():
            self.weights[f"qwen.{name}"] = parameter
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Vectors of the speech tokens, as they are read and as they are predicted, (V, D)."""
        speech, head = (token_rows(self.weights, f"speech_{n}") for n in ("embedding", "head"))
        return speech, head

    def read(self, batch: Batch, tables: tuple[Tensor, Tensor] | None = None) -> Read:
        """Predict every speech token of the batch from its history.

        Args:
            batch: texts, references and histories.
            tables: from `tables`, where the weights have not changed since.
        """
        w = self.weights
        speech_VD, head_VD = tables or self.tables()
        rows = len(batch.symbols_BS)
        n_symbols, n_tokens = batch.symbols_BS.shape[1], batch.history_BL.shape[1]
        begin, turn = (special.expand(rows, 1, -1) for special in w["special_embedding.weight"])
        voice = functional.linear(
            batch.reference_BE, w["reference_projection.weight"], w["reference_projection.bias"]
        )
        text = w["text_embedding.weight"][batch.symbols_BS]
        speech = speech_VD[batch.history_BL]
        vectors = torch.cat([begin, voice[:, None], text, turn, speech], dim=1)
        places = [-2.0, -1.0]
        places += [symbol * self.sizes["tokens_per_symbol"] for symbol in range(n_symbols)]
        places += [float(token) for token in range(n_tokens + 1)]  # "turn" is at 0
        real = torch.zeros(vectors.shape[:2], dtype=torch.long)
        for row in range(rows):
            symbols, tokens = int(batch.symbol_lengths_B[row]), int(batch.token_lengths_B[row])
            real[row, : 2 + symbols] = 1
            real[row, 2 + n_symbols : 3 + n_symbols + tokens] = 1
        output = self.qwen(
            inputs_embeds=vectors,
            position_ids=torch.tensor(places).expand(rows, -1),
            attention_mask=real,
            output_attentions=True,
        )
        hidden = output.last_hidden_state[:, 2 + n_symbols :]
        attention = output.attentions[GUIDED_LAYER][:, GUIDED_HEAD]
        return Read(
            logits_BPV=functional.linear(hidden, head_VD, w["head_bias"]),
            text_attention_BPS=attention[:, 2 + n_symbols :, 2 : 2 + n_symbols],
            emotion_B9=functional.linear(
                hidden[:, 0], w["emotion_head.weight"], w["emotion_head.bias"]
            ),
        )
