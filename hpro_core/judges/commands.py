"""`hpro judge-train`, `hpro judge-grade`, `hpro judge-recordings` and `hpro judge`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.options import Params, Root, Seed, Threads, Weights, Work

app = typer.Typer()


@app.command()
def judge_train(root: Root, params: Params, threads: Threads = 1) -> None:
    """Train the affect judge on the judge split."""
    from hpro_core.judges.stage import train

    train(root, p.read_section(params, "evaluate", p.Evaluate), threads)


@app.command()
def judge_grade(
    corpus: Annotated[
        Path,
        typer.Argument(help="Labelled corpus: a folder with a metadata.csv (docs/corpora.md)."),
    ],
    base: Annotated[Path, typer.Option(help="Folder of the base.")] = Path("data/base"),
) -> None:
    """Measure the affect judge of a base on real speech with labels, and write the grade to it."""
    from hpro_core.judges.affect import MIN_RECALL_GAIN
    from hpro_core.judges.grading import grade_base

    grade = grade_base(base, corpus)
    shown = "shown" if grade.gain >= MIN_RECALL_GAIN else "withheld"
    print(
        f"{base}: emotion recall {grade.recall:.2f} on {grade.recordings} recordings of "
        f"{grade.corpus} (chance {1 / grade.classes:.2f}); affect of unknown test sets is {shown}"
    )


@app.command()
def judge_recordings(
    root: Root,
    params: Params,
    work: Work,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge the affect of the reference recordings and measure the judges' accuracy."""
    from hpro_core.judges.configured import teachers_of
    from hpro_core.judges.stage import judge_recordings as judge_all

    label = p.read_section(params, "label", p.Label)
    teachers = teachers_of(label, p.read_section(params, "codec", p.Codec))
    settings = p.read_section(params, "evaluate", p.Evaluate)
    judge_all(root, settings, weights, p.read_compute(params, threads), work, teachers)


AudioOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Instead of a system of a run: folder of any system's audio, or NAME=FOLDER; several "
        "times for several systems."
    ),
]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list",
        help="With --audio: the sentences, as CSV, meta.lst or EmergentTTS-Eval's .jsonl. Default: "
        "the only list in the first folder.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="With --audio: new folder to write; default: results/judged/<first name>."),
]
WorkOption = Annotated[
    Path | None, typer.Option(help="Folder for results of published judges; a killed run resumes.")
]


@app.command()
def judge(
    system: Annotated[str | None, typer.Argument(help="System of a run.")] = None,
    root: Annotated[Path | None, typer.Option(help="Results folder of the run.")] = None,
    params: Params = Path("params.yaml"),
    work: WorkOption = None,
    seed: Seed = 0,
    audio: AudioOption = None,
    list_path: ListOption = None,
    out: OutOption = None,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge a system of a run, or with --audio the speech of any systems (docs/external.md)."""
    if audio:
        if system is not None or root is not None:
            raise HproError("give either a system of a run with --root, or --audio")
        judge_audio(audio, list_path, out, params, work, weights, threads)
        return
    if system is None or root is None or work is None:
        raise HproError(
            "name the audio to judge: hpro judge --audio FOLDER --list LIST; a system of a run is "
            "judged by Snakemake (hpro judge SYSTEM --root ROOT --work WORK)"
        )
    if list_path is not None or out is not None:
        raise HproError("--list and --out are for --audio")
    from hpro_core.judges.configured import teachers_of
    from hpro_core.judges.stage import judge as judge_system

    label = p.read_section(params, "label", p.Label)
    teachers = teachers_of(label, p.read_section(params, "codec", p.Codec))
    settings = p.read_section(params, "evaluate", p.Evaluate)
    compute = p.read_compute(params, threads)
    judge_system(root, system, seed, settings, weights, compute, work, teachers)


# A command of its own: its code is not part of the hash of `judge`, by which Snakemake repeats the
# evaluation of a run.
@app.command(hidden=True)
def judge_audio(
    audio: Annotated[list[str], typer.Option()],
    list_path: ListOption = None,
    out: OutOption = None,
    params: Params = Path("params.yaml"),
    work: WorkOption = None,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge the speech of any systems: `hpro judge --audio`."""
    from hpro_core import records
    from hpro_core.judges.audio_lists import find_list, named_folders

    folders = named_folders(audio)
    first = next(iter(folders))
    sentences = list_path or find_list(folders[first])
    target = out or Path("results", "judged", first)
    settings = p.read_section(params, "evaluate", p.Evaluate)
    align_by = p.read_section(params, "align", p.Align)
    base = Path(p.read_plain(params, "base", str) or "data/base")
    samples = p.read_section(params, "report", p.Report).samples
    compute = p.read_compute(params, threads)

    from hpro_core.judges.audio import JudgeModels, judge_audio
    from hpro_core.new_folder import new_folder
    from hpro_core.report.judged import build_judged

    models = JudgeModels(settings, compute, base, weights, work or Path("work/judged", target.name))
    with new_folder(target) as partial:
        scores = judge_audio(folders, sentences, partial, models, align_by)
        build_judged(partial, target.name, list(scores), str(sentences), samples)
        records.write(partial, "judge", sys.argv[2:])
    print((target / "tables" / "comparison.md").read_text(encoding="utf-8"), end="")
    print(f"\n{target}: tables/comparison.md, tables/differences.csv, report/index.html")
