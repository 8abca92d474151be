"""The probe: a policy's sentences are spoken, decoded and judged, always the same way."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hpro_core import params as p
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file, write_wav
from hpro_core.errors import HproError
from hpro_core.io import write_json
from hpro_core.judges import affect
from hpro_core.judges.probe import SentenceJudge, watch
from hpro_core.judges.realignment import read_wav
from hpro_core.policy.interface import END_OF_SPEECH
from hpro_core.policy.sft import make_policy
from hpro_core.reward.probe import Probe, SentenceScores, probe_set
from hpro_core.tables import UTTERANCES, write_table
from hpro_core.text.normalise import APOSTROPHES, normalised_words
from hpro_core.train.batching import Example
from tests.rank_training import POLICY
from tests.results import run_in, write_dataset

PARAMS = Path(__file__).parents[1] / "params.yaml"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def policy(examples):
    torch.manual_seed(0)
    return make_policy(POLICY, examples).eval()


@pytest.fixture(scope="module")
def settings():
    return p.read_section(PARAMS, "synthesis", p.Synthesis)


def test_measures_are_sums_and_means_over_the_sentences(policy, examples, settings):
    sentences, references = probe_set(examples, [], 4, seed=0)
    heard = []

    def sound_of(tokens, voices):
        assert [v.utt_id for v in voices] == [references[e.utt_id].utt_id for e in sentences]
        heard.append([len(t) for t in tokens])
        return [np.full(640 * len(t), i, dtype=np.float32) for i, t in enumerate(tokens)]

    said = [
        SentenceScores(1, 5, 0.5, 0.9),
        SentenceScores(0, 3, None, 0.7),
        SentenceScores(2, 2, 0.1, 0.2),
    ]
    said.append(SentenceScores(0, 10, -0.2, 1.0))
    probe = Probe(
        sentences, references, settings, sound_of, lambda e, audio: said[int(audio[0])], CPU
    )
    first, second = probe(policy), probe(policy)
    assert first == second  # the same random numbers at every call
    assert first["wer"] == pytest.approx(3 / 20)
    assert first["wvad_ccc"] == pytest.approx((0.5 + 0 + 0.1 - 0.2) / 4)
    assert first["emo_sim"] == pytest.approx(2.8 / 4)
    assert 0 <= first["stopped"] <= 1
    assert first["length_ratio"] == pytest.approx(
        sum(heard[0]) / sum(len(e.tokens) for e in sentences)
    )


def test_a_policy_that_says_nothing_is_an_error(policy, examples, settings, monkeypatch):
    plain = policy.logits

    def only_the_end(hidden):
        return torch.zeros_like(plain(hidden)).index_fill(-1, torch.tensor([END_OF_SPEECH]), 1e4)

    monkeypatch.setattr(policy, "logits", only_the_end)
    silent = settings.model_copy(update={"min_ratio": 0.0})
    sentences, references = probe_set(examples, [], 2, seed=0)
    probe = Probe(sentences, references, silent, lambda *_: [], lambda *_: None, CPU)
    with pytest.raises(HproError, match=r"generated no speech token \(2 of 2.*now 0"):
        probe(policy)


def test_the_set_depends_on_the_seed_alone_and_references_are_others(examples):
    sentences, references = probe_set(examples, [], 3, seed=1)
    shuffled, _ = probe_set(examples[::-1], [], 3, seed=1)
    assert [e.utt_id for e in sentences] == [e.utt_id for e in shuffled]
    for sentence in sentences:
        reference = references[sentence.utt_id]
        assert reference.utt_id != sentence.utt_id
        assert reference.speaker == sentence.speaker
    assert len(probe_set(examples, [], 100, seed=1)[0]) == len(examples)
    alone = [replace(e, speaker=e.utt_id) for e in examples]
    sentences, references = probe_set([*alone[:2], examples[2]], examples[3:], 100, seed=1)
    assert [e.utt_id for e in sentences] == [examples[2].utt_id]
    with pytest.raises(HproError, match=f"none of the {len(alone)} dev sentences has a reference"):
        probe_set(alone, [], 100, seed=1)


# --- the embedded judges, on a real clip

CLIPS = Path(__file__).parents[1] / "data" / "raw" / "amazon_queen"


@pytest.fixture(scope="module")
def clip():
    with (CLIPS / "metadata.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if 1.5 < float(row["duration_s"]) < 3.0 and len(row["text"].split()) >= 5:
                return row, decode_file(CLIPS / row["audio"]).astype(np.float32)
    raise AssertionError("no clip of that length")


@pytest.fixture(scope="module")
def judge(clip, tmp_path_factory):
    """Real ears and aligner; the affect judge has random weights and the scale of the clip."""
    row, audio = clip
    root = tmp_path_factory.mktemp("run")
    spoken = normalised_words(row["text"]).split()
    spans = [(s.start_s, s.end_s) for s in PocketsphinxAligner().align(audio, spoken)]
    (root / "corpus").mkdir()
    write_wav(root / "corpus" / "a.wav", audio)
    audio = read_wav(root / "corpus/a.wav")
    table = {
        **{"utt_id": "a", "corpus": "acted", "speaker": "x", "text": row["text"]},
        **{
            "words": " ".join(spoken),
            "group": "g",
            "audio": "corpus/a.wav",
            "emotion": None,
            "label": None,
        },
        **{"duration_s": len(audio) / SAMPLE_RATE_HZ, "split": "dev"},
    }
    write_table(pd.DataFrame([table]), root / "corpus" / "utterances.parquet", UTTERANCES)
    weights = Path(__file__).parents[1] / "weights"
    _save_judge(root, audio)
    example = Example(
        utt_id="a", corpus="acted", speaker="x", text=row["text"], words=tuple(spoken),
        symbols=np.array([1]), symbol_word=np.array([0]), transcript=np.array([0, 1]),
        tokens=np.array([0]), speaker_embedding=np.zeros(2), emotion=np.zeros(9),
        spans_s=np.array(spans), vad=np.zeros((len(spoken), 3)),
    )  # fmt: skip
    return SentenceJudge(root, [example], weights, threads=1), example, audio


def _save_judge(root, audio):
    torch.manual_seed(0)
    chance = affect.AffectJudge({"acted": 1})
    chance.set_scale("acted", [affect.input_features(audio)])
    affect.save(chance, root / "judge")


def test_the_recording_itself_is_judged_well_and_noise_is_not(judge):
    recogniser, example, audio = judge
    recorded = recogniser(example, audio)
    assert recorded.emo_sim == pytest.approx(1.0, abs=1e-5)
    assert recorded.n_errors <= 0.5 * recorded.n_words
    assert recorded.wvad_ccc > 0.8
    noise = np.random.default_rng(0).normal(0, 0.1, len(audio)).astype(np.float32)
    other = recogniser(example, noise)
    assert other.n_errors > recorded.n_errors
    assert other.wvad_ccc is None or other.wvad_ccc < recorded.wvad_ccc


@pytest.mark.parametrize("sign", APOSTROPHES, ids=ascii)
def test_perfect_speech_has_no_errors_however_apostrophes_are_typed(judge, monkeypatch, sign):
    """The text and the recogniser's transcript, each with one sign or the other."""
    recogniser, example, audio = judge
    straight = "I can't see, and she's sure they're here."
    for text, heard in ((straight, sign), (sign, straight)):
        text, heard = (straight.replace("'", t) if len(t) == 1 else t for t in (text, heard))
        monkeypatch.setattr(
            recogniser._recogniser, "transcribe", lambda audio_T, heard=heard: heard
        )
        judged = recogniser(replace(example, text=text), audio)
        assert (judged.n_errors, judged.n_words) == (0, 11)


