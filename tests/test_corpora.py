"""The grammar is exact, and the generated corpus is as its README says."""

import json
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
from corpora.nbest import HYPOTHESES, LISTS
from corpora.nbest import write as write_nbest
from corpora.pairs import minimal_pairs
from corpora.pairs import write as write_pairs

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
def automaton(grammar: Grammar) -> "Automaton":
    return Automaton(grammar)


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


class Automaton:
    """The deterministic automaton of a grammar. It shares no code with the parser.

    A state is the set of all possible rests of a sentence. A rest is a tuple of parts.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._rules = grammar._rules
        self.start = frozenset(self._expanded((Symbol(next(iter(self._rules))),)))
        self._successors: dict[frozenset[Rest], dict[str, frozenset[Rest]]] = {}

    def _expanded(self, rest: Rest) -> Iterator[Rest]:
        if rest and isinstance(rest[0], Symbol):
            for alternative in self._rules[rest[0].name].alternatives:
                yield from self._expanded(alternative.parts + rest[1:])
        else:
            yield rest

    def successors(self, state: frozenset[Rest]) -> dict[str, frozenset[Rest]]:
        """The states after one more letter."""
        if state not in self._successors:
            rests: dict[str, set[Rest]] = {}
            for head, *rest in filter(None, state):
                tail = (head[1:], *rest) if len(head) > 1 else tuple(rest)
                rests.setdefault(str(head[0]), set()).update(self._expanded(tail))
            self._successors[state] = {letter: frozenset(r) for letter, r in rests.items()}
        return self._successors[state]

    def accepts(self, text: str) -> bool:
        """Whether the text is a sentence."""
        state = self.start
        for letter in text:
            state = self.successors(state).get(letter, frozenset())
        return () in state


def count_distinct(grammar: Grammar) -> int:
    """The number of sentences (not derivations): the paths of the automaton."""
    automaton = Automaton(grammar)
    counts: dict[frozenset[Rest], int] = {}

    def count(state: frozenset[Rest]) -> int:
        if state not in counts:
            counts[state] = (() in state) + sum(map(count, automaton.successors(state).values()))
        return counts[state]

    return count(automaton.start)


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
    assert all(map(Automaton(toy).accepts, dict(all_sentences)))


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


def test_minimal_pairs_are_held_out_sentences_and_what_is_not_in_the_language(
    automaton: Automaton, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    pairs = list(map(json.loads, (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()))
    training = set(lines("sentences.txt"))
    words = {word for line in training for word in re.split(r"[^a-z]+", line.lower())}
    counts: Counter[str] = Counter()
    for good, bad, phenomenon in {tuple(pair.values()) for pair in pairs}:
        assert automaton.accepts(good) and good not in training
        assert not automaton.accepts(bad)
        changed = [(a, b) for a, b in zip(good.split(), bad.split(), strict=True) if a != b]
        if phenomenon == "word_order":
            assert len(changed) == 2 and changed[0] == changed[1][::-1]
        else:
            before, after = (re.split(r"[^a-z]", word.lower())[0] for word in changed[0])
            expected = ALL_SWAPS if phenomenon == "homophones" else NUMBERS
            assert len(changed) == 1 and (before, after) in expected
            assert after in words  # so no unknown word gives the error away
        counts[phenomenon] += 1
    assert counts == {"agreement": 1000, "homophones": 1000, "word_order": 1000}


def test_the_seed_determines_the_minimal_pairs(grammar: Grammar) -> None:
    first, again, other = (list(minimal_pairs(grammar, 20, seed)) for seed in (4, 4, 5))
    assert first == again != other


SINGULAR_PLURAL = [("is", "are"), ("was", "were"), ("has", "have"), ("works", "work")]
NUMBERS = [*SINGULAR_PLURAL, *((plural, singular) for singular, plural in SINGULAR_PLURAL)]


def test_nbest_lists_have_the_sentence_that_was_said_and_errors(
    automaton: Automaton, tmp_path: Path
) -> None:
    write_nbest(tmp_path)
    training, said = set(lines("sentences.txt")), []
    for name in ("dev", "test"):
        references = (tmp_path / f"{name}.ref").read_text("utf-8").splitlines()
        found: dict[str, list[tuple[str, float]]] = {}
        for line in (tmp_path / f"{name}.nbest").read_text("utf-8").splitlines():
            number, text, feature, total = line.split(" ||| ")
            assert feature == f"acoustic= {total}"
            found.setdefault(number, []).append((text, float(total)))
        assert list(found) == [str(number) for number in range(LISTS)]
        assert all(len(dict(one)) == len(one) == HYPOTHESES for one in found.values())
        scores = [[score for _, score in one] for one in found.values()]
        assert scores == [sorted(one, reverse=True) for one in scores]
        texts = [[text for text, _ in one] for one in found.values()]
        there = [right in one for right, one in zip(references, texts, strict=True)]
        first = [right == one[0] for right, one in zip(references, texts, strict=True)]
        assert 0.8 < sum(there) / LISTS < 0.97  # without it in one of ten
        assert 0.2 < sum(first) / sum(there) < 0.8  # the score is imperfect, and not noise alone
        said += references
    assert len(set(said)) == 2 * LISTS
    assert all(map(automaton.accepts, said)) and not training & set(said)
