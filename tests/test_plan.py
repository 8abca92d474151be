"""`hpro plan` and config/paper.yaml: the jobs are Snakemake's, the costs are what was measured."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from hpro_core import params as p
from hpro_core import tables
from hpro_core.cli import app
from hpro_core.errors import HproError
from hpro_core.plan import costs, durations
from hpro_core.plan.cost_table import (
    CostTable,
    estimate_costs,
    format_costs,
    format_expectation,
    hours_minutes,
    parse_hours,
)
from hpro_core.plan.costs import policies
from hpro_core.plan.jobs import Job
from hpro_core.plan.settings import read_settings
from hpro_core.plan.speech import amounts
from tests.workflow.project import REPO, Project

SHIPPED, PAPER = REPO / "params.yaml", REPO / "config/paper.yaml"


@pytest.fixture
def paper(paper_jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> p.Params:
    """The paper's settings; other settings in a test have the same jobs, so Snakemake runs once."""
    monkeypatch.setattr("hpro_core.plan.cost_table.jobs_of", lambda settings: paper_jobs)
    return read_settings(SHIPPED, [PAPER])


def changed(settings: p.Params, **sections: dict[str, Any]) -> p.Params:
    """Settings with some values of sections replaced."""
    whole = settings.model_dump()
    for name, values in sections.items():
        whole[name] = {**whole[name], **values}
    return p.Params.model_validate(whole)


def cost(bill: CostTable, rule: str) -> costs.Cost:
    return next(each for each in bill.costs if each.job.rule == rule)


