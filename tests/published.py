"""Published models in their true formats at tiny sizes, with random weights, and clips of noise."""

import dataclasses
import json
import re
import sys
from types import ModuleType

import numpy as np
import onnx
import soundfile
import torch
import yaml
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from torch import nn
from torchaudio.models import wav2vec2_model
from transformers import Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMForXVector
from whisper.model import ModelDimensions, Whisper

from hpro_core.label.teachers import AlignedUtterance

PUBLISHED_ORDER = ("arousal", "dominance", "valence")
"""Of audeering's outputs."""


def save_audeering(folder, form="safetensors", **changes):
    """A model folder: the published config.json at a tiny size, weights named as in 2022."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, mask_time_prob=0.05,
        id2label=dict(enumerate(PUBLISHED_ORDER)), final_dropout=0.1, problem_type="regression",
        architectures=["Wav2Vec2ForSpeechClassification"],
    )  # fmt: skip
    config.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values |= {"pooling_mode": "mean", "finetuning_task": "wav2vec2_reg", "vocab_size": None}
    (folder / "config.json").write_text(json.dumps(values | changes))
    save_preprocessor(folder, do_normalize=True)
    weights = {f"wav2vec2.{old_name(n)}": v for n, v in Wav2Vec2Model(config).state_dict().items()}
    weights |= {
        "classifier.dense.weight": torch.randn(32, 32),
        "classifier.dense.bias": torch.randn(32),
        "classifier.out_proj.weight": 0.02 * torch.randn(3, 32),
        "classifier.out_proj.bias": torch.full((3,), 0.5),
    }
    save_weights(folder, weights, form)
    return folder


def save_preprocessor(folder, do_normalize):
    """What both models are published with, but for one value."""
    values = {
        "do_normalize": do_normalize, "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": True, "sampling_rate": 16000,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def save_weights(folder, weights, form):
    weights = {name: value.clone().contiguous() for name, value in weights.items()}
    if form == "safetensors":
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")


def old_name(name):
    for number, letter in enumerate("gv"):
        name = name.replace(f"parametrizations.weight.original{number}", f"weight_{letter}")
    return name


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def utterance(folder, utt_id, spans_s, seconds=2.0, seed=0):
    """Noise whose level changes from word to word."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 0.02, round(16000 * seconds))
    for start_s, end_s in spans_s:
        inside = slice(round(16000 * start_s), round(16000 * end_s))
        samples[inside] *= generator.uniform(0.5, 10)
    soundfile.write(folder / f"{utt_id}.wav", samples, 16000, subtype="FLOAT")
    words = tuple("abcdefgh"[: len(spans_s)])
    spans = np.array(spans_s, dtype=np.float64)
    return AlignedUtterance(utt_id, "ann", " ".join(words), words, spans, folder / f"{utt_id}.wav")


SPANS = [(0.1, 0.35), (0.35, 0.4), (0.6, 1.1), (1.1, 1.15), (1.5, 1.98)]


