"""Snakemake and DVC agree: nothing to do after a pull, exactly what depends on it after an edit.

With the real tools, and a stand-in for `hpro` whose outputs are hashes of what it read. So a result
folder without stale files equals that of a run from scratch, file by file.
"""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hpro_core.pretrained.base import FILES, MODELS, SUMS
from tests.workflow.project import EVERYTHING, OF_POLICIES, OF_SFT, RUN, Project

pytestmark = pytest.mark.workflow

VARIANT = ("params.yaml", "drop: [cp, asr]", "drop: [asr]")
SFT = ("params.yaml", "history_noise: 0.6 ", "history_noise: 0.05 ")
OF_VARIANT = {"reward no_content", "synthesise no_content", "judge no_content", "tables", "report"}


@pytest.fixture(scope="module")
def original(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tree in which Snakemake made everything, recorded in DVC, committed and pushed."""
    folder = tmp_path_factory.mktemp("agreement")
    project = finished.twin(folder / "original")
    project.run("dvc", "remote", "add", "--default", "storage", str(folder / "storage"))
    project.commit()
    project.run("dvc", "push")
    return project


@pytest.fixture
def twin(original: Project, tmp_path: Path) -> Project:
    """The original tree, free to be changed."""
    return original.twin(tmp_path / "twin")


@pytest.fixture(scope="module")
def first_pull(original: Project) -> Project:
    """A fresh clone after what `make pull` runs."""
    clone = original.clone(original.folder.parent / "pulled")
    clone.run("workflow/scripts/pull.sh")
    return clone


@pytest.fixture
def pulled(first_pull: Project, tmp_path: Path) -> Project:
    """The pulled clone, free to be changed."""
    return first_pull.twin(tmp_path / "pulled")


@pytest.fixture
def untouched(original: Project, tmp_path: Path) -> Project:
    """A fresh clone after a plain `dvc pull`: times of files mean nothing."""
    clone = original.clone(tmp_path / "untouched")
    clone.run("dvc", "pull")
    return clone


@pytest.fixture(scope="module")
def from_scratch(original: Project) -> Callable[..., dict[str, str]]:
    """What a run from scratch with an edit leaves."""

    @cache
    def results(edit: tuple[str, str, str], *targets: str) -> dict[str, str]:
        project = original.clone(Path(tempfile.mkdtemp(dir=original.folder.parent)) / "scratch")
        project.edit(*edit)
        project.snakemake("--", "all", *targets)
        return project.results()

    return results


def test_nothing_is_to_be_done_after_a_run(original: Project) -> None:
    assert original.is_settled()


@pytest.mark.full
def test_dvc_makes_everything_from_nothing_and_snakemake_follows(
    finished: Project, tmp_path: Path
) -> None:
    clone = finished.clone(tmp_path / "clone")
    (clone.folder / "dvc.lock").unlink()
    assert clone.repro() == EVERYTHING
    assert clone.is_settled()
    assert clone.results() == finished.results()


@pytest.mark.full
def test_nothing_is_to_be_done_after_a_pull(first_pull: Project, original: Project) -> None:
    assert first_pull.is_settled()
    assert first_pull.snakemake() == set()
    assert first_pull.results() == original.results()


@pytest.mark.full
def test_dvc_reruns_what_one_variant_needs(twin: Project, from_scratch: Callable) -> None:
    twin.edit(*VARIANT)
    assert twin.repro() == OF_VARIANT
    assert twin.is_settled()
    assert twin.results() == from_scratch(VARIANT)


@pytest.mark.full
def test_snakemake_reruns_what_a_setting_needs_and_dvc_follows(
    twin: Project, from_scratch: Callable
) -> None:
    twin.edit(*SFT)
    assert twin.snakemake() == OF_SFT
    assert twin.repro() == set()
    assert twin.is_settled()
    assert twin.results() == from_scratch(SFT)


@pytest.mark.full
def test_taking_an_edit_back_makes_nothing_in_snakemake_again_after_a_look(twin: Project) -> None:
    twin.edit(*VARIANT)
    twin.run("snakemake", "--cores", "2", "--dry-run")
    twin.edit(VARIANT[0], VARIANT[2], VARIANT[1])
    assert twin.is_settled()


@pytest.mark.full
def test_a_lost_record_is_made_again(twin: Project) -> None:
    """As after a folder that turned read-only between the last result and its record."""
    record = twin.folder / RUN / "eval/no_content/seed0/record_judge.json"
    before = twin.results()
    record.unlink()
    assert twin.snakemake() == {"judge no_content", "tables", "report"}
    assert record.is_file()
    assert twin.results() == before


def test_a_comment_or_a_docstring_runs_no_job_in_either_tool(twin: Project) -> None:
    """DVC runs the stages whose files changed; Snakemake, which they start, has nothing to do."""
    code = twin.folder / "hpro_core/label/stage.py"
    changed = code.read_text().replace('"""', '"""Other words. ', 1)
    code.write_text(changed + "# a comment\n")
    assert twin.snakemake() == set()
    assert twin.repro() == set()
    assert twin.is_settled()


@pytest.mark.full
def test_changed_code_reruns_what_depends_on_it_in_a_pulled_clone(
    pulled: Project, from_scratch: Callable
) -> None:
    edit = ("hpro_core/reward/sampling.py", "import torch\n", "import torch\n\nX = 1\n")
    pulled.edit(*edit)
    assert pulled.snakemake() == OF_POLICIES
    assert pulled.repro() == set()
    assert pulled.is_settled()
    assert pulled.results() == from_scratch(edit)


@pytest.mark.full
def test_dvc_reruns_what_one_variant_needs_in_a_pulled_clone(
    pulled: Project, from_scratch: Callable
) -> None:
    pulled.edit(*VARIANT)
    assert pulled.repro() == OF_VARIANT
    assert pulled.is_settled()
    assert pulled.results() == from_scratch(VARIANT)


@pytest.mark.full
def test_a_changed_shell_line_reruns_its_stage_in_a_pulled_clone(pulled: Project) -> None:
    pulled.edit("workflow/rules/label.smk", "2>&1 | tee {log:q}", "2>&1 | tee -a {log:q}")
    assert pulled.repro() == {"label"}


@pytest.mark.full
@pytest.mark.parametrize("tool", ["dvc", "snakemake"])
def test_no_stale_output_in_an_untouched_clone(
    tool: str, untouched: Project, from_scratch: Callable
) -> None:
    untouched.edit(*VARIANT)
    remade = untouched.repro() if tool == "dvc" else untouched.snakemake()
    assert remade >= OF_VARIANT
    assert untouched.results() == from_scratch(VARIANT)


@pytest.mark.full
def test_a_pull_into_edited_settings_is_not_certified(original: Project, tmp_path: Path) -> None:
    clone = original.clone(tmp_path / "edited")
    clone.edit(*VARIANT)
    done = clone.run("workflow/scripts/pull.sh", check=False)
    assert done.returncode == 1
    assert "differ from dvc.lock" in done.stdout
    assert clone.snakemake() >= OF_VARIANT


@pytest.mark.full
def test_a_changed_recording_is_noticed_by_both(twin: Project, original: Project) -> None:
    clip = next((twin.folder / "data/raw").rglob("*.mp3"))
    clip.write_bytes(clip.read_bytes() + b"x")
    assert twin.run("dvc", "status", "-q", check=False).returncode == 1
    remade = twin.snakemake()
    assert {"corpus-read acted", "corpus-split", "align", "tokenizer"} <= remade
    assert "corpus-render controlled" not in remade
    assert twin.results() != original.results()


def test_one_variant_asked_for_reruns_that_variant_alone(twin: Project) -> None:
    metrics = f"{RUN}/eval/no_content/seed0/metrics.json"
    (twin.folder / metrics).unlink()
    assert twin.snakemake("--", metrics) == {"judge no_content"}
    (twin.folder / metrics).unlink()
    (twin.folder / f"{RUN}/eval/no_content/seed0/synthesis.parquet").unlink()
    (twin.folder / f"{RUN}/policy/no_content/seed0/model.safetensors").unlink()
    expected = {"reward no_content", "synthesise no_content", "judge no_content"}
    assert twin.snakemake("--", metrics) == expected


@pytest.mark.full
def test_a_variant_beyond_the_tables_is_kept_up_to_date_by_dvc(
    twin: Project, from_scratch: Callable
) -> None:
    extra = f"{RUN}/eval/no_wvad/seed0/metrics.json"
    assert twin.snakemake("--", extra) == {
        "reward no_wvad", "synthesise no_wvad", "judge no_wvad"}  # fmt: skip
    twin.edit(*SFT)
    remade = twin.repro()
    assert {"sft", "reward no_wvad", "judge no_wvad"} <= remade
    assert not {"align", "tokenizer", "codec-content", "reward no_frame"} & remade
    assert twin.results() == from_scratch(SFT, extra)


@pytest.mark.full
def test_a_base_takes_the_place_of_trainings(twin: Project) -> None:
    base = twin.folder / "data/base"
    for name in (*FILES, SUMS):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(name)
    twin.set_base("data/base")
    remade = twin.repro()
    assert {f"base-take {model}" for model in MODELS} <= remade
    assert {"corpus-split", "tokenize", "sft", "judge-recordings", "reward hpro"} <= remade
    assert not {"tokenizer", "vocoder", "codec-content", "codec-style", "judge-train"} & remade
    assert twin.is_settled()
    (base / "judge/model.safetensors").write_text("another")
    assert {"base-take judge", "judge-recordings", "judge sft"} <= twin.snakemake()


@pytest.mark.full
def test_all_ablations_is_one_target(twin: Project) -> None:
    remade = twin.snakemake("--", "all_ablations")
    rest = ("no_emotion", "no_frame", "no_wvad")
    steps = ("reward", "synthesise", "judge")
    assert remade == {"tables", *(f"{step} {name}" for step in steps for name in rest)}
    assert (twin.folder / RUN / "tables_all/ablation.csv").is_file()
