"""Small valid files of every kind that the project reads, most of them made by its own code.

Each function fills a folder of its own; `build` makes all of them. The same code makes the same
bytes: mutant 123 of a seed is the same in every run.
"""

import csv
import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pandas as pd
import soundfile
import torch
import yaml
from onnx import TensorProto, helper
from safetensors.torch import load_file
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hpro_core import io as files
from hpro_core import records, tables
from hpro_core.align.jobs import WordSpan
from hpro_core.align.textgrid import write_words
from hpro_core.codec.model import CodecConfig, HdEmo
from hpro_core.judges import affect
from hpro_core.label import result_cache as label_shards
from hpro_core.listening.design import read_design, with_id, write_design
from hpro_core.params import Dataset
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.sft import make_policy, save_policy
from hpro_core.pretrained import base
from hpro_core.say.policy_folder import write_sums
from hpro_core.shards import write as write_shards
from hpro_core.speech.tokenizer import SpeechTokenizer, TokenizerConfig
from hpro_core.speech.vocoder import ISTFT, Vocoder, VocoderConfig
from hpro_core.text.phones import N_TRANSCRIPT_SYMBOLS
from hpro_core.train.checkpoint import save_model
from hpro_core.train.loop import Loop, fit
from hpro_core.train.model_selection import ModelSelection
from tests import published, test_queen_file, test_report, test_text_tokenizers
from tests.conftest import make_example
from tests.fuzz.containers import tarred, zipped
from tests.fuzz.sounds import sealed_page
from tests.listening import (
    Deviations,
    Population,
    answers_of,
    built,
    spoken_folders,
    write_csv,
    write_json,
)
from tests.rank_training import POLICY

REPO = Path(__file__).parents[2]
GOLDEN = REPO / "tests" / "data"
SMALL_CODEC = CodecConfig(
    width=16, extractor_blocks=1, adapter_blocks=1, heads=2, hidden=16, combiner_blocks=1,
    combiner_heads=2, combiner_hidden=16, emotion_heads=2, text_vocabulary=N_TRANSCRIPT_SYMBOLS,
    text_width=16, text_blocks=1, text_heads=2, text_hidden=16, text_positions=40,
    factored_embedding=True, memory_positions=True,
)  # fmt: skip
SMALL_QWEN = CosyVoice2Config(
    width=8, blocks=1, heads=2, key_heads=1, hidden=8, vocabulary=30, rope_theta=1e6
)
SYSTEMS = ("recordings", "sft", "hpro")
"""Rows of the tables of the run that `run` makes."""

IDENTITY = "of these settings"
"""Of the checkpoints, and of the shards of labels."""


def build(store: Path, groups: Collection[str]) -> None:
    """Make artefacts, a folder for each group of them.

    Args:
        store: a folder that does not exist yet.
        groups: names of `GROUPS`, or "corpora/" and the name of a published reader.
    """
    for name in sorted(groups):
        (store / name).mkdir(parents=True)
        torch.manual_seed(0)
        if name.startswith("corpora/"):
            import_module(f"tests.{name.replace('/', '.')}").build(store / name)
        else:
            GROUPS[name](store / name)
    for path in sorted(store.rglob("*")):
        if path.suffix in (".wav", ".ogg"):
            path.write_bytes(timeless(path.read_bytes()))


def timeless(content: bytes) -> bytes:
    """Audio without the time of its making, which libsndfile writes into PEAK chunks and Ogg."""
    raw = bytearray(content)
    if (at := content.find(b"PEAK")) >= 0:
        raw[at + 12 : at + 16] = bytes(4)
    for start in [i for i in range(len(raw)) if raw.startswith(b"OggS", i)]:
        sizes = raw[start + 27 : start + 27 + raw[start + 26]]
        end = start + 27 + len(sizes) + sum(sizes)
        raw[start + 14 : start + 18] = b"hpro"
        raw[start:end] = sealed_page(bytes(raw[start:end]))
    return bytes(raw)


