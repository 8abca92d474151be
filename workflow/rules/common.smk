# What every rule file uses: names, the key files, and which systems there are.
import os
import re
import sys
from pathlib import Path

from snakemake.utils import validate

sys.path.insert(0, os.path.join(workflow.basedir, "workflow", "scripts"))
from stage_keys import code_hash, key_content, listing_hash, write_if_changed

validate(config, schema="../schemas/params.schema.json")

ROOT = f"results/{config['run']}"
WORK = f"work/{config['run']}"  # checkpoints of trainings that are under way
SETS = sorted(config["corpus"]["sets"])
CONTROLLED = [s for s in SETS if config["corpus"]["sets"][s]["reader"] == "controlled"]
VARIANTS = list(config["variants"])
TABLES = config["tables"]
POLICIES = ["sft", *VARIANTS]
SYSTEMS = ["recordings", "tokenrecon", *POLICIES]
SEEDS = config["seeds"]
THREADS = config["compute"]["threads"]
NOTHING = "(?!)"  # a wildcard that no name matches


pathvars:
    root=ROOT,
    logs=f"logs/{config['run']}",
    benchmarks=f"benchmarks/{config['run']}",


wildcard_constraints:
    set="|".join(SETS),
    variant="|".join(VARIANTS),
    seed=r"\d+",
    system="|".join(SYSTEMS),


# Rules say `hpro`: the one of this checkout, with this Python unless Snakemake activates another.
os.environ["PATH"] = os.pathsep.join(
    [
        os.path.join(workflow.basedir, "workflow", "bin"),
        os.path.dirname(sys.executable),
        os.environ["PATH"],
    ]
)
os.environ["PYTHONPATH"] = os.pathsep.join(
    p for p in (str(workflow.basedir), os.environ.get("PYTHONPATH")) if p
)

KEYS = {}


def key(name, command, *sections, settings=config):
    """The key file of a command: declares the keys of params.yaml that it reads.

    Names and keys may hold the wildcards {set} and {variant}: one key file for each. "corpus.sets.x"
    is the section corpus with nothing but x in its mapping `sets`.
    """
    KEYS[name] = (command, sections, settings)
    return f"{ROOT}/params/{name}.yaml"


def write_keys():
    """Write every key file whose settings, code or shell line changed. Called after all rules."""
    shells = {}
    for rule in workflow.rules:
        for command in re.findall(r"\bhpro ([a-z-]+)", rule.shellcmd or ""):
            shells.setdefault(command, []).append(rule.shellcmd)
    for name, (command, sections, settings) in KEYS.items():
        code = code_hash(Path(workflow.basedir), command)
        for wildcards in wildcards_of(name):
            content = key_content(
                settings,
                [section.format(**wildcards) for section in sections],
                code,
                shells[command],
                raw_files(command, wildcards),
            )
            path = Path(ROOT, "params", f"{name.format(**wildcards)}.yaml")
            write_if_changed(path, content)


def wildcards_of(name):
    """All values of the wildcard in a name of a key file."""
    for wildcard, values in {"set": SETS, "variant": VARIANTS}.items():
        if f"{{{wildcard}}}" in name:
            return [{wildcard: value} for value in values]
    return [{}]


def raw_files(command, wildcards):
    """Hash of the listing of the raw corpus that a command reads; None if it reads none."""
    if command != "corpus-read":
        return None
    path = Path(config["corpus"]["sets"][wildcards["set"]]["path"])
    return listing_hash(path) if path.name and path.exists() else None


def of_sets(name):
    """A file of every corpus."""
    return [f"{ROOT}/corpus/{set_name}/{name}" for set_name in SETS]


def of_controlled_sets(name):
    """A file of every corpus with exact labels."""
    return [f"{ROOT}/corpus/{set_name}/{name}" for set_name in CONTROLLED]


def parent(variant):
    """The policy that a variant starts from."""
    return config["variants"][variant]["start"]


def runs(systems):
    """Folder names <system>/seed<k>; recordings and their tokens do not depend on a seed."""
    return [
        f"{system}/seed{seed}"
        for system in systems
        for seed in (SEEDS if system in POLICIES else SEEDS[:1])
    ]


def metrics(systems):
    """What the judges say of each system and seed."""
    return [f"{ROOT}/eval/{run}/metrics.json" for run in runs(systems)]


def wanted_systems():
    """Every system that is a row of a table."""
    return list(dict.fromkeys(s for rows in TABLES.values() for s in rows))


def existing_runs(pattern):
    """<system>/seed<k> of the files that match a pattern of this run.

    DVC tracks whole folders, so what lies there from earlier requests must be kept up to date too.
    """
    found = glob_wildcards(f"{ROOT}/{pattern}")
    return [f"{s}/seed{k}" for s, k in zip(found.system, found.seed) if s in SYSTEMS]
