"""The published judges: tiny random weights in their true formats, shards after a kill, origins."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import whisper
import whisper.normalizers
import yaml
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, WavLMForXVector

from hpro_core import params as p
from hpro_core.analysis import tables
from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.io import sha256_of
from hpro_core.judges import affect, apply, panel, stage, wavlm
from hpro_core.judges.asr import max_tokens
from hpro_core.judges.configured import teacher_judges, teachers_of
from hpro_core.judges.files import WHISPER_SHA256
from hpro_core.judges.wavlm import MIN_DURATION_S, WavlmSpeakerEncoder
from hpro_core.judges.whisper import WhisperTranscripts
from hpro_core.label.audeering import AudeeringWordVad
from hpro_core.label.emotion2vec import Emotion2vecPosteriors
from hpro_core.label.teachers import AlignedUtterance
from hpro_core.params import Compute, Evaluate, Tables
from hpro_core.preflight import checks
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    SCORES,
    SYNTHESIS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)
from tests.published import (
    SPANS,
    die_after_four,
    save_audeering,
    save_emotion2vec,
    save_wavlm,
    save_whisper,
    use_stand_in,
    utterance,
)
from tests.recorded import record
from tests.workflow.project import REPO, Project

pytestmark = pytest.mark.full

CPU = torch.device("cpu")
ON_CPU = Compute(device="cpu", bf16=False)
TEACHERS = {"emotion2vec", "audeering"}


def clips_of_noise(folder: Path, seconds=(0.4, 1.3, 2.2, 0.9, 1.7)) -> list[AlignedUtterance]:
    return [utterance(folder, f"u{i}", SPANS[:1], length, i) for i, length in enumerate(seconds)]


def samples_of(clip: AlignedUtterance) -> np.ndarray:
    return soundfile.read(clip.audio, dtype="float32")[0]


# -------------------------------------------------------------------------------------- Whisper


@pytest.fixture(scope="module")
def whisper_file(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("whisper") / "tiny-v3.pt")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return clips_of_noise(tmp_path_factory.mktemp("noise"))


def transcripts(path, clips, batch_size=2):
    return WhisperTranscripts(path, batch_size, CPU).predict(clips)


def test_transcripts_are_those_of_the_package(whisper_file, noise):
    """Its own loader, spectra of 128 bands and decoder, clip by clip."""
    model = whisper.load_model(str(whisper_file), device="cpu")
    heard = transcripts(whisper_file, noise)
    for clip, text in zip(noise, heard, strict=True):
        samples_T = samples_of(clip)
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples_T), n_mels=128)
        options = whisper.DecodingOptions(
            language="en", without_timestamps=True, fp16=False, sample_len=max_tokens(samples_T)
        )
        assert whisper.decode(model, mel, options).text == text
    assert len({text[:20] for text in heard}) > 2  # not the length of the clips alone


def test_a_batch_of_ragged_clips_equals_one_by_one_in_any_order(whisper_file, noise):
    alone = transcripts(whisper_file, noise, 1)
    assert transcripts(whisper_file, noise, 5) == alone
    assert transcripts(whisper_file, noise[::-1], 3) == alone[::-1]


def test_silence_after_a_clip_lets_it_write_more_and_changes_nothing_else(
    whisper_file, noise, tmp_path
):
    samples_T = np.pad(samples_of(noise[0]), (0, 16000))
    soundfile.write(tmp_path / "padded.wav", samples_T, 16000, subtype="FLOAT")
    padded = AlignedUtterance("u", "", "", (), np.empty((0, 2)), tmp_path / "padded.wav")
    short, longer = transcripts(whisper_file, [noise[0], padded])
    assert len(longer) > len(short) > 0
    assert longer.startswith(short[:-3])  # where a letter of several tokens may be cut


def test_audio_after_30_s_is_ignored(whisper_file, tmp_path):
    samples_T = np.random.default_rng(0).normal(0, 0.1, 16000 * 32)
    for name, length in (("whole", 32), ("cut", 30)):
        soundfile.write(tmp_path / f"{name}.wav", samples_T[: 16000 * length], 16000)
    clips = [
        AlignedUtterance(name, "", "", (), np.empty((0, 2)), tmp_path / f"{name}.wav")
        for name in ("whole", "cut")
    ]
    first, second = transcripts(whisper_file, clips)
    assert first == second


WEIGHT = "decoder.blocks.1.cross_attn.key.weight"
UNFIT = "weights do not fit its dims"
WHISPER_MISFITS = {
    "missing": (lambda s: s["model_state_dict"].pop(WEIGHT), rf"{UNFIT} .*Missing key.*{WEIGHT}"),
    "one too many": (
        lambda s: s["model_state_dict"].update(extra=torch.ones(1)),
        rf"{UNFIT} .*Unexpected key.*extra",
    ),
    "another shape": (
        lambda s: s["model_state_dict"].update({WEIGHT: torch.ones(3, 3)}),
        rf"{UNFIT} .*size mismatch.*cross_attn",
    ),
    "an unknown size": (lambda s: s["dims"].update(n_heads=2), r"model.n_heads is unknown"),
}


@pytest.mark.parametrize("name", WHISPER_MISFITS)
def test_weights_of_whisper_that_do_not_fit_are_named_with_their_file(name, tmp_path):
    change, complaint = WHISPER_MISFITS[name]
    path = save_whisper(tmp_path / "odd.pt", change=change)
    with pytest.raises(HproError, match=rf"odd.pt: {complaint}"):
        WhisperTranscripts(path, 1, CPU)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("n_audio_state", 51_866, "size mismatch"),
        ("n_text_layer", 10**9, "n_text_layer is 1000000000, larger than any size"),
        ("n_vocab", "51866", "n_vocab is '51866'"),
        ("n_text_head", 3, "32 is not divisible by 3 heads"),
        ("n_audio_head", 0, "32 is not divisible by 0 heads|no model can be built"),
    ],
)
def test_odd_sizes_of_whisper_are_named_before_memory_is_taken(key, value, complaint, tmp_path):
    path = save_whisper(tmp_path / "odd.pt", change=lambda s: s["dims"].update({key: value}))
    with pytest.raises(HproError, match=rf"odd\.pt: .*(?:{complaint})"):
        WhisperTranscripts(path, 1, CPU)


def test_other_things_than_weights_of_whisper_are_refused(tmp_path):
    for odd in ([], {"a": 1}):
        path = save_whisper(
            tmp_path / "odd.pt", change=lambda s, odd=odd: s.update(model_state_dict=odd)
        )
        with pytest.raises(
            HproError, match=r"odd\.pt: model_state_dict has values that are not tensors"
        ):
            WhisperTranscripts(path, 1, CPU)


def test_another_file_than_whispers_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(HproError, match=r"model.pt does not exist: use the file of the package"):
        WhisperTranscripts(path, 1, CPU)
    torch.save({"model.encoder.conv1.weight": torch.ones(2)}, path)
    with pytest.raises(HproError, match=r"model.pt is not a checkpoint of openai-whisper"):
        WhisperTranscripts(path, 1, CPU)
    save_whisper(path, n_mels=64)
    with pytest.raises(HproError, match=r"model.pt: n_mels is 64, n_audio_ctx 1500, but 80 or 128"):
        WhisperTranscripts(path, 1, CPU)


def test_the_known_hash_is_in_the_address_of_the_package():
    for name, sha256 in WHISPER_SHA256.items():
        assert whisper._MODELS[name.removesuffix(".pt")].split("/")[-2] == sha256


# ---------------------------------------------------------------------------------------- WavLM


@pytest.fixture(scope="module")
def wavlm_folder(tmp_path_factory):
    return save_wavlm(tmp_path_factory.mktemp("wavlm"))


def voices(folder, clips):
    return np.stack(WavlmSpeakerEncoder(folder, CPU).predict(clips))


def published_embeddings(folder, samples):
    """The model card's recipe, on weights that transformers itself loads."""
    model = WavLMForXVector.from_pretrained(folder, ignore_mismatched_sizes=True).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    inputs = extractor(samples, sampling_rate=16000, padding=True, return_tensors="pt")
    with torch.no_grad():
        return torch.nn.functional.normalize(model(**inputs).embeddings, dim=-1).numpy()


