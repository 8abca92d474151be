"""`hpro say` and `hpro export`: sentences of one's own, conditions, exported folders."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner

from hpro_core.cli import app
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.params import Compute, Speech, Synthesis, read_section
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.llm_file import QWEN_FOLDER, read_llm
from hpro_core.policy.model import PRESETS, PolicyConfig, SpeechLM
from hpro_core.policy.sft import load_policy, save_policy
from hpro_core.say import speaker as speaker_module
from hpro_core.say.policy_folder import check_sums, newest_policy, open_policy
from hpro_core.say.sentences import (
    MAX_WORDS,
    Sentence,
    check,
    notes,
    read_recordings,
    read_sentences,
)
from hpro_core.say.speaker import END_OF_PROMPT, Speaker, example_of, instruction_of
from hpro_core.speech import cosyvoice2_stage
from hpro_core.speech.cosyvoice2 import FlowDecoder, S3Tokenizer
from hpro_core.speech.stage import encode
from hpro_core.speech.tokenizer import SpeechTokenizer, TokenizerConfig
from hpro_core.speech.vocoder import ISTFT, Vocoder, VocoderConfig
from hpro_core.synthesis.stage import load_decoder, sample_batch, sample_tokens
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, read_table, write_table
from hpro_core.text.normalise import normalised_words
from hpro_core.text.phones import N_SYMBOLS
from hpro_core.text.phones import encode as phones
from hpro_core.text.tokenizers import load_frontend
from hpro_core.train.checkpoint import save_model
from tests.test_cosyvoice2 import Loud, Recorder, s3_stand_in, tone  # noqa: F401
from tests.test_speech import vowel
from tests.test_text_tokenizers import byte_pairs

REPO = Path(__file__).parents[1]
CPU = torch.device("cpu")
TINY = TokenizerConfig(width=32, speaker_dim=8, encoder_blocks=1, decoder_blocks=1, frame_blocks=1)
TEXTS = ("Where is my hat?", "The happy dog ran home today, and she is angry!", "No.")
COSYVOICE2 = CosyVoice2Config(
    width=16, blocks=2, heads=4, key_heads=2, hidden=40, vocabulary=300, rope_theta=1e6
)


def write_settings(root: Path) -> None:
    """The parts of params.yaml that a run keeps."""
    every = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    (root / "params").mkdir(parents=True)
    part = {"synthesis": every["synthesis"] | {"max_ratio": 1.0}}
    (root / "params/synthesise.yaml").write_text(yaml.safe_dump(part))
    (root / "params/report.yaml").write_text(yaml.safe_dump(every | part))


def write_corpus(root: Path, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    rows = []
    (root / "audio").mkdir()
    for i, (corpus, split) in enumerate((("controlled", "train"), ("acted", "test"))):
        audio = vowel(1.0 + 0.3 * i, 120.0 + 40 * i)
        soundfile.write(root / f"audio/u{i}.wav", audio, rate_hz)
        seconds = len(audio) / rate_hz
        rows.append(
            (f"u{i}", corpus, "s", "Ah.", "ah", f"audio/u{i}.wav", seconds, split, "g", None, None)
        )
    table = pd.DataFrame(rows, columns=list(UTTERANCES.columns))
    write_table(table, root / "corpus/utterances.parquet", UTTERANCES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Results of a run with a miniature policy and two recordings."""
    root = tmp_path / "results/embedded"
    write_settings(root)
    write_corpus(root)
    torch.manual_seed(0)
    sizes = PRESETS["miniature"]
    config = PolicyConfig(**sizes, n_symbols=N_SYMBOLS, reference_width=8, tokens_per_symbol=1.7)
    save_policy(root / "policy/hpro/seed0", SpeechLM(config).eval(), variant="hpro", seed=0)
    save_model(root / "speech/tokenizer", SpeechTokenizer(TINY), {"model": asdict(TINY)})
    sizes_of_vocoder = VocoderConfig(width=16, blocks=1, pitch_width=16, pitch_blocks=1)
    vocoder = Vocoder(sizes_of_vocoder)
    save_model(root / "speech/vocoder", vocoder, {"kind": ISTFT, "model": asdict(sizes_of_vocoder)})
    return root


