"""The plan of a run: what was asked, on which corpus, and what was chosen. It is `run.json`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.corpus.stats import CorpusInfo
from charlm.errors import CharlmError
from charlm.files import write_text
from charlm.model.file import known_fields
from charlm.tasks import load_task
from charlm.training.options import TrainOptions
from charlm.training.recipe import Recipe

PLAN = "run.json"


@dataclass(frozen=True)
class Plan:
    """What a run does. It is written before anything else, and again when it changes.

    options:   as the user gave them
    sha256:    hash of the corpus
    started:   time of the start, seconds since 1970
    replaces:  name of the folder beside it that the run replaces when it is complete
    launch:    name of the start of several processes, see `Ranks`
    corpus:    what is known about the encoded corpus; None until it is encoded
    recipe:    as it was chosen; None until then
    finished:  the budget is used
    """

    options: TrainOptions
    sha256: str
    started: float = 0.0
    replaces: str | None = None
    launch: str | None = None
    corpus: CorpusInfo | None = None
    recipe: Recipe | None = None
    finished: bool = False

    def write(self, folder: Path) -> None:
        """Write the plan into the folder of its run."""
        values = dataclasses.asdict(self)
        if self.recipe:
            values["recipe"] = self.recipe.to_json()
        write_text(folder / PLAN, json.dumps(values, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in a folder; None if there is none that can be read."""
        try:
            return cls._from_json(json.loads((folder / PLAN).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, CharlmError):
            return None

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> Plan:
        values = known_fields(cls, values)
        options = TrainOptions(**values["options"])
        if corpus := values.get("corpus"):
            values["corpus"] = CorpusInfo(**known_fields(CorpusInfo, corpus))
        if recipe := values.get("recipe"):
            values["recipe"] = Recipe.from_json(recipe, load_task(options.task).config)
        return cls(**{**values, "options": options})
