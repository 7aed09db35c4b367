"""Sentences in CoNLL columns: what is a token, which columns are read, what is written back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.corpus.conll import (
    Columns,
    Sentence,
    columns_of,
    sentences,
    with_tags,
    words,
    words_and_tags,
)
from charlm.corpus.examples import ExampleError

NBSP, BOM = "\u00a0", "\ufeff"
CONLL_2003 = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

Peter NNP I-NP I-PER

-DOCSTART- -X- O O

1-2 CD I-NP O
# # I-NP O
"""
CONLLU = "\n".join(
    [
        "# newdoc id = a",
        "# sent_id = 1",
        "1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_",
        "1\tzu\tzu\tADP\tAPPR\t_\t3\tcase\t_\t_",
        "2\tdem\tder\tDET\tART\t_\t3\tdet\t_\t_",
        "2.1\tnull\t_\tVERB\t_\t_\t_\t_\t_\t_",
        "3\tNew York\tNew York\tPROPN\tNE\t_\t0\troot\t_\t_",
        "",
        "# sent_id = 2",
        "# text = # ?",
        "1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_",
        "2\t?\t?\tPUNCT\t_\t_\t1\tpunct\t_\t_",
        "",
        "",
    ]
)
ONTONOTES = """#begin document (bc/a); part 000
bc/a 0 0 Hi UH (S* A#1
bc/a 0 1 # NN *) A#1

#end document
#begin document (bc/b); part 000
bc/b 0 0 Bye UH (S*) A#1

#end document
"""
MULTICONER = "# id 5239\tdomain=train\nthe _ O\ncat _ B-A\n\n# id 5240\tdomain=train\n# _ O\n"
TWEETS = "#love\tB\n#life\tO\n\n#\tO\nis\tO\n"


def read(text: str) -> list[Sentence]:
    return list(sentences([text]))


def rows(text: str) -> list[list[list[str]]]:
    return [sentence.rows for sentence in read(text)]


def lines_with_text(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip(" \t\r")]


def test_blank_lines_end_sentences() -> None:
    expected = [[["a", "X"], ["b", "Y"]], [["c", "Z"]]]
    assert rows("a X\nb Y\n\nc Z\n\n") == expected
    assert rows("a X\nb Y\n\nc Z") == expected  # no line end
    assert rows("\n \na X\nb Y\n\n \t\n\nc Z\n\n\n") == expected  # several, with white space
    assert rows("a X\r\nb Y\r\n\r\n \r\nc Z\r\n") == expected
    assert rows(f"{BOM}a X\nb Y\n\nc Z\n") == expected


@pytest.mark.parametrize("text", ["", "\n", " \n\t\r\n", BOM])
def test_a_text_without_tokens_has_no_sentences(text: str) -> None:
    assert read(text) == []


def test_any_number_of_spaces_and_tabs_separates_columns() -> None:
    assert rows("a  X\n b \tY \nc\tZ\n") == [[["a", "X"], ["b", "Y"], ["c", "Z"]]]


def test_only_tab_separates_columns_if_the_first_token_line_has_a_tab() -> None:
    text = "New York\tB-LOC\nof the\t\tO\nis fun\n"
    assert rows(text) == [[["New York", "B-LOC"], ["of the", "", "O"], ["is fun"]]]
    assert rows("# note\n-DOCSTART- O\nNew York\tO\n") == [[["New York", "O"]]]