TOKENS = """生气/angry
厌恶/disgusted
恐惧/fearful
开心/happy
中立/neutral
其他/other
难过/sad
吃惊/surprised
<unk>"""
SIZES = yaml.safe_load("""
  {depth: 1, embed_dim: 16, num_heads: 2, mlp_ratio: 2.0, norm_eps: 1.0e-5, norm_affine: true,
   encoder_dropout: 0.1, attention_dropout: 0.1, activation_dropout: 0.0, post_mlp_drop: 0.1,
   dropout_input: 0.0, layerdrop: 0.05, start_drop_path_rate: 0.0, end_drop_path_rate: 0.0,
   layer_norm_first: false, end_of_block_targets: false, average_top_k_layers: 1, loss_beta: 0.0,
   loss_scale: null, clone_batch: 2, normalize: true,
   modalities: {audio: {
     feature_encoder_spec: '[(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] + [(8, 2, 2)]',
     extractor_mode: layer_norm, conv_pos_depth: 2, conv_pos_width: 9, conv_pos_groups: 4,
     conv_pos_pre_ln: false, start_drop_path_rate: 0.0, end_drop_path_rate: 0.0, prenet_depth: 1,
     model_depth: 1, prenet_layerdrop: 0.0, prenet_dropout: 0.1, num_extra_tokens: 2,
     init_extra_token_zero: true, local_grad_mult: 1.0, use_alibi_encoder: true,
     learned_alibi: false, alibi_max_pos: null, alibi_scale: 1.0, num_alibi_heads: 2,
     learned_alibi_scale: true, learned_alibi_scale_per_head: true,
     learned_alibi_scale_per_layer: false, mask_noise_std: 0.01,
     decoder: {input_dropout: 0.1, decoder_dim: 8, decoder_groups: 2, decoder_kernel: 3,
               decoder_layers: 1, decoder_residual: true, projection_layers: 1,
               projection_ratio: 2.0, add_positions_masked: false, add_positions_all: false}}}}
""")
DECODER = "modality_encoders.AUDIO.decoder."


class StandIn(torch.nn.Module):
    """What is used of funasr.models.emotion2vec.model.Emotion2vec; loudness decides the class."""

    def __init__(self, model_conf, vocab_size):
        super().__init__()
        self.width = model_conf["embed_dim"]
        encoder = torch.nn.Module()
        encoder.scale = torch.nn.Parameter(torch.ones(self.width))
        encoder.decoder = torch.nn.Linear(2, 2)
        self.modality_encoders = torch.nn.ModuleDict({"AUDIO": encoder})
        self.proj = torch.nn.Linear(self.width, vocab_size)

    def inference(self, data_in, key, tokenizer, device, granularity, extract_embedding):
        assert (granularity, extract_embedding, self.training) == ("utterance", False, False)
        results = []
        for utt_id, samples_T in zip(key, data_in, strict=True):
            level = samples_T.to(device).pow(2).mean().sqrt()
            logits = self.proj(level * self.modality_encoders["AUDIO"].scale)
            unused = torch.tensor([t.startswith("unuse") for t in tokenizer.token_list])
            scores = logits.masked_fill(unused, -torch.inf).softmax(-1).tolist()
            kept = [not each for each in unused.tolist()]
            results.append(
                {
                    "key": utt_id,
                    "labels": [t for t, k in zip(tokenizer.token_list, kept, strict=True) if k],
                    "scores": [s for s, k in zip(scores, kept, strict=True) if k],
                }
            )
        return results, {}


def use_stand_in(monkeypatch):
    """A stand-in for the package FunASR."""
    module = ModuleType("funasr.models.emotion2vec.model")
    module.Emotion2vec = StandIn
    monkeypatch.setitem(sys.modules, module.__name__, module)


