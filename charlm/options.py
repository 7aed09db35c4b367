"""Options, each declared once: as a field of a dataclass.

A field made by `option` carries its type, default, limits, help text and help panel. Everything
else is derived from it: validation (`check_options`), the signature and the help of the command
(`charlm.cli.options`), the keywords of the Python functions (`charlm.keywords`) and the reference
page (docs/reference.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from charlm.errors import OptionError

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


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

    Conditions on other options, in the same dataclass or in one that is checked together with it.
    A condition on an option that is in neither is met:

    goes_with:  another option that must be given, too, "cache"; or its value, "unknown=share"
    excludes:   options, or their values, that must not be given at the same time, each with the
                message about it, "" for the usual one
    only:       the values of another option for which this one exists: {"task": ("lm", "fill")};
                the help of a command for other values does not have it
    """

    help: str
    panel: str
    limits: Range | Choices | None = None
    metavar: str | None = None
    short: str | None = None
    auto: str | None = None
    goes_with: str | None = None
    excludes: Mapping[str, str] = dataclasses.field(default_factory=dict)
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
    excludes: Sequence[str] | Mapping[str, str] = (),
    only: Mapping[str, Collection[str]] | None = None,
) -> Any:
    """A dataclass field for an option, see `Option`."""
    messages = excludes if isinstance(excludes, Mapping) else dict.fromkeys(excludes, "")
    about = Option(help, panel, limits, metavar, short, auto, goes_with, messages, only or {})
    return dataclasses.field(default=default, metadata={"option": about})


def options_of(
    kind: type[DataclassInstance] | DataclassInstance,
) -> Iterator[tuple[dataclasses.Field[Any], Option]]:
    """The fields of a dataclass that are options, in their order."""
    for field in dataclasses.fields(kind):
        if about := field.metadata.get("option"):
            yield field, about


def overrides_of(options: DataclassInstance) -> dict[str, Any]:
    """The options that are given, by their names: those that differ from their defaults."""
    values = {field.name: getattr(options, field.name) for field, _ in options_of(options)}
    defaults = {field.name: field.default for field, _ in options_of(options)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def options_of_call(kind: type[T], function: str, values: Mapping[str, Any]) -> T:
    """The options of a function of the package, from its keywords.

    Raises TypeError for a keyword that is none of them, OptionError for a value.
    """
    check_keywords(function, values, [field.name for field, _ in options_of(kind)])
    return kind(**values)


def names_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose error for an unknown keyword names the nearest one."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        check_keywords(function.__name__, keywords, known)
        return function(*arguments, **keywords)

    return call


def refuse_text(values: object, function: str) -> None:
    """Raise TypeError for a string where a function takes several."""
    if isinstance(values, str):
        raise TypeError(f"{function}() takes several texts; put the one into a list")


def check_keywords(function: str, values: Iterable[str], known: Sequence[str]) -> None:
    """Raise TypeError for a keyword that a function does not have; it names the nearest one."""
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{function}() has no option `{name}`; {hint}")


def check_options(
    *options: DataclassInstance, also: Mapping[str, Collection[Any]] | None = None
) -> None:
    """Raise OptionError, naming option and value, for a value outside its limits.

    Also for an option that is given while another option does not allow it: see `Option`.

    also:  further values that an option has, for those that it allows
    """
    declared: dict[str, Option] = {}
    values: dict[str, Any] = {}
    for group in options:
        for field, about in options_of(group):
            name = field.name
            declared[name], values[name] = about, getattr(group, name)
            if about.limits and values[name] is not None:
                about.limits.check(name, values[name])
    given = {name: value for group in options for name, value in overrides_of(group).items()}
    for name, value in given.items():
        _check_conditions(argument(name, value), name, declared[name], values, given, also or {})


def _check_conditions(
    this: str,
    name: str,
    about: Option,
    values: Mapping[str, Any],
    given: Collection[str],
    also: Mapping[str, Collection[Any]],
) -> None:
    """Raise OptionError if the conditions of an option that is given do not hold.

    this:    the option and its value, for messages
    values:  of all options
    given:   the names of those that are given
    also:    see `check_options`
    """

    def holds(condition: str) -> bool:
        other, _, value = condition.partition("=")
        return bool(values.get(other) == value) if value else other in given

    if about.goes_with and about.goes_with.partition("=")[0] in values:
        if not holds(about.goes_with):
            raise OptionError(f"{this}: goes with `{about.goes_with}`")
    for other, message in about.excludes.items():
        if holds(other):
            alone = f"`{name}` and `{other}`: give only one of them"
            raise OptionError(f"{this}: {message}" if message else alone)
    for other, allowed in about.only.items():
        own = {*also.get(other, ()), values.get(other)}
        if other in values and not own & {*allowed}:
            there = argument(other, values[other])
            right = " or ".join(argument(other, value) for value in allowed)
            raise OptionError(f"{this}: is not for {there}, but for {right}")


def argument(name: str, value: object) -> str:
    """An argument as messages write it.

    >>> argument("top_p", 0.5)
    '`top_p=0.5`'
    """
    return f"`{name}={value:g}`" if isinstance(value, float) else f"`{name}={value}`"


SEED = Range(0, 2**63, exclude_high=True)
ANSWERS = Range(1, 1000)  # of a model, for each text


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"
