"""Test corpora of voices that nothing was trained on: their scripts, as far as without network."""

import csv
import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hpro_core.corpus.check import Contents, check
from hpro_core.corpus.controlled.sentences import sentences
from hpro_core.params import Corpus, CorpusSet
from workflow.scripts import announcements, synthesisers

LIMITS = Corpus(
    sets={"other": CorpusSet(reader="csv", path="")},
    min_duration_s=0.1,
    max_duration_s=9.0,
    max_rejected_fraction=0.0,
)


def random_bytes(n: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8).tobytes()


def checked(folder: Path) -> Contents:
    contents = check(folder, LIMITS)[1]
    assert (contents.faults, contents.left_out, contents.stops) == ([], [], [])
    return contents


def metadata(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- announcements -----------------------------------------------------------------------------


def test_the_decoder_gives_the_samples_of_ffmpeg():
    """Hashes of what FFmpeg's decoder (PyAV 18) makes of the same bytes; many samples saturate."""
    files = [random_bytes(4000, seed=0), random_bytes(2501, seed=1)]
    found = announcements.decode(files)
    hashes = [hashlib.sha256(each_T.astype("<i2").tobytes()).hexdigest() for each_T in found]
    assert hashes == [
        "6748788635aa5e175c68a948dce15b4a7826c3fb9f672f0b279963cc92caa5cf",
        "d9d85c02c6892ea4298211d45553d3b5fa5cd9dc792386863ae64db7e6987e29",
    ]
    assert [len(samples_T) for samples_T in found] == [8000, 5002]


def test_prompts_are_sentences_with_their_texts():
    lines = [
        "; Core Asterisk Sounds in English",
        "",
        "added: Added.",
        "agent-user: Agent login.  Please enter: your number.",
        "auth-thankyou: Thank you.",
        "beep: [this is a simple beep tone]",
        "confbridge-join: <a beep that rises>",
        'spy-iax2: IAX (note: does not say "2")',
        "digits/20: twenty is a number",
        "no text at all",
        "call-fwd: Call-Forward on Busy.",
    ]
    assert list(announcements.prompts("\n".join(lines))) == [
        ("agent-user", "Agent login. Please enter: your number."),
        ("call-fwd", "Call-Forward on Busy."),
    ]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of the packages, which `fetch` puts in place: prompts of 0.1 s, less, and 10 s."""
    texts = "a: Press the pound key.\nb: Press the star key.\nc: Is too short.\nd: Is too long.\n"
    texts += "e: Has no file.\nf: Also long enough.\n"
    files = {
        f"{announcements.SOUNDS}/{name}.g722": random_bytes(n, seed=n)
        for name, n in (("a", 1000), ("b", 1001), ("c", 700), ("d", 80_000), ("f", 1002))
    }
    files[announcements.TEXTS] = gzip.compress(texts.encode())
    licence = f"usr/share/doc/{announcements.PACKAGES[0]}/copyright"
    files[licence] = b"CC-BY-SA-3.0"

    def fetch(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    monkeypatch.setattr(announcements, "fetch", fetch)
    monkeypatch.setattr(announcements, "MIN_S", 0.1)
    return files


def test_announcements_become_a_corpus(
    packages: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcements, "PROMPTS", 3)
    monkeypatch.setattr(sys, "argv", ["announcements", str(tmp_path / "out")])
    announcements.main()
    rows = metadata(tmp_path / "out")
    assert [(row["utterance"], row["speaker"], row["text"]) for row in rows] == [
        ("a", "allison", "Press the pound key."),
        ("b", "allison", "Press the star key."),
        ("f", "allison", "Also long enough."),
    ]
    samples_T, rate_hz = soundfile.read(tmp_path / "out" / rows[1]["audio"], dtype="int16")
    assert rate_hz == 16_000
    (expected_T,) = announcements.decode([packages[f"{announcements.SOUNDS}/b.g722"]])
    np.testing.assert_array_equal(samples_T, expected_T)
    assert (tmp_path / "out/copyright").read_text() == "CC-BY-SA-3.0"
    assert checked(tmp_path / "out").speakers == {"allison": 3}


def test_another_version_of_the_package_is_refused(
    packages: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["announcements", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="has 3 such prompts, not 236: it is another version"):
        announcements.main()
    assert not (tmp_path / "out").exists()


def test_a_machine_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="announcements: apt-get is needed"):
        announcements.fetch(tmp_path)


# --- synthesisers ------------------------------------------------------------------------------


def test_every_voice_has_its_own_test_sentences():
    rows = synthesisers.rows()
    assert len({row["utterance"] for row in rows}) == len(rows) == 7 * 12
    assert len({row["text"] for row in rows}) == len(rows)
    spoken = {sentence.text for sentence in sentences("test", len(rows), synthesisers.SEED)}
    assert {row["text"] for row in rows} == spoken
    assert all(s.split == "test" for s in sentences("test", len(rows), synthesisers.SEED))
    for seed, count in ((0, 48), (1, 300), (2, 300), (3, 300)):  # default run, claims
        # lists share a few sentences by chance
        assert len(spoken & {s.text for s in sentences("test", count, seed)}) <= 3


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, speaks: bool = True) -> None:
    """Stand-ins for both synthesisers, which copy one second of noise to the file that they get."""
    folder.mkdir()
    noise_T = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(folder / "noise.wav", noise_T, 16_000)
    for name, option in (("flite", "-o"), ("espeak-ng", "-w")):
        action = f'/bin/cp {folder}/noise.wav "$2"' if speaks else "exit 0"
        (folder / name).write_text(
            f'#!/bin/sh\necho "$@" >> {folder}/{name}.log\n'
            f'while [ $# -gt 1 ]; do if [ "$1" = {option} ]; then {action}; fi; shift; done\n'
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_voices_become_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["synthesisers", str(tmp_path / "out")])
    synthesisers.main()
    rows = metadata(tmp_path / "out")
    assert rows == synthesisers.rows()
    speakers = checked(tmp_path / "out").speakers
    assert speakers == {voice.speaker: 12 for voice in synthesisers.VOICES}
    spoken = (tmp_path / "bin/flite.log").read_text().splitlines()
    assert spoken[0] == f"-voice awb -o {tmp_path}/out/audio/flite_awb_00.wav -t {rows[0]['text']}"
    assert len(spoken) == 4 * 12
    assert len((tmp_path / "bin/espeak-ng.log").read_text().splitlines()) == 3 * 12


def test_a_voice_that_the_program_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs(tmp_path / "bin", monkeypatch, speaks=False)
    monkeypatch.setattr(sys, "argv", ["synthesisers", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"flite_awb wrote no .*/flite_awb_00\.wav"):
        synthesisers.main()
    assert not (tmp_path / "out/metadata.csv").exists()


def test_a_machine_without_a_synthesiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["synthesisers", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="flite is needed: apt-get install flite"):
        synthesisers.main()
