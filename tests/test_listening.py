"""Listening tests: choice and orders, clips, what the page has and hides, answers, analysis."""

import base64
import dataclasses
import json
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.listening import audio, sources
from hpro_core.listening.analyse import analyse, verdict
from hpro_core.listening.answers import read_sessions
from hpro_core.listening.build import Settings, build
from hpro_core.listening.design import Design, read_design
from hpro_core.listening.orders import Orders, balanced, in_blocks, williams
from tests.listening import (
    Deviations,
    Population,
    answers_of,
    built,
    spoken_folders,
    write_csv,
    write_json,
)

N_SENTENCES = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoken_folders(tmp_path_factory.mktemp("listening") / "audio", N_SENTENCES)


@pytest.fixture(scope="module")
def test_folder(folders: Path) -> Path:
    """A test of seven of nine sentences, four per rater, two systems, recordings, and anchor."""
    out = folders.parent / "test"
    return built(folders, out, "--sentences", "7", "--per-rater", "4", "--title", "A & <B>")


@pytest.fixture(scope="module")
def design(test_folder: Path) -> Design:
    return read_design(test_folder / "design.json")


# --- choice and orders ---------------------------------------------------------------------------


def test_sentences_are_balanced_over_strata_as_far_as_they_reach():
    strata = ["a"] * 50 + ["b"] * 3 + ["c"] * 20
    chosen = balanced(strata, 23, seed=0)
    assert Counter(strata[place] for place in chosen) == {"a": 10, "b": 3, "c": 10}
    assert chosen == balanced(strata, 23, seed=0)
    assert chosen != balanced(strata, 23, seed=1)
    assert sorted(balanced(strata, 90, seed=0)) == list(range(73))


def test_blocks_have_equally_many_sentences_of_each_stratum():
    strata = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    blocks = in_blocks(balanced(strata, 90, seed=3), 30)
    assert [Counter(strata[place] for place in block) for block in blocks] == [
        {"a": 10, "b": 10, "c": 10}
    ] * 3


@pytest.mark.parametrize("n", range(2, 8))
def test_a_williams_design_balances_places_and_successions(n):
    rows = williams(n)
    times = len(rows) // n
    assert times == (1 if n % 2 == 0 else 2)
    for place in range(n):
        assert Counter(row[place] for row in rows) == dict.fromkeys(range(n), times)
    after = Counter(pair for row in rows for pair in pairwise(row))
    assert after == {(a, b): times for a in range(n) for b in range(n) if a != b}


def orders(n_sentences: int, per_rater: int, n_systems: int) -> Orders:
    pairs = [(a, b) for a in range(1, n_systems - 1) for b in range(a + 1, n_systems - 1)]
    parts = ["naturalness", "emotion", "preference"]
    return Orders(in_blocks(range(n_sentences), per_rater), parts, n_systems, pairs, seed=5)


@pytest.mark.parametrize(("n_sentences", "n_systems"), [(24, 4), (23, 4), (20, 5)])
def test_a_cycle_of_raters_rates_every_sentence_in_every_system_equally_often(
    n_sentences, n_systems
):
    plan = orders(n_sentences, 8, n_systems)
    for part in ("naturalness", "emotion"):
        cells: Counter = Counter()
        for session in range(plan.n_sessions):
            trials = plan.ratings(session, part, range(n_sentences))
            assert len({sentence for sentence, _ in trials}) == len(trials)  # each once
            per_system = Counter(system for _, system in trials)
            assert max(per_system.values()) - min(per_system.values()) <= 1
            cells.update(trials)
        assert len(cells) == n_sentences * n_systems
        assert len(set(cells.values())) == 1
    sides = Counter(each for s in range(plan.n_sessions) for each in plan.preferences(s))
    assert len(sides) == n_sentences * 2 * len(plan.pairs)
    assert len(set(sides.values())) == 1


def test_a_rater_does_not_rate_one_clip_in_both_parts():
    plan = orders(24, 8, 4)
    for session in range(plan.n_sessions):
        rated = [set(plan.ratings(session, part, range(24))) for part in plan.parts[:2]]
        assert not rated[0] & rated[1]


