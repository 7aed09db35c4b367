"""Evaluation: how well a model predicts a whole text, with or without extra models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.engines.running_text import RunningTextOptions, running_text_predictor
from charlm.engines.scores import TextScore, byte_length
from charlm.engines.unknown_words import UnknownOptions, UnknownWords
from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.lexicon import Lexicon
from charlm.model.likelihood import sequence_logprobs, text_logprobs
from charlm.model.mixture import Predictors
from charlm.options import option
from charlm.parts import WHOLE, Part, parse_shard
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer

LINE_END = (1, 1, 0.0)  # its characters, bytes and log P


@dataclass(frozen=True)
class EvaluateOptions(UnknownOptions, RunningTextOptions):
    """How a text is evaluated. The fields describe themselves.

    Raises OptionError, naming the option and the value.
    """

    reset_lines: bool | None = option(
        None, "Start every line from the zero state.", auto="as the model was trained"
    )
    shard: str | None = option(
        None,
        "Only part I of N: lines I, I+N, … if lines are independent, else a range of lines.",
        metavar="I/N",
        excludes={
            name: f"does not go with `{name}`, which needs all of the text before"
            for name in ("cache", "adapt")
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            parse_shard(self.shard)


def evaluate_text(
    predictors: Predictors,
    tokenizer: Tokenizer,
    blocks: Iterable[str],
    options: EvaluateOptions,
    *,
    lexicon: Lexicon | None = None,
    reset_lines: bool,
    progress: Callable[[float], None] | None = None,
) -> TextScore:
    """Measure a text.

    blocks:       the text in blocks of whole lines. The end of the last line is scored, even if
                  the text does not have it
    lexicon:      of the model, for words that are not in its vocabulary
    reset_lines:  every line from the zero state; otherwise the state is carried through the text
    progress:     called with the fraction of a running text that is done

    Raises OptionError for an extra model where lines are reset.
    """
    if reset_lines and options.extra:
        raise OptionError(
            f"`{options.extra}`: needs a running text. Here every line is read by itself, for "
            "`reset_lines` or because the model was trained with `lines`; leave the option out"
        )
    part = parse_shard(options.shard) if options.shard else WHOLE
    if reset_lines and part != WHOLE:
        blocks = every_line(blocks, part)
    unknown = UnknownWords.of(options, lexicon)
    ids, lines = _encode(tokenizer, blocks, unknown)
    predictor = running_text_predictor(predictors, len(ids) // part.of, options)
    if reset_lines:
        sequences = np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]
        found: Iterable[tuple[Floats, IntArray]]
        found = zip(sequence_logprobs(predictor, sequences), sequences, strict=True)
    else:
        bounds = np.append(0, np.flatnonzero(ids == EOS) + 1)
        first, last = np.searchsorted(bounds, part.span(len(ids))).tolist()
        begin, end = bounds[[first, last]].tolist()
        lines = lines[first:last]
        found = text_logprobs(predictor, ids, (begin, end), progress) if end > begin else ()
    total = of_unknown = 0.0
    tokens = unknowns = 0
    for logprobs, targets in found:
        is_unknown = targets == UNK
        total += float(logprobs.sum(dtype=np.float64))
        of_unknown += float(logprobs[is_unknown].sum(dtype=np.float64))
        tokens, unknowns = tokens + len(targets), unknowns + int(is_unknown.sum())
    chars, size, of_pieces = lines.sum(axis=0).tolist()
    if not unknown.count:
        total, of_unknown, tokens = total - of_unknown, 0.0, tokens - unknowns
    total, of_unknown = total + of_pieces, of_unknown + of_pieces
    return TextScore("", total, tokens, int(chars), int(size), unknowns, of_unknown, len(lines))


def every_line(blocks: Iterable[str], part: Part) -> Iterator[str]:
    """The lines of a text that are in `part.every`, in blocks."""
    number = 0
    for block in blocks:
        pieces = block.split("\n")
        lines = [f"{piece}\n" for piece in pieces[:-1]] + pieces[-1:]
        yield "".join(lines[(part.number - number) % part.of :: part.of])
        number += len(pieces) - 1


def _encode(
    tokenizer: Tokenizer, blocks: Iterable[str], unknown: UnknownWords
) -> tuple[IntArray, NDArray[np.float64]]:
    """The ids of a text, and what counts of each line, (lines, 3), see `UnknownWords.counted`.

    Every line has an end, the last one too.
    """
    encoded: list[IntArray] = [np.zeros(0, np.uint8)]
    lines, rest = [np.zeros((0, 3))], np.zeros(3)
    for block in blocks:
        ids = tokenizer.encode_ids(block)
        rows = np.array([(len(p), byte_length(p), 0.0) for p in block.split("\n")])
        rows[0] += rest
        if (is_unknown := ids == UNK).any():
            spans = tokenizer.encode(block).spans[is_unknown].tolist()
            pieces = [block[start:end] for start, end in spans]
            np.add.at(rows, np.cumsum(ids == EOS)[is_unknown], unknown.counted(pieces))
        encoded.append(ids)
        lines.append(rows[:-1] + LINE_END)
        rest = rows[-1]
    if rest.any():
        encoded.append(np.array([EOS], np.uint8))
        lines.append(rest[None] + LINE_END)
    return np.concatenate(encoded), np.concatenate(lines)
