"""Vectors of tokens in context, and of words, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import charlm
from charlm import LanguageModel
from charlm.embedding import check_name, embed_lines, of_lines, of_tokens, save
from charlm.errors import OptionError
from charlm.model.backend import Backend
from charlm.tokenizer import EOS, START

LINES = ["the cat sat", "", "naïve 😀 dog", "a"]
Embed = Callable[[list[str]], list[np.ndarray]]


def test_a_tokens_vector_is_the_state_after_it(model: LanguageModel) -> None:
    found = list(model.embed(LINES))
    for line, (vectors, ids, spans) in zip(LINES, found, strict=True):
        state, expected = model.backends.numpy.initial_state(1), []
        _, state = model.backends.numpy.step(np.array([START]), state)
        for id in ids:
            _, state = model.backends.numpy.step(np.array([id]), state)
            expected.append(state[-1][0][0])
        np.testing.assert_allclose(vectors, np.array(expected).reshape(vectors.shape), atol=1e-5)
        assert len(vectors) == len(ids) == len(spans) == len(line)
        assert [line[a:b] for a, b in spans] == list(line)


def test_a_backend_is_asked_for_the_tokens_of_each_batch(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def backends(tokens: int) -> Backend:
        asked.append(tokens)
        return model.backends.numpy

    monkeypatch.setattr("charlm.embedding.LINES_AT_ONCE", 2)
    assert len(list(embed_lines(backends, model.tokenizer, LINES))) == len(LINES)
    assert asked == [len("the cat sat"), len("naïve 😀 dog") + len("a")]


def test_a_bidirectional_models_vectors_have_both_directions(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = charlm.train(corpus, task="fill", steps=5, hidden=12, quiet=True)
    (found,) = model.embed(["the cat"])
    assert found.vectors.shape == (7, 24)
    state = model.backends.numpy.initial_state(1)
    y, _ = model.backends.numpy.read(np.array([[EOS, *found.ids[::-1]]]), state, reverse=True)
    np.testing.assert_allclose(found.vectors[:, 12:], y[0, 1:][::-1], atol=1e-5)
    alone = next(iter(model.embed(["the"]))).vectors
    np.testing.assert_allclose(found.vectors[:3, :12], alone[:, :12], atol=1e-5)
    assert np.abs(found.vectors[:3, 12:] - alone[:, 12:]).max() > 1e-3


def test_a_file_of_tokens_is_aligned_with_the_text(model: LanguageModel) -> None:
    arrays = of_tokens(zip(LINES, model.embed(LINES), strict=True))
    text = "\n".join(LINES) + "\n"
    n = sum(map(len, LINES))
    assert arrays["vectors"].shape == (n, model.config.hidden)
    for id, line, start, end in zip(
        *(arrays[k] for k in ("ids", "lines", "start", "end")), strict=True
    ):
        assert model.tokenizer.encode(text[start:end]).ids.tolist() == [id]
        assert text[:start].count("\n") == line


def test_a_file_of_lines_has_their_means(model: LanguageModel) -> None:
    arrays = of_lines(zip(LINES, model.embed(LINES), strict=True))
    tokens = [line.vectors for line in model.embed(LINES)]
    np.testing.assert_allclose(arrays["vectors"][0], tokens[0].mean(axis=0), atol=1e-6)
    assert arrays["vectors"].shape[0] == 4 and not arrays["vectors"][1].any()
    text = "\n".join(LINES) + "\n"
    assert [text[a:b] for a, b in zip(arrays["start"], arrays["end"], strict=True)] == LINES


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_are_read_back_as_they_were(
    model: LanguageModel, tmp_path: Path, suffix: str
) -> None:
    arrays = of_tokens(zip(LINES, model.embed(LINES), strict=True))
    path = tmp_path / f"vectors{suffix}"
    save(path, arrays)
    found = load_file(path) if suffix == ".safetensors" else dict(np.load(path))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_other_kinds_of_files_are_refused() -> None:
    with pytest.raises(OptionError, match=r"`out=a\.csv`: end the name in \.npz or \.txt"):
        check_name(Path("a.csv"), ".npz", ".txt")


def test_words_have_the_rows_of_the_embedding_and_unseen_ones_that_of_unk(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = charlm.train(corpus, level="word", steps=5, hidden=12, quiet=True)
    table = model.word_vectors()
    assert table.shape == (model.tokenizer.size, 12) and len(model.vocabulary) == len(table)
    cat, unseen = model.word_vectors(["cat", "zebra"])
    np.testing.assert_array_equal(cat, table[model.vocabulary.index("cat")])
    np.testing.assert_array_equal(unseen, table[2])
