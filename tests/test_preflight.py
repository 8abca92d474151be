"""`hpro preflight`: a run that has everything passes, and each planted fault is named."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from typer.testing import CliRunner

from hpro_core import params as p
from hpro_core import preflight
from hpro_core.cli import app
from hpro_core.errors import HproError
from hpro_core.plan.jobs import Job
from hpro_core.plan.settings import read_settings
from hpro_core.preflight import Check, checks
from hpro_core.pretrained.weights import WeightFile
from tests.corpora import crema_d, emovoice_db, librispeech, lssed
from tests.corpora.emovoice_db import POINTER
from tests.corpora.planting import link_folders
from tests.workflow.project import REPO

SHIPPED, PAPER = REPO / "params.yaml", REPO / "config/paper.yaml"
COSY, WHISPER = Path("models/CosyVoice2-0.5B"), Path("models/whisper-medium")
EMOVOICE, LSSED, LIBRISPEECH = (
    Path("data/raw", n) for n in ("EmoVoice-DB", "LSSED", "LibriSpeech")
)
JUDGE = Path("weights/ge2e/pretrained.pt")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Gpu(NamedTuple):
    name: str
    total_memory: int


def safetensors(path: Path, n_bytes: int = 8) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(n_bytes))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paper_jobs: list[Job]) -> p.Params:
    """The paper's settings in a folder that has all that they need, at a tiny size."""
    monkeypatch.setattr("hpro_core.plan.cost_table.jobs_of", lambda settings: paper_jobs)
    monkeypatch.chdir(tmp_path)
    for module, folder in ((emovoice_db, EMOVOICE), (lssed, LSSED), (librispeech, LIBRISPEECH)):
        folder.mkdir(parents=True)
        module.build(folder)
    (COSY / "CosyVoice-BlankEN").mkdir(parents=True)
    WHISPER.mkdir()
    for folder in (COSY / "CosyVoice-BlankEN", WHISPER):
        for name in ("config.json", *preflight.TOKENIZER):
            (folder / name).write_text("{}")
    for name in ("speech_tokenizer_v2.onnx", "campplus.onnx", "flow.pt", "hift.pt", "llm.pt"):
        (COSY / name).write_text("weights")
    safetensors(WHISPER / "model.safetensors")
    JUDGE.parent.mkdir(parents=True)
    JUDGE.write_text("judge")
    row = WeightFile(*JUDGE.parts[1:], "x", "1", "m", "MIT", sha256(JUDGE), "judge")
    monkeypatch.setattr(preflight, "weight_files", lambda: [row])
    monkeypatch.setattr(preflight, "MIN_BYTES", {"llm.pt": 7})
    tokenizer = sha256(COSY / "speech_tokenizer_v2.onnx")
    monkeypatch.setattr("hpro_core.speech.cosyvoice2.TOKENIZER_SHA256", tokenizer)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, 10**13))
    _give_gpu(monkeypatch, 80)
    mfa = tmp_path / "bin/mfa"
    mfa.parent.mkdir()
    mfa.write_text("#!/bin/sh\n")
    mfa.chmod(0o755)
    monkeypatch.setenv("PATH", str(mfa.parent))
    for kind, name in (("acoustic", "english_mfa.zip"), ("dictionary", "english_mfa.dict")):
        model = tmp_path / "mfa/pretrained_models" / kind / name
        model.parent.mkdir(parents=True)
        model.write_text("model")
    monkeypatch.setenv("MFA_ROOT_DIR", str(tmp_path / "mfa"))
    return read_settings(SHIPPED, [PAPER])


def changed(settings: p.Params, **splits: str) -> p.Params:
    """Settings with other splits of corpora."""
    whole = settings.model_dump()
    for name, split in splits.items():
        whole["corpus"]["sets"][name]["split"] = split
    return p.Params.model_validate(whole)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _give_gpu(monkeypatch: pytest.MonkeyPatch, memory_gb: int) -> None:
    gpu = Gpu("NVIDIA", memory_gb * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: memory_gb > 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)


