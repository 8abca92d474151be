"""`hpro dataset`, and `hpro gather` and `gather-dataset` for stages that work on shards."""

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.options import Params, Root, Shard

app = typer.Typer()


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
    limit = p.read_yaml(params).get(stage, {}).get("max_rejected_fraction", 1.0)
    join(root, stage, p.read_plain(params, "shards", int), limit)


@app.command()
def gather_dataset(root: Root, params: Params) -> None:
    """Merge the dataset of all shards and write the memory-mapped files for trainings."""
    from hpro_core.shards import gather as join
    from hpro_core.train.example_file import split_files, write_examples

    limit = p.read_section(params, "dataset", p.Dataset).max_rejected_fraction
    join(root, "dataset", p.read_plain(params, "shards", int), limit)
    for table in split_files(root):
        write_examples(table)
