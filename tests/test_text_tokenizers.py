"""What the policy reads and the codec writes: phones, or the tokenizers of the released models."""

import json

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from hpro_core.errors import HproError
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT, N_TRANSCRIPT_SYMBOLS, encode
from hpro_core.text.tokenizers import COSYVOICE2_TAGS, load_frontend

TEXT, WORDS = "Good day!", "good day"


def byte_pairs(folder, specials: dict[str, object]):
    """A tokenizer of single bytes and one merge, in the files of the published ones."""
    folder.mkdir()
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, "oo"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\no o\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(specials), encoding="utf-8")
    return folder, vocabulary


@pytest.fixture
def qwen(tmp_path):
    return byte_pairs(tmp_path / "CosyVoice-BlankEN", {"tokenizer_class": "Qwen2Tokenizer"})


@pytest.fixture
def whisper(tmp_path):
    marks = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
    folder, vocabulary = byte_pairs(
        tmp_path / "whisper",
        {
            "tokenizer_class": "WhisperTokenizer",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "additional_special_tokens": list(marks[1:]),
        },
    )
    added = {mark: len(vocabulary) + i for i, mark in enumerate(marks)}
    (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    return folder, vocabulary | added


def test_phones():
    reads = load_frontend("phones", "phones")
    assert reads.policy(TEXT, WORDS) == encode(TEXT, WORDS)
    transcript = reads.codec(TEXT, WORDS)
    assert transcript == [BEGIN_TEXT, *encode(TEXT, WORDS)[0], END_TEXT]
    assert max(transcript) < N_TRANSCRIPT_SYMBOLS


def test_cosyvoice2_reads_byte_pairs_and_its_own_marks(qwen):
    folder, vocabulary = qwen
    symbols, symbol_word = load_frontend(str(folder), "phones").policy("Goo[laughter]", WORDS)
    assert symbols[:2] == [vocabulary["G"], vocabulary["oo"]]
    assert len(symbols) == 3
    # Qwen2's own end mark comes first, then CosyVoice2's in their order.
    first = symbols[2] - COSYVOICE2_TAGS.index("[laughter]")
    assert first >= len(vocabulary)
    assert symbol_word == [0, 0, 0]


def test_whisper_writes_between_its_marks(whisper):
    folder, vocabulary = whisper
    transcript = load_frontend("phones", str(folder)).codec(TEXT, WORDS)
    assert transcript[0] == vocabulary["<|startoftranscript|>"]
    assert transcript[1] == vocabulary["<|notimestamps|>"]
    assert transcript[-1] == vocabulary["<|endoftext|>"]
    assert transcript[2:4] == [vocabulary["G"], vocabulary["oo"]]


def test_an_empty_text_is_refused(qwen):
    with pytest.raises(HproError, match="no tokens"):
        load_frontend(str(qwen[0]), "phones").policy("", "")


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("which", ["qwen", "whisper"])
def test_a_folder_that_lacks_a_file_is_named(which, missing, request):
    folder, _ = request.getfixturevalue(which)
    (folder / missing).unlink()
    texts = (str(folder), "phones") if which == "qwen" else ("phones", str(folder))
    with pytest.raises(HproError, match=f"{folder.name} lacks {missing}"):
        load_frontend(*texts)


BROKEN = [
    ("tokenizer_config.json", "false", r"tokenizer_config\.json"),
    (
        "merges.txt",
        "#version: 0.2\n1e-400 o\n",
        r"merges\.txt, line 2: '1e-400 o' is not a token pair",
    ),
    ("merges.txt", "o o o\n", r"merges\.txt, line 1"),
    ("vocab.json", '{"": {}}', r"vocab\.json"),
    ("vocab.json", "[1]", r"vocab\.json"),
    ("vocab.json", '{"a": 0}', r"merges\.txt, line 2"),
    ("added_tokens.json", '{"a": "b"}', r"added_tokens\.json, a"),
    ("special_tokens_map.json", "[", r"special_tokens_map\.json"),
    ("tokenizer.json", "{}", "holds no tokenizer"),
]


@pytest.mark.parametrize(("name", "content", "says"), BROKEN)
@pytest.mark.parametrize("which", ["qwen", "whisper"])
def test_a_broken_file_of_a_tokenizer_is_named(which, name, content, says, request):
    folder, _ = request.getfixturevalue(which)
    (folder / name).write_text(content, encoding="utf-8")
    texts = (str(folder), "phones") if which == "qwen" else ("phones", str(folder))
    with pytest.raises(HproError, match=says):
        load_frontend(*texts)


def test_a_tokenizer_of_gigabytes_is_not_read(qwen):
    with (qwen[0] / "vocab.json").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(HproError, match=r"vocab\.json has 3221225472 bytes"):
        load_frontend(str(qwen[0]), "phones")
