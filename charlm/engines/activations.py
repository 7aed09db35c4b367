"""The values of hidden units along a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.activations import BACKWARDS, FORWARDS, GATES, QUANTITIES, ObservedStack
from charlm.model.sequences import WARM_UP
from charlm.options import argument
from charlm.tokenizer import EOS, Encoding, as_inputs

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
TOKENS_AT_ONCE = 1 << 16  # of sequences that are read side by side
PIECE = 1024  # tokens of a long sequence
NAME = re.compile(r"(\d+)(b?)\.([a-zA-Z])(\d+)")


class Unit(NamedTuple):
    """A state or a gate of a unit. Its name is such as "2.c17", or "2b.c17" if it reads backwards.

    layer:      from 1
    backwards:  the layer reads from the end
    quantity:   the letter of a state or a gate, see `charlm.model.activations.QUANTITIES`
    number:     of the unit in its layer, from 1
    """

    layer: int
    backwards: bool
    quantity: str
    number: int

    @property
    def kind(self) -> str:
        """The name without the number."""
        return f"{self.layer}{'b' * self.backwards}.{self.quantity}"

    @property
    def name(self) -> str:
        return f"{self.kind}{self.number}"

    @property
    def is_gate(self) -> bool:
        """Whether the values lie between 0 and 1; others may be negative."""
        return self.quantity in GATES

    @property
    def described_kind(self) -> str:
        """The kind of value, in words."""
        quantity = QUANTITIES.get(self.quantity, f"gate {self.quantity}")
        return f"layer {self.layer}{' backwards' * self.backwards}, {quantity}"

    @property
    def described(self) -> str:
        """In words."""
        return f"{self.described_kind} of unit {self.number}"

    @classmethod
    def parse(cls, name: str, stacks: Sequence[ObservedStack]) -> Unit:
        """The unit with a name. Raises OptionError if these layers do not have it."""
        units = {(u.layer, u.backwards, u.quantity): u.number for u in last_units(stacks)}
        if match := NAME.fullmatch(name):
            unit = cls(int(match[1]), bool(match[2]), match[3], int(match[4]))
            if 1 <= unit.number <= units.get(unit[:3], 0):
                return unit
        raise OptionError(f"{argument('unit', name)}: no such unit; there are {_listed(stacks)}")


def _listed(stacks: Sequence[ObservedStack]) -> str:
    """The layers, the quantities of each and the number of its units, in words."""
    alike: dict[tuple[str, int], list[str]] = {}
    for unit in last_units(stacks):
        alike.setdefault((unit.kind.split(".")[0], unit.number), []).append(unit.quantity)
    layers: dict[tuple[str, int], list[str]] = {}
    for (layer, count), quantities in alike.items():
        layers.setdefault((" ".join(quantities), count), []).append(layer)
    return "; ".join(
        f"LAYER.QUANTITY and a number, of layer{'s' * (len(names) > 1)} {' '.join(names)}: "
        f"{quantities}, 1 to {count}"
        for (quantities, count), names in layers.items()
    )


@dataclass(frozen=True)
class Reading:
    """A text as the recurrent layers of a model read it.

    text:       whole, with its line ends
    ids:        (n,) its tokens
    spans:      (n, 2) the characters [start, end) of each in the text
    rows:       (n,) of the tables of the stacks
    sequences:  (s, 2) the tokens [start, end) of each sequence. Each is read by itself
    counted:    (n,) the tokens that have values: those that are read, but for line ends
    stacks:     what reads them
    """

    text: str
    ids: Ids
    spans: Ids
    rows: Ids
    sequences: Ids
    counted: NDArray[np.bool_]
    stacks: Sequence[ObservedStack]

    @classmethod
    def of(
        cls,
        text: str,
        encoding: Encoding,
        stacks: Sequence[ObservedStack],
        *,
        rows: Ids | None = None,
        carried: bool = False,
    ) -> Reading:
        """The reading of a text with these tokens.

        rows:     None for the ids, with `<START>` for line ends
        carried:  the state is carried from line to line; otherwise each line is a sequence
        """
        ids, spans = encoding
        ends = np.flatnonzero(ids == EOS)
        edges = np.append(ends, len(ids))
        lines = np.stack([np.append(0, ends + 1), edges], axis=1)
        sequences = np.array([[0, len(ids)]]) if carried else lines
        sequences = sequences[sequences[:, 0] < sequences[:, 1]]
        rows = as_inputs(ids) if rows is None else rows
        return cls(text, ids, spans.reshape(-1, 2), rows, sequences, ids != EOS, stacks)

    def between(self, start: int, end: int) -> Reading:
        """Only these tokens are read."""
        clipped = np.clip(self.sequences, start, end)
        inside = clipped[clipped[:, 0] < clipped[:, 1]]
        positions = np.arange(len(self.ids))
        counted = self.counted & (positions >= start) & (positions < end)
        return replace(self, sequences=inside, counted=counted)

    def shuffled(self, seed: int) -> Reading:
        """The same text, read by layers with `ObservedStack.shuffled` weights."""
        rng = np.random.default_rng(seed)
        return replace(self, stacks=[stack.shuffled(rng) for stack in self.stacks])


class Block(NamedTuple):
    """The values of a layer of one direction for m tokens.

    layer:      from 1
    positions:  (m,) of the tokens
    values:     by the letters of states and gates, (m, H) each
    """

    layer: int
    backwards: bool
    positions: Ids
    values: Mapping[str, Floats]


def last_units(stacks: Sequence[ObservedStack]) -> Iterator[Unit]:
    """The last unit of each quantity of each layer: all quantities, and the number of units."""
    for stack in stacks:
        for k, layer in enumerate(stack.layers, 1):
            for direction in layer:
                for quantity in stack.quantities:
                    yield Unit(k, direction == BACKWARDS, quantity, stack.hidden)


def all_units(stacks: Sequence[ObservedStack]) -> list[Unit]:
    """Every quantity of every unit."""
    lasts = last_units(stacks)
    return [last._replace(number=n) for last in lasts for n in range(1, last.number + 1)]


def blocks(reading: Reading) -> Iterator[Block]:
    """The values of all units at all tokens that count, in pieces of bounded size.

    Long sequences are cut into pieces that are read side by side, with some tokens before them to
    warm up; see `charlm.model.sequences`.
    """
    lengths = np.diff(reading.sequences, axis=1)[:, 0].tolist()
    for stack in reading.stacks:
        read = [
            _read(reading, stack, k, start, min(start + size, n))
            for k, n in enumerate(lengths)
            for size in [n if n <= 2 * PIECE else PIECE]
            for start in range(0, n, size)
        ]
        read.sort(key=lambda pair: -len(pair[0]))
        while read:
            count = max(TOKENS_AT_ONCE // len(read[0][0]), 1)
            batch, read = read[:count], read[count:]
            rows, places = (_side_by_side(sequences) for sequences in zip(*batch, strict=True))
            steps = np.array([len(row) for row, _ in batch])
            for observed in stack.observe(np.maximum(rows, 0), places, steps):
                real = observed.places >= 0
                values = {name: value[real] for name, value in observed.values.items()}
                positions = observed.places[real]
                yield Block(observed.layer + 1, observed.backwards, positions, values)


def _read(
    reading: Reading, stack: ObservedStack, sequence: int, start: int, end: int
) -> tuple[Ids, Ids]:
    """The rows that are read for a piece of a sequence, and the tokens whose values they give.

    start, end:  of the piece within the sequence

    -1 stands for rows that give none.
    """
    first, last = reading.sequences[sequence].tolist()
    start, end = first + start, first + end
    after = WARM_UP if BACKWARDS in stack.layers[0] else 0
    positions = np.arange(max(start - WARM_UP, first), min(end + after, last))
    inside = (positions >= start) & (positions < end) & reading.counted[positions]
    rows, places = reading.rows[positions], np.where(inside, positions, -1)
    if stack.before is None:
        return rows, places
    if FORWARDS in stack.layers[0]:
        at = 0 if positions[0] == first else None
    else:
        at = len(rows) if positions[-1] == last - 1 else None
    if at is None:
        return rows, places
    return np.insert(rows, at, stack.before), np.insert(places, at, -1)


def _side_by_side(sequences: Sequence[Ids]) -> Ids:
    """(T, B), filled up with -1."""
    filled = np.full((max(map(len, sequences)), len(sequences)), -1, np.int64)
    for column, sequence in enumerate(sequences):
        filled[: len(sequence), column] = sequence
    return filled


def values_of(reading: Reading, units: Sequence[Unit]) -> Floats:
    """(n, units) the values of some units at all tokens; NaN where they have none."""
    values = np.full((len(reading.ids), len(units)), np.nan, np.float32)
    for block in blocks(reading):
        for column, unit in enumerate(units):
            if (unit.layer, unit.backwards) == (block.layer, block.backwards):
                own = block.values[unit.quantity][:, unit.number - 1]
                values[block.positions, column] = own
    return values
