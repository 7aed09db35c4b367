"""Trees as lines of text: each node below its parent, with branches between them."""

from __future__ import annotations

from collections.abc import Sequence

MOST_DEPTH = 40  # branches that are drawn before a node


def branches(depths: Sequence[int]) -> list[str]:
    """What stands before each node of a tree.

    depths:  of the nodes, from the root on, each node before what is below it

    >>> print("\\n".join(b + node for b, node in zip(branches([0, 1, 2, 2, 1]), "SNDCV")))
    S
    ├─ N
    │  ├─ D
    │  └─ C
    └─ V
    """
    lines: list[str] = []
    goes_on: list[bool] = []  # for each depth, whether a node there follows below
    for depth in reversed(depths):
        del goes_on[depth + 1 :]
        goes_on += [False] * (depth + 1 - len(goes_on))
        first = max(depth - MOST_DEPTH, 1)
        above = "…  " * (first > 1) + "".join(
            "│  " if more else "   " for more in goes_on[first:depth]
        )
        own = ("├─ " if goes_on[depth] else "└─ ") if depth else ""
        lines.append(above + own)
        goes_on[depth] = True
    return lines[::-1]
