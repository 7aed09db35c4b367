"""Starting from a trained model of texts: `--from`.

A language model or a fill model may start from another of its kind, with all that it has learnt.
Its vocabulary grows where the new text needs it.

A network that gives labels may begin with the vectors of tokens and the first layer of a language
model, or of a fill model, whose two directions both fit. Of a model with several networks, it takes
the first one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError, OptionError
from charlm.model.config import VARIANTS, ModelConfig
from charlm.model.file import ModelFile
from charlm.model.names import strip_prefix
from charlm.model.sequence_config import SequenceConfig
from charlm.options import argument, overrides_of
from charlm.runs import find_model
from charlm.tasks import load_task
from charlm.tasks.base import Rows
from charlm.tasks.trained import LoadOptions
from charlm.tokenizer.words import SPLITS

if TYPE_CHECKING:
    from charlm.tasks.tokens import TokenModel
    from charlm.training.options import TrainOptions

OF_TEXTS = ("lm", "fill")
SHAPE = (
    "cell", "layers", "hidden", "embedding", "layer_norm", "residual", "feedforward", "highway",
    "characters", "networks",
)  # fmt: skip


@lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> TokenModel:
    file = ModelFile.load(path)
    if file.task not in OF_TEXTS:
        raise ModelError(f"{path}: a model of `task={file.task}`; start from one of `task=lm`")
    model = load_task(file.task).model(file, path, LoadOptions())
    return cast("TokenModel", model)


def model_to_start_from(name: str) -> TokenModel:
    """The model of this name. Raises ModelError."""
    try:
        path = find_model(name)
        return _read(path, path.stat().st_mtime_ns)
    except ModelError as error:
        raise ModelError(str(error).replace("`model`", "`from_`")) from None


def source_of(options: TrainOptions) -> TokenModel | None:
    """The model to start from, if there is one. Raises ModelError."""
    return model_to_start_from(options.from_) if options.from_ else None


def provenance(options: TrainOptions) -> dict[str, Any] | None:
    """What the card says of the model to start from: its text, and how good it was."""
    source = source_of(options)
    if not source:
        return None
    names = ("corpus", "corpus_sha256", "train_tokens", "valid_nats", "trained")
    return {name: getattr(source.card, name) for name in names}


# --- from a model of the same kind ---


def completed_by_start(options: TrainOptions) -> TrainOptions:
    """The options with the shape of the model to start from, which has the same task.

    Raises ModelError for a model of another task or level, and OptionError for options that differ
    from the model.
    """
    source = source_of(options)
    if not source:
        return options
    if source.task != options.task:
        raise ModelError(
            f"{source.path}: a model of `task={source.task}`; start from one of "
            f"`task={options.task}`"
        )
    _check_level(source, [options.level])
    settings, _ = source.tokenizer.state()
    given = overrides_of(options)
    for name, value in (("split", SPLITS.get(options.split)), ("normalize", options.normalize)):
        if name in given and settings.get(name) != value:
            raise OptionError(f"{argument(name, given[name])}: the model of `from_` differs")
    decided = {name: getattr(source.config, name) for name in (*SHAPE, *VARIANTS)}
    return _decided(options, {**decided, "lines": options.lines or source.independent_lines})


def weights_to_start_from(source: TokenModel, config: ModelConfig) -> dict[str, Rows]:
    """All weights of a model, by the names of parameters.

    config:  of the new network, whose vocabulary may have grown

    A new token is at first as improbable as the least probable one.
    """
    rows = {}
    for name, parameter in source.backends.torch.named_parameters():
        values = parameter.detach().cpu().numpy()
        if name.endswith("output.b"):
            new = np.full(config.vocab - 1 - len(values), values.min(), np.float32)
            values = np.concatenate([values, new])
        rows[name] = Rows.of(values)
    return rows


# --- the first layer of a network that gives labels ---


def completed_by_source(options: TrainOptions, levels: Collection[str]) -> TrainOptions:
    """The options with the cell and the sizes of the model to start from.

    levels:  that the task can take. Raises ModelError for a model of another level, and OptionError
             for options that differ from the model
    """
    source = source_of(options)
    if not source:
        return options
    _check_level(source, levels)
    config = source.config
    decided: dict[str, Any] = {"hidden": config.hidden, "embedding": config.inputs}
    return _decided(
        options,
        decided | {name: getattr(config, name) for name in ("cell", "layer_norm", *VARIANTS)},
    )


def _check_level(source: TokenModel, levels: Collection[str]) -> None:
    if source.tokenizer.level not in levels:
        raise ModelError(
            f"{source.path} was trained with `level={source.tokenizer.level}`; start from a model "
            f"of `level={next(iter(levels))}`, or use its level"
        )


def _decided(options: TrainOptions, decided: Mapping[str, Any]) -> TrainOptions:
    """The options with what the model has decided. Raises OptionError where they differ from it."""
    decided = dict(decided)
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
