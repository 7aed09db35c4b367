"""Networks of every shape train, are saved, resumed and used; what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import charlm
from charlm import FillModel, LanguageModel
from charlm.corpus import word_vectors
from charlm.errors import InputError, OptionError, Stopped
from conftest import stopped_after

# The networks alone: what they have learnt is not hidden by n-grams.
SMALL: dict[str, Any] = {
    "hidden": 16,
    "bptt": 16,
    "batch": 4,
    "quiet": True,
    "precision": "fp32",
    "ngram": "none",
}
SHAPES: dict[str, dict[str, Any]] = {
    "relu": {"cell": "rnn", "activation": "relu"},
    "no forget gate": {"forget_gate": False},
    "peepholes": {"peepholes": "ifo"},
    "reset before": {"cell": "gru", "reset": "before"},
    "layer norm": {"layer_norm": True},
    "residual": {"layers": 4, "residual": True},
    "feed-forward": {"feedforward": 2},
    "highway": {"highway": 2},
    "state dropout": {"state_dropout": 0.2},
    "weight dropout": {"weight_dropout": 0.2},
    "dropout per step": {"dropout": 0.2, "input_dropout": 0.1, "dropout_per_step": True},
    "letters": {"level": "word", "characters": "recurrent"},
    "letters by filters": {"level": "word", "characters": "convolutional"},
    "untied words": {"level": "word", "embedding": 12},
    "bidirectional": {"task": "fill", "layers": 2, "steps": 200},
    "bidirectional words by letters": {
        "level": "word", "task": "fill", "characters": "convolutional"
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_learns_and_is_loaded_as_it_was_saved(corpus: Path, shape: str) -> None:
    options = {**SMALL, "dropout": 0.0, "lr": 0.02, "steps": 100, **SHAPES[shape]}
    first = charlm.train(corpus, out="untrained", **{**options, "steps": 1})
    model = charlm.train(corpus, out="trained", **options)
    assert model.card.valid_nats < 0.75 * first.card.valid_nats
    again = charlm.load("trained")
    assert again.config == model.config
    if isinstance(again, FillModel):
        assert again.fill("the cat ___ at home")[0]
        return
    assert isinstance(again, LanguageModel)
    text = "the cat sat on the mat"
    by_numpy = again.score(text).logprob
    by_torch = charlm.load("trained", kind=LanguageModel, backend="torch")
    assert by_torch.score(text).logprob == pytest.approx(by_numpy, abs=1e-3)
    assert again.sample("the", length=10, seed=1).startswith("the")


@pytest.mark.parametrize("shape", ["bidirectional words by letters", "state dropout", "letters"])
def test_a_resumed_run_of_any_shape_ends_with_the_very_same_weights(
    corpus: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "dropout": 0.2, "steps": 24, **SHAPES[shape]}
    whole = charlm.train(corpus, out="whole", **options)
    with monkeypatch.context() as patch:
        stopped_after(13, patch)
        with pytest.raises(Stopped):
            charlm.train(corpus, out="parts", **options)
    charlm.train(corpus, out="parts", resume=True, quiet=True)
    expected, found = (load_file(f"{run}/model.safetensors") for run in ("whole", "parts"))
    assert expected.keys() == found.keys() and whole.config == charlm.load("parts").config
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])


def test_residual_connections_help_a_deep_stack(corpus: Path) -> None:
    deep = {**SMALL, "layers": 4, "cell": "rnn", "steps": 120, "dropout": 0.0}
    plain, residual = (charlm.train(corpus, residual=r, **deep) for r in (False, True))
    assert residual.card.valid_nats < plain.card.valid_nats


def test_a_word_never_seen_is_near_the_words_that_are_spelled_like_it(tmp_path: Path) -> None:
    text = tmp_path / "verbs.txt"
    verbs = "walk talk jump play turn call help ask look want work open close start".split()
    nouns = "dog cat bird tree house car boat hat ring song book lamp chair door".split()
    lines = [f"she {verb}ed the {noun}\n" for verb in verbs for noun in nouns]
    text.write_text("".join(np.random.default_rng(0).permutation(lines)), encoding="utf-8")
    for characters in ("recurrent", "convolutional"):
        model = charlm.train(
            text, level="word", characters=characters, steps=100, quiet=True, hidden=16, lines=True,
            precision="fp32",
        )  # fmt: skip
        seen = {w: v / np.linalg.norm(v) for w, v in zip(
            verbs + nouns, model.word_vectors([f"{v}ed" for v in verbs] + nouns), strict=True
        )}  # fmt: skip
        for unseen in ("painted", "rested", "milked"):
            (vector,) = model.word_vectors([unseen])
            near = {w: float(v @ vector) / np.linalg.norm(vector) for w, v in seen.items()}
            assert np.mean([near[v] for v in verbs]) > np.mean([near[n] for n in nouns]) + 0.1


# --- word vectors to start from ---


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    rng = np.random.default_rng(0)
    words = ["the", "cat", "dog", "mat", "zebra"]
    word_vectors.write(path, words, rng.normal(size=(5, 12)).astype(np.float32))
    return path


def test_training_starts_from_the_vectors_of_a_file(
    corpus: Path, vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**SMALL, "level": "word", "embeddings": str(vectors), "quiet": False}
    frozen = charlm.train(corpus, steps=20, freeze_embeddings=True, out="frozen", **options)
    tuned = charlm.train(corpus, steps=20, out="tuned", **options)
    said = capsys.readouterr().err
    assert f"embeddings: 4 of {frozen.tokenizer.size} tokens have a vector in {vectors}" in said
    given = word_vectors.read(vectors, frozen.tokenizer)
    assert frozen.config.embedding == tuned.config.embedding == 12 and not frozen.config.tied
    np.testing.assert_array_equal(frozen.word_vectors()[given.ids], given.vectors)
    moved = np.abs(tuned.word_vectors()[given.ids] - given.vectors)
    assert 0 < moved.max() < 0.5
    others = np.setdiff1d(np.arange(3, frozen.tokenizer.size), given.ids)
    fresh = charlm.train(corpus, steps=1, freeze_embeddings=True, out="fresh", **options)
    assert np.abs(frozen.word_vectors()[others] - fresh.word_vectors()[others]).max() > 1e-3
    more = charlm.train(corpus, kind=LanguageModel, out="frozen", resume=True, steps=40, quiet=True)
    np.testing.assert_array_equal(more.word_vectors()[given.ids], given.vectors)


def test_vectors_as_wide_as_the_hidden_state_are_tied(corpus: Path, vectors: Path) -> None:
    model = charlm.train(
        corpus, steps=2, level="word", embeddings=str(vectors), **{**SMALL, "hidden": 12}
    )
    assert model.config.tied


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embeddings": "vectors.txt"}, "`embeddings=vectors.txt`: is not for `level=char`"),
        ({"characters": "recurrent"}, "`characters=recurrent`: .*char`, but for `level=word`"),
        ({"freeze_embeddings": True}, "`freeze_embeddings=True`: goes with `embeddings`"),
        ({"level": "word", "embeddings": "vectors.txt", "embedding": 7},
         "`embedding=7`: the vectors of vectors.txt have 12 features"),
        ({"state_dropout": 0.95}, "`state_dropout=0.95`: must be from 0 to 0.9"),
        ({"weight_dropout": -0.1}, "`weight_dropout=-0.1`"),
        ({"input_dropout": 1.0}, "`input_dropout=1`"),
        ({"cell": "gru", "peepholes": "i"}, "`peepholes=i`: is not for `cell=gru`"),
        ({"cell": "lstm", "reset": "before"}, "`reset=before`: is not for `cell=lstm`"),
        ({"task": "fill", "feedforward": 0}, "`feedforward=0`: a network that reads"),
        ({"embedding": 0}, "`embedding=0`"),
        ({"embedding": 32, "residual": True, "hidden": None}, "`residual=True`: .* `layers=2`"),
        ({"level": "word", "embeddings": "vectors.txt", "residual": True, "hidden": None},
         "`residual=True`: .* `layers=2`"),
        ({"forget_bias": float("nan")}, "`forget_bias=nan`: must be from -100 to 100"),
        ({"cell": "gru", "forget_bias": 2.0}, "`forget_bias=2`: there is no forget gate"),
        ({"forget_gate": False, "forget_bias": 0.0}, "`forget_bias=0`: there is no forget gate"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_training(
    corpus: Path, vectors: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        charlm.train(corpus, steps=2, **{**SMALL, **options})
    assert not Path("runs").exists()


def test_a_broken_file_of_vectors_leaves_nothing_behind(corpus: Path, vectors: Path) -> None:
    lines = vectors.read_text(encoding="utf-8").splitlines()
    vectors.write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]), encoding="utf-8")
    with pytest.raises(InputError, match=r"vectors\.txt, line 4: should be a word and 12 numbers"):
        charlm.train(corpus, steps=2, level="word", embeddings=str(vectors), **SMALL)
    assert not any(Path("runs").glob("*"))


def test_a_network_is_described_by_what_is_special_about_it(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charlm.train(
        corpus, cell="gru", reset="before", layer_norm=True, layers=2, residual=True, steps=1,
        **{**SMALL, "quiet": False},
    )  # fmt: skip
    assert "2 × 16 gru, reset before, layer norm, residual, dropout" in capsys.readouterr().err