def failed(found: list[Check]) -> list[Check]:
    return [check for check in found if check.status == "FAIL"]


def test_a_run_that_has_everything_passes(settings):
    found = checks(settings, Path("weights"))
    assert failed(found) == []
    whats = [check.what for check in found]
    assert {"corpus.sets.emovoice (emovoice_db)", str(COSY / "llm.pt"), "disk", "GPU"} <= set(whats)
    assert len(whats) == len(set(whats))
    said = dict(zip(whats, found, strict=True))
    assert said[str(COSY / "speech_tokenizer_v2.onnx")].finding == "0.000 GB, sha256 as expected"
    assert "no redistribution" in said["licence of lssed"].finding
    assert said["licence of emovoice"].status == "note"


def _point(path: Path) -> Callable[[], object]:
    return lambda: path.write_text(POINTER)


def _no_audio() -> None:
    for path in list(LIBRISPEECH.rglob("*.flac")):
        path.unlink()


def _another_corpus() -> None:
    shutil.rmtree(LSSED)
    LSSED.mkdir()
    crema_d.build(LSSED)


def _cut(path: Path) -> Callable[[], object]:
    return lambda: path.write_bytes(path.read_bytes()[:-1])


FAULTS: list[tuple[str, Callable[[], object], str, str]] = [
    ("a corpus is missing", lambda: shutil.rmtree(EMOVOICE),
     "corpus.sets.emovoice (emovoice_db)", "does not exist: set the path: Hugging Face, dataset"),
    ("another corpus", _another_corpus, "corpus.sets.lssed (lssed)", "it matches crema_d"),
    ("no corpus at all", lambda: [shutil.rmtree(LIBRISPEECH), LIBRISPEECH.mkdir()],
     "corpus.sets.librispeech (librispeech)", "it matches no other reader"),
    ("archives that were not extracted", _no_audio,
     "corpus.sets.librispeech (librispeech)", "has no audio"),
    ("a table that git did not fetch", _point(EMOVOICE / "train.jsonl"),
     "corpus.sets.emovoice (emovoice_db)", "train.jsonl is a Git LFS pointer"),
    ("no transcripts of LSSED", lambda: (LSSED / "transcripts.csv").unlink(),
     "corpus.sets.lssed (lssed)", "transcripts.csv is missing"),
    ("weights are missing", lambda: (COSY / "hift.pt").unlink(),
     str(COSY / "hift.pt"), "is missing: put it there, or correct the path"),
    ("weights are empty", lambda: (COSY / "flow.pt").write_text(""),
     str(COSY / "flow.pt"), "is empty: get it again"),
    ("weights that git did not fetch", _point(COSY / "campplus.onnx"),
     str(COSY / "campplus.onnx"), "is a Git LFS pointer, not the file: run git lfs pull"),
    ("weights that are cut off", _cut(COSY / "llm.pt"),
     str(COSY / "llm.pt"), "has 6 bytes, its weights alone take 7"),
    ("a Whisper that is cut off", _cut(WHISPER / "model.safetensors"),
     str(WHISPER / "model.safetensors"), "its header has"),
    ("no Whisper", lambda: (WHISPER / "model.safetensors").write_text("weights of something"),
     str(WHISPER / "model.safetensors"), "is not a safetensors file"),
    ("another tokenizer", lambda: (COSY / "speech_tokenizer_v2.onnx").write_text("version 3"),
     str(COSY / "speech_tokenizer_v2.onnx"), "is expected: get it again"),
    ("no text tokenizer", lambda: (WHISPER / "merges.txt").unlink(),
     str(WHISPER / "merges.txt"), "is missing"),
    ("a judge that was changed", lambda: JUDGE.write_text("another"),
     str(JUDGE), "is expected: delete it; then run `hpro weights fetch`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "what", "says"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_planted_fault_is_named_alone(plant, what, says, settings):
    plant()
    found = failed(checks(settings, Path("weights")))
    assert [check.what for check in found] == [what]
    assert says in found[0].finding


def test_all_faults_are_listed_and_not_the_first_alone(settings):
    for _, plant, *_ in FAULTS[3:8]:
        plant()
    assert len(failed(checks(settings, Path("weights")))) == 5


def test_corpora_may_lie_in_linked_folders(settings):
    for number, folder in enumerate((EMOVOICE, LSSED, LIBRISPEECH)):
        link_folders(folder, Path(f"store{number}").absolute())
    assert failed(checks(settings, Path("weights"))) == []


ENGLISH = "align.mfa_acoustic_model"


@pytest.mark.parametrize(
    ("asked", "what", "status", "says"),
    [
        ({}, "align.mfa_command", "note", "'mfa' is not on PATH: run Snakemake with --use-conda"),
        (
            {"mfa_command": "conda run mfa"},
            "align.mfa_command",
            "FAIL",
            "is not on PATH: correct it",
        ),
        ({}, ENGLISH, "note", "'english_mfa' is not downloaded yet (/"),
        ({"mfa_acoustic_model": "m.zip"}, ENGLISH, "FAIL", "m.zip is not a file: correct the path"),
        ({"mfa_dictionary": ""}, "align.mfa_dictionary", "FAIL", "or set the path of a .dict file"),
    ],
)
def test_of_mfa_fails_what_the_run_does_not_bring(settings, asked, what, status, says):
    Path("bin/mfa").unlink()
    shutil.rmtree("mfa")
    align = settings.align.model_copy(update=asked)
    found = checks(settings.model_copy(update={"align": align}), Path("weights"))
    (check,) = [check for check in found if check.what == what]
    assert check.status == status
    assert says in check.finding
    assert len(failed(found)) == len(asked)


def test_the_disk_is_that_of_the_results(settings, monkeypatch, tmp_path):
    large = tmp_path / "large"
    large.mkdir()
    Path("results").symlink_to(large)

    def usage(path: Path) -> Usage:
        return Usage(10**13, 0, 10**13 if Path(path).resolve() == large else 0)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert failed(checks(settings, Path("weights"))) == []
    Path("results").unlink()
    (found,) = failed(checks(settings, Path("weights")))
    assert found.what == "disk"


def test_a_disk_that_is_too_small(settings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, 50 * 10**9))
    (found,) = failed(checks(settings, Path("weights")))
    assert found.what == "disk"
    needed = int(found.finding.split(", ")[1].split()[0])
    assert found.finding.startswith(f"50 GB free, {needed} GB more are needed")
    made = Path("results/paper/policy/sft.safetensors")
    made.parent.mkdir(parents=True)
    with made.open("wb") as file:
        file.truncate(30 * 10**9)  # a sparse file: what is there already is not needed again
    (found,) = failed(checks(settings, Path("weights")))
    assert f", {needed - 30} GB more are needed" in found.finding


@pytest.mark.parametrize(("memory_gb", "status"), [(0, "note"), (16, "FAIL"), (24, "ok")])
def test_memory_of_the_gpu(settings, monkeypatch, memory_gb, status):
    _give_gpu(monkeypatch, memory_gb)
    found = next(c for c in checks(settings, Path("weights")) if c.what == "GPU")
    assert found.status == status
    assert "18.2 GB" in found.finding


@pytest.mark.parametrize("change", [{"accumulate": 16}, {"checkpointing": True}])
def test_what_saves_memory_of_the_gpu_is_seen(settings, monkeypatch, change):
    _give_gpu(monkeypatch, 16)
    reward = settings.reward.model_copy(update=change)
    less = settings.model_copy(update={"reward": reward})
    found = next(c for c in checks(less, Path("weights")) if c.what == "GPU")
    assert found.status == "note"
    assert "it takes less" in found.finding


def test_packages_of_cosyvoice2(settings, monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    found = failed(checks(settings, Path("weights")))
    assert {check.what for check in found} == {"package s3tokenizer", "package token2wav-cosyvoice"}
    assert "docs/cosyvoice2.md" in found[0].finding


def test_the_papers_teachers_are_looked_for(settings):
    folder = {"emotion2vec": "models/e2v", "audeering": "models/aud"}
    label = {"emotion_teacher": "emotion2vec", "vad_teacher": "audeering", **folder}
    whole = settings.model_dump()
    asked = p.Params.model_validate({**whole, "label": {**whole["label"], **label}})
    found = failed(checks(asked, Path("weights")))
    assert {check.what for check in found} == {
        "models/e2v/model.pt", "models/e2v/config.yaml", "models/e2v/tokens.txt",
        "models/aud/config.json", "models/aud/preprocessor_config.json",
        "models/aud/model.safetensors",
    }  # fmt: skip
    for check in found:
        Path(check.what).parent.mkdir(exist_ok=True)
        Path(check.what).write_text("x")
    Path("models/aud/model.safetensors").rename("models/aud/pytorch_model.bin")
    again = checks(asked, Path("weights"))
    assert failed(again) == []
    assert any("no commercial use" in check.finding for check in again)


def test_a_test_set_that_the_judge_would_refuse_is_named_before_the_trainings(settings):
    (found,) = failed(checks(changed(settings, controlled="train"), Path("weights")))
    assert found.what == "exact labels for the affect judge"
    unheard = changed(settings, controlled="")
    unheard = unheard.model_copy(
        update={"controlled": unheard.controlled.model_copy(update={"judge": 0})}
    )
    whats = [check.what for check in failed(checks(unheard, Path("weights")))]
    assert whats == [
        "exact labels for the affect judge",
        "recordings of controlled for the affect judge",
    ]


def test_test_sets_whose_affect_will_not_be_judged_are_named_before_the_trainings(settings):
    what = "wVAD-CCC and EMO-SIM on emovoice, lssed"
    (found,) = [check for check in checks(settings, Path("weights")) if check.what == what]
    assert found.status == "note"
    assert "will be empty" in found.finding
    published = {"emotion": "emotion2vec", "emotion2vec": "e", "vad": "audeering", "audeering": "a"}
    whole = settings.model_dump()
    asked = p.Params.model_validate({**whole, "evaluate": {**whole["evaluate"], **published}})
    assert what not in [check.what for check in checks(asked, Path("weights"))]


def test_the_shipped_default_needs_its_base_alone(settings, monkeypatch, tmp_path):
    default = read_settings(SHIPPED, [])
    found = failed(checks(default, Path("weights")))
    assert {check.what.split("/")[0] for check in found} == {
        "corpus.sets.acted (amazon_queen)", "data",
    }  # fmt: skip
    base = tmp_path / "data/base"
    shutil.copytree(REPO / "data/base", base)
    shutil.copytree(REPO / "data/raw/amazon_queen", tmp_path / "data/raw/amazon_queen")
    assert failed(checks(default, Path("weights"))) == []
    (base / "policy/config.json").write_text("{}")
    (found_one,) = failed(checks(default, Path("weights")))
    assert "has sha256" in found_one.finding


def test_the_command_lists_all_and_fails_with_1(settings):
    (COSY / "hift.pt").unlink()
    said = CliRunner().invoke(
        app, ["preflight", "--params", str(SHIPPED), "--configfile", str(PAPER)]
    )
    assert isinstance(said.exception, HproError)
    assert str(said.exception).startswith("preflight: 1 of ")
    assert said.output.count("\n") == int(str(said.exception).split()[3])
    assert f"FAIL  {COSY / 'hift.pt'}" in said.output