def test_a_watch_loads_its_judges_at_the_first_probe(policy, examples, settings, tmp_path):
    run = run_in(tmp_path)
    write_dataset(tmp_path, examples[:4], examples[4:])
    reward = p.read_section(PARAMS, "reward", p.Reward)
    corpora = {e.corpus: 1 for e in examples}
    write_json(tmp_path / "judge/config.json", {"trained_on": corpora})
    watching = watch(run, reward, settings, PARAMS.with_name("weights"))
    chosen, _ = probe_set(examples[4:], examples[:4], reward.probe_sentences, settings.seed)
    assert [e.utt_id for e in watching.sentences] == [e.utt_id for e in chosen]
    assert {path.relative_to(tmp_path).parts[0] for path in watching.files} == {"judge", "speech"}
    with pytest.raises(HproError, match=r"judge/model\.safetensors does not exist"):
        watching.probe(policy)


def test_a_probe_leaves_out_corpora_that_the_judge_does_not_know(
    examples, settings, tmp_path, capsys
):
    run = run_in(tmp_path)
    mine = [replace(e, utt_id=f"mine_{e.utt_id}", corpus="mine") for e in examples[4:]]
    write_dataset(tmp_path, examples[:4], [*examples[4:], *mine])
    reward = p.read_section(PARAMS, "reward", p.Reward)
    known = {e.corpus: 1 for e in examples}
    write_json(tmp_path / "judge/config.json", {"trained_on": known})
    watching = watch(run, reward, settings, PARAMS.with_name("weights"))
    assert {e.corpus for e in watching.sentences} == known.keys()
    assert "probes: without the dev sentences of mine, on which the aff" in capsys.readouterr().out
    write_json(tmp_path / "judge/config.json", {"trained_on": {"other": 1}})
    with pytest.raises(HproError, match=r"trained on other, .* rewards are of .*mine: set reward"):
        watch(run, reward, settings, PARAMS.with_name("weights"))
