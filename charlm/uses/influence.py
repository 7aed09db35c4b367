"""How far back the gradients of a model reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.options import names_keywords

if TYPE_CHECKING:
    from charlm.model.gradients import GradientNorms
    from charlm.tasks.language_model import LanguageModel


@names_keywords
def gradients(model: LanguageModel, text: str, *, steps: int = 60) -> GradientNorms:
    """The norm of the gradient of a token's loss with respect to the state K steps before it.

    steps:  the largest K; fewer for a shorter text

    Raises InputError for a text of fewer than 2 tokens.

    >>> charlm.gradients(model, "the cat sat on the mat", steps=5).dh.shape
    (6,)
    """
    from charlm.model.gradients import gradient_norms

    ids = model.tokenizer.encode_ids(text)
    return gradient_norms(model.backends.torch, ids, steps, model.independent_lines)