def formats(folder: Path) -> None:
    """One file of each format of `hpro_core.io`."""
    files.write_json(folder / "a.json", {"a": 1, "b": [1.5, None, "x"], "c": {"d": True}})
    (folder / "a.yaml").write_text("# a comment\na: 1\nb: {c: 1.0e-5, d: [x, y]}\ne: 'text'\n")
    (folder / "a.csv").write_text("step,split,term,value\n0,dev,loss,1.5\n20,train,loss,nan\n")
    files.write_npy(folder / "a.npy", np.arange(8, dtype=np.uint64))
    members = [("a.txt", b"some text\n" * 20), ("b/c.txt", b"more"), ("d.bin", bytes(500))]
    (folder / "a.zip").write_bytes(zipped(members, zipfile.ZIP_DEFLATED))
    files.write_safetensors(folder / "a.safetensors", {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4), "b.c": np.ones(5, dtype=np.int8),
        "d": np.float16([[0.5]]),
    })  # fmt: skip
    files.write_pt(folder / "a.pt", {"a": torch.arange(6.0), "b": {"c": [1, 2.5, "x"]}, "step": 3})
    soundfile.write(folder / "a.wav", _tone(), 16_000, subtype="PCM_16")


def sounds(folder: Path) -> None:
    """Audio in the formats in which corpora come."""
    tone = _tone(seconds=0.4)
    stereo = np.stack([tone, tone / 2], axis=1)
    soundfile.write(folder / "pcm.wav", tone, 16_000, subtype="PCM_16")
    soundfile.write(folder / "float.wav", stereo, 44_100, subtype="FLOAT")
    soundfile.write(folder / "extensible.wav", stereo, 48_000, format="WAVEX", subtype="PCM_24")
    soundfile.write(folder / "law.wav", tone, 8_000, subtype="ULAW")
    soundfile.write(folder / "adpcm.wav", tone, 16_000, subtype="MS_ADPCM")
    soundfile.write(folder / "a.flac", tone, 16_000)
    soundfile.write(folder / "a.mp3", tone, 16_000)
    soundfile.write(folder / "a.ogg", tone, 16_000)


def _tone(seconds: float = 0.25) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(16_000 * seconds)) / 16_000)


def own_corpus(folder: Path) -> None:
    """A corpus for the reader `csv`."""
    rows = ["utterance,speaker,text,audio,emotion,split,group"]
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", _tone(0.5), 16_000, subtype="PCM_16")
        row = f'u{number},ann,"Well, number {number}.",{number}.wav,happy,train,scene{number // 2}'
        rows.append(row)
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def settings(folder: Path) -> None:
    """params.yaml as it ships, differences for it, and the extract that a stage gets."""
    shutil.copy(REPO / "params.yaml", folder / "params.yaml")
    whole = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    small = {
        "run": "small",
        "seeds": [0, 1],
        "sft": {"steps": 7},
        "corpus": {"sets": {"acted": None}},
    }
    (folder / "other.yaml").write_text("# differences\n" + yaml.safe_dump(small))
    extract = {name: whole[name] for name in ("sft", "policy", "compute")}
    (folder / "sft.yaml").write_text(yaml.safe_dump(extract))


