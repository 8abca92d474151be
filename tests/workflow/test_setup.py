"""`make` and `setup.sh`: settings for Snakemake, pip's index settings for uv, clear refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpro_core.pretrained.pip_options import pip_options
from tests.workflow.project import REPO
from workflow.scripts.uv_options import uv_environment

PAPER, ACTED = "config/paper.yaml", "config/acted.yaml"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `make` would run, without running it."""
    command = ["make", "--dry-run", *arguments]
    without = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(command, cwd=REPO, env=without, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("target", "config", "expected"),
    [
        ("run", "", "snakemake --cores all\n"),
        ("run", PAPER, f"snakemake --cores all --configfile {PAPER}\n"),
        ("run", f"{PAPER} {ACTED}", f"snakemake --cores all --configfile {PAPER} {ACTED}\n"),
        ("plan", f"{PAPER} {ACTED}", f"hpro plan --configfile {PAPER} --configfile {ACTED}\n"),
        ("plan", PAPER, f"hpro preflight --configfile {PAPER}\n"),
        ("ablations", "", "snakemake --cores all -- all all_ablations\n"),
        ("ablations", ACTED, f" --configfile {ACTED} -- all all_ablations\n"),
        ("claims", ACTED, f" --configfile config/claims.yaml {ACTED} -- claims\n"),
        ("base", ACTED, f" --configfile config/base.yaml {ACTED} --config run=base "),
    ],
)
def test_targets_pass_config_to_snakemake(target: str, config: str, expected: str) -> None:
    done = make(target, f"CONFIG={config}")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_make_refuses_a_config_that_is_missing_or_has_no_effect() -> None:
    missing = make("run", f"CONFIG={PAPER} config/papper.yaml")
    assert missing.returncode == 2
    assert "CONFIG: there is no config/papper.yaml" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1
    pull = make("pull", f"CONFIG={PAPER}")
    assert pull.returncode == 2
    assert "run it without CONFIG" in pull.stderr


def test_pip_settings_become_those_of_uv() -> None:
    listed = """\
:env:.find-links='/wheels'
global.cert='/certificates.crt'
global.index-url='https://user:p%20$w@mirror.example/simple'
global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'
install.find-links='/one /two'
install.trusted-host="mirror.example"
freeze.timeout='3'
"""
    options = pip_options(listed)
    assert options == {
        "cert": "/certificates.crt",
        "index-url": "https://user:p%20$w@mirror.example/simple",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
        "find-links": "/wheels",  # of the environment, before those of a file
        "trusted-host": "mirror.example",
    }
    assert uv_environment(options, {}) == {
        "UV_DEFAULT_INDEX": "https://user:p%20$w@mirror.example/simple",
        "UV_INDEX": "https://user:p%20$w@mirror.example/simple https://a.example/simple "
        "https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels",
        "UV_INSECURE_HOST": "mirror.example",
        "SSL_CERT_FILE": "/certificates.crt",
    }


def test_settings_of_uv_itself_stay() -> None:
    options = {"index-url": "https://pip.example", "find-links": "/one /two", "cert": "/pip.crt"}
    mine = {"UV_INDEX_URL": "https://uv.example", "SSL_CERT_FILE": "/uv.crt"}
    assert uv_environment(options, mine) == {"UV_FIND_LINKS": "/one,/two"}


def test_extra_indexes_never_come_before_the_default_one() -> None:
    """uv would take a version from the first of them, even where the default has a better wheel."""
    extra = {"extra-index-url": "https://extra.example"}
    assert uv_environment(extra, {}) == {}
    both = {"index-url": "https://main.example", **extra}
    assert uv_environment(both, {})["UV_INDEX"] == "https://main.example https://extra.example"
    assert set(uv_environment(both, {"UV_INDEX": "https://mine.example"})) == {"UV_DEFAULT_INDEX"}


def test_the_printed_lines_are_safe_for_a_shell() -> None:
    script = ["-m", "workflow.scripts.uv_options"]
    listed = 'global.index-url="https://me:$(exit 1)\'@mirror.example/simple"\n'
    lines = subprocess.run(
        [sys.executable, *script], input=listed, cwd=REPO, env={}, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    shell = subprocess.run(
        ["bash", "-ec", f'{lines}printf %s "$UV_DEFAULT_INDEX"'], capture_output=True, text=True
    )
    assert shell.stdout == "https://me:$(exit 1)'@mirror.example/simple"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment."""
    folder = tmp_path_factory.mktemp("setup") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


def setup(venv: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.sh where no index can be reached."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # has uv
    offline = {"PATH": path, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1"}
    return subprocess.run(
        ["workflow/scripts/setup.sh", venv, "requirements.txt"],
        cwd=REPO,
        env={**os.environ, **offline, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("installer", "complaint"),
    [
        ("uv", "neither the package index nor PyTorch's own, which uv knows, gives torch=="),
        ("pip", "the package index does not give torch=="),
    ],
)
def test_torch_without_cuda_that_no_index_gives_is_refused(
    installer: str, complaint: str, venv: Path
) -> None:
    done = setup(venv, TORCH="cpu", INSTALLER=installer)
    assert done.returncode == 1
    assert f"setup: TORCH=cpu: {complaint}" in done.stderr
    assert "make TORCH=default" in done.stderr
    assert not (venv / ".torch").exists()
    assert not [*venv.glob("lib/python*/site-packages/torch")]


def test_another_torch_than_that_of_the_environment_is_refused(venv: Path) -> None:
    (venv / ".torch").write_text("default\n")
    done = setup(venv, TORCH="cpu")
    (venv / ".torch").unlink()
    assert done.returncode == 1
    assert "was set up with TORCH=default: delete it and run make TORCH=cpu" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("TORCH", "gpu"), ("INSTALLER", "conda")])
def test_setup_refuses_values_that_it_does_not_know(name: str, value: str, venv: Path) -> None:
    done = setup(venv, **{name: value})
    assert done.returncode == 1
    assert f"setup: {name} is {value}, but may be" in done.stderr
