"""The models that are served, by name, with the threads that work for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from charlm.server.batcher import Batcher
from charlm.server.errors import ProtocolError
from charlm.server.metrics import Metrics
from charlm.server.options import ServeOptions
from charlm.server.writer import Writer
from charlm.tasks.language_model import LanguageModel
from charlm.tasks.tokens import TokenModel
from charlm.tasks.trained import TrainedModel
from charlm.tokenizer import Tokenizer


class Served:
    """A model under its name.

    created:  when its file was written, in seconds of Unix time
    batcher:  does all work but writing
    """

    def __init__(
        self, name: str, model: TrainedModel, options: ServeOptions, metrics: Metrics
    ) -> None:
        self.name, self.model = name, model
        self.created = int(model.path.stat().st_mtime)
        self.batcher = Batcher(options.max_tokens)
        self._writer: Writer | None = None
        if isinstance(model, LanguageModel):
            self._writer = Writer(model.text_model, options.batch, metrics)

    @property
    def writer(self) -> Writer:
        """Writes its texts. Raises ProtocolError for a model of another task."""
        return self._writer or self._refuse("write texts")

    @property
    def language_model(self) -> LanguageModel:
        """The model, if it is a language model. Raises ProtocolError for one of another task."""
        if isinstance(self.model, LanguageModel):
            return self.model
        return self._refuse("give the probability of texts")

    def method(self, name: str, deed: str) -> Callable[..., Any]:
        """A method that not every model has. Raises ProtocolError for a model without it.

        deed:  what it does, in words
        """
        return getattr(self.model, name, None) or self._refuse(deed)

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the texts that it reads token by token. Raises ProtocolError for another model."""
        if isinstance(self.model, TokenModel):
            return self.model.tokenizer
        return self._refuse("encode texts")

    def _refuse(self, deed: str) -> Any:
        message = f"model {self.name!r} cannot {deed}: it was trained with `task={self.model.task}`"
        raise ProtocolError(400, message, "model")

    def close(self) -> None:
        """End the threads."""
        self.batcher.close()
        if self._writer:
            self._writer.close()


class Models:
    """All models of a server. The first is the one that is meant where none is named."""

    def __init__(
        self, models: Mapping[str, TrainedModel], options: ServeOptions, metrics: Metrics
    ) -> None:
        self.all = {n: Served(n, model, options, metrics) for n, model in models.items()}

    def named(self, name: str | None) -> Served:
        """A model by its name. Raises ProtocolError for one that is not there."""
        if not name:
            return next(iter(self.all.values()))
        if name not in self.all:
            known = ", ".join(self.all)
            message = f"there is no model {name!r} here; choose {known}"
            raise ProtocolError(404, message, "model", "model_not_found")
        return self.all[name]

    def close(self) -> None:
        """End all threads."""
        for served in self.all.values():
            served.close()
