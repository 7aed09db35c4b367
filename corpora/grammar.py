"""A probabilistic grammar of a finite language: sample it, parse it, measure it.

A grammar file holds rules such as

    Salad = the <Fruit> salad | [3] the <Fruit> and plum salad
    Fruit = apple | peach

A rule gives the alternatives of a symbol, parted by `|`. `<Name>` stands for a symbol, everything
else for itself. `[3]` before an alternative makes it three times as likely as one without a weight.
A line that begins with a space goes on with the rule above it; a line that begins with `#` is a
comment. The first rule is the start. No symbol may lead back to itself, so the language is finite.
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
    """A reference to a rule, in the place of the text it derives."""

    name: str


Part = str | Symbol
Ends = dict[int, tuple[int, float]]  # end of a derivation -> how many end there, their probability


@dataclass(frozen=True)
class Alternative:
    """One right-hand side of a rule, with its probability among the rule's alternatives."""

    probability: float
    parts: tuple[Part, ...]

    def symbols(self) -> Iterator[str]:
        """Yield the names of the symbols it refers to."""
        return (part.name for part in self.parts if isinstance(part, Symbol))


class Rule:
    """All alternatives of one symbol; `line` is where the file defines it."""

    def __init__(self, line: int, weighted: list[tuple[int, tuple[Part, ...]]]) -> None:
        """Take the weight and the parts of each alternative."""
        self.line = line
        self._thresholds = list(accumulate(weight for weight, _ in weighted))
        total = self._thresholds[-1]
        self.alternatives = [Alternative(weight / total, parts) for weight, parts in weighted]

    def choose(self, rng: random.Random) -> Alternative:
        """Draw an alternative with one call of `rng.random()`, the same in all Python versions."""
        return self.alternatives[bisect(self._thresholds, rng.random() * self._thresholds[-1])]

    def entropy(self) -> float:
        """Return the entropy of the choice among the alternatives, in nats."""
        return -math.fsum(a.probability * math.log(a.probability) for a in self.alternatives)


class Grammar:
    """The distribution over sentences that a set of rules defines.

    >>> grammar = Grammar.parse("Order = a <Size> tea | [3] a coffee\\nSize = small | large")
    >>> grammar.size(), "a small tea" in grammar, round(math.exp(grammar.logprob("a large tea")), 3)
    (3, True, 0.125)
    """

    def __init__(self, rules: dict[str, Rule]) -> None:
        """Take rules by name: the start first, and each symbol's users before its own rule."""
        self._rules = rules
        self._start = next(iter(rules))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a grammar file. Raises ValueError, with the line number, where it is malformed."""
        return cls.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Build a grammar from the text of a grammar file. Raises ValueError like `read`."""
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
        """Return the entropy of a derivation in nats: a sentence's, if none has two derivations.

        It is the sum over symbols of their expected uses times the entropy of their choice.
        """
        uses = dict.fromkeys(self._rules, 0.0) | {self._start: 1.0}
        for name, rule in self._rules.items():
            for alternative in rule.alternatives:
                for used in alternative.symbols():
                    uses[used] += uses[name] * alternative.probability
        return math.fsum(uses[name] * rule.entropy() for name, rule in self._rules.items())

    def size(self) -> int:
        """Return the number of derivations: of sentences, if none has two derivations."""
        sizes: dict[str, int] = {}
        for name, rule in reversed(self._rules.items()):
            sizes[name] = sum(math.prod(sizes[s] for s in a.symbols()) for a in rule.alternatives)
        return sizes[self._start]

    def derivations(self, sentence: str) -> int:
        """Return in how many ways the grammar derives the sentence."""
        return self._inside(sentence)[0]

    def logprob(self, sentence: str) -> float:
        """Return the sentence's log-probability in nats, -inf if it is not in the language."""
        probability = self._inside(sentence)[1]
        return math.log(probability) if probability else -math.inf

    def __contains__(self, sentence: str) -> bool:
        """Tell whether the grammar derives the sentence."""
        return self.derivations(sentence) > 0

    def _inside(self, sentence: str) -> tuple[int, float]:
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
    """Recursive descent over one sentence, which remembers what it found at each position."""

    def __init__(self, index: Index, sentence: str) -> None:
        self._index = index
        self._sentence = sentence
        self._found: dict[tuple[str, int], Ends] = {}

    def ends(self, name: str, start: int) -> Ends:
        """Return where the derivations of a symbol that begin at `start` can end."""
        if (name, start) not in self._found:
            self._found[name, start] = self._find(name, start)
        return self._found[name, start]

    def _find(self, name: str, start: int) -> Ends:
        found: Ends = {}
        for alternative in self._index[name].get(self._sentence[start : start + 1], ()):
            reached: Ends = {start: (1, alternative.probability)}
            for part in alternative.parts:
                reached = self._advance(reached, part)
            for end, inside in reached.items():
                _add(found, end, inside)
        return found

    def _advance(self, reached: Ends, part: Part) -> Ends:
        if isinstance(part, str):
            starts = self._sentence.startswith
            return {at + len(part): inside for at, inside in reached.items() if starts(part, at)}
        advanced: Ends = {}
        for at, (count, probability) in reached.items():
            for end, inside in self.ends(part.name, at).items():
                _add(advanced, end, (count * inside[0], probability * inside[1]))
        return advanced


