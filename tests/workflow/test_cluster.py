"""The workflow on a scheduler: the project's profiles on a real SLURM of one node."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.workflow.mini_slurm import GPUS, NODES, MiniSlurm, missing
from tests.workflow.miniature import miniature
from tests.workflow.project import REPO, Project

pytestmark = [pytest.mark.full, pytest.mark.workflow, pytest.mark.slurm]

RESULTS = "results/miniature"
SLURM = ("snakemake", "--workflow-profile", "profiles/slurm")
HERE = (  # what a site without accounting says, and a test that does not want to wait
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
    "--seconds-between-status-checks", "1", "--latency-wait", "5",
)  # fmt: skip
WITH_GPU = {
    "tokenizer",
    "tokenize",
    "vocoder",
    "codec_content",
    "codec_style",
    "sft",
    "reward",
    "synthesise",
}
IN_SHARDS = {"align", "label", "tokenize", "dataset"}
REWARD_LOG = "logs/miniature/reward/frame_seed0.log"
FRAME = f"{RESULTS}/policy/frame/seed0/model.safetensors"
JUDGED = f"{RESULTS}/eval/frame/seed0/metrics.json"
"""Made by a job that holds 1.3 GB for longer than SLURM takes from poll to poll."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[MiniSlurm]:
    """Two GPUs, and a partition whose jobs can be preempted."""
    if absent := missing():
        assert not os.environ.get("CI"), f"install slurm-wlm and munge: {absent}"
        pytest.skip(f"no SLURM on this machine ({', '.join(absent)})")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        made = MiniSlurm(Path(folder))
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def project(cluster: MiniSlurm, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature of the whole workflow after it ran on the cluster."""
    made = miniature(tmp_path_factory.mktemp("cluster") / "project")
    path = made.folder / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["tables"] = {
        "comparison": ["recordings", "sft"],
        "progressive": ["sft", "frame"],
        "ablation": ["frame"],
    }
    shipped = yaml.safe_load((REPO / "params.yaml").read_text())["reward"]
    slow = {name: shipped[name] for name in ("samples", "gumbel_rao_samples", "jacobi_iterations")}
    settings["reward"] |= {"steps": 80, "probe_every": 0, **slow}  # a checkpoint every 20 steps
    settings["reward"]["batch_size"] = 4  # for four processes
    settings["shards"] = 2
    path.write_text(yaml.safe_dump(settings))
    made.environment = cluster.environment
    made.run(*SLURM, *HERE)
    return made


def test_the_workflow_runs_to_its_tables_and_report(project: Project) -> None:
    tables = project.folder / RESULTS / "tables"
    assert "frame" in (tables / "progressive.csv").read_text()
    assert (project.folder / RESULTS / "report/index.html").is_file()
    assert "Nothing to be done" in project.run("snakemake", "--cores", "1").stdout


def test_every_job_was_the_schedulers_and_gpus_were_counted(
    project: Project, cluster: MiniSlurm
) -> None:
    jobs = cluster.jobs()
    rules = [rule_of(job) for job in jobs]
    left = {path.stem for path in (project.folder / "benchmarks").rglob("*.tsv")}
    assert len(jobs) >= len(left) > 15
    with_gpu = {rule for rule, job in zip(rules, jobs, strict=True) if gpus_of(job)}
    assert with_gpu == WITH_GPU
    assert {rule for rule in rules if rules.count(rule) == 2} >= IN_SHARDS
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert all((project.folder / f"logs/slurm/rule_{rule}").is_dir() for rule in set(rules))


def test_one_ablation_target_is_one_job(project: Project, cluster: MiniSlurm) -> None:
    before = len(cluster.jobs())
    (project.folder / JUDGED).unlink()
    project.run(*SLURM, *HERE, "--", JUDGED)
    assert [rule_of(job) for job in cluster.jobs()[before:]] == ["judge"]


def test_a_job_killed_for_its_memory_is_tried_again_with_more(
    project: Project, cluster: MiniSlurm
) -> None:
    before = len(cluster.jobs())
    (project.folder / JUDGED).unlink()
    more = ("--set-resources", "judge:mem_mb=600*attempt**2")
    project.run(*SLURM, *HERE, *more, "--", JUDGED)
    killed, passed = cluster.jobs()[before:]
    assert (killed["JobState"], passed["JobState"]) == ("FAILED", "COMPLETED")
    assert (killed["MinMemoryNode"], passed["MinMemoryNode"]) == ("600M", "2400M")
    node_logs = "".join(path.read_text() for path in cluster.folder.glob("log/slurmd-*.log"))
    assert f"StepId={killed['JobId']}.0 exceeded memory limit" in node_logs


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (["reward:mem_mb=10000000"], "Memory specification can not be satisfied"),
        (  # of whose five processes the memory would be refused first
            [f"reward:gpu={GPUS * len(NODES) + 1}", "reward:mem_mb=6000"],
            "Requested node configuration is not available",
        ),
    ],
)
def test_what_can_never_run_is_refused_at_once(
    project: Project, cluster: MiniSlurm, asked: list[str], answer: str
) -> None:
    twin = project.twin(project.folder.parent / answer.split()[0])
    before = len(cluster.jobs())
    (twin.folder / FRAME).unlink()
    start = time.monotonic()
    done = twin.run(*SLURM, *HERE, "--set-resources", *asked, "--", FRAME, check=False)
    assert done.returncode != 0
    assert answer in done.stdout
    assert time.monotonic() - start < 60
    assert {job["RunTime"] for job in cluster.jobs()[before:]} <= {"00:00:00"}


def test_gpus_of_two_nodes_are_processes_of_one_training(
    project: Project, cluster: MiniSlurm
) -> None:
    twin = project.twin(project.folder.parent / "nodes")
    before = len(cluster.jobs())
    (twin.folder / FRAME).unlink()
    asked = ("reward:gpu=4", "reward:nodes=2", "reward:tasks_per_node=2", "reward:mpi=srun")
    less = "reward:mem_mb=6000"  # than the rule's for two processes: these nodes are one machine
    twin.run(*SLURM, *HERE, "--set-resources", *asked, less, "--", FRAME)
    (job,) = cluster.jobs()[before:]
    assert (gpus_of(job), job["NumNodes"]) == (4, "2")
    log = (twin.folder / REWARD_LOG).read_text()
    assert ": 4 processes" in log
    one, four = (dev_loss(each) for each in (project, twin))
    assert four == pytest.approx(one, rel=0.05)


def test_a_preempted_training_goes_on_and_ends_the_same(
    project: Project, cluster: MiniSlurm
) -> None:
    twin = project.twin(project.folder.parent / "preempted")
    before = len(cluster.jobs())
    (twin.folder / FRAME).unlink()
    spare = ("--default-resources", "slurm_partition=spare", "mem_mb=2000", "runtime=60")
    running = twin.start(*SLURM, *HERE, *spare, "--", FRAME)
    work = twin.folder / "work/miniature/reward_frame/seed0"
    wait_for(lambda: list(work.glob("checkpoint_*.pt")), running)
    urgent = ["sbatch", "--wait", "--partition=main", "--nodes=2",
              f"--gpus={GPUS * len(NODES)}", "--output=/dev/null",
              "--wrap", "sleep 1"]  # fmt: skip
    cluster.do(*urgent)
    training = cluster.jobs()[before]
    assert (training["JobState"], training["Restarts"]) == ("PENDING", "1")
    cluster.do("scontrol", "update", f"JobId={training['JobId']}", "StartTime=now")  # not in 2 min
    out, _ = running.communicate(timeout=300)
    assert running.returncode == 0, out
    training = cluster.jobs()[before]
    assert (training["Restarts"], training["JobState"]) == ("1", "COMPLETED")
    log = (twin.folder / REWARD_LOG).read_text()
    assert re.search(r"resuming from step [246]0 ", log)
    assert (twin.folder / FRAME).read_bytes() == (project.folder / FRAME).read_bytes()


def test_the_generic_profile_does_the_same(project: Project, cluster: MiniSlurm) -> None:
    before = len(cluster.jobs())
    target = f"{RESULTS}/policy/frame/seed0/metrics.json"
    for name in ("metrics.json", "model.safetensors"):
        (project.folder / RESULTS / f"policy/frame/seed0/{name}").unlink()
    generic = ("snakemake", "--workflow-profile", "profiles/slurm-generic")
    asked = ("reward:gpu=2", "reward:nodes=2", "reward:mem_mb=6000")
    quick = ("--seconds-between-status-checks", "1")
    project.run(*generic, *quick, "--set-resources", *asked, "--", target)
    (job,) = cluster.jobs()[before:]
    assert (rule_of(job), job["JobState"]) == ("reward", "COMPLETED")
    assert (gpus_of(job), job["NumNodes"]) == (2, "2")
    assert ": 2 processes" in (project.folder / REWARD_LOG).read_text()


def rule_of(job: dict[str, str]) -> str:
    """The rule that a job's comment names."""
    found = re.match(r"rule_(.+?)(?:_wildcards_|$)", job["Comment"])
    assert found, job
    return found.group(1)


def gpus_of(job: dict[str, str]) -> int:
    """How many GPUs the scheduler counted for a job."""
    found = re.search(r"gpu:(?:fake:)?(\d+)", job.get("TresPerJob", ""))
    return int(found.group(1)) if found else 0


def dev_loss(project: Project) -> float:
    """Of the policy `frame` at the end of its training."""
    metrics = json.loads((project.folder / FRAME).with_name("metrics.json").read_text())
    return float(metrics["dev"]["loss"])


def wait_for(condition, running: subprocess.Popen[str]) -> None:
    """Wait until something holds; fail when the run ends before."""
    deadline = time.monotonic() + 240
    while not condition():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
