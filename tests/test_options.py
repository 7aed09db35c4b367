"""Options are declared once: everything that is derived from them agrees with them."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from charlm.cli import Commands
from charlm.cli.commands import GroupedCommand
from charlm.cli.options import as_flags, with_options
from charlm.engines.evaluation import EvaluateOptions
from charlm.engines.filling import FillOptions
from charlm.engines.sampling import SampleOptions
from charlm.engines.scoring import ScoreOptions
from charlm.errors import OptionError
from charlm.options import (
    Choices,
    Option,
    Range,
    check_options,
    option,
    options_of,
    overrides_of,
)
from charlm.training.options import TrainOptions

ROOT = Path(__file__).parent.parent
KINDS = {
    "train": TrainOptions,
    "score": ScoreOptions,
    "evaluate": EvaluateOptions,
    "sample": SampleOptions,
    "fill": FillOptions,
}
COMMANDS = [name for panel in Commands.panels.values() for name in panel]


def help_of(*command: str, columns: int = 80) -> str:
    return subprocess.run(
        [sys.executable, "-m", "charlm", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": str(columns)},
    ).stdout


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_from_the_options_is_up_to_date() -> None:
    module = generator()
    assert module.KEYWORDS.read_text(encoding="utf-8") == module.keywords()
    assert module.REFERENCE.read_text(encoding="utf-8") == module.reference()


@pytest.mark.parametrize("command", KINDS)
def test_a_command_has_every_option_of_its_dataclass_with_its_help(command: str) -> None:
    shown = " ".join(help_of(command, columns=400).split())
    for field, about in options_of(KINDS[command]):
        if TrainOptions.task not in about.only.get("task", (TrainOptions.task,)):
            continue  # the help is of the default task
        flag = as_flags(f"`{field.name}`")
        assert flag in shown or f"--no-{flag[2:]}" in shown
        assert as_flags(about.help) in shown.replace("hard- wrapped", "hard-wrapped"), field.name
        if isinstance(about.limits, Choices):
            assert "|".join(about.limits.names) in shown
        concrete = isinstance(field.default, int | float) and field.default is not False
        if concrete and field.default is not True:
            assert f"[default: {field.default}]" in shown, field.name


def out_of_range(limits: Range) -> list[float]:
    values = [limits.low - 1, float("nan")]
    values += [limits.low] if limits.exclude_low else []
    values += [limits.high] if limits.exclude_high else []
    return values + ([limits.high + 1] if limits.high < 2**64 else [])


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_limit_is_checked_and_the_error_names_the_argument(kind: type) -> None:
    for field, about in options_of(kind):
        owner: dict[str, Any] = {}
        if "_" in field.name and (prefix := field.name.split("_")[0]) in ("cache", "ngram"):
            owner = {prefix: 1}
        elif field.name == "adapt_rate":
            owner = {"adapt": True}
        if isinstance(about.limits, Choices):
            with pytest.raises(OptionError, match=rf"`{field.name}=nonsense`: choose "):
                kind(**{field.name: "nonsense"})
        elif about.limits:
            for value in out_of_range(about.limits):
                with pytest.raises(OptionError, match=rf"`{field.name}=.*`: must be "):
                    kind(**{**owner, field.name: value})


@pytest.mark.parametrize(
    ("limits", "inside", "words"),
    [
        (Range(1), [1, 2], "1 or more"),
        (Range(0, exclude_low=True), [0.1], "more than 0"),
        (Range(0, 1, exclude_low=True), [0.1, 1], "above 0, at most 1"),
        (Range(0, 1, exclude_high=True), [0, 0.9], "0 or more, and below 1"),
        (Range(0, 1, exclude_low=True, exclude_high=True), [0.5], "between 0 and 1"),
        (Range(-1, 2.5), [-1, 2.5], "from -1 to 2.5"),
    ],
)
def test_a_range_holds_its_edges_and_says_so(
    limits: Range, inside: list[float], words: str
) -> None:
    assert str(limits) == words
    for value in inside:
        limits.check("x", value)
    for value in out_of_range(limits):
        with pytest.raises(OptionError, match=re.escape(f": must be {words}")):
            limits.check("x", value)


@dataclasses.dataclass(frozen=True)
class Tea:
    """Options that depend on each other."""

    kind: str = option("black", "Kind of tea.")
    milk: bool = option(False, "Add milk.", only={"kind": ("black", "red")})
    sugar: int | None = option(None, "Lumps of sugar.", Range(1), goes_with="milk")
    steep: float | None = option(None, "Minutes.", goes_with="kind=green")
    lemon: bool = option(False, "Add lemon.", excludes=("milk", "kind=green"))
    ice: bool = option(False, "Add ice.", excludes={"steep": "melts"})


@dataclasses.dataclass(frozen=True)
class Cup:
    """Options that depend on those of another dataclass."""

    spoon: bool = option(False, "Add a spoon.", goes_with="sugar")
    foam: bool = option(False, "Add foam.", excludes=("lemon",), only={"kind": ("black",)})


def test_conditions_name_options_that_exist() -> None:
    options: dict[str, Option] = {}
    for name in COMMANDS:
        command = getattr(importlib.import_module(f"charlm.cli.{name}"), name)
        options.update(command.options)
    for name, about in options.items():
        conditions = [*about.excludes, *about.only, *filter(None, [about.goes_with])]
        assert {condition.partition("=")[0] for condition in conditions} <= set(options), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([Tea(kind="green", milk=True)],
         "`milk=True`: is not for `kind=green`, but for `kind=black` or `kind=red`"),
        ([Tea(sugar=2)], "`sugar=2`: goes with `milk`"),
        ([Tea(steep=2.0)], "`steep=2`: goes with `kind=green`"),
        ([Tea(milk=True, lemon=True)], "`lemon` and `milk`: give only one of them"),
        ([Tea(kind="green", lemon=True)], "`lemon` and `kind=green`: give only one of them"),
        ([Tea(kind="green", steep=2.0, ice=True)], "`ice=True`: melts"),
        ([Tea(milk=True, sugar=0)], "`sugar=0`: must be 1 or more"),
        ([Tea(), Cup(spoon=True)], "`spoon=True`: goes with `sugar`"),
        ([Tea(lemon=True), Cup(foam=True)], "`foam` and `lemon`: give only one of them"),
        ([Cup(foam=True), Tea(kind="green")], "`foam=True`: is not for `kind=green`"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: list[Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        check_options(*options)


def test_options_that_go_together_are_accepted() -> None:
    check_options(Tea(milk=True, sugar=2), Cup(spoon=True, foam=True))
    check_options(Tea(kind="green", steep=2.0))
    check_options(Cup(spoon=True, foam=True))  # a condition on an option that does not exist
    assert overrides_of(Tea(milk=True, kind="black")) == {"milk": True}


@dataclasses.dataclass(frozen=True)
class Brew:
    """Options that exist for some values of others."""

    task: str = option("tea", "What to make.", Choices(("tea", "coffee")))
    cup: str = option("mug", "What to pour it into.")
    leaves: int = option(2, "Spoons of leaves.", only={"task": ("tea",)})
    beans: int = option(9, "Beans.", only={"task": ("coffee",)})
    handle: bool = option(True, "Hold the handle.", only={"cup": ("mug", "jug")})
    lid: bool = option(False, "Close it.", only={"cup": ("flask",)}, goes_with="spoon")


@with_options
def brew(
    what: Annotated[str, typer.Argument()] = "",
    *,
    options: Brew,
    extras: Annotated[Cup, "spoon"],
    tea: Annotated[dict[str, Any], Tea],
) -> None:
    """Brew."""
    typer.echo(repr((what, options, extras, tea)))


def brewed(*arguments: str) -> Result:
    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=GroupedCommand)(brew)
    return CliRunner().invoke(app, arguments)


def test_a_command_gets_instances_of_its_dataclasses_and_the_options_that_are_given() -> None:
    expected = "a", Brew(cup="jug", handle=False), Cup(spoon=True), {"kind": "black", "sugar": 2}
    arguments = ["a", "--cup", "jug", "--no-handle", "--spoon", "--kind", "black", "--sugar", "2"]
    assert brewed(*arguments).stdout == f"{expected}\n"
    assert brewed("--foam").exit_code == 2  # not one of the options that are named


def test_options_of_several_dataclasses_must_go_together() -> None:
    error = brewed("--cup", "flask", "--lid").exception
    assert isinstance(error, OptionError) and str(error) == "`lid=True`: goes with `spoon`"
    assert brewed("--cup", "flask", "--lid", "--spoon").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "hidden"),
    [
        ([], {"--beans"}),
        (["--task", "tea"], {"--beans"}),
        (["--task", "coffee"], {"--leaves"}),
        (["--cup=mug"], {"--beans", "--lid"}),
        (["--cup", "flask", "--task=coffee"], {"--leaves", "--handle"}),
    ],
)
def test_help_has_the_options_that_exist_for_the_given_ones(
    arguments: list[str], hidden: set[str]
) -> None:
    for place in (0, len(arguments)):
        shown = brewed(*arguments[:place], "--help", *arguments[place:]).stdout
        flags = {f"--{name}" for name in ("beans", "leaves", "handle", "lid", "cup", "task")}
        assert {flag for flag in flags if f"{flag} " not in shown} == hidden


def test_messages_become_those_of_the_command_line() -> None:
    message = "`top_k=0`: use `no`; `eos=False`, `lines=True`, `n=2`, `<EOS>`, `charlm train X`"
    expected = "--top-k 0: use --no; --no-eos, --lines, -n 2, `<EOS>`, `charlm train X`"
    assert as_flags(message) == expected


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_fits_80_columns(command: tuple[str, ...]) -> None:
    assert all(len(line) <= 80 for line in help_of(*command).splitlines())


def test_the_help_of_train_is_grouped_with_budget_and_text_first() -> None:
    titles = re.findall(r"^(\S.*):$", help_of("train"), flags=re.MULTILINE)
    assert titles[:3] == ["Arguments", "Budget", "Text"]
    assert {"Network", "Learning", "Dropout", "Machine", "Run folder"} < set(titles)


def test_the_help_of_charlm_says_of_each_command_what_its_own_help_says() -> None:
    listed = help_of()
    for commands in Commands.panels.values():
        for name, line in commands.items():
            module = importlib.import_module(f"charlm.cli.{name}")
            documented = inspect.getdoc(getattr(module, name)) or ""
            assert documented.splitlines()[0] == line and line in " ".join(listed.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(shell: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "charlm", "--show-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert ran.returncode == 0 and "charlm" in ran.stdout, ran.stderr


def test_options_are_frozen() -> None:
    for kind in KINDS.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            kind().anything = 1
