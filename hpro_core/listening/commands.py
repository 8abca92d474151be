"""`hpro listen build` and `hpro listen analyse`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core.errors import HproError, did_you_mean

app = typer.Typer(help="Listening tests: build the page for raters, analyse their answers.")


@app.command()
def build(
    out: Annotated[Path, typer.Argument(help="New folder to write.")],
    run: Annotated[Path | None, typer.Option(help="Results folder of a finished run.")] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="With --run: system to compare; several times. Default: sft and hpro."),
    ] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of a run: folder of a system's audio, or NAME=FOLDER; several times."
        ),
    ] = None,
    list_path: Annotated[
        Path | None,
        typer.Option("--list", help="With --audio: the sentences, as for `hpro judge --audio`."),
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, help="Number of sentences.")] = 90,
    per_rater: Annotated[
        int, typer.Option(min=1, help="Most sentences of one rater in each part.")
    ] = 30,
    parts: Annotated[
        str, typer.Option(help="Any of naturalness, emotion and preference, with commas.")
    ] = "naturalness,emotion,preference",
    pair: Annotated[
        list[str] | None,
        typer.Option(help="FIRST:SECOND, compared in the preference; several times. Default: all."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Listening test",
    seed: Annotated[int, typer.Option(min=0, help="Seed of choice and orders.")] = 0,
    single: Annotated[bool, typer.Option("--single", help="One file, with all audio.")] = False,
) -> None:
    """Write a listening test: a page for raters, and the key to it."""
    from hpro_core.judges.audio_lists import find_list, named_folders
    from hpro_core.listening import sources
    from hpro_core.listening.build import PAGE, Settings
    from hpro_core.listening.build import build as write
    from hpro_core.listening.design import FILE
    from hpro_core.listening.orders import PARTS
    from hpro_core.new_folder import new_folder

    if (run is None) == (not audio):
        raise HproError("give either --run RESULTS, or --audio NAME=FOLDER with --list")
    wanted = [name.strip() for name in parts.split(",")]
    if unknown := [name for name in wanted if name not in PARTS]:
        raise HproError(
            f"--parts: {unknown[0]!r} is unknown: use {', '.join(PARTS)}"
            f"{did_you_mean(unknown[0], PARTS)}"
        )
    pairs = [tuple(text.split(":")) for text in pair or []]
    if wrong := [":".join(names) for names in pairs if len(names) != 2]:
        raise HproError(f"--pair {wrong[0]}: write FIRST:SECOND")
    settings = Settings(
        title=title,
        sentences=sentences,
        per_rater=per_rater,
        parts=tuple(part for part in PARTS if part in wanted),
        pairs=tuple((names[0], names[1]) for names in pairs),
        seed=seed,
        single=single,
    )
    if run is not None:
        if list_path is not None:
            raise HproError("--list is for --audio")
        material, source = sources.of_run(run, system or []), str(run)
    else:
        if system:
            raise HproError("--system is for --run: name the folders of --audio NAME=FOLDER")
        folders = named_folders(audio or [])
        path = list_path or find_list(next(iter(folders.values())))
        material = sources.of_folders(folders, path)
        source = ", ".join(f"{name}={folder}" for name, folder in folders.items())
    with new_folder(out) as partial:
        write(material, source, settings, partial)
    print(f"{out / PAGE}: for the raters; open index.html?rater=1 to try it")
    print(f"{out / FILE}: keep it; it names the system of each clip")


@app.command()
def analyse(
    design: Annotated[Path, typer.Argument(help="design.json of the test.")],
    answers: Annotated[list[Path], typer.Argument(help="Files of raters, or folders of them.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    max_failed: Annotated[
        int, typer.Option(min=0, help="Most attention checks that a rater may fail.")
    ] = 1,
) -> None:
    """Analyse the answers of raters: means, differences, preference, agreement."""
    from hpro_core.listening.analyse import analyse as write
    from hpro_core.listening.design import read_design
    from hpro_core.new_folder import new_folder

    read = read_design(design)
    with new_folder(out) as partial:
        write(read, answers, max_failed, partial)
    print(f"{out}: index.html, means.csv, differences.csv, preference.csv, agreement.csv")
