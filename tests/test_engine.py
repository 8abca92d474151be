"""The training loop: resuming changes nothing, bad numbers stop it, batches are functions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from hpro_core.errors import HproError
from hpro_core.io import JOURNAL, fingerprint, sha256_of
from hpro_core.speech.token_noise import corrupt_tokens
from hpro_core.train import distributed, loop
from hpro_core.train.batching import (
    Sampler,
    collate,
    spans_to_frames,
    warn_single_utterance_speakers,
)
from hpro_core.train.checkpoint import load_weights, save_model
from hpro_core.train.loop import Loop, clear, fit
from hpro_core.train.model_selection import ModelSelection
from hpro_core.train.prefetch import Prefetch


def run(out, work, steps=60, stop_at=None, identity="a", ema=0.9, model_selection=None):
    """A small regression with dropout; `stop_at` kills it after that step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)

    def batch_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return torch.randn(16, 4, generator=torch.Generator().manual_seed(step))

    def terms(x):
        loss = (model(x)[:, 0] - x.sum(1)).square().mean()
        return {"loss": loss, "half": loss / 2}

    fixed = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    loop = Loop("test", steps, 1, out, work, ema=ema, log_every=10, dev_every=20,
                checkpoint_every=20, warmup_steps=5, decay_fraction=0.3,
                identity=identity)  # fmt: skip
    fit(model, optimiser, terms, batch_at, lambda: {"loss": float(terms(fixed)["loss"])}, loop,
        model_selection=model_selection)  # fmt: skip
    return model


def test_a_killed_run_resumes_and_equals_an_undisturbed_one(tmp_path):
    straight = run(tmp_path / "a", tmp_path / "work_a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tmp_path / "work_b", stop_at=47)
    resumed = run(tmp_path / "b", tmp_path / "work_b")
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    curves = [(tmp_path / x / "training.csv").read_text() for x in "ab"]
    assert curves[0] == curves[1]
    assert (tmp_path / "work_b" / "checkpoint_0000060.pt").is_file()  # until the model is written
    clear(tmp_path / "work_b")
    assert not list((tmp_path / "work_b").iterdir())


def test_a_resumed_run_records_what_was_read_before_the_kill(tmp_path, monkeypatch):
    """The judges of a watched training are read when they are first needed."""
    monkeypatch.setattr(JOURNAL, "read", {tmp_path / "judge.json"})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tmp_path / "work", stop_at=47)
    monkeypatch.setattr(JOURNAL, "read", set())
    run(tmp_path / "b", tmp_path / "work")
    assert tmp_path / "judge.json" in JOURNAL.read


