"""Verbatim pieces: against a search for every piece."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.corpus import copying
from charlm.corpus.copying import copied, longest_matches


@given(st.text("ab\n", max_size=60), st.text("ab\n", max_size=90))
def test_matches_are_the_longest_ones(text: str, corpus: str) -> None:
    lengths, starts = longest_matches(text, corpus)
    assert len(lengths) == len(starts) == len(text)
    for k, (length, start) in enumerate(zip(lengths.tolist(), starts.tolist(), strict=True)):
        assert corpus[start : start + length] == text[k : k + length]
        assert k + length == len(text) or text[k : k + length + 1] not in corpus


@pytest.mark.parametrize("size", [200, 10_000])
def test_pieces_of_a_long_corpus_are_found_across_its_parts(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHARS_AT_ONCE", size)
    rng = random.Random(1)
    lines = ["".join(rng.choices("abcdefgh", k=30)) + "\n" for _ in range(40)]
    text = f"{lines[7]}xyz{lines[31][:20]}\n{lines[7][:12]}"
    pieces, share, *_ = copied(text, {"a": lines}, 10)
    assert [(p.text, p.line, p.corpus_line) for p in pieces] == [
        (lines[7], 1, 8), (lines[31][:20], 2, 32), ("\n" + lines[7][:12], 2, 7),
    ]  # fmt: skip
    assert share == pytest.approx((31 + 20 + 13) / len(text))


def test_pieces_do_not_overlap_but_the_share_counts_all_of_them() -> None:
    pieces, share, *_ = copied("abcdefg", {"a": ["abcde\n", "cdefg\n"]}, 5)
    assert [p.text for p in pieces] == ["abcde"] and share == 1.0


def test_a_piece_is_of_one_file_which_is_named() -> None:
    corpus = {"one": ["xx\n", "abcd"], "two": ["q\nefgh\nabcdef\n"]}
    pieces, *_ = copied("abcdefgh", corpus, 3)
    assert [(p.text, p.corpus, p.corpus_line) for p in pieces] == [("abcdef", "two", 3)]
    pieces, *_ = copied("abcd\nefgh", corpus, 4)
    assert [(p.text, p.corpus, p.corpus_line) for p in pieces] == [
        ("\nefgh", "two", 1), ("abcd", "one", 2),
    ]  # fmt: skip


def test_nothing_is_copied_from_nothing() -> None:
    assert copied("", {"a": ["abc\n"]}, 1) == ([], 0.0, 0, 0)
    assert copied("abc", {"a": []}, 1) == ([], 0.0, 1, 0)
    assert copied("abc", {"a": ["xyz\n"]}, 1) == ([], 0.0, 1, 0)
    assert np.array_equal(longest_matches("a\U0001f600", "\U0001f600b")[0], [0, 1])


@pytest.mark.parametrize("size", [10, 10_000])
def test_whole_lines_that_are_copied_are_counted(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHARS_AT_ONCE", size)
    names = ["Anna", "Annabel", "Bert", "Carla", "Dora", "Emil", "Frieda"]
    text = "Carla\nDora\n\nnna\nBerta\nFrieda\nCarla"
    found = copied(text, {"a": [f"{name}\n" for name in names]}, 3)
    assert (found.lines, found.copied_lines) == (6, 4)
    assert "Carla\nDora\n" in [piece.text for piece in found.pieces]
    within = copied(text, {"a": [f"{name}\n" for name in names]}, 3, within_lines=True)
    assert {piece.text for piece in within.pieces} == {"Carla", "Dora", "nna", "Bert", "Frieda"}
    assert within.copied_lines == 4
