"""A copy of the project in a scratch folder, with Snakemake and DVC in it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPO = Path(__file__).parents[2]
RUN = "results/embedded"

SYSTEMS = (
    "recordings",
    "tokenrecon",
    "sft",
    "frame",
    "word",
    "hpro",
    "no_content",
    "diffro",
    "joint",
)
REWARDED = SYSTEMS[3:]
OF_POLICIES = {
    "tables", "report",
    *(f"reward {name}" for name in REWARDED),
    *(f"{step} {name}" for step in ("synthesise", "judge") for name in REWARDED),
}  # fmt: skip
OF_SFT = {"sft", "synthesise sft", "judge sft", *OF_POLICIES}
EVERYTHING = {
    "corpus-read acted", "corpus-render controlled", "corpus-split", "align", "align-check",
    "label", "tokenizer", "tokenize", "vocoder", "dataset", "codec-content", "codec-style",
    "judge-train", "judge-recordings", *OF_SFT,
    *(f"{step} {name}" for step in ("synthesise", "judge") for name in SYSTEMS),
}  # fmt: skip
"""What the stand-in does in a run of the default: "command name"."""


class Project:
    """A checkout that tests may change and run."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        self.folder = folder
        self.environment = environment or {}

    @classmethod
    def copied(cls, folder: Path, data: bool = True) -> "Project":
        """The files of this repository that git tracks or would track, without the published run.

        Args:
            folder: where to put them.
            data: false leaves out the recordings but one speaker's.
        """
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            recording = re.match(r"data/raw/.*/audio/(?!ape/)", name)
            published = name == "dvc.lock" or name.startswith(f"{RUN}/")
            if (REPO / name).is_file() and not published and (data or not recording):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPO / name, folder / name)
        return cls(folder)

    def twin(self, folder: Path) -> "Project":
        """The same tree elsewhere, times and hidden folders included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.environment)

    def clone(self, folder: Path) -> "Project":
        """A fresh git clone."""
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        return Project(folder)

    def set_base(self, folder: str) -> None:
        """Start the run from the trained models in a folder, or from nothing ("")."""
        path = self.folder / "params.yaml"
        text, count = re.subn(r"^base: \S+", f'base: "{folder}"', path.read_text(), flags=re.M)
        assert count == 1
        path.write_text(text)

    def use_stand_in(self) -> None:
        """Replace `hpro` by the fast stand-in."""
        hpro = self.folder / "workflow/bin/hpro"
        shutil.copyfile(REPO / "tests/workflow/stand_in.py", hpro)
        hpro.chmod(0o755)

    def commit(self) -> None:
        """All that git does not ignore."""
        if not (self.folder / ".git").exists():
            self.run("git", "init", "--quiet")
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        self.run("git", "add", "--all")
        self.run("git", *identity, "commit", "--quiet", "--message", "test")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree, with this environment's programs and without its settings."""
        running = self.start(*command)
        out, _ = running.communicate()
        done = subprocess.CompletedProcess(command, running.returncode, out)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The same without waiting for its end."""
        inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MAKEFLAGS")}
        own = {**inherited, **self.environment, "DVC_NO_ANALYTICS": "1"}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snakemake(self, *arguments: str) -> set[str]:
        """Run Snakemake; returns what the stand-in did, as "command name"."""
        return self._made("snakemake", "--cores", "2", *arguments)

    def repro(self) -> set[str]:
        """Run `dvc repro`; returns what the stand-in did."""
        return self._made("dvc", "repro")

    def experiment(self, name: str, setting: str) -> set[str]:
        """Run `dvc exp run` with a setting such as "sft.steps=9"; returns what the stand-in did."""
        return self._made("dvc", "exp", "run", "--name", name, "--set-param", setting)

    def hold(self, command: str) -> Path:
        """Let the stand-in wait at a command while the file that is returned exists."""
        (self.folder / "hold").mkdir(exist_ok=True)
        (self.folder / "hold" / command).touch()
        return self.folder / "hold" / command

    def _made(self, *command: str) -> set[str]:
        record = self.folder / "logs/made"
        record.unlink(missing_ok=True)
        self.run(*command)
        return set(record.read_text().splitlines()) if record.is_file() else set()

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that stands in a file once."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name}: {old!r} stands there {text.count(old)} times"
        path.write_text(text.replace(old, new))

    def is_settled(self) -> bool:
        """Neither tool has anything to do."""
        dry = self.run("snakemake", "--cores", "2", "--dry-run").stdout
        return (
            "Nothing to be done" in dry
            and self.run("dvc", "status", "-q", check=False).returncode == 0
        )

    def results(self) -> dict[str, str]:
        """Content of every result that is not random."""
        found = (p for p in (self.folder / RUN).rglob("*") if p.is_file())
        kept = [p for p in found if not {"params", "tensorboard"} & set(p.parts)]
        return {str(p.relative_to(self.folder)): p.read_text() for p in kept}