@pytest.fixture
def policy(run: Path) -> Path:
    return run / "policy/hpro/seed0"


@pytest.fixture
def reference(run: Path) -> Path:
    return run / "audio/u1.wav"


def speaker_of(folder: Path, sentences: list[Sentence]) -> Speaker:
    found = open_policy(folder)
    check(sentences, found.kind)
    settings = read_section(found.settings, "synthesis", Synthesis)
    return Speaker(found, settings, read_recordings(sentences), CPU)


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def refusal(*arguments: object) -> str:
    with pytest.raises(HproError) as error:
        invoke(*arguments)
    return str(error.value)


# --- equality with `hpro synthesise` --------------------------------------------------------------


def test_tokens_and_sound_are_those_of_synthesise(run, policy, reference):
    sentences = [Sentence(text, reference, Path(f"{i}.wav")) for i, text in enumerate(TEXTS)]
    speaker = speaker_of(policy, sentences)
    speech = Speech(**yaml.safe_load((run / "params/report.yaml").read_text())["speech"])
    encode(run, speech, Compute(threads=1, device="cpu", bf16=False))
    stored = read_table(run / "speech/speech_tokens.parquet", SPEECH_TOKENS).set_index("utt_id")
    row = stored.loc["u1"]
    voice = example_of("u1", row["speaker_embedding"], np.asarray(row["tokens"], dtype=np.int64))
    examples = []
    for text in TEXTS:
        symbols, words = phones(text, normalised_words(text))
        examples.append(
            replace(voice, utt_id=text, symbols=np.array(symbols), symbol_word=np.array(words))
        )
    loaded = load_policy(policy)
    references = dict.fromkeys(TEXTS, voice)
    expected = sample_tokens(loaded, examples, references, speaker.settings, 3, CPU, "test")
    alone = speaker._voice(reference)  # not rounded as in a batch, which Griffin-Lim would amplify
    np.testing.assert_allclose(alone.speaker_embedding, voice.speaker_embedding, atol=1e-5)
    for sentence in sentences:
        tokens = speaker.tokens(sentence, 3).tokens
        assert torch.equal(tokens, expected[sentence.text].tokens)
        (audio_T,) = load_decoder(run, CPU)([tokens.numpy()], [alone])
        assert np.array_equal(speaker.say(sentence, 3).audio_T, audio_T)
    others = [speaker.tokens(sentence, 4).tokens.tolist() for sentence in sentences]
    assert others != [expected[text].tokens.tolist() for text in TEXTS]


def test_the_reference_may_have_another_rate_and_format(run, policy, tmp_path):
    audio = soundfile.read(run / "audio/u1.wav")[0]
    stereo = np.stack([audio, audio], axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, SAMPLE_RATE_HZ)
    plain, other = (
        Sentence("No.", p, Path("a.wav")) for p in (run / "audio/u1.wav", tmp_path / "a.flac")
    )
    speaker = speaker_of(policy, [plain, replace(other, out=Path("b.wav"))])
    assert torch.equal(speaker.tokens(plain, 0).tokens, speaker.tokens(other, 0).tokens)


# --- the command ----------------------------------------------------------------------------------


def test_say_writes_audio_and_prints_its_length(run, policy, reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = invoke("say", TEXTS[1], "--reference", reference, "--out", "new/a.wav")
    assert "policy: results/embedded/policy/hpro/seed0\n" in printed
    audio, rate_hz = soundfile.read(tmp_path / "new/a.wav")
    n_tokens = len(audio) // 640
    seconds = len(audio) / rate_hz
    assert rate_hz == SAMPLE_RATE_HZ
    assert f"new/a.wav: {seconds:.2f} s, {n_tokens} tokens, " in printed
    assert np.abs(audio).max() > 0
    again = invoke("say", TEXTS[1], "--reference", reference, "--policy", policy, "--out", "b.wav")
    assert again.endswith(printed.partition("a.wav")[2])
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "new/a.wav").read_bytes()


