"""Writes what is derived from the options: docs/reference.md and charlm/keywords.py.

    python docs/generate.py

Run it after an option has changed (`make docs`). A test holds that both files are up to date.
"""

from __future__ import annotations

from pathlib import Path

import typer

from charlm.cli import app
from charlm.evaluation import EvaluateOptions
from charlm.filling import FillOptions
from charlm.options import options_of
from charlm.sampling import SampleOptions
from charlm.scoring import ScoreOptions
from charlm.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[1]
KINDS = (TrainOptions, ScoreOptions, EvaluateOptions, SampleOptions, FillOptions)
REFERENCE, KEYWORDS = ROOT / "docs/reference.md", ROOT / "charlm/keywords.py"


def keywords() -> str:
    """The keywords of the Python functions, as typed dictionaries."""
    parts = [
        '"""The keywords of the Python functions, one typed dictionary for each options class.\n\n'
        "Written by docs/generate.py from the options; do not edit.\n"
        '"""\n\nfrom __future__ import annotations\n\nfrom typing import TypedDict\n'
    ]
    for kind in KINDS:
        name = kind.__name__.replace("Options", "Keywords")
        lines = [f'    """See `{kind.__module__}.{kind.__name__}`."""\n']
        lines += [
            f"    {field.name}: {field.type}"
            for field, _ in options_of(kind)
            if field.name != "task"  # a parameter of its own: it decides the type of the result
        ]
        parts.append(f"\n\nclass {name}(TypedDict, total=False):\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def reference() -> str:
    """A page with every command and every option."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="charlm")
    parts = [
        "# Commands and options\n\n"
        "Written by `docs/generate.py` from the program itself: `charlm COMMAND --help` says the\n"
        "same. The Python functions take the same options as keywords, with `_` for `-`.\n"
    ]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        parts.append(f"\n## charlm {name}\n\n{command.help.strip()}\n")
        title = None
        for parameter in command.get_params(typer.Context(command, info_name=name)):
            record = parameter.get_help_record(typer.Context(command, info_name=name))
            if record is None or parameter.name == "help":
                continue
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            panel = panel or ("Arguments" if is_argument else "Options")
            if panel != title:
                title = panel
                parts.append(f"\n| {title} | |\n|---|---|\n")
            flags, help = (cell.replace("|", "\\|") for cell in record)
            parts.append(f"| `{flags}` | {help} |\n")
    return "".join(parts)


if __name__ == "__main__":
    KEYWORDS.write_text(keywords(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")
