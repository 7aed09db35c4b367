"""Properties of the tokenizers over arbitrary text, and the special cases of each level."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from charlm.errors import InputError, OptionError
from charlm.tokenizer import (
    EOS,
    LEVELS,
    START,
    TOKENIZERS,
    UNK,
    Bytes,
    Characters,
    Subwords,
    Tokenizer,
    VocabularyOptions,
    Words,
    as_inputs,
    load_tokenizer,
    subwords,
    train_tokenizer,
    words,
)

STORY = """\
The cook peeled an apple and a pear, then she made the apple and pear salad.
"Don't put well-known things (like salt) in it," she said; "it's 3.14 euros for 1,000 grams!"
Äpfel, crêpes und Soße: 10 €. Nobody—not even the cat—ate the applesauce / the application.

\tTwo  spaces, a tab\tand a trailing space \r
हिन्दी में लिखा हुआ वाक्य, और कुछ नहीं। 日本語も少し。 🍐🍎 END
"""
DEFAULTS = VocabularyOptions()


def as_blocks(text: str) -> Callable[[], Iterable[str]]:
    return lambda: text.splitlines(keepends=True)


@cache
def trained(level: str) -> Tokenizer:
    """The tokenizer of a level, or of a level and a split, trained once on STORY."""
    name, _, split = level.partition(" ")
    return train_tokenizer(name, as_blocks(STORY * 3), split=split or "lossless")


def words_of(text: str, options: VocabularyOptions = DEFAULTS) -> Words:
    return Words.train(lambda: [text], options)


def characters_of(text: str, options: VocabularyOptions = DEFAULTS) -> Characters:
    return Characters.train(lambda: [text], options)


every_level = pytest.mark.parametrize("level", [*LEVELS, "word elision", "word whitespace"])
AWKWARD = st.sampled_from(
    "ab .,()\"'-\n\r\t\0\u00a0\u2581\u2585\u0301\u0327\u0344\u0f73\u1100\u1161\u11a8가é"
    "\u212b\u0958\u3099か"
    "\ufffd\ufeff\u200d\u2028\x1c\x85🍐<>ESTOR_/—5"
    "日本のアイ。ไทย“”\u200c\U0001f1eb\U0001f1f7:;"
)
ANY_TEXT = st.one_of(st.text(max_size=40), st.text(AWKWARD, max_size=40))
STORY_TEXT = st.text(sorted(set(STORY)), max_size=60)
STORY_WORDS = st.lists(
    st.sampled_from(sorted({*words._rules("unicode").pattern.findall(STORY), " ", "\n"})),
    max_size=30,
).map("".join)
WITH_SURROGATES = st.text(st.characters(exclude_categories=()), max_size=30)
many_examples = settings(max_examples=150, deadline=None)


# --- round trips


@pytest.mark.parametrize("level", ["byte", "subword"])
@many_examples
@given(text=ANY_TEXT)
def test_bytes_and_subwords_decode_to_the_encoded_text(level: str, text: str) -> None:
    assert trained(level).decode(trained(level).encode_ids(text)) == text


@many_examples
@given(text=STORY_TEXT)
def test_known_characters_decode_to_the_nfc_text(text: str) -> None:
    ids = trained("char").encode_ids(text)
    known = set(unicodedata.normalize("NFC", text)) <= {*unicodedata.normalize("NFC", STORY)}
    assert trained("char").decode(ids) == unicodedata.normalize("NFC", text) or not known


@many_examples
@given(text=ANY_TEXT)
def test_characters_trained_on_a_text_decode_to_it(text: str) -> None:
    characters = characters_of(text, VocabularyOptions(normalize="none"))
    assert characters.decode(characters.encode_ids(text)) == text


@many_examples
@given(
    text=st.one_of(ANY_TEXT, STORY_TEXT, STORY_WORDS),
    split=st.sampled_from(["lossless", "elision"]),
)
def test_words_trained_on_a_text_decode_to_its_nfc_form(text: str, split: str) -> None:
    tokenizer = words_of(text, VocabularyOptions(split=split))
    ids = tokenizer.encode_ids(text)
    assert UNK not in ids
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_every_level_decodes_to_the_training_text() -> None:
    for level in LEVELS:
        assert trained(level).decode(trained(level).encode_ids(STORY)) == STORY


@many_examples
@given(text=ANY_TEXT)
def test_whitespace_split_decodes_with_one_space_between_words(text: str) -> None:
    tokenizer = words_of(text, VocabularyOptions(split="whitespace", normalize="none"))
    lines = [" ".join(line.split()) for line in text.split("\n")]
    assert tokenizer.decode(tokenizer.encode_ids(text)) == "\n".join(lines)


# --- ids, spans, incremental decoding


@every_level
@many_examples
@given(texts=st.lists(st.one_of(ANY_TEXT, STORY_TEXT, WITH_SURROGATES), max_size=5))
def test_a_line_has_the_same_ids_alone_and_in_a_text(level: str, texts: list[str]) -> None:
    together = trained(level).encode_ids("".join(f"{text}\n" for text in texts))
    alone = [[*trained(level).encode_ids(text).tolist(), EOS] for text in texts]
    assert together.tolist() == list(chain.from_iterable(alone))


@every_level
@many_examples
@given(text=st.one_of(ANY_TEXT, STORY_TEXT, WITH_SURROGATES))
def test_encode_ids_equals_the_ids_of_encode(level: str, text: str) -> None:
    ids, spans = trained(level).encode(text)
    bare = trained(level).encode_ids(text)
    assert bare.tolist() == ids.tolist()
    assert spans.shape == (len(ids), 2)
    assert ids.dtype == spans.dtype == np.int64
    assert all(0 <= id < trained(level).size for id in ids)


@every_level
@many_examples
@given(text=st.one_of(ANY_TEXT, STORY_TEXT, WITH_SURROGATES))
def test_spans_are_in_order_and_skip_only_implied_spaces(level: str, text: str) -> None:
    _, spans = trained(level).encode(text)
    covered = np.zeros(len(text), bool)
    for begin, end in spans.tolist():
        covered[begin:end] = True
    assert (np.diff(spans, axis=0) >= 0).all()
    left_out = "".join(np.array([*text])[~covered])
    if level == "word whitespace":
        assert not left_out.strip()
    else:
        assert left_out.strip(" " if level.startswith("word") else "") == ""


@pytest.mark.parametrize("level", ["char", "word"])
@many_examples
@given(text=ANY_TEXT)
def test_the_text_of_a_span_contains_its_token(level: str, text: str) -> None:
    tokenizer = train_tokenizer(level, lambda: [text])
    ids, spans = tokenizer.encode(text)
    for id, (begin, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        behind = unicodedata.normalize("NFC", text[begin:end])
        assert tokenizer.decode([id]) in behind


def test_spans_refer_to_the_raw_text_before_normalisation() -> None:
    raw = "cafe\u0301 \u1112\u1161\u11ab\u212b"
    characters = characters_of("café 한Å\n")
    ids, spans = characters.encode(raw)
    assert characters.decode(ids) == "café 한Å"
    assert spans.tolist() == [[0, 1], [1, 2], [2, 3], [3, 5], [5, 6], [6, 9], [9, 10]]
    assert words_of("café 한Å\n").encode(raw).spans.tolist() == [[0, 5], [6, 10]]


def test_the_bytes_of_a_character_share_its_span() -> None:
    encoding = Bytes().encode("né🍐\udc80\ud800")
    assert encoding.ids.tolist() == [b + 3 for b in "né🍐".encode() + b"\x80\xef\xbf\xbd"]
    assert encoding.spans[:, 0].tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4]
    assert encoding.spans[:, 1].tolist() == [1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 5]


def test_subword_spans_cover_the_text_and_its_spaces() -> None:
    text = "The apple\u2581pear\n\n and"
    ids, spans = trained("subword").encode(text)
    pieces = [text[begin:end] for begin, end in spans.tolist()]
    assert "".join(piece for piece in pieces if piece != "\u2581") == text.replace("\u2581", "")
    assert pieces.count("\u2581") == 3
    assert pieces[ids.tolist().index(EOS)] == "\n"


@every_level
@many_examples
@given(data=st.data())
def test_decoder_pushes_and_flush_equal_decode(level: str, data: st.DataObject) -> None:
    tokenizer = trained(level)
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=30))
    decoder = tokenizer.decoder()
    pieces = [decoder.push(id) for id in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)


def test_decoder_waits_for_a_complete_character() -> None:
    decoder = Bytes().decoder()
    assert [decoder.push(byte + 3) for byte in "é".encode()] == ["", "é"]
    assert decoder.push("é".encode()[0] + 3) == ""
    assert decoder.flush() == "\ufffd"


@given(ids=st.lists(st.integers(3, 258), max_size=12))
@many_examples
def test_invalid_utf8_decodes_as_in_python(ids: list[int]) -> None:
    assert Bytes().decode(ids) == bytes(id - 3 for id in ids).decode("utf-8", "replace")


def test_special_tokens_decode_to_newline_and_replacement_character() -> None:
    for level in LEVELS:
        assert trained(level).decode([START, EOS, UNK, EOS]) == "\n\ufffd\n"
    assert trained("char").token(START) == "<START>"


def test_as_inputs_replaces_eos_by_start() -> None:
    assert as_inputs(np.array([5, EOS, UNK], np.uint8)).tolist() == [5, START, UNK]


# --- specials and unknowns


@every_level
def test_no_text_is_encoded_as_a_special_token(level: str) -> None:
    tokenizer = train_tokenizer(
        level.split()[0], as_blocks("<START> <EOS> <UNK> <unk> <JOIN> <s> </s>\n" * 9)
    )
    ids = tokenizer.encode_ids("<START><EOS><UNK> <unk> </s> <0x0A>\n").tolist()
    assert START not in ids
    assert ids.count(EOS) == 1
    assert ids[-1] == EOS


def test_unknown_characters_and_words_are_unk_with_a_span() -> None:
    ids, spans = trained("char").encode("aжb")
    assert (ids == UNK).tolist() == [False, True, False]
    ids, spans = trained("word").encode("the zebra, the")
    assert (ids == UNK).tolist() == [False, True, False, False]
    assert "the zebra, the"[slice(*spans[1])] == "zebra"
    assert trained("word").decode(ids) == "the \ufffd, the"


@pytest.mark.parametrize("level", ["byte", "subword"])
@many_examples
@given(text=st.one_of(ANY_TEXT, WITH_SURROGATES))
def test_bytes_and_subwords_never_encode_unk(level: str, text: str) -> None:
    assert UNK not in trained(level).encode_ids(text)


def test_surrogates_are_unknown_even_if_the_training_text_has_them() -> None:
    for level in ("char", "word"):
        tokenizer = train_tokenizer(level, lambda: ["a \udc80 a \udc80x\n"])
        assert UNK in tokenizer.encode_ids("\udc80")
        assert load_tokenizer(*tokenizer.state()).size == tokenizer.size


# --- the vocabulary


def test_characters_are_sorted_by_code_point_and_limited_by_count() -> None:
    text = "bbbaacdd\n"
    assert [characters_of(text).token(id) for id in range(3, 7)] == ["a", "b", "c", "d"]
    capped = characters_of(text, VocabularyOptions(vocab_size=6))
    assert [capped.token(id) for id in range(3, capped.size)] == ["a", "b", "d"]


def test_words_are_sorted_by_count_then_alphabetically() -> None:
    tokenizer = words_of("b a c a\nb d\tc e a\n", VocabularyOptions(vocab_size=9))
    tokens = [tokenizer.token(id) for id in range(3, tokenizer.size)]
    assert tokens == ["<JOIN>", "▁", "<0x09>", "a", "b", "c"]


def test_counting_drops_the_rarest_words_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "MAX_COUNTED", 6)
    text = "often often often\n" + "".join(f"rare{i} often\n" for i in range(50))
    tokenizer = words_of(text)
    assert tokenizer.token(5) == "often"
    assert tokenizer.size <= 3 + 2 + 6


def test_normalisation_can_be_switched_off() -> None:
    text = "e\u0301\n"
    assert characters_of(text).size == 4
    assert characters_of(text, VocabularyOptions(normalize="none")).size == 5


def test_token_shows_unprintable_characters_as_bytes() -> None:
    tokenizer = characters_of("a \r\n")
    assert [tokenizer.token(id) for id in (3, 4, 5)] == ["<0x0D>", "▁", "a"]
    assert [Bytes().token(byte + 3) for byte in (0x61, 0xE2)] == ["a", "<0xE2>"]
    vocabulary = [trained("subword").token(id) for id in range(trained("subword").size)]
    assert "▁the" in vocabulary
    assert "<0xE2>" in vocabulary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "syllable"}, "`level=syllable`: choose char, word, subword or byte"),
        ({"level": "char", "vocab_size": 3}, "`vocab_size=3`: must be 6 or more"),
        ({"level": "char", "normalize": "nfkc"}, "`normalize=nfkc`: choose nfc or none"),
        ({"level": "word", "vocab_size": 5}, "`vocab_size=5`: must be 6 or more"),
        (
            {"level": "word", "split": "spaces"},
            "`split=spaces`: choose lossless, elision or whitespace",
        ),
        ({"level": "subword", "vocab_size": 259}, "`vocab_size=259`: must be 300 or more"),
        (
            {"level": "byte", "vocab_size": 100},
            "`vocab_size=100`: is not for `level=byte`, but for `level=char` or `level=word` or "
            "`level=subword`",
        ),
        (
            {"level": "subword", "split": "whitespace"},
            "`split=whitespace`: is not for `level=subword`, but for `level=word`",
        ),
        (
            {"level": "byte", "normalize": "none"},
            "`normalize=none`: is not for `level=byte`, but for `level=char` or `level=word`",
        ),
    ],
)
def test_an_error_names_the_invalid_option_and_its_value(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError) as raised:
        train_tokenizer(blocks=as_blocks(STORY), **arguments)
    assert str(raised.value) == message


# --- facts about levels


def test_levels_are_the_names_in_the_table_of_tokenizers() -> None:
    assert LEVELS == ("char", "word", "subword", "byte")
    assert all(TOKENIZERS[level].level == level for level in LEVELS)


@pytest.mark.parametrize(
    ("fact", "levels"),
    [
        ("reads_bytes", {"byte"}),
        ("has_unknown", {"char", "word"}),
        ("large_vocabulary", {"word", "subword"}),
        ("tokens_are_words", {"word"}),
        ("space_starts_word", {"subword"}),
    ],
)
def test_a_fact_is_true_at_the_stated_levels(fact: str, levels: set[str]) -> None:
    assert {level for level in LEVELS if getattr(TOKENIZERS[level], fact)} == levels


def test_a_new_level_needs_only_an_entry_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Octets(Bytes):
        level = "octet"

    monkeypatch.setitem(TOKENIZERS, Octets.level, Octets)
    tokenizer = train_tokenizer("octet", as_blocks(STORY))
    assert type(tokenizer) is type(load_tokenizer(*tokenizer.state())) is Octets


# --- words


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("well-known (in 1,000 towns), it's", "well-known ( in 1,000 towns ) , it's"),
        ("and/or... a  b,c", "and / or . . . a SPACE SPACE b , JOIN c"),
        ('He said "no".', 'He said SPACE " no " .'),
        ("“No”—she said", "“ No ” — she said"),
        (" a , b", "SPACE a SPACE , b"),
        ("a\tb ", "a <0x09> b SPACE"),
        ("3.14abc x_1 don't 3.5 U.S.", "3.14abc x_1 don't 3.5 U.S ."),
        ("می\u200cخواهم 👨\u200d👩\u200d👧🇫🇷", "می\u200cخواهم 👨\u200d👩\u200d👧 JOIN 🇫🇷"),
        ("日本のアイ。 x", "日 本 の アイ 。 SPACE x"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_only_unusual_spacing_costs_a_token(text: str, tokens: str) -> None:
    tokenizer = words_of(text)
    spelled = [tokenizer.token(int(id)) for id in tokenizer.encode_ids(text)]
    names = {"▁": "SPACE", "<JOIN>": "JOIN"}
    assert [names.get(token, token) for token in spelled] == tokens.split()


def test_elided_words_are_words_by_themselves_if_asked_for() -> None:
    text = "L'homme qu’il vit aujourd'hui, c'est-à-dire l'élève; un'altra l' a don't"
    tokenizer = words_of(text, VocabularyOptions(split="elision"))
    ids = tokenizer.encode_ids(text)
    assert [tokenizer.token(int(id)) for id in ids] == (
        "L' homme qu’ il vit aujourd'hui , c' est-à-dire l' élève ; un' altra l ' a don't".split()
    )
    assert tokenizer.decode(ids) == text


@many_examples
@given(data=st.data())
def test_a_further_word_only_appends_to_the_text(data: st.DataObject) -> None:
    tokenizer = trained("word")
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=10))
    assert tokenizer.decode(ids).startswith(tokenizer.decode(ids[:-1]))


# --- subwords


def test_subwords_learn_from_a_line_too_long_for_sentencepiece() -> None:
    long_line = STORY.replace("\n", " ") * 20
    assert len(long_line) > 4192
    tokenizer = Subwords.train(lambda: [long_line + "\n"], DEFAULTS)
    assert len(tokenizer.encode_ids("the apple and the pear")) <= 8
    unbroken = Subwords.train(lambda: ["語" * 5000 + "\n"], DEFAULTS)
    assert len(unbroken.encode_ids("語語")) < 6


def test_subwords_learn_from_lines_with_characters_that_sentencepiece_reserves() -> None:
    lines = [f"load {k % 10} ▁▂▃▄▅▆▇█ done\n" for k in range(300)]
    tokenizer = Subwords.train(lambda: lines, DEFAULTS)
    assert any("done" in tokenizer.token(id) for id in range(tokenizer.size))
    assert tokenizer.decode(tokenizer.encode_ids(lines[0])) == lines[0]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_subword_vocabulary_too_large_for_the_text_is_reduced(model_type: str) -> None:
    options = VocabularyOptions(vocab_size=30_000)
    tokenizer = Subwords.train(as_blocks(STORY), options, model_type)
    assert 260 < tokenizer.size < 1000
    assert tokenizer.decode(tokenizer.encode_ids(STORY)) == STORY


def test_a_subword_vocabulary_too_small_for_the_characters_uses_bytes() -> None:
    many_characters = "".join(map(chr, range(0x4E00, 0x5200))) + "\n"
    tokenizer = Subwords.train(lambda: [many_characters], VocabularyOptions(vocab_size=320))
    assert tokenizer.size <= 320
    assert tokenizer.decode(tokenizer.encode_ids(many_characters)) == many_characters


def test_subword_training_is_bounded_and_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "MAX_TRAINING_CHARS", 2000)
    sample = subwords._sample_lines(as_blocks(STORY * 50))
    assert 200 < sum(map(len, sample)) <= 2000
    first, second = (Subwords.train(as_blocks(STORY * 50), DEFAULTS).state() for _ in range(2))
    assert first[0] == second[0]
    assert all((first[1][name] == second[1][name]).all() for name in first[1])


@pytest.mark.parametrize("text", ["", "\n\n", "a\n", "\u2581\n", "\0\n", "\udc80\n"])
def test_a_tiny_text_gives_a_subword_model_and_an_empty_one_an_error(text: str) -> None:
    if text.strip("\n"):
        assert Subwords.train(lambda: [text], DEFAULTS).size >= 260
    else:
        with pytest.raises(InputError, match="empty"):
            Subwords.train(lambda: [text], DEFAULTS)


# --- continuing a prime


def allowed(tokenizer: Tokenizer, mask: NDArray[np.bool_] | None) -> set[str]:
    """The tokens of a mask, for display."""
    assert mask is not None
    return {tokenizer.token(int(id)) for id in np.flatnonzero(mask)}


def test_the_last_word_of_a_prime_can_become_a_longer_word() -> None:
    tokenizer = trained("word")
    ids, decoder = tokenizer.prime("the app")
    assert tokenizer.decode(ids) == "the"
    assert allowed(tokenizer, decoder.mask()) == {"apple", "applesauce", "application"}
    assert decoder.push(int(tokenizer.encode_ids("apple")[0])) == "le"
    assert decoder.mask() is None
    assert decoder.push(int(tokenizer.encode_ids("salad")[0])) == " salad"


def test_a_space_at_the_end_of_a_prime_is_the_space_before_the_next_word() -> None:
    for level in ("word", "word whitespace"):
        ids, decoder = trained(level).prime("the ")
        assert trained(level).decode(ids) == "the"
        assert "apple" in allowed(trained(level), decoder.mask())
        assert decoder.push(int(trained(level).encode_ids("apple")[0])) == "apple"


def test_a_prime_that_no_word_continues_is_kept_whole() -> None:
    for text in ("the qqq", "the\n", ""):
        ids, decoder = trained("word").prime(text)
        assert ids.tolist() == trained("word").encode_ids(text).tolist()
        assert decoder.mask() is None


def test_characters_and_bytes_keep_the_whole_prime() -> None:
    for level in ("char", "byte"):
        ids, decoder = trained(level).prime("the app")
        assert trained(level).decode(ids) == "the app"
        assert decoder.mask() is None


def test_a_mask_excludes_the_special_tokens() -> None:
    for level in ("word", "word whitespace", "subword"):
        mask = trained(level).prime("the ").decoder.mask()
        assert mask is not None
        assert not mask[:3].any()


@every_level
@many_examples
@given(prime=st.one_of(STORY_TEXT, STORY_WORDS, ANY_TEXT), data=st.data())
def test_allowed_tokens_always_spell_the_whole_prime(
    level: str, prime: str, data: st.DataObject
) -> None:
    tokenizer = trained(level)
    ids, decoder = tokenizer.prime(prime)
    drawn, new = ids.tolist(), ""
    while (mask := decoder.mask()) is not None:
        assert new == ""
        drawn.append(data.draw(st.sampled_from(np.flatnonzero(mask).tolist())))
        new += decoder.push(drawn[-1])
    new += decoder.flush()
    if not tokenizer.has_unknown:
        assert tokenizer.decode(drawn) == prime + new
    elif UNK not in drawn and level != "word whitespace":
        assert tokenizer.decode(drawn) == unicodedata.normalize("NFC", prime) + new


# --- saving and loading


@every_level
def test_saving_and_loading_changes_nothing(level: str) -> None:
    tokenizer = trained(level)
    loaded = load_tokenizer(*tokenizer.state())
    assert type(loaded) is type(tokenizer)
    assert loaded.encode_ids(STORY).tolist() == tokenizer.encode_ids(STORY).tolist()
    assert [*map(loaded.token, range(loaded.size))] == [*map(tokenizer.token, range(loaded.size))]
    assert loaded.state()[0] == tokenizer.state()[0]


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_damaged_state_raises_an_input_error(level: str) -> None:
    saved, arrays = trained(level).state()
    vocabulary = arrays["vocabulary"]
    broken = [
        ({**saved, "level": "syllable"}, arrays),
        ({**saved, "size": trained(level).size + 1}, arrays),
        ({name: value for name, value in saved.items() if name != "size"}, arrays),
        (saved, {}),
        (saved, {**arrays, "vocabulary": vocabulary[:-1]}),
        (saved, {**arrays, "vocabulary": vocabulary[: len(vocabulary) // 2]}),
        (saved, {**arrays, "vocabulary": np.full_like(vocabulary, 0xFF)}),
    ]
    for broken_settings, broken_arrays in broken:
        with pytest.raises(InputError, match="damaged"):
            load_tokenizer(broken_settings, broken_arrays)


def test_a_damaged_sentencepiece_model_raises_an_input_error() -> None:
    saved, arrays = trained("subword").state()
    model = arrays["sentencepiece"]
    with pytest.raises(InputError, match="damaged"):
        load_tokenizer(saved, {**arrays, "sentencepiece": model[:-5]})
    garbled = load_tokenizer(saved, {**arrays, "sentencepiece": np.full_like(model, 7)})
    with pytest.raises(InputError, match="damaged"):
        garbled.encode_ids("a")


# --- imports


def test_loading_and_decoding_import_neither_torch_nor_sentencepiece(tmp_path: Path) -> None:
    saved, arrays = trained("subword").state()
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    ids = trained("subword").encode_ids("the apple\n").tolist()
    script = f"""
import sys, numpy as np
from pathlib import Path
from charlm.tokenizer import load_tokenizer, train_tokenizer
arrays = {{path.stem: np.load(path) for path in Path({str(tmp_path)!r}).glob("*.npy")}}
tokenizer = load_tokenizer({saved!r}, arrays)
assert tokenizer.decode({ids!r}) == "the apple\\n"
for level in ("char", "word", "byte"):
    train_tokenizer(level, lambda: ["a b\\n"]).encode("a")
assert not {{"torch", "sentencepiece"}} & set(sys.modules), "imported too much"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
