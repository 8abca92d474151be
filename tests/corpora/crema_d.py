"""A miniature of CREMA-D: two actors with some sentences, and the file with the former name."""

from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "crema_d"
SAID = (
    *("IEO_NEU_XX", "IEO_ANG_LO", "IEO_ANG_MD", "IEO_ANG_HI", "MTI_FEA_XX", "TAI_DIS_XX"),
    *("DFA_ANG_XX", "DFA_HAP_XX", "DFA_NEU_XX", "DFA_SAD_XX"),
)
NAMES = [f"{actor}_{said}" for actor in (1001, 1002) for said in SAID] + ["1040_ITH_SAD_XX"]
UTTERANCES, SPEAKERS = len(NAMES), 3
FIRST = "AudioWAV/1001_DFA_ANG_XX.wav"
LIST = "SentenceFilenames.csv"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:2759bb80ce3ac9a64f1\nsize 82260\n"


def build(folder: Path) -> None:
    """A clone made before October 2022, without videos and MP3."""
    for name in NAMES:
        write_sound(folder / f"AudioWAV/{name.replace('1040_ITH_SAD_XX', '1040_ITH_SAD_X')}.wav")
    (folder / "AudioWAV/._1001_DFA_ANG_XX.wav").write_bytes(b"Mac OS X")
    rows = [f'{number},"{name}"\n' for number, name in enumerate(NAMES, start=1)]
    (folder / LIST).write_text('"Stimulus_Number","Filename"\n' + "".join(rows))
    (folder / "VideoDemographics.csv").write_text('"ActorID","Age","Sex"\n1001,51,"Male"\n')


def _add_soundless(folder: Path) -> None:
    write_sound(folder / "AudioWAV/1076_MTI_SAD_XX.wav")
    with (folder / LIST).open("a") as file:
        file.write('7442,"1076_MTI_SAD_XX"\n')


PLANTED = [
    Planted("a file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / FIRST), "truncated audio: 1"),
    Planted(
        "cloned without Git LFS",
        lambda f: (f / FIRST).write_text(POINTER),
        "Git LFS pointer instead of audio: 1",
    ),
    Planted("the file without sound", _add_soundless, "no audible speech (publishers' README): 1"),
    Planted(
        "an emotion that does not exist",
        lambda f: edit(f / LIST, "1001_DFA_ANG_XX", "1001_DFA_BOR_XX"),
        "1001_DFA_BOR_XX'",
    ),
    Planted(
        "a path that climbs out",
        lambda f: edit(f / LIST, "1001_DFA_ANG_XX", "../1001_DFA_ANG_XX"),
        "name that is not CREMA-D's: 1",
    ),
    Planted(
        "a file that is not listed",
        lambda f: write_sound(f / "AudioWAV/1001_DFA_ANG_XX (1).wav"),
        f"audio file that {LIST} does not list: 1",
    ),
    Planted(
        "a line twice",
        lambda f: edit(f / LIST, "1001_IEO_NEU_XX", "1001_DFA_ANG_XX"),
        "line 8: '1001_DFA_ANG_XX' is in",
        stops=True,
    ),
]
