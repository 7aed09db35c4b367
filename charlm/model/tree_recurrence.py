"""Runs a composition over the levels of trees in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from charlm.model.equations import Cell
from charlm.model.recurrence import DeferredParameters


def compose(
    cell: Cell,
    weights: Mapping[str, Tensor],
    x: Tensor,
    children: Sequence[Tensor],
    mask: Tensor | None = None,
) -> Tensor:
    """h of every row of trees, (R, H); see `charlm.model.tree_levels.Levels`.

    weights:   tensors under the names of `Cell.shapes`
    x:         (N, H) h of the first rows: the words, and the zero state
    children:  for each height (2, n), the rows of the left and the right child
    mask:      dropout mask (R, H) of h of left children

    The rows of each height are computed at once. The gradients of matrices are computed in one
    product over all heights, as by `charlm.model.recurrence.fast_unroll`. Products are never in
    low precision, because a CPU would build a kernel for each new number of rows.
    """
    names, x = tuple(weights), x.to(weights["W"].dtype)
    h: Tensor = _Compose.apply(cell, names, children, mask, x, *weights.values())  # type: ignore[no-untyped-call]
    return h


class _Compose(torch.autograd.Function):
    """`compose`. It keeps the graph of each height, and adds up gradients in one buffer."""

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        names: tuple[str, ...],
        children: Sequence[Tensor],
        mask: Tensor | None,
        x: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        needs = any(ctx.needs_input_grad)
        weights = {n: t.detach().requires_grad_(needs) for n, t in zip(names, tensors, strict=True)}
        first = len(x)
        rows = first + sum(c.shape[1] for c in children)
        state = [x.new_zeros(rows, x.shape[1]) for _ in cell.state]
        state[0][:first] = x
        graph = []
        with torch.set_grad_enabled(needs), torch.autocast(x.device.type, enabled=False):
            p = DeferredParameters(cell, weights, None, x.dtype)
            read = p.product(weights["W"])
            for left, right in children:
                inputs = [s[left].requires_grad_(needs) for s in state]
                inputs += [s[right].requires_grad_(needs) for s in state]
                h, *others = inputs[: len(state)]
                right_h, *right_others = inputs[len(state) :]
                gates = read(right_h) if p.layer_norm else read(right_h) + weights["b"]
                kept = h if mask is None else h * mask[left]
                new = cell.step(p, gates, (kept, *others, *right_others))
                end = first + len(left)
                for s, n in zip(state, new, strict=True):
                    s[first:end] = n.detach()
                graph.append((inputs, new))
                first = end
        ctx.p, ctx.weights, ctx.graph, ctx.children = p, weights, graph, children
        ctx.matrices = [*(name for name, _ in cell.matrices), "W"]
        ctx.first = len(x)
        return state[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h: Tensor) -> tuple[Tensor | None, ...]:
        direct = [t for name, t in ctx.weights.items() if name not in ctx.matrices]
        of_direct: list[Tensor] = [torch.zeros_like(t) for t in direct]
        count = len(ctx.graph[0][0]) // 2 if ctx.graph else 1
        d_state = [d_h.clone(), *(torch.zeros_like(d_h) for _ in range(count - 1))]
        end = len(d_h)
        for (left, right), (inputs, new) in zip(
            reversed(ctx.children), reversed(ctx.graph), strict=True
        ):
            own = [d[end - len(left) : end] for d in d_state]
            end -= len(left)
            gradients = torch.autograd.grad(new, [*inputs, *direct], own, allow_unused=True)
            for k, gradient in enumerate(gradients):
                if gradient is None:
                    continue
                if k < 2 * count:
                    rows = left if k < count else right
                    d_state[k % count].index_add_(0, rows, gradient)
                else:
                    of_direct[k - 2 * count] += gradient
        found = iter(of_direct)
        of_matrices = dict(zip(ctx.matrices, ctx.p.gradients() if ctx.graph else (), strict=False))
        of_weights = [
            of_matrices.get(name) if name in ctx.matrices else next(found) for name in ctx.weights
        ]
        return None, None, None, None, d_state[0][: ctx.first], *of_weights
