"""From the options of the library to those of the command line.

`with_options` gives a command the options of a dataclass, `as_flags` rewrites messages, and
`LazyGroup` and `GroupedCommand` print help in groups.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import Field
from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from charlm.options import Choices, Option, options_of

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
    flag = f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")
    if value is None or value == "True":
        return flag
    return "--no-" + flag.removeprefix("--") if value == "False" else f"{flag} {value}"


def with_options(kind: type[DataclassInstance]) -> Callable[[Callable[..., None]], Any]:
    """A decorator: replaces the `**options` of a command by the options of a dataclass.

    The command gets only the options that the user gave.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        types = get_type_hints(kind)
        fields = {field.name: field for field, _ in options_of(kind)}
        added = [_parameter(field, about, types[field.name]) for field, about in options_of(kind)]

        @functools.wraps(command)
        def run(ctx: typer.Context, **values: Any) -> None:
            def is_given(name: str) -> bool:
                source = ctx.get_parameter_source(name)
                return source is not None and source.name != "DEFAULT"

            chosen = {n: v for n, v in values.items() if n not in fields or is_given(n)}
            command(**chosen)

        ctx = Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)
        arguments, rest = own[:1], own[1:]
        parameters = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for parameter in (ctx, *arguments, *added, *rest)
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(field: Field[Any], about: Option, kind: Any) -> Parameter:
    """The parameter of a command for one option."""
    names = [_flag(field.name)]
    if bool in (kind, *get_args(kind)) and field.default is True:
        names = [f"{names[0]}/{_flag(field.name, 'False')}"]
    names += [about.short] if about.short else []
    help, choices = as_flags(about.help), None
    if about.auto:
        help = f"{help} [default: {as_flags(about.auto)}]"
    if isinstance(about.limits, Choices):
        choices = list(about.limits.names)
    if Sequence[str] in get_args(kind):
        kind = list[str] | None
    if {int, str} <= set(get_args(kind)):
        kind = str | None
    metavars = [METAVARS[t] for t in (kind, *get_args(kind)) if t in METAVARS]
    metavar = "|".join(choices) if choices else about.metavar or next(iter(metavars), None)
    declared = typer.Option(
        *names,
        help=help,
        metavar=metavar,
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


def help_panels(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """The help of a command's arguments and options: by panel, (flags, text)."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            title = panel or ("Arguments" if is_argument else "Options")
            panels.setdefault(title, []).append(record)
    return panels


class GroupedCommand(TyperCommand):
    """A command whose help lists its options by panel, in the order of their first option.

    It refuses an option that is given twice, unless it takes several values.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            *_, given = self.make_parser(ctx).parse_args(args=list(args))
        except Exception as error:
            if type(error).__name__ == "NoSuchOption" and hasattr(error, "message"):
                error.message += ". Texts that begin with - come last, after --"
            raise
        single = [p for p in given if p.param_type_name == "option" and not p.multiple]
        if twice := next((p for p in single if single.count(p) > 1), None):
            ctx.fail(f"{'/'.join(twice.opts)} is given more than once")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_panels(formatter, help_panels(self, ctx))


class LazyGroup(TyperGroup):
    """A group that imports a command when it is used. Its help lists the commands by panel.

    panels:  by title, the names of the commands and a line about each

    Command NAME is the function NAME in the module charlm.cli.NAME.
    """

    panels: ClassVar[dict[str, dict[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in self.panels.values() for name in commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        command = getattr(import_module(f"charlm.cli.{cmd_name}"), cmd_name)
        app.command(cmd_name, cls=GroupedCommand)(command)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        _write_panels(formatter, {t: list(rows.items()) for t, rows in self.panels.items()})


def _write_panels(formatter: Any, panels: dict[str, list[tuple[str, str]]]) -> None:
    for title, rows in panels.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=26)
