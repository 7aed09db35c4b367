"""Options, each declared once: as a field of a dataclass.

A field made by `option` carries its type, default, limits, help text and help panel. Everything
else is derived from it: validation (`check_options`), the signature and the help of the command
(`charlm.cli.options`), the keywords of the Python functions (`charlm.keywords`) and the reference
page (docs/reference.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charlm.errors import OptionError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`.

    exclude_low, exclude_high:  whether `low`, and whether `high`, is itself outside; infinity is
                                never a value

    >>> str(Range(0, 1, exclude_low=True))
    'above 0, at most 1'
    """

    low: float
    high: float = math.inf
    exclude_low: bool = False
    exclude_high: bool = False

    def check(self, name: str, value: float) -> None:
        """Raise OptionError if the value is outside, or not finite."""
        high_enough = value > self.low if self.exclude_low else value >= self.low
        below = self.exclude_high or self.high == math.inf
        low_enough = value < self.high if below else value <= self.high
        if not (high_enough and low_enough):
            shown = f"{value:g}" if isinstance(value, float) else value
            finite = "a finite number, " if value in (math.inf, -math.inf) else ""
            raise OptionError(f"`{name}={shown}`: must be {finite}{self}")

    def __str__(self) -> str:
        low, high = (_number(edge) for edge in (self.low, self.high))
        if self.high == math.inf:
            return f"more than {low}" if self.exclude_low else f"{low} or more"
        if self.exclude_low and self.exclude_high:
            return f"between {low} and {high}"
        if self.exclude_low:
            return f"above {low}, at most {high}"
        return f"{low} or more, and below {high}" if self.exclude_high else f"from {low} to {high}"


@dataclass(frozen=True)
class Choices:
    """A choice among names.

    names:  may grow later, as a table of cells does
    """

    names: Collection[str]

    def check(self, name: str, value: str) -> None:
        """Raise OptionError if the value is none of the names."""
        if value not in self.names:
            raise OptionError(f"`{name}={value}`: choose {self}")

    def __str__(self) -> str:
        *first, last = self.names
        return f"{', '.join(first)} or {last}"


@dataclass(frozen=True)
class Option:
    """What the field of an option carries besides its name, type and default.

    help:     one line
    panel:    the heading that it stands under in the help of its command
    limits:   the values that are allowed; None for all of the type
    metavar:  what stands for the value in the help; None for the default of the type
    short:    a one-letter flag, such as "-t"
    auto:     what None stands for, in words; only for options whose default is None

    Conditions on other options of the same dataclass:

    goes_with:  another option that must be given, too, "cache"; or its value, "unknown=share"
    excludes:   options that must not be given at the same time
    only:       the values of another option for which this one exists: {"task": ("lm", "fill")}
    """

    help: str
    panel: str
    limits: Range | Choices | None = None
    metavar: str | None = None
    short: str | None = None
    auto: str | None = None
    goes_with: str | None = None
    excludes: Sequence[str] = ()
    only: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)


def option(
    default: Any,
    help: str,
    limits: Range | Choices | None = None,
    *,
    panel: str = "Options",
    metavar: str | None = None,
    short: str | None = None,
    auto: str | None = None,
    goes_with: str | None = None,
    excludes: Sequence[str] = (),
    only: Mapping[str, Collection[str]] | None = None,
) -> Any:
    """A dataclass field for an option, see `Option`."""
    about = Option(
        help, panel, limits, metavar, short, auto, goes_with, tuple(excludes), only or {}
    )
    return dataclasses.field(default=default, metadata={"option": about})


def options_of(
    kind: type[DataclassInstance] | DataclassInstance,
) -> Iterator[tuple[dataclasses.Field[Any], Option]]:
    """The fields of a dataclass that are options, in their order."""
    for field in dataclasses.fields(kind):
        if about := field.metadata.get("option"):
            yield field, about


def check_options(options: DataclassInstance) -> None:
    """Raise OptionError, naming option and value, for a value outside its limits.

    Also for an option that is given, which means that it differs from its default, while another
    option does not allow it: see `Option`.
    """
    defaults = {field.name: field.default for field, _ in options_of(options)}

    def is_given(name: str) -> bool:
        return bool(getattr(options, name) != defaults[name])

    for name, about in ((field.name, about) for field, about in options_of(options)):
        value = getattr(options, name)
        if about.limits and value is not None:
            about.limits.check(name, value)
        if not is_given(name):
            continue
        if about.goes_with:
            other, _, needed = about.goes_with.partition("=")
            if not is_given(other) or (needed and getattr(options, other) != needed):
                raise OptionError(f"{argument(name, value)}: goes with `{about.goes_with}`")
        for other in about.excludes:
            if is_given(other):
                raise OptionError(f"`{name}` and `{other}`: give only one of them")
        for other, allowed in about.only.items():
            if getattr(options, other) not in allowed:
                there = argument(other, getattr(options, other))
                right = " or ".join(argument(other, name) for name in allowed)
                raise OptionError(f"{argument(name, value)}: is not for {there}, but for {right}")


def argument(name: str, value: object) -> str:
    """An argument as messages write it.

    >>> argument("top_p", 0.5)
    '`top_p=0.5`'
    """
    return f"`{name}={value:g}`" if isinstance(value, float) else f"`{name}={value}`"


SEED = Range(0, 2**63, exclude_high=True)


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"
