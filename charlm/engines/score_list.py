"""Several scored sentences: a list that is also a data frame, and in a notebook in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from charlm.engines.scores import SentenceScore
from charlm.errors import OptionError
from charlm.options import Choices

if TYPE_CHECKING:
    from pandas import DataFrame

S = TypeVar("S", bound=SentenceScore)
BY = Choices(("sentence", "token", "word"))


class Scores(list[S]):
    """A list of scored sentences."""

    def to_frame(self, by: str = "sentence") -> DataFrame:
        """The scores as a pandas data frame, with a row for each sentence, token or word.

        by:  "sentence", "token", or "word" for sentences that were scored with `details`. Tokens
             and words have a column `sentence`, the number in this list, from 0

        The other columns are those of `to_json`. Raises OptionError without pandas.

        >>> model.score(["the cat", "a dog"]).to_frame()[["text", "tokens"]].values.tolist()
        [['the cat', 8], ['a dog', 6]]
        >>> model.score(["the cat", "a dog"]).to_frame("token")["sentence"].sum()
        np.int64(6)
        """
        BY.check("by", by)
        if by == "sentence":
            return data_frame(score.to_json() for score in self)
        return data_frame(
            {"sentence": number, **piece.to_json()}
            for number, score in enumerate(self)
            for piece in (score.words() if by == "word" else score.token_scores)
        )

    def _repr_html_(self) -> str:
        """The first sentences in colour, for notebooks."""
        from charlm.engines.drawn_scores import notebook

        return notebook(self)


def data_frame(records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """A pandas data frame of records. Raises OptionError without pandas."""
    try:
        import pandas
    except ImportError:
        raise OptionError(
            "a data frame needs pandas; install it with `pip install pandas`"
        ) from None
    return pandas.DataFrame(list(records))
