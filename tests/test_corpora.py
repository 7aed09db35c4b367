"""The grammar is exact, and the generated corpus is as its README says."""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from corpora.generate import (
    ALL_SWAPS,
    DEMO_SENTENCES,
    GRAMMAR,
    HELD_OUT_LINES,
    HERE,
    TRAINING_LINES,
    is_held_out,
    sample_sentences,
    swaps,
    write,
)
from corpora.grammar import Grammar, Symbol

TOY = """
# Three rules
Order = a <Size> tea | [3] a coffee | [2] <Size> beans
    and <Size> eggs
Size = small | [2] large
"""


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar.read(GRAMMAR)


@pytest.fixture(scope="module")
def sample(grammar: Grammar) -> list[str]:
    rng = random.Random(7)
    return [grammar.sample(rng) for _ in range(3000)]


def lines(name: str) -> list[str]:
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def enumerate_all(grammar: Grammar, name: str) -> Iterator[tuple[str, float]]:
    """The sentence and the probability of every derivation, by enumeration."""
    for alternative in grammar._rules[name].alternatives:
        partial = [("", alternative.probability)]
        for part in alternative.parts:
            tails = (
                list(enumerate_all(grammar, part.name))
                if isinstance(part, Symbol)
                else [(part, 1.0)]
            )
            partial = [(head + tail, p * q) for head, p in partial for tail, q in tails]
        yield from partial


Rest = tuple[str | Symbol, ...]


def count_distinct(grammar: Grammar) -> int:
    """The number of sentences (not derivations): the paths of the deterministic automaton.

    A state is the set of all possible rests of a sentence. A rest is a tuple of parts.
    """
    rules = grammar._rules
    counts: dict[frozenset[Rest], int] = {}

    def expanded(rest: Rest) -> Iterator[Rest]:
        if rest and isinstance(rest[0], Symbol):
            for alternative in rules[rest[0].name].alternatives:
                yield from expanded(alternative.parts + rest[1:])
        else:
            yield rest

    def count(state: frozenset[Rest]) -> int:
        if state not in counts:
            successors: dict[str, set[Rest]] = {}
            for head, *rest in filter(None, state):
                tail = (head[1:], *rest) if len(head) > 1 else tuple(rest)
                successors.setdefault(str(head[0]), set()).update(expanded(tail))
            counts[state] = (() in state) + sum(count(frozenset(s)) for s in successors.values())
        return counts[state]

    return count(frozenset(expanded((Symbol(next(iter(rules))),))))


def test_toy_entropy_size_and_logprobs_agree_with_enumeration() -> None:
    toy = Grammar.parse(TOY)
    all_sentences = list(enumerate_all(toy, "Order"))
    distinct = len({text for text, _ in all_sentences})
    assert len(all_sentences) == distinct == toy.size() == count_distinct(toy) == 7
    assert math.fsum(p for _, p in all_sentences) == pytest.approx(1)
    entropy = -math.fsum(p * math.log(p) for _, p in all_sentences)
    assert toy.entropy() == pytest.approx(entropy, abs=1e-12)
    for text, probability in all_sentences:
        assert math.exp(toy.logprob(text)) == pytest.approx(probability)
        assert toy.derivations(text) == 1
    assert "small beans and large eggs" in toy


def test_sentences_outside_the_language_have_no_probability() -> None:
    toy = Grammar.parse(TOY)
    for text in ("", "a coffee ", "a medium tea", "a small", "A coffee"):
        assert text not in toy
        assert toy.logprob(text) == -math.inf


def test_an_ambiguous_sentence_has_two_derivations_and_their_summed_probability() -> None:
    ambiguous = Grammar.parse("S = <A><B>\nA = a | aa\nB = b | ab")
    assert ambiguous.derivations("aab") == 2
    assert ambiguous.logprob("aab") == pytest.approx(math.log(0.5))
    assert (ambiguous.size(), count_distinct(ambiguous)) == (4, 3)


