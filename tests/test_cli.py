"""The command line: groups of commands, and what a person may leave out (`prepared`)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from hpro_core import __version__
from hpro_core.cli import app
from hpro_core.command_groups import GROUPS
from hpro_core.command_line import WORK, find_project, prepared
from hpro_core.errors import HproError, did_you_mean
from hpro_core.process import SNAKEMAKE

REPO = Path(__file__).parents[1]
COMMANDS: Any = typer.main.get_command(app)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped settings and a folder below it; the working directory."""
    monkeypatch.delenv(SNAKEMAKE, raising=False)
    root = tmp_path / "project"
    (root / "notes/deep").mkdir(parents=True)
    shutil.copyfile(REPO / "params.yaml", root / "params.yaml")
    (root / "Snakefile").touch()
    monkeypatch.chdir(root)
    return root


def completed(line: str) -> str:
    return " ".join(prepared(COMMANDS, line.split()))


# --- groups and help -----------------------------------------------------------------------------


def test_every_command_is_in_one_group() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    shown = {name for name, command in COMMANDS.commands.items() if not command.hidden}
    assert shown - set(names) == set(), "add it to hpro_core/command_groups.py"


def test_help_shows_the_groups_in_order() -> None:
    said = CliRunner().invoke(app, ["-h"], env={"COLUMNS": "100"}).output
    places = [said.index(title) for title in GROUPS]
    assert places == sorted(places)
    assert said.index(" say ") < said.index(" plan ") < said.index(" align ")
    assert said.index(" align ") < said.index(" report ") < said.index(" weights ")


@pytest.mark.parametrize("line", ["align -h", "listen -h", "listen build -h", "corpus check -h"])
def test_every_level_has_a_short_option_for_help(line: str) -> None:
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"hpro {__version__}\n"


def test_completion_is_of_typer() -> None:
    code = "import sys; sys.argv = ['hpro']; from hpro_core.cli import main; main()"
    environment = os.environ | {
        "_HPRO_COMPLETE": "complete_bash", "COMP_WORDS": "hpro rewar", "COMP_CWORD": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["reward", "reward-watched"]


def test_a_misspelt_command_is_answered_with_the_close_one() -> None:
    done = CliRunner().invoke(app, ["aling"])
    assert done.exit_code == 2
    assert "Did you mean 'align'?" in done.output


# --- defaults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("align", "--root results/embedded --params params.yaml"),
        (
            "sft --seed 3",
            "--root results/embedded --params params.yaml --work work/embedded/sft/seed3",
        ),
        (
            "reward hpro",
            "--root results/embedded --params params.yaml --work work/embedded/reward_hpro/seed0",
        ),
        ("judge hpro", "--root results/embedded --work work/embedded/judge_hpro_seed0"),
        ("judge --audio voices", ""),
        (
            "label --shard=2 --params params.yaml",
            "--root results/embedded --work work/embedded/label/shards/00002",
        ),
        ("sft --root results/embedded --params params.yaml --work elsewhere", ""),
        (
            "codec-content --params results/other/params/codec.yaml",
            "--root results/other --work work/other/codec_content",
        ),
        (  # click says what is missing
            "reward",
            "--root results/embedded --params params.yaml --work work/embedded/reward_/seed0",
        ),
        ("settings", ""),
        ("verify results/embedded", ""),
        ("align --help", ""),
        ("no-such-command x", ""),
    ],
)
def test_what_is_left_out_is_added(project: Path, line: str, added: str) -> None:
    assert completed(line) == f"{line} {added}".strip()


def test_defaults_are_added_before_a_double_dash(project: Path) -> None:
    assert completed("corpus-read -- acted") == (
        "corpus-read --root results/embedded --params params.yaml -- acted"
    )


def test_the_run_is_that_of_the_settings(project: Path) -> None:
    settings = project / "params.yaml"
    settings.write_text(settings.read_text().replace("run: embedded", "run: mine"))
    assert "--root results/mine " in completed("align")


def test_settings_of_another_run_are_refused(project: Path) -> None:
    with pytest.raises(HproError, match=r"^--root is the run 'other', but params.yaml has the run"):
        completed("align --root results/other")


def test_settings_without_a_run_are_refused(project: Path) -> None:
    (project / "part.yaml").write_text("align: {}\n")
    with pytest.raises(HproError, match=r"^part.yaml has no `run`: give --root"):
        completed("align --params part.yaml")


def test_a_job_of_the_workflow_is_not_touched(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SNAKEMAKE, "host 1 2")
    monkeypatch.chdir(project / "notes")
    assert completed("reward no_such --root x") == "reward no_such --root x"
    assert Path.cwd() == project / "notes"


def test_work_folders_are_those_of_the_rules() -> None:
    rules = "".join(path.read_text() for path in (REPO / "workflow/rules").glob("*.smk"))
    found = re.findall(r'work=(?:lambda wildcards: )?f"\{WORK\}/([^"]+)"', rules)
    templates = {text.replace("{{", "{").replace("}}", "}") for text in found}
    assert {text.removesuffix("/{wildcards.shard}") for text in templates} == set(WORK.values())
    with_work = {
        name
        for name, command in COMMANDS.commands.items()
        if any(each.name == "work" for each in command.params) and not command.hidden
    }
    assert set(WORK) == with_work