def test_a_cut_sentence_is_called_cut(policy, reference, tmp_path):
    """One token per symbol is too short for the miniature policy, which seldom draws the end."""
    out = tmp_path / "a.wav"
    printed = invoke("say", TEXTS[0], "--reference", reference, "--policy", policy, "--out", out)
    symbols = len(phones(TEXTS[0], normalised_words(TEXTS[0]))[0])
    assert printed.endswith(f"{symbols} tokens, cut at the longest allowed length\n")


def test_the_newest_run_is_the_one_of_the_newest_policy(run, tmp_path):
    older = tmp_path / "results/zzz/policy/hpro/seed0"
    shutil.copytree(run / "policy/hpro/seed0", older)
    os.utime(older / "model.safetensors", (1, 1))
    assert newest_policy(tmp_path / "results") == run / "policy/hpro/seed0"
    with pytest.raises(HproError, match="has no run with policy/hpro/seed0: run the workflow"):
        newest_policy(tmp_path / "nothing")


def test_a_file_of_sentences(policy, reference, run, tmp_path):
    shutil.copy(reference, tmp_path / "r.wav")
    rows = [("text", "reference", "out"), (TEXTS[0], "r.wav", ""), (TEXTS[2], "r.wav", "o/x.wav")]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    printed = invoke("say", "--csv", tmp_path / "mine.csv", "--policy", policy)
    assert printed.count(" tokens, ") == 2
    alone = tmp_path / "alone.wav"
    invoke("say", TEXTS[2], "--reference", reference, "--policy", policy, "--out", alone)
    assert (tmp_path / "o/x.wav").read_bytes() == alone.read_bytes()
    assert (tmp_path / "mine_1.wav").is_file()


