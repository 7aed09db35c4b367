"""`charlm embed`: vectors of tokens, lines and words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    read_lines,
    text_encoding,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.records import write
from charlm.errors import InputError
from charlm.options import option

if TYPE_CHECKING:
    from charlm.engines.embedding import LineVectors
    from charlm.tasks.tokens import TokenModel

BINARY_SUFFIXES = (".safetensors", ".npz")
TEXT_SUFFIXES = (".txt", ".vec")


@dataclass(frozen=True)
class EmbedOptions:
    """Which vectors are written, and where. The fields describe themselves."""

    out: str | None = option(
        None,
        "The output file: .safetensors or .npz; with `words`, .txt or .vec too.",
        metavar="FILE",
        auto="the name of FILE with .safetensors",
    )
    mean: bool = option(
        False, "One vector per line: the mean over its tokens.", excludes=("words",)
    )
    words: bool = option(False, "Vectors of single words; without FILE, of the whole vocabulary.")

    def target(self, file: str | None) -> Path:
        """The output file. Raises InputError or OptionError for one that cannot be written."""
        from charlm.corpus.reading import Corpus
        from charlm.engines.vector_files import check_name

        name = "words" if file is None else Corpus([file]).name
        target = Path(f"{name}.safetensors" if self.out is None else self.out)
        check_name(target, *BINARY_SUFFIXES, *(TEXT_SUFFIXES if self.words else ()))
        if target.exists():
            raise InputError(f"{target} exists; remove it, or use another `out`")
        return target


@with_options
def embed(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="A text; with --words, a list of words, one per line.",
            show_default=False,
        ),
    ] = None,
    *,
    models: Annotated[ModelOptions, "model"],
    options: EmbedOptions,
    input: Annotated[InputOptions, "encoding"],
    machine: MachineOptions,
) -> None:
    """Write the vectors of tokens, lines or words to a file."""
    from charlm.engines.embedding import line_arrays, token_arrays
    from charlm.engines.vector_files import save
    from charlm.tasks.tokens import TokenModel

    if file is None and not options.words:
        raise InputError("give a text to embed, or add `words` for the vectors of the vocabulary")
    target = options.target(file)
    loaded = load_model(TokenModel, models, machine)
    lines: Iterator[str] | None = None
    if file is not None:
        encoding = text_encoding([loaded], input.encoding)
        lines = _not_empty(read_lines(file, encoding), file)
    if options.words:
        _write_words(loaded, None if lines is None else [word for word in lines if word], target)
    else:
        vectors = _embed_lines(loaded, lines or iter(()))
        count = save(target, line_arrays(vectors) if options.mean else token_arrays(vectors))
        _note_size(count, loaded.config.states)
    write(str(target))


def _not_empty(lines: Iterator[str], name: str) -> Iterator[str]:
    """The lines. Raises InputError if there is no character in them."""
    first: list[str] = []
    for line in lines:
        first.append(line)
        if line:
            return chain(first, lines)
    raise InputError(f"{name}: the file is empty; there is nothing to embed")


def _embed_lines(model: TokenModel, lines: Iterator[str]) -> Iterator[tuple[str, LineVectors]]:
    """Each line with its vectors; then a warning about the unknown pieces, if there are any."""
    from charlm.tokenizer import UNK

    unknown: dict[str, None] = {}
    read, embedded_lines = tee(lines)
    for line, embedded in zip(read, model.embed(embedded_lines), strict=True):
        spans = embedded.spans[embedded.ids == UNK].tolist()
        unknown.update(dict.fromkeys(line[start:end] for start, end in spans))
        yield line, embedded
    warn_unknown(unknown)


def _write_words(model: TokenModel, words: list[str] | None, target: Path) -> None:
    """Write the vectors of words, or of the whole vocabulary if `words` is None."""
    import numpy as np

    from charlm.corpus import word_vectors
    from charlm.engines.vector_files import save

    if words is not None and not model.config.characters:
        warn_unknown(word for word in words if model.word_id(word) is None)
    names = model.vocabulary if words is None else words
    as_text = target.suffix in TEXT_SUFFIXES
    if as_text and (spaced := next((n for n in names if n.split() != [n]), None)):
        raise InputError(f"{spaced!r}: a word in a text file cannot contain a space; write .npz")
    vectors = model.word_vectors(words)
    if as_text:
        word_vectors.write(target, names, vectors)
    else:
        words_utf8 = np.frombuffer("\n".join(names).encode(errors="surrogateescape"), np.uint8)
        save(target, [{"vectors": vectors, "words": words_utf8}])
    _note_size(*vectors.shape)


def _note_size(count: int, features: int) -> None:
    note(f"{count:,} vectors of {features} features")
