"""Reading of settings: what is odd in a file is one line that names the file and the place."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.plan import settings
from hpro_core.plan.settings import merge_and_check, read_settings, settings_of_workflow, sources

REPO = Path(__file__).parents[1]
SHIPPED = REPO / "params.yaml"

ODD = {
    "a Latin-1 comment": (
        (b"# ours: of what", b"# caf\xe9: of what"),
        r"line \d+: byte 0xe9 is not UTF-8: save it as UTF-8",
    ),
    "a date": ((b"steps: 1900", b"steps: 2024-13-45"), r"speech.steps: .*, not '2024-13-45'"),
    "a key twice": (
        (b"\nsynthesis:", b"\nshards: 1\nsynthesis:"),
        r"line \d+: key 'shards' is also in line \d+: keep one",
    ),
    "a set twice": (
        (b'    controlled: {reader: controlled, path: ""}', b"    acted: {reader: csv, path: x}"),
        r"line \d+: key 'acted' is also in line \d+: keep one",
    ),
    "a leading zero": ((b"steps: 1900", b"steps: 010"), r"line \d+: 010 begins with a zero"),
    "infinity": ((b"learning_rate: ", b"learning_rate: .inf #"), r"should be a finite number"),
    "no number": ((b"min_duration_s: 0.8", b"min_duration_s: .nan"), r"a finite number, not nan"),
    "a tab": ((b"\nalign:", b"\n\talign:"), r"line \d+: "),
    "a wildcard in a path": (
        (b"path: data/raw/amazon_queen", b"path: 'data/{raw}'"),
        r"corpus.sets.acted.path: a path must not contain \{ \} < > .* not 'data/\{raw\}'",
    ),
    "an option as a path": (
        (b"base: data/base", b"base: --force"),
        r"base: a path must .*'--force'",
    ),
}


def odd(name: str, folder: Path) -> tuple[Path, str]:
    """The shipped settings with one oddity, and what is said of it."""
    (old, new), says = ODD[name]
    text = SHIPPED.read_bytes().replace(b"label:  ", b"# ours: of what\nlabel:  ", 1)
    assert old in text
    file = folder / "params.yaml"
    file.write_bytes(text.replace(old, new, 1))
    return file, says


@pytest.mark.parametrize("name", ODD)
def test_an_oddity_is_one_line_that_names_the_file(name: str, tmp_path: Path) -> None:
    file, says = odd(name, tmp_path)
    with pytest.raises(HproError, match=rf"^{file}(, |: ).*{says}") as error:
        read_settings(file, [])
    assert "\n" not in str(error.value)


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    file, _ = odd("a Latin-1 comment", tmp_path)
    for command in (["plan"], ["settings"]):
        done = subprocess.run(
            [sys.executable, "-m", "hpro_core.cli", *command, "--params", file],
            cwd=REPO,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"hpro: {file}, line ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("written", ["1e-05", "1.0e-5", "1E-5", "0.00001", "+1e-05"])
def test_a_small_number_is_one_however_it_is_written(written: str, tmp_path: Path) -> None:
    """DVC writes 1e-05, which YAML 1.1 takes for a text."""
    above = tmp_path / "above.yaml"
    above.write_text(f"sft: {{learning_rate: {written}}}\n")
    values, found = merge_and_check(sources(SHIPPED, [above]))
    assert found.sft.learning_rate == values["sft"]["learning_rate"] == 1e-5


def test_a_small_number_that_dvc_wrote_is_one(tmp_path: Path) -> None:
    """`dvc exp run -S sft.learning_rate=1.0e-5` edits params.yaml with this function."""
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "params.yaml"
    file.write_bytes(SHIPPED.read_bytes())
    apply_overrides(file, ["sft.learning_rate=1.0e-5"])
    assert "learning_rate: 1e-05" in file.read_text()
    assert read_settings(file, []).sft.learning_rate == 1e-5
    assert p.read_section(file, "sft", p.Sft).learning_rate == 1e-5


def test_no_float_setting_takes_infinity_or_nan() -> None:
    def floats(values: object, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if isinstance(values, dict):
            return [each for k, v in values.items() for each in floats(v, (*place, k))]
        return [place] if isinstance(values, float) else []

    shipped = p.read_yaml(SHIPPED)
    places = floats(shipped)
    assert len(places) > 50
    for place in places:
        for bad in (float("inf"), float("nan")):
            twin = yaml.safe_load(SHIPPED.read_text())
            inner = twin
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = bad
            with pytest.raises(HproError, match=rf"{'.'.join(place)}: .*(finite|less|greater)"):
                p.validate_section(twin, p.Params, "x")


def test_the_file_that_has_the_value_is_named(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("sft: {steps: 0}\nseeds: [0, 0]\n")
    two.write_text("reward: {probe_every: 7}\ntables: {ablation: [nobody]}\n")
    with pytest.raises(HproError, match=rf"^{one}: sft.steps: "):
        read_settings(SHIPPED, [one, two])
    one.write_text("seeds: [0, 0]\n")
    with pytest.raises(HproError, match=rf"^{two}: reward.probe_every: "):
        read_settings(SHIPPED, [one, two])
    two.write_text("tables: {ablation: [nobody]}\n")
    with pytest.raises(HproError, match=rf"^{one}: seeds: \[0, 0\] has a duplicate"):
        read_settings(SHIPPED, [one, two])
    one.write_text("shards: 1\n")
    with pytest.raises(HproError, match=rf"^{two}: tables.ablation: no system 'nobody'"):
        read_settings(SHIPPED, [one, two])
    two.write_text("corpus: {sets: {shards: {reader: csv, path: x}}}\n")
    with pytest.raises(HproError, match=rf"^{two}: corpus: sets.shards: is already a folder"):
        read_settings(SHIPPED, [one, two])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "all_ablations",
            None,
            r"all_ablations is not a settings file, it does not exist: targets.*`--`$",
        ),
        ("metrics.json", '{"system": "sft", "wer": 1}', r"metrics.json is not a settings file, it"),
        ("model.bin", "\x00\x01", r"model.bin"),
    ],
)
def test_a_target_that_was_taken_for_a_settings_file(
    name: str, content: str | None, says: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(HproError, match=says) as error:
        read_settings(SHIPPED, [file])
    if content != "\x00\x01":
        assert "come after `--`" in str(error.value)


def test_a_misspelt_settings_file_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHIPPED.parent)
    with pytest.raises(HproError, match=r"after `--`; did you mean config/tiny.yaml\?$"):
        read_settings(SHIPPED, [Path("config/tny.yaml")])


def workflow(
    *files: Path, config: tuple[str, ...] = (), main: bool = True, replace: bool = False
) -> SimpleNamespace:
    """What of Snakemake's workflow the settings come from."""
    own = SimpleNamespace(config_args=list(config), replace_workflow_config=replace)
    return SimpleNamespace(
        overwrite_configfiles=list(files), config_settings=own, is_main_process=main
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped settings, without a base, and in it."""
    text = SHIPPED.read_text().replace("base: data/base", 'base: ""')
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_of_the_command_line_win_and_are_read_as_strictly(here: Path) -> None:
    (here / "above.yaml").write_text("shards: 2\nseeds: [5]\n")
    given = ("shards=3", "run=second", "sft={learning_rate: 1e-5, steps: 9}", "seeds=[1, 2]")
    values, found = settings_of_workflow(workflow(here / "above.yaml", config=given))
    assert (found.shards, found.run, found.seeds) == (3, "second", [1, 2])
    assert values["sft"]["learning_rate"] == 1e-5
    assert found.sft.ema > 0  # from params.yaml
    for wrong, says in (
        (("shards=0",), r"^--config shards=0: shards: "),
        (("shards=03",), r"^--config shards=03, line 1: 03 begins with a zero"),
    ):
        with pytest.raises(HproError, match=says):
            settings_of_workflow(workflow(config=wrong))


def test_the_jobs_of_a_cluster_read_the_one_file_that_they_are_given(here: Path) -> None:
    begun, _ = settings_of_workflow(workflow(config=("shards=3",)))
    kept = here / "kept.yaml"
    kept.write_text(yaml.safe_dump(begun))
    (here / "params.yaml").write_text("run: [broken")
    values, found = settings_of_workflow(workflow(kept, main=False, config=("shards=7",)))
    assert values == begun
    assert found.shards == 3


def test_a_whole_file_can_take_the_place_of_params(here: Path) -> None:
    whole = here / "whole.yaml"
    (here / "params.yaml").rename(whole)
    assert settings_of_workflow(workflow(whole, replace=True))[1].run == "embedded"
    with pytest.raises(HproError, match=r"^params.yaml does not exist"):
        settings_of_workflow(workflow(whole))


def test_paths_are_shown_as_they_were_given(here: Path) -> None:
    assert settings._relative_path(here / "config/x.yaml") == Path("config/x.yaml")
    assert settings._relative_path(Path("/far/x.yaml")) == Path("/far/x.yaml")


def test_files_of_configfile_are_found_among_the_arguments_of_snakemake(here: Path) -> None:
    (here / "above.yaml").write_text("shards: 2\n")
    check = settings.check_arguments
    check(["--cores", "2", "--configfile", "above.yaml", "--", "all_ablations"])
    check(["--configfile=above.yaml", "-n", "all_ablations"])
    check(["all_ablations"])
    for wrong in (
        ["--cores", "2", "--configfile", "above.yaml", "all_ablations"],
        ["--configfiles", "all_ablations", "--cores", "2"],
        ["--configfile=all_ablations"],
    ):
        with pytest.raises(
            SystemExit, match=r"^hpro: all_ablations is not a settings file, it does"
        ):
            check(wrong)
