"""Results travel: push, clone, pull, over a folder and over S3; experiments, metrics and plots.

With the real tools, a stand-in for `hpro` and, for S3, moto's server on the loopback interface.
"""

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from hpro_core.analysis.tables import SUMMARY
from tests.workflow.project import EVERYTHING, REPO, RUN, Project

pytestmark = [pytest.mark.full, pytest.mark.workflow]

VARIANT = ("params.yaml", "drop: [cp, asr]", "drop: [asr]")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}
"""What no cloud knows."""
LOST = f"{RUN}/policy/word/seed0/model.safetensors"


class Folder:
    """A DVC remote that is a folder."""

    def __init__(self, place: Path):
        self.place = place

    def add_to(self, project: Project) -> None:
        project.run("dvc", "remote", "add", "--default", "storage", str(self.place))

    @contextmanager
    def without(self, md5: str) -> Iterator[None]:
        """The remote has lost an object."""
        path = self.place / "files/md5" / md5[:2] / md5[2:]
        path.rename(self.place / "lost")
        yield
        (self.place / "lost").rename(path)


class S3:
    """A DVC remote in a bucket of a server that speaks S3."""

    def __init__(self, url: str, bucket: str):
        self.url, self.bucket = url, bucket
        secret = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        self.client: Any = boto3.client("s3", "us-east-1", endpoint_url=url, **secret)
        self.client.create_bucket(Bucket=bucket)

    def add_to(self, project: Project) -> None:
        project.environment = {**project.environment, **CREDENTIALS}
        project.run("dvc", "remote", "add", "--default", "storage", f"s3://{self.bucket}/runs")
        project.run("dvc", "remote", "modify", "storage", "endpointurl", self.url)

    @contextmanager
    def without(self, md5: str) -> Iterator[None]:
        """The remote has lost an object."""
        place = {"Bucket": self.bucket, "Key": f"runs/files/md5/{md5[:2]}/{md5[2:]}"}
        content = self.client.get_object(**place)["Body"].read()
        self.client.delete_object(**place)
        yield
        self.client.put_object(**place, Body=content)


Pushed = tuple[Project, Folder | S3]


