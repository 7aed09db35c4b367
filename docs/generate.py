"""Writes what is derived from the options: docs/reference.md and charlm/keywords.py.

    python docs/generate.py

Run it after an option has changed (`make docs`). A test holds that both files are up to date.
"""

from __future__ import annotations

from dataclasses import Field
from pathlib import Path
from typing import Any

import typer
import typer.main

from charlm.cli import app
from charlm.cli.commands import help_panels
from charlm.engines.evaluation import EvaluateOptions
from charlm.engines.filling import FillOptions
from charlm.engines.sampling import SampleOptions
from charlm.engines.scoring import ScoreOptions, SentenceOptions
from charlm.options import Option, options_of
from charlm.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[1]
KINDS = (
    TrainOptions, ScoreOptions, SentenceOptions, EvaluateOptions, SampleOptions, FillOptions,
)  # fmt: skip
REFERENCE, KEYWORDS = ROOT / "docs/reference.md", ROOT / "charlm/keywords.py"


def keywords() -> str:
    """The keywords of the Python functions, as typed dictionaries."""
    parts = [
        '"""The keywords of the Python functions, one typed dictionary for each options class.\n\n'
        "Written by docs/generate.py from the options; do not edit.\n"
        '"""\n\nfrom __future__ import annotations\n\n'
        "from collections.abc import Sequence\nfrom pathlib import Path\n"
        "from typing import TypedDict\n"
    ]
    for kind in KINDS:
        name = kind.__name__.replace("Options", "Keywords")
        lines = [f'    """See `{kind.__module__}.{kind.__name__}`."""\n']
        lines += [
            f"    {field.name}: {_type(field, about)}"
            for field, about in options_of(kind)
            if field.name != "task"  # a parameter of its own: it decides the type of the result
        ]
        parts.append(f"\n\nclass {name}(TypedDict, total=False):\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def _type(field: Field[Any], about: Option) -> str:
    """The type of a keyword, as source text. Files may also be paths."""
    return str(field.type).replace("str", "str | Path" if about.metavar == "FILE" else "str")


def reference() -> str:
    """A page with every command and every option."""
    parts = [
        "# Commands and options\n\n"
        "Written by `docs/generate.py` from the program itself: `charlm COMMAND --help` says the\n"
        "same. The Python functions take the same options as keywords, with `_` for `-`.\n"
    ]
    group = typer.main.get_group(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        parts.append(f"\n## charlm {name}\n\n{(command.help or '').strip()}\n")
        for title, rows in help_panels(command, typer.Context(command)).items():
            parts.append(f"\n| {title} | |\n|---|---|\n")
            cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
            parts += [f"| `{flags}` | {text} |\n" for flags, text in cells]
    return "".join(parts)


if __name__ == "__main__":
    KEYWORDS.write_text(keywords(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")
