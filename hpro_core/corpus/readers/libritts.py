"""Reader `libritts`: LibriTTS, sentences of LibriSpeech's books at 24 kHz, and LibriTTS-R.

<subset>/<speaker>/<chapter>/<speaker>_<chapter>_<paragraph>_<sentence>.wav, with the texts of a
chapter in <speaker>_<chapter>.trans.tsv: id, original and normalised text in each line. The name of
the subset prescribes the split. LibriTTS-R has the same files with restored sound.

The reader uses the normalised text: it has the capitals and the punctuation of the original, with
numbers and abbreviations in words ("librivox dot org"). <id>.normalized.txt repeats it, one file
for each sentence, and is not read. <chapter>.book.tsv also has sentences that were not aligned.
"""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, text_of
from hpro_core.corpus.readers.librispeech import Line, chapters, subsets, utterances
from hpro_core.corpus.recording import Fault, Recording

INFO = CorpusInfo(
    title="LibriTTS, Zen and others 2019, or LibriTTS-R, Koizumi and others 2023",
    licence="CC BY 4.0: requires attribution",
    source="openslr.org/60 (LibriTTS-R: openslr.org/141): train-clean-100.tar.gz and others, one "
    "for each subset",
    patterns=(
        "[tde]*-[co]*/*/*/*_*.trans.tsv",
        "*/[tde]*-[co]*/*/*/*_*.trans.tsv",
        "[0-9]*/[0-9]*/*_*.trans.tsv",
    ),
)


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all sentences, chapter by chapter; a group is a chapter.

    Args:
        folder: LibriTTS or LibriTTS_R, its parent folder, or a subset.

    Raises:
        HproError: no subset was found, or a transcript is not UTF-8.
    """
    for subset, split in subsets(folder):
        for chapter in chapters(subset):
            transcript = chapter / f"{chapter.parent.name}_{chapter.name}.trans.tsv"
            yield from utterances(chapter, split, "_", ".wav", _lines(transcript))


def _lines(transcript: Path) -> Iterator[Line]:
    if transcript.is_file():
        for number, line in enumerate(text_of(transcript).split("\n"), start=1):
            if line:
                utterance, *texts = line.split("\t")
                text = texts[1].strip() if len(texts) == 2 else None
                yield Line(utterance, text, f"{transcript}, line {number}")
