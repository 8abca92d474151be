"""The files around the workflow say the same: settings, schema, pins, environments, DVC stages."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from hpro_core.params import Params
from hpro_core.pretrained.base import FILES, MODELS, SUMS
from tests.workflow.conda_channel import closure
from tests.workflow.project import REPO, RUN, Project
from workflow.scripts.settings_reference import reference

NOT_DVC = {"tables_all", "base"}
"""Folders of results that are made on request and that DVC does not track."""
WORKFLOW_TOOLS = ("snakemake", "dvc")
"""What runs the jobs rather than running in them."""
PYTHONS = ("3.11", "3.12", "3.13")
LOCKS = ("requirements.txt", "requirements-dev.txt")


def read(name: str) -> str:
    return (REPO / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project after a dry run, so with key files."""
    made = Project.copied(tmp_path_factory.mktemp("files") / "project", data=False)
    made.run("snakemake", "--dry-run", "--quiet", "all")
    return made


@pytest.fixture(scope="module")
def pins() -> list[str]:
    """Direct dependencies with their exact versions, such as "torch==2.11.0"."""
    return tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]


def test_the_schema_is_that_of_the_settings() -> None:
    written = json.loads(read("workflow/schemas/params.schema.json"))
    assert written["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert written == reference().described_schema(), "run `make schema`"
    assert without_descriptions(written) == without_descriptions(
        {"$schema": written["$schema"], **Params.model_json_schema()}
    )


def without_descriptions(form: Any) -> Any:
    """A schema without what only editors show; a setting may have the name `description`."""
    if isinstance(form, list):
        return [without_descriptions(each) for each in form]
    if not isinstance(form, dict):
        return form
    kept = {k: v for k, v in form.items() if k != "description" or not isinstance(v, str)}
    return {key: without_descriptions(value) for key, value in kept.items()}


def test_the_settings_fit_their_schema() -> None:
    Params.model_validate(yaml.safe_load(read("params.yaml")))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "bootstrap_samples: 1000",
            "bootstrap_sample: 1000",
            "evaluate.bootstrap_sample: is not a setting",
        ),
        (
            "bootstrap_samples: 1000",
            "bootstrap_samples: many",
            "bootstrap_samples: input should be a valid integer, not 'many'",
        ),
        (
            "backend: pocketsphinx",
            "backend: sphinx",
            "align.backend: input should be 'pocketsphinx' or 'mfa', not 'sphinx'",
        ),
    ],
)
@pytest.mark.full
@pytest.mark.workflow
def test_a_wrong_setting_stops_before_any_job(
    old: str, new: str, complaint: str, project: Project, tmp_path: Path
) -> None:
    twin = project.twin(tmp_path / "twin")
    twin.edit("params.yaml", old, new)
    done = twin.run("snakemake", "--cores", "1", check=False)
    assert done.returncode == 1
    assert complaint in done.stdout
    assert not (twin.folder / "logs").exists()


@pytest.mark.full
@pytest.mark.workflow
def test_published_models_take_the_place_of_trainings(project: Project, tmp_path: Path) -> None:
    twin = project.twin(tmp_path / "twin")
    tokenizer = ("vocab.json", "merges.txt", "tokenizer_config.json")
    brought = {
        "cosy": ("llm.pt", "flow.pt", "hift.pt", "campplus.onnx", "speech_tokenizer_v2.onnx"),
        "cosy/CosyVoice-BlankEN": ("config.json", *tokenizer),
        "whisper": tokenizer,
    }
    for folder, names in brought.items():
        (twin.folder / folder).mkdir()
        for name in names:
            (twin.folder / folder / name).touch()
    (twin.folder / "model.pt").touch()
    settings = yaml.safe_load((twin.folder / "params.yaml").read_text())
    settings["base"] = ""
    settings["speech"] |= {"preset": "cosyvoice2", "path": "cosy"}
    settings["dataset"] |= {"policy_text": "cosy/CosyVoice-BlankEN", "codec_text": "whisper"}
    settings["codec"] |= {
        "preset": "released",
        "checkpoint": "model.pt",
        "guided_attention_weight": 0.0,
    }
    settings["policy"] = {"preset": "cosyvoice2", "path": "cosy", "dropout": 0.0}
    settings["sft"] |= {"guided_attention_weight": 0.0, "emotion_weight": 0.0}
    settings["synthesis"]["max_ratio"] = 20.0
    settings["reward"] |= {"probe_every": 10, "steps": 40}
    (twin.folder / "params.yaml").write_text(yaml.safe_dump(settings))
    plan = twin.run("snakemake", "--cores", "1", "--dry-run").stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE))
    assert jobs["codec_released"] == jobs["tokenize"] == jobs["report"] == "1"
    assert not {"tokenizer", "vocoder", "codec_content", "codec_style"} & jobs.keys()
    for folder, names in brought.items():
        (twin.folder / folder / names[0]).unlink()
        missing = twin.run("snakemake", "--cores", "1", "--dry-run", check=False).stdout
        assert f"{folder}/{names[0]}" in missing
        (twin.folder / folder / names[0]).touch()


