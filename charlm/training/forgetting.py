"""What a model that started from another one has forgotten of that one's text."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from charlm.corpus.examples import TEXT, Examples
from charlm.errors import CharlmError
from charlm.model.file import ModelFile
from charlm.tasks import load_task
from charlm.tasks.base import Validation
from charlm.tasks.source import OF_TEXTS, source_of
from charlm.tasks.trained import LoadOptions
from charlm.training.dataset import VALIDATION
from charlm.training.options import TrainOptions
from charlm.training.plan import Plan

if TYPE_CHECKING:
    from charlm.tasks.tokens import TokenModel

MEASURED = 20_000  # tokens of the earlier validation text


def forgotten(path: Path, options: TrainOptions) -> str | None:
    """The loss on the validation text of the model of `from_`, before and after, in words.

    path:  of the new model

    None without such a model, or if its run folder does not have that text.
    """
    if options.task not in OF_TEXTS:
        return None
    source = source_of(options)
    if not source or not (plan := Plan.read(source.path.parent)) or not plan.corpus:
        return None
    task, name = load_task(options.task), plan.corpus.name
    with suppress(OSError, ValueError, CharlmError):
        vocabularies = {TEXT: source.tokenizer}
        data = Examples.open(task.fields, vocabularies, source.path.parent, VALIDATION)
        validation = task.validation(data, plan.corpus, plan.options).first(MEASURED)
        file = ModelFile.load(path)
        model = cast("TokenModel", task.model(file, path, LoadOptions()))
        before, after = (_loss(validation, m) for m in (source, model))
        return (
            f"on {validation.predicted:,} tokens of the validation text of {name}, the model of "
            f"`from_` had {before:.4f} nats/token, and this one has {after:.4f}"
        )
    return None


def _loss(validation: Validation[Any], model: TokenModel) -> float:
    total, *_ = validation.totals(model.backends.torch, model.companions)
    return total / max(validation.predicted, 1)