def test_the_order_of_the_rated_parts_is_balanced_and_the_preference_is_last():
    plan = orders(24, 8, 4)
    first = [plan.parts_of(session)[0] for session in range(plan.n_sessions)]
    assert Counter(first) == dict.fromkeys(("naturalness", "emotion"), plan.n_sessions // 2)
    assert {plan.parts_of(session)[2] for session in range(plan.n_sessions)} == {"preference"}


# --- clips ---------------------------------------------------------------------------------------


def test_loudness_of_the_standards_sine():
    """BS.1770-4: a sine of 997 Hz at full scale in one channel has -3.01 LKFS."""
    time_T = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    sine_T = np.sin(2 * np.pi * 997 * time_T)
    assert audio.loudness_lufs(sine_T) == pytest.approx(-3.01, abs=0.05)
    assert audio.loudness_lufs(sine_T / 10) == pytest.approx(-23.01, abs=0.05)
    quiet_half = np.concatenate([sine_T, sine_T * 1e-3])  # the relative gate leaves it out
    assert audio.loudness_lufs(quiet_half) == pytest.approx(-3.01, abs=0.3)
    assert audio.loudness_lufs(np.zeros(100)) == float("-inf")


def test_clips_become_equally_loud_without_clipping():
    generator = np.random.default_rng(0)
    noise_T = generator.normal(size=SAMPLE_RATE_HZ) * 0.01
    spiky_T = noise_T.copy()
    spiky_T[5000] = 1.0
    clips = {"loud": noise_T * 30, "soft": noise_T, "spiky": spiky_T, "silent": np.zeros(8000)}
    made, loudness = audio.levelled(clips)
    assert loudness < audio.TARGET_LUFS  # for the sake of the spike
    for name in ("loud", "soft", "spiky"):
        assert audio.loudness_lufs(made[name]) == pytest.approx(loudness, abs=0.01)
        assert np.abs(made[name]).max() <= audio.PEAK + 1e-9
    assert not made["silent"].any()
    assert audio.levelled({"soft": noise_T})[1] == audio.TARGET_LUFS


def test_the_low_anchor_halves_the_range_of_levels():
    generator = np.random.default_rng(0)
    noise_T = generator.normal(size=2 * SAMPLE_RATE_HZ) * np.repeat([0.1, 0.01], SAMPLE_RATE_HZ)

    def level_db(samples_T: np.ndarray) -> float:
        return float(20 * np.log10(samples_T.std()))

    made_T = audio.low_anchor(noise_T)
    halves = [slice(2000, 14000), slice(18000, 30000)]
    assert level_db(noise_T[halves[0]]) - level_db(noise_T[halves[1]]) == pytest.approx(20, abs=1)
    assert level_db(made_T[halves[0]]) - level_db(made_T[halves[1]]) == pytest.approx(10, abs=1)
    assert not audio.low_anchor(np.zeros(4000)).any()


def test_the_low_anchor_has_one_pitch_and_no_band_above_3500_hz():
    """A vowel-like sound whose pitch falls from 220 to 140 Hz."""
    time_T = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    phase_T = 2 * np.pi * (220 * time_T - 40 * time_T**2)
    voice_T = sum(np.sin(n * phase_T) / n for n in range(1, 30)) * 0.1
    anchor_T = audio.low_anchor(voice_T)
    assert len(anchor_T) == len(voice_T)

    def pitch_hz(samples_T: np.ndarray) -> float:
        found = np.correlate(samples_T, samples_T, "full")[len(samples_T) :]
        return SAMPLE_RATE_HZ / (40 + int(found[40:200].argmax()) + 1)

    starts = (2000, 12000)
    own = [pitch_hz(voice_T[start : start + 1600]) for start in starts]
    made = [pitch_hz(anchor_T[start : start + 1600]) for start in starts]
    assert own[0] - own[1] > 40
    assert made == pytest.approx([100, 100], abs=1)
    power = np.abs(np.fft.rfft(anchor_T)) ** 2
    above = np.fft.rfftfreq(len(anchor_T), 1 / SAMPLE_RATE_HZ) > 4000
    assert power[above].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("n_tones", [0, 1, 5])
def test_tones_follow_the_speech(n_tones):
    speech_T = np.full(8000, 0.01)
    made_T = audio.with_tones(speech_T, n_tones)
    assert (made_T[:8000] == speech_T).all()
    loud = np.abs(made_T[8000:]) > 0.05
    starts = np.flatnonzero(loud)[:1], np.flatnonzero(np.diff(np.flatnonzero(loud)) > 2000)
    assert sum(map(len, starts)) == n_tones  # 0.3 s of silence before each


# --- the written test ----------------------------------------------------------------------------


def test_the_page_has_every_clip_under_a_name_that_does_not_tell_the_system(test_folder, design):
    files = sorted(path.name for path in (test_folder / "page" / "audio").iterdir())
    assert files == sorted(f"{clip}.flac" for clip in design.clips)
    assert all(re.fullmatch(r"[0-9a-f]{16}\.flac", name) for name in files)
    page = (test_folder / "page" / "index.html").read_text(encoding="utf-8")
    hidden = {system.name for system in design.systems} - {"one", "two"}  # words of the texts
    hidden |= {clip.utt_id for clip in design.clips.values()} | {":check", '"one"', '"two"'}
    assert [name for name in sorted(hidden) if name in page.split('type="application/json"')[1]
            .split("</script>")[0]] == []  # fmt: skip


def test_the_page_names_no_host_and_escapes_its_title(test_folder):
    page = (test_folder / "page" / "index.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; &lt;B&gt;</h1>" in page
    assert re.findall(r"https?://|src=|@import|fetch\(|XMLHttpRequest", page) == []
    assert "default-src 'none'" in page


def test_all_clips_are_equally_loud(test_folder, design):
    for clip in design.clips:
        if not design.clips[clip].tones:
            samples_T, rate_hz = soundfile.read(test_folder / "page" / "audio" / f"{clip}.flac")
            assert rate_hz == SAMPLE_RATE_HZ
            assert audio.loudness_lufs(samples_T) == pytest.approx(design.loudness_lufs, abs=0.05)


def test_the_design_has_reference_systems_anchor_and_checks_of_sentences_that_are_not_rated(design):
    roles = [(system.name, system.role) for system in design.systems]
    assert roles == [("recordings", "reference"), ("one", "system"), ("two", "system"),
                     ("anchor", "anchor")]  # fmt: skip
    assert design.pairs == [("one", "two")]
    rated, checks = set(), set()
    for rater in range(1, len(design.sessions) + 1):
        tones = []
        for part, clips in design.trials_of(rater):
            known = [design.clips[clip] for clip in clips]
            expected = design.expected(part, clips)
            if expected is None:
                rated |= {clip.utt_id for clip in known}
                assert not any(clip.tones for clip in known)
                assert len({clip.utt_id for clip in known}) == 1
            else:
                tones.append(max(clip.tones for clip in known))
                checks.add((part, expected))
        assert sorted(tones) == [1, 2, 3, 4, 5]
        assert design.expected(*design.trials_of(rater)[0]) is None  # never first
    assert len(rated) == 7
    assert {expected for part, expected in checks if part == "preference"} == {"a", "b"}
    assert {expected for part, expected in checks if part == "emotion"} == set("12345")
    trained = {clip.utt_id for clip in design.clips.values() if clip.system == ":good"}
    assert not trained & rated


def test_only_sentences_with_an_intended_emotion_are_asked_for_it(design):
    emotions = {sentence.utt_id: sentence.emotion for sentence in design.sentences}
    asked = {
        emotions[design.clips[clips[0]].utt_id]
        for session in range(1, 20)
        for part, clips in design.trials_of(session)
        if part == "emotion" and design.expected(part, clips) is None
    }
    assert design.emotion_intended
    assert asked == {"happy", "sad"}


def test_the_same_build_gives_the_same_files(folders, test_folder, tmp_path):
    again = built(
        folders, tmp_path / "b", "--sentences", "7", "--per-rater", "4", "--title", "A & <B>"
    )
    for path in sorted(test_folder.rglob("*")):
        if path.is_file():
            other = again / path.relative_to(test_folder)
            assert other.read_bytes() == path.read_bytes(), path


def test_one_file_with_all_audio(folders, tmp_path):
    out = built(folders, tmp_path / "single", "--single")
    page = (out / "page" / "index.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="test">')[1].split("</script>")[0])
    assert len(data["audio"]) == len(data["clips"])
    content = base64.b64decode(data["audio"][0].removeprefix("data:audio/flac;base64,"))
    assert content[:4] == b"fLaC"


def test_without_recordings_and_emotions_systems_alone_are_compared(folders, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("utterance,text\n" + "".join(f"s{n:02d},Hello.\n" for n in range(4)))
    audio_of = {name: folders / name for name in ("one", "two")}
    material = sources.of_folders(audio_of, listed)
    assert not material.has_recordings
    shutil.copytree(folders, tmp_path / "audio")
    (tmp_path / "audio" / "list.csv").write_text(listed.read_text())
    design = read_design(built(tmp_path / "audio", tmp_path / "out") / "design.json")
    assert [system.role for system in design.systems] == ["system", "system"]
    assert not design.emotion_intended


def test_one_system_alone_is_rated_and_not_compared(folders, tmp_path):
    material = sources.of_folders({"one": folders / "one"}, folders / "list.csv")
    material = dataclasses.replace(material, has_recordings=False)
    settings = Settings("t", 4, 2, ("naturalness", "preference"), (), 0, False)
    design = build(material, "one", settings, tmp_path)
    assert {part for part, _ in design.trials_of(1)} == {"naturalness"}
    assert design.pairs == []
    with pytest.raises(HproError, match="a preference needs two systems"):
        build(material, "one", dataclasses.replace(settings, parts=("preference",)), tmp_path)


def test_a_sentence_that_a_system_lacks_is_left_out_and_named(folders, tmp_path):
    copy = shutil.copytree(folders, tmp_path / "audio")
    (copy / "two" / "s03.wav").unlink()
    material = sources.of_folders({n: copy / n for n in ("one", "two")}, copy / "list.csv")
    assert len(material.sentences) == N_SENTENCES - 1
    assert material.left_out == ("1 without audio of two (s03)",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "loudness"], "--parts: 'loudness' is unknown: use naturalness, emotion"),
        (["--pair", "one"], "--pair one: write FIRST:SECOND"),
        (["--pair", "one:three"], "'three' is not in this test (one, two, recordings, anchor)"),
        (["--pair", "one:one"], "name two systems"),
        (["--run", "results/x"], "give either --run RESULTS, or --audio"),
        (["--system", "one"], "--system is for --run"),
    ],
)
def test_wrong_options_are_refused(folders, tmp_path, options, message):
    with pytest.raises(HproError, match=re.escape(message)):
        built(folders, tmp_path / "out", *options)
    assert list(tmp_path.iterdir()) == []


def test_wrong_audio_and_lists_are_refused_by_name(folders, tmp_path):
    copy = shutil.copytree(folders, tmp_path / "audio")
    (copy / "two" / "s03.wav").write_bytes(b"no audio")
    with pytest.raises(HproError, match=r"two/s03\.wav: unreadable audio: correct it, or remove"):
        built(copy, tmp_path / "out")
    (copy / "two" / "s03.wav").unlink()
    text = (copy / "list.csv").read_text()
    (copy / "list.csv").write_text(text.replace(",happy,", ",joyful,", 1))
    with pytest.raises(HproError, match=r"list\.csv, line 2: the emotion 'joyful' is unknown"):
        built(copy, tmp_path / "out")
    with pytest.raises(HproError, match="'anchor' is not a system to compare"):
        sources.of_folders({"anchor": copy / "one"}, copy / "list.csv")


def test_a_changed_design_is_refused(test_folder, tmp_path):
    path = tmp_path / "design.json"
    text = (test_folder / "design.json").read_text()
    path.write_text(text.replace('"system": "one"', '"system": "two"', 1))
    with pytest.raises(HproError, match=r"design\.json was changed after it was written"):
        read_design(path)
    for wrong, message in [
        ("{}", "not the design of a listening test"),
        (text.replace('"seed": 0', '"seed": "0"'), "design.json, seed: "),
        ("[]", "not a JSON object"),
    ]:
        path.write_text(wrong)
        with pytest.raises(HproError, match=message):
            read_design(path)


# --- answers -------------------------------------------------------------------------------------

POPULATION = Population({"recordings": 4.3, "one": 2.3, "two": 3.5, "anchor": 1.4})


@pytest.fixture
def drawn() -> Deviations:
    return Deviations(POPULATION, np.random.default_rng(0))


def test_csv_and_json_of_a_rater_are_read_equally_and_used_once(design, drawn, tmp_path):
    rows = answers_of(design, 3, drawn)
    paths = [write_csv(tmp_path / "a.csv", design, 3, rows),
             write_json(tmp_path / "a.json", design, 3, rows)]  # fmt: skip
    (session,), copies = read_sessions([tmp_path], design)
    assert [answer.answer for answer in session.answers] == [row["answer"] for row in rows]
    assert copies == [f"{paths[1]} has the same answers as {paths[0]}: used once"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{test}", "000000000000", "is of the test '000000000000', not of '{test}'"),
        (",1,0000", ",5,0000", "in the design, so the file was changed"),
        (",1,0000", ",x,0000", "rater: 'x' is not a whole number"),
        (",1,0000", ",0,0000", "the rater 0 is not from 1 to 9999"),
        ("0000000000000001", "me", "the session 'me' is no id"),
        (",1,naturalness", ",2,naturalness", "line 2: trial is '2', but 1 in the design"),
        ("test,rater", "tset,rater", "line 1: the columns are not test,rater,session"),
        (",4.2\r\n", ",4,2\r\n", "line 2: 11 cells, but the header has 10"),
        (",4.2\r\n", ",-4\r\n", "seconds: '-4' is not a time"),
        (",1,4.2", ",many,4.2", "plays: 'many' is not a whole number"),
        ("0000000000000001,2,", "0000000000000002,2,", "line 3: test, rater or session differs"),
        (",,1,1,", ",,9,1,", "the answer '9' is not one of 1, 2, 3, 4, 5"),
        (",none,2,", ",c,2,", "the answer 'c' is not one of a, none, b"),
    ],
)
def test_a_wrong_csv_file_is_refused_by_name_and_line(design, drawn, tmp_path, old, new, message):
    path = write_csv(tmp_path / "a.csv", design, 1, answers_of(design, 1, drawn))
    text = path.read_bytes().decode()
    old, message = (part.replace("{test}", design.test) for part in (old, message))
    assert old in text
    path.write_bytes(text.replace(old, new).encode())
    with pytest.raises(HproError, match=re.escape(message)) as raised:
        read_sessions([path], design)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("session"), "session is missing"),
        (lambda c: c.update(format="x"), "no file of answers of this version"),
        (lambda c: c.update(answers=[]), "has no answers"),
        (lambda c: c.update(answers=3), "no file of answers of this version"),
        (lambda c: c.update(rater=True), "rater: 'True' is not a whole number"),
        (lambda c: c["answers"][4].pop("plays"), "answer 5: its keys are not trial, part,"),
        (lambda c: c["answers"].reverse(), "answer 1: trial is"),
        (lambda c: c["answers"].append(c["answers"][0]), "answers, but rater 1 has"),
        (lambda c: c["answers"].insert(0, None), "answer 1: its keys are not"),
        (lambda c: c["answers"][0].update(answer=4), "the answer '4' is not one of 1, 2"),
    ],
)
def test_a_wrong_json_file_is_refused_by_name(design, drawn, tmp_path, change, message):
    path = write_json(tmp_path / "a.json", design, 1, answers_of(design, 1, drawn))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(HproError, match=re.escape(message)) as raised:
        read_sessions([path], design)
    assert str(raised.value).startswith(str(path))


