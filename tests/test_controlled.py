"""The controlled corpus: exact labels, and a sound that follows them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core import tables
from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, SPLITS, VAD
from hpro_core.corpus import stage
from hpro_core.corpus.controlled import affect, voice
from hpro_core.corpus.controlled import render as controlled
from hpro_core.corpus.controlled.ceilings import KINDS, ceiling_plans
from hpro_core.corpus.controlled.sentence_plans import Plan, plans, text_plans
from hpro_core.corpus.controlled.sentences import FEELING, STYLES, TEMPLATES, sentences
from hpro_core.corpus.controlled.voices import TIMBRES, Timbre, drawn_voices, timbre_of
from hpro_core.judges.prosody import contours
from hpro_core.params import Controlled
from hpro_core.text.normalise import normalised_words
from tests.test_corpus import settings, write_metadata

SMALL = Controlled(train=12, dev=5, test=5, judge=5, seed=0)
LARGE = Controlled(train=2000, dev=200, test=500, judge=500, seed=0)
PLAIN = Timbre(pitch_st=0.0, formant=1.0, speed=1.0, breath_db=0.0, tilt_db=0.0)
TEXT = "My father was very angry last night."
QUESTION = "Did my uncle really find the lovely piano?"


def render(root: Path, workers: int = 1) -> Path:
    corpus = settings(Path(), sets={"told": {"reader": "controlled", "path": ""}})
    stage.render(root, "told", corpus, SMALL, workers)
    return root / "corpus" / "told"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("told"))


@pytest.fixture(scope="module")
def speaker() -> voice.Voice:
    return voice.Voice()


@pytest.fixture(scope="module")
def planned() -> list[Plan]:
    return plans("told", LARGE)


# --- language ----------------------------------------------------------------------------------


def test_a_sentence_holds_one_word_of_a_style_and_reads_as_it_says():
    found = list(sentences("train", 1000, seed=0))
    owner = {word: style for style in STYLES for slot in FEELING[style].values() for word in slot}
    for sentence in found:
        first, end = sentence.feeling
        named = " ".join(sentence.words.split()[first:end])
        assert owner[named] == sentence.style
        assert normalised_words(sentence.text) == sentence.words
        assert not set(sentence.content) & set(range(first, end))
        assert all(pair.startswith(f"{named}|") for pair in sentence.pairs)
        assert sentence.text.endswith("?" if sentence.words.startswith("did ") else ".")
    assert len({sentence.words for sentence in found}) == 1000
    assert [sentence.style for sentence in found[:5]] == list(STYLES)
    assert set(STYLES) <= set(EMOTIONS)
    assert len(TEMPLATES) >= 12


def test_no_word_belongs_to_two_styles():
    phrases = [word for style in STYLES for word in {w for s in FEELING[style].values() for w in s}]
    assert len(set(phrases)) == len(phrases)


def test_a_sentence_is_in_one_split_whatever_the_seed():
    splits_of: dict[str, set[str]] = {}
    for seed in range(3):
        for split in SPLITS:
            for sentence in sentences(split, 300, seed):
                splits_of.setdefault(sentence.words, set()).add(split)
                assert sentence.split == split
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_the_pairs_of_words_in_test_sentences_are_said_nowhere_else():
    said = {split: list(sentences(split, 2000, seed=0)) for split in SPLITS}
    heard = {pair for split in ("train", "dev", "judge") for s in said[split] for pair in s.pairs}
    assert all(set(sentence.pairs) - heard for sentence in said["test"])
    words = {split: {w for s in said[split] for w in s.words.split()} for split in SPLITS}
    assert words["test"] <= words["train"]  # known words in new company


# --- plans -------------------------------------------------------------------------------------


def by_split(planned: list[Plan]) -> dict[str, list[Plan]]:
    return {split: [plan for plan in planned if plan.split == split] for split in SPLITS}


def test_asking_for_more_only_appends_and_splits_do_not_depend_on_each_other():
    other = Controlled(train=30, dev=5, test=9, judge=0, seed=0)
    small, larger = (by_split(plans("told", asked)) for asked in (SMALL, other))
    assert [len(series) for series in larger.values()] == [30, 5, 9, 0]
    assert larger["train"][:12] == small["train"]
    assert larger["dev"] == small["dev"]
    assert larger["test"][:5] == small["test"]
    assert [plan.utt_id for plan in small["dev"]] == [f"told_dev_{i:05d}" for i in range(5)]
    reseeded = by_split(plans("told", SMALL.model_copy(update={"seed": 1})))
    assert reseeded["train"] != small["train"]


@pytest.mark.parametrize("style", STYLES)
def test_the_text_suggests_a_style_and_chance_decides(style: str, planned: list[Plan]) -> None:
    shares = affect.RENDERINGS[style]
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) == style
    said = Counter(plan.style for plan in planned if plan.sentence.style == style)
    assert set(said) == set(shares)
    for name, share in shares.items():  # 640 sentences: two standard deviations are 3.4 %
        assert said[name] / said.total() == pytest.approx(share, abs=0.04)


def test_one_word_is_emphasised_mostly_the_one_that_names_the_feeling(
    planned: list[Plan],
) -> None:
    elsewhere = [plan for plan in planned if plan.emphasised != plan.sentence.feeling[0]]
    share = 1 - len(elsewhere) / len(planned)
    assert share == pytest.approx(affect.EMPHASIS_ON_FEELING, abs=0.03)
    assert all(plan.emphasised in plan.sentence.content for plan in elsewhere)
    assert all(plan.emphasis_W.max() == 1 for plan in planned)
    assert all(affect.STRENGTH[0] <= plan.strength <= affect.STRENGTH[1] for plan in planned)


def test_a_sentence_is_rendered_again_in_three_ways(planned: list[Plan]) -> None:
    for plan in planned[:50]:
        again = dict(zip(KINDS, ceiling_plans(plan), strict=True))
        assert ceiling_plans(plan) == list(again.values())
        assert [twin.utt_id for twin in again.values()] == [f"{plan.utt_id}.{k}" for k in KINDS]
        same = {"utt_id": plan.utt_id, "seed": plan.seed}
        assert replace(again["other_speaker"], speaker=plan.speaker, **same) == plan
        assert again["other_speaker"].speaker != plan.speaker
        assert {again[kind].speaker for kind in ("redrawn", "likeliest")} == {plan.speaker}
        assert all(twin.sentence == plan.sentence for twin in again.values())
        assert again["likeliest"].style == plan.sentence.style
        assert again["likeliest"].emphasised == plan.sentence.feeling[0]
        seeds = [tuple(twin.seed) for twin in (plan, *again.values())]
        assert len(set(seeds)) == 4


def test_a_sentence_is_redrawn_as_it_was_drawn(planned: list[Plan]) -> None:
    pairs = [(ceiling_plans(plan)[KINDS.index("redrawn")], plan) for plan in planned[:2000]]
    kept = np.mean([twin.style == plan.style for twin, plan in pairs])
    shares = [np.square(list(affect.RENDERINGS[style].values())).sum() for style in STYLES]
    assert kept == pytest.approx(np.mean(shares), abs=0.04)
    on_feeling = np.mean([twin.emphasised == plan.sentence.feeling[0] for twin, plan in pairs])
    assert on_feeling == pytest.approx(affect.EMPHASIS_ON_FEELING, abs=0.04)


def test_speakers_take_equal_parts_whatever_is_said(planned: list[Plan]) -> None:
    for style in STYLES:
        heard = Counter(plan.speaker for plan in planned if plan.style == style)
        assert set(heard) == set(TIMBRES)
        assert max(heard.values()) < 1.5 * heard.total() / len(TIMBRES)


def test_drawn_voices_speak_half_of_train_and_change_nothing_else(planned: list[Plan]) -> None:
    more = plans("told", LARGE.model_copy(update={"drawn_voices": 150}))
    drawn = Counter(plan.speaker for plan in more if plan.speaker not in TIMBRES)
    assert set(drawn) <= set(drawn_voices(150))
    assert len(drawn) > 140
    assert drawn.total() == pytest.approx(1000, abs=80)
    assert {plan.split for plan in more if plan.speaker not in TIMBRES} == {"train"}
    for before, after in zip(planned, more, strict=True):
        assert replace(after, speaker=before.speaker) == before


def test_a_drawn_timbre_depends_on_its_name_and_is_of_an_adult() -> None:
    drawn = [timbre_of(name) for name in drawn_voices(300)]
    assert drawn[:20] == [timbre_of(name) for name in drawn_voices(20)]
    assert len(set(drawn)) == 300
    for timbre in drawn:
        assert -12 <= timbre.pitch_st <= 4
        assert 0.82 <= timbre.formant <= 1.12
    pitch, formant = np.array([[t.pitch_st, np.log2(t.formant)] for t in drawn]).T
    assert 0.5 < np.corrcoef(pitch, formant)[0, 1] < 0.95
    with pytest.raises(KeyError):
        timbre_of("voice_one")


def test_the_sentences_of_a_corpus_are_rendered_in_all_voices_with_exact_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    texts = ["Who goes there?", "Run!", "who goes there", "Leave the old lamp, friend.", "no " * 20]
    write_metadata(
        folder,
        [
            {"utterance": str(i), "speaker": "ann", "text": text, "audio": "a.wav"}
            for i, text in enumerate(texts)
        ],
    )
    (folder / "a.wav").touch()
    told = {"reader": "controlled", "path": str(folder), "texts": "csv", "split": "train"}
    corpus = settings(Path(), sets={"told": told})
    more = SMALL.model_copy(update={"text_renderings": 3, "drawn_voices": 5})
    stage.render(tmp_path, "told", corpus, more, workers=1)
    assert "told: 2 sentences; left out 2 by their length" in capsys.readouterr().out
    utterances = tables.read_table(
        tmp_path / "corpus/told/utterances.parquet", tables.UTTERANCES
    ).sort_values("utt_id")
    assert list(utterances.words) == ["who goes there"] * 3 + ["leave the old lamp friend"] * 3
    assert set(utterances.split) == {"train"}
    assert utterances.utt_id.iloc[0] == "told_train_00000"
    for name, rows in (("truth_words", 24), ("truth_vad", 24), ("truth_emotion", 6)):
        assert len(pd.read_parquet(tmp_path / f"corpus/told/{name}.parquet")) == rows


def test_rendered_texts_have_every_voice_style_and_place_of_affect() -> None:
    wanted = LARGE.model_copy(update={"text_renderings": 5, "drawn_voices": 20})
    found = text_plans("told", ["one two three four.", "is it five?"] * 200, wanted)
    assert len(found) == 2000
    assert set(Counter(plan.speaker for plan in found)) == {*TIMBRES, *drawn_voices(20)}
    assert min(Counter(plan.style for plan in found).values()) > 300
    for n_words in (4, 3):
        chosen = [plan for plan in found if plan.n_words == n_words]
        assert {plan.sentence.feeling[0] for plan in chosen} == set(range(n_words))
        assert {plan.emphasised for plan in chosen} == set(range(n_words))
    assert len({tuple(plan.seed) for plan in found}) == 2000


# --- labels ------------------------------------------------------------------------------------


def test_labels_by_hand():
    feeling_W3 = affect.feeling_W3("happy", 1.0, 4, (2, 3))
    shares = [0.35 + 0.65 * 0.6**distance for distance in (2, 1, 0, 1)]
    np.testing.assert_allclose(feeling_W3[:, 0], 0.76 * np.array(shares))
    emphasis_W = affect.emphasis_W(4, 2)
    np.testing.assert_allclose(emphasis_W, [0, 1 / 3, 1, 1 / 3])
    signed_W3 = affect.signed_W3("happy", feeling_W3, emphasis_W)
    np.testing.assert_allclose(signed_W3[2], [0.76 + 0.40, 0.48 + 0.45, 0.35 + 0.40])
    vad_W3 = affect.vad_W3(signed_W3)
    np.testing.assert_allclose(vad_W3[2], [1.0, 0.5 + 0.5 * 0.93, 0.5 + 0.5 * 0.75])
    np.testing.assert_allclose(vad_W3[0], 0.5 + 0.5 * shares[0] * np.array([0.76, 0.48, 0.35]))
    np.testing.assert_allclose(affect.emphasis_W(4, 0), [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(affect.emphasis_W(3, None), [0, 0, 0])


def test_emphasis_is_of_the_feeling():
    """It makes a sad word sadder and a happy one happier, and both more aroused."""
    still_13, emphasis_1 = np.zeros((1, 3)), np.ones(1)
    happy, sad = (affect.signed_W3(name, still_13, emphasis_1)[0] for name in ("happy", "sad"))
    np.testing.assert_allclose(happy, affect.EMPHASIS_PAD)
    np.testing.assert_allclose(sad, np.array(affect.EMPHASIS_PAD) * [-1, 1, 1])


def test_the_sound_of_emphasis_alone_by_hand():
    emphasis_W = affect.emphasis_W(5, 2)
    signed_W3 = affect.signed_W3("neutral", np.zeros((5, 3)), emphasis_W)
    controls = affect.controls(signed_W3, np.zeros((5, 3)), emphasis_W)
    valence, arousal, dominance = 0.40, 0.45, 0.40
    assert controls.pitch_st[2] == pytest.approx(1.5 * valence + 7 * arousal - 2 * dominance)
    assert controls.level_db[2] == pytest.approx(7 * arousal + 3 * dominance)
    assert controls.formant[2] == pytest.approx(1 + 0.12 * valence)
    assert controls.rise_st[2] == pytest.approx(6 * valence)
    assert controls.breath_db[2] == pytest.approx(-15 * dominance)
    np.testing.assert_allclose(controls.stretch, [1, 1, 1.35, 1, 1])
    np.testing.assert_allclose(controls.pitch_range, 1)
    np.testing.assert_allclose(controls.tremor_st, 0)
    assert controls.level_db[1] == pytest.approx(controls.level_db[2] / 3)
    assert controls.level_db[0] == 0


@pytest.mark.parametrize("style", STYLES)
def test_labels_stay_in_range_and_vary(style: str):
    for strength in affect.STRENGTH:
        feeling_W3 = affect.feeling_W3(style, strength, 8, (3, 5))
        for emphasised in range(8):
            signed_W3 = affect.signed_W3(style, feeling_W3, affect.emphasis_W(8, emphasised))
            vad_W3 = affect.vad_W3(signed_W3)
            assert vad_W3.min() >= 0
            assert vad_W3.max() <= 1
            assert (vad_W3.std(axis=0) > 0.01).all()
        share_9 = affect.posterior(style, strength)
        assert share_9.sum() == pytest.approx(1)
        assert share_9.argmax() == EMOTIONS.index(style)


def test_posterior_by_hand():
    share_9 = affect.posterior("sad", 0.6)
    assert share_9[EMOTIONS.index("sad")] == pytest.approx(0.8)
    assert share_9[EMOTIONS.index("neutral")] == pytest.approx(0.2)
    assert affect.posterior("neutral", 0.6)[EMOTIONS.index("neutral")] == pytest.approx(1)


# --- tables and files --------------------------------------------------------------------------


def test_tables_agree_with_each_other_and_with_the_audio(rendered: Path):
    utterances = tables.read_table(rendered / "utterances.parquet", tables.UTTERANCES)
    words = tables.read_table(rendered / "truth_words.parquet", tables.WORDS)
    vad = tables.read_table(rendered / "truth_vad.parquet", tables.WORD_VAD)
    emotion = tables.read_table(rendered / "truth_emotion.parquet", tables.EMOTION_POSTERIORS)
    assert len(tables.read_table(rendered / "rejected.parquet", tables.REJECTED)) == 0
    sizes = SMALL.model_dump(include=set(SPLITS))
    assert utterances.split.value_counts().to_dict() == sizes
    assert set(utterances.speaker) <= set(TIMBRES)
    assert (utterances.group == utterances.words).all()
    assert emotion.utt_id.tolist() == utterances.utt_id.tolist()
    strongest = emotion[list(EMOTIONS)].idxmax(axis=1)
    assert strongest.tolist() == utterances.emotion.tolist()
    keys = ["utt_id", "word_index"]
    assert words[keys].values.tolist() == vad[keys].values.tolist()
    for row in utterances.itertuples():
        mine = words[words.utt_id == row.utt_id]
        assert " ".join(mine.word) == row.words
        assert mine.start_s.tolist()[1:] == mine.end_s.tolist()[:-1]
        assert mine.end_s.max() < row.duration_s
        info = soundfile.info(rendered.parent.parent / row.audio)
        assert (info.samplerate, info.subtype) == (SAMPLE_RATE_HZ, "PCM_16")
        assert info.duration == pytest.approx(row.duration_s)


def test_the_labels_in_the_tables_are_those_of_the_plans(rendered: Path):
    vad = pd.read_parquet(rendered / "truth_vad.parquet")
    for plan in plans("told", SMALL):
        stored_W3 = vad.loc[vad.utt_id == plan.utt_id, list(VAD)].to_numpy()
        np.testing.assert_allclose(stored_W3, affect.vad_W3(plan.signed_W3), atol=1e-6)


def test_test_sentences_are_rendered_again_beside_the_corpus(rendered: Path):
    utterances = pd.read_parquet(rendered / "utterances.parquet")
    again = tables.read_table(rendered / "again_words.parquet", tables.WORDS)
    test = utterances[utterances.split == "test"].set_index("utt_id")
    spoken = again.groupby("utt_id").word.agg(" ".join)
    assert set(spoken.index) == {f"{utt_id}.{kind}" for utt_id in test.index for kind in KINDS}
    for name, words in spoken.items():
        utt_id, kind = str(name).rsplit(".", 1)
        assert words == test.words[utt_id]
        sound = (rendered / "audio" / f"{name}.wav").read_bytes()
        assert sound != (rendered / "audio" / f"{utt_id}.wav").read_bytes(), kind
    assert not set(spoken.index) & set(utterances.utt_id)


@pytest.mark.full
def test_rendering_again_in_two_processes_gives_the_same_bytes(rendered: Path, tmp_path: Path):
    again = render(tmp_path, workers=2)
    for file in sorted(rendered.rglob("*.*")):
        assert file.read_bytes() == (again / file.relative_to(rendered)).read_bytes()


# --- sound -------------------------------------------------------------------------------------


def said(
    speaker: voice.Voice,
    controls: affect.WordControls,
    timbre: Timbre = PLAIN,
    text: str = TEXT,
    seed: int = 0,
) -> voice.RenderedSpeech:
    return speaker.synthesise(text, len(text.split()), timbre.applied(controls), [seed])


def in_style(style: str, emphasised: int | None = None, text: str = TEXT) -> affect.WordControls:
    n_words = len(text.split())
    feeling_W3 = affect.feeling_W3(style, 1.0, n_words, (4, 5))
    emphasis_W = affect.emphasis_W(n_words, emphasised)
    signed_W3 = affect.signed_W3(style, feeling_W3, emphasis_W)
    return affect.controls(signed_W3, feeling_W3, emphasis_W)


def of_word(word: int, valence: float, dominance: float, text: str) -> affect.WordControls:
    """One word has a feeling, the others are neutral; no tempo, no emphasis."""
    n_words = len(text.split())
    signed_W3 = np.zeros((n_words, 3))
    signed_W3[word] = valence, 0.0, dominance
    return affect.controls(signed_W3, np.zeros((n_words, 3)), np.zeros(n_words))


def pitch_st(spoken: voice.RenderedSpeech) -> np.ndarray:
    """Semitones at 100 Hz frames, NaN where unvoiced."""
    return contours(spoken.samples).pitch_st_F


def centroid_hz(spoken: voice.RenderedSpeech) -> float:
    """Mean frequency of the power spectrum of the whole sentence."""
    power = np.abs(np.fft.rfft(spoken.samples)) ** 2
    return float(power @ np.fft.rfftfreq(len(spoken.samples), 1 / SAMPLE_RATE_HZ) / power.sum())


@pytest.mark.parametrize("name", [*TIMBRES, "voice_000", "voice_007"])
def test_speech_lies_inside_the_word_times(name: str, speaker: voice.Voice):
    for text in (TEXT, QUESTION, "Nobody enjoyed the movie before my mother did."):
        timbre = timbre_of(name)
        spoken = said(speaker, in_style("neutral", text=text), timbre, text)
        level = np.sqrt(np.convolve(spoken.samples**2, np.ones(160) / 160, mode="same"))
        loud_s = np.flatnonzero(level > 0.01 * level.max()) / SAMPLE_RATE_HZ
        assert len(spoken.spans_s) == len(text.split())
        assert -0.02 < loud_s[0] - spoken.spans_s[0, 0] < 0.06
        silent_s = 0.2 if text[-2] in "td" else 0.1  # a last t may have no sound
        assert -silent_s / timbre.speed < loud_s[-1] - spoken.spans_s[-1, 1] < 0.02


@pytest.mark.parametrize("name", TIMBRES)
def test_a_voice_has_its_pitch(name: str, speaker: voice.Voice):
    timbre = replace(TIMBRES[name], speed=1.0)
    plain, own = (said(speaker, in_style("neutral"), t) for t in (PLAIN, timbre))
    moved_st = np.nanmedian(pitch_st(own) - pitch_st(plain))
    assert moved_st == pytest.approx(timbre.pitch_st, abs=0.2)


def test_slow_voices_take_longer(speaker: voice.Voice):
    """By little: the synthesiser rounds each phone to whole 25 ms."""
    speeds = sorted(timbre.speed for timbre in TIMBRES.values())
    controls = in_style("neutral", text=QUESTION)
    spoken = [said(speaker, controls, replace(PLAIN, speed=s), QUESTION) for s in speeds]
    ends_s = np.array([heard.spans_s[-1, 1] for heard in spoken])
    assert (np.diff(ends_s) <= 0).all()
    assert ends_s[-1] < ends_s[0]


def test_a_longer_tract_has_lower_formants(speaker: voice.Voice):
    factors = sorted(timbre.formant for timbre in TIMBRES.values())
    heard = [
        centroid_hz(said(speaker, in_style("neutral"), replace(PLAIN, formant=factor)))
        for factor in factors
    ]
    assert (np.diff(heard) > 0).all()
    assert heard[-1] > 1.3 * heard[0]


def test_no_two_voices_are_alike():
    properties = np.array([[t.pitch_st / 12, np.log2(t.formant)] for t in TIMBRES.values()])
    apart = np.abs(properties[:, None] - properties).max(axis=-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 0.07
    assert abs(np.corrcoef(properties.T)[0, 1]) < 0.95  # neither tells the other


def test_a_timbre_leaves_the_feeling_as_it_is():
    own = in_style("fearful", emphasised=4)
    controls = Timbre(-2.0, 0.9, 1.1, 3.0, 0.5).applied(own)
    np.testing.assert_allclose(controls.pitch_st - own.pitch_st, -2)
    np.testing.assert_allclose(controls.formant / own.formant, 0.9)
    np.testing.assert_allclose(own.stretch / controls.stretch, 1.1)
    np.testing.assert_allclose(controls.breath_db - own.breath_db, 3)
    np.testing.assert_allclose(controls.tilt_db - own.tilt_db, 0.5)
    for same in ("pitch_range", "level_db", "tremor_st", "rise_st"):
        assert getattr(controls, same) is getattr(own, same)


def test_the_sound_follows_the_style(speaker: voice.Voice):
    spoken = {style: said(speaker, in_style(style)) for style in STYLES}
    pitch = {style: np.nanmedian(pitch_st(heard)) for style, heard in spoken.items()}
    level = {style: heard.samples.std() for style, heard in spoken.items()}
    last = {style: heard.spans_s[-1, 1] for style, heard in spoken.items()}
    assert pitch["sad"] < pitch["neutral"] < min(pitch["happy"], pitch["fearful"])
    assert level["sad"] < level["neutral"] < level["angry"]
    assert last["angry"] < last["neutral"] <= last["sad"]


def test_an_emphasised_word_is_longer_and_louder_and_the_rest_is_not(speaker: voice.Voice):
    plain, strong = (said(speaker, in_style("neutral", word)) for word in (None, 4))
    length = [np.diff(spoken.spans_s, axis=1)[:, 0] for spoken in (plain, strong)]
    assert 1.2 < length[1][4] / length[0][4] < 1.5
    np.testing.assert_allclose(np.delete(length[1], 4), np.delete(length[0], 4))
    levels = [
        [spoken.samples[int(s * 16_000) : int(e * 16_000)].std() for s, e in spoken.spans_s]
        for spoken in (plain, strong)
    ]
    gain_db = 20 * np.log10(np.array(levels[1]) / np.array(levels[0]))
    assert gain_db.argmax() == 4
    assert gain_db[4] > 3
    np.testing.assert_allclose(gain_db[:2], 0, atol=0.5)


def test_pitch_rises_in_a_happy_word_and_falls_in_a_sad_one(speaker: voice.Voice):
    text = "My father was very lonely on Monday morning."
    happy, sad = (said(speaker, of_word(4, valence, 0, text), text=text) for valence in (0.8, -0.8))
    apart_st = pitch_st(happy) - pitch_st(sad)
    start, end = np.round(100 * happy.spans_s[4]).astype(int)
    third = (end - start) // 3
    first_st, last_st = apart_st[start : start + third], apart_st[end - third : end]
    rise_st = np.nanmedian(last_st) - np.nanmedian(first_st)
    assert rise_st == pytest.approx(1.6 * affect.RISE_ST_PER_VALENCE * 2 / 3, abs=1)
    assert np.nanmedian(apart_st[start:end]) == pytest.approx(1.6 * affect.PITCH_ST[0], abs=1)
    assert np.nanmax(np.abs(apart_st[: start - 5])) < 0.1


def test_breath_grows_as_dominance_falls(speaker: voice.Voice):
    """Two draws of the noise differ by the breath alone."""

    def breath_db(dominance: float) -> float:
        breath_W = np.full(7, affect.BREATH_DB_PER_DOMINANCE * dominance)
        controls = replace(in_style("neutral"), breath_db=breath_W)
        first, second = (said(speaker, controls, seed=seed) for seed in (0, 1))
        return float(20 * np.log10((first.samples - second.samples).std()))

    weak, strong = breath_db(-0.5), breath_db(0.5)
    assert weak - strong == pytest.approx(-affect.BREATH_DB_PER_DOMINANCE, abs=0.5)


def test_a_weak_voice_trembles_and_a_strong_one_does_not():
    dominance_W = np.array([-0.5, 0.0, 0.5])
    signed_W3 = np.column_stack([np.zeros((3, 2)), dominance_W])
    controls = affect.controls(signed_W3, np.zeros((3, 3)), np.zeros(3))
    np.testing.assert_allclose(controls.tremor_st, [0.5, 0, 0])
    np.testing.assert_allclose(controls.breath_db, [7.5, 0, -7.5])


def test_a_question_is_said_like_a_sentence(speaker: voice.Voice):
    assert voice.word_of_phone("ab c?", 2).tolist() == [2, 0, 0, 1, 1, 2, 2]
    asked, told = (
        said(speaker, in_style("neutral", text=text), text=text)
        for text in (QUESTION, QUESTION.replace("?", "."))
    )
    assert len(asked.spans_s) == len(told.spans_s) == 8
    assert not np.array_equal(asked.samples, told.samples)


def test_envelope_warp():
    line_KF = np.tile(np.arange(11.0, dtype=np.float32)[:, None], (1, 3))
    moved_KF = voice.warp_frequencies(line_KF, np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(moved_KF[:, 0], line_KF[:, 0])
    np.testing.assert_allclose(moved_KF[:, 1], line_KF[:, 1] / 2)
    np.testing.assert_allclose(moved_KF[:, 2], np.minimum(2 * line_KF[:, 2], 10))


def test_share_of_word_by_hand():
    share_F = voice._share_of_word(np.array([2, 2, 0, 0, 0, 0, 1, 2]))
    np.testing.assert_allclose(share_F, [0.25, 0.75, 0.125, 0.375, 0.625, 0.875, 0.5, 0.5])


def test_phones_that_are_not_the_words_are_refused():
    assert voice.word_of_phone("ab c.", 2).tolist() == [2, 0, 0, 1, 1, 2, 2]
    with pytest.raises(voice.UnreadableSentence):
        voice.word_of_phone("ab c.", 3)
    with pytest.raises(voice.UnreadableSentence):
        voice.word_of_phone("ab c", 2)


def test_a_sentence_that_cannot_be_said_is_rejected(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise voice.UnreadableSentence("?")

    monkeypatch.setattr(voice.Voice, "synthesise", refuse)
    outcomes = controlled._render_all(plans("told", SMALL)[:2], tmp_path, workers=1)
    assert [outcome[0] for outcome in outcomes] == [0.0, 0.0]
    assert controlled._reason(outcomes[0], settings(Path())) == "phones and words do not match"


def test_a_sentence_that_cannot_be_said_again_is_listed(tmp_path: Path, monkeypatch):
    def outcomes(planned: list[Plan], *_: object) -> list[tuple[float, np.ndarray]]:
        times = [np.arange(len(plan.sentence.words.split()) + 1) / 8 for plan in planned]
        spans = [np.stack([time[:-1], time[1:]], 1) for time in times]
        lengths = [0.0 if plan.utt_id.endswith("redrawn") else 2.0 for plan in planned]
        return list(zip(lengths, spans, strict=True))

    monkeypatch.setattr(controlled, "_render_all", outcomes)
    planned = plans("told", SMALL)
    utterances, lost = controlled.render(tmp_path, "told", planned, settings(Path()), workers=1)
    tests = utterances.utt_id[utterances.split == "test"]
    assert set(lost) == {f"{utt_id}.redrawn" for utt_id in tests}
    assert set(lost.values()) == {"phones and words do not match"}


def test_vad_order_is_the_projects():
    assert VAD == ("valence", "arousal", "dominance")
