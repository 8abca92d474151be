"""Commands of README, CONTRIBUTING and docs: each exists, with its options, targets and files.

A command in a shell block runs in a fresh clone after `make setup`. One that needs more has the
comment `# needs: ...` on its line, or the block has it as its first line. No command is run here.
"""

import functools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
import yaml
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from snakemake.cli import get_argument_parser

from hpro_core.cli import app
from hpro_core.command_line import prepared

REPO = Path(__file__).parents[1]
PAGES = [
    *(REPO / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPO / "docs").glob("*.md")),
]
USAGE_ERROR = typer.BadParameter.__base__
"""What click raises for wrong options; typer does not export it."""
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", flags=re.M | re.S)
INSTALLED = {"make", "hpro", "snakemake", "dvc", "python", "pytest", "source"}
"""Programs of a block without `needs`: of `make setup`, of `make setup-dev`, or of the shell."""
CHECKED = INSTALLED | {"pip", "conda", "tensorboard"}
OUTSIDE = ("--use-conda", "profiles/slurm")
"""Words of a command that needs more than `make setup`."""
FROM_SETUP = {".venv/bin/activate"}
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w-]+\.(yaml|pt|csv|py)")


# Each takes a tenth of a second to build.
hpro_command = functools.cache(functools.partial(typer.main.get_command, app))
snakemake_parser = functools.cache(get_argument_parser)
dvc_parser = functools.cache(get_main_parser)


@dataclass(frozen=True)
class Command:
    """One command of a page: its words, and whether it is whole, marked, or a mention in a text."""

    page: str
    words: tuple[str, ...]
    needs: bool
    in_block: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: str, text: str) -> Iterator[Command]:
    """Commands in the shell blocks of a page, then those mentioned in its text."""
    for block in FENCED.finditer(text):
        lines = block[3].replace("\\\n", " ").splitlines()
        shell = block[2] in ("sh", "bash", "console") or (
            not block[2] and any(line.split()[:1] and line.split()[0] in CHECKED for line in lines)
        )
        of_block = shell and bool(re.match(r"\s*# needs: \w", lines[0]))
        for line in lines if shell else []:
            needs = of_block or bool(re.search(r"#.*\bneeds: \w", line))
            for words in simple_commands(line.removeprefix("$ ")):
                yield Command(page, words, needs, in_block=True)
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCED.sub("", text)):
        words = span.split()
        if len(words) > 1 and words[0] in CHECKED:
            for found in simple_commands(" ".join(words)):
                yield Command(page, found, needs=True, in_block=False)


def simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line of shell, without comments and assignments before them."""
    lexer = shlex.shlex(re.sub(r"<(\w+)>", r"\1", line), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|"):
            if words:
                yield tuple(words)
            words = []
        elif words or not re.match(r"\w+=", word):
            words.append(word)


def problems(command: Command) -> list[str]:
    """What is wrong with a command."""
    program, *words = command.words
    check = {"hpro": of_hpro, "make": of_make, "snakemake": of_snakemake, "dvc": of_dvc,
             "python": of_python, "pip": of_pip, "conda": of_conda}.get(program)  # fmt: skip
    found = check(words, command.in_block) if check else []
    if command.in_block and not command.needs:
        outside = [word for word in command.words if word.startswith(OUTSIDE)]
        if program not in INSTALLED or outside:
            found.append(f"say what it needs: # needs: ... ({[program, *outside]})")
        missing = [path for path in paths(command) if path.rstrip("/") not in tracked()]
        found += [f"{path} is in no fresh clone; say what it needs: # needs:" for path in missing]
    return found


def paths(command: Command) -> list[str]:
    """Paths among the words of a command, without Snakemake's targets: `of_snakemake` has them."""
    words = command.words[1:]
    if command.words[0] == "snakemake" and "--" in words:
        words = words[: words.index("--")]
    parts = [part for word in words for part in word.rpartition("=")[2].split()]
    return [part for part in parts if PATH.fullmatch(part)]