def test_a_mark_that_is_read_as_words_is_noted(reference):
    found = notes([Sentence("[happy] No.", reference, Path("a.wav"))])
    assert found == ["the sentence: [happy] is read as words"]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("...", "the sentence: '...' is a transcript without words"),
        ("", "is a transcript without words"),
        ("Привет Tom", "unsupported characters: 'П', 'р', 'и', 'в', 'е', 'т': write English"),
        ("你好", "unsupported characters: '你', '好'"),
        ("canâ€™t", "UTF-8 decoded in another encoding"),
        ("go " * (MAX_WORDS + 1), f"{MAX_WORDS + 1} words are more than {MAX_WORDS}: split"),
        ("Ha [laughter] ha.", "[laughter] is a mark of CosyVoice2, unknown to the embedded"),
    ],
)
def test_a_text_that_cannot_be_spoken_is_refused(policy, reference, text, message):
    assert message in refusal("say", text, "--reference", reference, "--policy", policy)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            ("--emotion", "happy"),
            "no input for an emotion or instruction: it was trained on phones",
        ),
        (("--instruct", "Be quick."), "no input for an emotion or instruction"),
        (("--like", "x.wav"), "cannot speak like another recording: it was trained with reference"),
        (("--reference-text", "Ah."), "takes the audio of the reference only"),
    ],
)
def test_a_condition_that_was_not_trained_is_refused(policy, reference, option, message):
    arguments = ("say", "No.", "--reference", reference, "--policy", policy)
    assert message in refusal(*arguments, *option)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (None, "a.wav does not exist: name a recording of the voice"),
        (np.zeros(16000), "a.wav: silent audio: use a recording"),
        (vowel(0.5, 120.0), "a.wav is too short (0.50 s): use a recording of 0.8 to 30 s"),
        (np.tile(vowel(1.0, 120.0), 31), "a.wav: longer than 30 s: use a recording"),
        (b"no audio", "a.wav: unreadable audio"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused(policy, tmp_path, audio, message):
    path = tmp_path / "a.wav"
    if isinstance(audio, bytes):
        path.write_bytes(audio)
    elif audio is not None:
        soundfile.write(path, audio, SAMPLE_RATE_HZ)
    assert message in refusal("say", "No.", "--reference", path, "--policy", policy)


def test_a_folder_that_is_no_policy_is_refused(run, policy, reference, tmp_path):
    def said(folder: Path) -> str:
        return refusal("say", "No.", "--reference", reference, "--policy", folder)

    assert "nothing is not a folder: name policy/<system>/seed<k>" in said(tmp_path / "nothing")
    assert "corpus is no policy: its config.json is missing" in said(run / "corpus")
    assert "tokenizer is no policy" in said(run / "speech/tokenizer")
    shutil.copytree(policy, tmp_path / "alone")
    assert "alone is not in the results of a run with speech/tokenizer" in said(tmp_path / "alone")
    cosyvoice2_stage.describe(run, Path("models/CosyVoice2-0.5B"))
    assert "is a policy of kind embedded, but" in said(policy)
    (run / "params/synthesise.yaml").unlink()
    assert "synthesise.yaml does not exist: run the workflow up to `synthesise`" in said(policy)


def test_a_policy_with_the_tokenizer_of_another_run_is_refused(run, policy, reference):
    other = replace(TINY, speaker_dim=6)
    save_model(run / "speech/tokenizer", SpeechTokenizer(other), {"model": asdict(other)})
    with pytest.raises(HproError, match=r"takes speaker embeddings of size 8, but .* gives 6"):
        speaker_of(policy, [Sentence("No.", reference, Path("a.wav"))])


def test_an_output_is_a_wav_file_and_no_recording(policy, reference, tmp_path):
    arguments = ("say", "No.", "--reference", reference, "--policy", policy, "--out")
    before = reference.read_bytes()
    assert "is its own reference: name another file" in refusal(*arguments, reference)
    assert "a.mp3 is not the name of a .wav file" in refusal(*arguments, tmp_path / "a.mp3")
    assert reference.read_bytes() == before


def test_what_is_missing_on_the_command_line_is_named(tmp_path):
    assert 'hpro say "Text." --reference ref.wav' in refusal("say")
    assert 'hpro say "Text." --reference ref.wav' in refusal("say", "No.")
    assert "--device is 'tpu'" in refusal("say", "No.", "--device", "tpu")
    assert "give no others beside it" in refusal("say", "No.", "--csv", tmp_path / "a.csv")
    assert "in its columns" in refusal("say", "--csv", tmp_path / "a.csv", "--emotion", "sad")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,reference\n", "has no sentence"),
        ("text\nNo.\n", "line 1: column 'reference' is missing"),
        ("text,reference,voice\nNo.,a.wav,b\n", "column 'voice' is unknown: use text, reference, "),
        ("text,reference\nNo.,\n", "line 2: reference is empty"),
        ("text,reference\nNo.\n", "line 2: the row does not have as many cells"),
        ('text,reference\n"No.,a.wav\n', "line 2: "),
        ("text,reference\nNo.,a\0.wav\n", "line 2: "),
    ],
)
def test_a_broken_file_of_sentences_is_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(HproError, match=r"a\.csv") as error:
        read_sentences(path)
    assert message in str(error.value)


def test_two_sentences_with_one_output_are_refused(tmp_path, policy, reference):
    path = tmp_path / "a.csv"
    path.write_text(f"text,reference,out\nNo.,{reference},x.wav\nGo.,{reference},./x.wav\n")
    message = refusal("say", "--csv", path, "--policy", policy)
    assert f"{path}, line 3: " in message
    assert f"is the output of {path}, line 2 too" in message


def test_a_word_of_a_file_that_cannot_be_spoken_is_named_with_its_line(tmp_path, policy, reference):
    path = tmp_path / "a.csv"
    path.write_text(f"text,reference\nNo.,{reference}\nЯ,{reference}\n", encoding="utf-8")
    message = refusal("say", "--csv", path, "--policy", policy)
    assert message.startswith(f"{path}, line 3: 'Я' is a transcript with unsupported characters")


def test_errors_and_help_need_no_torch(policy, reference):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom hpro_core.cli import app\n"
        "for words in (sys.argv[1].split('|'), ['say', '--help'], ['export', '--help']):\n"
        "    done = CliRunner().invoke(app, words)\n"
        "    print(done.exit_code, done.exception, *{'torch', 'pandas'} & {*sys.modules})\n"
    )
    words = ["say", "你", "--reference", str(reference), "--policy", str(policy)]
    done = subprocess.run(
        [sys.executable, "-c", code, "|".join(words)], capture_output=True, text=True, check=True
    )
    first, *others = done.stdout.splitlines()
    assert first.startswith("1 the sentence: ")
    assert first.endswith("Latin letters")
    assert others == ["0 None", "0 None"]


