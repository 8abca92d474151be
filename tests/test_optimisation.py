"""Training by reward end to end: cut batches, several processes, checkpoint choice, the watch."""

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from hpro_core import params as p
from hpro_core.codec.training import make_codec
from hpro_core.errors import HproError
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.sft import make_policy, rewarded_steps, save_policy
from hpro_core.reward import terms as own_terms
from hpro_core.reward import train
from hpro_core.reward.diagnostics import (
    gradient_shares,
    logit_gradients,
    warnings_about,
    write_report,
)
from hpro_core.reward.model_selection import (
    ProbeSettings,
    ScoredCheckpoint,
    choose_checkpoint,
    detect_hacking,
)
from hpro_core.reward.objective import TERMS, Objective, Rewarder
from hpro_core.train.checkpoint import save_model
from hpro_core.train.terms import Terms, cut, mean_of
from tests import rank_training
from tests.results import run_in, write_dataset

ALL = Objective(dict.fromkeys(TERMS, 1.0) | {"kl": 0.02}, temperature=1.0, frame_norm="l1")


@pytest.mark.parametrize(
    ("steps", "every"), [(40, 10), (120, 10), (48, 8), (16, 4), (10, 2), (7, 1), (1, 1)]
)
def test_a_curve_has_points_of_whole_parts_of_a_training(steps, every):
    assert train.log_interval(steps) == every


# --- a batch in parts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training with each batch as one piece."""
    out = tmp_path_factory.mktemp("whole")
    rank_training.train(out)
    return out


def assert_same_training(one: Path, other: Path) -> None:
    first, second = (load_file(out / "model.safetensors") for out in (one, other))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0, msg=name)
    curves = [pd.read_csv(out / "training.csv") for out in (one, other)]
    keys = ["step", "split", "term"]
    closer = [c["term"].str.startswith("logit_gradient") for c in curves]  # of the first part alone
    merged = curves[0][~closer[0]].merge(curves[1][~closer[1]], on=keys, how="outer")
    assert len(merged) > 100
    assert merged["value_x"].to_numpy() == pytest.approx(merged["value_y"].to_numpy(), abs=1e-5)


def test_the_training_moves_the_weights(whole, tmp_path):
    """So that the comparisons below compare something."""
    moved = pd.read_csv(whole / "training.csv").query("split == 'dev' and term == 'kl'")["value"]
    assert moved.iloc[0] != moved.iloc[-1]
    assert json.loads((whole / "config.json").read_text())["kept"] > 0


@pytest.mark.parametrize("accumulate", [pytest.param(8, marks=pytest.mark.full), 3])
def test_one_by_one_is_eight_at_once(whole, tmp_path, accumulate):
    rank_training.train(tmp_path, accumulate)
    assert_same_training(whole, tmp_path)


