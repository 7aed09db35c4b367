"""Sampling: distributions, limits, primes, seeds, and agreement with the scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import charlm
from charlm import LanguageModel
from charlm.engines.generation import Beginning, Generation, Sample, generate, search
from charlm.engines.sampling import SampleOptions, distribution, draw, draw_each, random_stream
from charlm.engines.scores import SentenceScore
from charlm.engines.scoring import ScoreOptions, score_sentences
from charlm.engines.stream import Limits, Piece, Stream
from charlm.errors import OptionError
from charlm.model.config import ModelConfig
from charlm.model.numpy_network import Floats, NumpyNetwork
from charlm.model.prediction import NetworkPredictor, State
from charlm.tokenizer import EOS, START, UNK, Tokenizer, train_tokenizer
from conftest import text_model_of


def text_of(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def limited(
    texts: Iterable[str], options: SampleOptions, lines: bool, longest_line: int | None = None
) -> Stream:
    limits = Limits.of(options, independent_lines=lines, longest_line=longest_line)
    return Stream((Piece(text, 3) for text in texts), limits)


def streams_of(
    network: NumpyNetwork,
    tokenizer: Tokenizer,
    prime: str,
    options: SampleOptions,
    generators: Sequence[np.random.Generator],
) -> list[Iterator[Piece]]:
    model = text_model_of(NetworkPredictor(network), tokenizer)
    limits = Limits.of(options, independent_lines=False)
    return generate(model, prime, options, limits, generators)


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
        ({"temperature": 1.0, "top_p": 1e-300}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "min_p": 0.25}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
        # The entropy is 1.208 nats; the surprisals are 0.69, 1.39, 1.90 and 2.30.
        ({"temperature": 1.0, "typical_p": 0.2}, [0, 1, 0, 0]),
        ({"temperature": 1.0, "typical_p": 1e-300}, [0, 1, 0, 0]),
        ({"temperature": 1.0, "typical_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "typical_p": 0.8}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
        ({"temperature": 1.0, "typical_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
    ],
)
def test_distributions(options: dict[str, Any], expected: list[float]) -> None:
    p = distribution(LOGITS, SampleOptions(**options))
    np.testing.assert_allclose(p, expected, atol=1e-6)


def test_rows_are_drawn_together_as_one_by_one() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (40, 50)).astype(np.float32)
    logits[:, 7] = -np.inf
    free = [SampleOptions(temperature=k % 4 / 2) for k in range(40)]
    for options in (free, [*free[:39], SampleOptions(top_k=2)]):
        together = draw_each(logits.copy(), options, [random_stream(1, k) for k in range(40)])
        alone = [
            draw(distribution(row, of_row), random_stream(1, k))
            for k, (row, of_row) in enumerate(zip(logits, options, strict=True))
        ]
        assert together == alone


def test_masked_tokens_are_never_drawn_at_any_temperature() -> None:
    logits = LOGITS.copy()
    logits[0] = -np.inf
    for temperature in (0.0, 1e-300, 0.01, 1.0, 100.0, 1e300):
        p = distribution(logits, SampleOptions(temperature=temperature))
        assert p[0] == 0 and p.sum() == pytest.approx(1)


def test_draws_follow_the_probabilities() -> None:
    p = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    random = random_stream(1, 0)
    counts = np.bincount([draw(p, random) for _ in range(20_000)], minlength=6)
    np.testing.assert_allclose(counts / 20_000, p, atol=0.012)


@settings(max_examples=100)
@given(st.integers(0, 2**31), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_a_token_with_probability_zero_is_never_drawn(seed: int, weights: list[float]) -> None:
    p = np.array([*weights, 1e-3, 0.0])
    assert p[draw(p / p.sum(), random_stream(seed, 0))] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "`temperature=-1`"),
        ({"temperature": float("nan")}, "`temperature=nan`"),
        ({"top_k": 0}, "`top_k=0`"),
        ({"top_p": 1.5}, "`top_p=1.5`"),
        ({"min_p": 0.0}, "`min_p=0`"),
        ({"length": -1}, "`length=-1`"),
        ({"typical_p": 0.0}, "`typical_p=0`"),
        ({"repetition_penalty": 0.0}, "`repetition_penalty=0`"),
        ({"min_length": -1}, "`min_length=-1`"),
        ({"beam": 0}, "`beam=0`"),
        ({"beam": 4, "top_k": 2}, "`beam=4`.*`top_k`"),
        ({"max_lines": 0}, "`max_lines=0`"),
        ({"seed": -1}, "`seed=-1`"),
        ({"stop": ""}, "`stop`"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SampleOptions(**options)


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
        ({"stop": ["never", "fgh", "e\nf"]}, False, "abc\nd"),
        ({"stop": "b", "min_length": 2}, False, "abc\nde\nfgh\nijk"),
        ({"stop": ["b", "f"], "min_length": 2}, False, "abc\nde\n"),
        ({"length": 0}, False, ""),
        ({"length": 0}, True, ""),
    ],
)
def test_limits(options: dict[str, Any], lines: bool, expected: str) -> None:
    pieces = limited(iter(PIECES), SampleOptions(**options), lines=lines)
    assert "".join(pieces) == expected


def test_a_stop_text_holds_back_only_what_may_be_its_beginning() -> None:
    pieces = limited(iter(["aaab", "x"]), SampleOptions(stop="aab!"), lines=False)
    assert list(islice(pieces, 1)) == ["a"]


def test_the_same_seed_gives_the_same_text_for_every_n(model: LanguageModel) -> None:
    three = model.sample(n=3, seed=5, temperature=1.0)
    assert three == [*model.sample(n=2, seed=5, temperature=1.0), three[2]]
    assert three[0] == model.sample(seed=5, temperature=1.0)
    assert len({*three, model.sample(seed=6, temperature=1.0)}) == 4
    assert "".join(model.stream(sample=1, seed=5, temperature=1.0)) == three[1]


def test_a_sample_begins_with_the_unchanged_prime(model: LanguageModel) -> None:
    for prime in ("the c", "xyz Ж\n the", "a\u0301 "):
        text = model.sample(prime, seed=1)
        assert text.startswith(prime) and "\n" not in text[len(prime) :]


def test_a_lines_model_writes_one_line_and_a_document_model_500_characters(
    model: LanguageModel,
) -> None:
    assert "\n" not in model.sample(seed=1)
    pieces = list(limited(iter("ab\n" * 400), SampleOptions(), lines=False))
    assert len("".join(pieces)) == 500


def random_network(level: str, text: str, seed: int = 0) -> tuple[NumpyNetwork, Tokenizer]:
    tokenizer = train_tokenizer(level, lambda: [text])
    config = ModelConfig(tokenizer.size, hidden=8, embedding=4)
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(scale=0.4, size=shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return NumpyNetwork(config, weights), tokenizer


def test_the_unknown_token_is_never_drawn() -> None:
    network, tokenizer = random_network("char", "ab\n")
    _, bias = network.head.parts[0]
    bias[UNK - 1] = 20.0  # without the mask nearly every draw is <UNK>
    options = SampleOptions(temperature=1.0)
    (pieces,) = streams_of(network, tokenizer, "", options, [random_stream(1, 0)])
    assert set(text_of(islice(pieces, 300))) == {"a", "b", "\n"}


def test_an_incomplete_word_in_the_prime_is_completed() -> None:
    text = "the apple and the pear\nan apricot or a plum\n"
    network, tokenizer = random_network("word", text)
    options, randoms = SampleOptions(temperature=5.0), [random_stream(1, k) for k in range(40)]
    texts = streams_of(network, tokenizer, "the ap", options, randoms)
    completions = {next(piece.text for piece in pieces if piece.text) for pieces in texts}
    assert completions == {"ple", "ricot"}


def test_samples_drawn_side_by_side_are_the_same_as_those_drawn_alone() -> None:
    network, tokenizer = random_network("char", "abcdefgh\n")
    options = SampleOptions(temperature=1.0, seed=5)
    limits = [30, 3, 12, 50, 1]
    alone = []
    for k, limit in enumerate(limits):
        (pieces,) = streams_of(network, tokenizer, "ba", options, [random_stream(5, k)])
        alone.append(text_of(islice(pieces, limit)))
    randoms = [random_stream(5, k) for k in range(len(limits))]
    together = streams_of(network, tokenizer, "ba", options, randoms)
    order = [2, 0, 1, 4, 3]  # the order in which the streams are read
    texts = {k: text_of(islice(together[k], limits[k])) for k in order}
    assert [texts[k] for k in range(len(limits))] == alone


def test_samples_may_begin_and_end_at_any_time() -> None:
    network, tokenizer = random_network("char", "abcdefgh\n")
    model = text_model_of(NetworkPredictor(network), tokenizer)
    options = SampleOptions(temperature=1.0)
    limits = Limits.of(options, independent_lines=False)

    def add(generation: Generation, prime: str) -> Sample:
        beginning = Beginning(model, tokenizer.prime(prime))
        beginning.read()
        sample = beginning.sample(options, limits)
        sample.random, sample.alternatives = random_stream(1, len(prime)), 0
        generation.add(beginning, [sample])
        return sample

    def drawn(sample: Sample) -> tuple[list[int], list[float]]:
        pieces = [piece for piece in sample.unread if piece.figures]
        return [p.id for p in pieces], [p.figures.logprob for p in pieces if p.figures]

    alone = {}
    for prime in ("abc", "hgfe", "deadd"):
        generation = Generation(model)
        sample = add(generation, prime)
        for _ in range(15):
            generation.step()
        alone[prime] = drawn(sample)
    for closed in ([], ["abc"], ["hgfe"], ["abc", "hgfe"]):
        generation = Generation(model)
        samples = {prime: add(generation, prime) for prime in ("abc", "hgfe")}
        for _ in range(3):
            generation.step()
        for prime in closed:
            generation.close(samples.pop(prime))
        samples["deadd"] = add(generation, "deadd")
        for _ in range(12):
            generation.step()
        for prime, sample in samples.items():
            (ids, logprobs), (own, own_logprobs) = alone[prime], drawn(sample)
            assert own == ids[: len(own)] and len(own) >= 12
            np.testing.assert_allclose(own_logprobs, logprobs[: len(own)], atol=1e-5)


def test_the_network_steps_only_open_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = random_network("char", "abcdefgh\n")
    rows: list[int] = []
    read = network.read

    def counting_read(ids: NDArray[np.integer], state: State) -> tuple[Floats, State]:
        rows.append(len(ids))
        return read(ids, state)

    monkeypatch.setattr(network, "read", counting_read)
    randoms = [random_stream(1, k) for k in range(3)]
    texts = streams_of(network, tokenizer, "", SampleOptions(), randoms)
    for length, expected in ((4, [3, 3, 3, 3]), (3, []), (6, [1, 1])):
        limits = Limits.of(SampleOptions(length=length), independent_lines=False)
        pieces = Stream(texts.pop(0), limits)
        assert len("".join(pieces)) == length
        assert rows == expected
        del pieces  # closes the stream
        rows.clear()


def test_an_incomplete_word_in_the_prime_is_not_unknown(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = train_tokenizer("word", lambda: ["the apple and the pear\n"])
    monkeypatch.setattr(model, "tokenizer", words)
    assert model.unknown_in_prime("the ap") == []
    assert model.unknown_in_prime("zebra ap") == ["zebra"]
    assert model.unknown_in("the ap") == ["ap"]


def test_sampled_frequencies_agree_with_scored_probabilities() -> None:
    """A χ² test. Its classes: each sentence of at most two letters, and all longer sentences."""
    network, tokenizer = random_network("char", "ab\n", seed=4)
    sentences = ["", *"ab", "aa", "ab", "ba", "bb"]
    draws = 3000
    model = text_model_of(NetworkPredictor(network), tokenizer)
    options = SampleOptions(temperature=1.0, length=3)
    limits = Limits.of(options, independent_lines=True)
    randoms = [random_stream(7, k) for k in range(draws)]
    texts = [
        "".join(Stream(pieces, limits)) for pieces in generate(model, "", options, limits, randoms)
    ]
    expected = [
        np.exp(sum(renormalised(network, score)))
        for score in score_sentences(model, sentences, ScoreOptions())
    ]
    expected.append(1 - sum(expected))
    observed = [texts.count(sentence) for sentence in sentences]
    observed.append(draws - sum(observed))
    assert min(expected) * draws > 5
    chi_squared = sum(
        (o - draws * e) ** 2 / (draws * e) for o, e in zip(observed, expected, strict=True)
    )
    assert chi_squared < 18.48  # the 99 % quantile for 7 degrees of freedom


def renormalised(network: NumpyNetwork, score: SentenceScore) -> list[float]:
    """The log-probability of each token of a score, renormalised without `<UNK>`."""
    state, previous, logprobs = network.initial_state(1), START, []
    ids = {"a": 3, "b": 4, "c": 5, "<EOS>": EOS}
    for token in score.token_scores:
        y, state = network.read(np.array([[previous]]), state)
        logits = network.logits(y[0, 0])
        p = np.exp(logits) / np.exp(logits).sum()
        logprobs.append(token.logprob - np.log(1 - p[UNK - 1]))
        previous = ids[token.token]
    return logprobs


def test_independent_lines_are_sampled_independently(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line starts from the zero state, after a line of the prime as after a drawn one."""
    assert model.independent_lines
    read = NumpyNetwork.read
    starts: list[float] = []

    def watched(self: NumpyNetwork, ids: NDArray[np.integer], state: State) -> tuple[Floats, State]:
        is_start = ids[:, 0] == START
        starts.extend(np.abs(s[is_start]).max(initial=0) for layer in state for s in layer)
        assert all(np.abs(s[~is_start]).max(initial=1) > 0 for layer in state for s in layer)
        return read(self, ids, state)

    with monkeypatch.context() as patch:
        patch.setattr(NumpyNetwork, "read", watched)
        model.sample(n=3, max_lines=3, seed=1)
    assert not any(starts)
    line = model.sample(temperature=0)
    assert model.sample(temperature=0, max_lines=3) == "\n".join([line] * 3)
    for seed in range(3):
        alone = model.sample("the d", seed=seed, temperature=1.5)
        assert model.sample("my aunt\nthe d", seed=seed, temperature=1.5) == f"my aunt\n{alone}"