# --- export ---------------------------------------------------------------------------------------


@pytest.fixture
def exported(run, policy, tmp_path) -> Path:
    """An exported policy, moved away from its run, which is gone."""
    metrics = {"value": 0.1, "lo": 0.05, "hi": 0.2}
    judged = {"judges": {"asr": "whisper, sha256 0"}, "judged_by_teachers": {}}
    judged["affect_notes"] = {"acted": "No wVAD-CCC and EMO-SIM on acted: unknown."}
    sets = {"acted": {"n": 22, "wer": metrics, "wvad_ccc": metrics | {"lo": None}}}
    path = run / "eval/hpro/seed0/metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(judged | {"test_sets": sets}))
    invoke("export", policy, tmp_path / "out")
    (tmp_path / "far").mkdir()
    shutil.move(tmp_path / "out", tmp_path / "far/away")
    return tmp_path / "far/away"


def test_an_exported_folder_says_the_same(run, policy, reference, exported, tmp_path):
    arguments = ("say", TEXTS[1], "--reference", reference, "--seed", 5, "--out")
    invoke(*arguments, tmp_path / "a.wav", "--policy", policy)
    shutil.copy(reference, tmp_path / "r.wav")
    shutil.rmtree(run)
    invoke(
        "say", TEXTS[1], "--reference", tmp_path / "r.wav", "--seed", 5, "--out",
        tmp_path / "b.wav", "--policy", exported,
    )  # fmt: skip
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_card_is_filled_from_the_run(run, exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "# hpro, seed0 of run embedded" in card
    assert "| acted | 22 | 0.100 [0.050, 0.200] | – | – |" in card
    assert "- asr: whisper, sha256 0" in card
    assert "\nNo wVAD-CCC and EMO-SIM on acted: unknown.\n" in card
    assert "| acted | Flight of the Amazon Queen" in card
    assert "not to be sold" in card
    assert "| controlled | train | 1 | 0.0 | 1 |" in card
    assert "affect of words by `weak`, emotion by `weak`" in card
    for heading in ("Intended use", "Misuse", "Limits"):
        assert f"## {heading}" in card
    every = [p.read_bytes() for p in exported.rglob("*") if p.is_file()]
    assert not [content for content in every if str(run.parent).encode() in content]


def test_the_sums_are_those_of_sha256sum(exported):
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=exported, capture_output=True
    )
    assert done.returncode == 0
    names = {line.split("  ")[1] for line in (exported / "SHA256SUMS").read_text().splitlines()}
    model = {"config.json", "model.safetensors"}
    speech = {f"{folder}/{name}" for folder in ("tokenizer", "vocoder") for name in model}
    assert names == model | speech | {"settings.yaml"}


def test_a_completed_card_and_further_files_are_no_fault(exported):
    (exported / "README.md").write_text("mine")
    (exported / "say.wav").write_text("mine")
    check_sums(exported)


@pytest.mark.parametrize("name", ["config.json", "settings.yaml", "tokenizer/model.safetensors"])
def test_a_changed_or_lost_file_of_an_export_is_named(exported, name):
    content = (exported / name).read_bytes()
    (exported / name).write_bytes(content + b"\n")
    with pytest.raises(HproError, match=f"{name} differs from its SHA-256: export"):
        open_policy(exported)
    (exported / name).unlink()
    with pytest.raises(HproError, match=name):
        open_policy(exported)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("  ", " "), "SHA256SUMS, line 1: '.*' is not a SHA-256 and"),
        (lambda text: "", "SHA256SUMS lacks config.json"),
        (lambda text: text + "0" * 64 + "  ../../x\n", "line 8: '.*' is not a SHA-256 and"),
    ],
)
def test_a_broken_list_of_sums_is_refused(exported, change, message):
    path = exported / "SHA256SUMS"
    path.write_text(change(path.read_text()))
    with pytest.raises(HproError, match=message):
        open_policy(exported)


