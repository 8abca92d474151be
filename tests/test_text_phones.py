"""Text frontend: pronunciations, punctuation, and words that were spelled out."""

import pytest

from hpro_core.errors import HproError
from hpro_core.text.phones import BOUNDARY, N_SYMBOLS, PADDING, SYMBOLS, encode, phones_of


def spelled(text: str, words: str) -> str:
    return "".join(SYMBOLS[i] for i in encode(text, words)[0])


def test_symbols_are_unique_and_the_reserved_ids_hold():
    assert len(set(SYMBOLS)) == N_SYMBOLS < 100
    assert (SYMBOLS[PADDING], SYMBOLS[BOUNDARY]) == ("<pad>", " ")


def test_a_word_has_the_same_phones_wherever_it_stands():
    assert phones_of("paper") == ("p", "ˈA", "p", "ə", "ɹ")
    assert spelled("Paper, paper!", "paper paper") == "pˈApəɹ, pˈApəɹ!"


@pytest.mark.parametrize("word", ["a", "i've", "'tis", "walkin'", "mmmm", "wrrrlt", "floda", "x"])
def test_odd_words_have_phones_of_the_table(word):
    assert set(phones_of(word)) <= set(SYMBOLS)


def test_word_index_counts_punctuation_and_blank_to_the_word_before():
    ids, word_index = encode("Ride, now!", "ride now")
    assert spelled("Ride, now!", "ride now") == "ɹˈId, nˈW!"
    assert word_index == [0, 0, 0, 0, 0, 1, 1, 1]
    assert PADDING not in ids


@pytest.mark.parametrize(
    ("text", "words", "marks"),
    [
        ("Wait... what?!", "wait what", [".", "?"]),
        ("Well-known, yes", "well known yes", ["", ",", ""]),
        ("You — here; now: go", "you here now go", [",", ";", ";", ""]),
        ("“Hello,” she said.", "hello she said", [",", "", "."]),
        ("It’s me", "it's me", ["", ""]),
        ("Room 12, please.", "room twelve please", ["", ",", "."]),
        ("Goin', café!", "goin cafe", [",", "!"]),
        ("Pay 45!", "pay forty five", ["", "", "!"]),
        ("¡Go!", "go", ["!"]),
    ],
)
def test_punctuation_of_the_original_text(text, words, marks):
    ids, word_index = encode(text, words)
    found = [""] * len(words.split())
    for symbol, word in zip(ids, word_index, strict=True):
        if SYMBOLS[symbol] in ".,!?;":
            found[word] += SYMBOLS[symbol]
    assert found == marks


@pytest.mark.parametrize(("text", "words"), [("...", ""), ("''", "''")])
def test_a_text_without_phones_is_refused(text, words):
    with pytest.raises(HproError, match="transcript"):
        encode(text, words)