@pytest.mark.full
@pytest.mark.workflow
def test_a_base_takes_the_place_of_trainings(project: Project, tmp_path: Path) -> None:
    twin = project.twin(tmp_path / "twin")
    files = [twin.folder / "shipped" / name for name in (*FILES, SUMS)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    twin.set_base("shipped")
    plan = twin.run("snakemake", "--cores", "1", "--dry-run", "--printshellcmds").stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE))
    assert {jobs[f"base_{model}"] for model in MODELS} == {"1"}
    assert jobs["sft"] == jobs["judge_recordings"] == jobs["report"] == "1"
    assert not {"tokenizer", "vocoder", "codec_content", "codec_style", "judge_train"} & jobs.keys()
    assert re.search(rf"hpro sft .* --start {RUN}/policy/base ", plan)
    for file in files:
        file.unlink()
    missing = twin.run("snakemake", "--cores", "1", "--dry-run", check=False).stdout
    assert all(str(file.relative_to(twin.folder)) in missing for file in files)


@pytest.mark.full
@pytest.mark.workflow
def test_a_base_of_small_models_is_not_for_cosyvoice2(project: Project, tmp_path: Path) -> None:
    twin = project.twin(tmp_path / "twin")
    twin.set_base("shipped")
    settings = yaml.safe_load((twin.folder / "params.yaml").read_text())
    settings["speech"] |= {"preset": "cosyvoice2", "path": "cosy"}
    (twin.folder / "params.yaml").write_text(yaml.safe_dump(settings))
    done = twin.run("snakemake", "--cores", "1", "--dry-run", check=False)
    assert done.returncode == 1
    assert "base: its models are embedded ones: set it to ''" in done.stdout


@pytest.mark.full
@pytest.mark.workflow
def test_word_times_are_compared_in_sets_of_any_name(project: Project, tmp_path: Path) -> None:
    twin = project.twin(tmp_path / "twin")
    raw = twin.folder / "data/raw"
    shutil.copytree(raw / "amazon_queen", raw / "second")
    settings = yaml.safe_load((twin.folder / "params.yaml").read_text())
    settings["base"] = ""
    excerpt, rendered = settings["corpus"]["sets"].values()
    settings["corpus"]["sets"] = {
        "game": excerpt,
        "more": excerpt | {"path": "data/raw/second"},
        "rendered": rendered,
        "again": rendered,
    }
    settings["reward"]["leave_out"] = []
    (twin.folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    plan = ("snakemake", "--cores", "1", "--dry-run", "--printshellcmds", "--", "phase_align")
    assert (
        f"hpro align-check --root {RUN} game=data/raw/amazon_queen/mfa_textgrids.zip"
        " more=data/raw/second/mfa_textgrids.zip --exact rendered --exact again "
    ) in twin.run(*plan).stdout


@pytest.mark.full
@pytest.mark.workflow
def test_claims_of_one_seed_are_refused_before_any_job(project: Project, tmp_path: Path) -> None:
    twin = project.twin(tmp_path / "twin")
    dry = ("snakemake", "--cores", "1", "--dry-run")
    done = twin.run(*dry, "--", "claims", check=False)
    assert done.returncode == 1
    assert (
        "seeds is [0], but claims.min_seeds is 5: use --configfile config/claims.yaml -- claims"
        in (done.stdout)
    )
    plan = twin.run(*dry, "--configfile", "config/claims.yaml", "--", "claims").stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE))
    assert (jobs["claims"], jobs["sft"]) == ("1", "5")


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_files_hold_every_pin_for_each_python(python: str, pins: list[str]) -> None:
    run, dev = locked("requirements.txt", python), locked("requirements-dev.txt", python)
    extra = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["dev"]
    assert versions(pins, python).items() <= run.items(), "run `make pins`"
    assert versions(extra, python).items() <= dev.items(), "run `make pins`"
    assert run.items() <= dev.items(), "run `make pins`"
    assert not set(versions(extra, python)) & set(run), (
        "what only tests need is in requirements.txt"
    )
    assert run["torch"] == run["torchaudio"]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_pin_all_and_name_no_index(name: str) -> None:
    for line in read(name).splitlines():
        if not line.lstrip().startswith("#"):
            assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+( ; .+)?", line), line
    assert "://" not in read(name)


