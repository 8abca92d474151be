# Shared by the rules: paths, key files of commands, and lists of systems.
import json
import os
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from hpro_core.pretrained.base import FILES, MODELS, SENTENCES, SUMS
from hpro_core.params import SEEDLESS
from hpro_core.process import use_checkout

sys.path.insert(0, os.path.join(workflow.basedir, "workflow", "scripts"))
from code_hash import code_hash
from stage_keys import Keys, write_changed
from training_memory import training_mb

# The schema that editors use; it also sets default values.
validate(config, schema="../schemas/params.schema.json")
try:
    use_checkout(workflow.basedir)
except HproError as error:
    raise WorkflowError(str(error)) from None

ROOT = f"results/{config['run']}"
WORK = f"work/{config['run']}"  # checkpoints of running trainings
SETS = list(config["corpus"]["sets"])
CONTROLLED = [s for s in SETS if config["corpus"]["sets"][s]["reader"] == "controlled"]
VARIANTS = list(config["variants"])
POLICIES = ["sft", *VARIANTS]
SYSTEMS = [*SEEDLESS, *POLICIES]
EXTERNAL = list(config["external"])
OWN_TABLES = config["tables"]
TABLES = OWN_TABLES | {
    "comparison": list(dict.fromkeys([*OWN_TABLES["comparison"], *EXTERNAL]))
}  # the tables with every external system
SEEDS = config["seeds"]
THREADS = 2  # per training; `snakemake --set-threads` overrides it
TEXTGRIDS = {
    name: f"{chosen['path']}/mfa_textgrids.zip"
    for name, chosen in config["corpus"]["sets"].items()
    if chosen["reader"] == "amazon_queen" and not chosen["path"].endswith(".1c")
}  # MFA's alignment, which is shipped with the excerpt but not with the game
SHARDS = (
    [f"shards/{shard:05d}/" for shard in range(config["shards"])]
    if config["shards"] > 1
    else [""]
)  # subfolders of the stages from align to dataset; none with one shard
SHARD = f"{ROOT}/corpus/{{shard}}utterances.parquet"  # input of these stages
# Their outputs for all shards together
WORDS, UNALIGNED = f"{ROOT}/align/words.parquet", f"{ROOT}/align/rejected.parquet"
LABELS = [f"{ROOT}/label/{name}.parquet" for name in ("emotion_posteriors", "word_vad")]
DATASET = [
    f"{ROOT}/dataset/{name}.parquet" for name in ("train", "dev", "test", "rejected")
]
# Each split as a table, and as an Arrow file that trainings map into memory
TRAIN, DEV, TEST = (
    [f"{ROOT}/dataset/{name}.{kind}" for kind in ("parquet", "arrow")]
    for name in ("train", "dev", "test")
)
NO_MATCH = "(?!)"  # a wildcard that no name matches
MEMORY_FACTOR = (
    4 if config["policy"]["preset"] == "cosyvoice2" else 1
)  # factor on the memory of the embedded model
MODEL = ("model.safetensors", "config.json")  # the files of a trained model
BASE_FILES = [*FILES, SUMS]
KEYS = Keys(
    partial(code_hash, Path(workflow.basedir)),
    f"{ROOT}/params",
    {
        "set": {name: {} for name in SETS},
        "external": {name: {} for name in EXTERNAL},
        "variant": {
            name: {"stage": config["variants"][name]["stage"]} for name in VARIANTS
        },
    },
)


pathvars:
    root=ROOT,
    logs=f"logs/{config['run']}",
    benchmarks=f"benchmarks/{config['run']}",


wildcard_constraints:
    set="|".join(SETS),
    variant="|".join(VARIANTS),
    seed=r"\d+",
    system="|".join([*SYSTEMS, *EXTERNAL]),
    external="|".join(EXTERNAL) or NO_MATCH,
    shard="|".join(SHARDS) or "(?:)",  # no shard: no folder


def key(name, command, *sections, settings=config):
    """Return the key file of a command, and declare the sections of params.yaml that it reads.

    Name and sections may contain the wildcards {set} and {variant}, with one key file for each;
    sections also {stage}, that of the variant. "corpus.sets.x" is the section corpus with its plain
    values and, of its mappings, only x in `sets`. "reward.word" is the section reward without the
    other stages.
    """
    return KEYS.declare(name, command, sections, settings)


def tracking(wildcards, input):
    """Arguments of a training about how it is shown; none by default.

    No result depends on them, so that a change runs no job: they are no part of key files, and
    Snakemake does not compare the value of a function of `input` with that of the last run.
    """
    shown = config["tracking"]
    tracker = (
        [] if shown["tracker"] == "tensorboard" else ["--tracker", shown["tracker"]]
    )
    return [*tracker, *(["--profile"] if shown["profile"] else [])]


