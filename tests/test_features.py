"""Vocabularies of lines that are cut already, features of texts and words, and spelt words."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.corpus.spellings import LONGEST_WORD, WIDTH_MULTIPLE, Spellings, spelt
from charlm.errors import InputError
from charlm.tokenizer import EOS, SPECIALS, UNK, Symbols, TextFeatures, Vocabulary, WindowFeatures
from charlm.tokenizer.features import BUCKETS, PER_WORD
from charlm.tokenizer.symbols import SEPARATOR

Ids = NDArray[np.integer[Any]]
TEXTS = (
    "The film was good, the ending wasn't.",
    "a",
    "aaaa aaaa aa",
    "Zażółć gęślą jaźń — 3,50 zł!",
    "👍🏽 great \ud83d \udcff 日本語のテキスト",
    "x" * 300,
    "",
    " \t ",
    "snake_case and\tTABs",
)
one_line = st.text(st.characters(exclude_characters="\n"), max_size=30)


def lines_of(vocabulary: Vocabulary, text: str) -> list[Ids]:
    """The ids of each line, without its end."""
    ids = vocabulary.encode_ids(text)
    ends = np.flatnonzero(ids == EOS)
    assert not len(ids) or ids[-1] == EOS
    return [line[:-1] for line in np.split(ids, ends + 1)[:-1]]


# --- features of texts ---


def features(text: str) -> set[int]:
    (line,) = lines_of(TextFeatures(), f"{text}\n")
    found: set[int] = {*line.tolist()}
    assert len(found) == len(line) and min(found, default=EOS + 2) > UNK
    return found


def words_of(text: str) -> list[str]:
    """Letters, digits and "_" in a row are a word, and so is every other character."""
    return re.findall(r"[\w]+|\S", text.lower())


def ngrams_of_words(words: Sequence[str], lengths: Sequence[int]) -> set[tuple[str, ...]]:
    return {(*words[k : k + n],) for n in lengths for k in range(len(words) - n + 1)}


def ngrams_of_letters(words: Sequence[str]) -> set[str]:
    """Two to five letters in a row; a space before and after a word is one of them."""
    found = set()
    for word in words:
        spaced = f" {word} "
        for start in range(len(spaced)):
            found |= {spaced[start : start + n] for n in (2, 3, 4, 5) if start + n <= len(spaced)}
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_a_feature_for_each_of_its_ngrams(text: str) -> None:
    words = words_of(text)
    expected = len(ngrams_of_words(words, (1, 2, 3))) + len(ngrams_of_letters(words))
    assert len(features(text)) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_the_features_are_those_of_the_words_and_of_neighbouring_words(text: str) -> None:
    words = words_of(text)
    of_words = {id for word in set(words) for id in features(word)}
    assert of_words <= features(text)
    assert len(features(text) - of_words) == len(ngrams_of_words(words, (2, 3)))


def test_the_order_of_words_matters_to_their_ngrams_alone() -> None:
    one, other = features("good not bad"), features("bad not good")
    of_words = features("good") | features("not") | features("bad")
    assert one & other == of_words
    assert len(one) == len(other) == len(of_words) + 3
    assert features("a b") < features("c a b") and not features("b a") < features("c a b")


def test_a_word_is_no_letters_of_another_one() -> None:
    assert len(features("ab") & features("cab")) == len({"ab", "b ", "ab "})


@pytest.mark.parametrize(
    ("one", "other"), [("The Café", "tHE cAFÉ"), ("ПРИВЕТ", "Привет"), ("ΌΣ", "ός"), ("A b", "a B")]
)
def test_upper_and_lower_case_are_the_same(one: str, other: str) -> None:
    assert features(one) == features(other) != set()


@given(one_line, one_line)
def test_a_further_word_only_adds_features(text: str, more: str) -> None:
    assert features(text) | features(more) <= features(f"{text} {more}")


@given(st.lists(one_line, max_size=5))
def test_lines_have_the_same_features_in_a_block_and_alone(lines: list[str]) -> None:
    for vocabulary in (TextFeatures(), WindowFeatures()):
        together = lines_of(vocabulary, "".join(f"{line}\n" for line in lines))
        assert len(together) == len(lines)
        for line, found in zip(lines, together, strict=True):
            (alone,) = lines_of(vocabulary, f"{line}\n")
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("vocabulary", [TextFeatures(), WindowFeatures()])
def test_features_need_no_vocabulary(vocabulary: Vocabulary) -> None:
    text = "".join(f"{line}\n" for line in TEXTS)
    ids = vocabulary.encode_ids(text)
    again = type(vocabulary).from_state(*vocabulary.state())
    np.testing.assert_array_equal(again.encode_ids(text), ids)
    assert vocabulary.size == BUCKETS + len(SPECIALS) > ids.max()
    assert len(np.unique(ids // (vocabulary.size // 8))) == 8  # they are spread over all
    for empty, expected in (("", []), ("\n", [EOS]), ("\n\n", [EOS, EOS])):
        assert vocabulary.encode_ids(empty).tolist() == expected
    without_line_end = vocabulary.encode_ids("a b")
    np.testing.assert_array_equal(without_line_end, vocabulary.encode_ids("a b\n"))


def test_features_are_the_same_in_every_process() -> None:
    text = "The film — was\tgöod\n\nNew York\n"
    program = (
        "from charlm.tokenizer import TextFeatures, WindowFeatures\n"
        f"print([v.encode_ids({text!r}).tolist() for v in (TextFeatures(), WindowFeatures())])"
    )
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program]
        outputs.add(subprocess.run(command, env=environment, capture_output=True).stdout.decode())
    expected = [v.encode_ids(text).tolist() for v in (TextFeatures(), WindowFeatures())]
    assert outputs == {f"{expected}\n"}


# --- features of words in a sentence ---


def window(*words: str) -> Ids:
    """(words, PER_WORD) the features of the words of a sentence."""
    (line,) = lines_of(WindowFeatures(), SEPARATOR.join(words) + "\n")
    return line.reshape(len(words), PER_WORD)


SENTENCE = ("The", "big", "dog", "barked", "at", "New York", "loudly", "again")


def test_every_word_has_its_own_features() -> None:
    found = window(*SENTENCE)
    assert found.shape == (8, PER_WORD) and found.min() > UNK
    assert len(np.unique(found, axis=0)) == 8


@pytest.mark.parametrize("changed", range(len(SENTENCE)))
def test_a_word_changes_the_features_of_two_words_on_each_side(changed: int) -> None:
    words = [*SENTENCE]
    words[changed] = "xylophones"
    differs = (window(*words) != window(*SENTENCE)).any(axis=1)
    assert differs.tolist() == [abs(k - changed) <= 2 for k in range(len(SENTENCE))]


def test_a_sentence_does_not_depend_on_its_neighbours_in_a_block() -> None:
    sentences = [SENTENCE[:1], SENTENCE, SENTENCE[2:4], SENTENCE[::-1]]
    block = "".join(SEPARATOR.join(words) + "\n" for words in sentences)
    for words, found in zip(sentences, lines_of(WindowFeatures(), block), strict=True):
        np.testing.assert_array_equal(found.reshape(-1, PER_WORD), window(*words))


def test_the_ends_of_a_sentence_are_not_words() -> None:
    first, last = window("dog"), window("a", "dog", "b")
    assert (first != last).any()
    assert (window("dog", "")[0] != window("dog")[0]).any()


def test_words_share_their_ends_and_their_shape() -> None:
    walking = window("walking")[0]
    shared = {
        word: np.count_nonzero(walking == window(word)[0])
        for word in ("Walking", "talking", "singing", "walked", "wander", "4")
    }
    assert shared["Walking"] == PER_WORD - 1  # all but the shape
    assert shared["talking"] == shared["singing"] + 1  # "king"
    assert shared["walked"] == shared["wander"] + 2  # "wal", "walk"
    assert shared["4"] < min(n for word, n in shared.items() if word != "4")


def test_what_is_the_same_in_two_places_is_two_features() -> None:
    assert len(np.unique(window(*["a"] * 5)[2])) == PER_WORD
    for one, other in ((("x", "dog"), ("dog", "x")), (("x", "y", "dog"), ("y", "x", "dog"))):
        a, b = ({*window(*words)[words.index("dog")].tolist()} for words in (one, other))
        assert len(a - b) >= 2


def test_a_word_may_hold_spaces() -> None:
    one, two = window("New York"), window("New", "York")
    assert len(one) == 1 and len(two) == 2
    assert (one != two).any(axis=1).all()


@pytest.mark.parametrize("word", ["\ud83d", "👍🏽", "\u00a0", "x" * 5000, "İ"])
def test_any_word_has_features(word: str) -> None:
    found = window("a", word, "b")
    assert (found[1] != window("a", "c", "b")[1]).any()


# --- symbols ---


def test_symbols_are_what_tabs_separate() -> None:
    symbols = Symbols.train(lambda: ["New York\tb\n", "\n", "a\tb\n"])
    assert symbols.names == ["New York", "a", "b"] and symbols.size == 6
    ids = symbols.encode_ids("b\tNew York\nNew\tYork\n\n\na\n")
    assert ids.tolist() == [5, 3, EOS, UNK, UNK, EOS, EOS, EOS, 4, EOS]
    assert [symbols.token(id) for id in ids[:3].tolist()] == ["b", "New York", "<EOS>"]
    assert symbols.encode_ids("").tolist() == []
    assert symbols.encode_ids("a\tA").tolist() == [4, UNK]


def test_folded_symbols_have_no_case() -> None:
    symbols = Symbols.train(lambda: ["Good\tgood\tBAD\n", "É\n"], folded=True)
    assert symbols.names == ["bad", "good", "é"]
    assert symbols.encode_ids("GOOD\tbad\té\nUgly\n").tolist() == [4, 3, 5, EOS, UNK, EOS]


def test_the_most_frequent_symbols_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = ["c\tb\ta\tc\n", "c\td\td\tb\n"]  # c 3, b and d 2, a 1
    for most, names in ((1, "c"), (2, "bc"), (3, "bcd"), (9, "abcd"), (None, "abcd")):
        assert Symbols.train(lambda: blocks, most).names == [*names]
    monkeypatch.setattr("charlm.tokenizer.symbols.MOST_COUNTED", 6)
    long = [f"rare{k}\tcommon\tusual\n" + "common\n" * 2 for k in range(50)]
    assert {"common", "usual"} <= {*Symbols.train(lambda: long).names}
    assert len(Symbols.train(lambda: long).names) <= 6


def test_as_many_symbols_as_two_bytes_hold_and_more() -> None:
    for count in (300, 70_000):
        symbols = Symbols([f"{k:05}" for k in range(count)])
        last = symbols.names[-1]
        assert symbols.encode_ids(f"{last}\n").tolist() == [count + 2, EOS]


@pytest.mark.parametrize("folded", [False, True])
def test_symbols_are_restored_from_their_state(folded: bool) -> None:
    symbols = Symbols.train(lambda: ["é\tNew York\t👍\n"], folded=folded)
    text = "NEW YORK\tNew York\té\nÉ\t👍\n"
    for again in (Symbols.from_state(*symbols.state()), pickle.loads(pickle.dumps(symbols))):
        assert (again.names, again.folded) == (symbols.names, folded)
        np.testing.assert_array_equal(again.encode_ids(text), symbols.encode_ids(text))


def bytes_of(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


DAMAGE: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "another size": lambda s, a: s.update(size=6),
    "no size": lambda s, a: s.pop("size"),
    "folded is a number": lambda s, a: s.update(folded=1),
    "no names": lambda s, a: a.clear(),
    "cut off": lambda s, a: a.update(vocabulary=a["vocabulary"][:-1]),
    "not UTF-8": lambda s, a: a.update(vocabulary=bytes_of(b"\xff\nb\n")),
    "a name twice": lambda s, a: a.update(vocabulary=bytes_of(b"b\nb\n")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_symbols_are_refused(damage: str) -> None:
    of_symbols = Symbols(["a", "b"]).state()
    settings, arrays = dict(of_symbols[0]), dict(of_symbols[1])
    DAMAGE[damage](settings, arrays)
    with pytest.raises(InputError, match="the model's vocabulary is damaged"):
        Symbols.from_state(settings, arrays)


# --- spelt words ---

ALPHABET = "\tabcdefghijklmnopqrstuvwxyz NY"
TAB = len(SPECIALS)
SENTENCES = (
    ("the", "cat"),
    ("a",),
    ("the", "a", "x" * 30, "New York", "the"),
    ("x" * LONGEST_WORD, "x" * (LONGEST_WORD - 1), "cat"),
    ("b", "cat", "b"),
)


def letters(sentences: Sequence[Sequence[str]]) -> TokenFile:
    ids = {char: id for id, char in enumerate(ALPHABET, TAB)} | {"\n": EOS}
    text = "".join(SEPARATOR.join(words) + "\n" for words in sentences)
    return TokenFile.of(np.array([ids[char] for char in text], np.uint8))


def word_of(row: NDArray[np.int64]) -> str:
    """The word in a row: between two separators, and nothing but 0 behind them."""
    first, *others = row.tolist()
    end = others.index(TAB)
    assert first == TAB and not any(others[end + 1 :])
    return "".join(ALPHABET[id - TAB] for id in others[:end])


def spelt_sentences(which: Sequence[int], steps: int) -> Spellings:
    return spelt(letters(SENTENCES), np.array(which), TAB, steps)


@pytest.mark.parametrize("which", [[0, 1, 2, 3, 4], [4, 2, 0], [1], [3, 3]])
def test_each_word_of_a_sentence_has_a_row_with_its_characters(which: list[int]) -> None:
    longest = max(len(SENTENCES[k]) for k in which)
    for steps in (longest, longest + 3):
        rows, words = spelt_sentences(which, steps)
        assert words.shape == (steps, len(which)) and 0 <= words.min() <= words.max() < len(rows)
        for column, k in enumerate(which):
            found = [word_of(rows[row]) for row in words[: len(SENTENCES[k]), column].tolist()]
            assert found == [word[:LONGEST_WORD] for word in SENTENCES[k]]


def test_a_word_has_one_row_wherever_it_stands() -> None:
    rows, words = spelt_sentences(range(5), 5)
    different = {word[:LONGEST_WORD] for words in SENTENCES for word in words}
    assert sorted(map(word_of, rows)) == sorted(different)
    assert words[0, 0] == words[0, 2] == words[4, 2]  # the
    assert words[1, 0] == words[2, 3] == words[1, 4] != words[0, 0]  # cat
    assert words[2, 2] == words[0, 3] != words[1, 3]  # both are cut to the same length


@pytest.mark.parametrize("which", [[1], [0], [2], [0, 1]])
def test_the_rows_are_as_wide_as_the_longest_word_needs(which: list[int]) -> None:
    rows, _ = spelt_sentences(which, 5)
    longest = max(len(word[:LONGEST_WORD]) for k in which for word in SENTENCES[k])
    assert rows.shape[1] % WIDTH_MULTIPLE == 0
    assert longest + 2 <= rows.shape[1] <= longest + 2 + WIDTH_MULTIPLE