@pytest.mark.parametrize(
    ("name", "extras"), [("requirements.txt", ()), ("requirements-dev.txt", ("dev",))]
)
def test_lock_files_hold_what_their_packages_need_and_no_other(
    name: str, extras: tuple[str, ...]
) -> None:
    """By the metadata of what is installed, whose versions are those of the lock."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    direct = [*project["dependencies"]]
    direct += [pin for extra in extras for pin in project["optional-dependencies"][extra]]
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    lock = locked(name, here)
    needed = closure(pin for pin in direct if applies(Requirement(pin), here))
    assert set(needed) <= set(lock), "run `make pins`"
    assert set(lock) <= set(needed), "run `make pins`"


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    supported = SpecifierSet(project["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in supported] == [*PYTHONS]
    assert f"pythons=({' '.join(PYTHONS)})" in read("workflow/scripts/pins.sh")
    setup = read("workflow/scripts/setup.sh")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in setup
    assert " ".join(f"python{python}" for python in PYTHONS) in setup


def test_setup_reads_the_pins_that_it_needs_from_pyproject(tmp_path: Path) -> None:
    """`setup.sh` takes the versions of uv and torch from there with sed."""
    function = re.search(r"^pinned\(\).*?^}", read("workflow/scripts/setup.sh"), flags=re.M | re.S)
    assert function
    for name, version in (
        ("uv", locked("requirements-dev.txt")["uv"]),
        ("torch", locked("requirements.txt")["torch"]),
    ):
        script = f"{function.group()}\npinned {name}"
        done = subprocess.run(["bash", "-c", script], cwd=REPO, capture_output=True, text=True)
        assert done.stdout == f"{version}\n"


CONDA = {
    "environment.yml": ["conda-forge", "bioconda", "nodefaults"],
    "workflow/envs/hpro.yaml": ["conda-forge", "nodefaults"],
    "workflow/envs/mfa.yaml": ["conda-forge", "nodefaults"],
}
"""Environment file -> its channels, the first before the others."""


@pytest.mark.parametrize("name", CONDA)
def test_conda_environments_have_the_tested_versions(name: str, pins: list[str]) -> None:
    environment = yaml.safe_load(read(name))
    assert environment["channels"] == CONDA[name]
    specs = [spec for spec in environment["dependencies"] if isinstance(spec, str)]
    for spec in specs:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*(>?=[0-9.]+)?", spec), spec
    python = next(spec.split("=")[1] for spec in specs if spec.startswith("python="))
    tested = versions(pins, python)
    for package, least in (spec.split(">=") for spec in specs if ">=" in spec):
        assert package not in tested or Version(tested[package]) >= Version(least)
    here = [f"{name}=={version}" for name, version in tested.items()]
    in_jobs = [pin for pin in here if not pin.startswith(WORKFLOW_TOOLS)]
    wheels = {"environment.yml": [{"pip": here}], "workflow/envs/hpro.yaml": [{"pip": in_jobs}]}
    assert environment["dependencies"][len(specs) :] == wheels.get(name, [])


def test_every_conda_environment_of_a_rule_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (REPO / "workflow/rules").glob("*.smk")]
    named = {name for text in texts for name in re.findall(r'"\.\./(envs/\S+)"', text)}
    assert {f"workflow/{name}" for name in named} == {*CONDA} - {"environment.yml"}
    assert len(list((REPO / "workflow/envs").iterdir())) == len(named)


@pytest.mark.workflow
def test_a_rule_declares_the_sections_that_its_command_reads(project: Project) -> None:
    for path in sorted((project.folder / "results/embedded/params").glob("*.yaml")):
        key = yaml.safe_load(path.read_text(encoding="utf-8"))
        shell = key.pop("depends_on")["shell"]
        command = re.findall(r"\bhpro ([a-z-]+)", shell[0])[0]
        read_by_it = sections_read(command)
        assert read_by_it <= set(key), f"{path.name} lacks what `hpro {command}` reads"
        if command != "report":  # it shows all settings
            assert set(key) == read_by_it, f"{path.name} holds more than `hpro {command}` reads"


def test_settings_are_read_by_the_functions_of_commands_alone() -> None:
    """So the sections that a command reads stand in its function (`sections_read`)."""
    assert all(function.decorator_list for function in command_functions())
    readers = {
        path.relative_to(REPO / "hpro_core").as_posix()
        for path in (REPO / "hpro_core").rglob("*.py")
        if re.search(r"\bread_(section|plain|variants?|compute)\(", path.read_text("utf-8"))
        and not path.name.endswith("commands.py")
    }
    assert readers == {"params.py", "report/stage.py"}  # the report shows all settings


@pytest.mark.workflow
def test_a_corpus_is_read_again_for_none_of_the_settings_of_others(project: Project) -> None:
    keys = project.folder / "results/embedded/params"
    key = yaml.safe_load((keys / "corpus_read_acted.yaml").read_text(encoding="utf-8"))["corpus"]
    limits = {"min_duration_s", "max_duration_s", "max_rejected_fraction"}
    assert set(key) == {"sets", *limits}
    assert set(key["sets"]) == {"acted"}


def test_dvc_has_a_stage_for_each_phase_and_each_folder_of_results() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (REPO / "workflow/rules").glob("*.smk")]
    phases = {
        name for text in texts for name in re.findall(r"^rule phase_(\w+):", text, flags=re.M)
    }
    folders = {name for text in texts for name in re.findall(r'"<root>/(\w+)/', text)}
    assert folders - NOT_DVC == phases
    stages = dvc_stages()
    assert {name: stage["cmd"] for name, stage in stages.items()} == {
        name: f"snakemake --cores all -- phase_{name}" for name in phases
    }
    for name, stage in stages.items():
        ((folder, options),) = (entry for out in stage["outs"] for entry in out.items())
        assert folder == f"results/${{run}}/{name}"
        assert options["persist"]
        assert options.get("cache", True) == (name != "tables")  # which git holds
    assert len(read("dvc.yaml").splitlines()) <= 120


def test_dvc_stages_depend_on_all_sources_and_on_each_other_in_a_row() -> None:
    stages = dvc_stages()
    before = {name: stage["deps"][0] for name, stage in stages.items()}
    row = ["data/raw"]
    while followers := [name for name, needed in before.items() if needed == row[-1]]:
        (follower,) = followers
        row.append(f"results/${{run}}/{follower}")
        del before[follower]
    assert before == {}
    for stage in stages.values():
        assert stage["deps"][1:] == ["data", "hpro_core", "params.yaml", "Snakefile", "workflow"]


def test_dvc_sends_no_analytics() -> None:
    assert re.search(r"analytics\s*=\s*false", read(".dvc/config"))


@pytest.mark.parametrize("name", sorted(p.stem for p in (REPO / "workflow/rules").glob("*.smk")))
def test_every_rule_that_runs_has_log_benchmark_conda_and_resources(name: str) -> None:
    for rule in re.split(r"^ *rule\b", read(f"workflow/rules/{name}.smk"), flags=re.M)[1:]:
        if "shell:" in rule:
            for directive in ("input", "output", "log", "benchmark", "conda", "threads",
                              "resources", "message"):  # fmt: skip
                assert f"    {directive}:" in rule, f"{rule.split(':')[0]} has no {directive}"
            assert "retries:" not in rule
            assert "slurm_partition" not in rule


SAFE = ("threads", "resources.gpu", "resources.nodes")
"""Numbers; everything else in a shell line may hold a path of the user or a blank."""


@pytest.mark.parametrize("name", sorted(p.stem for p in (REPO / "workflow/rules").glob("*.smk")))
def test_every_value_in_a_shell_line_is_quoted(name: str) -> None:
    text = read(f"workflow/rules/{name}.smk")
    blocks = re.findall(r"^( *)shell:\n((?:\1 +.*\n?)+)", text, flags=re.M)
    assert len(blocks) == text.count("shell:")
    for _, block in blocks:
        for value in re.findall(r"\{([^{}]+)\}", block):
            assert value in SAFE or value.endswith(":q"), f"{name}.smk: {{{value}}} is not quoted"


def test_no_option_of_a_rule_is_a_text_of_several_words() -> None:
    """Quoted, it would be one word: such a parameter is a list of words."""
    for path in (REPO / "workflow/rules").glob("*.smk"):
        assert not re.findall(r"""f?["']--[a-z-]+ [^"']*["'] (?:if|for)""", path.read_text())


@pytest.mark.parametrize("name", sorted(p.name for p in (REPO / "profiles").iterdir()))
def test_every_profile_makes_incomplete_files_again(name: str) -> None:
    assert yaml.safe_load(read(f"profiles/{name}/config.yaml"))["rerun-incomplete"] is True


def locked(name: str, python: str = PYTHONS[0]) -> dict[str, str]:
    """Package -> version of a lock file's lines for a Python on Linux."""
    lines = [line for line in read(name).splitlines() if not line.lstrip().startswith("#")]
    return versions(lines, python)


