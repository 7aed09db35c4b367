"""The search for units that follow a property of the text, such as being inside quotes.

The text is read in two halves. The first half chooses, for each property, the unit with the
largest correlation; the second half measures the unit, so that the choice among thousands cannot
flatter it. Simpler explanations are measured beside it, in the same way:

- the token alone: the mean of the property after this token, counted in the first half
- the last two tokens, likewise
- the position in the line, likewise, and the distance to its end if a layer reads from the end; not
  for the properties that are themselves about the line
- a shuffled network: the best unit of the same layers after their weights were shuffled, in the
  best of a few shuffles

A unit is believed if it is clearly better than all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.engines.activations import Reading, Unit, blocks, values_of
from charlm.errors import InputError
from charlm.model.activations import BACKWARDS
from charlm.tokenizer import START, UNK
from charlm.uses.concordance import jackknifed, standard_error
from charlm.uses.text_properties import PROPERTIES, Property, position_in_line

Floats = NDArray[np.floating]
Ids = NDArray[np.int64]
Done = Callable[[float], None]
FEWEST_TOKENS = 2000  # of a text that is searched
FEWEST_CHANGES = 20  # of a property, in each half
MARGIN, ERRORS = 0.05, 3.0  # by which a unit is better: concordance, and standard errors
SHUFFLES = 3
LEAST_VARIANCE = 1e-8  # of a unit that is not constant
ALIKE = 0.999  # correlation of properties that are the same in a text
REPEATED = 20  # characters of a piece that may occur in the first half
TOKEN, PAIR, LINE, SHUFFLED = "token", "two tokens", "line", "shuffled"  # explanations
EXPLANATIONS = (TOKEN, PAIR, LINE, SHUFFLED)


@dataclass(frozen=True)
class Finding:
    """The best unit for a property, and what else explains the property.

    All figures are concordances in the second half of the text: see `charlm.uses.concordance`.

    rising:   the value of the unit is large where the property is; otherwise it is small there
    mean:     of the property: its share if it is true or false
    figure:   of the unit
    error:    standard error of the difference to the best of the simpler explanations
    simpler:  the figures of the `EXPLANATIONS`; without `LINE` for a property of the line itself
    """

    text_property: Property
    unit: Unit
    rising: bool
    mean: float
    figure: float
    error: float
    simpler: dict[str, float]

    @property
    def believed(self) -> bool:
        """Whether the unit is clearly better than the simpler explanations."""
        gain = self.figure - max(self.simpler.values())
        return gain > max(MARGIN, ERRORS * self.error)

    @property
    def verdict(self) -> str:
        """Whether it is believed, and otherwise the first explanation that is about as good."""
        bound = self.figure - MARGIN
        as_good = next((name for name, figure in self.simpler.items() if figure >= bound), None)
        if as_good:
            return f"no: {as_good}"
        return "yes" if self.believed else "no: uncertain"

    def to_json(self) -> dict[str, Any]:
        """The fields of output."""
        return {
            "property": self.text_property.name,
            "unit": self.unit.name,
            "rising": self.rising,
            "figure": self.figure,
            **{name.replace(" ", "_"): self.simpler.get(name) for name in EXPLANATIONS},
            "error": self.error if math.isfinite(self.error) else None,
            "mean": self.mean,
            "believed": self.believed,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Search:
    """What was found in a text.

    findings:  believed ones first, and then by their figures
    rare:      properties that do not occur often enough in the text
    half:      the second one, in which the units were measured
    truth:     (n, properties) of its tokens, those of `PROPERTIES`
    """

    findings: Sequence[Finding]
    rare: Sequence[Property]
    half: Reading
    truth: Floats

    @property
    def believed(self) -> list[Finding]:
        """The findings that no simpler explanation explains."""
        return [finding for finding in self.findings if finding.believed]

    def excerpt(self, findings: Sequence[Finding], chars: int) -> str:
        """A piece of the second half in which the properties of these findings vary most.

        It begins at the start of a line, if the text has lines, and ends at a line's end or after
        this number of characters.
        """
        columns = [PROPERTIES.index(finding.text_property) for finding in findings]
        (positions,) = np.nonzero(self.half.counted)
        own = self.truth[positions][:, columns].astype(np.float64)
        own = (own - own.mean(axis=0)) / np.maximum(own.std(axis=0), 1e-9)
        sums, squares = (_cumulated(values) for values in (own, np.square(own)))
        is_start = np.append(True, np.diff(positions) > 1)
        starts = np.flatnonzero(is_start)
        if len(starts) < FEWEST_CHANGES:  # there are hardly any lines
            starts = np.arange(0, len(positions), chars)
        begins = self.half.spans[positions, 0]
        ends = np.searchsorted(begins, begins[starts] + chars)
        counts = (ends - starts)[:, None]
        spread = (squares[ends] - squares[starts]) / counts
        spread -= np.square((sums[ends] - sums[starts]) / counts)
        best = int((spread.mean(axis=1) * (counts[:, 0] > counts.max() / 2)).argmax())
        first = int(begins[starts[best]])
        return beginning(self.half.text[first:], chars)


def beginning(text: str, chars: int) -> str:
    """The first characters of a text, up to a line's end if one is in their second half."""
    piece = text[:chars]
    line_end = piece.rfind("\n")
    return piece[:line_end] if len(text) > chars and line_end > chars / 2 else piece