# --- folders -------------------------------------------------------------------------------------


def test_the_project_is_found_from_a_folder_below(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project / "notes/deep")
    assert find_project(Path.cwd()) == project
    assert completed("align").startswith("align --root results/embedded ")
    assert Path.cwd() == project
    said = capsys.readouterr().err
    assert said == f"hpro: working in {project}: paths in messages are relative to it\n"


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("say Hello. --reference v.wav --out=o.wav",
         "say Hello. --reference notes/v.wav --out=notes/o.wav"),
        ("verify ../results/embedded", "verify results/embedded"),
        ("verify /data/run", "verify /data/run"),
        ("judge --audio a=voices --audio v --list ../l.csv",
         "judge --audio a=notes/voices --audio notes/v --list l.csv"),
        ("plan --configfile ../../mine.yaml --hours lssed=10:5000",
         "plan --configfile ../mine.yaml --hours lssed=10:5000"),
        ("codec import model.pt codec --content-levels 5",
         "codec import notes/model.pt notes/codec --content-levels 5"),
        ("compare embedded voices x=deep ../results/other --out=o",
         "compare embedded voices x=notes/deep results/other --out=notes/o"),
        ("listen analyse design.json a.csv b.csv --out x",
         "listen analyse notes/design.json notes/a.csv notes/b.csv --out notes/x"),
    ],
)  # fmt: skip
def test_relative_paths_start_where_the_user_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, line: str, moved: str
) -> None:
    monkeypatch.chdir(project / "notes")
    assert completed(line) == moved


def test_without_a_project_the_error_names_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SNAKEMAKE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert completed("align") == "align"
    done = CliRunner().invoke(app, ["align"])
    assert isinstance(done.exception, HproError)
    assert "no params.yaml beside a Snakefile" in str(done.exception)
    assert "or give --root, --params and --work" in str(done.exception)


@pytest.mark.parametrize("line", ["plan", "settings", "preflight", "benchmark sft", "status"])
def test_commands_about_a_project_say_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.delenv(SNAKEMAKE, raising=False)
    monkeypatch.chdir(tmp_path)
    given = "" if line == "status" else ", or give --params$"
    with pytest.raises(HproError, match=f"change to the folder of the project{given}"):
        completed(line)
    if given:
        assert completed(f"{line} --params x.yaml") == f"{line} --params x.yaml"


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("reward hrpo", "no variant 'hrpo' (frame, word, hpro, no_content, no_emotion, no_frame, "
         "no_wvad, diffro, joint); did you mean hpro?"),
        ("reward-watched zzz", "no variant 'zzz' (frame, word, hpro, no_content, no_emotion, "
         "no_frame, no_wvad, diffro, joint)"),
        ("synthesise token-recon", "no system 'token-recon' (recordings, tokenrecon, sft, frame, "
         "word, hpro, no_content, no_emotion, no_frame, no_wvad, diffro, joint); did you mean "
         "tokenrecon?"),
        ("judge sfr", "no system 'sfr' (recordings, tokenrecon, sft, frame, word, hpro, "
         "no_content, no_emotion, no_frame, no_wvad, diffro, joint); did you mean sft?"),
        ("corpus-read actd", "no set 'actd' (acted, controlled); did you mean acted?"),
        ("import-audio other", "no external system 'other' (none)"),
    ],
)  # fmt: skip
def test_a_name_that_the_settings_lack_is_refused(project: Path, line: str, refused: str) -> None:
    with pytest.raises(HproError) as error:
        completed(line)
    assert str(error.value) == f"params.yaml: {refused}"


def test_names_are_not_checked_without_their_section(project: Path) -> None:
    (project / "key.yaml").write_text("run: embedded\nsynthesis: {}\n")
    assert "--params key.yaml" in completed("synthesise any --params key.yaml")


def test_only_commands_with_a_name_read_the_settings(project: Path) -> None:
    (project / "params.yaml").write_text("run: [")
    assert completed("verify results/embedded") == "verify results/embedded"
    with pytest.raises(HproError, match=r"^params.yaml"):
        completed("judge hpro")


def test_a_misspelt_name_is_refused_before_anything_heavy_is_loaded(project: Path) -> None:
    code = "import sys; from hpro_core.cli import prepared, app, typer\n"
    code += "try: prepared(typer.main.get_command(app), ['reward', 'hrpo'])\n"
    code += "except Exception as error: print(error)\n"
    code += "print(*[n for n in ('torch', 'pandas', 'pyarrow') if n in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.endswith("did you mean hpro?\n\n")


def test_a_hint_has_the_closest_name_or_none() -> None:
    assert did_you_mean("shard", ["shards", "seeds"]) == "; did you mean shards?"
    assert did_you_mean("x", ["shards", "seeds"]) == ""
