"""Drawing text: distributions, limits, primes, seeds, and agreement with the scores."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model.config import ModelConfig
from charlm.model.numpy_network import NumpyNetwork
from charlm.sampling import (
    SampleOptions,
    distribution,
    draw,
    generate,
    limited,
    random_stream,
)
from charlm.scoring import ScoreOptions, score_sentences
from charlm.tokenizer import train_tokenizer

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345]),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_k": 9}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 1.0, "top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.4}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "min_p": 0.25}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
    ],
)
def test_distributions(options: dict[str, float], expected: list[float]) -> None:
    found = distribution(LOGITS, SampleOptions(**options))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_masked_tokens_are_never_drawn_at_any_temperature() -> None:
    logits = LOGITS.copy()
    logits[0] = -np.inf
    for temperature in (0.0, 0.01, 1.0, 100.0):
        p = distribution(logits, SampleOptions(temperature=temperature))
        assert p[0] == 0 and p.sum() == pytest.approx(1)


def test_draws_come_as_often_as_they_should() -> None:
    p = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    random = random_stream(1, 0)
    counts = np.bincount([draw(p, random) for _ in range(20_000)], minlength=6)
    np.testing.assert_allclose(counts / 20_000, p, atol=0.012)


@settings(max_examples=100)
@given(st.integers(0, 2**31), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_a_draw_never_has_probability_zero(seed: int, weights: list[float]) -> None:
    p = np.array([*weights, 1e-3, 0.0])
    assert p[draw(p / p.sum(), random_stream(seed, 0))] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "`temperature=-1`"),
        ({"temperature": float("nan")}, "`temperature=nan`"),
        ({"top_k": 0}, "`top_k=0`"),
        ({"top_p": 1.5}, "`top_p=1.5`"),
        ({"min_p": 0.0}, "`min_p=0`"),
        ({"length": 0}, "`length=0`"),
        ({"max_lines": 0}, "`max_lines=0`"),
        ({"seed": -1}, "`seed=-1`"),
        ({"stop": ""}, "`stop`"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        SampleOptions(**options)  # type: ignore[arg-type]


PIECES = ["ab", "c\n", "", "de\n", "fgh", "\n", "ijk"]


@pytest.mark.parametrize(
    ("options", "lines", "expected"),
    [
        ({"length": 5}, False, "abc\nd"),
        ({"max_lines": 1}, False, "abc"),
        ({"max_lines": 2}, False, "abc\nde"),
        ({"max_lines": 2, "length": 3}, False, "abc"),
        ({}, True, "abc"),
        ({"max_lines": 3}, True, "abc\nde\nfgh"),
        ({"length": 2}, True, "ab"),
        ({"stop": "c\nd"}, False, "ab"),
        ({"stop": "gh\n"}, False, "abc\nde\nf"),
        ({"stop": "never"}, False, "abc\nde\nfgh\nijk"),
        ({"stop": "e", "max_lines": 1}, False, "abc"),
    ],
)
def test_limits(options: dict[str, int], lines: bool, expected: str) -> None:
    found = limited(iter(PIECES), SampleOptions(**options), lines=lines)
    assert "".join(found) == expected


def test_a_stop_text_does_not_hold_back_more_than_it_must() -> None:
    pieces = limited(iter(["aaab", "x"]), SampleOptions(stop="aab!"), lines=False)
    assert list(islice(pieces, 1)) == ["a"]


def test_the_same_seed_gives_the_same_text_whatever_n(model: LanguageModel) -> None:
    three = model.sample(n=3, seed=5, temperature=1.0)
    assert three == [*model.sample(n=2, seed=5, temperature=1.0), three[2]]
    assert three[0] == model.sample(seed=5, temperature=1.0)
    assert len({*three, model.sample(seed=6, temperature=1.0)}) == 4
    assert "".join(model.stream(sample=1, seed=5, temperature=1.0)) == three[1]


def test_the_prime_is_given_back_as_it_was(model: LanguageModel) -> None:
    for prime in ("the c", "xyz Ж\n the", "a\u0301 "):
        text = model.sample(prime, seed=1)
        assert text.startswith(prime) and "\n" not in text[len(prime) :]


def test_a_lines_model_writes_one_line_and_a_document_model_goes_on(model: LanguageModel) -> None:
    assert "\n" not in model.sample(seed=1)
    pieces = list(limited(iter("ab\n" * 400), SampleOptions(), lines=False))
    assert len("".join(pieces)) == 500


def random_network(level: str, text: str, seed: int = 0) -> tuple[NumpyNetwork, object]:
    tokenizer = train_tokenizer(level, lambda: [text])
    config = ModelConfig(tokenizer.size, hidden=8, embedding=4)
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(scale=0.4, size=shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return NumpyNetwork(config, weights), tokenizer


def test_unknown_is_never_written() -> None:
    network, tokenizer = random_network("char", "ab\n")
    _, bias = network.head.parts[0]
    bias[1] = 20.0  # <UNK> would nearly always be drawn
    options = SampleOptions(temperature=1.0)
    (pieces,) = generate(network, tokenizer, "", options, [random_stream(1, 0)])
    assert set("".join(islice(pieces, 300))) == {"a", "b", "\n"}


def test_a_word_that_the_prime_begins_is_completed() -> None:
    text = "the apple and the pear\nan apricot or a plum\n"
    network, tokenizer = random_network("word", text)
    options, randoms = SampleOptions(temperature=5.0), [random_stream(1, k) for k in range(40)]
    texts = generate(network, tokenizer, "the ap", options, randoms)
    found = {next(piece for piece in pieces if piece) for pieces in texts}
    assert found == {"ple", "ricot"}


def test_texts_that_are_written_side_by_side_are_those_written_alone() -> None:
    network, tokenizer = random_network("char", "abcdefgh\n")
    options = SampleOptions(temperature=1.0, seed=5)
    limits = [30, 3, 12, 50, 1]
    alone = []
    for k, limit in enumerate(limits):
        (pieces,) = generate(network, tokenizer, "ba", options, [random_stream(5, k)])
        alone.append("".join(islice(pieces, limit)))
    randoms = [random_stream(5, k) for k in range(len(limits))]
    together = generate(network, tokenizer, "ba", options, randoms)
    order = [2, 0, 1, 4, 3]  # whichever is read first
    texts = {k: "".join(islice(together[k], limits[k])) for k in order}
    assert [texts[k] for k in range(len(limits))] == alone


def test_a_text_that_has_ended_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = random_network("char", "abcdefgh\n")
    rows: list[int] = []
    step = network.step
    monkeypatch.setattr(
        network, "step", lambda ids, state: rows.append(len(ids)) or step(ids, state)
    )
    texts = generate(
        network, tokenizer, "", SampleOptions(), [random_stream(1, k) for k in range(3)]
    )
    for length, expected in ((4, [3, 3, 3]), (3, []), (6, [1, 1])):
        written = limited(texts.pop(0), SampleOptions(length=length), lines=False)
        assert len("".join(written)) == length
        assert rows == expected
        del written
        rows.clear()


def test_a_word_that_can_be_completed_is_not_called_unknown(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = train_tokenizer("word", lambda: ["the apple and the pear\n"])
    monkeypatch.setattr(model, "tokenizer", words)
    assert model.unknown_in_prime("the ap") == []
    assert model.unknown_in_prime("zebra ap") == ["zebra"]
    assert model.unknown_in("the ap") == ["ap"]


def test_sampled_frequencies_agree_with_scored_probabilities() -> None:
    """χ² over the sentences of at most two letters, and all longer ones together."""
    network, tokenizer = random_network("char", "ab\n", seed=4)
    sentences = ["", *"ab", "aa", "ab", "ba", "bb"]
    draws = 3000
    options, randoms = SampleOptions(temperature=1.0), [random_stream(7, k) for k in range(draws)]
    texts = [
        "".join(limited(pieces, options, lines=True))
        for pieces in generate(network, tokenizer, "", options, randoms)
    ]
    expected = [
        np.exp(sum(renormalised(network, score)))
        for score in score_sentences(lambda tokens: network, tokenizer, sentences, ScoreOptions())
    ]
    expected.append(1 - sum(expected))
    observed = [texts.count(sentence) for sentence in sentences]
    observed.append(draws - sum(observed))
    assert min(expected) * draws > 5
    chi_squared = sum(
        (o - draws * e) ** 2 / (draws * e) for o, e in zip(observed, expected, strict=True)
    )
    assert chi_squared < 18.48  # the 99 % point at 7 degrees of freedom


def renormalised(network: NumpyNetwork, score: object) -> list[float]:
    """A score's token log-probabilities, given that no token is `<UNK>`."""
    state, read, found = network.initial_state(1), 0, []
    names = {"a": 3, "b": 4, "<EOS>": 1}
    for token in score.token_scores:  # type: ignore[attr-defined]
        logits, state = network.step(np.array([read]), state)
        p = np.exp(logits[0]) / np.exp(logits[0]).sum()
        found.append(token.logprob - np.log(1 - p[1]))
        read = names[token.token]
    return found