def why_not(reading: Reading) -> str | None:
    """Why nothing that is found in a text would mean anything; None if it would."""
    unknown = float((reading.rows == UNK)[reading.counted].mean())
    if unknown > 1 / 2:
        return (
            f"{unknown:.0%} of the tokens are unknown to the model: nothing was searched; give a "
            "text like those it was trained on"
        )
    first, second = (_text(half) for half in _halves(reading))
    known = {first[k : k + REPEATED] for k in range(len(first))}
    pieces = [second[k : k + REPEATED] for k in range(0, len(second) - REPEATED + 1, REPEATED)]
    repeated = sum(piece in known for piece in pieces)
    if repeated > len(pieces) / 2:
        return (
            f"{repeated / len(pieces):.0%} of the second half repeats the first: nothing was "
            "searched, since the second half could not check the first; give another text"
        )
    return None


def search_units(reading: Reading, progress: Done | None = None) -> Search:
    """Find the best unit for each property in a text.

    progress:  called with the fraction that is done

    Raises InputError for a text of fewer than `FEWEST_TOKENS` tokens.
    """
    count = int(reading.counted.sum())
    if count < FEWEST_TOKENS:
        raise InputError(
            f"the text is too short to find units in: {count:,} tokens of {FEWEST_TOKENS:,} or more"
        )
    truth = of_tokens(reading)
    halves = _halves(reading)
    often = [_changes(truth, half) >= FEWEST_CHANGES for half in halves]
    usable = np.flatnonzero(np.logical_and(*often))
    rare = [p for k, p in enumerate(PROPERTIES) if k not in usable]
    usable = usable[_different(truth[reading.counted][:, usable])]
    done, findings = progress or (lambda fraction: None), list[Finding]()
    if len(usable):
        findings = _found(halves, truth[:, usable], [PROPERTIES[k] for k in usable], done)
    findings.sort(key=lambda finding: (not finding.believed, -finding.figure))
    return Search(findings, rare, halves[1], truth)


def of_tokens(reading: Reading) -> Floats:
    """(n, properties) the property of each token: that of its last character."""
    last = np.maximum(reading.spans[:, 1] - 1, 0)
    return np.stack([p.measure(reading.text)[last] for p in PROPERTIES], axis=1)


def _different(truth: Floats) -> Ids:
    """The properties (n, properties) that are not the same as one before."""
    if not truth.shape[1]:
        return np.arange(0)
    r = np.atleast_2d(np.corrcoef(truth, rowvar=False))
    return np.flatnonzero(~np.tril(r > ALIKE, -1).any(axis=1))


def _text(half: Reading) -> str:
    """The characters of the tokens that are read."""
    spans = half.spans[half.counted]
    return half.text[spans[0, 0] : spans[-1, 1]]


def _cumulated(values: Floats) -> Floats:
    """(n + 1, …) the sums of the values before each position."""
    return np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)])


