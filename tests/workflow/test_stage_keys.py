"""Key files hold what a result depends on, and change when that changes."""

import os
from pathlib import Path

import pytest

from hpro_core.corpus.walk import listing_hash
from hpro_core.errors import HproError
from hpro_core.process import use_checkout
from tests.workflow.project import REPO
from workflow.scripts import code_hash, stage_keys

COMMANDS = '''
import typer

from hpro_core import params as p
from hpro_core.helper import read

app = typer.Typer()


@app.command()
def train(root):
    """Train."""
    from hpro_core.room.stage import run

    run(root, read(root, "weights"))


@app.command()
def other(root):
    from hpro_core.far import away

    away(root)
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package with commands; returns the folder that holds it."""
    files = {
        "room/commands.py": COMMANDS,
        "__init__.py": "",
        "params.py": "from hpro_core.of_params import read\n",
        "of_params.py": "",
        "helper.py": "",
        "far.py": "",
        "shared.py": "",
        "room/__init__.py": "",
        "room/stage.py": "def run(*_):\n    from .inner import go\n    import hpro_core.shared\n",
        "room/inner.py": 'TABLE = "norms.csv"\n',
        "room/norms.csv": "a,b\n",
        "room/unused.csv": "a,b\n",
    }
    for name, text in files.items():
        path = tmp_path / "hpro_core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_code_of_a_command_is_what_it_imports_and_the_data_it_names(package: Path) -> None:
    assert code_hash.code_files(package, "train") == [
        "hpro_core/helper.py",
        "hpro_core/room/__init__.py",
        "hpro_core/room/inner.py",
        "hpro_core/room/norms.csv",
        "hpro_core/room/stage.py",
        "hpro_core/shared.py",
    ]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("shared.py", True),
        ("room/inner.py", True),
        ("room/norms.csv", True),
        ("far.py", False),
        ("room/unused.csv", False),
        ("params.py", False),
        ("of_params.py", False),
    ],
)
def test_code_hash_follows_the_files_of_the_command(
    package: Path, name: str, changes: bool
) -> None:
    before = code_hash.code_hash(package, "train")
    path = package / "hpro_core" / name
    path.write_text(path.read_text() + "MORE = 1\n")
    assert (code_hash.code_hash(package, "train") != before) == changes


def test_comments_docstrings_and_layout_are_no_code(package: Path) -> None:
    before = {name: code_hash.code_hash(package, name) for name in ("train", "other")}
    room = package / "hpro_core/room"
    commands, inner = room / "commands.py", room / "inner.py"
    commands.write_text(commands.read_text().replace("Train.", "Other words."))
    inner.write_text('# A comment.\n\nTABLE = (\n    "norms.csv"\n)\n"Its text."\n')
    assert {name: code_hash.code_hash(package, name) for name in before} == before
    inner.write_text('TABLE = "norms.csv" + ""\n')
    assert code_hash.code_hash(package, "train") != before["train"]


def test_the_hash_of_code_is_that_of_every_python() -> None:
    """A clone with another Python than that of a pulled run has nothing to do."""
    code = b"def f(a, *, b=1):\n    'Text.'\n    return f'{a!r:>{b}}' if a else [x for x in b]\n"
    assert code_hash._content_hash(code, True)[:16] == "8818f69b4cd05d0d"


def test_code_hash_follows_the_function_of_the_command(package: Path) -> None:
    before = {name: code_hash.code_hash(package, name) for name in ("train", "other")}
    commands = package / "hpro_core/room/commands.py"
    commands.write_text(commands.read_text().replace('"weights"', '"elsewhere"'))
    assert code_hash.code_hash(package, "train") != before["train"]
    assert code_hash.code_hash(package, "other") == before["other"]


def test_no_result_of_a_run_depends_on_code_for_audio_without_a_run() -> None:
    for command in ("judge", "tables"):
        files = code_hash.code_files(REPO, command)
        assert "hpro_core/judges/stage.py" in files or command == "tables"
        assert not [f for f in files if "/report/" in f or "judges/audio" in f]


def test_a_command_that_does_not_exist_is_an_error(package: Path) -> None:
    with pytest.raises(ValueError, match="has no function no_such for `hpro no-such`"):
        code_hash.code_files(package, "no-such")


def test_what_stands_beside_the_commands_counts_for_each(package: Path) -> None:
    before = {name: code_hash.code_hash(package, name) for name in ("train", "other")}
    commands = package / "hpro_core/room/commands.py"
    commands.write_text(commands.read_text() + "\n\ndef helper():\n    pass\n")
    for name, value in before.items():
        assert code_hash.code_hash(package, name) != value


PLUGINS = '''"""Terms."""

