"""Several scored sentences: a list that is also a data frame, and in a notebook in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from charlm.engines.scores import NOTHING, SentenceScore, TokenScore
from charlm.errors import OptionError
from charlm.options import Choices
from charlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pandas import DataFrame, Index

S = TypeVar("S", bound=SentenceScore)
BY = Choices(("sentence", "token", "word"))
WORD_COLUMNS = (  # of a data frame without rows
    "sentence", "word_id", "word", "start", "end", "bits", "entropy_bits", "frequency", "length",
    "unknown",
)  # fmt: skip


class Scores(list[S]):
    """A list of scored sentences.

    row_index:  of the pandas Series that the sentences come from; None if from anything else
    kind:       the class of the scores, for the columns of an empty list
    """

    def __init__(
        self,
        scores: Iterable[S] = (),
        row_index: Index | None = None,
        kind: type[SentenceScore] = SentenceScore,
    ) -> None:
        super().__init__(scores)
        self.row_index, self.kind = row_index, kind
        self._indexed = () if row_index is None else tuple(self)

    def to_frame(self, by: str = "sentence") -> DataFrame:
        """The scores as a pandas data frame, with a row for each sentence, token or word.

        by:  "sentence", "token", or "word" for sentences that were scored with `details`

        The rows of sentences of a Series have its index, so `table["bits"] =
        model.score(table["text"]).to_frame()["bits"]` puts each score beside its text, also in a
        table that was sorted or filtered. Other sentences are numbered from 0. Tokens and words
        have a column `sentence` with the same values, and words `word_id`, their number in the
        sentence from 1. The other columns are those of `to_json` and `word_records`.

        Raises OptionError without pandas, and for a list that was changed after a Series was
        scored, since its index no longer fits.

        >>> model.score(["the cat", "a dog"]).to_frame()[["text", "tokens"]].values.tolist()
        [['the cat', 8], ['a dog', 6]]
        >>> model.score(["the cat", "a dog"]).to_frame("token")["sentence"].sum()
        np.int64(6)
        """
        BY.check("by", by)
        if by == "sentence":
            frame = data_frame((s.to_json() for s in self), _no_sentence(self.kind).to_json())
            return frame if self.row_index is None else frame.set_axis(self._labels)
        labelled = zip(self._labels, self, strict=True)
        if by == "token":
            tokens = ({"sentence": k, **t.to_json()} for k, s in labelled for t in s.token_scores)
            return data_frame(tokens, {"sentence": 0, **TokenScore(0, "", 0.0, 0, 0).to_json()})
        words = (
            {"sentence": label, "word_id": number, **record}
            for label, score in labelled
            for number, record in enumerate(score.word_records(), 1)
        )
        return data_frame(words, dict.fromkeys(WORD_COLUMNS))

    @property
    def _labels(self) -> Index | range:
        """What the sentences are called in data frames."""
        if self.row_index is None:
            return range(len(self))
        if any(a is not b for a, b in zip_longest(self, self._indexed)):
            raise OptionError(
                "the list of scores was changed, so the index of its Series no longer fits; make "
                "the data frame first"
            )
        return self.row_index

    def _repr_html_(self) -> str:
        """The first sentences in colour, for notebooks."""
        from charlm.engines.drawn_scores import notebook

        return notebook(self)


def _no_sentence(kind: type[SentenceScore]) -> SentenceScore:
    measures = {field.name: getattr(NOTHING, field.name) for field in fields(NOTHING)}
    ids, logprobs = np.zeros(0, np.int64), np.zeros(0, np.float32)
    tokenizer = cast(Tokenizer, None)  # there is nothing to decode
    return kind(**measures, context="", ids=ids, logprobs=logprobs, tokenizer=tokenizer)


def data_frame(records: Iterable[Mapping[str, Any]], empty: Mapping[str, Any]) -> DataFrame:
    """A pandas data frame of records. Raises OptionError without pandas.

    empty:  a record with the columns of a frame without rows
    """
    try:
        import pandas
    except ImportError:
        raise OptionError(
            "a data frame needs pandas; install it with `pip install pandas`"
        ) from None
    rows = list(records)
    return pandas.DataFrame(rows) if rows else pandas.DataFrame([empty])[:0]
