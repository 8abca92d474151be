"""`hpro codec-content`, `codec-style`, `codec-released`, and `hpro codec import` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.options import Params, Profile, Root, Threads, Tracker, Work

app = typer.Typer()
released = typer.Typer(help="Import and export the authors' codec.", no_args_is_help=True)

ContentLevels = Annotated[int, typer.Option(min=2, help="Levels per content dimension.")]
StyleLevels = Annotated[int, typer.Option(min=2, help="Levels per style dimension.")]
EmotionHeads = Annotated[int, typer.Option(min=1, help="Attention heads of the emotion head.")]
TextHeads = Annotated[
    int | None, typer.Option(min=1, help="Heads of the text decoder; default: its width / 64.")
]


@app.command()
def codec_content(
    root: Root,
    params: Params,
    work: Work,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
) -> None:
    """Train stage A of HD-Emo: the content branch, with the text loss only."""
    from hpro_core.codec.training import train_content
    from hpro_core.train.run import Run

    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    train_content(run, p.read_section(params, "codec", p.Codec))


@app.command()
def codec_style(
    root: Root,
    params: Params,
    work: Work,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
) -> None:
    """Train stage B of HD-Emo: style, emotion, word affect and reconstruction."""
    from hpro_core.codec.training import train_style
    from hpro_core.train.run import Run

    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    train_style(run, p.read_section(params, "codec", p.Codec))


@app.command()
def codec_released(checkpoint: Path, root: Root, params: Params) -> None:
    """Use the authors' codec, model.pt, unchanged; nothing is trained."""
    from hpro_core.codec.released import UnstoredSettings, import_codec

    p.read_section(params, "codec", p.Codec)
    import_codec(checkpoint, root / "codec" / "style", UnstoredSettings())


@released.command("import")
def codec_import(
    source: Path,
    out: Path,
    content_levels: ContentLevels = 6,
    style_levels: StyleLevels = 5,
    emotion_heads: EmotionHeads = 16,
    text_heads: TextHeads = None,
) -> None:
    """Convert the authors' model.pt to a codec folder; options: what the file does not store."""
    from hpro_core.codec.released import UnstoredSettings, import_codec

    unstored = UnstoredSettings(content_levels, style_levels, emotion_heads, text_heads)
    codec = import_codec(source, out, unstored)
    weights = sum(weight.numel() for weight in codec.parameters())
    print(f"{out}: {weights:,} weights from {source.name}")


@released.command("export")
def codec_export(folder: Path, out: Path, whisper: Path) -> None:
    """Write a codec folder as a model.pt that the authors' class loads strictly."""
    from hpro_core.codec.released import export_codec
    from hpro_core.codec.training import load_codec

    export_codec(load_codec(folder), out, whisper)
    print(f"{out}: written from {folder}")
