"""Names of weights and arrays: "layers.0.W" is the W of the layer 0 of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def add_prefix(prefix: str, items: Mapping[str, T]) -> dict[str, T]:
    """The items with a prefix and a dot before their names.

    >>> add_prefix("a", {"b": 1})
    {'a.b': 1}
    """
    return {f"{prefix}.{name}": item for name, item in items.items()}


def strip_prefix(prefix: str, items: Mapping[str, T]) -> dict[str, T]:
    """The items whose names start with `prefix` and a dot, by the rest of their names.

    >>> strip_prefix("a", {"a.b": 1, "ab": 2})
    {'b': 1}
    """
    start = f"{prefix}."
    return {
        name.removeprefix(start): item for name, item in items.items() if name.startswith(start)
    }
