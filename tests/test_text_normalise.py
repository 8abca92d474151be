"""Transcripts as people write them: every sign, numerals, money, marks, and other scripts."""

import sys
import time
import unicodedata

import numpy as np
import pytest

from hpro_core.judges.asr import WordErrorCounter
from hpro_core.text.normalise import (
    APOSTROPHES,
    COSYVOICE2_TAGS,
    EM_DASHES,
    EN_DASHES,
    HYPHENS,
    QUOTES,
    normalised_words,
    spoken_text,
    transcript_problem,
    unknown_tags,
    unread_characters,
)
from hpro_core.text.numbers import spelled_number
from hpro_core.text.phones import SYMBOLS, encode


@pytest.fixture(scope="module")
def counter() -> WordErrorCounter:
    return WordErrorCounter()


def marked(text: str) -> list[str]:
    """The words of a text with the punctuation that the policy reads behind each."""
    words = normalised_words(text)
    ids, word_index = encode(text, words)
    found = words.split()
    for symbol, word in zip(ids, word_index, strict=True):
        if SYMBOLS[symbol] in ".,!?;":
            found[word] += SYMBOLS[symbol]
    return found


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'm NOT sure, Joe!", "i'm not sure joe"),
        ("He discovered the island in 1844.", "he discovered the island in eighteen forty four"),
        ("This is the 1940's.", "this is the nineteen forty's"),
        ("IQs less than 50?", "iqs less than fifty"),
        (
            "It cost 1,250 & 3.5 more",
            "it cost one thousand two hundred fifty and three point five more",
        ),
        ("'Goin' home' — caf\u00e9-goers\u2019 \u2018yes\u2019", "goin home cafe goers yes"),
        ('"Hello!" "2 Go"', "hello two go"),
        ("The 5th and 21st of May", "the fifth and twenty first of may"),
        ("2nd, 12th, 20th, 1,000th", "second twelfth twentieth one thousandth"),
        ("the 1990s, the '60s, 6s", "the nineteen nineties the sixties sixes"),
        ("1,250.5km, 5stars", "one thousand two hundred fifty point five km five stars"),
        ("ph\u0153nix \u00c6neas S\u00f8ren's stra\u00dfe", "phoenix aeneas soren's strasse"),
        ("don`t don\u00b4t don\u02bct don\u2032t", "don't don't don't don't"),
        ("co\u00adop\u200berate", "cooperate"),
        ("... ?!", ""),
        ("' ''", ""),
    ],
)
def test_normalised_words(text: str, words: str):
    assert normalised_words(text) == words
    assert normalised_words(words) == words


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("7", "seven"),
        ("13", "thirteen"),
        ("20", "twenty"),
        ("100", "one hundred"),
        ("342", "three hundred forty two"),
        ("1000", "one thousand"),
        ("1066", "one thousand sixty six"),
        ("1100", "eleven hundred"),
        ("1905", "nineteen oh five"),
        ("2026", "two thousand twenty six"),
        ("999999", "nine hundred ninety nine thousand nine hundred ninety nine"),
        ("1000000", "one million"),
        ("5551234", "five five five one two three four"),
        ("007", "zero zero seven"),
    ],
)
def test_spelled_number(digits: str, words: str):
    assert spelled_number(digits) == words


def test_numbers_below_a_million_all_differ_and_stay_in_the_alphabet():
    rng = np.random.default_rng(0)
    values = sorted({int(v) for v in rng.integers(0, 1_000_000, 3000)} | set(range(1100)))
    spelled = [spelled_number(str(value)) for value in values]
    assert len(set(spelled)) == len(values)
    assert set("".join(spelled)) <= set("abcdefghijklmnopqrstuvwxyz ")


# --- one form of each sign ---------------------------------------------------------------------

STRAIGHT = "I can't see, and she's sure they're here."
STRAIGHT_WORDS = "i can't see and she's sure they're here"


def same_words(counter: WordErrorCounter, written: str, straight: str) -> None:
    """Perfect speech has no errors, whichever side is typed how; the words are the same."""
    assert normalised_words(written) == normalised_words(straight)
    for reference in (written, straight):
        for heard in (written, straight):
            counted = counter.count(reference, heard)
            assert counted.n_errors == 0, (reference, heard, counted)
            assert counted.n_words == counter.count(straight, straight).n_words


@pytest.mark.parametrize("sign", APOSTROPHES, ids=ascii)
def test_every_apostrophe_is_the_straight_one(counter, sign):
    same_words(counter, STRAIGHT.replace("'", sign), STRAIGHT)
    same_words(counter, f"{sign}I know{sign}, he said.", "I know, he said.")
    same_words(counter, f"the 1940{sign}s", "the 1940's")


