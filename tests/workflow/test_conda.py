"""`snakemake --use-conda`: environments are solved, made, activated, and hold what jobs need.

Snakemake's own code and a real solver and installer (py-rattler), on a channel of stubs that have
the versions which pip installed here (conda_channel.py, conda_stand_in.py). That conda-forge has
such packages, and that its builds work together, cannot be seen here.
"""

import ast
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from hpro_core.train.trackers import TENSORBOARD, TRACKERS
from tests.test_align_mfa import STAND_IN as MFA
from tests.workflow.conda_channel import PYTHON, closure, make_channels
from tests.workflow.conda_stand_in import place
from tests.workflow.miniature import miniature
from tests.workflow.project import REPO, RUN, Project

pytestmark = [pytest.mark.full, pytest.mark.workflow]

HPRO, MFAS, USERS = "workflow/envs/hpro.yaml", "workflow/envs/mfa.yaml", "environment.yml"
MADE = "Creating conda environment"
OPTIONAL = {"s3tokenizer", "cosyvoice", "funasr", "omegaconf"}
"""Imported by name, and knowingly in no environment of jobs: for CosyVoice2 and emotion2vec. Two of
their packages go without their own needs (`--no-deps`), which an environment file cannot say."""
WITNESS = """#!/bin/sh
echo "$1 $CONDA_PREFIX $(command -v python)" >> logs/where
exec "$0-itself" "$@"
"""
"""Stands before `hpro` and notes where it runs."""


def dependencies(name: str) -> list[str | dict[str, list[str]]]:
    """Of an environment file of the project."""
    return yaml.safe_load((REPO / name).read_text(encoding="utf-8"))["dependencies"]


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a `conda` and its channels. Its `mfa` gives back what MFA once found."""
    folder = tmp_path_factory.mktemp("conda")
    specs = [spec for name in (HPRO, MFAS, USERS) for spec in dependencies(name)]
    names = {re.split("[=<>]", spec)[0] for spec in specs if isinstance(spec, str)}
    mfa = {"bin/mfa": MFA.format(python="/usr/bin/env python", here=str(folder))}
    make_channels(folder / "channels", names, {"montreal-forced-aligner": mfa})
    place(folder)
    return folder


def with_conda(project: Project, conda: Path) -> Project:
    """Let a copy of the project find the stand-in, and note where each `hpro` runs."""
    project.environment = {"PATH": f"{conda}/bin{os.pathsep}{os.environ['PATH']}"}
    for name in (HPRO, MFAS, USERS):  # ours say 3.11; the stubs hold the Python that runs the tests
        project.edit(name, "python=3.11\n", f"python={PYTHON}\n")
    hpro = project.folder / "workflow/bin/hpro"
    hpro.rename(f"{hpro}-itself")
    hpro.write_text(WITNESS)
    hpro.chmod(0o755)
    return project


def jobs_of(project: Project) -> list[tuple[str, str]]:
    """Command and environment file of each job that ran; its Python was that environment's."""
    found = []
    for line in (project.folder / "logs/where").read_text().splitlines():
        command, prefix, python = line.split(" ")
        assert python == f"{prefix}/bin/python"
        assert Path(prefix).parent == project.folder / ".snakemake/conda"
        asked = yaml.safe_load(Path(f"{prefix}.yaml").read_text(encoding="utf-8"))
        found.append((command, asked["name"]))
    return found


