"""Tests over seeds and utterances on scores made by hand, and what `make claims` writes of them."""

import json
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import f as fisher
from snakemake.utils import update_config

from hpro_core.analysis import claims, commands, reward_vs_judges
from hpro_core.analysis.scores import METRICS, ratio
from hpro_core.analysis.significance import Comparison, compare, holm
from hpro_core.analysis.statistics import Ratio, interval
from hpro_core.errors import HproError
from hpro_core.io import write_json
from hpro_core.judges.provenance import JudgeProvenance, to_json
from hpro_core.params import Claims, Params, Tables
from hpro_core.tables import SCORES, write_table
from tests.recorded import record
from tests.scores import quality_and_prosody
from tests.workflow.project import REPO, Project

SETTINGS = Claims(min_seeds=3, bootstrap_samples=50, wer_margin=0.01, seed=0)
ROWS = Tables(
    comparison=["recordings", "sft", "hpro"],
    progressive=["sft", "frame", "word", "hpro"],
    ablation=["no_content", "no_emotion", "hpro"],
)
SEEDS = [0, 1, 2]
SYSTEMS = ["recordings", "sft", "hpro", "frame", "word", "no_content", "no_emotion"]
VARIANTS = SYSTEMS[2:]
N = 30
GAIN = {"hpro": 0.2, "no_emotion": -0.2}
"""In wVAD-CCC and EMO-SIM. What a system gains is lost again in EMO-SIM on `acted`."""
WORSE = {"no_content": 0.3}
"""In WER."""
STARTS = {"hpro": "word", "frame": "sft", "word": "frame", "no_content": "sft", "no_emotion": "sft"}
DROPPED = {"no_content": ("cp", "asr"), "no_emotion": ("sp", "wvad", "ser")}


def gaps(rng: np.random.Generator, seeds: float, utterances: float, both: float) -> Ratio:
    """Differences of 5 seeds on 60 utterances with these deviations, and no mean."""
    parts = seeds * rng.normal(size=(5, 1)), utterances * rng.normal(size=(1, 60))
    return Ratio.mean_of(parts[0] + parts[1] + both * rng.normal(size=(5, 60)))


NOTHING = Ratio.mean_of(np.zeros((5, 60)))


def scores(system: str, seed: int, n: int = N) -> pd.DataFrame:
    """Scores around those of the utterance, with a little of their own."""
    shared = np.random.default_rng(0)
    own = np.random.default_rng([SYSTEMS.index(system), seed])
    words, hard = shared.integers(5, 12, 2 * n), shared.uniform(0.1, 0.3, 2 * n)
    errors = own.binomial(words, hard + WORSE.get(system, 0.0))
    gain = np.full(2 * n, GAIN.get(system, 0.0))
    side = np.repeat([-1, 1], n)
    return pd.DataFrame(
        {
            "utt_id": [f"{c}_{i:02}" for c in ("acted", "controlled") for i in range(n)],
            "corpus": ["acted"] * n + ["controlled"] * n,
            "transcript": "",
            **{name: errors for name in SCORES.columns if name.startswith("n_errors")},
            "n_words": words,
            "wvad_ccc": hard + gain + own.normal(0, 0.05, 2 * n),
            "emo_sim": 0.3 + hard + gain * side + own.normal(0, 0.05, 2 * n),
            "dnsmos": own.uniform(1, 5, 2 * n),
            "speaker_sim": own.uniform(0, 1, 2 * n),
            **quality_and_prosody(2 * n, own),
        }
    )


def write(root: Path, system: str, seed: int, n: int = N) -> None:
    folder = root / "eval" / system / f"seed{seed}"
    write_table(scores(system, seed, n), folder / "scores.parquet", SCORES)
    record(root, folder / "scores.parquet", system, seed)
    write_json(folder / "metrics.json", to_json(JudgeProvenance({"emotion": "an ear"}, {})))