@pytest.mark.full
def test_two_processes_are_one(whole, tmp_path):
    """As `accelerate launch` starts them; the first alone writes.

    Without a GPU `--multi_gpu` starts processes all the same, and they talk by gloo; `--cpu` would
    start one and say nothing.
    """
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += [
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    launch += ["--main_process_port", "0", "-m", "tests.rank_training", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *launch],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # Both write to one pipe, so that a line may end after the other has begun.
    assert "process 0 of 2" in done.stdout
    assert "process 1 of 2" in done.stdout
    assert_same_training(whole, tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert not list((tmp_path / "work").iterdir())


def test_a_batch_that_is_too_small_to_cut_says_so(tmp_path):
    with pytest.raises(HproError, match="batch of 8 utterances cannot be cut into 9 parts"):
        rank_training.train(tmp_path, accumulate=9)


def test_parts_count_by_what_they_are_the_mean_of():
    """Three numbers in the one part, one in the other: means 2 and 6 make 3."""

    class Rows(list):
        def rows(self, start, stop):
            return Rows(self[start:stop])

        def counts(self):
            return {"frames": sum(len(row) for row in self)}

    batch = Rows([[1.0, 2.0, 3.0], [6.0]])
    parts = cut(batch, 2)
    means = [{"mean": mean_of(torch.tensor(part), "frames")} for part in parts]
    terms = [Terms(each, {"mean": 2.0}) for each in means]
    assert float(terms[0].plus(terms[1])["mean"]) == pytest.approx(3.0)
    shares = [t.share(part.counts(), batch.counts()) for t, part in zip(terms, parts, strict=True)]
    assert sum(float(share) for share in shares) == pytest.approx(6.0)


# --- gradient norms


@pytest.fixture(scope="module")
def rewarder(examples):
    torch.manual_seed(1)
    codec = make_codec("embedded").eval()
    codec.freeze(list(codec.children()))
    settings = rank_training.POLICY
    policy, reference = (make_policy(settings, examples).eval() for _ in range(2))
    reference.requires_grad_(False)
    return Rewarder(policy, reference, codec, ALL, torch.device("cpu"), bf16=False)


def test_gradient_shares_sum_to_one_and_no_term_is_dead(rewarder, batch):
    terms = rewarder.terms(rewarder.draw_noise(batch, 0))
    shares = gradient_shares(terms, rewarder.policy.parameters(), ALL.weights)
    assert sum(s["share"] for s in shares.values()) == pytest.approx(1.0)
    assert all(s["norm"] > 0 for s in shares.values())
    assert warnings_about(shares) == []


def test_gradient_norm_at_the_logits_is_that_of_autograd_and_leaves_the_policy_alone(
    rewarder, batch
):
    rewarder.policy.zero_grad()
    drawn = rewarder.draw_noise(batch, 0)
    found = rewarder.gradient_norms_at_logits(drawn)
    assert all(weight.grad is None for weight in rewarder.policy.parameters())
    assert set(found) == {f"logit_gradient_{term}" for term in TERMS}
    kept = []
    plain = rewarder.policy.logits

    def logits(hidden):
        kept.append(plain(hidden))
        kept[-1].retain_grad()
        return kept[-1]

    rewarder.policy.logits = logits
    try:
        rewarder.terms(drawn)["asr"].backward()
    finally:
        del rewarder.policy.logits
    want = float(kept[0].grad.double().norm())
    assert found["logit_gradient_asr"] == pytest.approx(want, rel=1e-5)
    rewarder.policy.zero_grad()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_cosyvoice2s_policy_is_rewarded_alike(rewarder, batch, checkpointing):
    """Every weight is pulled at, in eval mode too, where activations are computed again."""
    config = CosyVoice2Config(
        width=32, blocks=2, heads=2, key_heads=1, hidden=64, vocabulary=128
    )  # fmt: skip
    torch.manual_seed(0)
    policy = CosyVoice2LM(config, checkpointing).eval()
    cosyvoice = Rewarder(policy, policy, rewarder._codec, ALL, torch.device("cpu"), bf16=False)
    terms = cosyvoice.terms(cosyvoice.draw_noise(batch, 0))
    terms["loss"].backward()
    assert set(TERMS) < set(terms)
    assert all(float(weight.grad.abs().max()) > 0 for weight in policy.parameters())


def share_of(value=1.0, weight=1.0, share=0.5):
    return {"value": value, "weight": weight, "norm": share, "share": share}


def test_a_dead_term_is_named():
    shares = {"sp": share_of(share=1.0), "cp": share_of(share=0.0)}
    warnings = warnings_about(shares)
    assert any("cp has no effect" in warning for warning in warnings)
    assert warnings_about({"sp": share_of(), "cp": share_of()}) == []


def test_a_detached_term_is_found_dead(rewarder, batch):
    """The released reward detaches the content path: this is what the report would have said."""
    terms = rewarder.terms(rewarder.draw_noise(batch, 0))
    terms["cp"] = terms["cp"].detach()
    shares = gradient_shares(terms, rewarder.policy.parameters(), ALL.weights)
    assert [w for w in warnings_about(shares) if "cp has no effect" in w]


def test_a_term_that_drowns_the_others_is_named():
    shares = {"asr": share_of(share=0.97), "sp": share_of(share=0.03)}
    assert warnings_about(shares) == [
        "the term asr dominates the objective: its share of the gradient norms is 97.0%; "
        "lower its weight"
    ]
    assert warnings_about({"asr": share_of(share=1.0), "sp": share_of(weight=0.0, share=0)}) == []


def test_kl_may_be_dead_at_its_start_and_nowhere_else():
    others = {"sp": share_of(), "cp": share_of()}
    assert warnings_about({"kl": share_of(value=0.0, share=0.0), **others}) == []
    assert "kl has no effect" in warnings_about({"kl": share_of(value=0.3, share=0.0), **others})[0]


def test_the_report_is_printed_and_written(tmp_path, capsys):
    shares = {"asr": share_of(share=0.97), "sp": share_of(share=0.03)}
    write_report(shares, "word, seed 0", tmp_path / "gradient_norms.json")
    said = capsys.readouterr().out
    assert "97.0%" in said
    assert "warning: word, seed 0: the term asr dominates the objective" in said
    written = json.loads((tmp_path / "gradient_norms.json").read_text())
    assert written["terms"] == shares
    assert len(written["warnings"]) == 1


def test_logit_gradients_are_weighted():
    objective = Objective({**dict.fromkeys(TERMS, 0.0), "sp": 3.0}, 1.0, "l1")
    found = logit_gradients(
        lambda leaf: dict.fromkeys(TERMS, (leaf * torch.tensor([3.0, 4.0])).sum()),
        torch.zeros(2),
        objective.weights,
    )
    assert found["logit_gradient_sp"] == pytest.approx(15.0)
    assert found["logit_gradient_ser"] == 0.0


# --- which checkpoint to keep


START = ScoredCheckpoint(0, wer=0.10, wvad_ccc=0.30, emo_sim=0.60)


def test_the_most_expressive_of_the_intelligible_is_kept():
    candidates = [
        START,
        ScoredCheckpoint(10, wer=0.09, wvad_ccc=0.35, emo_sim=0.62),
        ScoredCheckpoint(20, wer=0.11, wvad_ccc=0.40, emo_sim=0.64),  # at the margin
        ScoredCheckpoint(30, wer=0.1101, wvad_ccc=0.90, emo_sim=0.90),  # beyond it
    ]
    assert choose_checkpoint(candidates, wer_margin=0.01) == 20
    assert choose_checkpoint(candidates, wer_margin=0.0) == 10
    assert choose_checkpoint(candidates, wer_margin=0.5) == 30


def test_a_training_that_only_does_harm_gives_back_its_start():
    worse = [ScoredCheckpoint(s, wer=0.05, wvad_ccc=0.2, emo_sim=0.6) for s in (10, 20)]
    unclear = [ScoredCheckpoint(s, wer=0.3, wvad_ccc=0.9, emo_sim=0.9) for s in (30, 40)]
    assert choose_checkpoint([*unclear, *worse, START], wer_margin=0.01) == 0


def test_of_equal_checkpoints_the_earliest_is_kept():
    equal = [
        ScoredCheckpoint(s, wer=0.1 - s / 1000, wvad_ccc=0.5, emo_sim=0.7) for s in (30, 10, 20)
    ]
    assert choose_checkpoint([START, *equal], wer_margin=0.0) == 10


def test_measures_that_are_no_numbers_are_an_error():
    with pytest.raises(HproError, match="step 10: emo_sim of the probe is nan"):
        choose_checkpoint([START, ScoredCheckpoint(10, 0.1, 0.3, float("nan"))], 0.01)
    with pytest.raises(HproError, match="no checkpoint was judged"):
        choose_checkpoint([], 0.01)


def test_the_choice_never_goes_back():
    """The loop keeps the weights of the best step so far only; that is enough."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        values = torch.rand(8, 3, generator=generator).tolist()
        candidates = [ScoredCheckpoint(10 * i, *row) for i, row in enumerate(values)]
        kept = [choose_checkpoint(candidates[: i + 1], 0.1) for i in range(8)]
        assert all(b in (a, 10 * (i + 1)) for i, (a, b) in enumerate(pairwise(kept)))


# --- probes


def history(reward, wer=None, ccc=None, sim=None):
    """Made-up probes ten steps apart."""
    rows = zip(
        reward,
        wer or [0.1] * len(reward),
        ccc or [0.3] * len(reward),
        sim or [0.6] * len(reward),
        strict=True,
    )
    names = ("reward", "wer", "wvad_ccc", "emo_sim")
    return {10 * i: dict(zip(names, row, strict=True)) for i, row in enumerate(rows)}


def test_a_reward_that_rises_while_a_judge_falls_is_hacked():
    found = detect_hacking(
        history([1, 2, 3, 4], sim=[0.6, 0.65, 0.6, 0.55]), patience=2, tolerance=0.02
    )
    assert found == (
        "the reward rises while judge metrics get worse (emo_sim from 0.650 at step 10 to 0.550, "
        "reward from 2.000 to 4.000)"
    )


def test_all_judges_that_are_let_down_are_named():
    found = detect_hacking(history([1, 2, 3], wer=[0.1, 0.2, 0.3], ccc=[0.3, 0.2, 0.1]), 2, 0.02)
    assert "wer from 0.100" in found
    assert "wvad_ccc from 0.300" in found
    assert "emo_sim" not in found


@pytest.mark.parametrize(
    "made_up",
    [
        history([1, 2, 3, 4]),  # judges stay
        history([1, 2, 3, 4], sim=[0.6, 0.65, 0.7, 0.75]),  # both rise
        history([4, 3, 2, 1], sim=[0.6, 0.5, 0.4, 0.3]),  # both fall: no hack, just harm
        history([1, 2, 3, 4], sim=[0.6, 0.6, 0.6, 0.5]),  # once is not yet a trend
        history([1, 2, 3, 4], sim=[0.6, 0.5, 0.65, 0.5]),  # it came back in between
        history([1, 2, 3, 4], sim=[0.6, 0.59, 0.585, 0.581]),  # within the tolerance
        history([1]),
        history([1, 2], sim=[0.6, 0.3]),  # too early to say
    ],
)
def test_other_histories_are_no_hack(made_up):
    assert detect_hacking(made_up, patience=2, tolerance=0.02) is None


def test_patience_of_one_and_of_none():
    sudden = history([1, 2], sim=[0.6, 0.3])
    assert detect_hacking(sudden, patience=1, tolerance=0.02) is not None
    assert detect_hacking(sudden, patience=1, tolerance=0.4) is None
    assert detect_hacking(sudden, patience=0, tolerance=0.02) is None


# --- end to end with judges that say what they are told


@pytest.fixture(scope="module")
def folders(tmp_path_factory, examples):
    """A policy and a codec with fresh weights, as their stages leave them."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    policy = make_policy(rank_training.POLICY, examples)
    save_policy(root / "sft", policy, variant="sft", seed=0)
    codec = make_codec("embedded")
    save_model(root / "codec", codec, {"model": asdict(codec.config)})
    write_dataset(root, examples, examples[:4])
    return root


def weights(**changed):
    return {**dict(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.5), **changed}


def rewarded(
    folders, examples, out, steps=30, watching=None, accumulate=1, start=None, own=None,
    override=None,
):  # fmt: skip
    stage = p.RewardStage(temperature=0.8, weights=p.Weights(**weights(**(own or {}))))
    settings = p.Reward(
        steps=steps, batch_size=2, learning_rate=3e-3, clip_norm=5.0, frame_norm="l1",
        kl_reduction="sum", jacobi_iterations=1, top_p=0.8, top_k=25, decay_fraction=0.0, ema=0.9,
        sentence=stage, accumulate=accumulate,
    )  # fmt: skip
    links = {
        "dataset": folders / "dataset", "codec/style": folders / "codec",
        "policy/sft/seed0": folders / "sft", "policy/start/seed0": start or folders / "sft",
        "policy/joint/seed0": out,
    }  # fmt: skip
    variant = p.Variant(start="start", stage="sentence", override=override or {})
    run = run_in(out / "results", out / "work", links)
    train.train_reward(run, "joint", variant, settings, 0, watching)
    return load_file(out / "model.safetensors")


class Told:
    """A probe that measures what it is told, look by look."""

    def __init__(self, wer=(), ccc=(), sim=(), dies_at=None):
        self.rows = list(zip(wer, ccc, sim, strict=True))
        self.looks = 0
        self.dies_at = dies_at

    def __call__(self, policy):
        assert not policy.training
        look, self.looks = self.looks, self.looks + 1
        if look == self.dies_at:
            raise KeyboardInterrupt
        return dict(zip(("wer", "wvad_ccc", "emo_sim"), self.rows[look], strict=True))


SECOND_BEST = dict(wer=(0.1, 0.1, 0.1, 0.9), ccc=(0.3, 0.4, 0.35, 0.9), sim=(0.5, 0.6, 0.5, 0.9))


def watched(examples, probe, **settings):
    usual = dict(every=10, wer_margin=0.01, patience=2, tolerance=0.08, stop=False)
    return ProbeSettings(examples[:4], probe, **(usual | settings))


@pytest.fixture(scope="module")
def short(folders, examples, tmp_path_factory):
    """Folder of a training of 10 steps that nobody watched."""
    out = tmp_path_factory.mktemp("short")
    rewarded(folders, examples, out, steps=10)
    return out


@pytest.fixture(scope="module")
def straight(folders, examples, tmp_path_factory):
    """Folder of a watched training of 30 steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    rewarded(folders, examples, out, watching=watched(examples, Told(**SECOND_BEST)))
    return out


def test_without_probes_the_last_weights_are_kept(short):
    metrics = json.loads((short / "metrics.json").read_text())
    assert set(metrics) == {"dev"}
    live = json.loads((short / "gradient_norms.json").read_text())
    assert set(live["terms"]) == set(TERMS)
    assert "kl" not in " ".join(live["warnings"])


def test_a_stage_goes_on_with_the_batches_and_the_noise_of_its_start(
    folders, examples, tmp_path, monkeypatch
):
    seen = []
    draw = train.Rewarder.draw_noise

    def noted(self, batch, seed):
        seen.append((tuple(batch.tokens_BL.flatten().tolist()), seed))
        return draw(self, batch, seed)

    monkeypatch.setattr(train.Rewarder, "draw_noise", noted)
    rewarded(folders, examples, tmp_path / "long", steps=6)
    whole = seen[-6:]
    seen.clear()
    rewarded(folders, examples, tmp_path / "first", steps=3)
    first = seen[-3:]
    rewarded(folders, examples, tmp_path / "second", steps=3, start=tmp_path / "first")
    assert [*first, *seen[-3:]] == whole
    assert len(set(whole)) == 6
    assert rewarded_steps(tmp_path / "second") == 6


def test_the_kept_weights_are_those_of_the_chosen_step(short, straight):
    last, kept = (load_file(out / "model.safetensors") for out in (short, straight))
    assert all(torch.equal(kept[name], value) for name, value in last.items())
    metrics = json.loads((straight / "metrics.json").read_text())
    assert metrics["kept_step"] == 10
    assert set(metrics["probes"]) == {"0", "10", "20", "30"}
    assert metrics["stopped_at"] is None
    curves = pd.read_csv(straight / "training.csv").query("split == 'probe'")
    assert set(curves["term"]) == {"wer", "wvad_ccc", "emo_sim", "reward"}
    assert curves["step"].unique().tolist() == [0, 10, 20, 30]
    short_dev = json.loads((short / "metrics.json").read_text())["dev"]
    assert metrics["dev"] == pytest.approx(short_dev)
    assert not list((straight / "work").iterdir())


def test_a_probed_run_that_was_killed_resumes_as_if_it_had_not(
    folders, examples, straight, tmp_path
):
    dying = Told(**SECOND_BEST, dies_at=2)
    with pytest.raises(KeyboardInterrupt):
        rewarded(folders, examples, tmp_path, watching=watched(examples, dying))
    assert len(list((tmp_path / "work").glob("kept_*.pt"))) == 1
    rest = {name: values[2:] for name, values in SECOND_BEST.items()}
    again = rewarded(folders, examples, tmp_path, watching=watched(examples, Told(**rest)))
    undisturbed = load_file(straight / "model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in undisturbed.items())
    for name in ("training.csv", "metrics.json"):
        assert (tmp_path / name).read_text() == (straight / name).read_text()


HACKED = dict(wer=(0.1, 0.1, 0.5, 0.6), ccc=(0.3, 0.4, 0.3, 0.2), sim=(0.5, 0.6, 0.5, 0.4))


@pytest.mark.parametrize("stop", [pytest.param(False, marks=pytest.mark.full), True])
def test_hacking_is_reported_and_ends_the_training_if_asked(
    folders, examples, tmp_path, capsys, stop
):
    watching = watched(examples, Told(**HACKED), patience=1, stop=stop)
    rewarded(folders, examples, tmp_path, watching=watching)
    assert "warning: joint (sentence), seed 0, step 20: the reward rises" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["kept_step"] == 10
    assert metrics["stopped_at"] == (20 if stop else None)
    assert rewarded_steps(tmp_path) == (20 if stop else 30)
    assert "wer from 0.100" in metrics["alarms"]["20"]
    assert ("30" in metrics["probes"]) != stop


def test_a_probe_between_two_logged_steps_is_an_error(folders, examples, tmp_path):
    watching = watched(examples, Told(), every=15)
    with pytest.raises(HproError, match="probe_every is 15: set a positive multiple of 10"):
        rewarded(folders, examples, tmp_path, watching=watching)


def test_weights_to_keep_that_are_gone_are_an_error(folders, examples, tmp_path):
    class Thief(Told):
        def __call__(self, policy):
            for path in (tmp_path / "work").glob("kept_*.pt"):
                if self.looks == 3:
                    path.unlink()
            return super().__call__(policy)

    with pytest.raises(HproError, match=r"kept_0000010\.pt does not exist: run again"):
        rewarded(folders, examples, tmp_path, watching=watched(examples, Thief(**SECOND_BEST)))


def test_gradient_norms_at_the_logits_are_in_the_curves(folders, examples, tmp_path):
    rewarded(folders, examples, tmp_path, steps=4)
    curves = pd.read_csv(tmp_path / "training.csv")
    pulls = curves[curves["term"].str.startswith("logit_gradient_")]
    assert pulls["step"].unique().tolist() == [4]
    assert (pulls["value"] > 0).all()
    assert len(pulls) == len(TERMS)


# --- a term of one's own, and settings of one variant


@pytest.fixture
def folder_of_terms(tmp_path):
    """A folder whose modules belong to the package of terms."""
    folder = tmp_path / "terms"
    folder.mkdir()
    own_terms.__path__.append(str(folder))
    yield folder
    own_terms.__path__.remove(str(folder))
    for name in [n for n in sys.modules if n.startswith("hpro_core.reward.terms.")]:
        del sys.modules[name]


@pytest.fixture
def speaking_rate(folder_of_terms):
    """The term of CONTRIBUTING.md as a module of the package of terms."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'```python\n(""".*?)```', text, flags=re.S)
    (folder_of_terms / "speaking_rate.py").write_text(code, encoding="utf-8")
    importlib.invalidate_caches()
    return importlib.import_module("hpro_core.reward.terms.speaking_rate")


def test_a_term_with_the_name_of_a_diagnostic_is_an_error(
    rewarder, batch, speaking_rate, folder_of_terms
):
    (folder_of_terms / "speaking_rate.py").rename(folder_of_terms / "entropy.py")
    importlib.invalidate_caches()
    objective = replace(ALL, weights=ALL.weights | {"entropy": 1.0})
    models = rewarder.policy, rewarder._reference, rewarder._codec
    own = Rewarder(*models, objective, torch.device("cpu"), bf16=False)
    with pytest.raises(HproError, match="reward term entropy: a diagnostic has this name: rename"):
        own.terms(own.draw_noise(batch, 0))


def test_the_speaking_rate_of_contributing_by_hand(speaking_rate):
    """Changes of 1 and 0.5 a frame in one row, of 0.2 in the other; padding does not count."""
    rows = [[[0.0, 0.0], [0.5, 0.5], [1.0, 0.5]], [[0.0, 0.0], [0.2, 0.0], [9.0, 9.0]]]
    code = torch.tensor(rows)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert speaking_rate.rate(code, mask).tolist() == pytest.approx([0.75, 0.2])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_term_of_ones_own_is_trained_and_logged(
    folders, examples, tmp_path, speaking_rate, accumulate
):
    out = tmp_path / "out"
    kept = rewarded(folders, examples, out, 4, accumulate=accumulate, own={"speaking_rate": 0.1})
    curves = pd.read_csv(out / "training.csv")
    logged = curves[curves["term"] == "speaking_rate"]
    assert set(logged["split"]) == {"train", "dev"}
    assert (logged["value"] > 0).all()
    pulls = curves[curves["term"] == "logit_gradient_speaking_rate"]["value"]
    assert len(pulls) == 1
    assert (pulls > 0).all()
    norms = json.loads((out / "gradient_norms.json").read_text())["terms"]
    assert norms["speaking_rate"]["norm"] > 0
    assert set(norms) == {*TERMS, "speaking_rate"}
    assert json.loads((out / "config.json").read_text())["weights"]["speaking_rate"] == 0.1
    without = rewarded(folders, examples, tmp_path / "without", 4, accumulate=accumulate)
    assert any(not torch.equal(kept[name], value) for name, value in without.items())


def test_a_term_of_ones_own_adds_up_over_parts(rewarder, batch, speaking_rate):
    weights = {**dict.fromkeys(TERMS, 0.0), "speaking_rate": 2.0}
    objective = replace(ALL, weights=weights)
    models = rewarder.policy, rewarder._reference, rewarder._codec
    own = Rewarder(*models, objective, torch.device("cpu"), bf16=False)
    drawn = own.draw_noise(batch, 0)
    parts = cut(drawn, 3)
    with torch.no_grad():
        whole, found = own.terms(drawn), [own.terms(part) for part in parts]
    shares = [t.share(q.counts(), drawn.counts()) for t, q in zip(found, parts, strict=True)]
    assert float(whole["loss"]) > 0
    torch.testing.assert_close(torch.stack(shares).sum(), whole["loss"], atol=1e-6, rtol=1e-5)
    whole.check(drawn.counts(), found[0], parts[0].counts())


def test_a_term_that_names_other_items_is_an_error_in_parts():
    sums = [mean_of(torch.ones(n), "utterances") for n in (30, 10)]
    whole, part = (Terms({"pitch": mean}, {"pitch": 1.0}) for mean in sums)
    message = "term pitch is a mean of 30 values over 4 utterances, but of 10 over 2 in a part"
    with pytest.raises(HproError, match=message):
        whole.check({"utterances": 4}, part, {"utterances": 2})


def test_a_term_of_weight_zero_is_logged_and_changes_nothing(
    folders, examples, tmp_path, speaking_rate
):
    kept = rewarded(folders, examples, tmp_path / "out", 4, own={"speaking_rate": 0.0})
    without = rewarded(folders, examples, tmp_path / "without", 4)
    assert all(torch.equal(kept[name], value) for name, value in without.items())
    assert "speaking_rate" in set(pd.read_csv(tmp_path / "out" / "training.csv")["term"])


def test_what_a_variant_overrides_reaches_the_loop_and_nothing_else_changes(
    folders, examples, tmp_path, monkeypatch
):
    seen = []

    class Noted(Exception):
        pass

    def fit(policy, optimiser, terms, batch_at, dev_terms, loop, *rest):
        rewarder = terms.__self__
        rate = optimiser.param_groups[0]["lr"]
        seen.append((asdict(loop), asdict(rewarder.objective), rate, len(batch_at(1))))
        raise Noted

    monkeypatch.setattr(train, "fit", fit)
    plain = {"steps": 6, "clip_norm": 2.0, "ema": 0.5, "learning_rate": 0.1, "batch_size": 3}
    of_samples = {"frame_norm": "mse", "kl_reduction": "mean", "samples": 2, "temperature": 1.5}
    for override in ({}, plain, of_samples | {"weights": {"asr": 2.0}}):
        with pytest.raises(Noted):
            rewarded(folders, examples, tmp_path, override=override)
    (loop, objective, rate, size), (loop1, objective1, rate1, size1), (*rest, objective2, _, _) = [
        (a, b, c, d) for a, b, c, d in seen
    ]
    follow_steps = {"steps", "log_every", "dev_every", "checkpoint_every", "grad_norm_every"}
    assert {n for n in loop if loop[n] != loop1[n]} - follow_steps == {"clip_norm", "ema"}
    assert (loop1["steps"], loop1["clip_norm"], loop1["ema"], rate1, size1) == (6, 2.0, 0.5, 0.1, 3)
    assert (rate, size) == (3e-3, 2)
    assert objective1 == objective
    assert rest == [loop]
    changed = {n: v for n, v in objective2.items() if v != objective[n]}
    assert changed == {**of_samples, "weights": weights(asr=2.0)}
