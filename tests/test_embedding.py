"""Vectors of tokens in context, vectors of words, and the files of these vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from charlm import FillModel, LanguageModel
from charlm.engines.embedding import embed_lines, line_arrays, token_arrays
from charlm.engines.vector_files import Arrays, check_name, save
from charlm.errors import OptionError
from charlm.model.backend import Backend
from charlm.tokenizer import EOS, START, UNK
from conftest import Trained

LINES = ["the cat sat", "", "naïve 😀 dog", "a"]


def test_the_vector_of_a_token_is_the_state_after_it(model: LanguageModel) -> None:
    for line, (vectors, ids, spans) in zip(LINES, model.embed(LINES), strict=True):
        network, expected = model.backends.numpy, []
        _, state = network.read(np.array([[START]]), network.initial_state(1))
        for id in ids:
            y, state = network.read(np.array([[id]]), state)
            expected.append(y[0, 0])
        np.testing.assert_allclose(vectors, np.array(expected).reshape(vectors.shape), atol=1e-5)
        assert len(vectors) == len(ids) == len(spans) == len(line)
        assert [line[a:b] for a, b in spans] == list(line)


def test_the_backend_is_chosen_by_the_tokens_of_each_batch(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_tokens: list[int] = []

    def for_tokens(tokens: int) -> Backend:
        batch_tokens.append(tokens)
        return model.backends.numpy

    monkeypatch.setattr(model.backends, "for_tokens", for_tokens)
    monkeypatch.setattr("charlm.engines.embedding.LINES_AT_ONCE", 2)
    assert len(list(embed_lines(model.backends, model.tokenizer, LINES))) == len(LINES)
    assert batch_tokens == [len("the cat sat"), len("naïve 😀 dog") + len("a")]


def test_the_vectors_of_a_fill_model_have_both_directions(
    trained: Trained,
) -> None:
    model: FillModel = trained(task="fill", steps=30, hidden=16)
    (line,) = model.embed(["the cat"])
    assert line.vectors.shape == (7, 32)
    state = model.backends.numpy.initial_state(1)
    y, _ = model.backends.numpy.read(np.array([[EOS, *line.ids[::-1]]]), state, reverse=True)
    np.testing.assert_allclose(line.vectors[:, 16:], y[0, 1:][::-1], atol=1e-5)
    prefix = next(iter(model.embed(["the"]))).vectors
    np.testing.assert_allclose(line.vectors[:3, :16], prefix[:, :16], atol=1e-5)
    assert np.abs(line.vectors[:3, 16:] - prefix[:, 16:]).max() > 1e-3


def joined(parts: Iterable[Arrays]) -> dict[str, np.ndarray]:
    listed = list(parts)
    return {name: np.concatenate([part[name] for part in listed]) for name in listed[0]}


def test_token_arrays_are_aligned_with_the_text(model: LanguageModel) -> None:
    arrays = joined(token_arrays(zip(LINES, model.embed(LINES), strict=True)))
    text = "\n".join(LINES) + "\n"
    n = sum(map(len, LINES))
    assert arrays["vectors"].shape == (n, model.config.hidden)
    for id, line, start, end in zip(
        *(arrays[k] for k in ("ids", "lines", "start", "end")), strict=True
    ):
        assert model.tokenizer.encode(text[start:end]).ids.tolist() == [id]
        assert text[:start].count("\n") == line


def test_line_arrays_have_the_means_of_the_tokens(model: LanguageModel) -> None:
    arrays = joined(line_arrays(zip(LINES, model.embed(LINES), strict=True)))
    tokens = [line.vectors for line in model.embed(LINES)]
    np.testing.assert_allclose(arrays["vectors"][0], tokens[0].mean(axis=0), atol=1e-6)
    assert arrays["vectors"].shape[0] == 4 and not arrays["vectors"][1].any()
    text = "\n".join(LINES) + "\n"
    assert [text[a:b] for a, b in zip(arrays["start"], arrays["end"], strict=True)] == LINES


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_hold_the_saved_arrays(model: LanguageModel, tmp_path: Path, suffix: str) -> None:
    parts = list(token_arrays(zip(LINES, model.embed(LINES), strict=True)))
    path, arrays = tmp_path / f"vectors{suffix}", joined(parts)
    assert save(path, iter(parts)) == len(arrays["ids"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    loaded = load_file(path) if suffix == ".safetensors" else dict(np.load(path))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_file_names_with_other_suffixes_are_refused() -> None:
    with pytest.raises(
        OptionError, match=r"`out=a\.csv`: the file's name must end in \.npz or \.txt"
    ):
        check_name(Path("a.csv"), ".npz", ".txt")


def test_known_words_have_their_row_of_the_embedding_and_unknown_words_that_of_unk(
    trained: Trained,
) -> None:
    model: LanguageModel = trained(level="word", steps=30, hidden=16)
    table = model.word_vectors()
    assert table.shape == (model.tokenizer.size, 16) and len(model.vocabulary) == len(table)
    cat, unknown = model.word_vectors(["cat", "zebra"])
    np.testing.assert_array_equal(cat, table[model.vocabulary.index("cat")])
    np.testing.assert_array_equal(unknown, table[UNK])