import importlib
import pkgutil

TERMS = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
'''


def test_a_package_that_lists_its_modules_imports_them_all(package: Path) -> None:
    terms = package / "hpro_core/room/terms"
    terms.mkdir()
    (terms / "rate.py").write_text("import hpro_core.far\n")
    (terms / "__init__.py").write_text("import pkgutil\n")
    inner = package / "hpro_core/room/inner.py"
    inner.write_text("import hpro_core.room.terms\n")
    listed, named = ("hpro_core/room/terms/rate.py", "hpro_core/far.py"), code_hash.code_files
    assert not set(listed) & set(named(package, "train"))
    (terms / "__init__.py").write_text(PLUGINS)
    code_hash._module_imports.cache_clear()
    assert set(listed) < set(named(package, "train"))
    before = code_hash.code_hash(package, "train")
    (terms / "rate.py").write_text("import hpro_core.far\nWEIGHT = 2\n")
    assert code_hash.code_hash(package, "train") != before


def test_every_real_command_has_code() -> None:
    assert "hpro_core/reward/sampling.py" in code_hash.code_files(REPO, "reward")
    assert "hpro_core/reward/terms/__init__.py" in code_hash.code_files(REPO, "reward")
    assert "hpro_core/reward/sampling.py" not in code_hash.code_files(REPO, "sft")


def test_a_dotted_section_keeps_one_entry_of_its_mapping() -> None:
    settings = {"corpus": {"seed": 1, "sets": {"a": {"path": "x"}, "b": {}}, "splits": {"dev": 1}}}
    content = stage_keys.key_content(settings, ["corpus.sets.a"], "code", ["hpro x"])
    assert content == {
        "corpus": {"seed": 1, "sets": {"a": {"path": "x"}}},
        "depends_on": {"code": "code", "shell": ["hpro x"]},
    }


def test_a_section_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        stage_keys.key_content({}, ["corpus"], "code", [])


def test_a_key_file_is_written_only_when_its_content_changed(tmp_path: Path) -> None:
    path = tmp_path / "params/align.yaml"
    stage_keys.write_changed({path: {"align": {"backend": "mfa"}}})
    os.utime(path, (1, 1))
    stage_keys.write_changed({path: {"align": {"backend": "mfa"}}})
    assert path.stat().st_mtime == 1
    stage_keys.write_changed({path: {"align": {"backend": "pocketsphinx"}}})
    assert path.stat().st_mtime > 1
    assert [p.name for p in path.parent.iterdir()] == ["align.yaml"]


def test_a_listing_follows_names_sizes_and_times(tmp_path: Path) -> None:
    clip = tmp_path / "speaker/clip.wav"
    clip.parent.mkdir()
    clip.write_bytes(b"1")
    before = listing_hash(tmp_path)
    assert listing_hash(tmp_path) == before
    clip.write_bytes(b"2")
    os.utime(clip, (1, 1))
    changed = listing_hash(tmp_path)
    assert changed != before
    clip.rename(clip.with_name("other.wav"))
    assert listing_hash(tmp_path) not in (before, changed)
    assert listing_hash(clip.with_name("other.wav")) != changed  # one file
    (tmp_path / "again").symlink_to(tmp_path)  # leads back up
    assert listing_hash(tmp_path) != before


def test_a_listing_takes_names_that_are_not_utf_8(tmp_path: Path) -> None:
    clip = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    with open(clip, "wb") as file:
        file.write(b"1")
    before = listing_hash(tmp_path)
    os.rename(clip, clip.replace(b"\xe9", b"\xe8"))
    assert listing_hash(tmp_path) != before


def test_a_folder_with_a_colon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HproError, match=r"a:b: the path of the project has a ':'"):
        use_checkout(tmp_path / "a:b")


def test_a_listing_follows_links_to_folders(tmp_path: Path) -> None:
    clip = tmp_path / "store/speaker/clip.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"1")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "data").symlink_to(tmp_path / "store")
    before = listing_hash(corpus)
    clip.write_bytes(b"22")
    assert listing_hash(corpus) != before