@pytest.mark.parametrize("sign", QUOTES, ids=ascii)
def test_every_quote_is_no_word(counter, sign):
    same_words(counter, f"{sign}Stop it,{sign} she said.", "Stop it, she said.")


@pytest.mark.parametrize("sign", HYPHENS + EN_DASHES + EM_DASHES, ids=ascii)
def test_every_dash_parts_words(counter, sign):
    same_words(counter, f"a well{sign}known man {sign} yes", "a well-known man - yes")


def of_unicode(*names: str, but: tuple[str, ...] = ()) -> list[str]:
    """Punctuation, symbols and modifiers of Unicode by words of their names, not by our lists."""
    kinds = ("Po", "Pi", "Pf", "Ps", "Pe", "Sk", "Lm", "So")
    every = map(chr, range(sys.maxunicode + 1))
    named = {s: unicodedata.name(s, "") for s in every if unicodedata.category(s) in kinds}
    return [
        sign
        for sign, name in named.items()
        if any(word in name for word in names) and not any(word in name for word in but)
    ]


def described(signs: list[str]) -> list[str]:
    return [f"{ord(sign):04x} {unicodedata.name(sign)}" for sign in signs]


def test_every_apostrophe_of_unicode_is_the_straight_one():
    """Single quotes, primes and accents as people type them in "can't"."""
    found = of_unicode(
        "APOSTROPHE", "SINGLE TURNED COMMA", "SINGLE COMMA", "SINGLE LOW", "SINGLE HIGH",
        "LEFT SINGLE", "RIGHT SINGLE", "PRIME", "ACUTE ACCENT", "GRAVE ACCENT",
        but=("DOUBLE", "TRIPLE", "QUADRUPLE", "LOW ACUTE", "LOW GRAVE"),
    )  # fmt: skip
    assert {"\u2019", "\u02bc", "\u2018", "\u00b4", "`"} <= set(found)
    wrong = [s for s in found if normalised_words(STRAIGHT.replace("'", s)) != STRAIGHT_WORDS]
    assert described(wrong) == []


def test_every_quote_and_dash_of_unicode_is_no_word():
    kinds = {s: unicodedata.category(s) for s in map(chr, range(sys.maxunicode + 1))}
    quotes = [s for s, kind in kinds.items() if kind in ("Pi", "Pf")]
    quotes += of_unicode("QUOTATION MARK", "CORNER BRACKET", "DOUBLE PRIME")
    wrong = [s for s in quotes if normalised_words(f"{s}Stop{s} it, {s}yes.{s}") != "stop it yes"]
    dashes = [*(s for s, kind in kinds.items() if kind == "Pd"), "\u2212", "\u2043"]
    wrong += [
        s for s in dashes if normalised_words(f"a well{s}known {s} man") != "a well known man"
    ]
    assert described(wrong) == []
    assert len(quotes) > 50
    assert len(dashes) > 20


@pytest.mark.parametrize(
    "sign", "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u034f\ufe0f\u202a", ids=ascii
)
def test_invisible_signs_part_no_words(counter, sign):
    same_words(counter, f"we co{sign}operate{sign} here", "we cooperate here")


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("\U0001d407ello \U0001d5d4nn", "hello ann"),  # mathematical bold
        ("\uff28\uff45\uff4c\uff4c\uff4f", "hello"),  # full width
        ("e\ufb03cient \ufb02ow", "efficient flow"),
        ("cafe\u0301 na\u00efve", "cafe naive"),
        ("Diyarbak\u0131r, \u0141\u00f3d\u017a, \u0126al", "diyarbakir lodz hal"),
        ("wait\u2026 what", "wait what"),
        ("don&#39;t &amp; won&rsquo;t", "don't and won't"),
        ("H\u2082O", "h two o"),
        ("nice \U0001f600\ufe0f day \u2122", "nice day"),
    ],
)
def test_letters_and_signs_of_other_forms(written, plain):
    assert normalised_words(written) == plain
    assert transcript_problem(written) == ""


def test_words_that_a_tokenizer_has_split_are_joined():
    assert normalised_words("I 'm sure he 's here, do n't you 'll see") == (
        "i'm sure he's here don't you'll see"
    )
    assert normalised_words("the 's' and the 'm' of it, 'tis") == "the s and the m of it tis"


# --- numerals, money, abbreviations ------------------------------------------------------------