def write_training(root: Path, variant: str, seed: int) -> None:
    """A training that lowered the n-th term by n tenths and a hundredth for each seed."""
    folder = root / "policy" / variant / f"seed{seed}"
    weights = {
        t: 0.0 if t in DROPPED.get(variant, ()) else 2.0 for t in reward_vs_judges.TERM_NAMES
    }
    moved = 0.7 if STARTS[variant] != "sft" else 0.0  # away from sft, before the training
    pulls = {
        t: {"value": 1.0, "weight": w, "norm": 0.1, "share": w / 10} for t, w in weights.items()
    }
    if not moved:
        pulls["kl"]["share"] = 0.0
    write_json(folder / "gradient_norms.json", {"terms": pulls, "warnings": []})
    before = {t: moved if t == "kl" else 1.0 for t in reward_vs_judges.TERM_NAMES}
    after = {t: 1.0 - 0.1 * n - 0.01 * seed for n, t in enumerate(reward_vs_judges.TERM_NAMES)}
    write_json(folder / "metrics.json", {"dev": after})
    lines = [
        f"0,{split},{t},{v}" for t in after for split, v in (("dev", before[t]), ("train", 5.0))
    ]
    lines += [f"40,dev,{t},9.0" for t in after]  # not of the policy that was kept
    (folder / "training.csv").write_text("\n".join(["step,split,term,value", *lines]) + "\n")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run, with its claims in `docs`."""
    root = tmp_path_factory.mktemp("judged")
    for variant, seed in product(STARTS, SEEDS):
        write_training(root, variant, seed)
    for system in SYSTEMS:
        for seed in SEEDS[:1] if system == "recordings" else SEEDS:
            write(root, system, seed)
    claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
    return root


@pytest.fixture
def root(judged: Path, tmp_path: Path) -> Path:
    """The judged run without claims, free to be changed."""
    return shutil.copytree(
        judged, tmp_path / "run", ignore=lambda folder, names: {"docs"} & set(names)
    )


@pytest.mark.parametrize("name", ["claims_rewards.csv", "claims.md"])
def test_a_full_disk_leaves_nothing_under_the_name_of_a_claim(root, full_disk, name) -> None:
    full_disk(name)
    with pytest.raises(HproError, match=rf"{name} cannot be written \(No space left on device"):
        claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
    assert not list((root / "docs").glob(f"*{name}*"))


def test_a_comparison_by_hand() -> None:
    found = compare(Ratio.mean_of(np.array([[1, 3], [2, 6]])), Ratio.mean_of(np.zeros((2, 2))))
    # errors: seeds (2, 4) 1, utterances (1.5, 4.5) 2.25; F of seeds 9 / 1, of utterances 9 / 2.25
    assert found.p == pytest.approx(fisher.sf(9 * 4 / (9 + 4), 1, (9 + 4) ** 2 / (9**2 + 4**2)))
    assert (found.difference, found.seeds_agree) == (3.0, 2)
    assert (found.lo + found.hi) / 2 == pytest.approx(3.0)


def test_word_errors_are_compared_as_rates() -> None:
    rng = np.random.default_rng(1)
    words = np.tile(rng.integers(3, 12, 40), (5, 1)).astype(float)
    first, second = (Ratio(rng.binomial(words.astype(int), x) * 1.0, words) for x in (0.4, 0.2))
    found = compare(first, second)
    rates = [r.numerator_SN.sum() / r.denominator_SN.sum() for r in (first, second)]
    assert found.difference == pytest.approx(rates[0] - rates[1])
    assert found.lo < found.difference < found.hi
    assert found.p < 1e-4
    assert found.seeds_agree == 5


@pytest.mark.parametrize(
    ("seeds", "utterances", "both", "low", "high"),
    [
        (0.0, 1.0, 0.0, 0.03, 0.07),
        (1.0, 0.0, 0.3, 0.03, 0.07),
        (0.3, 0.5, 1.0, 0.02, 0.07),
        (0.05, 0.5, 1.0, 0.005, 0.05),  # chance of one seed on one utterance: cautious
    ],
)
def test_null_differences_are_called_real_as_often_as_promised(
    seeds: float, utterances: float, both: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(2)
    p_values = [compare(gaps(rng, seeds, utterances, both), NOTHING).p for _ in range(1500)]
    assert low <= np.mean(np.array(p_values) < 0.05) <= high
    if not (seeds and utterances):
        deciles = np.quantile(p_values, np.arange(0.1, 1.0, 0.1))
        assert deciles == pytest.approx(np.arange(0.1, 1.0, 0.1), abs=0.05)


def test_seldom_is_anything_real_in_a_family_without_differences() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        baseline = gaps(rng, 0.3, 0.5, 1.0)
        family = [compare(gaps(rng, 0.3, 0.5, 1.0), baseline).p for _ in range(27)]
        alarms += min(holm(family)) < 0.05
    assert alarms <= 10


def test_the_interval_excludes_zero_exactly_where_p_is_small() -> None:
    rng = np.random.default_rng(4)
    found = [compare(gaps(rng, 0.3, 0.5, 1.0), NOTHING) for _ in range(300)]
    assert any(f.p < 0.05 for f in found)
    assert all((f.p < 0.05) == (f.lo > 0 or f.hi < 0) for f in found)


def test_differences_without_spread() -> None:
    assert compare(NOTHING, NOTHING) == Comparison(0.0, 0.0, 0.0, 1.0, 0)
    one = Ratio.mean_of(np.ones((5, 60)))
    assert compare(one, NOTHING) == Comparison(1.0, 1.0, 1.0, 0.0, 5)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        compare(NOTHING, Ratio.mean_of(np.zeros((5, 59))))
    with pytest.raises(HproError, match="needs 2 seeds and 2 utterances, not 1 and 60"):
        compare(Ratio.mean_of(np.zeros((1, 60))), Ratio.mean_of(np.zeros((1, 60))))


def test_holm_by_hand() -> None:
    # ascending 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1; none below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_figures_have_a_row_for_each_seed_and_one_for_all(judged: Path) -> None:
    table = pd.read_csv(judged / "docs/claims.csv", dtype={"seed": str})
    assert tuple(table.columns) == claims.COLUMNS
    assert not table.isna().any().any()
    expected = [
        (system, test_set, seed)
        for system, test_set in product(SYSTEMS, ("acted", "controlled"))
        for seed in (["all"] if system == "recordings" else ["0", "1", "2", "all"])
    ]
    assert list(zip(table["system"], table["test_set"], table["seed"], strict=True)) == expected
    assert set(table["n"]) == {N}
    assert set(table["n_wvad"]) == set(table["n_checked"]) == {N}
    rows = table.set_index(["system", "test_set", "seed"]).sort_index()
    acted = [scores("hpro", seed)[:N] for seed in SEEDS]
    for seed, tables in (("1", acted[1:2]), ("all", acted)):
        for metric in METRICS:
            found = rows.loc[("hpro", "acted", seed), [metric, f"{metric}_lo", f"{metric}_hi"]]
            figure = interval(ratio(tables, metric), SETTINGS.bootstrap_samples, SETTINGS.seed)
            assert found.tolist() == pytest.approx(list(figure), rel=1e-5)


def test_each_variant_is_tested_against_sft(judged: Path) -> None:
    table = pd.read_csv(judged / "docs/claims_tests.csv")
    assert tuple(table.columns) == claims.TEST_COLUMNS
    expected = product(("acted", "controlled"), VARIANTS, METRICS)
    found = zip(table["test_set"], table["system"], table["metric"], strict=True)
    assert list(found) == list(expected)
    assert set(table["n"]) == {N}
    main = table[table["metric"].isin(claims.MAIN_METRICS)]
    assert table["p_holm"].notna().sum() == len(main)
    for _, family in main.groupby("test_set"):
        assert len(family) == 3 * len(VARIANTS)
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"].tolist()), rel=1e-4)
    rows = table.set_index(["test_set", "system", "metric"]).sort_index()
    gain = rows.loc[("controlled", "hpro", "wvad_ccc")]
    assert gain["above_sft"] == pytest.approx(0.2, abs=0.02)
    assert gain["lo"] > 0.15
    assert gain["p_holm"] < 0.01
    assert (gain["seeds_agree"], gain["seeds"]) == (3, 3)
    assert rows.loc[("controlled", "no_content", "wer"), "p_holm"] < 0.05
    assert rows.loc[("controlled", "frame", "wvad_ccc"), "p_holm"] > 0.2


def test_the_papers_orderings_are_looked_up(judged: Path) -> None:
    _, _, acted, controlled = (judged / "docs/claims.md").read_text().split("\n## ")
    verdicts = [
        dict(re.findall(r"^- (.*): \*\*(.*)\*\*", text, re.M)) for text in (acted, controlled)
    ]
    assert verdicts[0].keys() == verdicts[1].keys()
    assert verdicts[0]["EMO-SIM, hpro is better than sft"] == "does not hold"
    expected = {
        "wVAD-CCC, hpro is better than sft": "holds before correction",
        "EMO-SIM, hpro is better than sft": "holds before correction",
        "WER, no_content is the worst": "holds before correction",
        "wVAD-CCC, no_emotion is worse than hpro": "holds before correction",
        "wVAD-CCC, diffro is worse than hpro": "not judged",
        "wVAD-CCC, sft, frame, word: each better than the one before": "undecided",
    }
    assert {claim: verdicts[1][claim] for claim in expected} == expected
    assert "(diffro in no table)" in controlled
    numbers = re.search(r"EMO-SIM, hpro is better than sft.*\(hpro - sft = (\S+) \[", controlled)
    assert numbers
    assert float(numbers[1]) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("metric", "margin", "ends", "expected"),
    [
        ("emo_sim", 0.0, [(0.01, 0.05)], "holds before correction"),
        ("emo_sim", 0.0, [(-0.05, -0.01)], "does not hold"),
        ("emo_sim", 0.0, [(-0.01, 0.05)], "undecided"),
        ("wer", 0.0, [(-0.05, -0.01)], "holds before correction"),
        ("wer", 0.0, [(0.01, 0.05)], "does not hold"),
        ("wer", 0.01, [(-0.02, 0.005)], "holds before correction"),
        ("wer", 0.01, [(-0.02, 0.015)], "undecided"),
        ("wer", 0.01, [(0.011, 0.02)], "does not hold"),
        ("emo_sim", 0.0, [(0.01, 0.05), (-0.01, 0.05)], "undecided"),
        ("emo_sim", 0.0, [(0.01, 0.05), (-0.05, -0.01)], "does not hold"),
    ],
)
def test_a_verdict_reads_the_intervals(
    metric: str, margin: float, ends: list[tuple[float, float]], expected: str
) -> None:
    found = [Comparison((lo + hi) / 2, lo, hi, 0.5, 0) for lo, hi in ends]
    pairs = [("hpro", f"other{i}") for i in range(len(ends))]
    assert claims.verdict(claims.Ordering("", metric, pairs, margin), found) == expected


def test_too_few_seeds_are_refused(root: Path) -> None:
    for seeds in ([0, 1], [0, 1, 1]):
        with pytest.raises(HproError, match=r"2 seeds, but claims.min_seeds is 3"):
            claims.write_claims(root, ROWS, seeds, SETTINGS, STARTS, ["acted"], root / "docs")
    assert not (root / "docs").exists()


def test_other_utterances_are_refused(root: Path) -> None:
    write(root, "frame", 1, N - 1)
    with pytest.raises(HproError, match="frame, seed 1, was judged on other utterances"):
        claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")


def test_other_judges_are_refused_and_judges_that_are_teachers_are_named(root: Path) -> None:
    paths = sorted(root.glob("eval/*/seed*/metrics.json"))
    write_json(paths[-1], to_json(JudgeProvenance({"emotion": "another"}, {})))
    with pytest.raises(HproError, match=r"are of different judges .emotion: another, and an ear."):
        claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
    for path in paths:
        write_json(path, to_json(JudgeProvenance({"emotion": "an ear"}, {"emo_sim": "an ear"})))
    claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
    introduction = (root / "docs/claims.md").read_text().split("\n## ")[0]
    assert "EMO-SIM is not independent here: an ear judged it" in introduction


def test_a_set_whose_affect_is_not_judged_is_tested_in_the_other_metrics(
    judged: Path, root: Path
) -> None:
    for path in sorted(root.glob("eval/*/seed*/scores.parquet")):
        table = pd.read_parquet(path)
        table.loc[table["corpus"] == "controlled", ["wvad_ccc", "emo_sim"]] = np.nan
        write_table(table, path, SCORES)
        record(root, path, path.parts[-3], int(path.parent.name.removeprefix("seed")))
    claims.write_claims(root, ROWS, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
    found, before = (pd.read_csv(r / "docs/claims_tests.csv") for r in (root, judged))
    here = found["test_set"] == "controlled"
    assert set(found.loc[here, "metric"]) == set(METRICS) - {"wvad_ccc", "emo_sim"}
    acted = before["test_set"] == "acted"
    pd.testing.assert_frame_equal(found[~here].reset_index(drop=True), before[acted])
    other, text = (root / "docs/claims.md").read_text().split("## controlled")
    assert "- wVAD-CCC, hpro is better than sft: **not judged**\n" in text
    assert "nan" not in text
    assert "**not judged**\n" not in other


def test_a_run_without_sft_is_refused(root: Path) -> None:
    rows = Tables(comparison=["hpro"], progressive=["word"], ablation=["frame"])
    with pytest.raises(HproError, match="no row 'sft'"):
        claims.write_claims(root, rows, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")


def test_the_command_reads_its_key_file(root: Path) -> None:
    key = root / "claims.yaml"
    variants = yaml.safe_load((REPO / "params.yaml").read_text())["variants"]
    sections = {"tables": ROWS.model_dump(), "claims": SETTINGS.model_dump(), "variants": variants}
    sections["reward"] = yaml.safe_load((REPO / "params.yaml").read_text())["reward"]
    key.write_text(yaml.safe_dump({"seeds": SEEDS, **sections}))
    commands.claims(root, key, root / "docs")
    written = {path.name for path in (root / "docs").iterdir()}
    assert written == {"claims.csv", "claims_tests.csv", "claims_rewards.csv", "claims.md"}
    told = pd.read_csv(root / "docs/claims_rewards.csv")
    assert dict(zip(told["system"], told["start"], strict=True)) == STARTS


def test_rewards_stand_beside_the_judges(judged: Path) -> None:
    told = pd.read_csv(judged / "docs/claims_rewards.csv")
    assert tuple(told.columns) == reward_vs_judges.COLUMNS
    assert len(told) == len(STARTS) * len(SEEDS) * len(reward_vs_judges.TERM_NAMES)
    row = told.set_index(["system", "seed", "term"]).loc[("hpro", 1, "ser")]
    assert (row["start"], row["before"]) == ("word", 1.0)
    assert row["after"] == pytest.approx(1.0 - 0.5 - 0.01)
    _, pulls, acted, controlled = (judged / "docs/claims.md").read_text().split("\n## ")
    assert "| no_content | sft | 0.0% | 20.0% | 0.0% | 0.0% | 20.0% | 20.0% |" in pulls
    assert "is the KL of a policy equal to `sft`" in pulls
    cells = {
        line.split(" | ")[0]: line.split(" | ") for line in controlled.splitlines() if "| (" in line
    }
    assert cells.keys() == {"| no_content", "| no_emotion"}
    assert cells["| no_content"][1:4] == ["sft", "0.99", "(-0.31 ± 0.01)"]  # KL at the end
    assert "-0.41 ± 0.01" in cells["| no_content"]  # L_wVAD, which it was trained on
    of_word = re.search(r"^\| word \| frame \| .*", controlled, re.M)
    assert of_word
    scored = claims.read_scores(judged, SYSTEMS, SEEDS)
    gap = claims.difference(scored, "controlled", "wer", ("word", "frame"))
    assert f"| {gap.difference:+.3f} [{gap.lo:+.3f}, {gap.hi:+.3f}] |" in of_word[0]
    assert of_word[0].startswith("| word | frame | 0.99 |")
    assert "| hpro | word |" not in acted
    assert "The rewards were not trained on this corpus" in acted
    assert "The rewards were not" not in controlled


@pytest.mark.parametrize(
    ("name", "key", "odd"),
    [
        ("gradient_norms.json", "terms", []),
        ("gradient_norms.json", "terms", {"kl": 1.0}),
        ("gradient_norms.json", "terms", {"kl": {"weight": "1", "share": 0.0}}),
        ("gradient_norms.json", "terms", {"kl": {"weight": 1.0}}),
        ("metrics.json", "dev", [1.0]),
        ("metrics.json", "dev", {"kl": None}),
    ],
)
def test_a_training_with_odd_figures_is_named(root: Path, name: str, key: str, odd: object) -> None:
    path = root / "policy/word/seed2" / name
    write_json(path, {**json.loads(path.read_text()), key: odd})
    with pytest.raises(HproError, match=r"delete \S*/policy/word/seed2 and run Snakemake"):
        reward_vs_judges.read_terms(root, {"word": "frame"}, [2])


@pytest.mark.parametrize("name", ["gradient_norms.json", "metrics.json", "training.csv"])
def test_a_training_without_its_figures_is_named(root: Path, name: str) -> None:
    rows = Tables(comparison=["sft"], progressive=["word"], ablation=["word"])
    path = root / "policy/word/seed2" / name
    if name == "training.csv":
        path.write_text("step,split,term,value\n40,dev,kl,1.0\n")
    else:
        told = json.loads(path.read_text())
        del told["terms" if name == "gradient_norms.json" else "dev"]
        write_json(path, told)
    for _ in range(2):  # then it is not there at all
        with pytest.raises(HproError, match=r"delete \S*/policy/word/seed2 and run Snakemake"):
            claims.write_claims(root, rows, SEEDS, SETTINGS, STARTS, ["acted"], root / "docs")
        path.unlink(missing_ok=True)
    assert not (root / "docs").exists()


def test_the_settings_have_every_variant_and_enough_seeds() -> None:
    settings = yaml.safe_load((REPO / "params.yaml").read_text())
    update_config(settings, yaml.safe_load((REPO / "config/claims.yaml").read_text()))
    params = Params.model_validate(settings)
    rows = {system for names in params.tables.model_dump().values() for system in names}
    assert rows == {"recordings", "tokenrecon", "sft", *params.variants}
    assert len(set(params.seeds)) >= params.claims.min_seeds
    assert params.run != yaml.safe_load((REPO / "params.yaml").read_text())["run"]


@pytest.mark.full
@pytest.mark.workflow
def test_the_target_trains_every_variant_with_every_seed(tmp_path: Path) -> None:
    project = Project.copied(tmp_path / "project", data=False)
    settings = ["--configfile", "config/claims.yaml"]
    plan = project.run("snakemake", "--dry-run", *settings, "--", "claims").stdout
    jobs = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE)}
    assert (jobs["sft"], jobs["reward"], jobs["claims"]) == (5, 45, 1)
    assert jobs["judge"] == jobs["synthesise"] == 52
    key = yaml.safe_load((project.folder / "results/claims/params/claims.yaml").read_text())
    assert key["seeds"] == [0, 1, 2, 3, 4]