def test_an_export_overwrites_nothing_and_starts_from_a_run(run, policy, exported, tmp_path):
    assert "exists and is not an empty folder" in refusal("export", policy, exported)
    again = refusal("export", exported, tmp_path / "again")
    assert "is an exported folder: copy it as it is" in again
    (run / "speech/tokenizer/model.safetensors").unlink()
    assert "model.safetensors does not exist" in refusal("export", policy, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_policy_that_was_not_judged_says_so(policy, tmp_path):
    invoke("export", policy, tmp_path / "out")
    assert "This policy was not judged" in (tmp_path / "out/README.md").read_text()


# --- CosyVoice2 -----------------------------------------------------------------------------------


class Speakers:
    """Stands in for CAM++: the level of the clip in every component."""

    def x_vector(self, audio_T, name):
        return np.full(192, np.abs(audio_T).mean(), dtype=np.float32)


@pytest.fixture
def full(tmp_path, s3_stand_in, monkeypatch) -> Path:  # noqa: F811
    """A CosyVoice2 policy of a run with stand-ins of the optional packages."""
    model, root = tmp_path / "CosyVoice2-0.5B", tmp_path / "results/full"
    model.mkdir()
    qwen, _ = byte_pairs(model / QWEN_FOLDER, {"tokenizer_class": "Qwen2Tokenizer"})
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, vocab_size=300)
    sizes |= dict(num_key_value_heads=2, intermediate_size=40, rms_norm_eps=1e-6, rope_theta=1e6)
    kind = {"model_type": "qwen2", "tie_word_embeddings": True}
    (qwen / "config.json").write_text(json.dumps(kind | sizes))
    for name in ("speech_tokenizer_v2.onnx", "campplus.onnx", "flow.pt", "hift.pt"):
        (model / name).write_text(name)
    write_settings(root)
    write_corpus(root)
    cosyvoice2_stage.describe(root, model)
    torch.manual_seed(0)
    save_policy(root / "policy/hpro/seed0", CosyVoice2LM(COSYVOICE2).eval(), variant="hpro", seed=0)
    monkeypatch.setattr(S3Tokenizer, "load", lambda folder, device: S3Tokenizer(Loud(), device))
    monkeypatch.setattr(speaker_module.CamPlus, "load", lambda folder, threads: Speakers())
    monkeypatch.setattr(FlowDecoder, "load", lambda *_: FlowDecoder(Recorder(), Recorder()))
    return root / "policy/hpro/seed0"


def prompt_and_tokens(speaker: Speaker, sentence: Sentence, prompt) -> tuple:
    example = speaker._text(sentence.text, sentence.text)
    arguments = (speaker.settings, 0, CPU)
    (expected,) = sample_batch(speaker.policy, [example], [prompt], *arguments)
    return speaker.tokens(sentence, 0).tokens.tolist(), expected.tokens.tolist()


def test_cosyvoice2_continues_the_reference_as_synthesise_does(full):
    root = full.parents[2]
    path = root / "audio/u1.wav"
    sentence = Sentence("Go home.", path, Path("a.wav"), reference_text="Ah, so.")
    plain = replace(sentence, reference_text="", out=Path("b.wav"))
    speaker = speaker_of(full, [sentence, plain])
    audio = soundfile.read(path, dtype="float32")[0]
    tokens = S3Tokenizer(Loud()).tokens([audio], ["u1"])[0]
    text = load_frontend(str(root.parents[1] / "CosyVoice2-0.5B" / QWEN_FOLDER), "phones").policy
    voice = example_of("u1", Speakers().x_vector(audio, "u1"), tokens)
    symbols, words = (np.array(part) for part in text("Ah, so.", "ah so"))
    prompt = replace(voice, symbols=symbols, symbol_word=words)
    got, expected = prompt_and_tokens(speaker, sentence, prompt)
    assert got == expected
    without = example_of("u1", voice.speaker_embedding)
    got_plain, expected_plain = prompt_and_tokens(speaker, plain, without)
    assert got_plain == expected_plain != got
    spoken = speaker.say(plain, 0)
    assert spoken.n_tokens == len(got_plain)
    assert len(spoken.audio_T) == 640 * len(got_plain)