def test_voices_are_those_of_the_model_card(wavlm_folder, noise):
    found = voices(wavlm_folder, noise)
    alone = [published_embeddings(wavlm_folder, [samples_of(clip)])[0] for clip in noise[1:]]
    np.testing.assert_allclose(found[1:], alone, atol=1e-5)  # the first is shorter than 0.5 s
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.01


def test_a_padded_batch_of_transformers_would_hear_the_padding(wavlm_folder, noise):
    """Why clips are heard one by one."""
    samples = [samples_of(clip) for clip in noise[1:3]]
    alone = published_embeddings(wavlm_folder, samples[:1])[0]
    assert np.abs(published_embeddings(wavlm_folder, samples)[0] - alone).max() > 1e-3


def test_a_voice_depends_neither_on_its_neighbours_nor_on_the_order(wavlm_folder, noise):
    found = voices(wavlm_folder, noise)
    np.testing.assert_array_equal(voices(wavlm_folder, noise[::-1]), found[::-1])
    np.testing.assert_array_equal(voices(wavlm_folder, noise[2:3]), found[2:3])


def test_a_short_clip_gets_silence_after_it(wavlm_folder, tmp_path):
    samples_T = np.random.default_rng(3).normal(0, 0.1, 800)
    padded_T = np.pad(samples_T, (0, round(16000 * MIN_DURATION_S) - 800))
    for name, values in (("short", samples_T), ("padded", padded_T)):
        soundfile.write(tmp_path / f"{name}.wav", values, 16000, subtype="FLOAT")
    clips = [
        AlignedUtterance(name, "", "", (), np.empty((0, 2)), tmp_path / f"{name}.wav")
        for name in ("short", "padded")
    ]
    short, padded = voices(wavlm_folder, clips)
    np.testing.assert_array_equal(short, padded)
    assert np.isfinite(short).all()


