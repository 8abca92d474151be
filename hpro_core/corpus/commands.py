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
