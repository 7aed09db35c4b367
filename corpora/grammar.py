"""A probabilistic grammar of a finite language: sample it, parse it, measure it.

A grammar file holds rules. Two examples:

    Salad = the <Fruit> salad | [3] the <Fruit> and plum salad
    Fruit = apple | peach

A rule lists the alternatives of a symbol, separated by `|`. `<Name>` refers to a symbol; all other
text stands for itself. `[3]` is a weight: the alternative is three times as probable as one without
a weight. A line that begins with a space continues the rule above it. A line that begins with `#`
is a comment. The first rule is the start. A symbol cannot derive itself, so the language is finite.
"""

import math
import random
import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Self


class Symbol(NamedTuple):
    """A reference to a rule within an alternative. It stands for the text that the rule derives."""

    name: str


Part = str | Symbol
Inside = tuple[int, float]  # the number of derivations of a span, and their summed probability
Ends = dict[int, Inside]  # by the position where the derivations end


@dataclass(frozen=True)
class Alternative:
    """One right-hand side of a rule, and its probability within the rule."""

    probability: float
    parts: tuple[Part, ...]

    def symbols(self) -> Iterator[str]:
        """The names of the symbols that it refers to."""
        return (part.name for part in self.parts if isinstance(part, Symbol))


class Tree(NamedTuple):
    """A derivation of a text from a symbol.

    name:      the name of the symbol
    children:  the parts of the alternative, with a tree in place of each symbol
    """

    name: str
    children: "tuple[str | Tree, ...]"

    def leaves(self) -> Iterator[tuple[str, str]]:
        """The pieces of the text, from left to right, each after the name of its rule."""
        for child in self.children:
            if isinstance(child, Tree):
                yield from child.leaves()
            else:
                yield self.name, child


class Rule:
    """All alternatives of one symbol.

    line:  the number of the line in the grammar file
    """

    def __init__(self, line: int, weighted: list[tuple[int, tuple[Part, ...]]]) -> None:
        """weighted: the weight and the parts of each alternative"""
        self.line = line
        self._thresholds = list(accumulate(weight for weight, _ in weighted))
        total = self._thresholds[-1]
        self.alternatives = [Alternative(weight / total, parts) for weight, parts in weighted]

    def choose(self, rng: random.Random) -> Alternative:
        """Draw an alternative.

        Uses one call of `rng.random()`, so the result is the same in all Python versions.
        """
        return self.alternatives[bisect(self._thresholds, rng.random() * self._thresholds[-1])]

    def entropy(self) -> float:
        """The entropy of the choice among the alternatives, in nats."""
        return -math.fsum(a.probability * math.log(a.probability) for a in self.alternatives)


class Grammar:
    """A probability distribution over sentences, defined by rules.

    >>> grammar = Grammar.parse("Order = a <Size> tea | [3] a coffee\\nSize = small | large")
    >>> grammar.size(), "a small tea" in grammar, round(math.exp(grammar.logprob("a large tea")), 3)
    (3, True, 0.125)
    """

    def __init__(self, rules: dict[str, Rule]) -> None:
        """rules: by name, the start first, and every rule before the rules that it refers to"""
        self._rules = rules
        self._start = next(iter(rules))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a grammar file. Raises ValueError, with the line number, if it is malformed."""
        return cls.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Build a grammar from the text of a grammar file. Raises ValueError as `read` does."""
        rules: dict[str, Rule] = {}
        for line, name, body in _definitions(text):
            if name in rules:
                raise ValueError(f"line {line}: <{name}> is defined a second time")
            rules[name] = Rule(line, [_alternative(line, right) for right in body.split("|")])
        if not rules:
            raise ValueError("line 1: there is no rule")
        return cls(_users_first(rules))

    def sample(self, rng: random.Random) -> str:
        """Draw a sentence."""
        return "".join(self._draw(self._start, rng))

    def _draw(self, name: str, rng: random.Random) -> Iterator[str]:
        for part in self._rules[name].choose(rng).parts:
            if isinstance(part, Symbol):
                yield from self._draw(part.name, rng)
            else:
                yield part

    def entropy(self) -> float:
        """The entropy of a derivation, in nats.

        It equals the entropy of a sentence if every sentence has one derivation. It is a sum over
        symbols: the expected number of uses times the entropy of the choice.
        """
        uses = dict.fromkeys(self._rules, 0.0) | {self._start: 1.0}
        for name, rule in self._rules.items():
            for alternative in rule.alternatives:
                for symbol in alternative.symbols():
                    uses[symbol] += uses[name] * alternative.probability
        return math.fsum(uses[name] * rule.entropy() for name, rule in self._rules.items())

    def size(self) -> int:
        """The number of derivations. It equals the number of sentences if each has one."""
        sizes: dict[str, int] = {}
        for name, rule in reversed(self._rules.items()):
            sizes[name] = sum(math.prod(sizes[s] for s in a.symbols()) for a in rule.alternatives)
        return sizes[self._start]

    def derivations(self, sentence: str) -> int:
        """The number of derivations of the sentence."""
        return self._inside(sentence)[0]

    def logprob(self, sentence: str) -> float:
        """The log-probability of the sentence in nats; -inf if it is not in the language."""
        probability = self._inside(sentence)[1]
        return math.log(probability) if probability else -math.inf

    def tree(self, sentence: str) -> Tree:
        """The derivation of the sentence; the first one if it has several.

        Raises ValueError if the sentence is not in the language.
        """
        parser = _Parser(self._by_first_letter, sentence)
        for tree in parser.trees(self._start, 0, len(sentence)):
            return tree
        raise ValueError(f"not in the language: '{sentence}'")

    def __contains__(self, sentence: str) -> bool:
        """Whether the sentence is in the language."""
        return self.derivations(sentence) > 0

    def _inside(self, sentence: str) -> Inside:
        ends = _Parser(self._by_first_letter, sentence).ends(self._start, 0)
        return ends.get(len(sentence), (0, 0.0))

    @cached_property
    def _by_first_letter(self) -> "Index":
        index: Index = {}
        for name, rule in reversed(self._rules.items()):
            index[name] = {}
            for alternative in rule.alternatives:
                first = alternative.parts[0]
                for letter in index[first.name] if isinstance(first, Symbol) else first[0]:
                    index[name].setdefault(letter, []).append(alternative)
        return index