@pytest.mark.parametrize("space", [NBSP, "\u3000", "\u2028", "\x85", "\x0b", "\x0c", "\ufeff"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_other_spaces_of_unicode_are_tokens(space: str, separator: str) -> None:
    text = f"a{separator}X\n{space}{separator}Y\n{space}\n"
    assert rows(text) == [[["a", "X"], [space, "Y"], [space]]]


def test_docstart_is_no_token() -> None:
    assert [words(sentence) for sentence in read(CONLL_2003)] == [
        ["EU", "rejects"],
        ["Peter"],
        ["1-2", "#"],
    ]


def test_docstart_without_blank_lines_ends_a_sentence() -> None:
    assert rows("-DOCSTART-\nb\n-DOCSTART-\nc\n") == [[["b"]], [["c"]]]


def test_comments_and_other_ids_of_conllu_are_no_tokens() -> None:
    assert [words_and_tags(sentence) for sentence in read(CONLLU)] == [
        (["zu", "dem", "New York"], ["ADP", "DET", "PROPN"]),
        (["#", "?"], ["SYM", "PUNCT"]),
    ]


def test_ids_are_words_where_the_text_is_not_conllu() -> None:
    assert rows("1-2\tCD\n1.1\tCD\n")[0] == [["1-2", "CD"], ["1.1", "CD"]]
    ten = "x" + "\t_" * 9
    assert len(rows(f"{ten}\n1-2{ten}\n")[0]) == 2
    assert len(rows("1 a b c d e f g h i\n1-2 a b c d e f g h i\n")[0]) == 2  # no TAB


def test_a_hash_is_a_token_if_its_line_has_as_many_columns_as_others() -> None:
    assert [words(sentence) for sentence in read(TWEETS)] == [["#love", "#life"], ["#", "is"]]
    assert [words(sentence) for sentence in read("# # O\n10 CD O\n")] == [["#", "10"]]
    assert rows("#a\n\nb\n") == [[["#a"]], [["b"]]]
    assert rows("#a\tX\n#\tY\n") == [[["#a", "X"], ["#", "Y"]]]  # every line begins with it


def test_other_lines_with_a_hash_before_a_sentence_are_comments() -> None:
    assert [words(sentence, 4) for sentence in read(ONTONOTES)] == [["Hi", "#"], ["Bye"], []]
    assert [words(sentence) for sentence in read(MULTICONER)] == [["the", "cat"], ["#"]]
    assert rows("# text = a b c\na\tX\n") == [[["a", "X"]]]
    assert rows("# text = a b c\na\n") == [[["a"]]]


def test_within_a_sentence_a_line_with_a_hash_is_a_token() -> None:
    """A line that is not complete is an error, and is not taken for a comment."""
    (sentence,) = read("a X Y\n# Z\n")
    assert sentence.rows == [["a", "X", "Y"], ["#", "Z"]]
    with pytest.raises(ExampleError, match=r"line 2: `label_column=3`: no such column"):
        words_and_tags(sentence, label_column=3)


def test_a_sentence_knows_its_lines() -> None:
    first, second = read(CONLLU)
    assert (first.number, first.positions) == (1, [3, 4, 6])
    assert (second.number, second.positions) == (9, [2, 3])
    assert second.lines[:2] == ["# sent_id = 2", "# text = # ?"]
    numbers = [sentence.number for sentence in read("\n\na X\n\n\n\nb Y\n-DOCSTART-\n\nc Z\n")]
    assert numbers == [3, 7, 8]


def test_columns_have_defaults() -> None:
    assert columns_of(read("a DT O\n")[0]) == Columns(word=1, tag=-1)
    assert columns_of(read(CONLLU)[0]) == Columns(word=2, tag=4)
    assert columns_of(read(CONLLU)[0], text_column=3) == Columns(word=3, tag=4)
    assert columns_of(read("a DT O\n")[0], label_column=2) == Columns(word=1, tag=2)


def test_columns_are_numbered_from_both_ends() -> None:
    (sentence,) = read("a DT B\nb NN I\n")
    assert words_and_tags(sentence) == (["a", "b"], ["B", "I"])
    assert words_and_tags(sentence, 2, 3) == (["DT", "NN"], ["B", "I"])
    assert words_and_tags(sentence, -3, -2) == (["a", "b"], ["DT", "NN"])
    assert words_and_tags(read(CONLLU)[1], label_column=8)[1] == ["root", "punct"]


def test_rows_may_have_different_numbers_of_columns() -> None:
    (sentence,) = read("a DT x B\nb NN I\n")
    assert words_and_tags(sentence) == (["a", "b"], ["B", "I"])
    assert words_and_tags(sentence, label_column=2) == (["a", "b"], ["DT", "NN"])


def test_spaces_around_a_tag_are_dropped() -> None:
    (sentence,) = read("a b \tX \nc\t Y\n")
    assert words_and_tags(sentence) == (["a b ", "c"], ["X", "Y"])


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        (
            "a X\n\nb Y\nc Z\n",
            (5, None),
            "line 3: `text_column=5`: no such column: the line has 2 columns (separated by "
            "spaces); count them from 1, or from the end: -1 is the last",
        ),
        (
            "a\tX\n\nb\tY\nc d\n",
            (1, 2),
            "line 4: `label_column=2`: no such column: the line has 1 ",
        ),
        ("a X\n\nb Y\n", (0, None), "line 3: `text_column=0`: no such column"),
        ("a X\n\nb Y\n", (None, -3), "line 3: `label_column=-3`: no such column"),
        ("a X\n\nb Y\nc\n", (None, None), "line 4: `text_column=1` and `label_column=-1` are the "),
        ("a X\n\nb Y\n", (2, None), "line 3: `text_column=2` and `label_column=-1` are the same"),
        ("a\tX\n\nb\t \n", (None, None), "line 3: `label_column=-1`: column 2 is empty; write a "),
        ("a\tX\n\n\tY\n", (None, None), "line 3: `text_column=1`: column 1 is empty"),
        (f"{CONLLU}1\tx\n", (None, None), "line 14: `label_column=4`: no such column"),
    ],
)
def test_a_missing_value_is_named(
    text: str, columns: tuple[int | None, int | None], problem: str
) -> None:
    sentence = read(text)[-1]
    with pytest.raises(ExampleError) as caught:
        words_and_tags(sentence, *columns)
    assert problem in str(caught.value)


