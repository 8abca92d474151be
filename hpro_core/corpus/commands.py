"""`hpro corpus-read`, `corpus-render`, `corpus-split` and `hpro corpus check`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.options import Params, Root, Threads

app = typer.Typer()
checks = typer.Typer(help="Checks of corpora.", no_args_is_help=True)


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


@checks.command("import")
def corpus_import(
    source: Annotated[Path, typer.Argument(help="Folder of the corpus; it is not changed.")],
    out: Annotated[Path, typer.Argument(help="New folder, for corpus.sets with reader: csv.")],
    layout: Annotated[
        str, typer.Option(help="ljspeech, vctk or mfa; by default it is recognised.")
    ] = "",
    speaker: Annotated[
        str, typer.Option(help="Name of the only speaker; by default that of the folder.")
    ] = "",
    faults: Annotated[Path | None, typer.Option(help="CSV file for all faults.")] = None,
) -> None:
    """Write the table of the reader csv for LJSpeech, VCTK or MFA folders; no audio is copied."""
    from hpro_core.corpus.check import Contents, by_kind, write_faults
    from hpro_core.corpus.layouts import import_corpus
    from hpro_core.errors import escaped

    found = import_corpus(source, out, layout, speaker)
    speakers = len({each.speaker for each in found.recordings})
    print(f"{found.layout}: {len(found.recordings)} utterances, {speakers} speakers")
    print(f"faults, left out of the table: {len(found.faults)}")
    lines = [*by_kind(found.faults), *found.notes]
    print("".join(f"{escaped(line)}\n" for line in lines), end="")
    if faults is not None:
        write_faults(Contents(left_out=list(found.faults)), faults)
    print(f"{out}: {{reader: csv, path: {out}}}; `hpro corpus check {out}` decodes all audio")


@checks.command("check")
def corpus_check(
    path: Path,
    reader: Annotated[str, typer.Option(help="Reader; by default it is recognised.")] = "",
    faults: Annotated[Path | None, typer.Option(help="CSV file for all faults.")] = None,
    params: Params = Path("params.yaml"),
) -> None:
    """Read a whole corpus; list its contents and what a run refuses, rejects or leaves out."""
    from hpro_core.corpus.check import check, format_report, write_faults

    about, contents = check(path, p.read_section(params, "corpus", p.Corpus), reader)
    print("\n".join(format_report(about, contents)))
    if faults is not None:
        write_faults(contents, faults)
    if contents.faults or contents.stops:
        raise HproError(f"{path}: {len(contents.faults)} faults, see above")