def test_toy_sampling_follows_the_weights() -> None:
    toy, rng = Grammar.parse(TOY), random.Random(3)
    counts = Counter(toy.sample(rng) for _ in range(6000))
    for text, probability in enumerate_all(toy, "Order"):
        assert counts[text] / 6000 == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there is no rule"),
        ("S = a <B>\nB = b\n\nC = c", "line 4: <C> cannot be reached from the first rule"),
        ("# note\nS = a <B>", "line 2: <B> is not defined"),
        ("S = <A>\nA = a <B>\nB = b <A>", "line 3: <A> derives itself"),
        ("S = a | b\nS = c", "line 2: <S> is defined a second time"),
        ("S = <A>\nA = [0] a | b", r"line 2: the weight \[0\] is not a whole number above zero"),
        ("S = [1.5] a", r"line 1: the weight \[1.5\] is not a whole number above zero"),
        ("S = [x] a", r"line 1: the weight \[x\] is not a whole number above zero"),
        ("S = a |\n  | b", "line 1: an alternative is empty"),
        ("S = a <B", "line 1: an unexpected bracket or sign in 'a <B'"),
        ("S = a [2] b", "line 1: an unexpected bracket or sign"),
        ("  a | b", "line 1: expected 'Name = ...'"),
        ("S = a\nnonsense", "line 2: expected 'Name = ...'"),
    ],
)
def test_a_malformed_grammar_is_refused_with_the_line_number(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grammar.parse(text)


def test_every_sentence_of_the_language_has_one_derivation(grammar: Grammar) -> None:
    assert count_distinct(grammar) == grammar.size() > 10**8


def test_entropy_agrees_with_the_mean_surprisal_of_a_sample(
    grammar: Grammar, sample: list[str]
) -> None:
    surprisals = [-grammar.logprob(sentence) for sentence in sample]
    mean = math.fsum(surprisals) / len(surprisals)
    variance = math.fsum((s - mean) ** 2 for s in surprisals) / (len(surprisals) - 1)
    assert abs(mean - grammar.entropy()) < 4 * math.sqrt(variance / len(surprisals))


def test_a_sentence_with_a_homophone_swapped_is_not_in_the_language(
    grammar: Grammar, sample: list[str]
) -> None:
    assert [w for sentence in sample for _, _, w in swaps(sentence) if w in grammar] == []


def test_a_and_an_agree_with_the_next_word(sample: list[str]) -> None:
    words = [pair for text in sample for pair in zip(text.split(), text.split()[1:], strict=False)]
    assert {b for a, b in words if a in ("a", "A") and b[0] in "aeiou"} <= {"one"}
    assert {b for a, b in words if a in ("an", "An") and b[0] not in "aeiou"} <= {"hour"}


@pytest.mark.parametrize("name", ["sentences.txt", "sentences.heldout.txt"])
def test_corpus_lines_have_one_derivation(grammar: Grammar, name: str) -> None:
    chosen = random.Random(1).sample(lines(name), 2000)
    assert [line for line in chosen if grammar.derivations(line) != 1] == []


def test_the_demo_sentences_are_in_the_language_and_not_in_the_training_text(
    grammar: Grammar,
) -> None:
    for sentence in DEMO_SENTENCES:
        assert grammar.derivations(sentence) == 1
    text = (HERE / "sentences.txt").read_text(encoding="utf-8")
    assert "the apple and pair salad" not in grammar
    for unseen in (*DEMO_SENTENCES, "the apple and pair salad"):
        assert unseen not in text


def test_the_training_text_has_no_held_out_sentence() -> None:
    training, held_out = lines("sentences.txt"), lines("sentences.heldout.txt")
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, held_out))
    assert (len(training), len(held_out)) == (TRAINING_LINES, HELD_OUT_LINES)


def test_about_a_tenth_of_the_sentences_is_held_out(sample: list[str]) -> None:
    assert sum(map(is_held_out, sample)) / len(sample) == pytest.approx(0.1, abs=0.03)


def test_homophone_pairs_differ_in_one_word_and_the_wrong_one_is_not_in_the_language(
    grammar: Grammar,
) -> None:
    pairs = [line.split("\t") for line in lines("homophones.tsv")]
    assert pairs[0] == ["the apple and pear salad", "the apple and pair salad"]
    counts: Counter[tuple[str, str]] = Counter()
    for right, wrong in pairs:
        assert is_held_out(right)
        assert right in grammar
        assert wrong not in grammar
        [words] = {(a, b) for a, b in zip(right.split(), wrong.split(), strict=True) if a != b}
        before, after = (re.split(r"[^a-z]", word.lower())[0] for word in words)
        counts[before, after] += 1
    assert counts == Counter(dict.fromkeys(ALL_SWAPS, 5))
    assert len(pairs) >= 300


def test_the_generated_files_are_reproduced_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["homophones.tsv", "sentences.heldout.txt", "sentences.txt"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


def test_the_seed_determines_the_sample(grammar: Grammar) -> None:
    first, again, other = (
        list(islice(sample_sentences(grammar, False, seed), 5)) for seed in (1, 1, 2)
    )
    assert first == again == lines("sentences.txt")[:5]
    assert first != other
