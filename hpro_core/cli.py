"""The command line: `hpro <stage>`, the commands that the workflow's rules run.

A command reads its section of the settings and calls one function. Expensive modules are imported
inside the command, so that `hpro --help` is fast.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hpro_core import params as p
from hpro_core import process
from hpro_core.cli_codec import codec_app
from hpro_core.cli_policy import policy_app
from hpro_core.errors import HproError

if TYPE_CHECKING:
    from hpro_core.reward.model_selection import HackingWatch
    from hpro_core.train.examples import MappedExamples


class Commands(TyperGroup):
    """Command group that re-raises errors for which typer prints "Aborted." or nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, BrokenPipeError) as error:
            raise process.Raised from error


app = typer.Typer(
    cls=Commands,
    help="HPRO: from raw emotional speech to a reward-optimised TTS policy, stage by stage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Checks of corpora.", no_args_is_help=True)
weights_app = typer.Typer(help="Download of the judges' weights.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.add_typer(weights_app, name="weights")
app.add_typer(codec_app, name="codec")
app.add_typer(policy_app, name="policy")

Root = Annotated[Path, typer.Option(help="Results folder of the run, e.g. results/embedded.")]
Params = Annotated[Path, typer.Option(help="params.yaml, or the part of it that the stage uses.")]
Work = Annotated[Path, typer.Option(help="Folder for checkpoints; a killed run resumes from them.")]
Seed = Annotated[int, typer.Option(help="Seed of the policy.")]
Threads = Annotated[int, typer.Option(min=1, help="Number of CPU threads or processes.")]
Profile = Annotated[bool, typer.Option("--profile", help="Write a trace for torch-tb-profiler.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the tables; default: <root>/tables.")]
Weights = Annotated[Path, typer.Option(help="Folder of the downloaded weights.")]
Shard = Annotated[
    int | None, typer.Option(min=0, help="Number of the only shard to process (docs/scaling.md).")
]
Differences = Annotated[
    list[Path] | None, typer.Option(help="Settings that override params.yaml, as for snakemake.")
]


@app.command()
def corpus_read(name: str, root: Root, params: Params) -> None:
    """Read one corpus and write its utterances and 16 kHz audio."""
    from hpro_core.corpus.stage import read

    read(root, name, p.read_section(params, "corpus", p.Corpus))


@app.command()
def corpus_render(name: str, root: Root, params: Params, threads: Threads = 1) -> None:
    """Render a controlled corpus with exact labels."""
    from hpro_core.corpus.stage import render

    corpus = p.read_section(params, "corpus", p.Corpus)
    render(root, name, corpus, p.read_section(params, "controlled", p.Controlled), threads)


@app.command()
def corpus_split(root: Root, params: Params) -> None:
    """Merge the corpora and assign the splits train, dev, test and judge."""
    from hpro_core.corpus.splits import split

    base, shards = p.read_plain(params, "base", str), p.read_plain(params, "shards", int)
    corpus = p.read_section(params, "corpus", p.WholeCorpus)
    split(root, corpus, Path(base) if base else None, shards)


@corpus_app.command("check")
def corpus_check(
    path: Path,
    reader: Annotated[str, typer.Option(help="Reader; by default it is recognised.")] = "",
    faults: Annotated[Path | None, typer.Option(help="CSV file for all faults.")] = None,
    params: Params = Path("params.yaml"),
) -> None:
    """Read a whole corpus; list its contents and what a run refuses, rejects or leaves out."""
    from hpro_core.corpus.check import check, described, write_faults

    about, contents = check(path, p.read_section(params, "corpus", p.Corpus), reader)
    print("\n".join(described(about, contents)))
    if faults is not None:
        write_faults(contents, faults)
    if contents.faults or contents.stops:
        raise HproError(f"{path}: {len(contents.faults)} faults, see above")


@app.command()
def base_take(
    model: str, root: Root, base: Annotated[Path, typer.Option(help="Folder of the base.")]
) -> None:
    """Unpack a trained model of a base into a run: tokenizer, codec, policy or judge."""
    from hpro_core.pretrained.base import take

    take(base, model, root)


@app.command()
def base_make(
    out: Path, root: Root, policy: Annotated[Path, typer.Option(help="Folder of the policy.")]
) -> None:
    """Pack the models of a run as a base for other runs."""
    from hpro_core.pretrained.base import make

    make(root, policy, out)


@app.command()
def align(
    root: Root,
    params: Params,
    threads: Threads = 1,
    shard: Shard = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Split that is not aligned.")] = None,
) -> None:
    """Find the word boundaries by forced alignment."""
    from hpro_core.align.stage import run

    run(root, p.read_section(params, "align", p.Align), threads, shard, leave_out or [])


@app.command()
def align_models(root: Root, params: Params) -> None:
    """Download the MFA models and dictionary that the settings name, if they are missing."""
    from hpro_core.align.mfa_models import get

    get(root, p.read_section(params, "align", p.Align))


@app.command()
def align_check(
    root: Root,
    references: Annotated[
        list[str] | None, typer.Argument(help="MFA TextGrids of a corpus, SET=ZIP.")
    ] = None,
    exact: Annotated[list[str] | None, typer.Option(help="Corpus with exact word times.")] = None,
) -> None:
    """Compare the word boundaries with MFA's and with the exact ones of controlled corpora."""
    from hpro_core.align.stage import check, parsed_references

    check(root, parsed_references(references or []), exact or [])


@app.command()
def label(
    root: Root,
    params: Params,
    work: Work,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
    shard: Shard = None,
) -> None:
    """Compute emotion posteriors per utterance and valence, arousal and dominance per word."""
    from hpro_core.label.stage import run

    settings = p.read_section(params, "label", p.Label)
    run(root, settings, weights, _compute(params, threads), work, shard)


@app.command()
def tokenizer(
    root: Root, params: Params, work: Work, threads: Threads = 1, profile: Profile = False
) -> None:
    """Train the speech tokenizer and its decoder."""
    from hpro_core.io import fingerprint
    from hpro_core.speech.stage import INPUTS, train

    speech = p.read_section(params, "speech", p.Speech)
    identity = fingerprint(params, *(root / name for name in INPUTS))
    train(root, speech, _compute(params, threads), work, identity, profile)


@app.command()
def tokenizer_published(root: Root, params: Params) -> None:
    """Record where the decoder of a published tokenizer is; nothing is trained."""
    from hpro_core.speech.cosyvoice2_stage import describe

    describe(root, Path(p.read_section(params, "speech", p.Speech).path))


@app.command()
def tokenize(root: Root, params: Params, threads: Threads = 1, shard: Shard = None) -> None:
    """Compute speech tokens and speaker embeddings of every utterance."""
    from hpro_core.speech.cosyvoice2_stage import encode as encode_s3
    from hpro_core.speech.stage import encode

    speech = p.read_section(params, "speech", p.Speech)
    compute = _compute(params, threads)
    if speech.preset == "cosyvoice2":
        encode_s3(root, Path(speech.path), speech.batch_size, compute, shard)
    else:
        encode(root, speech, compute, shard)


@app.command()
def dataset(root: Root, params: Params, shard: Shard = None) -> None:
    """Join utterances, words, labels and tokens; the stages that train on them read no audio."""
    from hpro_core.dataset import build

    build(root, p.read_section(params, "dataset", p.Dataset), shard)


@app.command()
def gather(stage: str, root: Root, params: Params) -> None:
    """Merge the tables of all shards of a stage, align or label, into one each."""
    from hpro_core.shards import gather as join

    if stage == "dataset":
        raise HproError("gather dataset: use `hpro gather-dataset`")
    settings = p.read_yaml(params)
    share = settings.get(stage, {}).get("max_rejected_fraction", 1.0)
    join(root, stage, p.read_plain(params, "shards", int), share)


@app.command()
def gather_dataset(root: Root, params: Params) -> None:
    """Merge the dataset of all shards and write the memory-mapped files for trainings."""
    from hpro_core.shards import gather as join
    from hpro_core.train.example_file import write_examples

    share = p.read_section(params, "dataset", p.Dataset).max_rejected_fraction
    join(root, "dataset", p.read_plain(params, "shards", int), share)
    for table in _dataset_files(root):
        write_examples(table)


@app.command()
def codec_content(
    root: Root, params: Params, work: Work, threads: Threads = 1, profile: Profile = False
) -> None:
    """Train stage A of HD-Emo: the content branch, with the text loss only."""
    from hpro_core.codec.training import train_content
    from hpro_core.io import fingerprint

    settings = p.read_section(params, "codec", p.Codec)
    start = [Path(settings.whisper) / "model.safetensors"] if settings.whisper else []
    identity = fingerprint(params, *start, *_dataset_files(root))
    learnt = _learnt(root, p.required(settings, "content", p.CodecStage).leave_out, "codec.content")
    train_content(*learnt, settings,
                  _compute(params, threads), root / "codec" / "content",
                  work, identity, profile)  # fmt: skip


@app.command()
def codec_style(
    root: Root, params: Params, work: Work, threads: Threads = 1, profile: Profile = False
) -> None:
    """Train stage B of HD-Emo: style, emotion, word affect and reconstruction."""
    from hpro_core.codec.training import train_style
    from hpro_core.io import fingerprint

    content = root / "codec" / "content"
    settings = p.read_section(params, "codec", p.Codec)
    learnt = _learnt(root, p.required(settings, "style", p.CodecStage).leave_out, "codec.style")
    identity = fingerprint(params, content / "model.safetensors", *_dataset_files(root))
    train_style(content, *learnt, settings,
                _compute(params, threads), root / "codec" / "style",
                work, identity, profile)  # fmt: skip


@app.command()
def codec_released(checkpoint: Path, root: Root, params: Params) -> None:
    """Use the authors' codec, model.pt, unchanged; nothing is trained."""
    from hpro_core.codec.released import Unstored, import_codec

    p.read_section(params, "codec", p.Codec)
    import_codec(checkpoint, root / "codec" / "style", Unstored())


@app.command()
def sft(
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
    start: Annotated[Path | None, typer.Option(help="Folder of a policy to fine-tune.")] = None,
) -> None:
    """Supervised fine-tuning of the policy that reward trainings start from."""
    from hpro_core.io import fingerprint
    from hpro_core.policy.sft import train_sft

    policy = p.read_section(params, "policy", p.Policy)
    settings = p.read_section(params, "sft", p.Sft)
    from_files = [Path(policy.path) / "llm.pt"] if policy.preset == "cosyvoice2" else []
    from_files += [start / "model.safetensors"] if start else []
    identity = f"sft {seed} " + fingerprint(params, *from_files, *_dataset_files(root))
    learnt = _learnt(root, settings.leave_out, "sft")
    train_sft(*learnt, policy, settings, _compute(params, threads),
              seed, root / "policy" / "sft" / f"seed{seed}", work, identity, profile,
              settings.accumulate, settings.checkpointing, start)  # fmt: skip


@app.command()
def reward(
    variant: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
) -> None:
    """Train a policy by reward: one of `variants` in params.yaml."""
    left_out = p.read_section(params, "reward", p.Reward).leave_out
    examples = _learnt(root, left_out, "reward")
    _reward(variant, root, params, work, seed, threads, profile, examples, None, [])


@app.command()
def reward_watched(
    variant: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
    weights: Weights = Path("weights"),
) -> None:
    """As `reward`, with judges that monitor it and choose the checkpoint (reward.probe_every)."""
    import functools

    from hpro_core.judges.probe import load_probe
    from hpro_core.reward.model_selection import HackingWatch
    from hpro_core.reward.probe import probe_set

    settings = p.read_section(params, "reward", p.Reward)
    train, dev = _learnt(root, settings.leave_out, "reward")
    drawn = p.read_section(params, "synthesis", p.Synthesis)
    compute = _compute(params, threads)
    size = settings.probe_sentences
    sentences, _ = probe_set(dev, train, size, drawn.seed)
    probe = functools.cache(  # loaded at the first call; only the main process runs it
        lambda: load_probe(root, dev, train, size, drawn, compute, weights)
    )
    watching = HackingWatch(sentences, lambda policy: probe()(policy), settings.probe_every,
                        settings.wer_margin, settings.hacking_patience,
                        settings.hacking_tolerance, settings.stop_on_hacking)  # fmt: skip
    files = ("judge/model.safetensors", "judge/config.json", "speech/tokenizer/config.json")
    heard_by = [root / name for name in files]
    _reward(variant, root, params, work, seed, threads, profile, (train, dev), watching, heard_by)


@app.command()
def synthesise(
    system: str, root: Root, params: Params, seed: Seed = 0, threads: Threads = 1
) -> None:
    """Synthesise the test sentences with a system: a variant, `tokenrecon` or `recordings`."""
    from hpro_core.dataset import load
    from hpro_core.synthesis.stage import synthesise as speak

    settings = p.read_section(params, "synthesis", p.Synthesis)
    test = list(load(root / "dataset" / "test.parquet"))
    train = load(root / "dataset" / "train.parquet")
    speak(root, system, seed, settings, _compute(params, threads), test, train)


@app.command()
def judge_train(root: Root, params: Params, threads: Threads = 1) -> None:
    """Train the affect judge on the judge split."""
    from hpro_core.judges.stage import train

    train(root, p.read_section(params, "evaluate", p.Evaluate), threads)


@app.command()
def judge_recordings(root: Root, params: Params, work: Work, threads: Threads = 1) -> None:
    """Judge the affect of the reference recordings and measure the affect judges' accuracy."""
    from hpro_core.judges.stage import judge_recordings as hear

    settings = p.read_section(params, "evaluate", p.Evaluate)
    hear(root, settings, _compute(params, threads), work, _teachers(params))


@app.command()
def judge(
    system: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge a system's speech: WER, wVAD-CCC, EMO-SIM, DNSMOS, speaker similarity."""
    from hpro_core.judges.stage import judge as hear

    settings = p.read_section(params, "evaluate", p.Evaluate)
    compute = _compute(params, threads)
    hear(root, system, seed, settings, weights, compute, work, _teachers(params))


@app.command()
def tables(root: Root, params: Params, out: Out = None) -> None:
    """Write the comparison, progressive and ablation tables."""
    from hpro_core.analysis.tables import make

    rows = p.read_section(params, "tables", p.Tables)
    seeds = p.read_plain(params, "seeds", list)
    make(root, rows, seeds, p.read_section(params, "evaluate", p.Evaluate), out)


@app.command()
def claims(
    root: Root,
    params: Params,
    out: Annotated[Path, typer.Option(help="Folder of claims.md and its tables.")],
) -> None:
    """Test every variant against SFT over several seeds, and the paper's orderings of systems."""
    from hpro_core.analysis.claims import make

    rows = p.read_section(params, "tables", p.Tables)
    seeds = p.read_plain(params, "seeds", list)
    settings = p.read_section(params, "claims", p.Claims)
    starts = {name: variant.start for name, variant in p.read_variants(params).items()}
    left_out = p.read_section(params, "reward", p.Reward).leave_out
    make(root, rows, seeds, settings, starts, left_out, out)


@app.command()
def report(root: Root, params: Params) -> None:
    """Write the report: tables, curves, word-level traces, audio."""
    from hpro_core.report.stage import build

    build(root, p.read_section(params, "report", p.Report), params)


@app.command()
def benchmark(
    training: str,
    params: Params = Path("params.yaml"),
    device: str = "auto",
    threads: Threads = 2,
    steps: int = 3,
    checkpointing: bool = False,
) -> None:
    """Time one training step with the sizes of CosyVoice2 and the released codec."""
    import dataclasses
    import json

    from hpro_core.benchmark import FULL_SIZE, TRAININGS, measure

    if training not in TRAININGS:
        raise HproError(f"no training {training!r}: use one of {', '.join(TRAININGS)}")
    reward = p.read_section(params, "reward", p.Reward)
    cost = measure(training, FULL_SIZE, reward, device, threads, steps, checkpointing)
    print(json.dumps(dataclasses.asdict(cost), indent=2))


@app.command()
def plan(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
    hours: Annotated[
        list[str] | None, typer.Option(help="Size of a corpus, SET=HOURS:UTTERANCES.")
    ] = None,
) -> None:
    """Estimate jobs, hours and bytes of a run from measured costs; needs no corpora or weights."""
    from hpro_core.plan.bill import bill_of, described, parsed_hours
    from hpro_core.plan.settings import read_settings

    try:
        given = parsed_hours(hours or [])
    except ValueError as error:
        raise HproError(f"--hours: SET=HOURS:UTTERANCES is expected ({error})") from error
    print("\n".join(described(bill_of(read_settings(params, configfile or []), given))))


@app.command("settings")
def show_settings(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
) -> None:
    """Check the settings and print them merged into one file."""
    import yaml

    from hpro_core.plan.settings import checked, sources

    values, _ = checked(sources(params, configfile or []))
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


@app.command()
def preflight(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
    weights: Weights = Path("weights"),
) -> None:
    """Check corpora, weights, disk, GPU and licences before the first job."""
    from hpro_core.plan.settings import read_settings
    from hpro_core.preflight import checks, described

    found = checks(read_settings(params, configfile or []), weights)
    print("\n".join(described(found)))
    failed = sum(check.status == "FAIL" for check in found)
    if failed:
        raise HproError(f"preflight: {failed} of {len(found)} checks failed, see above")


@app.command()
def verify(root: Path) -> None:
    """Compare the results of a run with its records; list changed, swapped and missing files."""
    from hpro_core.records import verify as compared

    n_files, problems = compared(root)
    print("\n".join(problems))
    if problems:
        raise HproError(f"{root}: {len(problems)} problems in {n_files} files, see above")
    print(f"{root}: {n_files} files match their records")


@app.command()
def params_schema() -> None:
    """Print the JSON schema of params.yaml."""
    import json

    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps(draft | p.Params.model_json_schema(), indent=2))


@weights_app.command("fetch")
def weights_fetch(folder: Weights = Path("weights")) -> None:
    """Download the judges' weights from published packages and check their hashes."""
    from hpro_core.pretrained.weights import fetch

    fetch(folder)


def _reward(
    variant: str, root: Path, params: Path, work: Path, seed: int, threads: int, profile: bool,
    examples: "tuple[MappedExamples, MappedExamples]", watching: "HackingWatch | None",
    heard_by: list[Path],
) -> None:  # fmt: skip
    from hpro_core.io import fingerprint
    from hpro_core.reward.train import train_reward

    settings = p.read_section(params, "reward", p.Reward)
    chosen = p.read_variant(params, variant)
    policies = root / "policy"
    start = policies / chosen.start / f"seed{seed}"
    codec = root / "codec" / "style"
    folders = {start, policies / "sft" / f"seed{seed}", codec}
    models = [f / name for f in sorted(folders) for name in ("model.safetensors", "config.json")]
    read = (params, *models, *heard_by, *_dataset_files(root))
    identity = f"{variant} {seed} " + fingerprint(*read)
    train_reward(variant, chosen, settings, _compute(params, threads), start,
                 policies / "sft" / f"seed{seed}", codec, *examples, seed,
                 policies / variant / f"seed{seed}", work, identity, profile,
                 settings.accumulate, settings.checkpointing, watching)  # fmt: skip


def _teachers(params: Path) -> set[str]:
    """Teachers of the labels that the rewards use; for the authors' codec also the paper's."""
    settings = p.read_section(params, "label", p.Label)
    teachers: set[str] = {settings.emotion_teacher, settings.vad_teacher}
    brought = p.read_section(params, "codec", p.Codec).checkpoint
    return {*teachers, "emotion2vec", "audeering"} if brought else teachers


def _compute(params: Path, threads: int) -> p.Compute:
    """Device and precision from the settings, number of threads from the caller."""
    section = p.read_section(params, "compute", p.Compute)
    return section.model_copy(update={"threads": threads})


def _learnt(
    root: Path, leave_out: list[str], section: str
) -> "tuple[MappedExamples, MappedExamples]":
    """Train and dev sets without the corpora in a section's `leave_out`.

    Raises:
        HproError: no utterance is left in one of them.
    """
    from hpro_core.dataset import load

    train, dev = (load(path, leave_out) for path in _dataset_files(root)[:2])
    if not train or not dev:
        raise HproError(
            f"{section}.leave_out in params.yaml is {leave_out}, and nothing is left to "
            f"learn from in {root / 'dataset'}: remove a corpus from the list"
        )
    return train, dev


def _dataset_files(root: Path) -> list[Path]:
    return [root / "dataset" / f"{split}.parquet" for split in ("train", "dev", "test")]


def main() -> None:
    """Run a command; report an error in one line, and an unexpected exception as a bug."""
    process.run(_run)


def _run() -> None:
    try:
        app()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
        _record(sys.argv[1:])


def _record(arguments: list[str]) -> None:
    """Write a record of this process's outputs if they are in the results of a run."""
    from hpro_core.records import command_of, root_of, write

    root = root_of(arguments)
    if root is not None and os.environ.get("RANK", "0") == "0":
        write(root, *command_of(arguments))


if __name__ == "__main__":
    main()