def test_foreign_and_duplicate_files_are_refused_by_name(design, drawn, tmp_path):
    rows = answers_of(design, 1, drawn)
    first = write_csv(tmp_path / "a.csv", design, 1, rows)
    with pytest.raises(HproError, match=r"a\.csv is given twice"):
        read_sessions([first, tmp_path], design)
    other = write_csv(tmp_path / "b.csv", design, 1, answers_of(design, 1, drawn), "f" * 16)
    with pytest.raises(HproError, match=r"a\.csv and .*b\.csv have different answers of rater 1"):
        read_sessions([tmp_path], design)
    other.unlink()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(HproError, match=r"notes\.txt is no file of answers"):
        read_sessions([tmp_path], design)
    (tmp_path / "notes.txt").unlink()
    for name, content, message in [
        ("z.csv", b"\xff\xfe\x00", r"z\.csv, line 1: byte 0xff is not UTF-8"),
        ("z.csv", b"", r"z\.csv, line 1: the columns are not"),
        ("z.json", b"[1]", r"z\.json holds a list"),
        ("z.json", b"{", r"z\.json, line 1: is not JSON"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HproError, match=message):
            read_sessions([tmp_path], design)
        (tmp_path / name).unlink()
    with pytest.raises(HproError, match=r"missing\.csv does not exist: name files of"):
        read_sessions([tmp_path / "missing.csv"], design)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HproError, match="no file of answers"):
        read_sessions([tmp_path / "empty"], design)


