"""The limits of the machine: matrix products and reading memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import torch

from benchmarks.speed.harness import Row, in_turns, repeated

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIDE = 2048
FLOP_PER_RUN, BYTES_PER_RUN = 2e9, 10**9


def limits() -> Iterator[Row]:
    for precision in PRECISIONS:
        rate = product_rate(precision, SIDE, SIDE, SIDE)
        yield Row(f"matrix product {SIDE}³, {precision}", "GFLOP/s", rate)
    yield Row("reading 400 MB of memory", "GB/s", reading_rate(400_000_000))
    yield Row("reading 10 MB, again and again", "GB/s", reading_rate(10_000_000))


@cache
def product_rate(precision: str, m: int, k: int, n: int) -> float:
    """GFLOP/s of a matrix product (m, k)·(k, n).

    The second matrix is stored by rows and by columns; the faster layout counts.
    """
    a, b = (torch.randn(*shape).to(PRECISIONS[precision]) for shape in ((m, k), (k, n)))
    out, flop = torch.empty(m, n, dtype=a.dtype), 2 * m * k * n
    times = max(1, int(FLOP_PER_RUN // flop))
    layouts = {"rows": b, "columns": b.T.contiguous().T}
    seconds = in_turns(
        {
            name: repeated(times, partial(torch.mm, a, matrix, out=out))
            for name, matrix in layouts.items()
        }
    )
    return times * flop / min(seconds.values()) / 1e9


@cache
def reading_rate(size: int) -> float:
    """GB/s of reading `size` bytes; the faster one of torch and NumPy counts."""
    array = np.ones(size // 4, np.float32)
    tensor, times = torch.from_numpy(array), max(1, BYTES_PER_RUN // size)
    seconds = in_turns(
        {
            "torch": repeated(times, tensor.sum),
            "numpy": repeated(times, lambda: array @ array),
        }
    )
    return times * size / min(seconds.values()) / 1e9