def test_both_formats_are_read_with_or_without_what_training_alone_reads(noise, tmp_path):
    def bare(weights):
        del weights["objective.weight"], weights["wavlm.masked_spec_embed"]

    first = voices(save_wavlm(tmp_path / "bin"), noise)
    second = voices(save_wavlm(tmp_path / "safe", "safetensors", bare), noise)
    np.testing.assert_array_equal(first, second)


def test_kept_voices_depend_on_the_code_that_loads_and_feeds_the_model(monkeypatch):
    hashed = []
    monkeypatch.setattr(apply, "fingerprint", lambda *paths: hashed.extend(paths))
    apply._code()
    used = (
        wavlm.load_feature_extractor,
        wavlm.load_strict,
        wavlm.read_wav,
        wavlm.pad_to_duration,
        WavlmSpeakerEncoder,
    )
    assert {Path(sys.modules[each.__module__].__file__) for each in used} <= set(hashed)


HEAD = "tdnn.2.kernel.weight"
WAVLM_MISFITS = {
    "missing": (lambda w: w.pop(HEAD), rf"Missing key.*{HEAD}"),
    "one too many": (lambda w: w.update(extra=torch.ones(1)), r"Unexpected key.*extra"),
    "another shape": (lambda w: w.update({HEAD: torch.ones(3)}), r"size mismatch.*tdnn.2"),
    "no head": (
        lambda w: [w.pop(name) for name in list(w) if not name.startswith("wavlm.")],
        r"Missing key.*projector",
    ),
}


@pytest.mark.parametrize("name", WAVLM_MISFITS)
def test_weights_of_wavlm_that_do_not_fit_are_named_with_their_file(name, tmp_path):
    change, complaint = WAVLM_MISFITS[name]
    folder = save_wavlm(tmp_path / "model", change=change)
    with pytest.raises(HproError, match=rf"pytorch_model.bin does not fit .*{complaint}"):
        WavlmSpeakerEncoder(folder, CPU)


