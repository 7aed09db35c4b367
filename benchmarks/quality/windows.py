"""The validation loss as nanoGPT measures it: in separate windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from charlm import LanguageModel
from charlm.corpus.reading import Corpus
from charlm.tokenizer import as_inputs


def loss_in_windows(model: LanguageModel, text: Path, window: int) -> float:
    """Nats per character over the last tenth of a text, each window from the zero state.

    window:  predicted characters of a window. The character before it is read, not predicted
    """
    characters = "".join(Corpus([text]).blocks())
    cut = characters.index("\n", int(len(characters) * 0.9)) + 1
    ids = model.tokenizer.encode_ids(characters[cut:])
    ids = ids[: (len(ids) - 1) // window * window + 1]
    inputs, targets = as_inputs(ids[:-1]).reshape(-1, window), ids[1:].reshape(-1, window)
    predictor = model.predictors.for_tokens(inputs.size)
    state, losses = predictor.initial_state(len(inputs)), []
    for start in range(0, window, predictor.at_once):
        part = slice(start, start + predictor.at_once)
        prediction, state = predictor.read(inputs[:, part], state)
        losses.append(-prediction.logprobs(targets[:, part]).astype(float))
    return float(np.concatenate(losses, axis=1).mean())