@functools.cache
def tracked() -> frozenset[str]:
    """Files and folders of a fresh clone after `make setup`, without that of the published run.

    Git holds only its tables, so it is no finished run.
    """
    listing = subprocess.run(
        ["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True
    )
    files = set(listing.stdout.splitlines())
    folders = {str(folder) for file in files for folder in Path(file).parents}
    return frozenset((files | folders | FROM_SETUP) - {"results/embedded"})


def of_hpro(words: list[str], whole: bool) -> list[str]:
    command, name = hpro_command(), "hpro"
    words = prepared(command, words) if whole else words
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name in ("stage", "step", "command"):  # <stage>: any of them
            return []
        if name not in command.commands:
            return [f"no command {name} (known: {', '.join(command.commands)})"]
        command = command.commands[name]
    if not whole:
        known = {"--help"} | {name for option in command.params for name in option.opts}
        return [f"no option {word}" for word in words if word[0] == "-" and word not in known]
    try:
        command.make_context(name, words)
    except typer.Exit:  # --help
        return []
    except USAGE_ERROR as error:
        return [error.format_message()]
    return []


def of_make(words: list[str], whole: bool) -> list[str]:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    variables = makefile + (REPO / "workflow/scripts/setup.sh").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w./-]+):(?!=)", makefile, flags=re.M))
    found = []
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and not re.search(rf"\$[({{]{name}\b", variables):
            found.append(f"no variable {name}")
        if not is_variable and word not in targets:
            found.append(f"no target {word}")
    return found


@functools.cache
def rules() -> tuple[frozenset[str], tuple[re.Pattern, ...]]:
    """Names of all rules, and patterns of the files that they write."""
    files = [REPO / "Snakefile", *(REPO / "workflow/rules").glob("*.smk")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    outputs = set(re.findall(r'"<root>/([^"]+)"', text))
    patterns = (re.sub(r"\\\{.+?\\\}", "[^/]*", re.escape(output)) for output in outputs)
    names = re.findall(r"^ *(?:rule|checkpoint) (\w+):", text, flags=re.M)
    return frozenset(names), tuple(re.compile(rf"results/\w+/{pattern}") for pattern in patterns)


def of_snakemake(words: list[str], whole: bool) -> list[str]:
    try:
        given = snakemake_parser().parse_args(words)
    except SystemExit:
        return ["Snakemake refuses these options"]
    names, outputs = rules()
    unknown = [
        target
        for target in given.targets
        if target not in names and not any(output.fullmatch(target) for output in outputs)
    ]
    for option in ("--set-threads", "--set-resources", "--groups", "--forcerun", "--allowed-rules"):
        for word in values_of(option, words):
            unknown += [word] if re.split("[=:]", word)[0] not in names else []
    found = [f"no rule or output {name}" for name in unknown]
    settings = (assignment.partition("=")[0] for assignment in values_of("--config", words))
    return found + [f"no setting {name}" for name in settings if not is_setting(name)]


def values_of(option: str, words: list[str]) -> list[str]:
    """Words after an option, up to the next one."""
    if option not in words:
        return []
    after = words[words.index(option) + 1 :]
    end = next((i for i, word in enumerate(after) if word.startswith("-")), len(after))
    return after[:end]


def is_setting(name: str) -> bool:
    """Whether params.yaml has a setting of this name, with dots between its parts."""
    node = loaded("params.yaml")
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


@functools.cache
def loaded(name: str) -> dict:
    """A YAML file of the repository."""
    return yaml.safe_load((REPO / name).read_text(encoding="utf-8"))


def of_dvc(words: list[str], whole: bool) -> list[str]:
    try:
        given = dvc_parser().parse_args(words)
    except (SystemExit, DvcParserError):
        return ["DVC refuses these options"] if whole else of_dvc_mention(words)
    changed = getattr(given, "set_param", None) or []
    found = [f"no setting {name}" for name in changed if not is_setting(name.partition("=")[0])]
    stages = loaded("dvc.yaml")["stages"]
    asked = given.targets if given.cmd == "repro" else []
    return found + [f"no stage {name}" for name in asked if name.partition("@")[0] not in stages]


def of_dvc_mention(words: list[str]) -> list[str]:
    """A mention may leave out arguments: `dvc exp apply`; the command itself must exist."""
    try:
        dvc_parser().parse_args([*words, "--help"])
    except SystemExit as stopped:
        return [] if stopped.code == 0 else ["DVC has no such command"]
    except DvcParserError:
        pass
    return ["DVC has no such command"]


def of_python(words: list[str], whole: bool) -> list[str]:
    if words[0] == "-m":
        path = Path(words[1].replace(".", "/"))
        script = next((p for p in (path.with_suffix(".py"), path / "__main__.py")
                       if (REPO / p).exists()), path)  # fmt: skip
    else:
        script = Path(words[0])
    if not (REPO / script).is_file():
        return [f"no script {script}"]
    text = (REPO / script).read_text(encoding="utf-8")
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    return [f"{script} has no option {name}" for name in options if f'"{name}"' not in text]


def of_pip(words: list[str], whole: bool) -> list[str]:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"\.\[([\w,-]+)\]", " ".join(words))
    return [f"no extra {name}" for name in extras if name not in project["optional-dependencies"]]


