"""The values of hidden units along texts, and the units that follow a property of the text."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.engines.activations import Reading, Unit, all_units, values_of
from charlm.errors import InputError
from charlm.options import names_keywords
from charlm.tasks.trained import HasUnits, TrainedModel, several
from charlm.uses.unit_search import FEWEST_TOKENS, Finding, beginning, search_units, why_not

EXCERPT, LONGER = 240, 1500  # characters
MOST_ON_PAGE = 1 << 20  # values in a panel
MOST_SHOWN = 5  # units, where none were asked for or found


@dataclass(frozen=True)
class Picture:
    """The values of a unit along a text.

    spans:    (n, 2) the characters [start, end) of each token that has a value
    values:   (n,)
    finding:  what the unit was found for; None for a unit that was not searched for
    """

    text: str
    unit: Unit
    spans: NDArray[np.int64]
    values: NDArray[np.float32]
    finding: Finding | None = None

    @property
    def shades(self) -> NDArray[np.float32]:
        """(n,) from −1, blue, to 1, red: see `shades_of`."""
        return shades_of(self.unit, self.values)

    def to_json(self) -> dict[str, Any]:
        """The fields of output."""
        return {
            "text": self.text,
            "unit": self.unit.name,
            "described": self.unit.described,
            "finding": self.finding.to_json() if self.finding else None,
            "tokens": self.spans.tolist(),
            "values": [round(value, 5) for value in self.values.tolist()],
        }


@dataclass(frozen=True)
class Units:
    """What was found, and pictures of it.

    findings:  see `charlm.uses.unit_search.Search`; empty without a search
    rare:      names of the properties that are too rare in the text
    pictures:  the units that were found or asked for, along each text
    note:      why nothing was searched; None if something was
    longer:    a longer excerpt of the text that was given to be searched
    """

    findings: Sequence[Finding]
    rare: Sequence[str]
    pictures: Sequence[Picture]
    note: str | None = None
    longer: str = ""

    @property
    def named(self) -> list[Unit]:
        """The units that were found or asked for, or that vary most, each once."""
        units = [finding.unit for finding in self.findings]
        return list(dict.fromkeys([*units, *(picture.unit for picture in self.pictures)]))

    def to_json(self) -> dict[str, Any]:
        """The fields of output."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "rare": list(self.rare),
            "pictures": [picture.to_json() for picture in self.pictures],
            "note": self.note,
        }