@pytest.fixture(scope="module")
def on_folder(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """The run in a folder that its commit names."""
    folder = tmp_path_factory.mktemp("folder")
    return pushed(finished, folder / "project", Folder(folder / "storage"))


@pytest.fixture(scope="module")
def on_s3(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """The run in a bucket that its commit names."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    remote = S3("http://{}:{}".format(*server.get_host_and_port()), "results-of-hpro")
    yield pushed(finished, tmp_path_factory.mktemp("s3") / "project", remote)
    server.stop()


def pushed(finished: Project, folder: Path, remote: Folder | S3) -> Pushed:
    project = finished.twin(folder)
    remote.add_to(project)
    project.commit()
    project.run("dvc", "push")
    return project, remote


@pytest.fixture
def changed(finished: Project, tmp_path: Path) -> Project:
    """The finished run, free to be changed; DVC's experiments are commits of someone."""
    twin = finished.twin(tmp_path / "changed")
    twin.run("git", "config", "user.name", "test")
    twin.run("git", "config", "user.email", "test@localhost")
    return twin


def cloned(project: Project, folder: Path) -> Project:
    clone = project.clone(folder)
    clone.environment = project.environment
    return clone


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("remote", ["on_folder", "on_s3"])
def test_a_pulled_clone_has_everything_and_nothing_to_do(
    remote: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    project, _ = request.getfixturevalue(remote)
    clone = cloned(project, tmp_path / "clone")
    clone.run("workflow/scripts/pull.sh")
    assert clone.is_settled()
    assert clone.repro() == set()
    assert clone.results() == project.results()


def test_a_pull_of_what_nobody_pushed_says_so(finished: Project, tmp_path: Path) -> None:
    clone = cloned(finished, tmp_path / "clone")
    done = clone.run("workflow/scripts/pull.sh", check=False)
    assert (done.returncode, done.stdout.count("\n")) == (1, 2)
    assert done.stdout.startswith("pull: there is no run to bring: dvc.lock,")


def test_a_file_that_the_remote_lost_is_named(on_s3: Pushed, tmp_path: Path) -> None:
    project, storage = on_s3
    clone = cloned(project, tmp_path / "clone")
    with storage.without(md5_of(project.folder / LOST)):
        done = clone.run("workflow/scripts/pull.sh", check=False)
    assert done.returncode == 1
    assert LOST in done.stdout
    assert "pull: not every file of dvc.lock came" in done.stdout
    assert [path.name for path in (clone.folder / RUN).iterdir()] == ["tables"]  # which git has


def test_a_half_pulled_clone_keeps_no_stale_file(on_folder: Pushed, tmp_path: Path) -> None:
    project, storage = on_folder
    clone = cloned(project, tmp_path / "clone")
    clone.run("workflow/scripts/pull.sh")
    newer = project.twin(tmp_path / "newer")
    newer.edit(*VARIANT)
    newer.snakemake()
    newer.run("dvc", "commit", "--force")
    newer.commit()
    newer.run("dvc", "push")
    clone.run("git", "pull", "--quiet", str(newer.folder), "HEAD")
    lost = f"{RUN}/eval/no_content/seed0/metrics.json"
    with storage.without(md5_of(newer.folder / lost)):
        done = clone.run("workflow/scripts/pull.sh", check=False)
    assert done.returncode == 1
    assert lost in done.stdout
    clone.run("dvc", "checkout", check=False)  # what came, as one might
    clone.snakemake()
    assert clone.results() == newer.results()


def test_key_files_from_before_a_pull_vouch_for_nothing(on_folder: Pushed, tmp_path: Path) -> None:
    project, _ = on_folder
    clone = cloned(project, tmp_path / "clone")
    clone.edit(*VARIANT)
    clone.run("snakemake", "--dry-run", "--quiet", "all")  # a look, which writes key files
    assert clone.run("workflow/scripts/pull.sh", check=False).returncode == 1
    files = [p for p in (clone.folder / RUN).rglob("*") if p.is_file()]
    keys = [p.stat().st_mtime_ns for p in files if p.parent.name == "params"]
    assert min(keys) > max(p.stat().st_mtime_ns for p in files if p.parent.name != "params")


def test_an_experiment_reruns_what_its_setting_needs(changed: Project, tmp_path: Path) -> None:
    before = changed.results()
    settings = yaml.safe_load((changed.folder / "params.yaml").read_text())
    comments = (changed.folder / "params.yaml").read_text().count("#")
    remade = changed.experiment("louder", "reward.word.weights.wvad=2")
    steps = ("reward", "synthesise", "judge")
    of_word = {f"{step} {name}" for step in steps for name in ("word", "hpro")}
    assert remade == {"tables", "report", *of_word}
    assert changed.is_settled()

    text = (changed.folder / "params.yaml").read_text()
    settings["reward"]["word"]["weights"]["wvad"] = 2
    assert yaml.safe_load(text) == settings
    assert text.count("#") == comments, "DVC lost comments of params.yaml"
    touched = changed.run("git", "status", "--porcelain").stdout.split()[1::2]
    assert touched[:2] == ["dvc.lock", "params.yaml"]
    assert all(path.startswith(f"{RUN}/tables/") for path in touched[2:])
    assert {Path(path).stem for path in touched if "/metrics/" in path} == {"word", "hpro"}
    shown = changed.run("dvc", "exp", "show", "--csv").stdout
    rows = {row["Experiment"]: row for row in csv.DictReader(StringIO(shown))}
    assert rows["louder"]["reward.word.weights.wvad"] == "2"

    shows_metrics_and_plots(changed, tmp_path)
    after = changed.results()
    changed.run("git", "checkout", "--quiet", "--", "params.yaml", "dvc.lock", "results")
    changed.run("dvc", "checkout")
    assert changed.results() == before
    changed.run("dvc", "exp", "apply", "louder")
    assert changed.results() == after
    assert changed.run("dvc", "status", "-q", check=False).returncode == 0


def shows_metrics_and_plots(changed: Project, tmp_path: Path) -> None:
    """DVC's own commands compare an experiment in the workspace with the commit below it."""
    found = json.loads(changed.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(found) == {f"{RUN}/tables/metrics/acted/{name}.json" for name in ("word", "hpro")}
    wer = found[f"{RUN}/tables/metrics/acted/hpro.json"]["wer"]
    assert wer["diff"] == pytest.approx(wer["new"] - wer["old"])
    changed.run("dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    for plot in yaml.safe_load((REPO / "dvc.yaml").read_text())["plots"]:
        assert f'"text": "{next(iter(plot))}"' in page
    assert '"domain": ["workspace", "HEAD"]' in page
    assert "<DVC_METRIC" not in page


def test_a_clone_without_a_remote_shows_the_metrics_and_runs_everything(
    finished: Project, tmp_path: Path
) -> None:
    """As of this repository: dvc.lock and the tables are in git, their run is on no remote."""
    clone = cloned(finished, tmp_path / "clone")
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    tables = (finished.folder / RUN / "tables/metrics").rglob("*.json")
    assert set(shown) == {str(path.relative_to(finished.folder)) for path in tables}
    assert shown[f"{RUN}/tables/metrics/acted/hpro.json"]["data"].keys() == {"wer"}
    assert clone.snakemake() == EVERYTHING
    assert clone.repro() == set()
    assert clone.is_settled()
    assert clone.results() == finished.results()


def test_metrics_fit_a_terminal(tmp_path: Path) -> None:
    """With names and figures of the real tables."""
    settings = yaml.safe_load((REPO / "params.yaml").read_text())
    systems = {name for rows in settings["tables"].values() for name in rows}
    project = Project.copied(tmp_path / "project", data=False)
    shutil.rmtree(project.folder / RUN, ignore_errors=True)  # tables of the published run
    for system in systems:
        path = project.folder / RUN / f"tables/metrics/controlled/{system}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict.fromkeys(SUMMARY.values(), 0.123)))
    project.commit()
    shown = project.run("dvc", "metrics", "show").stdout.splitlines()
    assert len(shown) == 1 + len(systems)
    assert max(len(line.rstrip()) for line in shown) <= 80
