"""`charlm embed`: vectors of tokens, lines and words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    DeviceOption,
    EncodingOption,
    ModelOption,
    ThreadsOption,
    load_model,
    note,
    read_lines,
    text_encoding,
    warn_unknown,
)
from charlm.cli.records import write
from charlm.errors import InputError

if TYPE_CHECKING:
    from charlm.engines.embedding import LineVectors
    from charlm.tasks.tokens import TokenModel

BINARY_SUFFIXES = (".safetensors", ".npz")
TEXT_SUFFIXES = (".txt", ".vec")


def embed(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="A text; with --words, a list of words, one per line.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The output file: .safetensors or .npz; with --words, .txt or .vec too. "
            "[default: the name of FILE with .safetensors]",
        ),
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="One vector per line: the mean over its tokens.")
    ] = False,
    words: Annotated[
        bool,
        typer.Option(
            "--words", help="Vectors of single words; without FILE, of the whole vocabulary."
        ),
    ] = False,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Write the vectors of tokens, lines or words to a file."""
    from charlm.corpus.reading import Corpus
    from charlm.engines.embedding import line_arrays, token_arrays
    from charlm.engines.vector_files import check_name, save
    from charlm.tasks.tokens import TokenModel

    if file is None and not words:
        raise InputError("give a text to embed, or add `words` for the vectors of the vocabulary")
    if mean and words:
        raise InputError("`mean` and `words`: give only one of them")
    target = out or Path(f"{'words' if file is None else Corpus([file]).name}.safetensors")
    check_name(target, *BINARY_SUFFIXES, *(TEXT_SUFFIXES if words else ()))
    if target.exists():
        raise InputError(f"{target} exists; remove it, or use another `out`")
    loaded = load_model(model, TokenModel, device, threads)
    lines = read_lines(file, text_encoding([loaded], encoding)) if file else None
    if lines is not None:
        lines = _not_empty(lines, str(file))
    if words:
        _write_words(loaded, None if lines is None else [word for word in lines if word], target)
    else:
        vectors = _embed_lines(loaded, lines or iter(()))
        count = save(target, line_arrays(vectors) if mean else token_arrays(vectors))
        _note_size(count, loaded.config.states)
    write(str(target))


def _not_empty(lines: Iterator[str], name: str) -> Iterator[str]:
    """The lines. Raises InputError if there is no character in them."""
    blank: list[str] = []
    for line in lines:
        blank.append(line)
        if line:
            return chain(blank, lines)
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