def versions(pins: Iterable[str], python: str) -> dict[str, str]:
    """Package, by its normalised name -> version, of the exact pins for a Python on Linux.

    Raises:
        ValueError: two pins of a package, or one that is not `==`.
    """
    found: dict[str, str] = {}
    for pin in map(Requirement, pins):
        if applies(pin, python):
            (only,) = pin.specifier
            if only.operator != "==" or canonicalize_name(pin.name) in found:
                raise ValueError(f"{pin} for Python {python}")
            found[canonicalize_name(pin.name)] = only.version
    return found


def applies(requirement: Requirement, python: str) -> bool:
    """Whether its marker holds for this Python, such as "3.12", in CPython on Linux."""
    linux = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    return requirement.marker is None or requirement.marker.evaluate(linux)


def dvc_stages() -> dict[str, Any]:
    """Folder of results -> DVC's stage."""
    stages = yaml.safe_load(read("dvc.yaml"))["stages"]
    phases = stages.pop("phase")
    for name, after in phases["foreach"].items():
        text = yaml.safe_dump(phases["do"]).replace("${key}", name).replace("${item}", after)
        stages[name] = yaml.safe_load(text)
    return stages


def command_functions() -> list[ast.FunctionDef]:
    """The functions of all commands.py."""
    trees = [ast.parse(p.read_bytes()) for p in (REPO / "hpro_core").rglob("*commands.py")]
    return [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]