def test_a_resumed_run_shows_all_its_points_in_tensorboard(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tmp_path / "work", stop_at=47)
    shutil.rmtree(tmp_path / "b" / "tensorboard")  # as Snakemake does after a failed job
    run(tmp_path / "b", tmp_path / "work")
    shown = EventAccumulator(str(tmp_path / "b" / "tensorboard")).Reload()
    assert [event.step for event in shown.Scalars("dev/loss")] == [0, 20, 40, 60]


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tmp_path / "work", stop_at=47)
    anew = run(tmp_path / "b", tmp_path / "work", identity="b")
    assert "starting from step 0" in capsys.readouterr().out
    fresh = run(tmp_path / "c", tmp_path / "work_c", identity="b")
    for a, b in zip(anew.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The work of a run that was killed at step 47, and the weights of one that was not."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(KeyboardInterrupt):
        run(folder / "b", folder / "work", stop_at=47)
    straight = run(folder / "a", folder / "work_a")
    return folder / "work", [weight.detach() for weight in straight.parameters()]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def foreign(path):
    torch.save({"model": {}}, path)


def one_weight_less(path):
    state = torch.load(path, weights_only=True)
    del state["model"]["0.weight"]
    torch.save(state, path)


def one_bit_flipped(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 4
    path.write_bytes(raw)


DAMAGES = (cut, emptied, foreign, one_weight_less, one_bit_flipped, lambda path: path.unlink())


@pytest.mark.parametrize("n_broken", [1, 2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_checkpoint_is_named_and_the_one_before_it_taken(
    killed, damage, n_broken, tmp_path, capsys
):
    shutil.copytree(killed[0], tmp_path / "work")
    files = sorted((tmp_path / "work").glob("checkpoint_*.pt"), reverse=True)
    assert [path.name for path in files] == ["checkpoint_0000040.pt", "checkpoint_0000020.pt"]
    for path in files[:n_broken]:
        damage(path)
    resumed = run(tmp_path / "b", tmp_path / "work")
    said = capsys.readouterr().out
    for path in files[:n_broken]:
        assert str(path) in said
    assert ("starting from step 0" if n_broken == 2 else "resuming from step 20") in said
    for a, b in zip(killed[1], resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def sealed(work, name, content):
    """Write a file of a training and put its hash into the list, as the training would."""
    old = sha256_of(work / name)
    torch.save(content, work / name)
    listed = work / "checkpoints.json"
    listed.write_text(listed.read_text().replace(old, sha256_of(work / name)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", {}), ("model", [1]), ("model", None), ("optimiser", {}), ("average", {}),
     ("curves", 3), ("curves", [[1]])],
)  # fmt: skip
def test_a_checkpoint_of_another_model_is_named(killed, key, value, tmp_path):
    shutil.copytree(killed[0], tmp_path / "work")
    state = torch.load(tmp_path / "work/checkpoint_0000040.pt", weights_only=True)
    sealed(tmp_path / "work", "checkpoint_0000040.pt", {**state, key: value})
    with pytest.raises(HproError, match=r"work: the checkpoint of step 40 is not of this training"):
        run(tmp_path / "b", tmp_path / "work")


@pytest.mark.parametrize("step", [20, 40.0, "40", None, {}, [40]])
def test_a_checkpoint_of_another_step_is_not_taken(killed, step, tmp_path, capsys):
    shutil.copytree(killed[0], tmp_path / "work")
    state = torch.load(tmp_path / "work/checkpoint_0000040.pt", weights_only=True)
    sealed(tmp_path / "work", "checkpoint_0000040.pt", {**state, "step": step})
    resumed = run(tmp_path / "b", tmp_path / "work")
    said = capsys.readouterr().out
    assert "checkpoint_0000040.pt is not a checkpoint of this version" in said
    assert "resuming from step 20" in said
    for a, b in zip(killed[1], resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def keeps_step_40():
    """A selection that keeps the newest weights, and at the end those of step 40."""
    return ModelSelection(
        every=20, evaluate=lambda: {"x": 1.0}, choose=lambda history: min(40, max(history))
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_kept_weights_that_are_broken_are_named_and_those_before_taken(damage, tmp_path, capsys):
    straight = run(tmp_path / "a", tmp_path / "work_a", model_selection=keeps_step_40())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tmp_path / "work", stop_at=47, model_selection=keeps_step_40())
    kept = tmp_path / "work" / "kept_0000040.pt"
    if damage is one_weight_less:
        torch.save({"0.bias": torch.zeros(8)}, kept)
    else:
        damage(kept)
    resumed = run(tmp_path / "b", tmp_path / "work", model_selection=keeps_step_40())
    said = capsys.readouterr().out
    assert str(kept) in said
    assert "resuming from step 20" in said
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_kept_weights_of_another_model_are_named(tmp_path):
    model = nn.Linear(2, 2)
    model_selection = ModelSelection(every=1, evaluate=dict, choose=lambda history: 0)
    model_selection.save_if_best(0, model, tmp_path)
    kept = tmp_path / "kept_0000000.pt"
    entry = {"step": 0, "files": {"checkpoint_0000000.pt": "x", kept.name: sha256_of(kept)}}
    (tmp_path / "checkpoints.json").write_text(json.dumps({"checkpoints": [entry]}))
    model_selection.restore_best(model, tmp_path)
    for weights in ({"weight": torch.ones(3)}, {"weight": [1]}, {}):
        sealed(tmp_path, kept.name, weights)
        with pytest.raises(HproError, match=r"kept_0000000\.pt does not fit the model"):
            model_selection.restore_best(model, tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"checkpoints": [{"step": "x"}]}', "[]"])
def test_a_broken_list_of_checkpoints_is_named_and_the_training_starts_anew(
    killed, content, tmp_path, capsys
):
    shutil.copytree(killed[0], tmp_path / "work")
    (tmp_path / "work" / "checkpoints.json").write_text(content)
    resumed = run(tmp_path / "b", tmp_path / "work")
    assert "checkpoints.json" in capsys.readouterr().out
    for a, b in zip(killed[1], resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_dev_terms_that_are_not_finite_stop_the_training(tmp_path):
    model = nn.Linear(1, 1)
    dev = iter([1.0, float("nan")])
    with pytest.raises(HproError, match=r"test, dev, step 5: .*nan.* is not finite"):
        fit(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda x: {"loss": model(x).sum()},
            lambda step: torch.ones(1, 1), lambda: {"loss": next(dev)},
            Loop("test", 5, 0, tmp_path, tmp_path))  # fmt: skip


def test_a_model_that_is_not_finite_is_not_written(tmp_path):
    model = nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, float("inf"))
    with pytest.raises(HproError, match="weight weight is not finite, so no model is written"):
        save_model(tmp_path, model, {})
    assert list(tmp_path.iterdir()) == []


def test_what_a_training_depends_on_has_to_be_there(tmp_path):
    with pytest.raises(HproError, match=r"llm\.pt does not exist: run the stage .* or correct the"):
        fingerprint(tmp_path / "llm.pt")


def test_curves_hold_train_and_dev_and_fall(tmp_path):
    run(tmp_path, tmp_path / "work")
    curves = pd.read_csv(tmp_path / "training.csv")
    assert set(curves["term"]) >= {"loss", "half", "grad_norm"}
    dev = curves[(curves["split"] == "dev") & (curves["term"] == "loss")]
    assert dev["step"].tolist() == [0, 20, 40, 60]
    assert dev["value"].iloc[-1] < dev["value"].iloc[0]


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path):
    model = nn.Linear(1, 1)
    before = model.weight.clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    loop = Loop("test", 5, 0, tmp_path, tmp_path)
    with pytest.raises(HproError, match=r"step 1: .*nan.* is not finite"):
        fit(model, optimiser, lambda x: {"loss": model(x).sum() * torch.nan},
            lambda step: torch.ones(1, 1), dict, loop)  # fmt: skip
    assert torch.equal(model.weight, before)


def test_a_stage_that_cannot_cut_its_batches_says_so(tmp_path):
    model = nn.Linear(1, 1)
    with pytest.raises(HproError, match="cannot split its batches: set accumulate to 1"):
        fit(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda x: {"loss": model(x).sum()},
            lambda step: torch.ones(1, 1), dict,
            Loop("test", 5, 0, tmp_path, tmp_path, accumulate=2))  # fmt: skip


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loop.device_of("cpu") == torch.device("cpu")
    assert loop.device_of("cuda") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert loop.device_of("cuda") == torch.device("cuda:3")
    assert loop.device_of("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loop.device_of("auto") == torch.device("cpu")
    with pytest.raises(HproError, match=r"device is cuda:1, but torch finds no CUDA device"):
        loop.device_of("cuda:1")


def test_processes_that_see_other_files_stop(monkeypatch):
    def told(box, src):
        box[0] = 40

    monkeypatch.setattr(distributed.distributed, "broadcast_object_list", told)
    second = distributed.Ranks(index=1, count=2)
    second.check_equal(40, "the checkpoint")
    with pytest.raises(HproError, match="the checkpoint is 40 in the first process and 0 in proc"):
        second.check_equal(0, "the checkpoint")


def test_alone_there_is_nobody_to_ask():
    alone = distributed.Ranks.init_distributed(torch.device("cpu"))
    assert (alone.index, alone.count, alone.is_main) == (0, 1, True)
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    alone.sum_gradients([weight])
    assert weight.grad.tolist() == [3.0, 3.0]
    assert alone.broadcast_object("x") == "x"


@pytest.mark.parametrize(
    ("steps", "most", "expected"), [(40, 50, 10), (120, 50, 30), (2000, 50, 50), (6, 50, 10)]
)
def test_short_trainings_have_checkpoints_too(steps, most, expected):
    assert loop.checkpoints_every(steps, most, 10) == expected
    assert expected % 10 == 0


def test_the_rate_warms_up_and_decays():
    settings = Loop("x", 100, 0, Path(), Path(), warmup_steps=10, decay_fraction=0.2)
    shares = [loop._learning_rate_factor(step, settings) for step in (1, 10, 50, 80, 91, 100)]
    assert shares == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.5, 0.05])


def test_a_profile_is_a_trace_for_tensorboard(tmp_path):
    model = nn.Linear(1, 1)
    fit(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda x: {"loss": model(x).sum()},
        lambda step: torch.ones(1, 1), dict,
        Loop("test", 12, 0, tmp_path, tmp_path, profile=True))  # fmt: skip
    assert list((tmp_path / "profile").glob("*.pt.trace.json"))


def test_batches_depend_on_seed_and_step_alone(examples):
    one, two = Sampler(examples, 3, seed=5), Sampler(examples, 3, seed=5)
    later = two.batch_at(7)
    for step in range(1, 8):
        batch = one.batch_at(step)
    assert torch.equal(batch.tokens_BL, later.tokens_BL)
    assert torch.equal(batch.reference_BE, later.reference_BE)
    assert not torch.equal(
        Sampler(examples, 3, seed=6).batch_at(7).token_lengths_B, later.token_lengths_B
    ) or not torch.equal(Sampler(examples, 3, seed=6).batch_at(7).tokens_BL, later.tokens_BL)


def test_an_epoch_visits_nothing_twice_and_references_are_others(examples):
    sampler = Sampler(examples, 4, seed=0)
    own = {tuple(e.tokens): (e.speaker, e.speaker_embedding) for e in examples}
    seen = []
    for step in (1, 2):
        batch = sampler.batch_at(step)
        for row in range(4):
            tokens = tuple(batch.tokens_BL[row, : batch.token_lengths_B[row]].tolist())
            seen.append(tokens)
            speaker, embedding = own[tokens]
            reference = batch.reference_BE[row].numpy()
            owner = next(e for e in examples if np.array_equal(e.speaker_embedding, reference))
            assert owner.speaker == speaker
            assert not np.array_equal(reference, embedding)
    assert len(set(seen)) == 8


def test_speakers_with_one_utterance_are_counted(examples, capsys):
    warn_single_utterance_speakers(Sampler(examples, 4, seed=0), "sft")
    assert capsys.readouterr().out == ""
    warn_single_utterance_speakers(
        Sampler(examples[:3], 3, seed=0), "sft"
    )  # two of one speaker, one of the other
    assert "sft: speakers with one utterance" in (said := capsys.readouterr().out)
    assert said.endswith(": 1\n")


def test_word_edges_round_to_the_nearest_frame_or_as_released():
    spans = np.array([[0.28, 1.16], [1.16, 1.6]])
    assert spans_to_frames(spans, 60).tolist() == [[7, 29], [29, 40]]
    assert spans_to_frames(spans, 60, "truncate").tolist() == [[7, 28], [28, 40]]
    tiny = np.array([[0.10, 0.11], [9.0, 9.5]])
    frames = spans_to_frames(tiny, 20)
    assert (frames[:, 1] > frames[:, 0]).all()
    assert frames.max() <= 20


def test_collate_pads_with_zeros(examples):
    batch = collate(examples[:2], [e.speaker_embedding for e in examples[:2]])
    assert batch.tokens_BL.shape[1] == max(len(e.tokens) for e in examples[:2])
    assert (batch.tokens_BL[~batch.token_mask_BL] == 0).all()


def test_weights_load_strictly_or_say_what_is_wrong(tmp_path):
    save_model(tmp_path, nn.Linear(2, 3), {})
    with pytest.raises(HproError, match=r"weight is \[3, 2\], not \[3, 3\]"):
        load_weights(tmp_path, nn.Linear(3, 3))
    with pytest.raises(HproError, match="does not exist"):
        load_weights(tmp_path / "nowhere", nn.Linear(2, 3))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(HproError, match=r"model\.safetensors"):
        load_weights(tmp_path, nn.Linear(2, 3))


def test_misspoken_digits_are_one_level_away():
    torch.manual_seed(0)
    tokens = torch.randint(0, 3**8, (200, 50))
    heard = corrupt_tokens(tokens, 0.4)
    place = 3 ** torch.arange(8)
    step = heard[..., None] // place % 3 - tokens[..., None] // place % 3
    assert set(step.unique().tolist()) == {-1, 0, 1}
    share = (step != 0).float().mean((1, 2))  # of each utterance its own, between 0 and 0.4
    assert share.mean() == pytest.approx(0.2, abs=0.02)
    assert share.min() < 0.02
    assert 0.36 < share.max() < 0.45
    assert torch.equal(corrupt_tokens(tokens, 0.0), tokens)
    assert heard.min() >= 0
    assert heard.max() < 3**8


@pytest.mark.parametrize("processes", [1, 2])
def test_batches_made_ahead_are_those_of_their_steps(processes):
    """From the first step, after a resume in the middle, and asked again from the start."""
    made = Prefetch(lambda step: {"step": step, "batch": torch.full((3,), step)}, 9, processes)
    for steps in (range(1, 5), range(7, 10), range(1, 3)):
        for step in steps:
            batch = made(step)
            assert batch["step"] == step
            assert batch["batch"].tolist() == [step] * 3


@pytest.mark.parametrize(
    ("known", "used"),
    [({"avx512_bf16": True}, True), ({"avx2": True, "avx512_bf16": False}, False), ({}, False)],
)
def test_bfloat16_is_used_where_the_cpu_has_it(known, used, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    with loop.autocast(torch.device("cpu"), bf16=True):
        assert torch.is_autocast_enabled("cpu") == used
    with loop.autocast(torch.device("cpu"), bf16=False):
        assert not torch.is_autocast_enabled("cpu")
