"""Reader `amazon_queen_scenes`: the cut-scenes of the game Flight of the Amazon Queen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hpro_core.corpus.readers import amazon_queen, queen_file
from hpro_core.corpus.recording import Recording

INFO = replace(
    amazon_queen.INFO,
    title="Flight of the Amazon Queen, cut-scenes of its talkie edition, 1995",
    source="`make data/raw/queen/queen.1c`",
    patterns=(),
)


def read(path: Path) -> Iterator[Recording]:
    """Yield every clip of the cut-scenes; a group is a scene.

    Args:
        path: queen.1c.

    Raises:
        HproError: `queen_file.cut_scenes` raises it.
    """
    yield from queen_file.cut_scenes(path)
