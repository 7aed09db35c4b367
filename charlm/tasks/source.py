"""Starting from a trained language model: `--from`.

A network that gives labels may begin with the vectors of tokens and the first layer of a language
model, or of a fill model, whose two directions both fit. Of a model with several networks, it takes
the first one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError, OptionError
from charlm.model.config import VARIANTS
from charlm.model.file import ModelFile
from charlm.model.names import strip_prefix
from charlm.model.sequence_config import SequenceConfig
from charlm.options import argument, overrides_of
from charlm.runs import find_model
from charlm.tasks import load_task
from charlm.tasks.base import Rows
from charlm.tasks.tokens import TokenModel
from charlm.tasks.trained import LoadOptions

if TYPE_CHECKING:
    from charlm.training.options import TrainOptions


def _read(path: Path) -> TokenModel:
    file = ModelFile.load(path)
    model = load_task(file.task).model(file, path, LoadOptions(network_only=True))
    if not isinstance(model, TokenModel):
        raise ModelError(f"{path}: a model of `task={file.task}`; start from one of `task=lm`")
    return model


def source_of(options: TrainOptions) -> TokenModel | None:
    """The model to start from, if there is one. Raises ModelError."""
    if not options.from_:
        return None
    try:
        return _read(find_model(options.from_))
    except ModelError as error:
        raise ModelError(str(error).replace("`model`", "`from_`")) from None


def completed_by_source(options: TrainOptions, levels: Collection[str]) -> TrainOptions:
    """The options with the cell and the sizes of the model to start from.

    levels:  that the task can take. Raises ModelError for a model of another level, and OptionError
             for options that differ from the model
    """
    source = source_of(options)
    if not source:
        return options
    if source.tokenizer.level not in levels:
        raise ModelError(
            f"{source.path} was trained with `level={source.tokenizer.level}`; start from a model "
            f"of `level={options.level}`, or use its level"
        )
    config = source.config
    decided: dict[str, Any] = {"hidden": config.hidden, "embedding": config.inputs}
    decided |= {name: getattr(config, name) for name in ("cell", "layer_norm", *VARIANTS)}
    if decided["forget_gate"] is None:
        decided["forget_gate"] = True
    for name, value in overrides_of(options).items():
        if name in decided and value != decided[name]:
            raise OptionError(
                f"{argument(name, value)}: the model of `from_` has {decided[name]}; leave it out"
            )
    return dataclasses.replace(options, **decided)


def rows_of_source(
    config: SequenceConfig, source: TokenModel, ids: NDArray[np.int64] | None = None
) -> dict[str, Rows]:
    """The vectors of tokens, and the first layer of each direction that the source has.

    ids:  (V,) of the source for each of the network's own tokens, below 0 for one that the source
          does not know; None if they are the same
    """
    vectors = source.input_vectors()[:, : source.config.inputs]
    own = np.arange(len(vectors)) if ids is None else np.flatnonzero(ids >= 0)
    rows = {"encoder.embedding": Rows(own, vectors if ids is None else vectors[ids[own]])}
    directions = {"layers": ".forwards", "reverse": ".backwards"}
    if not config.bidirectional:
        directions = {"layers": ""}
    for name, direction in directions.items():
        layer = strip_prefix(f"{name}.0", source.networks[0])
        rows |= {f"encoder.layers.0{direction}.{w}": Rows.of(values) for w, values in layer.items()}
    return rows