def _halves(reading: Reading) -> tuple[Reading, Reading]:
    """Two halves, which part at a line end if there is one near the middle."""
    n = len(reading.ids)
    ends = np.flatnonzero(~reading.counted) + 1
    middle = int(ends[np.abs(ends - n // 2).argmin()]) if len(ends) else n // 2
    if not n / 4 < middle < n * 3 / 4:
        middle = n // 2
    return reading.between(0, middle), reading.between(middle, n)


def _changes(truth: Floats, half: Reading) -> Ids:
    """How often each property changes from token to token."""
    return np.count_nonzero(np.diff(truth[half.counted], axis=0), axis=0)


def _found(
    halves: Sequence[Reading], truth: Floats, properties: Sequence[Property], done: Done
) -> list[Finding]:
    """What was found for each property. truth: (n, properties)"""
    second = halves[1].counted
    chosen, own = _measured(halves, truth)
    done(1 / (SHUFFLES + 1))
    shuffled = []
    for k in range(SHUFFLES):
        shuffled.append(_measured([half.shuffled(k) for half in halves], truth)[1])
        done((k + 2) / (SHUFFLES + 1))
    by_token, by_pair, *by_lines = [
        [jackknifed(*columns) for columns in zip(table[second].T, truth[second].T, strict=True)]
        for table in (*_by_tokens(halves[0], truth), *_by_places(halves[0], truth))
    ]
    findings = []
    for k, (text_property, (unit, sign)) in enumerate(zip(properties, chosen, strict=True)):
        simpler = {TOKEN: by_token[k], PAIR: by_pair[k]}
        if not text_property.of_line:
            simpler[LINE] = max((table[k] for table in by_lines), key=_figure)
        simpler[SHUFFLED] = max((of_network[k] for of_network in shuffled), key=_figure)
        findings.append(
            Finding(
                text_property,
                unit,
                rising=sign > 0,
                mean=float(truth[second, k].mean()),
                figure=_figure(own[k]),
                error=standard_error(own[k] - max(simpler.values(), key=_figure)),
                simpler={name: _figure(estimates) for name, estimates in simpler.items()},
            )
        )
    return findings


def _measured(
    halves: Sequence[Reading], truth: Floats
) -> tuple[list[tuple[Unit, int]], list[Floats]]:
    """The best units of the first half, and their figures in the second: see `jackknifed`."""
    first, second = halves
    chosen = _best(first, truth)
    values = values_of(second, [unit for unit, _ in chosen])[second.counted]
    columns = zip(chosen, values.T, truth[second.counted].T, strict=True)
    return chosen, [jackknifed(sign * value, real) for (_, sign), value, real in columns]


def _figure(estimates: Floats) -> float:
    """The figure itself, of what `jackknifed` returns."""
    return float(estimates[0])


def _best(half: Reading, truth: Floats) -> list[tuple[Unit, int]]:
    """For each property the unit with the largest correlation, and the sign of the correlation."""
    best: list[tuple[float, Unit, int]] = [(-1.0, Unit(1, False, "h", 1), 1)] * truth.shape[1]
    for (layer, backwards, quantity), r in _correlations(half, truth).items():
        for k, number in enumerate(np.abs(r).argmax(axis=0).tolist()):
            value = float(r[number, k])
            if abs(value) > best[k][0]:
                unit = Unit(layer, backwards, quantity, number + 1)
                best[k] = abs(value), unit, 1 if value > 0 else -1
    return [(unit, sign) for _, unit, sign in best]


def _correlations(half: Reading, truth: Floats) -> dict[tuple[int, bool, str], Floats]:
    """Pearson's r of every unit with every property, (H, properties), by layer and quantity."""
    own = truth[half.counted].astype(np.float64)
    scaled = ((truth - own.mean(axis=0)) / own.std(axis=0)).astype(np.float32)
    products: dict[Any, Floats] = {}
    moments: dict[Any, Floats] = {}
    for block in blocks(half):
        of_block = scaled[block.positions]
        for quantity, values in block.values.items():
            key = block.layer, block.backwards, quantity
            wide = values.astype(np.float64)
            products[key] = products.get(key, 0) + values.T @ of_block
            moments[key] = moments.get(key, 0) + np.stack([wide.sum(0), np.square(wide).sum(0)])
    n, r = len(own), dict[tuple[int, bool, str], Floats]()
    for key, (total, squares) in moments.items():
        variance = squares / n - np.square(total / n)
        spread = np.sqrt(np.where(variance > LEAST_VARIANCE, variance, np.inf))
        r[key] = products[key] / n / spread[:, None]
    return r


def _by_tokens(first: Reading, truth: Floats) -> tuple[Floats, Floats]:
    """The mean of each property after the token, and after the last two: (n, properties) each.

    They are counted in the first half. A pair that is rare there has about the mean of its token,
    and a rare token about that of all.
    """
    before = np.append(START, first.ids[:-1])
    pairs = np.unique(np.stack([before, first.ids]), axis=1, return_inverse=True)[1].ravel()
    overall = np.broadcast_to(truth[first.counted].mean(axis=0), truth.shape)
    by_token = _means(first, first.ids, truth, overall)
    return by_token, _means(first, pairs, truth, by_token)


def _by_places(first: Reading, truth: Floats) -> list[Floats]:
    """The mean of each property at this position in the line, (n, properties), counted likewise.

    If a layer reads from the end, also the mean at this distance to the line's end.
    """
    last = np.maximum(first.spans[:, 1] - 1, 0)
    places = [position_in_line(first.text)[last]]
    if any(BACKWARDS in stack.layers[0] for stack in first.stacks):
        places.append(position_in_line(first.text[::-1])[::-1][last])
    overall = np.broadcast_to(truth[first.counted].mean(axis=0), truth.shape)
    return [_means(first, place.astype(np.int64), truth, overall) for place in places]


def _means(first: Reading, groups: Ids, truth: Floats, otherwise: Floats) -> Floats:
    """(n, properties) the means of groups (n,) in the first half, with one more example of
    `otherwise` (n, properties) in each."""
    own, size = groups[first.counted], int(groups.max()) + 1
    counts = np.bincount(own, minlength=size)
    sums = [np.bincount(own, weights=t, minlength=size) for t in truth[first.counted].T]
    totals = np.stack(sums, axis=1)[groups]
    return (totals + otherwise) / (counts[groups, None] + 1)