def policy_tracking(wildcards, input):
    """The same of a training of the policy, which may speak for the trackers."""
    shown = config["tracking"]
    if not shown["audio_every"]:
        return tracking(wildcards, input)
    audio = {
        "every": shown["audio_every"],
        "sentences": shown["audio_sentences"],
        "synthesis": config["synthesis"],
    }
    return [*tracking(wildcards, input), "--dev-audio", json.dumps(audio)]


def user_files(folder, *names):
    """Files of the user in a folder that a setting names; none if the setting is empty."""
    return [f"{folder}/{name}" for name in names] if folder else []


def tokenizer_files(setting):
    """Tokenizer files of dataset.policy_text or dataset.codec_text; none for phones."""
    folder = "" if setting == "phones" else setting
    return user_files(folder, "vocab.json", "merges.txt", "tokenizer_config.json")


def root_of(wildcards, input):
    """Results folder of the run, the parent of the key files' folder params/."""
    return os.path.dirname(os.path.dirname(input.key))


def shard_of(wildcards):
    """Arguments that select a shard; empty without shards."""
    return ["--shard", int(wildcards.shard.split("/")[1])] if wildcards.shard else []


def of_shards(stage, names):
    """Tables of all shards of a stage."""
    return [
        f"{ROOT}/{stage}/{shard}{name}.parquet" for name in names for shard in SHARDS
    ]


def of_sets(name, sets=SETS):
    """A file of every corpus."""
    return [f"{ROOT}/corpus/{set_name}/{name}" for set_name in sets]


def policy_files(system, seed):
    """Model files of a trained policy."""
    folder = f"{ROOT}/policy/{system}/seed{seed}"
    return [f"{folder}/{name}" for name in MODEL]


def start_of(wildcards):
    """Model files of the policy from which a variant starts."""
    return policy_files(config["variants"][wildcards.variant]["start"], wildcards.seed)


def synthesis_models(wildcards):
    """Models for the synthesis of a system: none for recordings, the decoder for tokenrecon."""
    if wildcards.system == "recordings":
        return []
    decoder = [*DECODER]
    if wildcards.system == "tokenrecon":
        return decoder
    return [*decoder, *policy_files(wildcards.system, wildcards.seed)]


def runs(systems):
    """Folder names <system>/seed<k>; systems that are not policies have the first seed only."""
    return [
        f"{system}/seed{seed}"
        for system in systems
        for seed in (SEEDS if system in POLICIES else SEEDS[:1])
    ]


def of_runs(folder, systems, name):
    """A file of every system and seed below policy/ or eval/."""
    return [f"{ROOT}/{folder}/{run}/{name}" for run in runs(systems)]


def table_systems(among=(*SYSTEMS, *EXTERNAL)):
    """Every system that is a row of a table."""
    rows = [system for names in TABLES.values() for system in names]
    return [system for system in dict.fromkeys(rows) if system in among]


def judged_scores(wildcards):
    """Scores of every system; refuses too few seeds before Snakemake deletes the old claims."""
    if len(set(SEEDS)) < config["claims"]["min_seeds"]:
        raise WorkflowError(
            f"seeds is {SEEDS}, but claims.min_seeds is {config['claims']['min_seeds']}: use "
            "--configfile config/claims.yaml -- claims"
        )
    return of_runs("eval", table_systems(SYSTEMS), "scores.parquet")


def existing(folder, name):
    """Existing files of this name, of all systems and seeds, from earlier requests.

    DVC tracks whole folders, so all files in them must be up to date.
    """
    found = glob_wildcards(f"{ROOT}/{folder}/{{system}}/seed{{seed}}/{name}")
    pairs = [
        pair
        for pair in zip(found.system, found.seed)
        if pair[0] in [*SYSTEMS, *EXTERNAL]
    ]
    return [f"{ROOT}/{folder}/{system}/seed{seed}/{name}" for system, seed in pairs]


def missing_records(wildcards):
    """Missing records of existing results, whose jobs must run again.

    Snakemake recreates a missing output only if a target needs it. A record is missing if a folder
    became read-only between the last result of a job and its record.
    """
    records, whole = [], set()
    for job in workflow.rules:
        whole |= {os.path.basename(made) for made in job.output if made.is_directory}
        named = [made for made in job.output if "record_" in os.path.basename(made)]
        records += [(job.output[0], record) for record in named]
    lost = []
    for folder, folders, names in os.walk(ROOT):
        # Folders that a job makes as a whole have a file per utterance and no first outputs.
        folders[:] = [name for name in folders if name not in whole]
        for path in (f"{folder}/{name}" for name in names):
            matches = ((first.match(path), record) for first, record in records)
            lost += [
                record.apply_wildcards(m.groupdict()) for m, record in matches if m
            ]
    return [record for record in lost if not os.path.exists(record)]
