"""Evaluation: how well a model predicts a whole text, with or without extra models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.engines.bootstrap import in_parts
from charlm.engines.running_text import RunningTextOptions, running_text_predictor
from charlm.engines.scores import TextScore, byte_length
from charlm.engines.text_model import TextModel
from charlm.engines.unknown_words import CONTRIBUTION, UnknownOptions, UnknownWords
from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.likelihood import sequence_logprobs, text_logprobs
from charlm.options import option
from charlm.parts import WHOLE, Part, parse_shard
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer


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
    model: TextModel,
    blocks: Iterable[str],
    options: EvaluateOptions,
    *,
    reset_lines: bool,
    progress: Callable[[float], None] | None = None,
) -> TextScore:
    """Measure a text.

    blocks:       the text in blocks of whole lines. The end of the last line is scored, even if
                  the text does not have it
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
    unknown = UnknownWords.of(options, model.lexicon)
    ids, lines = _encode(model.tokenizer, blocks, unknown)
    predictor = running_text_predictor(model.predictors, len(ids) // part.of, options)
    if reset_lines:
        sequences = np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]
        batches = zip(sequence_logprobs(predictor, sequences), sequences, strict=True)
        return _total(batches, lines, unknown, independent=True)
    of_lines, (start, end) = _span(ids, part)
    running = text_logprobs(predictor, ids, (start, end), progress) if end > start else ()
    return _total(running, lines[of_lines], unknown, independent=False)


def _span(ids: IntArray, part: Part) -> tuple[slice, tuple[int, int]]:
    """The lines that a part of a running text has, and the tokens [start, end) of these lines."""
    bounds = np.append(0, np.flatnonzero(ids == EOS) + 1)
    first, last = np.searchsorted(bounds, part.span(len(ids))).tolist()
    start, end = bounds[[first, last]].tolist()
    return slice(first, last), (start, end)


def _total(
    batches: Iterable[tuple[Floats, IntArray]],
    lines: NDArray[np.void],
    unknown: UnknownWords,
    independent: bool,
) -> TextScore:
    """The measures of a text.

    batches:  log p of tokens, and these tokens, (n,) each
    lines:    what the lines of these tokens add, (lines,) of `CONTRIBUTION`
    independent:  they have nothing to do with each other
    """
    logprob = of_unknown = 0.0
    tokens = unknowns = line = 0
    of_lines = lines["logprob"].copy()
    for logprobs, targets in batches:
        is_unknown = targets == UNK
        ends = np.cumsum(targets == EOS)
        counted = logprobs if unknown.count else np.where(is_unknown, 0.0, logprobs)
        np.add.at(of_lines, line + ends - (targets == EOS), counted)
        line += int(ends[-1]) if len(ends) else 0
        logprob += float(logprobs.sum(dtype=np.float64))
        of_unknown += float(logprobs[is_unknown].sum(dtype=np.float64))
        tokens, unknowns = tokens + len(targets), unknowns + int(is_unknown.sum())
    if not unknown.count:
        logprob, of_unknown, tokens = logprob - of_unknown, 0.0, tokens - unknowns
    added = float(sum(lines["logprob"].tolist()))
    return TextScore(
        text="",
        logprob=logprob + added,
        tokens=tokens,
        chars=int(lines["chars"].sum()),
        bytes=int(lines["bytes"].sum()),
        unknown=unknowns,
        unknown_logprob=of_unknown + added,
        lines=len(lines),
        parts=in_parts(np.stack([of_lines / -math.log(2), lines["chars"]], axis=1), independent),
    )


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
) -> tuple[IntArray, NDArray[np.void]]:
    """The ids of a text, and what each line adds, (lines,) of `CONTRIBUTION`.

    Every line has an end, the last one too.
    """
    encoded: list[IntArray] = [np.zeros(0, np.uint8)]
    lines, unfinished = [np.zeros(0, CONTRIBUTION)], np.zeros(1, CONTRIBUTION)
    for block in blocks:
        ids = tokenizer.encode_ids(block)
        of_block = np.array(
            [(len(p), byte_length(p), 0.0) for p in block.split("\n")], CONTRIBUTION
        )
        _add(of_block, np.array([0]), unfinished)
        if (is_unknown := ids == UNK).any():
            spans = tokenizer.encode(block).spans[is_unknown].tolist()
            pieces = [block[start:end] for start, end in spans]
            _add(of_block, np.cumsum(ids == EOS)[is_unknown], unknown.contributions(pieces))
        encoded.append(ids)
        lines.append(of_block[:-1])
        unfinished = of_block[-1:]
    if unfinished != np.zeros(1, CONTRIBUTION):
        encoded.append(np.array([EOS], np.uint8))
        lines.append(unfinished)
    whole = np.concatenate(lines)
    for name in ("chars", "bytes"):
        whole[name] += 1  # for the line end
    return np.concatenate(encoded), whole


def _add(rows: NDArray[np.void], numbers: NDArray[np.int64], more: NDArray[np.void]) -> None:
    """Add to the rows of these numbers, all of `CONTRIBUTION`. A number may come several times."""
    for name in CONTRIBUTION.names or ():
        np.add.at(rows[name], numbers, more[name])