READ = [
    ("Pi is about 3.14, isn't it?", "pi is about three point one four isn't it"),
    ("Over 1,000,000 people came.", "over one million people came"),
    ("That's £5, or $3.50!", "that's five pounds or three dollars and fifty cents"),
    ("It fell by $0.99 to €1.", "it fell by ninety nine cents to one euro"),
    ("They paid $1.5 million for No. 5.",
     "they paid one point five million dollars for number five"),
    ("Room № 12, bed #3.", "room number twelve bed number three"),
    ("On the 1st of May we met the 23rd time.", "on the first of may we met the twenty third time"),
    ("The 1990s and the '80s are gone.", "the nineteen nineties and the eighties are gone"),
    ("Only 50% of 2,500 stayed.", "only fifty percent of two thousand five hundred stayed"),
    ("It's 10:30, not 10:05!", "it's ten thirty not ten oh five"),
    ("Be there at 7:00 or at 9 p.m. sharp.", "be there at seven o'clock or at nine p m sharp"),
    ("Mr. and Mrs. Jones saw Dr. Brown.", "mister and missus jones saw doctor brown"),
    ("St. Paul lives in Main St.", "saint paul lives in main street"),
    ("Add 1/2 a cup, then 2 1/2 more; ¾ is left.",
     "add one half a cup then two and a half more three quarters is left"),
    ("It was -5°C, or 23 °F.",
     "it was minus five degrees celsius or twenty three degrees fahrenheit"),
    ("You & I @ home + a dog.", "you and i at home plus a dog"),
    ("Henry VIII fought before World War II.",
     "henry the eighth fought before world war two"),
    ("Cats, dogs, etc., e.g. mine vs. yours, i.e. ours.",
     "cats dogs et cetera for example mine versus yours that is ours"),
    ("Born in 1905, dead in 1944–45, age 39.5.",
     "born in nineteen oh five dead in nineteen forty four to forty five "
     "age thirty nine point five"),
    ("Call 555-0123 about version 3.11.2.",
     "call five five five zero one two three about version three point eleven point two"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reading"), READ)
def test_a_text_is_read_as_a_person_would(text, reading):
    assert normalised_words(text) == reading
    assert normalised_words(reading) == reading
    assert spoken_text(spoken_text(text)) == spoken_text(text)
    assert transcript_problem(text) == ""


@pytest.mark.parametrize(("text", "reading"), READ)
def test_what_is_read_so_has_no_word_errors(counter, text, reading):
    for reference in (text, reading):
        for heard in (text, reading, reading.capitalize()):
            assert counter.count(reference, heard).n_errors == 0, (reference, heard)


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("It cost $3.50.", "It cost three dollars and fifty cents."),
        ("It cost $3.50.", "It cost three dollars fifty cents."),
        ("It cost three dollars and fifty cents.", "It cost $3.50."),
        ("He is No. 5.", "He is number 5."),
        ("At 10:30 we left.", "At ten thirty we left."),
        ("50% off", "50 percent off"),
        ("50% off", "fifty per cent off"),
        ("the 1st of 3", "the first of three"),
        ("1,250 men", "1250 men"),
        ("in 2026", "in twenty twenty six"),
        ("Dr. Who", "Doctor Who"),
        ("5 to 10", "five to ten"),
        ("1, 2, 3!", "one, two, three"),
    ],
)
def test_other_ways_to_write_the_same_have_no_word_errors(counter, text, heard):
    assert counter.count(text, heard).n_errors == 0
    assert counter.count(heard, text).n_errors == 0


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("24/7 and 9/11", "twenty four seven and nine eleven"),
        ("on 1/2/2020", "on one two two thousand twenty"),
        ("$5k, £2.5bn, 20¢, 5€", "five thousand dollars two point five billion pounds twenty cents "
         "five euros"),
        ("$1.01 and £3.50", "one dollar and one cent and three pounds and fifty pence"),
        ("$1250 in 1250", "one thousand two hundred fifty dollars in twelve fifty"),
        ("4,000,000,000 and 7000000", "four billion and seven million"),
        (".5 or 0.25", "point five or zero point two five"),
        ("10:00 am, 13:00", "ten a m thirteen hundred"),
        ("Did Mary I met call? Act I. Malcolm X. Paul V. Smith",
         "did mary i met call act one malcolm x paul v smith"),
        ("World War I began. Louis XIV's wars. Chapter IX",
         "world war one began louis the fourteenth's wars chapter nine"),
        ("Jones Jr. met Smith & Co. on Jan. 5",
         "jones junior met smith and company on january five"),
        ("the gen. and col. of it", "the gen and col of it"),
        ("1½ hours, m², 9" + "9" * 30, "one and a half hours m squared " + " ".join(["nine"] * 31)),
        ("x" * 3 + "5" + "y", "xxx five y"),
        ("1939-1945, not 555-2012", "nineteen thirty nine to nineteen forty five "
         "not five five five two zero one two"),
        ("She is 5\u20327\u2033, he 6'11\"; 1'500", "she is five foot seven he six foot eleven "
         "one five hundred"),
    ],
)  # fmt: skip
def test_more_readings(text, reading):
    assert normalised_words(text) == reading