def of_conda(words: list[str], whole: bool) -> list[str]:
    return [f"no file {f}" for f in values_of("-f", words) if not (REPO / f).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_and_runs_or_says_what_it_needs(page: Path) -> None:
    found = list(commands(page.name, page.read_text(encoding="utf-8")))
    assert {str(command): wrong for command in found if (wrong := problems(command))} == {}


def test_commands_are_found() -> None:
    """Of all pages; a change of the fences must not make the test above empty."""
    found = [c for page in PAGES for c in commands(page.name, page.read_text(encoding="utf-8"))]
    in_blocks = {command.words[0] for command in found if command.in_block}
    assert in_blocks >= {"make", "hpro", "snakemake", "dvc", "pip", "conda", "source"}
    assert len(found) > 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_are_fenced(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(rf"\n\n {{4,}}(?:{'|'.join(CHECKED)}) .*", text) == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("hpro aling", "no command aling"),
        ("hpro align --shards 3 --root results/x --params params.yaml  # needs: a run", "--shards"),
        ("hpro base-make out  # needs: a run", "Missing option '--policy'"),
        ("hpro verify results/embedded", "results/embedded is in no fresh clone"),
        ("make rum", "no target rum"),
        ("make run CONFIGS=config/tiny.yaml", "no variable CONFIGS"),
        ("make run CONFIG=mine.yaml", "mine.yaml is in no fresh clone"),
        ("snakemake --core-count 2", "Snakemake refuses"),
        ("snakemake --cores all -- al", "no rule or output al"),
        ("snakemake --cores all -- results/embedded/evals/hpro/seed0/metrics.json", "no rule or"),
        ("snakemake --cores all --set-threads stf=8", "no rule or output stf=8"),
        ("snakemake --cores all --config shard=16", "no setting shard"),
        ("snakemake --cores all --use-conda", "say what it needs"),
        ("dvc rerpo", "DVC refuses"),
        ("dvc exp run -S reward.word.weight.wvad=2", "no setting reward.word.weight.wvad"),
        ("dvc repro corpora", "no stage corpora"),
        ("python benchmarks/bench.py --jsom x", "has no option --jsom"),
        ("python benchmarks/banch.py", "no script"),
        ("pip install -e '.[cosyvoice3]'  # needs: a package index", "no extra cosyvoice3"),
        ("conda env create -f workflow/envs/mfe.yaml  # needs: conda", "no file"),
        ("tmux", "say what it needs"),
    ],
)
def test_a_wrong_command_is_found(line: str, wrong: str) -> None:
    found = commands("page.md", f"```sh\n{line}\n```\n")
    assert wrong in str([problem for command in found for problem in problems(command)])