def test_an_instruction_is_text_before_the_end_of_the_prompt(full):
    path = full.parents[2] / "audio/u1.wav"
    sentence = Sentence("Go home.", path, Path("a.wav"), emotion="happy")
    worded = replace(sentence, emotion="", instruct="Speak in a happy tone.", out=Path("b.wav"))
    assert instruction_of(sentence) == instruction_of(worded) == "Speak in a happy tone."
    speaker = speaker_of(full, [sentence, worded])
    symbols = speaker._text("", "Speak in a happy tone." + END_OF_PROMPT).symbols
    assert symbols[-1] == 260  # the third mark after 257 byte pairs and <|endoftext|>
    prompt = replace(
        example_of("u1", np.zeros(192, np.float32)), symbols=symbols, symbol_word=0 * symbols
    )
    got, expected = prompt_and_tokens(speaker, sentence, prompt)
    assert got == expected
    assert speaker.tokens(worded, 0).tokens.tolist() == got


def test_speech_like_another_recording_has_the_voice_of_the_reference(full):
    folder = full.parents[2] / "audio"
    sentence = Sentence(
        "Go home.", folder / "u1.wav", Path("a.wav"), like=folder / "u0.wav", like_text="Ah."
    )
    speaker = speaker_of(full, [sentence])
    like = replace(sentence, reference=folder / "u0.wav", reference_text="Ah.", like=None)
    assert torch.equal(speaker.tokens(sentence, 0).tokens, speaker.tokens(like, 0).tokens)
    seen = []
    speaker._encoder.decode = lambda tokens, voices: seen.extend(voices) or [np.zeros(640)]
    speaker.say(sentence, 0)
    assert [voice.utt_id for voice in seen] == [str(folder / "u1.wav")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emotion": "joyful"}, "emotion 'joyful' is unknown: use one of angry, "),
        ({"emotion": "sad", "instruct": "Slowly."}, "emotion and instruct exclude each other"),
        ({"like": Path("x.wav")}, "like and like_text are needed together"),
        ({"like_text": "Ah."}, "like and like_text are needed together"),
        ({"instruct": "快"}, "unsupported characters: '快'"),
        ({"text": "A<|endofprompt|>b"}, "<|endofprompt|> is a control token"),
        ({"reference_text": "<|im_end|> so"}, "<|im_end|> is a control token"),
    ],
)
def test_conditions_that_exclude_each_other_are_refused(reference, changes, message):
    sentence = replace(Sentence("Go.", reference, Path("a.wav")), **changes)
    with pytest.raises(HproError) as error:
        check([sentence], "cosyvoice2")
    assert message in str(error.value)


def test_an_exported_cosyvoice2_speaks_without_its_run(full, tmp_path):
    root = full.parents[2]
    shutil.copy(root / "audio/u1.wav", tmp_path / "r.wav")
    sentence = Sentence("Go home.", tmp_path / "r.wav", Path("a.wav"), emotion="sad")
    before = speaker_of(full, [sentence]).tokens(sentence, 0).tokens
    invoke("export", full, tmp_path / "out")
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "CosyVoice2-0.5B")
    speaker = speaker_of(tmp_path / "out", [sentence])
    assert torch.equal(speaker.tokens(sentence, 0).tokens, before)
    folder = tmp_path / "out/tokenizer"
    shutil.move(tmp_path / "out/llm.pt", folder / "llm.pt")  # the layout of the published folder
    again = read_llm(folder).state_dict()
    assert all(torch.equal(v, again[n]) for n, v in speaker.policy.state_dict().items())


def test_a_cosyvoice2_folder_that_lacks_a_file_is_no_export(full, tmp_path):
    (tmp_path / "CosyVoice2-0.5B/flow.pt").unlink()
    assert "flow.pt does not exist: copy it from" in refusal("export", full, tmp_path / "out")


def test_a_long_tone_of_noise_is_a_reference(full, tmp_path):
    """Up to 30 s, which S3 tokenizer v2 takes at most."""
    soundfile.write(tmp_path / "r.wav", tone(29.9), SAMPLE_RATE_HZ)
    sentence = Sentence("Go.", tmp_path / "r.wav", Path("a.wav"))
    assert len(speaker_of(full, [sentence]).tokens(sentence, 0).tokens) > 0
