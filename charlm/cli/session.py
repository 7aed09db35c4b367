"""A session of `charlm sample --interactive`: what a line that is typed does."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from charlm.cli.options import ARGUMENT
from charlm.engines.sampling import SampleOptions
from charlm.errors import InputError, OptionError
from charlm.options import options_of
from charlm.tokenizer import EOS

if TYPE_CHECKING:
    from charlm.tasks.language_model import LanguageModel

OPTIONS = [field.name for field, _ in options_of(SampleOptions)]
HELP = r"""TEXT          add it to the text, and continue the text
empty line    continue the text
/again        write another continuation in place of the last one
/keep TEXT    keep the continuation as far as TEXT only
/drop [TEXT]  drop the continuation, and add TEXT in its place
/undo         take the last step back
/new [TEXT]   begin a new text
/show         print the text
/save FILE    write the text to a file
/quit         or Ctrl-D; Ctrl-C stops a continuation
/NAME VALUE   set an option of sampling; without VALUE, to its default
TEXT directly follows the text before it. In it, \n is a line end; // begins a line with a slash.
"""
SHOWN = 60  # characters of an unfinished line that are shown before its continuation


@dataclass
class Step:
    """The text before a continuation, and what the model writes after it.

    rank:          the rank of the continuation in a search for the best; −1 for one that is drawn
    """

    text: str = ""
    continuation: str = ""
    rank: int = -1

    @property
    def whole(self) -> str:
        """The text with its continuation."""
        return self.text + self.continuation


class Session:
    """A text that grows by what a person types and by what the model writes.

    steps:    the last is the present one; `/undo` removes it
    options:  of `SampleOptions`, those that are set, and a seed
    drawn:    the continuations since the seed was set; this is the number of the next sample
    """

    def __init__(self, model: LanguageModel, text: str = "", **options: Any) -> None:
        self.model, self.steps, self.drawn = model, [Step(text)], 0
        self.options = {"seed": secrets.randbits(32), **options}
        self._named: set[str] = set()

    @property
    def step(self) -> Step:
        return self.steps[-1]

    @property
    def settings(self) -> str:
        """The options that are set, as commands."""
        arguments = [
            f"`{name}={single}`"
            for name, value in self.options.items()
            for single in (value if isinstance(value, list) else [value])
        ]
        return as_commands(" ".join(arguments).replace("\n", "\\n"))

    def new_unknown(self) -> list[str]:
        """The pieces of the text that the model does not know, each once in a session."""
        new = [p for p in self.model.unknown_in_prime(self.step.text) if p not in self._named]
        self._named.update(new)
        return new

    def answer(self, line: str) -> Iterator[str]:
        """Do what a line says. Gives what is printed, piece by piece.

        Raises InputError or OptionError for a line that cannot be followed and changes nothing,
        and EOFError for `/quit`.
        """
        if line.startswith("/") and not line.startswith("//"):
            name, _, value = line[1:].partition(" ")
            yield from self._command(name, value)
        else:
            yield from self._continue(self.step.whole + _unescaped(line.removeprefix("/")))

    def _command(self, name: str, value: str) -> Iterator[str]:
        option = name.replace("-", "_")
        match name:
            case "again" | "undo" | "show" | "help" | "quit" if value.strip():
                raise InputError(f"/{name}: nothing follows this command")
            case "again":
                yield from self._continue(self.step.text)
            case "keep":
                self.steps.append(Step(self.step.text + self._kept(_unescaped(value))))
                yield _end(self.step.text.rstrip("\n"))
            case "drop" if value:
                yield from self._continue(self.step.text + _unescaped(value))
            case "drop":
                self.steps.append(Step(self.step.text))
                yield _end(self.step.text.rstrip("\n"))
            case "undo":
                if len(self.steps) == 1:
                    raise InputError("/undo: there is no step before")
                self.steps.pop()
                yield _end(self.step.text) + self.step.continuation
            case "new" if value:
                yield from self._continue(_unescaped(value))
            case "new":
                self.steps.append(Step())
            case "show":
                yield self.step.whole
            case "save":
                yield self._save(value.strip())
            case "help":
                names = " ".join(as_commands(f"`{name}`") for name in OPTIONS)
                yield f"{HELP}Options: {names}\nSet now: {self.settings}"
            case "quit":
                raise EOFError
            case _ if option in OPTIONS:
                self._set(option, value)
                yield self.settings
            case _:
                raise InputError(f"/{name}: no such command; /help lists them")

    def _continue(self, text: str) -> Iterator[str]:
        """A step to this text, with a continuation. Gives the end of the text first."""
        rank, sample = -1, self.drawn
        if self.options.get("beam"):
            rank = sample = self.step.rank + 1 if text == self.step.text else 0
        stream = self.model.stream(text, sample=sample, **self.options)
        self.drawn += 1
        step = Step(text, rank=rank)
        self.steps.append(step)
        yield _end(text)
        for piece in stream:
            step.continuation += piece
            yield piece
        if stream.ids.count(EOS) == stream.limits.max_lines:
            # A further continuation is a further line.
            step.continuation += "\n"
            yield "\n"

    def _kept(self, end: str) -> str:
        """The continuation as far as the first occurrence of this text; all of it for no text."""
        whole = self.step.continuation
        if not whole:
            raise InputError("/keep: there is no continuation")
        if end not in whole:
            raise InputError(f"/keep: {end!r} is not in the continuation")
        return whole[: whole.find(end) + len(end)] if end else whole

    def _save(self, path: str) -> str:
        if not path:
            raise InputError("/save: name a file")
        text = self.step.whole.removesuffix("\n") + "\n"
        try:
            Path(path).expanduser().write_bytes(text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise InputError(f"/save {path}: {(error.strerror or str(error)).lower()}") from error
        return f"{len(self.step.whole)} characters in {path}"

    def _set(self, name: str, value: str) -> None:
        """Set an option; to its default if the value is empty."""
        options = {key: old for key, old in self.options.items() if key != name}
        if value.strip():
            options[name] = _parsed(name, value, self.options.get(name))
        SampleOptions(**options)
        if name == "seed":
            self.drawn = 0
        self.options = {"seed": secrets.randbits(32), **options}


def as_commands(message: str) -> str:
    """The message with commands in place of arguments.

    >>> as_commands("`top_p=2`: must be above 0, at most 1")
    '/top-p 2: must be above 0, at most 1'
    """
    return ARGUMENT.sub(
        lambda match: f"/{match[1].replace('_', '-')} {match[2] or ''}".rstrip(), message
    )


def _parsed(name: str, value: str, before: Any) -> Any:
    """The value of an option in its type. An option that takes several texts gets one more."""
    kind = get_type_hints(SampleOptions)[name]
    kinds = {kind, *get_args(kind)}
    for number, noun in ((int, "a whole number"), (float, "a number")):
        if number in kinds:
            try:
                return number(value)
            except ValueError as error:
                raise OptionError(f"`{name}={value}`: must be {noun}") from error
    text = _unescaped(value)
    return [*(before or []), text] if Sequence[str] in kinds else text


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n")


def _end(text: str) -> str:
    """The unfinished line at the end of a text, or the last part of a long one."""
    line = text[text.rfind("\n") + 1 :]
    return line if len(line) <= SHOWN else f"…{line[-SHOWN:]}"
