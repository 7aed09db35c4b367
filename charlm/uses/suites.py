"""Test suites of SyntaxGym (Gauthier et al. 2020): predictions about the surprisal of regions.

A prediction is a formula such as `(6;%match%) < (6;%mismatch%)`: the surprisal of region 6 in the
condition `match` is below that in `mismatch`. `*` stands for all regions.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from charlm.engines.scores import SentenceScore
from charlm.tokenizer import EOS

REGION = re.compile(r"\(\s*(\d+|\*)\s*;\s*%([^%]+)%\s*\)")
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
    ast.Eq: lambda a, b: math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-3),  # as SyntaxGym has it
}


class Region(NamedTuple):
    """A region of a sentence: its number and its text."""

    number: int
    text: str


Conditions = Mapping[str, Sequence[Region]]  # of one item, by their names


@dataclass(frozen=True)
class Prediction:
    """A formula about the surprisal of regions."""

    formula: str

    @cached_property
    def references(self) -> list[tuple[str, str]]:
        """The regions it speaks of, (region, condition): r0, r1, … in `tree`."""
        return REGION.findall(self.formula)

    @cached_property
    def tree(self) -> ast.expr:
        """The parsed formula. Raises ValueError for a text that is none."""
        numbers = iter(range(len(self.references)))
        text = REGION.sub(lambda _: f"(r{next(numbers)})", self.formula)
        text = text.replace("[", "(").replace("]", ")").replace("&", " and ").replace("|", " or ")
        try:
            tree = ast.parse(re.sub(r"=+", "==", text).strip(), mode="eval").body
        except SyntaxError:
            tree = None
        if not isinstance(tree, ast.Compare | ast.BoolOp):
            raise ValueError(f"{self.formula!r} is no prediction")
        return tree

    def holds(self, surprisal: Callable[[str, str], float]) -> bool:
        """Whether it is true.

        surprisal:  (region, condition) -> bits
        """
        names = {f"r{k}": surprisal(*reference) for k, reference in enumerate(self.references)}
        return bool(self._value(self.tree, names))

    def _value(self, node: ast.expr, names: Mapping[str, float]) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.BinOp(left=a, op=op, right=b) if type(op) in OPERATORS:
                return OPERATORS[type(op)](self._value(a, names), self._value(b, names))
            case ast.Compare(left=a, ops=[op], comparators=[b]) if type(op) in OPERATORS:
                return OPERATORS[type(op)](self._value(a, names), self._value(b, names))
            case ast.BoolOp(op=op, values=terms):
                join = all if isinstance(op, ast.And) else any
                return join([self._value(term, names) for term in terms])
        raise ValueError(f"{self.formula!r} is no prediction")


@dataclass(frozen=True)
class Suite:
    """A suite: its name, its predictions, and the conditions of each item by their names.

    Raises ValueError for a prediction about a region that an item does not have.
    """

    name: str
    predictions: Sequence[Prediction]
    items: Sequence[Conditions]

    def __post_init__(self) -> None:
        for prediction in self.predictions:
            prediction.holds(lambda region, condition: 0.0)  # raises for what is no formula
        references = [reference for p in self.predictions for reference in p.references]
        for number, item in enumerate(self.items, 1):
            for region, condition in references:
                numbers = {str(r.number) for r in item.get(condition, ())}
                if region not in numbers | {"*"} or not numbers:
                    raise ValueError(f"item {number} has no region {region} in {condition!r}")

    @property
    def names(self) -> list[str]:
        """A name for each prediction: of the suite, with a number if there are several."""
        numbers = range(1, len(self.predictions) + 1)
        return [f"{self.name} {k}" for k in numbers] if len(numbers) > 1 else [self.name]

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """The suite that is written in this JSON value. Raises ValueError for a broken one."""
        try:
            meta = value["meta"]
            if (metric := meta.get("metric", "sum")) not in ("sum", ["sum"]):
                raise ValueError(f"its metric is {metric!r}, and charlm computes sums only")
            formulas = [p["formula"] for p in value["predictions"]] or meta["string_predictions"]
            items = [
                {str(c["condition_name"]): _regions(c["regions"]) for c in item["conditions"]}
                for item in value["items"]
            ]
            return cls(str(meta["name"]), [Prediction(str(f)) for f in formulas], items)
        except KeyError as error:
            raise ValueError(f"no suite of SyntaxGym: it has no {error}") from None
        except TypeError:
            raise ValueError("no suite of SyntaxGym") from None

    def judge(self, item: Conditions, scores: Sequence[SentenceScore]) -> list[bool]:
        """Whether each prediction holds for an item, by the scores of its conditions."""
        bits = {
            condition: region_bits(regions, score)
            for (condition, regions), score in zip(item.items(), scores, strict=True)
        }

        def surprisal(region: str, condition: str) -> float:
            of_regions = bits[condition]
            return sum(of_regions.values()) if region == "*" else of_regions[int(region)]

        return [prediction.holds(surprisal) for prediction in self.predictions]


def _regions(values: Sequence[Mapping[str, Any]]) -> list[Region]:
    return [Region(int(v["region_number"]), str(v["content"]).strip()) for v in values]


def sentence_of(regions: Sequence[Region]) -> str:
    """The sentence: its regions, with a space between two."""
    return " ".join(filter(None, (region.text for region in regions)))


def region_bits(regions: Sequence[Region], score: SentenceScore) -> dict[int, float]:
    """The surprisal of each region in bits. The space before a region belongs to it."""
    ends, end = [], 0
    for region in regions:
        end += len(region.text) + bool(region.text and end)
        ends.append(end)
    inside = score.ids != EOS
    owners = np.searchsorted(ends, score.spans[inside, 1])
    sums = np.bincount(owners, -score.logprobs[inside] / math.log(2), len(regions))
    return {region.number: float(bits) for region, bits in zip(regions, sums, strict=True)}
