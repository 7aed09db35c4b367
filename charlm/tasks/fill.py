"""The task `fill`: predict a token from both sides. Its models fill blanks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import TEXT
from charlm.corpus.lines import LineBatch, cut_lines
from charlm.engines.filling import TwoSidedFilling
from charlm.engines.score_list import Scores
from charlm.engines.scores import PseudoScore
from charlm.engines.scoring import pseudo_score_sentences
from charlm.model.backend import Backend
from charlm.model.pseudo_likelihood import pseudo_logprobs
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Companions
from charlm.tasks.tokens import TokenModel, TokenTask, TokenValidation, rare_tokens
from charlm.tasks.trained import index_of, one_line, several

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.corpus.batches import BatchShape
    from charlm.corpus.buckets import Buckets
    from charlm.corpus.examples import Examples
    from charlm.corpus.stats import CorpusInfo
    from charlm.model.layers import States
    from charlm.model.network import Network
    from charlm.training.options import TrainOptions

# Part of the lines that training shows to one direction only, each direction alike. So the model
# also learns to continue from one side.
ONE_SIDED = 0.5
PROBED_TOKENS = 16384  # of the validation text, to estimate the time for all of it


class FillModel(TokenModel):
    """A model that fills blanks: it reads a line from both sides."""

    task = "fill"
    purpose = "fills blanks (charlm fill) and gives pseudo-log-likelihoods (charlm score --pseudo)"
    validation_note = "each token given all others"
    next_commands = ('charlm fill "a sentence with a ___ in it"',)

    @property
    def independent_lines(self) -> bool:
        return True

    @cached_property
    def _filling(self) -> TwoSidedFilling:
        return TwoSidedFilling(self.backends, self.tokenizer)

    @overload
    def pseudo_score(  # type: ignore[overload-overlap]  # a string is an iterable of strings too
        self, texts: str
    ) -> PseudoScore: ...

    @overload
    def pseudo_score(self, texts: Iterable[str]) -> Scores[PseudoScore]: ...

    def pseudo_score(self, texts: str | Iterable[str]) -> PseudoScore | Scores[PseudoScore]:
        """The pseudo-log-likelihood of one sentence, or of several: see `PseudoScore`."""
        if isinstance(texts, str):
            return next(self.iter_pseudo_scores([texts]))
        return Scores(self.iter_pseudo_scores(texts), index_of(texts), PseudoScore)

    def iter_pseudo_scores(self, texts: Iterable[str]) -> Iterator[PseudoScore]:
        """`pseudo_score` for any number of sentences, in input order and in bounded memory."""
        return pseudo_score_sentences(self.backends, self.tokenizer, map(one_line, several(texts)))


class FillTask(TokenTask[LineBatch]):
    """Prediction of every token of a line from the tokens before it and after it."""

    name = "fill"
    model = FillModel
    parts: ClassVar = {"bidirectional": True, "feedforward": 1}

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[LineBatch]:
        from charlm.corpus.lines import line_batches

        return line_batches(data.fields[TEXT], shape, rare_tokens(data))

    def loss(self, network: Network, batch: LineBatch, state: States) -> tuple[Tensor, States]:
        """Every line starts from the zero state; see `Task.loss`.

        The forward direction reads the tokens before each target, the other direction those after
        it. Neither reads the target.
        """
        import torch

        from charlm.model.layers import reverse_in_time

        inputs, targets, following = (
            torch.from_numpy(ids).to(network.device)
            for ids in (batch.inputs, batch.targets, batch.following)
        )
        real = targets != 0  # columns are filled up with `<START>`
        lengths = real.sum(dim=0)
        zero, masks = network.initial_state(len(lengths)), network.masks(batch.share)
        before, _ = network.encoder(inputs, zero, masks)
        after, _ = network.encoder(reverse_in_time(following, lengths), zero, masks, reverse=True)
        after = reverse_in_time(after, lengths)
        if masks:
            side = masks.sequence_draws(before, (len(lengths), 1))
            before = before * (side >= ONE_SIDED / 2)
            after = after * (side < 1 - ONE_SIDED / 2)
        both = torch.cat([before, after.to(before.dtype)], dim=-1)
        return network.loss(both, targets, masks, real), []

    def validation(self, data: Examples, info: CorpusInfo, options: TrainOptions) -> LineValidation:
        return LineValidation.of(data, info, options.lines)

    def probe_batch(self, length: int, batch: int) -> LineBatch:
        ids = np.ones((length, batch), np.int64)
        return LineBatch(ids, ids, ids)


class LineValidation(TokenValidation):
    """Held-out lines. Each token is predicted from all others of its line, line ends excepted.

    Long lines are cut as in training.
    """

    @property
    def predicted(self) -> int:
        return sum(map(len, self._pieces))

    def total(self, network: Backend, part: Part = WHOLE) -> float:
        logprobs = pseudo_logprobs(network, self._pieces[part.every])
        return -sum(float(row.sum(dtype=np.float64)) for row in logprobs)

    def seconds(self, network: Backend, companions: Companions) -> float:
        part = self.first(PROBED_TOKENS)
        part.total(network)  # the first call builds the kernels
        start = time.perf_counter()
        part.total(network)
        return 1.2 * (time.perf_counter() - start) * len(self.ids) / len(part.ids)

    @cached_property
    def _pieces(self) -> list[NDArray[np.integer]]:
        starts, lengths = cut_lines(self.bounds)
        ends = starts + lengths
        inside = ends <= len(self.ids)
        spans = zip(starts[inside], ends[inside], strict=True)
        return [np.asarray(self.ids[start:end]) for start, end in spans]


TASK = FillTask()