def _add(ends: Ends, end: int, inside: tuple[int, float]) -> None:
    count, probability = ends.get(end, (0, 0.0))
    ends[end] = count + inside[0], probability + inside[1]


def _definitions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number, the name and the right-hand side of each rule."""
    definitions: list[tuple[int, str, str]] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if match := re.fullmatch(r"(\w+)\s*=(.*)", content):
            definitions.append((line, match[1], match[2]))
        elif content[0] == " " and definitions:
            definitions[-1] = (*definitions[-1][:2], definitions[-1][2] + content)
        else:
            raise ValueError(f"line {line}: expected 'Name = ...' or a line that goes on")
    yield from definitions


def _alternative(line: int, text: str) -> tuple[int, tuple[Part, ...]]:
    """Return the weight and the parts of one alternative."""
    match = re.fullmatch(r"(?:\[(.*?)\] )?(.+)", " ".join(text.split()))
    if not match:
        raise ValueError(f"line {line}: an alternative is empty")
    weight, body = match[1] or "1", match[2]
    if not re.fullmatch(r"[1-9][0-9]*", weight):
        raise ValueError(f"line {line}: the weight [{weight}] is not a whole number above zero")
    if re.search(r"[][<>=]", re.sub(r"<\w+>", "", body)):
        raise ValueError(f"line {line}: a stray bracket or sign in '{body}'")
    pieces = re.split(r"<(\w+)>", body)
    parts = [Symbol(piece) if i % 2 else piece for i, piece in enumerate(pieces) if piece]
    return int(weight), tuple(parts)


def _users_first(rules: dict[str, Rule]) -> dict[str, Rule]:
    """Return the rules with the start first and each symbol's users before its own rule."""
    finished: dict[str, Rule] = {}
    open_: list[str] = []

    def visit(name: str, line: int) -> None:
        if name not in rules:
            raise ValueError(f"line {line}: <{name}> is not defined")
        if name in open_:
            raise ValueError(f"line {line}: <{name}> leads back to itself")
        if name not in finished:
            open_.append(name)
            for alternative in rules[name].alternatives:
                for used in alternative.symbols():
                    visit(used, rules[name].line)
            finished[open_.pop()] = rules[name]

    visit(next(iter(rules)), 1)
    if unused := next((name for name in rules if name not in finished), None):
        raise ValueError(f"line {rules[unused].line}: <{unused}> is not used from the first rule")
    return dict(reversed(finished.items()))