def leaves(values: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(values, dict):
        return [(path, values)]
    return [leaf for key, inner in values.items() for leaf in leaves(inner, (*path, key))]


def value_at(settings: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings.get(key, "absent") if isinstance(settings, dict) else "absent"
    return settings


def test_the_papers_configuration_holds_differences_only():
    whole, different = (yaml.safe_load(file.read_text()) for file in (SHIPPED, PAPER))
    same = [path for path, value in leaves(different) if value_at(whole, path) == value]
    assert same == []


def test_the_papers_configuration_is_the_papers(paper):
    assert (paper.run, paper.seeds) == ("paper", [0, 1, 2])
    assert {each.reader for each in paper.corpus.sets.values()} == {
        "controlled", "emovoice_db", "lssed", "librispeech",
    }  # fmt: skip
    stages = [paper.reward.frame, paper.reward.word, paper.reward.sentence]
    assert [stage.temperature for stage in stages] == [2.0, 1.0, 0.8]
    assert [stage.weights.kl for stage in stages] == [0.05, 0.02, 0.02]
    assert stages[2].weights == p.Weights(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.5)
    reward = paper.reward
    assert (reward.learning_rate, reward.frame_norm, reward.samples) == (1e-5, "l1", 1)
    assert (reward.jacobi_iterations, reward.gumbel_rao_samples, reward.top_p, reward.top_k) == (
        0,
        0,
        1.0,
        6561,
    )
    assert policies(paper) == [
        "sft", "diffro", "frame", "word", "hpro",
        "no_content", "no_emotion", "no_frame", "no_wvad", "joint",
    ]  # fmt: skip


def test_the_papers_paths_are_one_block_at_the_top():
    before, block, after = re.split(r"^# =+.*=+$", PAPER.read_text(), flags=re.MULTILINE)
    paths = re.compile(r"\b(data/raw|models)/")
    code = [re.sub(r"#.*", "", part) for part in (before, block, after)]
    assert [bool(paths.search(part)) for part in code] == [False, True, False]
    assert len(before.splitlines()) < 35


def test_a_corpus_that_is_null_is_left_out(tmp_path):
    file = tmp_path / "without.yaml"
    file.write_text("run: other\ncorpus: {sets: {acted: null}}\n")
    settings = read_settings(SHIPPED, [file])
    assert (settings.run, list(settings.corpus.sets)) == ("other", ["controlled"])
    file.write_text("corpus: {sets: {acted: null}}\nreward: {leave_out: [acted, controlled]}\n")
    assert read_settings(SHIPPED, [file]).reward.leave_out == ["controlled"]  # acted is known
    file.write_text("corpus: {sets: null}\n")
    with pytest.raises(HproError, match=r"without.yaml: corpus.sets: input should be a valid dict"):
        read_settings(SHIPPED, [file])


def test_a_later_file_of_differences_wins(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("sft: {steps: 7, batch_size: 3}\nseeds: [0, 1]\n")
    second.write_text("sft: {steps: 8}\n")
    settings = read_settings(SHIPPED, [first, second])
    assert (settings.sft.steps, settings.sft.batch_size, settings.seeds) == (8, 3, [0, 1])


def placeholders(folder: Path, settings: p.Params) -> None:
    """Every file that the rules have as input and no rule makes, empty."""
    from hpro_core.preflight import _user_model_files

    for path in _user_model_files(settings):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def as_told(text: str) -> str:
    """config/paper.yaml after what it says itself: '# ' is taken off so many lines."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if told := re.search('take "# " off each of the next ([0-9]+) lines$', line, re.IGNORECASE):
            for place in range(number + 1, number + 1 + int(told[1])):
                assert lines[place].startswith("# ")
                lines[place] = lines[place].removeprefix("# ")
    return "".join(lines)


SMALL = "base: ''\nseeds: [0, 1]\ntables: {comparison: [recordings], progressive: [word]}\n"
CONFIGURATIONS = {
    "default": "",
    "from nothing, two seeds": SMALL,
    "no policy at all": "tables: {comparison: [tokenrecon], "
    "progressive: [recordings], ablation: [recordings]}\n",
    "paper": PAPER.read_text(),
    "paper, with its teachers": as_told(PAPER.read_text()),
}


def test_teachers_and_judges_are_where_the_papers_configuration_says(tmp_path):
    told = tmp_path / "told.yaml"
    told.write_text(as_told(PAPER.read_text()))
    settings = read_settings(SHIPPED, [told])
    label, judges = settings.label, settings.evaluate
    assert (label.emotion_teacher, label.vad_teacher) == ("emotion2vec", "audeering")
    chosen = (judges.asr, judges.emotion, judges.vad, judges.speaker, judges.batch_size)
    assert chosen == ("whisper", "emotion2vec", "audeering", "wavlm", 16)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(tmp_path_factory.mktemp("plan") / "project", data=False)


@pytest.mark.workflow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "default" else pytest.mark.full)
        for name in CONFIGURATIONS
    ],
)
def test_the_jobs_are_those_of_snakemakes_dry_run(name, project):
    file = project.folder / "config/tried.yaml"
    file.write_text(CONFIGURATIONS[name] or "seeds: [0]\n")
    settings = read_settings(project.folder / "params.yaml", [file])
    assert (settings.label.emotion_teacher == "emotion2vec") == name.endswith("its teachers")
    placeholders(project.folder, settings)
    said = project.run("snakemake", "--dry-run", "--configfile", str(file)).stdout
    planned = {r: int(n) for r, n in re.findall(r"^(\w+) +(\d+)$", said, flags=re.MULTILINE)}
    bill = estimate_costs(settings)
    assert planned.pop("total") == sum(bill.jobs.values()) + planned.pop("all")
    assert planned == bill.jobs
    assert ("The whole run 'paper', seeds [0, 1, 2]" in said) == name.startswith("paper")


@pytest.mark.full
@pytest.mark.workflow
def test_a_dry_run_without_the_weights_says_the_costs_and_what_is_missing(project):
    done = project.run("snakemake", "-n", "--configfile", "config/paper.yaml", "--config",
                       "speech={preset: cosyvoice2, path: nowhere}", check=False)  # fmt: skip
    assert done.returncode == 1
    assert "GPU h: of one H100" in done.stdout
    assert "nowhere/campplus.onnx" in done.stdout


def test_hours_of_a_training_by_hand(paper):
    given = {"lssed": (100.0, 72_000), "emovoice": (10.0, 7_200), "librispeech": (10.0, 7_200)}
    small = changed(paper, sft={"steps": 3600, "batch_size": 16})
    bill = estimate_costs(small, given)
    rendered = amounts(small, given)["controlled"]
    assert rendered is not None
    assert rendered.utterances == 3020
    # Judges' sentences are not learnt from: clips of 5 s, 80 s a batch where 48 were measured.
    assert cost(bill, "sft").gpu == (pytest.approx(3 * 0.104 * 80 / 48), "<=")
    tiny = estimate_costs(changed(small, sft={"batch_size": 4}), given)
    assert cost(tiny, "sft").gpu == (pytest.approx(3 * 0.104), "")
    # frame, word and hpro have one stage each, the six rows of Table III three
    assert costs.reward_steps(paper) == (3 + 6 * 3) * 2000
    assert cost(bill, "reward").gpu == (
        pytest.approx(3 * 21 * 2000 * 0.270 * 80 / 48 / 3600), "<=",
    )  # fmt: skip


def test_bytes_by_hand(paper):
    given = {"lssed": (1.0, 1000), "emovoice": (1.0, 1000), "librispeech": (1.0, 1000)}
    bill = estimate_costs(paper, given)
    assert cost(bill, "corpus_read").stored == 3 * 3600 * 32_000
    assert cost(bill, "reward").stored == 27 * 4 * costs.POLICY_PARAMETERS
    # 700 sentences of EmoVoice-DB and 5 of LSSED, of 3.6 s; the recordings are not written again
    assert cost(bill, "synthesise").stored == 31 * 705 * 3.6 * 32_000
    assert costs.checkpoint_bytes(paper) == 2 * 3 * 4 * costs.CODEC_PARAMETERS["paper"]
    averaged = changed(paper, sft={"ema": 0.9})
    assert costs.checkpoint_bytes(averaged) == 2 * 4 * 4 * costs.POLICY_PARAMETERS
    everything = sum(each.stored or 0 for each in bill.costs) + costs.checkpoint_bytes(paper)
    assert bill.disk_bytes == everything


def test_what_was_not_measured_is_named_and_in_no_sum(paper):
    bill = estimate_costs(paper)
    for rule in ("tokenize", "synthesise"):
        assert cost(bill, rule).gpu is None
    assert cost(bill, "align").cpu is None  # MFA
    lines = list(format_costs(bill))
    assert lines[0].endswith("from an empty results folder; incomplete: 17 of 22 rules")
    assert lines[1] == "  not measured at this size: 12 rules with a lower bound, 5 unknown"
    assert any(re.match(r"speech +tokenize +16 +>= 0:43 +unknown", line) for line in lines)
    left_out = [line for line in lines if line.startswith("not in the sum of")]
    assert left_out == [
        "not in the sum of CPU h: align_models, align, tokenizer_published",
        "not in the sum of GPU h: tokenize, synthesise",
    ]
    total = next(line for line in lines if "sum of known costs" in line)
    trainings = ("codec_content", "codec_style", "sft", "reward")
    known = sum(cost(bill, rule).gpu.value for rule in trainings)
    assert re.search(rf" {hours_minutes(known)} ", total)
    assert "<=" not in total  # a part is missing


def test_the_papers_codec_costs_at_least_what_the_released_one_does(paper):
    """It is larger, and so is its batch: 700,000 steps of 0.077 s, 260,000 of 0.101 s."""
    bill = estimate_costs(paper)
    assert cost(bill, "codec_content").gpu == (pytest.approx(700_000 * 0.077 / 3600), ">=")
    assert cost(bill, "codec_style").gpu == (pytest.approx(260_000 * 0.101 / 3600), ">=")
    half = {"emovoice": (1.0, 1200), "lssed": (1.0, 1200), "librispeech": (1.0, 1200)}
    small = estimate_costs(changed(paper, codec={"batch_size": 8}), half)
    least = 700_000 * 0.077 / 3600 * 8 * 3.0 / 48  # half of the measured seconds of speech
    assert cost(small, "codec_content").gpu == (pytest.approx(least), ">=")


def test_lower_bounds_by_hand(paper):
    given = {"lssed": (100.0, 72_000), "emovoice": (10.0, 7_200), "librispeech": (10.0, 7_200)}
    bill = estimate_costs(paper, given)
    used = 3020 + 72_000 + 7_200 + 7_200 - 3020 - round(0.02 * 72_000) - round(0.02 * 7_200)
    # Of the rendered sentences all train judges; librispeech has no judge utterances.
    for rule, n, unit_s in (
        ("corpus_read", 86_400, 1 / 260),
        ("corpus_split", 89_420, 12 / 900_000),
        ("dataset", used, 23 / 90_000),
        ("tokenize", used, 5.65e-3),
        ("label_gather", used, 15e-6),
        ("synthesise", 31 * (360 + 700), 56.4e-3),
    ):
        assert cost(bill, rule).cpu == (pytest.approx(n * unit_s / 3600), ">="), rule
    published = {"asr": "whisper", "whisper": "large-v3.pt"}
    judged = cost(estimate_costs(changed(paper, evaluate=published), given), "judge")
    checked = 32 * (360 + 700) / paper.evaluate.check_every
    assert (judged.cpu, judged.gpu) == ((pytest.approx(checked * 0.56 / 3600), ">="), None)


def test_trainings_of_the_embedded_policy_cost_what_the_bench_measured(monkeypatch):
    jobs = [Job("policy", "sft", 1), Job("reward", "reward", 6)]
    default = read_settings(SHIPPED, [])

    def of(**sections: dict[str, Any]) -> list[costs.Hours | None]:
        bill = estimate_costs(changed(default, **sections), jobs=jobs)
        assert [each.gpu for each in bill.costs] == [costs.NO_HOURS, costs.NO_HOURS]
        return [each.cpu for each in bill.costs]

    sft, reward = 50 * 1.025 / 3600, 12 * 12 * 2.319 / 3600  # frame, word, hpro; three of 3 stages
    measured = {"batch_size": 12, "samples": 4, "jacobi_iterations": 3}
    assert of() == [(pytest.approx(sft), ""), (pytest.approx(reward), "<=")]
    assert of(reward=measured)[1] == (pytest.approx(reward), "")
    assert of(reward=measured | {"samples": 5})[1] == (pytest.approx(reward), ">=")
    mixed = of(reward={"batch_size": 8, "samples": 5})[1]  # half a step of fine-tuning each
    assert mixed == (pytest.approx(12 * 12 * 1.025 / 2 / 3600), ">=")
    assert of(sft={"batch_size": 8})[0] == (pytest.approx(sft), "<=")
    assert of(sft={"batch_size": 32})[0] == (pytest.approx(sft), ">=")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0, "0:00"), (0.005, "<0:01"), (0.01, "0:01"), (1.99, "1:59"), (1234.5, "1,234:30")],
)
def test_hours_are_hours_and_minutes(hours: float, text: str) -> None:
    assert hours_minutes(hours) == text


def timed_graph(*seconds: float | None) -> dict[int, durations.Job]:
    """Jobs after one another, each of another rule."""
    return {
        n: durations.Job(n, f"r{n}", f"r{n}", "p", last_s=s, needs=frozenset(range(n)),
                         asks={"_cores": 1})
        for n, s in enumerate(seconds)
    }  # fmt: skip


def test_the_expectation_of_this_machine_is_that_of_its_benchmarks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def said(*seconds: float | None) -> list[str]:
        return list(format_expectation(timed_graph(*seconds), "embedded", 2))

    assert said(None, None) == [
        "  on this machine: unknown, no job is measured in benchmarks/embedded"
    ]
    assert said(600.0, None) == [
        "  on this machine: incomplete: 1 of 2 jobs measured; at least 0:10 on 2 cores, 0:10 one "
        "after another (h:mm, by benchmarks/embedded)",
        "    never ran here: r1",
    ]
    durations.add_run(
        tmp_path / "benchmarks/embedded/runs.csv",
        {"date": "2026-11-30 18:19:30", "cores": 2, "jobs": 2, "of": 2, "wall_s": "745.9"},
    )
    assert said(600.0, 60.0) == [
        "  on this machine: 0:11 on 2 cores, 0:11 one after another (h:mm, by benchmarks/embedded)",
        "    the last run of all 2 jobs took 0:12 on 2 cores (2026-11-30)",
    ]


def test_labels_of_published_teachers_have_no_figure(paper):
    weak = cost(estimate_costs(paper), "label").cpu
    assert weak is not None
    assert weak.value == pytest.approx(1231.1 * 9.9 / (48.5 * 60), rel=1e-3)
    teacher = {"emotion_teacher": "emotion2vec", "emotion2vec": "e2v"}
    asked = cost(estimate_costs(changed(paper, label=teacher)), "label")
    assert (asked.cpu, asked.gpu) == (None, None)


def test_a_reward_that_costs_more_than_the_measured_one_has_a_lower_bound(paper):
    steps = 3 * 21 * 2000
    more = {"samples": 5, "jacobi_iterations": 3, "gumbel_rao_samples": 8}
    bill = estimate_costs(changed(paper, reward=more))
    assert cost(bill, "reward").gpu == (pytest.approx(steps * 0.270 / 3600), ">=")
    # More in one size, less in another: at least a step of fine-tuning.
    for sizes in ({"samples": 5}, {"jacobi_iterations": 4}):
        bill = estimate_costs(changed(paper, reward=sizes))
        assert cost(bill, "reward").gpu == (pytest.approx(steps * 0.104 / 3600), ">=")


def test_a_corpus_of_unknown_size_is_named(paper):
    sets = {**paper.corpus.model_dump()["sets"], "own": {"reader": "csv", "path": "x"}}
    bill = estimate_costs(changed(paper, corpus={"sets": sets}))
    assert cost(bill, "sft").gpu is None
    assert "  own: size unknown: set --hours SET=HOURS:UTTERANCES" in list(format_costs(bill))
    with pytest.raises(HproError, match=r"--hours: corpus.sets has no 'owm' \(controlled"):
        estimate_costs(paper, {"owm": (1.0, 2)})


@pytest.mark.parametrize("text", ["lssed", "lssed=3", "lssed=3:x", "lssed=0:10"])
def test_a_wrong_option_is_refused(text):
    with pytest.raises(ValueError, match=r"invalid|could not|above zero"):
        parse_hours([text])


def test_tables_that_were_read_win_over_published_sizes(paper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"utt_id": f"lssed_{i}", "corpus": "lssed", "speaker": "a", "text": "go", "words": "go",
         "audio": f"{i}.wav", "duration_s": 9.0, "split": "", "group": str(i), "emotion": None,
         "label": None}
        for i in range(800)
    ]  # fmt: skip
    path = tmp_path / "results/paper/corpus/lssed/utterances.parquet"
    tables.write_table(pd.DataFrame(rows), path, tables.UTTERANCES)
    found = amounts(paper, {})["lssed"]
    assert found is not None
    assert (found.hours, found.utterances, found.test) == (2.0, 800, 4)
    assert found.source == "results/paper"
    given = amounts(paper, {"lssed": (3.0, 9)})["lssed"]
    assert given is not None
    assert given.hours == 3.0


def lssed(settings: p.Params, **changes: object) -> p.Params:
    """Settings with LSSED read otherwise, and with the aligner whose cost is known."""
    sets = settings.model_dump()["corpus"]["sets"]
    sets["lssed"] |= changes
    return changed(settings, corpus={"sets": sets}, align={"backend": "pocketsphinx"})


def test_a_set_that_is_all_test_costs_what_is_tested(paper):
    """LSSED is read and stored as a whole, but only 700 of its utterances pass the other stages."""
    train, test = (estimate_costs(lssed(paper, split=split)) for split in ("train", "test"))
    found = [bill.speech["lssed"] for bill in (train, test)]
    assert [(each.test, each.judge) for each in found if each] == [(0, 0), (700, 0)]
    fewer = (206 + 25 / 60) * (1 - 700 / 147_025)
    for rule, rate in (("align", costs.ALIGN_RATE), ("label", costs.LABEL_RATE)):
        before, after = cost(train, rule).cpu, cost(test, rule).cpu
        assert before is not None
        assert after is not None
        assert before.value - after.value == pytest.approx(fewer / rate)
    assert cost(train, "corpus_read").stored == cost(test, "corpus_read").stored


def test_nothing_is_trained_on_a_set_that_is_all_test(paper):
    """With LSSED's mean duration replaced, only trainings on it change their cost."""
    given = {"lssed": (2000.0, 147_025)}
    for split, equal in (("train", False), ("test", True), ("judge", True)):
        settings = lssed(paper, split=split)
        bills = [estimate_costs(settings), estimate_costs(settings, given)]
        assert (cost(bills[0], "sft").gpu == cost(bills[1], "sft").gpu) is equal


def test_speakers_of_a_published_corpus_have_no_published_size(paper):
    assert amounts(lssed(paper, speakers=["s1"]), {})["lssed"] is None
    assert amounts(lssed(paper, speakers=[]), {})["lssed"] is not None


def test_unit_costs_stand_in_the_docs():
    places = {
        "docs/scaling.md": ["| 10^4 | 4.6 s, 186 MB | 3.5 s, 190 MB | 9 s, 969 MB |",
                            "| 10^5 | 4.6 s, 186 MB | 10.5 s, 253 MB | 32 s, 1,942 MB |",
                            "| 10^6 | 9.0 s, 186 MB | 22.5 s,", "260 MP3 clips per second",
                            "11 s (align), 15 s (label), 45 s (dataset)"],
        "docs/performance.md": ["| SFT | 0.104 |", "| encoding | clip | 15.7 | 5.65 |",
                                "| sft_step | step | 1641 | 1025 |",
                                "| reward_step | step | 8671 | 2319 |",
                                "| sampling | utterance | 1256 | 45.5 |",
                                "| token_decoder | utterance | 11 | 10.9 |",
                                "takes at least 1.2 s", "| codec, stage A | 0.077 |",
                                "| codec, stage B | 0.101 |",
                                "| HPRO stage III, sentence | 0.270 | 18.2 |"],
        "docs/alignment.md": ["42 times real time per core"],
        "docs/labels.md": ["48.5 min", "9.9 s for everything"],
        "docs/judges.md": ["0.97 s per clip on one core (second recogniser 0.25, DNSMOS 0.14, "
                           "DistillMOS 0.17, prosody 0.01)",
                           "159 s on two cores for 2,093 recordings"],
        "docs/log/index.md": ["10,796 sentences were rendered within 35 s"],
        "docs/corpora.md": ["51.4 / 8.2 / 4.5", "946 clips, 43.4 minutes"],
    }  # fmt: skip
    for file, texts in places.items():
        written = " ".join((REPO / file).read_text().split())
        assert [text for text in texts if " ".join(text.split()) not in written] == [], file


def test_sizes_are_those_of_the_classes():
    from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo
    from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM

    with torch.device("meta"):
        policy = CosyVoice2LM(CosyVoice2Config())
        codecs = {name: HdEmo(CodecConfig(**PRESETS[name])) for name in costs.CODEC_PARAMETERS}
    assert size_of(policy) == costs.POLICY_PARAMETERS
    assert {name: size_of(codec) for name, codec in codecs.items()} == costs.CODEC_PARAMETERS


def size_of(model: torch.nn.Module) -> int:
    return sum(value.numel() for value in model.state_dict().values())


def test_the_command_prints_the_table():
    from typer.testing import CliRunner

    options = ["--params", str(SHIPPED), "--configfile", str(PAPER), "--hours", "lssed=10:5000"]
    said = CliRunner().invoke(app, ["plan", *options])
    assert said.exit_code == 0, said.output
    assert "lssed: 10.0 h, 5,000 utterances, 25 for test" in said.output
    assert "\n  on this machine: unknown, no job is measured in benchmarks/paper\n" in said.output
    wrong = CliRunner().invoke(app, ["plan", *options[:4], "--hours", "lssed"])
    assert isinstance(wrong.exception, HproError)
    assert "SET=HOURS:UTTERANCES is expected" in str(wrong.exception)
