"""`hpro codec`: import and export of the authors' codec file."""

from pathlib import Path
from typing import Annotated

import typer

codec_app = typer.Typer(help="Import and export the authors' codec.", no_args_is_help=True)

ContentLevels = Annotated[int, typer.Option(min=2, help="Levels per content dimension.")]
StyleLevels = Annotated[int, typer.Option(min=2, help="Levels per style dimension.")]
EmotionHeads = Annotated[int, typer.Option(min=1, help="Attention heads of the emotion head.")]
TextHeads = Annotated[
    int | None, typer.Option(min=1, help="Heads of the text decoder; default: its width / 64.")
]


@codec_app.command("import")
def codec_import(
    source: Path,
    out: Path,
    content_levels: ContentLevels = 6,
    style_levels: StyleLevels = 5,
    emotion_heads: EmotionHeads = 16,
    text_heads: TextHeads = None,
) -> None:
    """Convert the authors' model.pt to a codec folder; options: what the file does not store."""
    from hpro_core.codec.released import Unstored, import_codec

    unstored = Unstored(content_levels, style_levels, emotion_heads, text_heads)
    codec = import_codec(source, out, unstored)
    weights = sum(weight.numel() for weight in codec.parameters())
    print(f"{out}: {weights:,} weights from {source.name}")


@codec_app.command("export")
def codec_export(folder: Path, out: Path, whisper: Path) -> None:
    """Write a codec folder as a model.pt that the authors' class loads strictly."""
    from hpro_core.codec.released import export_codec
    from hpro_core.codec.training import load_codec

    export_codec(load_codec(folder), out, whisper)
    print(f"{out}: written from {folder}")