@names_keywords
def units(
    model: TrainedModel,
    texts: str | Iterable[str] = (),
    *,
    search: str | None = None,
    unit: str | Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Units:
    """The values of hidden units and gates along texts (Karpathy et al. 2015).

    texts:   one or several; without any, excerpts of the text that is searched
    search:  a text in which to find units that follow a property, such as being inside quotes;
             None to search in the texts themselves, if they are long enough
    unit:    units to show, such as "1.c17"; nothing is searched then, and without texts the
             beginning of `search` is shown
    progress:  called with the fraction of the search that is done

    Raises InputError for an empty text, for a `search` that is too short, and for a model that does
    not read a text token by token; OptionError for a unit that the model does not have.

    >>> charlm.units(model, "the cat", unit="1.h3").pictures[0].values.shape
    (7,)
    """
    texts = [texts] if isinstance(texts, str) else list(several(texts))
    names = [unit] if isinstance(unit, str) else list(unit)
    if search is None and not texts:
        raise InputError("no text; give one, or a file to search")
    if names and search is not None and not texts:
        texts = [beginning(search, EXCERPT)]
    readings = [_reading(model, text) for text in texts]
    if names:
        chosen = [(Unit.parse(name, readings[0].stacks), None) for name in names]
        return Units([], [], _pictures(readings, chosen), longer=beginning(search or "", LONGER))
    long = _reading(model, "\n".join(texts) if search is None else search)
    note, count = why_not(long), int(long.counted.sum())
    if search is None and count < FEWEST_TOKENS:
        note = f"the text has {count:,} tokens: too short to find units in ({FEWEST_TOKENS:,})"
    if note:
        pictures = _pictures(readings, _varying(readings)) if texts else []
        note += "; these are the units that vary most" if texts else ""
        return Units([], [], pictures, note, beginning(long.text, LONGER))
    found = search_units(long, progress)
    rare = [text_property.name for text_property in found.rare]
    if texts:
        of_texts = [(finding.unit, finding) for finding in found.believed]
        pictures = _pictures(readings, of_texts)
    else:
        pictures = []
        for finding in found.believed:
            excerpt = _reading(model, found.excerpt([finding], EXCERPT))
            pictures += _pictures([excerpt], [(finding.unit, finding)])
    shown = found.believed or found.findings
    longer = found.excerpt(shown, LONGER) if shown else beginning(long.text, LONGER)
    return Units(found.findings, rare, pictures, longer=longer)


@dataclass(frozen=True)
class Panel:
    """The values of many units along a text, for a page.

    spans:   (n, 2) the characters [start, end) of each token that has values
    units:   all, or of each layer and quantity those that vary most
    of:      number of all units
    scales:  (units,) the value that a shade of 1 stands for
    shades:  (units, n) int8, 127 times the shade: see `shades_of`
    """

    text: str
    spans: NDArray[np.int64]
    units: Sequence[Unit]
    of: int
    scales: NDArray[np.float32]
    shades: NDArray[np.int8]

    @property
    def on_page(self) -> str:
        """Which units these are, in words."""
        if len(self.units) == self.of:
            return f"All {self.of:,} states and gates of units are on this page."
        return (
            f"{len(self.units):,} of {self.of:,} states and gates of units are on this page: those "
            "whose values vary most along the text, and those found or asked for."
        )

    def to_json(self) -> dict[str, Any]:
        """The text, its tokens, which units these are, and for each kind of value the numbers of
        the units, what a shade of 1 stands for, and the shades as bytes in base64, (units, n)."""
        kinds: dict[str, dict[str, Any]] = {}
        rows: dict[str, list[int]] = {}
        for k, unit in enumerate(self.units):
            name = unit.kind
            kinds.setdefault(
                name,
                {"name": name, "label": unit.described_kind, "gate": unit.is_gate, "units": []},
            )["units"].append(unit.number)
            rows.setdefault(name, []).append(k)
        for name, own in rows.items():
            kinds[name]["scales"] = [round(value, 4) for value in self.scales[own].tolist()]
            kinds[name]["shades"] = b64encode(self.shades[own].tobytes()).decode()
        return {
            "text": self.text,
            "tokens": self.spans.tolist(),
            "kinds": list(kinds.values()),
            "of": self.of,
            "on_page": self.on_page,
        }


def panels(model: TrainedModel, texts: Sequence[str], kept: Sequence[Unit] = ()) -> list[Panel]:
    """The values of as many units along texts as a page can hold, the same units for each text.

    kept:  units that are there in any case
    """
    readings = [_reading(model, text) for text in texts]
    units = all_units(readings[0].stacks)
    values = [values_of(reading, units)[reading.counted].T for reading in readings]
    rows = _most_varying(units, np.concatenate(values, axis=1), kept)
    shown = [units[k] for k in rows]
    gates = np.array([unit.is_gate for unit in shown])[:, None]
    made = []
    for reading, of_text in zip(readings, values, strict=True):
        own = of_text[rows]
        scales = np.where(gates, 1.0, np.maximum(np.abs(own).max(axis=1, keepdims=True), 1.0))
        shades = np.round(127 * np.where(gates, 2 * own - 1, own / scales)).astype(np.int8)
        spans = reading.spans[reading.counted]
        made.append(Panel(reading.text, spans, shown, len(units), scales[:, 0], shades))
    return made


def _most_varying(
    units: Sequence[Unit], values: NDArray[np.float32], kept: Sequence[Unit]
) -> list[int]:
    """The numbers of the units whose values (units, n) vary most, as many of each kind, and of
    those that are kept."""
    kinds = [unit.kind for unit in units]
    most = max(MOST_ON_PAGE // (values.shape[1] * len(set(kinds))), 1)
    left = Counter(dict.fromkeys(kinds, most))
    chosen = {units.index(unit) for unit in kept}
    for k in np.argsort(-values.std(axis=1), kind="stable").tolist():
        if left[kinds[k]] > 0:
            left[kinds[k]] -= 1
            chosen.add(k)
    return sorted(chosen)


def _reading(model: TrainedModel, text: str) -> Reading:
    if not isinstance(model, HasUnits):
        raise InputError(
            f"a model of `task={model.task}` has no values along a text: use one of another task"
        )
    reading = model.reading(text)
    if not reading.counted.any():
        raise InputError("the text is empty; give one with characters")
    return reading


def _pictures(
    readings: Sequence[Reading], chosen: Sequence[tuple[Unit, Finding | None]]
) -> list[Picture]:
    """Pictures of units, one after the other, along each text."""
    values = [values_of(reading, [unit for unit, _ in chosen]) for reading in readings]
    return [
        Picture(r.text, unit, r.spans[r.counted], of_text[r.counted, k], finding)
        for k, (unit, finding) in enumerate(chosen)
        for r, of_text in zip(readings, values, strict=True)
    ]


def _varying(readings: Sequence[Reading]) -> list[tuple[Unit, None]]:
    """The units whose hidden state varies most along the texts, the first one first."""
    units = [unit for unit in all_units(readings[0].stacks) if unit.quantity == "h"]
    values = np.concatenate([values_of(reading, units)[reading.counted] for reading in readings])
    most = np.argsort(-values.std(axis=0), kind="stable")[:MOST_SHOWN]
    return [(units[k], None) for k in most.tolist()]


def shades_of(unit: Unit, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values as shades from −1 to 1.

    A gate between 0 and 1 has the whole range. Any other value v is divided by max |v| of the text
    if that is above 1.
    """
    if unit.is_gate:
        return 2 * values - 1
    return values / max(float(np.abs(values).max(initial=0.0)), 1.0)