@pytest.fixture(scope="module")
def unmade(conda: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with stand-ins for `conda` and `hpro`; nothing has run yet."""
    project = Project.copied(tmp_path_factory.mktemp("unmade") / "project", data=False)
    project.use_stand_in()
    project.set_base("")  # which the stand-in does not know as a whole
    return with_conda(project, conda)


@pytest.fixture(scope="module")
def project(unmade: Project) -> Project:
    """The same after the README's command."""
    made = unmade.twin(unmade.folder.parent / "made")
    out = made.run("snakemake", "--cores", "all", "--use-conda").stdout
    assert out.count(MADE) == 1
    return made


def test_every_job_runs_in_its_environment(project: Project) -> None:
    jobs = jobs_of(project)
    assert len(jobs) == len(list((project.folder / "benchmarks").rglob("*.tsv"))) > 20
    assert {name for _, name in jobs} == {"hpro"}
    assert (project.folder / RUN / "report/index.html").is_file()


def test_a_second_run_takes_the_environment_that_is_there(project: Project) -> None:
    (project.folder / "logs/where").unlink()
    target = f"{RUN}/eval/sft/seed0/metrics.json"
    (project.folder / target).unlink()
    out = project.run("snakemake", "--cores", "all", "--use-conda", "--", target).stdout
    assert MADE not in out
    assert jobs_of(project) == [("judge", "hpro")]


@pytest.mark.parametrize("spec", ["numpy >=99", "nupmy"])
def test_what_cannot_be_had_is_named_before_any_job(
    unmade: Project, tmp_path: Path, spec: str
) -> None:
    twin = unmade.twin(tmp_path / "twin")
    twin.edit(HPRO, "  - pip\n", f"  - pip\n  - {spec}\n")
    only = ("snakemake", "--cores", "all", "--use-conda", "--conda-create-envs-only")
    done = twin.run(*only, check=False)
    assert done.returncode == 1
    assert f"Could not create conda environment from {twin.folder}" in done.stdout
    assert f"No candidates were found for {spec}" in done.stdout
    assert not (twin.folder / "logs").exists()
    assert not list((twin.folder / ".snakemake/conda").glob("*_"))  # none half made


def test_another_version_than_the_tested_one_is_named(unmade: Project, tmp_path: Path) -> None:
    wrong = tmp_path / "hpro.yaml"
    text = (unmade.folder / HPRO).read_text(encoding="utf-8")
    wrong.write_text(text.replace("- jinja2==", "- jinja2==99."))
    done = unmade.run(
        "conda", "env", "create", "-f", str(wrong), "-p", f"{tmp_path}/x", check=False
    )
    assert done.returncode == 1
    assert re.search(r"the tests run with jinja2 [0-9.]+, not jinja2==99\.", done.stdout)


def test_the_real_commands_need_no_more_than_their_environments(
    conda: Path, tmp_path: Path
) -> None:
    """Reading, splitting, and alignment by a recorded MFA in an environment of its own."""
    project = with_conda(miniature(tmp_path / "project"), conda)
    project.environment = {**project.environment, "MFA_ROOT_DIR": str(tmp_path / "home")}
    recorded, words = conda / "recorded", "results/miniature/align/words.parquet"
    with zipfile.ZipFile(REPO / "data/raw/amazon_queen/mfa_textgrids.zip") as archive:
        recorded.mkdir()
        for name in archive.namelist():
            (recorded / f"acted_{Path(name).name}").write_bytes(archive.read(name))
    settings = {
        "corpus": {"sets": {"controlled": None}},
        "align": {"backend": "mfa"},
        "reward": {"probe_every": 0},  # the judge knows rendered speech only
    }
    (project.folder / "mfa.yaml").write_text(yaml.safe_dump(settings))
    run = ("snakemake", "--cores", "all", "--use-conda", "--configfile", "mfa.yaml")
    out = project.run(*run, "--", words).stdout
    assert out.count(MADE) == 2
    in_hpro = {("corpus-read", "hpro"), ("corpus-split", "hpro")}
    assert set(jobs_of(project)) == in_hpro | {("align-models", "mfa"), ("align", "mfa")}
    aligned = len(json.loads((conda / "seen.json").read_text())["labs"])
    assert re.search(rf"^align: {aligned} utterances, \d+ words; 0 rejected", out, flags=re.M), out


def test_the_environment_of_users_is_made_as_its_file_says(unmade: Project, conda: Path) -> None:
    unmade.run("conda", "env", "create", "-f", USERS)
    ask = "from importlib.metadata import version as v; print(v('snakemake'), v('dvc'))"
    snakemake, dvc = unmade.run(f"{conda}/envs/hpro/bin/python", "-c", ask).stdout.split()
    assert {f"snakemake=={snakemake}", f"dvc=={dvc}"} <= set(dependencies(USERS)[-1]["pip"])


def test_the_environment_of_jobs_holds_what_the_code_imports() -> None:
    there = set(closure(dependencies(HPRO)[-1]["pip"]))
    owners = packages_distributions()
    for path in sorted((REPO / "hpro_core").rglob("*.py")):
        chosen = set(TRACKERS) if path.name == "trackers.py" else set()
        for module in imported(path) - {"hpro_core", *chosen, *sys.stdlib_module_names}:
            names = {canonicalize_name(name) for name in owners.get(module, [])}
            assert names & there, f"{path}: {module} is of no package of {HPRO}"
    assert TENSORBOARD in there
    said = " ".join((REPO / "docs/monitoring.md").read_text(encoding="utf-8").split())
    assert f"With `--use-conda` it must be in `{HPRO}`" in said  # the other trackers


def test_what_the_code_imports_by_name_is_left_out_and_said() -> None:
    there = {canonicalize_name(name) for name in closure(dependencies(HPRO)[-1]["pip"])}
    files = sorted((REPO / "hpro_core").rglob("*.py"))
    assert set().union(*map(imported_by_name, files)) == OPTIONAL
    assert not OPTIONAL & there
    for doc in ("cosyvoice2", "labels"):
        said = " ".join((REPO / f"docs/{doc}.md").read_text(encoding="utf-8").split())
        assert "no environment of `--use-conda`" in said


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def imported_by_name(path: Path) -> set[str]:
    """Top-level names that a file gives to `import_module`, or to its own functions around it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    around = {f.name for f in functions for _ in first_arguments(f, {"import_module"})}
    given = [*first_arguments(tree, {"import_module", *around})]
    texts = [node.values[0] if isinstance(node, ast.JoinedStr) else node for node in given]
    names = [node.value for node in texts if isinstance(node, ast.Constant)]
    assert len(names) == len(texts) - len(around), f"{path}: a name that cannot be read off"
    return {name.split(".")[0] for name in names}


def first_arguments(tree: ast.AST, names: set[str]) -> Iterator[ast.expr]:
    """Of the calls of functions or methods with these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in names:
                yield node.args[0]