Index = dict[str, dict[str, list[Alternative]]]  # symbol -> first letter -> alternatives


class _Parser:
    """Recursive descent over one sentence, with a memo of each symbol at each position."""

    def __init__(self, index: Index, sentence: str) -> None:
        self._index = index
        self._sentence = sentence
        self._memo: dict[tuple[str, int], Ends] = {}

    def ends(self, name: str, start: int) -> Ends:
        """The ends of all derivations of a symbol that start at `start`."""
        if (name, start) not in self._memo:
            self._memo[name, start] = self._parse(name, start)
        return self._memo[name, start]

    def _parse(self, name: str, start: int) -> Ends:
        ends: Ends = {}
        for alternative in self._index[name].get(self._sentence[start : start + 1], ()):
            alternative_ends: Ends = {start: (1, alternative.probability)}
            for part in alternative.parts:
                alternative_ends = self._extend(alternative_ends, part)
            for end, inside in alternative_ends.items():
                _add(ends, end, inside)
        return ends

    def trees(self, name: str, start: int, end: int) -> Iterator[Tree]:
        """All derivations of the span from a symbol."""
        for alternative in self._index[name].get(self._sentence[start : start + 1], ()):
            for children in self._children(alternative.parts, start, end):
                yield Tree(name, children)

    def _children(
        self, parts: tuple[Part, ...], start: int, end: int
    ) -> Iterator[tuple[str | Tree, ...]]:
        """All derivations of the span from a sequence of parts."""
        if not parts:
            if start == end:
                yield ()
            return
        first, rest = parts[0], parts[1:]
        for middle in self._extend({start: (1, 1.0)}, first):
            for children in self._children(rest, middle, end):
                if isinstance(first, str):
                    yield first, *children
                else:
                    for tree in self.trees(first.name, start, middle):
                        yield tree, *children

    def _extend(self, ends: Ends, part: Part) -> Ends:
        """The ends of derivations that are followed by one more part."""
        if isinstance(part, str):
            matches = self._sentence.startswith
            return {end + len(part): inside for end, inside in ends.items() if matches(part, end)}
        extended: Ends = {}
        for middle, (count, probability) in ends.items():
            for end, inside in self.ends(part.name, middle).items():
                _add(extended, end, (count * inside[0], probability * inside[1]))
        return extended


def _add(ends: Ends, end: int, inside: Inside) -> None:
    count, probability = ends.get(end, (0, 0.0))
    ends[end] = count + inside[0], probability + inside[1]


def _definitions(text: str) -> Iterator[tuple[int, str, str]]:
    """The line number, the name and the right-hand side of each rule."""
    definitions: list[tuple[int, str, str]] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if match := re.fullmatch(r"(\w+)\s*=(.*)", content):
            definitions.append((line, match[1], match[2]))
        elif content[0] == " " and definitions:
            definitions[-1] = (*definitions[-1][:2], definitions[-1][2] + content)
        else:
            raise ValueError(f"line {line}: expected 'Name = ...' or a continuation line")
    yield from definitions


def _alternative(line: int, text: str) -> tuple[int, tuple[Part, ...]]:
    """The weight and the parts of one alternative."""
    match = re.fullmatch(r"(?:\[(.*?)\] )?(.+)", " ".join(text.split()))
    if not match:
        raise ValueError(f"line {line}: an alternative is empty")
    weight, body = match[1] or "1", match[2]
    if not re.fullmatch(r"[1-9][0-9]*", weight):
        raise ValueError(f"line {line}: the weight [{weight}] is not a whole number above zero")
    if re.search(r"[][<>=]", re.sub(r"<\w+>", "", body)):
        raise ValueError(f"line {line}: an unexpected bracket or sign in '{body}'")
    pieces = re.split(r"<(\w+)>", body)
    parts = [Symbol(piece) if i % 2 else piece for i, piece in enumerate(pieces) if piece]
    return int(weight), tuple(parts)


def _users_first(rules: dict[str, Rule]) -> dict[str, Rule]:
    """Sort the rules: the start first, and every rule before the rules that it refers to."""
    finished: dict[str, Rule] = {}
    ancestors: list[str] = []

    def visit(name: str, line: int) -> None:
        if name not in rules:
            raise ValueError(f"line {line}: <{name}> is not defined")
        if name in ancestors:
            raise ValueError(f"line {line}: <{name}> derives itself")
        if name not in finished:
            ancestors.append(name)
            for alternative in rules[name].alternatives:
                for symbol in alternative.symbols():
                    visit(symbol, rules[name].line)
            finished[ancestors.pop()] = rules[name]

    visit(next(iter(rules)), 1)
    if unused := next((name for name in rules if name not in finished), None):
        raise ValueError(
            f"line {rules[unused].line}: <{unused}> cannot be reached from the first rule"
        )
    return dict(reversed(finished.items()))
