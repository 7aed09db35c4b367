"""Commands and groups of commands: loaded when they are used, with help in panels."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from charlm.options import Option

# The option that decides what a command does. In help its default counts, too: the options that
# exist for other tasks only are left out.
DECISIVE = "task"

Panels = dict[str, list[tuple[str, str]]]  # (name, help) by heading


def help_panels(command: Any, ctx: Any) -> Panels:
    """The help of a command's arguments and options."""
    panels: Panels = {}
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            title = panel or ("Arguments" if is_argument else "Options")
            panels.setdefault(title, []).append(record)
    return panels


class GroupedCommand(TyperCommand):
    """A command whose help lists its options by panel, in the order of their first option.

    The help is of the command with the arguments that stand beside `--help`: options that do not
    exist for these are left out, see `Option.only`. The command refuses an option that is given
    twice, unless it takes several values.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        except Exception as error:
            if type(error).__name__ == "NoSuchOption" and hasattr(error, "message"):
                error.message += ". Texts that begin with - come last, after --"
            raise
        single = [p for p in given if p.param_type_name == "option" and not p.multiple]
        if twice := next((p for p in single if single.count(p) > 1), None):
            ctx.fail(f"{'/'.join(twice.opts)} is given more than once")
        if values.get("help"):
            self._hide_excluded(values)
        return super().parse_args(ctx, args)

    def _hide_excluded(self, values: Mapping[str, Any]) -> None:
        """Leave the options out of the help that do not exist for these arguments."""
        declared: dict[str, Option] = getattr(self.callback, "options", {})
        parameters: dict[str, Any] = {p.name: p for p in self.params if p.name}
        if DECISIVE in parameters:
            values = {DECISIVE: parameters[DECISIVE].default, **values}
        for name, about in declared.items():
            if any(values[o] not in allowed for o, allowed in about.only.items() if o in values):
                parameters[name].hidden = True

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_panels(formatter, help_panels(self, ctx))


class LazyGroup(TyperGroup):
    """A group that imports a command when it is used. Its help lists the commands by panel.

    panels:  by heading, the names of the commands and a line about each

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


def _write_panels(formatter: Any, panels: Panels) -> None:
    for title, rows in panels.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=26)