def test_another_speaker_model_or_a_voice_that_is_no_number_is_refused(noise, tmp_path):
    folder = save_wavlm(tmp_path / "other", model_type="hubert")
    with pytest.raises(HproError, match=r"config.json: model_type is 'hubert', but 'wavlm'"):
        WavlmSpeakerEncoder(folder, CPU)

    def spoil(weights):
        weights["feature_extractor.bias"][0] = float("nan")

    spoiled = WavlmSpeakerEncoder(save_wavlm(tmp_path / "spoiled", change=spoil), CPU)
    with pytest.raises(HproError, match=r"u0: .*pytorch_model.bin returns values .*u0.wav"):
        spoiled.predict(noise)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**6},
        {"num_hidden_layers": 10**9},
        {"eos_token_id": [["a"]]},
        {"tdnn_dim": [16]},
        {"conv_stride": [0] * 7},
    ],
    ids=str,
)
def test_a_config_that_makes_no_speaker_model_is_named(change, tmp_path):
    with pytest.raises(HproError, match=str(tmp_path)) as caught:
        WavlmSpeakerEncoder(save_wavlm(tmp_path / "model", **change), CPU)
    assert str(caught.value).isprintable()


# ------------------------------------------------------------------------------------- the stage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five test sentences and a system that spoke them: noise, other noise for the system.

    Returns:
        The results folder, and the clips of the system.
    """
    root = tmp_path_factory.mktemp("made") / "run"
    recorded = [
        utterance(root / "corpus/acted/audio", f"acted_{i}", SPANS[: 1 + i % 4], 2.0, i)
        for i in range(5)
    ]
    spoken = [
        utterance(root / "eval/sft/seed0/audio", clip.utt_id, clip.spans_s, 2.1, 10 + i)
        for i, clip in enumerate(recorded)
    ]
    rows, words = [], []
    for clip in recorded:
        audio = str(clip.audio.relative_to(root))
        rows.append((clip.utt_id, "acted", "ann", clip.text, clip.text, audio, 2.0, "test", "g",
                     None, None))  # fmt: skip
        words += [(clip.utt_id, i, w, *clip.spans_s[i], 1.0) for i, w in enumerate(clip.words)]
    utterances = pd.DataFrame(rows, columns=list(UTTERANCES.columns))
    write_table(utterances, root / "corpus/utterances.parquet", UTTERANCES)
    write_table(
        pd.DataFrame(words, columns=list(WORDS.columns)), root / "align/words.parquet", WORDS
    )
    for system, said in (("recordings", recorded), ("sft", spoken)):
        write_synthesis(root, system, said)
    return root, spoken


def be_stand_ins(monkeypatch, spoken):
    """Small shards, FunASR's stand-in, and word times of the system's clips without an aligner."""
    use_stand_in(monkeypatch)
    monkeypatch.setattr(apply, "SHARD_CLIPS", 2)
    times = {samples_of(clip)[:50].tobytes(): clip.spans_s for clip in spoken}
    lost = samples_of(spoken[3])[:50].tobytes()  # its words are not found

    def realigned(aligner, audio_T, words):
        found = audio_T[:50].tobytes()
        return None if found == lost else [tuple(span) for span in times[found]]

    monkeypatch.setattr(panel, "realign", realigned)


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of the results folder, nothing judged yet."""
    root, spoken = made
    be_stand_ins(monkeypatch, spoken)
    return shutil.copytree(root, tmp_path / "run")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Settings of published judges; tests that change a model take a copy."""
    return all_published(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def finished(made, published, tmp_path_factory):
    """A folder with `run`, judged by published models that also made the labels, and `work`."""
    root, spoken = made
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(root, folder / "run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        be_stand_ins(monkeypatch, spoken)
        hear_recordings(folder / "run", published, TEACHERS)
        for system in ("recordings", "sft"):
            judged(folder / "run", system, published, TEACHERS)
    return folder


@pytest.fixture
def judged_run(made, finished, tmp_path, monkeypatch):
    """A copy of the judged results folder; beside it `work` with every shard."""
    be_stand_ins(monkeypatch, made[1])
    return shutil.copytree(finished, tmp_path / "finished") / "run"


def write_synthesis(root, system, clips):
    made = [
        (c.utt_id, "acted", "ann", c.text, c.text, str(c.audio.relative_to(root)), 2.0,
         f"acted_{(i + 1) % 5}", 50, True)
        for i, c in enumerate(clips)
    ]  # fmt: skip
    table = pd.DataFrame(made, columns=list(SYNTHESIS.columns))
    path = root / f"eval/{system}/seed0/synthesis.parquet"
    write_table(table, path, SYNTHESIS)
    record(root, path, system, 0, "synthesise")


EMBEDDED = Evaluate(
    judge_epochs=1,
    judge_learning_rate=1e-3,
    check_every=5,
    dnsmos_windows=1,
    bootstrap_samples=20,
    seed=0,
)


def all_published(folder: Path, **changes) -> Evaluate:
    """Settings of published judges, whose models are made below a folder."""
    models = {
        "asr": "whisper",
        "whisper": str(save_whisper(folder / "tiny-v3.pt")),
        "emotion": "emotion2vec",
        "emotion2vec": str(save_emotion2vec(folder / "emotion2vec")),
        "vad": "audeering",
        "audeering": str(save_audeering(folder / "audeering")),
        "speaker": "wavlm",
        "wavlm": str(save_wavlm(folder / "wavlm")),
        "batch_size": 4,
    }
    return EMBEDDED.model_copy(update=models | changes)


def hear_recordings(root, settings, teachers=frozenset()):
    work = root.parent / "work/recordings"
    stage.judge_recordings(root, settings, REPO / "weights", ON_CPU, work, teachers)


def judged(root, system, settings, teachers=frozenset(), work="work"):
    folder = root / "eval" / system / "seed0"
    work = root.parent / work / system
    stage.judge(root, system, 0, settings, REPO / "weights", ON_CPU, work, teachers)
    record(root, folder / "scores.parquet", system, 0)
    return scores_of(root, system), json.loads((folder / "metrics.json").read_text())


def scores_of(root, system):
    return read_table(root / "eval" / system / "seed0/scores.parquet", SCORES).set_index("utt_id")


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def test_figures_are_those_of_the_published_models(judged_run, published, tmp_path):
    run, settings, scores = judged_run, published, scores_of(judged_run, "sft")
    emotion = Emotion2vecPosteriors(Path(settings.emotion2vec), CPU)
    voice = WavlmSpeakerEncoder(Path(settings.wavlm), CPU)
    recogniser = WhisperTranscripts(Path(settings.whisper), 1, CPU)
    for i, utt_id in enumerate(scores.index):
        own, recording, reference = (
            AlignedUtterance(utt_id, "", "", (), np.empty((0, 2)), run / path)
            for path in (
                f"eval/sft/seed0/audio/{utt_id}.wav",
                f"corpus/acted/audio/{utt_id}.wav",
                f"corpus/acted/audio/acted_{(i + 1) % 5}.wav",
            )
        )
        posteriors = emotion.posteriors([own, recording])
        assert scores.loc[utt_id, "emo_sim"] == pytest.approx(cosine(*posteriors), abs=1e-6)
        pair = voice.predict([own, reference])
        assert scores.loc[utt_id, "speaker_sim"] == pytest.approx(cosine(*pair), abs=1e-5)
        said = whisper.normalizers.EnglishTextNormalizer()(recogniser.predict([own])[0])
        assert scores.loc[utt_id, "transcript"] == said.strip()
    recorded = read_table(run / "judge/recordings/word_vad.parquet", WORD_VAD)
    spoken = [
        utterance(tmp_path / "again", f"acted_{i}", SPANS[: 1 + i % 4], 2.0, i) for i in range(5)
    ]
    expected = AudeeringWordVad(Path(settings.audeering), 1, 4, CPU).word_vad(spoken)
    np.testing.assert_allclose(
        recorded[list(VAD)], np.concatenate(expected)[:, [2, 0, 1]], atol=1e-5
    )
    assert scores["wvad_ccc"].isna().tolist() == [False, False, False, True, False]
    vad = read_table(run / "eval/sft/seed0/word_vad.parquet", WORD_VAD)
    assert set(vad["utt_id"]) == set(scores.index) - {"acted_3"}


def test_recordings_agree_with_themselves_and_no_embedded_judge_is_asked(run, published):
    settings = published
    hear_recordings(run, settings)  # there is no judge/model.safetensors
    scores, metrics = judged(run, "recordings", settings)
    np.testing.assert_allclose(scores["wvad_ccc"], 1.0, atol=1e-6)
    np.testing.assert_allclose(scores["emo_sim"], 1.0, atol=1e-6)
    hashes = {
        "asr": ("openai-whisper", Path(settings.whisper)),
        "emotion": ("emotion2vec_plus_large", Path(settings.emotion2vec, "model.pt")),
        "vad": (
            "wav2vec2-large-robust-12-ft-emotion-msp-dim",
            Path(settings.audeering, "model.safetensors"),
        ),
        "speaker": ("wavlm-base-plus-sv", Path(settings.wavlm, "pytorch_model.bin")),
    }
    for what, (name, path) in hashes.items():
        assert metrics["judges"][what] == f"{name}, sha256 {sha256_of(path)}"
    assert metrics["judges"]["dnsmos"].startswith("dnsmos, sha256 ")
    assert metrics["judged_by_teachers"] == {}
    marks = json.loads((run / "judge/metrics.json").read_text())
    assert "trained_on" not in marks
    assert set(marks["judges"]) == {"emotion", "vad"}
    assert marks["floor"]["acted"]["n"] == 5


def test_a_killed_judge_goes_on_and_ends_with_the_same_bytes(
    judged_run, published, monkeypatch, capsys
):
    run, settings = judged_run, published
    outputs = [run / f"eval/sft/seed0/{n}.parquet" for n in ("scores", "word_vad")]
    straight = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    shutil.rmtree(run.parent / "work")
    heard = die_after_four(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        judged(run, "sft", settings)
    capsys.readouterr()
    monkeypatch.setattr(WhisperTranscripts, "predict", None)  # its shards are all there
    judged(run, "sft", settings)
    assert heard[4:] == ["acted_2", "acted_3", "acted_4"]
    assert [path.read_bytes() for path in outputs] == straight
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert re.search(r"work/sft/asr: 3 shards, 3 found, 0 of other", said)
    assert re.search(r"work/sft/emotion: 3 shards, 1 found, 0 of other", said)


def test_other_weights_are_judged_anew_and_another_batch_size_is_not(judged_run, tmp_path, capsys):
    run, settings = judged_run, all_published(tmp_path / "models")  # of the same weights
    first = scores_of(run, "sft")
    before = json.loads((run / "eval/sft/seed0/metrics.json").read_text())
    capsys.readouterr()
    judged(run, "sft", settings.model_copy(update={"batch_size": 1}))
    assert capsys.readouterr().out.count("3 found, 0 of other") == 4  # all but word_vad
    weights = load_file(Path(settings.audeering, "model.safetensors"))
    save_file(weights | {"classifier.out_proj.bias": torch.ones(3) / 4},
              Path(settings.audeering, "model.safetensors"))  # fmt: skip
    save_whisper(Path(settings.whisper), change=lambda s: s["model_state_dict"][WEIGHT].mul_(-1))
    second, after = judged(run, "sft", settings)
    said = capsys.readouterr().out
    assert re.search(r"sft/asr: 3 shards, 0 found, 3 of other", said)
    assert re.search(r"sft/word_vad: 2 shards, 0 found, 2 of other", said)
    assert re.search(r"sft/emotion: 3 shards, 3 found, 0 of other", said)
    assert first["transcript"].tolist() != second["transcript"].tolist()
    assert {k for k in before["judges"] if before["judges"][k] != after["judges"][k]} == {
        "asr", "vad",
    }  # fmt: skip


def test_one_published_judge_of_affect_goes_with_the_embedded_one(run, published, tmp_path):
    torch.manual_seed(0)
    own = affect.AffectJudge({"acted": 1}).eval()
    affect.save(own, run / "judge")
    settings = published.model_copy(update={"vad": "embedded", "asr": "embedded"})
    hear_recordings(run, settings)
    found = read_table(run / "judge/recordings/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    clip = utterance(tmp_path / "again", "acted_1", SPANS[:2], 2.0, 1)
    posterior = Emotion2vecPosteriors(Path(settings.emotion2vec), CPU).posteriors([clip])[0]
    row = found.set_index("utt_id").loc["acted_1", list(EMOTIONS)]
    np.testing.assert_allclose(row.to_numpy(dtype=float), posterior, atol=1e-6)
    vad = read_table(run / "judge/recordings/word_vad.parquet", WORD_VAD)
    _, expected = own.judge("acted", affect.input_features(samples_of(clip)), SPANS[:2])
    np.testing.assert_allclose(vad[vad["utt_id"] == "acted_1"][list(VAD)], expected, atol=1e-6)
    assert "trained_on" in json.loads((run / "judge/metrics.json").read_text())


def test_embedded_judges_keep_no_shards_and_are_named(run):
    torch.manual_seed(0)
    affect.save(affect.AffectJudge({"acted": 1}), run / "judge")
    hear_recordings(run, EMBEDDED)
    _, metrics = judged(run, "sft", EMBEDDED, TEACHERS)
    assert not (run.parent / "work").exists()
    assert metrics["judged_by_teachers"] == {}
    own = sha256_of(run / "judge/model.safetensors")
    assert metrics["judges"]["vad"] == f"embedded affect network, sha256 {own}"
    assert metrics["judges"]["asr"].startswith("whisper_tiny_en, sha256 1a5afae0")


def test_next_to_nothing_said_gets_its_marks(judged_run, published, monkeypatch):
    run = judged_run
    shutil.rmtree(run.parent / "work")
    soundfile.write(run / "eval/sft/seed0/audio/acted_0.wav", np.full(300, 0.01), 16000)
    monkeypatch.setattr(panel, "realign", lambda aligner, audio_T, words: None)
    scores, metrics = judged(run, "sft", published)
    assert np.isfinite(scores.loc["acted_0", ["emo_sim", "speaker_sim"]].to_numpy(float)).all()
    assert metrics["test_sets"]["acted"]["n_wvad"] == 0  # no word was found, and none is heard


# ------------------------------------------------------------------------- who judged, in figures


def test_a_judge_that_was_a_teacher_is_told():
    both = EMBEDDED.model_copy(update={"emotion": "emotion2vec", "vad": "audeering"})
    assert teacher_judges(both, {"emotion2vec", "weak"}) == {"emo_sim": "emotion2vec_plus_large"}
    assert set(teacher_judges(both, TEACHERS)) == {"emo_sim", "wvad_ccc"}
    assert teacher_judges(both, {"weak"}) == teacher_judges(EMBEDDED, TEACHERS) == {}


@pytest.mark.parametrize(
    ("checkpoint", "teachers"),
    [("", {"weak"}), ("model.pt", {"weak", "emotion2vec", "audeering"})],
)
def test_a_codec_that_is_brought_had_the_papers_teachers(tmp_path, checkpoint, teachers):
    params = yaml.safe_load((REPO / "params.yaml").read_text())
    params["codec"]["checkpoint"] = checkpoint
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    label = p.read_section(tmp_path / "params.yaml", "label", p.Label)
    codec = p.read_section(tmp_path / "params.yaml", "codec", p.Codec)
    assert teachers_of(label, codec) == teachers


ROWS = Tables(comparison=["recordings", "sft"], progressive=["sft"], ablation=["sft"])


def test_tables_say_which_figures_are_not_independent(judged_run, published):
    run = judged_run
    tables.write_tables(run, ROWS, [0], published)
    text = (run / "tables/comparison.md").read_text()
    assert "EMO-SIM is not independent here: emotion2vec_plus_large judged it and also" in text
    assert "wVAD-CCC is not independent here: wav2vec2-large-robust-12-ft" in text
    marks = json.loads((run / "judge/metrics.json").read_text())
    assert set(marks["judged_by_teachers"]) == {"emo_sim", "wvad_ccc"}


@pytest.mark.full
def test_figures_of_different_judges_are_not_put_into_one_table(judged_run, published):
    run, settings, rows = judged_run, published, ROWS
    judged(run, "sft", settings.model_copy(update={"asr": "embedded"}), TEACHERS)
    complaint = (
        r"eval/sft/seed0/metrics.json and .*eval/recordings/seed0/metrics.json are of different "
        r"judges \(asr: whisper_tiny_en, .*, and openai-whisper, sha256"
    )
    with pytest.raises(HproError, match=complaint):
        tables.write_tables(run, rows, [0], settings)
    judged(run, "sft", settings, {"emotion2vec"})
    with pytest.raises(HproError, match=r"different judges \(judges that were teachers: "):
        tables.write_tables(run, rows, [0], settings)
    old = run / "eval/sft/seed0/metrics.json"
    old.write_text(json.dumps({"system": "sft", "test_sets": {}}))
    with pytest.raises(HproError, match=r"does not name the judges: run `hpro judge` again"):
        tables.write_tables(run, rows, [0], settings)
    assert not (run / "tables").exists()


# ------------------------------------------------------------------- settings, preflight, workflow


PAPERS = {
    "asr": "whisper", "whisper": "m/large-v3.pt", "emotion": "emotion2vec", "emotion2vec": "m/e2v",
    "vad": "audeering", "audeering": "m/aud", "speaker": "wavlm", "wavlm": "m/wavlm",
}  # fmt: skip
FILES = [
    "m/large-v3.pt", "m/e2v/model.pt", "m/e2v/config.yaml", "m/e2v/tokens.txt", "m/aud/config.json",
    "m/aud/preprocessor_config.json", "m/aud/model.safetensors", "m/wavlm/config.json",
    "m/wavlm/preprocessor_config.json", "m/wavlm/model.safetensors",
]  # fmt: skip


def shipped(**evaluate) -> dict:
    settings = p.read_yaml(REPO / "params.yaml")
    settings["evaluate"] |= evaluate
    return settings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("asr", "whisper", "evaluate.whisper: name the file large-v3.pt of openai-whisper"),
        ("emotion", "emotion2vec", "evaluate.emotion2vec: name the folder emotion2vec_plus_large"),
        ("vad", "audeering", "evaluate.audeering: name the folder wav2vec2-large-robust-12"),
        ("speaker", "wavlm", "evaluate.wavlm: name the folder wavlm-base-plus-sv"),
        ("speaker", "campplus", "evaluate.speaker: input should be 'embedded' or 'wavlm'"),
        ("batch_size", 0, "evaluate.batch_size: input should be greater than or equal to 1"),
    ],
)
def test_settings_of_judges_that_do_not_fit_are_named(key, value, message):
    with pytest.raises(HproError, match=message):
        p.validate_section(shipped(**{key: value}), p.Params, "params.yaml")


def test_preflight_looks_for_the_judges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = p.Params.model_validate(shipped(**PAPERS) | {"base": ""})
    found = {check.what: check for check in checks(asked, REPO / "weights")}
    assert {name for name in FILES if found[name].status == "FAIL"} == set(FILES)
    assert "exact labels for the affect judge" not in found  # nobody asks for it
    assert "no commercial use" in found["licence of audeering's model"].finding
    Path("m").mkdir()
    Path("m/large-v3.pt").write_text("another")
    said = {check.what: check.finding for check in checks(asked, REPO / "weights")}
    assert "e5b1a55b" in said["m/large-v3.pt"]
    assert "is expected: get it again" in said["m/large-v3.pt"]
    embedded = p.Params.model_validate(shipped() | {"base": ""})
    assert not set(FILES) & {check.what for check in checks(embedded, REPO / "weights")}


@pytest.mark.full
@pytest.mark.workflow
def test_the_rules_ask_for_the_judges_files_and_a_gpu(tmp_path):
    project = Project.copied(tmp_path / "project", data=False)
    rule = project.folder / "workflow/rules/judges.smk"
    rule.write_text(rule.read_text().replace("work:q} --th", "work:q} --gpu {resources.gpu} --th"))
    settings = yaml.safe_load((project.folder / "params.yaml").read_text()) | {"base": ""}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(settings))
    target = "results/embedded/eval/recordings/seed0/metrics.json"
    dry = ("snakemake", "--cores", "2", "--dry-run", "--printshellcmds", "--", target)
    asked = r"hpro judge recordings .* --work work/embedded/judge_recordings_seed0 --gpu {} "
    recordings = r"hpro judge-recordings .* --work work/embedded/judge_recordings --gpu {} "
    said = project.run(*dry).stdout
    assert re.search(asked.format(0), said)
    assert re.search(recordings.format(0), said)
    assert re.search(r"^judge_train +1$", said, re.MULTILINE)
    settings["evaluate"] |= PAPERS
    (project.folder / "params.yaml").write_text(yaml.safe_dump(settings))
    missing = project.run(*dry, check=False)
    assert missing.returncode == 1
    for name in FILES:
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    said = project.run(*dry).stdout
    assert re.search(asked.format(1), said)
    assert re.search(recordings.format(1), said)
    assert not re.search(r"^judge_train +1$", said, re.MULTILINE)