def sections_read(command: str) -> set[str]:
    """Names of the sections that a command's function in a commands.py reads."""
    name = command.replace("-", "_")
    (function,) = (node for node in command_functions() if node.name == name)
    sections = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            match node.func.attr:
                case "read_section" | "read_plain":
                    sections.add(node.args[1].value)
                case "read_variant" | "read_variants":
                    sections.add("variants")
                case "read_compute":
                    sections.add("compute")
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            sections.add(node.slice.value)
    return sections


GONE = "slurm_load_jobs error: Invalid job id specified"
LOST = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
NO_ACCOUNTING = "Slurm accounting storage is disabled"


@pytest.mark.parametrize(
    ("squeue", "sacct", "says"),
    [
        ((0, "RUNNING"), (1, NO_ACCOUNTING), "running"),
        ((0, "COMPLETED"), (1, NO_ACCOUNTING), "success"),
        ((0, "OUT_OF_MEMORY"), (1, NO_ACCOUNTING), "failed"),
        ((1, LOST), (1, NO_ACCOUNTING), "running"),
        ((1, GONE), (1, NO_ACCOUNTING), "failed"),
        ((1, GONE), (0, "COMPLETED"), "success"),
        ((1, GONE), (0, "CANCELLED by 0"), "failed"),
        ((1, GONE), (1, "sacct: error: slurm_persist_conn_open: Connection refused"), "running"),
        ((1, GONE), (0, ""), "failed"),
    ],
)
def test_the_generic_profile_takes_no_silence_for_a_failure(
    squeue: tuple[int, str], sacct: tuple[int, str], says: str, tmp_path: Path
) -> None:
    for name, (status, said) in (("squeue", squeue), ("sacct", sacct)):
        where = " >&2" if status else ""
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'{where}\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    command = [REPO / "profiles/slurm-generic/status.sh", "7"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == says


def test_launch_starts_a_process_for_each_gpu_of_a_node(tmp_path: Path) -> None:
    """One GPU is the command itself; several nodes are tried in test_cluster."""
    for name in ("python", "hpro"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)

    def said(gpus: int, nodes: int) -> str:
        command = [
            REPO / "workflow/bin/launch",
            str(gpus),
            str(nodes),
            "hpro",
            "sft",
            "--seed",
            "0",
        ]
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True)
        return done.stdout or done.stderr

    assert said(1, 1) == said(0, 1) == "hpro sft --seed 0\n"
    assert said(4, 1).startswith("python -m accelerate.commands.launch --multi_gpu")
    assert "--num_processes 4 --num_machines 1" in said(4, 1)
    assert said(4, 1).endswith("-m hpro_core.cli sft --seed 0\n")
    assert "not the same number on each of 2 nodes" in said(3, 2)
    assert "--workflow-profile profiles/slurm" in said(4, 2)
