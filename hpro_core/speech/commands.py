"""`hpro tokenizer`, `hpro tokenizer-published`, `hpro tokenize` and `hpro vocoder`."""

from pathlib import Path

import typer

from hpro_core import params as p
from hpro_core.options import Params, Profile, Root, Shard, Threads, Tracker, Work

app = typer.Typer()


@app.command()
def tokenizer(
    root: Root,
    params: Params,
    work: Work,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
) -> None:
    """Train the speech tokenizer and its decoder."""
    from hpro_core.speech.stage import train
    from hpro_core.train.run import Run

    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    train(run, p.read_section(params, "speech", p.Speech))


@app.command()
def vocoder(
    root: Root,
    params: Params,
    work: Work,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
) -> None:
    """Train the vocoder, from mel frames to audio; with Griffin-Lim nothing is trained."""
    from hpro_core.speech.vocoder_training import train
    from hpro_core.train.run import Run

    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    train(run, p.read_section(params, "vocoder", p.Vocoder))


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
    compute = p.read_compute(params, threads)
    if speech.preset == "cosyvoice2":
        encode_s3(root, Path(speech.path), speech.batch_size, compute, shard)
    else:
        encode(root, speech, compute, shard)