def test_a_line_that_goes_round_in_circles_ends_where_no_line_was_longer(
    model: LanguageModel, corpus: Path
) -> None:
    longest = max(map(len, corpus.read_text(encoding="utf-8").splitlines()))
    assert model.card.longest_line == longest
    circle = limited(cycle("ab"), SampleOptions(), lines=True, longest_line=longest)
    assert len("".join(circle)) == 2 * longest


def test_a_beam_finds_the_most_probable_lines() -> None:
    """Against all lines of at most four letters; the model's own lines are short."""
    network, tokenizer = random_network("char", "abc\n", seed=3)
    _, bias = network.head.parts[0]
    bias[EOS - 1] += 2.0
    lines = ["".join(line) for k in range(5) for line in product("abc", repeat=k)]
    model = text_model_of(NetworkPredictor(network), tokenizer, independent_lines=True)
    scores = score_sentences(model, lines, ScoreOptions())
    exact = {s.text: sum(renormalised(network, s)) for s in scores}
    best = sorted(exact, key=lambda line: -exact[line])
    options = SampleOptions(beam=20)
    limits = Limits.of(options, independent_lines=True)
    found = search(model, "", options, limits, 20)
    assert ["".join(Stream(pieces, limits)) for pieces in found[:8]] == best[:8]


