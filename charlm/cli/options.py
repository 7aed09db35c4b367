"""From the options of the library to those of the command line.

`with_options` gives a command the options of dataclasses, and `as_flags` rewrites messages.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, is_dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from charlm.options import Choices, Option, check_options, options_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

METAVARS = {int: "N", float: "X", str: "TEXT"}
ARGUMENT = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


def as_flags(message: str) -> str:
    """The message with options in place of arguments.

    >>> as_flags("`top_p=2`: must be above 0, at most 1")
    '--top-p 2: must be above 0, at most 1'
    >>> as_flags("`forget_gate=False` and `lines`")
    '--no-forget-gate and --lines'
    """
    return ARGUMENT.sub(lambda match: _flag(match[1], match[2]), message)


def _flag(name: str, value: str | None = None) -> str:
    words = name.strip("_").replace("_", "-")  # `from_` is a keyword of Python without "_"
    flag = f"-{name}" if len(name) == 1 else f"--{words}"
    if value is None or value == "True":
        return flag
    return "--no-" + flag.removeprefix("--") if value == "False" else f"{flag} {value}"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator: a command has the options of every dataclass that annotates a parameter.

    options: SampleOptions                     the parameter gets an instance
    input: Annotated[InputOptions, "strict"]   only the options that are named; the others keep
                                               their defaults
    options: Annotated[dict, TrainOptions]     the parameter gets the options that are given, by
                                               their names

    Other parameters stay as they are. Raises OptionError for options that do not go together; those
    of a dictionary are left to the command to check.
    """
    groups: dict[str, _Group] = {}
    parameters = [Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if group := _Group.of(parameter.annotation):
            groups[parameter.name] = group
            parameters += group.parameters()
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(ctx: typer.Context, **values: Any) -> None:
        given = {name for name in values if _is_given(ctx, name)}
        filled = {name: group.filled(values, given) for name, group in groups.items()}
        check_options(*(value for value in filled.values() if not isinstance(value, dict)))
        command(**values, **filled)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}  # which typer would read before the signature
    options = {field.name: about for group in groups.values() for field, about in group.options}
    run.options = options  # type: ignore[attr-defined]  # of `charlm.cli.commands`
    return run


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@dataclass(frozen=True)
class _Group:
    """A parameter of a command that stands for the options of a dataclass.

    options:  those that the command has
    as_dict:  the command gets a dictionary of those that are given, not an instance
    """

    kind: type[DataclassInstance]
    options: Sequence[tuple[Field[Any], Option]]
    as_dict: bool

    @classmethod
    def of(cls, annotation: Any) -> _Group | None:
        """The group that an annotation names; None for a parameter of another type."""
        is_annotated = get_origin(annotation) is Annotated
        kind, *details = get_args(annotation) if is_annotated else [annotation]
        as_dict = kind is dict or get_origin(kind) is dict
        if as_dict:
            kind, *details = details
        if not is_dataclass(kind):
            return None
        options = [pair for pair in options_of(kind) if not details or pair[0].name in details]
        assert len(options) >= len(details), f"{details}: {kind} does not have all of them"
        return cls(kind, options, as_dict)  # type: ignore[arg-type]

    def parameters(self) -> list[Parameter]:
        """One for each option."""
        types = get_type_hints(self.kind)
        return [_parameter(field, about, types[field.name]) for field, about in self.options]

    def filled(self, values: dict[str, Any], given: set[str]) -> Any:
        """What the command gets. The options are taken out of the values of all parameters."""
        own = {field.name: values.pop(field.name) for field, _ in self.options}
        chosen = {name: value for name, value in own.items() if name in given}
        return chosen if self.as_dict else self.kind(**chosen)


def _parameter(field: Field[Any], about: Option, kind: Any) -> Parameter:
    """The parameter of a command for one option."""
    names = [_flag(field.name)]
    if bool in (kind, *get_args(kind)) and field.default in (True, None):
        names = [f"{names[0]}/{_flag(field.name, 'False')}"]
    names += [about.short] if about.short else []
    choices = list(about.limits.names) if isinstance(about.limits, Choices) else []
    help = as_flags(about.help)
    if about.auto:
        help = f"{help} [default: {as_flags(about.auto)}]".strip()
    if Sequence[str] in get_args(kind):
        kind = list[str] | None
    if {int, str} <= set(get_args(kind)):
        kind = str | None
    metavars = [METAVARS[t] for t in (kind, *get_args(kind)) if t in METAVARS]
    declared = typer.Option(
        *names,
        help=help,
        metavar=about.metavar or "|".join(choices) or next(iter(metavars), None),
        rich_help_panel=about.panel,
        show_default=not any(field.default is value for value in (None, False, "")),
        autocompletion=(lambda: choices) if choices else None,
    )
    return Parameter(
        field.name,
        Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, declared],
    )