def models(folder: Path) -> None:
    """Untrained small models as trainings write them, and a run that a base is made of."""
    examples = [make_example(i, 24 + 5 * i, n_words=3) for i in range(4)]
    save_policy(folder / "policy", make_policy(POLICY, examples), variant="sft", rewarded_steps=3)
    codec = HdEmo(SMALL_CODEC)
    save_model(folder / "codec", codec, {"model": vars(codec.config)})
    tokenizer = SpeechTokenizer(
        TokenizerConfig(width=8, speaker_dim=4, encoder_blocks=1, decoder_blocks=1, frame_blocks=1)
    )
    save_model(folder / "tokenizer", tokenizer, {"model": vars(tokenizer.config)})
    vocoder = Vocoder(VocoderConfig(width=8, blocks=1, pitch_width=8, pitch_blocks=1))
    save_model(folder / "vocoder", vocoder, {"kind": ISTFT, "model": vars(vocoder.config)})
    grade = affect.Grade(corpus="shouts", recordings=223, classes=4, recall=0.6)
    judge = affect.AffectJudge({"acted": 3, "controlled": 2}, grade)
    scale = affect.Scale(["train", "dev"], 40, torch.ones(2, affect.N_CHANNELS))
    affect.write_scales(folder / affect.SCALES, {"mine": scale})
    affect.save(judge, folder / "judge")
    save_policy(folder / "qwen", CosyVoice2LM(SMALL_QWEN))
    shutil.copytree(folder / "tokenizer", folder / "root/speech/tokenizer")
    shutil.copytree(folder / "vocoder", folder / "root/speech/vocoder")


def say(folder: Path) -> None:
    """A file of sentences, and an exported policy."""
    soundfile.write(folder / "r.wav", _tone(1.0), 16_000, subtype="PCM_16")
    (folder / "sentences.csv").write_text(
        'text,reference,out\n"Well, go home.",r.wav,a.wav\nNo.,r.wav,\n', encoding="utf-8"
    )
    models(folder / "made")
    shutil.copytree(folder / "made/policy", folder / "exported")
    shutil.copytree(folder / "made/tokenizer", folder / "exported/tokenizer")
    shutil.copytree(folder / "made/vocoder", folder / "exported/vocoder")
    shutil.rmtree(folder / "made")
    whole = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump({"synthesis": whole["synthesis"]})
    (folder / "exported/settings.yaml").write_text(text, encoding="utf-8")
    write_sums(folder / "exported")


def listening(folder: Path) -> None:
    """The design of a listening test, and the answers of two raters."""
    made = built(spoken_folders(folder / "made", 4), folder / "test", "--per-rater", "2")
    design = with_id(read_design(made / "design.json").model_copy(update={"source": "made"}))
    write_design(folder / "design.json", design)
    for path in (folder / "made", folder / "test"):
        shutil.rmtree(path)
    levels = {"recordings": 4.0, "one": 2.5, "two": 3.0, "anchor": 1.5}
    drawn = Deviations(Population(levels), np.random.default_rng(0))
    write_csv(folder / "1.csv", design, 1, answers_of(design, 1, drawn))
    write_json(folder / "2.json", design, 2, answers_of(design, 2, drawn))


def external(folder: Path) -> None:
    """Lists of sentences in each format, and the outcome of an import."""
    (folder / "list.csv").write_text(
        'utterance,text,reference,test_set\na,"Well, go home.",r.wav,x\nb,No.,,x\n',
        encoding="utf-8",
    )
    (folder / "meta.lst").write_text("a|Well.|r.wav|Go home.\nb|No.\n", encoding="utf-8")
    rows = [{"category": "Emotions", "text_to_synthesize": text} for text in ("Go!", "No.")]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "emergent.jsonl").write_text(lines, encoding="utf-8")
    pd.DataFrame(rows).to_parquet(folder / "emergent.parquet", write_page_checksum=True)
    lost = {"b": {"test_set": "x", "reason": "no audio file"}}
    files.write_json(folder / "import.json", {"without_audio": lost, "surplus_files": ["c.wav"]})


def shipped(folder: Path) -> None:
    """A base as data/base has it."""
    trained = folder / "trained"
    models(trained / "models")
    for name, place in base.MODELS.items():
        shutil.copytree(trained / "models" / name, trained / place)
    rows = [
        (f"a_{i}", "a", "ann", "Well.", f"word {i}", f"corpus/a/audio/{i}.wav", 1.0, "train",
         f"{i}", None, None)
        for i in range(8)
    ]  # fmt: skip
    utterances = pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns))
    tables.write_table(utterances, trained / "corpus/utterances.parquet", tables.UTTERANCES)
    base.pack_base(trained, trained / base.MODELS["policy"], folder / "base")
    shutil.rmtree(trained)