# --- analysis ------------------------------------------------------------------------------------


def answered(design: Design, drawn: Deviations, n: int, folder: Path) -> Path:
    """Files of n raters; the fourth fails the checks, the fifth stops early."""
    folder.mkdir()
    for rater in range(1, n + 1):
        rows = answers_of(design, rater, drawn, attentive=rater != 4)
        write = write_csv if rater % 2 else write_json
        suffix = "csv" if rater % 2 else "json"
        write(folder / f"{rater}.{suffix}", design, rater, rows[:6] if rater == 5 else rows)
    return folder


def test_a_known_effect_is_found_from_the_files_of_raters(design, drawn, tmp_path, capsys):
    n = 2 * len(design.sessions) + 2
    (tmp_path / "out").mkdir()
    tables = analyse(design, [answered(design, drawn, n, tmp_path / "in")], 1, tmp_path / "out")
    out = capsys.readouterr().out
    assert "rater 4 (4.json) is excluded: failed 5 of 5 attention checks" in out
    assert "rater 5 (5.csv) is excluded: incomplete: 6 of " in out
    assert tables.ratings["rater"].nunique() == n - 2

    means = tables.means[tables.means["part"] == "naturalness"].set_index("system")
    assert list(means.index) == ["recordings", "one", "two", "anchor"]
    for system, row in means.iterrows():
        assert row["lo"] <= POPULATION.true_mean(str(system)) <= row["hi"]
    gaps = tables.differences.set_index(["part", "system", "baseline"])
    found = gaps.loc[("naturalness", "two", "one")]
    assert found["lo"] > 0
    assert found["lo"] <= POPULATION.true_mean("two") - POPULATION.true_mean("one") <= found["hi"]
    assert found["p"] <= found["p_holm"] < 0.05
    preference = tables.preference.iloc[0]
    assert (preference["system"], preference["baseline"]) == ("two", "one")
    assert preference["lo"] > 0.5
    counts = preference[["for_system", "no_preference", "for_baseline"]]
    assert counts.sum() == preference["n"] == len(tables.choices)
    assert (tables.agreement["alpha"] > 0).all()

    for name in ("means", "differences", "preference", "agreement", "by_emotion"):
        written = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        pd.testing.assert_frame_equal(written, getattr(tables, name), check_dtype=False)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "MOS-N (naturalness), two minus one: 0." in page
    assert page.count("is excluded") == 2
    assert re.findall(r"<script|https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_the_preference_is_for_the_system_wherever_it_was_played(design, tmp_path):
    """A rater who always prefers "two"."""
    rows = answers_of(design, 1, Deviations(POPULATION, np.random.default_rng(0)))
    for row in rows:
        systems = [design.clips[clip].system for clip in (row["clip"], row["clip_b"]) if clip]
        if "two" in systems and len(systems) == 2:
            row["answer"] = "ab"[systems.index("two")]
    path = write_csv(tmp_path / "a.csv", design, 1, rows)
    (tmp_path / "out").mkdir()
    tables = analyse(design, [path], 1, tmp_path / "out")
    assert tables.preference["preference"].item() == 1
    assert np.isnan(tables.preference["lo"].item())  # one rater
    assert "One rater: no intervals and no tests." in (tmp_path / "out/index.html").read_text()


def test_without_raters_left_there_is_no_result(design, drawn, tmp_path):
    path = write_csv(tmp_path / "a.csv", design, 1, answers_of(design, 1, drawn, attentive=False))
    (tmp_path / "out").mkdir()
    message = "no rater is left: rater 1 (a.csv) is excluded: failed 5 of 5 attention checks"
    with pytest.raises(HproError, match=re.escape(message)):
        analyse(design, [path], 1, tmp_path / "out")
    assert analyse(design, [path], 5, tmp_path / "out").raters["excluded"].tolist() == [""]


@pytest.mark.parametrize("parts", ["preference", "emotion", "naturalness,preference"])
def test_a_test_of_some_parts_is_built_and_analysed(folders, drawn, tmp_path, parts):
    design = read_design(built(folders, tmp_path / "test", "--parts", parts) / "design.json")
    assert {part for part, _ in design.trials_of(1)} == set(parts.split(","))
    paths = [
        write_csv(tmp_path / f"{rater}.csv", design, rater, answers_of(design, rater, drawn))
        for rater in (1, 2, 3)
    ]
    (tmp_path / "out").mkdir()
    tables = analyse(design, paths, 1, tmp_path / "out")
    assert bool(len(tables.preference)) == ("preference" in parts)
    assert bool(len(tables.means)) == (parts != "preference")


def test_verdicts():
    assert verdict(0.3, 0.01) == "higher"
    assert verdict(-0.3, 0.01) == "lower"
    assert verdict(0.3, 0.05) == "no difference shown"
    assert verdict(-0.2, 0.01, "preferred") == "less preferred"
    assert verdict(0.3, float("nan")) == "not tested"