def save_emotion2vec(folder, model=None, tokens=TOKENS, change=lambda weights: None, **conf):
    """A model folder: a fairseq checkpoint whose encoder is in the scope of the fine-tuning."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model or StandIn(SIZES, len(tokens.split()))
    torch.manual_seed(0)
    config = {"model": "Emotion2vec", "model_conf": SIZES, "tokenizer": "CharTokenizer"} | conf
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "tokens.txt").write_text(tokens, encoding="utf-8")
    weights = {
        name if name.startswith("proj.") else f"d2v_model.{name}": torch.randn_like(value)
        for name, value in model.state_dict().items()
        if not name.startswith(DECODER)
    }
    change(weights)
    state = {"model": weights, "args": None, "cfg": {"task": "x"}, "optimizer_history": []}
    torch.save(state, folder / "model.pt")
    return folder


def save_whisper(path, n_mels=128, change=lambda state: None):
    """A checkpoint as OpenAI publishes large-v3's, weights in half precision."""
    dims = ModelDimensions(n_mels, 1500, 32, 2, 1, 51866, 448, 32, 2, 2)
    torch.manual_seed(0)
    model = Whisper(dims)
    for name, weight in model.named_parameters():  # small ones where a token would repeat itself
        torch.nn.init.normal_(weight, std=0.02 if "token_embedding" in name else 1.0)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    state = {"dims": dataclasses.asdict(dims), "model_state_dict": weights}
    change(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def save_wavlm(folder, form="bin", change=lambda weights: None, **changes):
    """A model folder of a speaker verifier, weights named as in 2021, with the loss's own."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="group", tdnn_dim=(16, 16, 16, 16, 24), xvector_output_dim=20,
        use_weighted_layer_sum=True, mask_time_prob=0.05, num_buckets=32,
        architectures=["WavLMForXVector"],
    )  # fmt: skip
    config.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    save_preprocessor(folder, do_normalize=False)
    model = WavLMForXVector(config)
    weights = {old_name(name): torch.randn_like(v) / 4 for name, v in model.state_dict().items()}
    weights["objective.weight"] = torch.randn(20, 1211)  # over the speakers of its training
    change(weights)
    save_weights(folder, weights, form)
    return folder


def die_after_four(monkeypatch):
    """Let emotion2vec's stand-in be killed at its fourth clip; gives all that it is asked."""
    heard, original = [], StandIn.inference

    def dying(self, data_in, key, **how):
        heard.extend(key)
        if len(heard) == 4:
            raise KeyboardInterrupt
        return original(self, data_in, key, **how)

    monkeypatch.setattr(StandIn, "inference", dying)
    return heard


def save_scoreq(path, outputs=1):
    """An ONNX file with the published input and output: the mean square times 1, 2, ... ."""
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [1, outputs], range(1, outputs + 1))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["audio_input", "audio_input"], ["squares"]),
            helper.make_node("ReduceMean", ["squares", "axes"], ["power"], keepdims=1),
            helper.make_node("MatMul", ["power", "factors"], ["mos_output"]),
        ],
        "scoreq",
        [helper.make_tensor_value_info("audio_input", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("mos_output", TensorProto.FLOAT, ["batch", outputs])],
        [factors, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


UTMOS_NAMES = (
    (r"^feature_extractor\.conv_layers\.0\.layer_norm", "feature_extractor.conv_layers.0.2"),
    (r"^(feature_extractor\.conv_layers\.\d)\.conv", r"\1.0"),
    (r"^encoder\.feature_projection\.layer_norm", "layer_norm"),
    (r"^encoder\.feature_projection\.projection", "post_extract_proj"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
    (r"pos_conv_embed\.conv", "pos_conv.0"),
    (r"^encoder\.transformer\.", "encoder."),
    (r"(layers\.\d)\.layer_norm", r"\1.self_attn_layer_norm"),
    (r"\.attention\.", ".self_attn."),
    (r"\.feed_forward\.intermediate_dense", ".fc1"),
    (r"\.feed_forward\.output_dense", ".fc2"),
)
"""Pattern in a name of torchaudio's wav2vec2 -> the name in fairseq's and UTMOS's file."""


def save_utmos(path):
    """Write the published file at a tiny size; returns its parts as other implementations."""
    torch.manual_seed(0)
    encoder = wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
        extractor_conv_bias=False,
        encoder_embed_dim=128,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=8,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=2,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=16,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.1,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()
    head = nn.ModuleDict(
        {
            "blstm": nn.LSTM(128 + 3 + 5, 6, batch_first=True, bidirectional=True),
            "projection": nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 1)),
        }
    )
    condition = {"domain_emb": torch.randn(1, 3), "judge_emb": torch.randn(1, 5)}
    weights = {f"wav2vec2.{fairseq_name(n)}": w for n, w in encoder.state_dict().items()}
    weights["wav2vec2.mask_emb"] = torch.randn(128)
    torch.save({**weights, **condition, **head.state_dict()}, path)
    return encoder, head, condition


def fairseq_name(name):
    for pattern, theirs in UTMOS_NAMES:
        name = re.sub(pattern, theirs, name)
    return name


NISQA_ARGS = {
    **{"ms_sr": None, "ms_fmax": 20000, "ms_n_fft": 4096, "ms_hop_length": 0.01},
    **{"ms_win_length": 0.02, "ms_n_mels": 48, "ms_seg_length": 15, "ms_seg_hop_length": 4},
    **{"cnn_model": "adapt", "cnn_c_out_1": 3, "cnn_c_out_2": 4, "cnn_c_out_3": 5},
    **{"cnn_kernel_size": (3, 3), "cnn_fc_out_h": None, "cnn_pool_1": [24, 7]},
    **{"cnn_pool_2": [12, 5], "cnn_pool_3": [6, 3], "td": "self_att", "td_sa_d_model": 8},
    **{"td_sa_nhead": 1, "td_sa_pos_enc": False, "td_sa_num_layers": 2, "td_sa_h": 6},
    **{"td_2": "skip", "pool": "att", "pool_att_h": 7, "double_ended": False, "dim": True},
}


def nisqa_shapes():
    """Names and shapes in the published file, at the sizes of NISQA_ARGS."""
    outs, shapes = (1, 3, 4, 5, 5, 5, 5), {}
    for i in range(1, 7):
        shapes[f"cnn.model.conv{i}.weight"] = (outs[i], outs[i - 1], 3, 3)
        shapes[f"cnn.model.conv{i}.bias"] = (outs[i],)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"cnn.model.bn{i}.{part}"] = (outs[i],)
        shapes[f"cnn.model.bn{i}.num_batches_tracked"] = ()
    start = "time_dependency.model."
    shapes |= {f"{start}norm1.weight": (8,), f"{start}norm1.bias": (8,)}
    shapes |= {f"{start}linear.weight": (8, 30), f"{start}linear.bias": (8,)}
    for layer in (0, 1):
        own = f"{start}layers.{layer}."
        shapes |= {f"{own}self_attn.in_proj_weight": (24, 8), f"{own}self_attn.in_proj_bias": (24,)}
        shapes |= {f"{own}self_attn.out_proj.weight": (8, 8)}
        shapes |= {f"{own}self_attn.out_proj.bias": (8,)}
        shapes |= {f"{own}linear1.weight": (6, 8), f"{own}linear1.bias": (6,)}
        shapes |= {f"{own}linear2.weight": (8, 6), f"{own}linear2.bias": (8,)}
        shapes |= {f"{own}norm{i}.{part}": (8,) for i in (1, 2) for part in ("weight", "bias")}
    for dimension in range(5):
        own = f"pool_layers.{dimension}.model."
        shapes |= {f"{own}linear1.weight": (7, 8), f"{own}linear1.bias": (7,)}
        shapes |= {f"{own}linear2.weight": (1, 7), f"{own}linear2.bias": (1,)}
        shapes |= {f"{own}linear3.weight": (1, 8), f"{own}linear3.bias": (1,)}
    return shapes


def save_nisqa(path, one_head=False, **changes):
    """Write nisqa.tar, or nisqa_mos_only.tar with `one_head`, at a tiny size."""
    torch.manual_seed(1)
    weights = {
        name: torch.tensor(7) if name.endswith("tracked") else torch.randn(shape).abs() * 0.3
        if name.endswith("running_var") else 0.4 * torch.randn(shape)
        for name, shape in nisqa_shapes().items()
    }  # fmt: skip
    kept = weights
    if one_head:
        kept = {n: w for n, w in weights.items() if not re.match(r"pool_layers\.[1-4]", n)}
        kept = {n.replace("pool_layers.0.", "pool."): w for n, w in kept.items()}
    torch.save({"args": NISQA_ARGS | changes, "model_state_dict": kept}, path)
    return weights
