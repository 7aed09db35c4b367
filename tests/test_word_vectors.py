"""Files of word vectors: reading, malformed files, writing, and agreement with gensim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charlm.corpus import word_vectors
from charlm.errors import InputError
from charlm.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer("word", lambda: ["the Cat sat , the cat\n"])
LINES = ["the 1 2 3", "cat 0.5 -1e-2 7", "dog 9 9 9", ", 4 5 6"]


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("header", [[], ["4 3"]])
def test_a_token_has_the_vector_of_its_spelling_or_else_of_its_lower_case_form(
    tmp_path: Path, header: list[str]
) -> None:
    path = write_lines(tmp_path / "v.txt", *header, *LINES)
    assert word_vectors.width(path) == 3
    read = word_vectors.read(path, TOKENIZER)
    by_word = {
        TOKENIZER.token(id): vector.tolist()
        for id, vector in zip(read.ids.tolist(), read.vectors, strict=True)
    }
    cat = [0.5, np.float32(-0.01), 7.0]
    assert by_word == {"the": [1, 2, 3], "cat": cat, "Cat": cat, ",": [4, 5, 6]}


def test_words_with_spaces_and_lines_with_trailing_spaces_are_read(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "v.txt", "the 1 2 3 ", ". . . 1 2 3", "cat 1 1 1")
    assert len(word_vectors.read(path, TOKENIZER).ids) == 3  # "the", "cat" and "Cat"


def test_words_that_are_not_utf8_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"the 1 2 3\nna\xefve 1 2 3\n")
    assert len(word_vectors.read(tmp_path / "v.txt", TOKENIZER).ids) == 1
    (tmp_path / "v.bin").write_bytes(b"2 3\nthe \0\0\x80?\0\0\0@cat ")
    with pytest.raises(InputError, match=r"v\.bin, line 2: .* convert it from the binary format"):
        word_vectors.read(tmp_path / "v.bin", TOKENIZER)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the 1 2 3", "cat 1 2"], "line 2: should be a word and 3 numbers"),
        (["2 3", "the 1 2 3", "cat 1 x 3"], "line 3: should be a word and 3 numbers"),
        (["the 1 2 3", "", "cat 1 2 3"], "line 2: should be"),
        (["the 1 2 nan"], "line 1: should be"),
        (["9 3", "the 1 2 3"], "ends after 1 of 9 words; the file is incomplete"),
        (["word"], "not a file of word vectors"),
        (["zebra 1 2 3"], "has no vector for any of the"),
    ],
)
def test_an_error_of_a_malformed_file_names_the_file_and_the_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    path = write_lines(tmp_path / "malformed.txt", *lines)
    with pytest.raises(InputError, match=rf"malformed\.txt.*{message}"):
        word_vectors.read(path, TOKENIZER)


def test_gensim_reads_the_written_file(tmp_path: Path) -> None:
    keyed_vectors = pytest.importorskip("gensim.models").KeyedVectors
    words = [TOKENIZER.token(id) for id in range(TOKENIZER.size)]
    vectors = np.random.default_rng(0).normal(size=(len(words), 4)).astype(np.float32)
    path = tmp_path / "v.txt"
    word_vectors.write(path, words, vectors)
    theirs = keyed_vectors.load_word2vec_format(str(path))
    assert theirs.index_to_key == words
    np.testing.assert_allclose(theirs.vectors, vectors, rtol=1e-6)
    ours = word_vectors.read(path, TOKENIZER)
    np.testing.assert_allclose(ours.vectors, vectors[ours.ids], rtol=1e-6)
    assert len(ours.ids) == len(words)