def training(model: nn.Module, work: Path, out: Path, steps: int) -> None:
    """Train, or go on from the checkpoints in `work`, with a choice of the weights to keep."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    def batch_at(step: int) -> torch.Tensor:
        return torch.randn(4, 4, generator=torch.Generator().manual_seed(step))

    def terms(x: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (model(x)[:, 0] - x.sum(1)).square().mean()
        return {"loss": loss}

    fixed = batch_at(0)
    model_selection = ModelSelection(
        every=20,
        evaluate=lambda: {"score": -float(terms(fixed)["loss"])},
        choose=lambda history: max(history, key=lambda step: history[step]["score"]),
    )
    loop = Loop("fuzz", steps, 1, out, work, ema=0.9, log_every=10, dev_every=20,
                checkpoint_every=20, identity=IDENTITY)  # fmt: skip
    fit(model, optimiser, terms, batch_at, lambda: {"loss": float(terms(fixed)["loss"])}, loop,
        model_selection=model_selection)  # fmt: skip


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))


def checkpoints(folder: Path) -> None:
    """The checkpoints of a training of 40 steps."""
    training(small_network(), folder / "work", folder / "out", 40)
    shutil.rmtree(folder / "out")


def run(folder: Path) -> None:
    """The results of a run: tables of all stages, scores, records, and what the report reads."""
    rng = np.random.default_rng(0)
    ids = {name: [f"{name}_{i}" for i in range(8)] for name in test_report.SETS}
    test_report.write_corpus(folder, ids, rng)
    _build_dataset(folder)
    _write_tables(folder, rng)
    for number, system in enumerate(SYSTEMS):
        test_report.write_eval(folder, system, ids, number, rng)
    terms = ["loss", "kl", "cp", "sp", "asr", "wvad", "ser"]
    for name in (
        "speech/tokenizer", "speech/vocoder", "codec/content", "codec/style", "policy/sft/seed0",
    ):  # fmt: skip
        test_report.write_curves(folder / name, ["loss"], rng)
    _write_reward(folder / "policy/hpro/seed0", terms, rng)
    files.write_json(
        folder / "judge/metrics.json", {"wer": {"value": 0.05, "lo": 0.04, "hi": 0.06}}
    )
    accuracy = {"controlled": {"median_ms": 7.5, "n": 60, "names": ["a", "b"]}}
    files.write_json(folder / "align/accuracy.json", accuracy)
    test_report.write_params(folder, "weak", "weak")
    for name in ("words.parquet", "word_vad.parquet", "emotion_posteriors.parquet"):
        place = {"words.parquet": "align"}.get(name, "label")
        kind = {"words.parquet": "truth_words", "word_vad.parquet": "truth_vad"}
        target = f"{kind.get(name, 'truth_emotion')}.parquet"
        shutil.copy(folder / place / name, folder / "corpus/controlled" / target)
        if place == "label":
            (folder / "judge/recordings").mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / place / name, folder / "judge/recordings" / name)
    _write_records(folder)


def _build_dataset(folder: Path) -> None:
    from hpro_core import dataset

    dataset.build(
        folder, Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.5)
    )


def _write_tables(folder: Path, rng: np.random.Generator) -> None:
    with mock.patch.dict(test_report.SYSTEMS, {name: [*SYSTEMS] for name in test_report.SYSTEMS}):
        test_report.write_tables(folder, rng)


def _write_reward(folder: Path, terms: list[str], rng: np.random.Generator) -> None:
    """What a reward training writes of itself."""
    test_report.write_curves(folder, terms, rng)
    curves = pd.read_csv(folder / "training.csv")
    first = pd.DataFrame([(0, "dev", term, 1.0) for term in terms], columns=curves.columns)
    pd.concat([first, curves]).to_csv(folder / "training.csv", index=False)
    pulls = {term: {"weight": 1.0, "share": 0.2} for term in terms[1:]}
    files.write_json(
        folder / "gradient_norms.json", {"terms": pulls, "warnings": ["a term is dead"]}
    )
    metrics = {"dev": dict.fromkeys(terms, 0.5), "kept_step": 40, "alarms": {"60": "judges fall"}}
    files.write_json(folder / "metrics.json", metrics)
    files.write_json(folder / "config.json", {"policy": "embedded"})


def _write_records(folder: Path) -> None:
    """The records of the commands that judged, and the list of the audio that they heard."""
    for system in SYSTEMS:
        place = folder / f"eval/{system}/seed0"
        sums = [f"{files.sha256_of(wav)}  ./{wav.name}\n" for wav in sorted(place.glob("audio/*"))]
        (place / "audio.sha256").write_text("".join(sums))
        files.JOURNAL.read.clear()
        files.JOURNAL.written.clear()
        files.note_audio(place / "audio")
        files.note_read(folder / "align/words.parquet")
        files.JOURNAL.written.update(place.glob("*.parquet"))
        records.write(folder, "judge", [system, "--seed", "0", "--root", "results/fuzz"])


def sharded(folder: Path) -> None:
    """A run whose alignment and labels are in two shards, and a shard of a teacher's labels."""
    rows = [
        (f"a_{i}", "a", f"speaker{i % 2}", "One two.", "one two", f"corpus/a/audio/{i}.wav", 1.0,
         "train", f"{i}", None, None)
        for i in range(6)
    ]  # fmt: skip
    utterances = pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns))
    tables.write_table(utterances, folder / "corpus/utterances.parquet", tables.UTTERANCES)
    write_shards(folder, utterances, 2)
    for shard in range(2):
        mine = [f"a_{i}" for i in range(6) if i % 2 == shard]
        words = [(u, w, "ab"[w], 0.3 * w, 0.3 * w + 0.2, 1.0) for u in mine for w in range(2)]
        vad = [(u, w, 0.5, 0.5, 0.5) for u in mine for w in range(2)]
        emotion = [(u, *np.full(9, 1 / 9)) for u in mine]
        for stage, name, schema, made in (
            ("align", "words", tables.WORDS, words), ("label", "word_vad", tables.WORD_VAD, vad),
            ("label", "emotion_posteriors", tables.EMOTION_POSTERIORS, emotion),
        ):  # fmt: skip
            path = folder / stage / "shards" / f"{shard:05d}" / f"{name}.parquet"
            tables.write_table(test_report.frame(made, schema), path, schema)
        path = folder / "align/shards" / f"{shard:05d}" / "rejected.parquet"
        tables.write_table(tables.rejected([], "align"), path, tables.REJECTED)
    table = pd.DataFrame({"utt_id": ["a", "b"], "happy": [0.5, 0.25]})
    label_shards.write_shard(table, folder / "labels/00000.parquet", IDENTITY)