def test_words_are_read_without_tags() -> None:
    (sentence,) = read("a\nb\n")
    assert words(sentence) == ["a", "b"]
    assert with_tags(sentence, ["X", "Y"]) == "a X\nb Y\n\n"


def test_tags_of_conllu_are_written_into_their_column() -> None:
    first, second = read(CONLLU)
    assert with_tags(second, ["B", "O"]) == (
        "# sent_id = 2\n# text = # ?\n"
        "1\t#\t#\tB\t_\t_\t0\troot\t_\t_\n2\t?\t?\tO\t_\t_\t1\tpunct\t_\t_\n\n"
    )
    for column in (4, 5):
        before = [line.split("\t") for line in first.lines]
        lines = with_tags(first, ["1", "2", "3"], column).splitlines()
        changed = [line.split("\t") for line in lines if line]
        assert len(changed) == len(before)
        tags = {k: str(n) for n, k in enumerate(first.positions, 1)}
        for k, (old, new) in enumerate(zip(before, changed, strict=True)):
            expected = [*old[: column - 1], tags[k], *old[column:]] if k in tags else old
            assert new == expected


def test_a_column_is_added_to_token_lines_only() -> None:
    assert with_tags(read(CONLL_2003)[2], ["B", "O"]) == (
        "-DOCSTART- -X- O O\n\n1-2 CD I-NP O B\n# # I-NP O O\n\n"
    )


def test_an_added_column_comes_before_the_line_end() -> None:
    (sentence,) = read("# a =\r\nb\tX\r\nc\t\r\n")
    assert with_tags(sentence, ["1", "2"]) == "# a =\r\nb\tX\t1\r\nc\t\t2\r\n\r\n"


def test_another_number_of_values_is_an_error() -> None:
    (sentence,) = read("a X\nb Y\n")
    with pytest.raises(ValueError):
        with_tags(sentence, ["1"])


TEXTS = [CONLL_2003, CONLLU, ONTONOTES, MULTICONER, TWEETS, CONLLU.replace("\n", "\r\n")]


@pytest.mark.parametrize("text", TEXTS)
def test_all_lines_are_written_back(text: str) -> None:
    kept = "\n".join(line for sentence in read(text) for line in sentence.lines)
    assert lines_with_text(kept) == lines_with_text(text)


@pytest.mark.parametrize("text", TEXTS)
def test_an_added_column_is_read_back(text: str) -> None:
    before = read(text)
    added = [[f"T{k}" for k in range(len(sentence.rows))] for sentence in before]
    written = "".join(with_tags(s, tags) for s, tags in zip(before, added, strict=True))
    after = read(written)
    assert [words(sentence) for sentence in after] == [words(sentence) for sentence in before]
    assert [words_and_tags(sentence)[1] for sentence in after] == added


@given(st.sampled_from(TEXTS), st.lists(st.integers(0, 400), max_size=8))
def test_blocks_may_end_anywhere(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(text)]
    blocks = [text[a:b] for a, b in pairwise(bounds)]
    assert list(sentences(blocks)) == read(text)


def test_a_sentence_is_read_as_soon_as_it_ends() -> None:
    """No more of a text is in memory than one block and one sentence."""
    read_blocks = 0

    def endless() -> Iterator[str]:
        nonlocal read_blocks
        while True:
            read_blocks += 1
            yield "a X\n\nb "

    stream = sentences(endless())
    assert next(stream).rows == [["a", "X"]]
    assert read_blocks == 1
    assert next(stream).rows == [["b", "a", "X"]]
    assert read_blocks == 2