def test_thousands_of_digits_are_read_too():
    assert normalised_words("7" * 5000) == " ".join(["seven"] * 5000)


@pytest.mark.parametrize("sign", ["7", " ", "'", ",7", "7,", ".7", "7:", "[", "<", "I", "St "])
def test_no_text_takes_the_square_of_its_length(sign):
    start_s = time.process_time()
    normalised_words(sign * 100_000)
    transcript_problem(sign * 100_000)
    assert time.process_time() - start_s < 10


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("It cost $3.50, Mr. Brown!", "it cost three dollars and fifty cents, mister brown!"),
        ("At 10:30 p.m. he left.", "at ten thirty p m he left."),
        ("Cats, dogs, etc. Then birds.", "cats, dogs, et cetera. then birds."),
        ("A 30-year-old; No. 5?", "a thirty year old; number five?"),
        ("[laughter] Well, no...", "well, no."),
        ("<strong>No</strong>! 1,250.5km", "no! one thousand two hundred fifty point five km"),
    ],
)
def test_words_and_punctuation_of_the_policy_agree(text, marks):
    assert " ".join(marked(text)) == marks


@pytest.mark.parametrize("text", [text for text, _ in READ])
def test_the_policy_reads_as_many_words(text):
    words = normalised_words(text).split()
    _, word_index = encode(text, " ".join(words))
    assert sorted(set(word_index)) == list(range(len(words)))


# --- marks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", COSYVOICE2_TAGS)
def test_marks_are_no_words(counter, mark):
    text = f"{mark} well {mark}no{mark}"
    same_words(counter, text, "well no")
    assert " ".join(marked(text)) == "well no"
    assert unknown_tags(text) == []
    assert transcript_problem(mark) == "transcript without words"


def test_unknown_marks_are_named():
    assert unknown_tags("[Laughter] a <b>c</b> {x y} (well) [sigh]") == [
        "[Laughter]", "<b>", "</b>", "{x y}",
    ]  # fmt: skip
    assert normalised_words("[door slams] no") == "door slams no"


# --- characters that are not read --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("Привет my friend", ["П", "р", "и", "в", "е", "т"]),
        ("the \u0441at", ["\u0441"]),  # Cyrillic
        ("\u4f60\u597d", ["\u4f60", "\u597d"]),
        ("\ud55c", ["\ud55c"]),
        ("\u03b1 and \u03b2", ["\u03b1", "\u03b2"]),
        ("lost \ufffd", ["\ufffd"]),
        ("nul \0 and \x9d", ["\0", "\x9d"]),
        ("\u0663 men", ["\u0663"]),  # an Arabic digit
        ("half of a pair \ud800", ["\ud800"]),
        ("&#1087;", ["\u043f"]),
        ("caf\u00e9 \U0001f600 \u00bfs\u00ed? \u2192 \u00a7", []),
    ],
)  # fmt: skip
def test_characters_without_a_reading_are_a_problem(text, unread):
    assert unread_characters(text) == unread
    problem = transcript_problem(text)
    if unread:
        named = ", ".join(map(repr, unread))
        assert problem == f"transcript with unsupported characters: {named}"
    else:
        assert problem == ""


def test_no_more_than_eight_characters_are_named():
    problem = transcript_problem("\u0430\u0431\u0432\u0433\u0434\u0435\u0436\u0437\u0438")
    assert problem.endswith("'\u0437' ..")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("word", ["caf\u00e9", "can\u2019t", "\u201cyes", "wait\u2026"])
def test_text_that_was_decoded_wrongly_is_a_problem(word, encoding):
    problem = transcript_problem(word.encode().decode(encoding))
    assert problem.startswith("transcript w")
    assert "another encoding" in problem or "unsupported" in problem
    assert transcript_problem(word) == ""


def test_no_text_is_too_odd_to_be_read():
    generator = np.random.default_rng(0)
    pool = [chr(i) for i in generator.integers(0, 0x11000, 400)]
    pool += list("0123456789.,:/-$£'’ IVXam°")
    for _ in range(2000):
        chosen = generator.integers(0, len(pool), generator.integers(0, 20))
        text = "".join(pool[i] for i in chosen)
        words = normalised_words(text)
        assert set(words) <= set("abcdefghijklmnopqrstuvwxyz' ")
        assert normalised_words(words) == words
        transcript_problem(text)