def teachers(folder: Path) -> None:
    """Published teachers and judges at tiny sizes."""
    published.save_audeering(folder / "audeering")
    published.save_audeering(folder / "audeering_bin", form="bin")
    published.save_emotion2vec(folder / "emotion2vec")
    published.save_wavlm(folder / "wavlm", form="safetensors")
    published.save_whisper(folder / "whisper.pt", n_mels=80)
    published.save_utmos(folder / "utmos.pt")
    published.save_nisqa(folder / "nisqa.tar")
    published.save_scoreq(folder / "scoreq.onnx")
    config = WhisperConfig(
        vocab_size=70, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8,
        max_source_positions=32, max_target_positions=40, pad_token_id=2, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    torch.manual_seed(5)
    WhisperForConditionalGeneration(config).save_pretrained(folder / "whisper_hf")
    noise = np.random.default_rng(0).normal(0, 0.05, 10_000)
    soundfile.write(folder / "clip.wav", noise, 16_000, subtype="PCM_16")


def needs(folder: Path) -> None:
    """What a run has from its user, for preflight, and settings that name it."""
    for name in ("csv", "esd"):
        (folder / name).mkdir()
    own_corpus(folder / "csv")
    import_module("tests.corpora.esd").build(folder / "esd")
    shipped(folder)
    published.save_audeering(folder / "audeering")
    differences: dict[str, object] = {
        "base": "base",
        "corpus": {"sets": {
            "acted": {"reader": "csv", "path": "csv"},
            "more": {"reader": "esd", "path": "esd", "split": "train"},
        }},
        "label": {"vad_teacher": "audeering", "audeering": "audeering"},
    }  # fmt: skip
    (folder / "differences.yaml").write_text(yaml.safe_dump(differences))


def cosyvoice2(folder: Path) -> None:
    """A CosyVoice2 folder and a released codec at tiny sizes, and the tokenizers' files."""
    facts = json.loads((GOLDEN / "qwen2lm_golden/golden.json").read_text())
    golden = load_file(GOLDEN / "qwen2lm_golden/golden.safetensors")
    (folder / "CosyVoice-BlankEN").mkdir()
    (folder / "CosyVoice-BlankEN/config.json").write_text(json.dumps(facts["config"]))
    weights = {n[8:]: v.float() for n, v in golden.items() if n.startswith("weights.")}
    torch.save(weights | {"epoch": 3, "step": 1200}, folder / "llm.pt")
    released = load_file(GOLDEN / "codec_golden/golden.safetensors")
    state = {n.removeprefix("state."): v for n, v in released.items() if n.startswith("state.")}
    torch.save(state, folder / "model.pt")
    test_text_tokenizers.byte_pairs(folder / "qwen_text", {"tokenizer_class": "Qwen2Tokenizer"})
    test_text_tokenizers.byte_pairs(
        folder / "whisper_text",
        {"tokenizer_class": "WhisperTokenizer", "unk_token": "<|endoftext|>"},
    )
    _write_onnx(folder / "campplus.onnx")


def _write_onnx(path: Path) -> None:
    """A model of the kind of CAM++: mel frames in, one vector out."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=0)],
        "campplus",
        [value("input", TensorProto.FLOAT, [1, "T", 80])],
        [value("output", TensorProto.FLOAT, [1, 80])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.save(model, path)


def game(folder: Path) -> None:
    """The data file of the game with two dialogues and two cut-scenes."""
    sound = io.BytesIO()
    soundfile.write(sound, _tone(), 16_000, format="MP3")
    clip = sound.getvalue()
    entries = {
        "BOB1.DOG": test_queen_file.scene(
            6, [(0, "Excuse me Bob.*03"), (26, "*19*18Hello...*17Who are you?*17")],
            [(1, "I'm Bob.*AO*XY00(237,112)Nice to meet you.*FL")], "*01Hello again.", "Howdy.*02",
        ),
        "C1A.CUT": test_queen_file.cut_scene(
            (0, 1, 0, False, "*03Hello?*04Who is there?"), (1, 1, 0, False, "It's me."),
            (2, 1, 0, True, "*"), (-2, 2, 11, False, "Behind you!"),
        ),
        "QUEEN.JAS": test_queen_file.queen_jas(
            [(1, -3), (1, 7), (2, -3)], [(1, 1, 1, 10), (2, 1, 2, 11)]
        ),
        "QUEEN2.JAS": "\r\n".join(["-"] * (4 + 3 + 2 + 12 + 40 + 5) + ["BOB", "TAMMY"]).encode(),
    }  # fmt: skip
    names = ("06SSSSJ1", "06001AJ3", "060001P1", "06XXXXP2", "C1A__012", "C1A__021", "C1A__041")
    entries |= {f"{name}.SB": clip for name in names}
    (folder / "queen.1c").write_bytes(test_queen_file.archive(entries))


def alignments(folder: Path) -> None:
    """TextGrids, a zip of them with our words, what MFA says of them, a dictionary, models."""
    spans = [WordSpan("hello", 0.1, 0.4, 1.0), WordSpan("there", 0.4, 0.9, 1.0)]
    write_words(folder / "a.TextGrid", spans, 1.2)
    grid = (folder / "a.TextGrid").read_bytes()
    short = b"\n".join([
        b'File type = "ooTextFile"', b'Object class = "TextGrid"', b"", b"0", b"1.2", b"<exists>",
        b"2", b'"IntervalTier"', b'"ann - words"', b"0", b"1.2", b"2", b"0", b"0.5", b'"hello"',
        b"0.5", b"1.2", b'""', b'"IntervalTier"', b'"ann - phones"', b"0", b"1.2", b"1", b"0",
        b"1.2", b'"spn"', b"",
    ])  # fmt: skip
    (folder / "short.TextGrid").write_bytes(short)
    members = [("grids/1.TextGrid", grid), ("grids/2.TextGrid", grid), ("readme.txt", b"x")]
    (folder / "grids.zip").write_bytes(zipped(members, zipfile.ZIP_DEFLATED))
    rows = [(f"set_{i}", w, ("hello", "there")[w], 0.4 * w, 0.4 * w + 0.3, 1.0)
            for i in (1, 2) for w in range(2)]  # fmt: skip
    table = test_report.frame(rows, tables.WORDS)
    tables.write_table(table, folder / "words.parquet", tables.WORDS)
    header = "file,begin,end,speech_log_likelihood,phone_duration_deviation\n"
    (folder / "alignment_analysis.csv").write_text(header + "set_1,0,1,-55.1,2.0\nset_2,0,1,,1.5\n")
    (folder / "english.dict").write_text("hello\tHH AH L OW\nthere\t0.9\tDH EH R\n")
    (folder / "acoustic.zip").write_bytes(zipped([("meta.json", b"{}")]))


def archives(folder: Path) -> None:
    """A wheel and a source archive that hold a file of weights."""
    wheel = [("inside/net.bin", b"some weights" * 20), ("inside/code.py", b"raise SystemExit")]
    (folder / "a_package-1.0-py3-none-any.whl").write_bytes(zipped(wheel, zipfile.ZIP_DEFLATED))
    names = ("a_package-1.0/setup.py", "a_package-1.0/inside/net.bin")
    members = [(tarfile.TarInfo(name), b"some weights" * 20) for name in names]
    (folder / "a_package-1.0.tar.gz").write_bytes(tarred(members))


def measures(folder: Path) -> None:
    """What Snakemake measures of jobs, and the list of runs beside it."""
    (folder / "sft.tsv").write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t500.1\n")
    with (folder / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["jobs", "of", "wall_s"])
        writer.writeheader()
        writer.writerow({"jobs": 9, "of": 9, "wall_s": 100.0})


GROUPS = {
    "formats": formats, "sounds": sounds, "csv": own_corpus, "settings": settings, "models": models,
    "base": shipped, "checkpoints": checkpoints, "run": run, "sharded": sharded,
    "teachers": teachers, "cosyvoice2": cosyvoice2, "game": game, "alignments": alignments,
    "archives": archives, "measures": measures, "preflight": needs,
    "say": say, "external": external, "listening": listening,
}  # fmt: skip


def others(store: Path, rng: random.Random) -> list[bytes]:
    """Contents to splice in: small files of all groups."""
    paths = [path for path in sorted(store.rglob("*")) if path.is_file()]
    small = [path for path in paths if path.stat().st_size < 200_000]
    return [path.read_bytes() for path in rng.sample(small, min(60, len(small)))]
