"""The compared cells by name, and their options."""

from __future__ import annotations

from typing import Any

_PLAIN = {
    "rnn": "--cell rnn",
    "rnn, ReLU": "--cell rnn --activation relu",
    "lstm": "--cell lstm",
    "lstm, no forget gate": "--no-forget-gate",
    "lstm, peepholes": "--peepholes ifo",
    "gru": "--cell gru",
    "gru, reset before": "--cell gru --reset before",
    "gru-simple": "--cell gru-simple",
}
CELLS = _PLAIN | {
    f"{name}, layer norm": f"{options} --layer-norm" for name, options in _PLAIN.items()
}


def config_fields(options: str) -> dict[str, Any]:
    """Options of `charlm train` as fields of `ModelConfig`."""
    words, fields = options.split(), dict[str, Any]()
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        if name.startswith("no_"):
            fields[name.removeprefix("no_")] = False
        else:
            fields[name] = words.pop(0) if words and not words[0].startswith("--") else True
    return fields