def test_a_beam_of_one_takes_the_most_probable_token(model: LanguageModel) -> None:
    for prime in ("", "the d"):
        assert model.sample(prime, beam=1) == model.sample(prime, temperature=0)
    best, second = model.sample(n=2, beam=16)
    assert model.score(best).logprob >= model.score(second).logprob
    assert model.score(best).logprob >= model.score(model.sample(temperature=0)).logprob


def test_a_penalty_makes_used_tokens_less_probable() -> None:
    network, tokenizer = random_network("char", "abcd\n")
    tokens = {}
    for penalty in (1.0, 2.0):
        options = SampleOptions(temperature=1.0, repetition_penalty=penalty)
        ids: list[int] = []
        for start in range(0, 4000, 200):  # to close streams takes longer the more there are
            randoms = [random_stream(3, start + k) for k in range(200)]
            ids += [next(s).id for s in streams_of(network, tokenizer, "abb", options, randoms)]
        tokens[penalty] = np.bincount(ids, minlength=8) / 4000
    logprobs = np.log(tokens[1.0][3:7])
    expected = logprobs * [2, 2, 1, 1]  # a and b are in the prime
    p = np.exp([*expected, np.log(tokens[1.0][EOS])])
    np.testing.assert_allclose(tokens[2.0][[3, 4, 5, 6, EOS]], p / p.sum(), atol=0.03)


def test_a_line_does_not_end_before_its_least_length(model: LanguageModel) -> None:
    for seed in range(5):
        text = model.sample(seed=seed, min_length=40, max_lines=2, temperature=1.0)
        assert len(text) >= 40 and text.count("\n") == 1


def test_logprobs_of_drawn_tokens_are_those_of_the_score(model: LanguageModel) -> None:
    stream = model.stream("the c", seed=4, temperature=1.5)
    text = "the c" + "".join(stream)
    drawn = model.drawn_logprobs("the c", stream.ids)
    assert [id for id, _ in drawn] == stream.ids and stream.ids[-1] == EOS
    score = model.score(text)
    np.testing.assert_allclose([p for _, p in drawn], score.logprobs[5:], atol=1e-4)


def filtered(p: dict[str, float], used: set[str], o: SampleOptions) -> dict[str, float]:
    """The distribution that the options ask for, one step after the other."""

    def normalised(q: dict[str, float]) -> dict[str, float]:
        return {token: value / sum(q.values()) for token, value in q.items()}

    def first_ones(q: dict[str, float], share: float, key: Callable[[str], float]) -> set[str]:
        kept: set[str] = set()
        for token in sorted(q, key=key):
            if sum(q[t] for t in kept) < share:
                kept.add(token)
        return kept

    q = normalised({t: v ** (o.repetition_penalty if t in used else 1.0) for t, v in p.items()})
    q = normalised({token: value ** (1 / o.temperature) for token, value in q.items()})
    if o.top_k:
        q = normalised({t: q[t] for t in sorted(q, key=lambda t: -q[t])[: o.top_k]})
    if o.top_p:
        kept = first_ones(q, o.top_p, lambda t: -q[t])
        q = normalised({t: v for t, v in q.items() if t in kept})
    if o.min_p:
        q = normalised({t: v for t, v in q.items() if v >= o.min_p * max(q.values())})
    if o.typical_p:
        entropy = -sum(v * math.log(v) for v in q.values() if v)
        kept = first_ones(q, o.typical_p, lambda t: abs(-math.log(q[t]) - entropy))
        q = normalised({t: v for t, v in q.items() if t in kept})
    return q


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.4},
        {"temperature": 1.0, "top_k": 4},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 1.0, "typical_p": 0.6},
        {"temperature": 1.0, "repetition_penalty": 2.0},
        {"temperature": 1.3, "repetition_penalty": 0.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05}
        | {"typical_p": 0.8},
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution_of_each_filter(options: dict[str, Any]) -> None:
    """A χ² test of the first token after a prime, against `next` of the whole model."""
    file = Path(__file__).parent / "golden/lm-char-ngram.safetensors"
    model = charlm.load(file, kind=LanguageModel)
    prime, draws = "the ", 5000
    p = {token: value for token, value in model.next(prime) if token != "<UNK>"}
    chosen = SampleOptions(length=1, seed=11, **options)
    expected = filtered(p, {"t", "h", "e", "▁"}, chosen)
    texts = model.sample(prime, n=draws, length=1, seed=11, **options)
    printable = {" ": "▁", "\n": "<EOS>"}
    observed = Counter(printable.get(text[-1], text[-1]) for text in texts)
    assert set(observed) <= set(expected)
    common = {token for token, q in expected.items() if q * draws >= 5}
    rest = 1 - sum(expected[token] for token in common)
    cells = [(observed[token], draws * expected[token]) for token in sorted(common)]
    if rest * draws >= 1:
        cells.append((draws - sum(o for o, _ in cells), rest * draws))
    chi_squared = sum((o - e) ** 2 / e for o, e in cells)
    freedom = len(cells) - 1
    # The 99.9 % quantile (Wilson and Hilferty 1931).
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi_squared < quantile
