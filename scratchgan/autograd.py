"""Walking back: `grad`, `Tensor.backward`, and the fused ops that keep a fast first-order path.

Nodes are numbered as they are made, so a walk from the newest to the oldest is a walk in topological order. It stops at the oldest
goal, keeps to nodes that lead to a goal, and asks each op only for the cotangents that lie on the way: a gradient that nobody
asked for is never computed.
"""
from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from scratchgan import precision
from scratchgan.backend import xp
from scratchgan.inplace import check_unchanged, exposed, writes
from scratchgan.precision import HALF
from scratchgan.recording import set_recording
from scratchgan.tensor import FREED, Leaf, Node, Op, Tensor, alias, cast, rewrapped, sum_to


def _order(nodes: list[Node], oldest: int) -> list[Node]:
    """Everything below `nodes` that is no older than `oldest`, the oldest first."""
    seen = set(nodes)
    stack = list(seen)
    while stack:
        for p in stack.pop().parents:
            if p is not None and p not in seen and p.id >= oldest:
                seen.add(p)
                stack.append(p)
    return sorted(seen, key=attrgetter("id"))


def _leading_to(goals: set[Node], order: list[Node]) -> set[Node]:
    """The nodes of `order` from which a goal can be reached."""
    path = set()
    for n in order:
        if n in goals or not path.isdisjoint(n.parents):
            path.add(n)
    return path


def _sweep(seeds: list[tuple[Node, Any]], goals: set[Node] | None, create_graph: bool,
           retain_graph: bool | None) -> dict[Node, Any]:
    """Cotangents of the goals (None: of every leaf), visiting nodes from the newest to the oldest."""
    keep = create_graph if retain_graph is None else retain_graph
    scale = None if create_graph else precision.factor(seeds[0][1])     # of cotangents in float16
    order = _order([n for n, _ in seeds], min(n.id for n in goals) if goals else 0)
    path = set(order) if goals is None else _leading_to(goals, order)
    gs: dict[Node, Any] = {}
    for n, g in seeds:
        g = g if scale is None or n.dtype != HALF else (g * scale).astype(HALF)
        gs[n] = gs[n] + g if n in gs else g
    found = {}
    while order:                                        # popping lets go of nodes, and so of memory, on the way
        n = order.pop()
        g = gs.pop(n, None)
        if g is None or n not in path:
            continue
        op = n.op
        if op is None or (goals is not None and n in goals):
            found[n] = np.asarray(g) if isinstance(g, np.generic) else g
            if scale is not None and n.dtype == HALF:
                found[n] = (found[n] / scale).astype(HALF)
            if op is None or path.isdisjoint(n.parents):
                continue
        if n.saved is FREED:
            raise RuntimeError(f"{op.name}: this part of the graph was freed by an earlier backward; "
                               "pass retain_graph=True to that call to go through it again")
        if exposed or writes.last > n.id:
            check_unchanged(n)
        for p, c in zip(n.parents, op.backward(n, g, path, create_graph)):
            if c is None:
                continue
            if scale is not None and p.dtype != n.dtype:
                c = _rescaled(c, n, p, scale)
            if op.broadcasts:
                if c.shape != p.shape:
                    c = sum_to(c, shape=p.shape)
                if c.dtype != p.dtype:
                    c = cast(c, dtype=p.dtype)
            gs[p] = gs[p] + c if p in gs else c
        if not keep:
            n.saved = FREED
            n.cache = None
    return found


def _rescaled(c, behind: Node, before: Node, scale):
    """The cotangent of `before` with the factor of its dtype, from one with the factor of `behind`'s."""
    if behind.dtype == HALF:
        return c.astype(before.dtype) / scale
    return c * scale if before.dtype == HALF else c


def _seed(output: Tensor, g, create_graph: bool):
    if not isinstance(output, Tensor) or output._node is None:
        raise RuntimeError("grad: an output does not require gradients: nothing it was made from has requires_grad=True")
    if g is None:
        if output._array.size != 1:
            raise RuntimeError("grad: a gradient is implied only for an output of one element; "
                               f"this one has shape {output.shape}: pass grad_outputs")
        g = xp(output._array).ones_like(output._array)
    array = g._array if isinstance(g, Tensor) else g
    if array.shape != output.shape:
        raise ValueError(f"grad: grad_outputs has shape {tuple(array.shape)}, its output {output.shape}")
    return (g if isinstance(g, Tensor) else Tensor(g)) if create_graph else array


def _as_list(x) -> list:
    return [x] if x is None or isinstance(x, Tensor) or hasattr(x, "dtype") else list(x)


def grad(outputs, inputs, grad_outputs=None, create_graph: bool = False,
         retain_graph: bool | None = None) -> tuple[Tensor | None, ...]:
    """sum_k grad_outputs_k . d outputs_k / d inputs, one entry per input, None for an input that no output depends on.

    Only what lies between inputs and outputs is computed. `create_graph=True` makes the result differentiable; otherwise the graph
    is freed on the way, unless `retain_graph=True`.
    """
    outputs, inputs = _as_list(outputs), _as_list(inputs)
    gs = _as_list(grad_outputs) if grad_outputs is not None else [None] * len(outputs)
    if len(gs) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs but {len(gs)} grad_outputs")
    for x in inputs:
        if not isinstance(x, Tensor) or x._node is None:
            raise RuntimeError("grad: one of the inputs does not require gradients")
    seeds = [(y._node if isinstance(y, Tensor) else None, _seed(y, g, create_graph)) for y, g in zip(outputs, gs)]
    with set_recording(create_graph):
        found = _sweep(seeds, {x._node for x in inputs}, create_graph, retain_graph)
    result = [found.get(x._node) for x in inputs]
    return tuple(c if c is None or isinstance(c, Tensor) else Tensor(c) for c in result)


def backward(self: Tensor, gradient=None, retain_graph: bool | None = None, create_graph: bool = False, inputs=None) -> None:
    """Add d self / d leaf to the `.grad` of every leaf below, or of the tensors in `inputs` alone."""
    g = _seed(self, gradient, create_graph)
    goals = None if inputs is None else {x._node for x in _as_list(inputs)}
    if goals is not None and not all(isinstance(n, Leaf) for n in goals):
        raise RuntimeError("backward: every tensor in inputs must be a leaf with requires_grad=True")
    with set_recording(create_graph):
        found = _sweep([(self._node, g)], goals, create_graph, retain_graph)
        handed_out = {id(g)}    # one cotangent may reach two leaves, and may be the caller's own: each leaf gets memory of its own
        for leaf, g in found.items():
            if not isinstance(g, Tensor):
                shared = g.base is not None or id(g) in handed_out or not getattr(g.flags, "writeable", True)
                g = Tensor(g.copy() if shared else g)
                handed_out.add(id(g._array))
            leaf.grad = g if leaf.grad is None else leaf.grad + g


Tensor.backward = backward


class Fused(Op):
    """An op whose mathematics is `spec`, written in differentiable ops, with a hand-written fast path in its shadow.

    `fast(forward, vjp)`: `forward(*arrays, **kw)` returns (result, cache); `vjp(g, cache, need, *arrays, **kw)` returns one cotangent
    per argument, None where `need` is false. Only the fast VJP may read the cache: under `create_graph` the spec is differentiated,
    so the two can be compared at every order, and a cached array never hides a dependence.
    """

    def __init__(self, spec: Callable):
        super().__init__(spec)
        self.spec, self.fast_vjp, self.differentiable = spec, None, True

    def fast(self, forward: Callable, vjp: Callable) -> None:
        self.forward, self.fast_vjp, self.caches = forward, vjp, True

    def saves(self, live: int, count: int) -> list[bool]:
        return [True] * count + [False]

    def backward(self, node: Node, g, path: set[Node], create_graph: bool) -> list:
        need = [p in path for p in node.parents]
        if self.fast_vjp and not create_graph:
            return self.fast_vjp(g, node.cache, need, *node.saved[:-1], **node.kw)
        with set_recording(True):
            # Aliases make these partial derivatives of this call, whatever else its arguments depend on.
            args = [alias(a) if w else a for a, w in zip(rewrapped(node), need)]
            g = g if isinstance(g, Tensor) else Tensor(g)
            found = iter(grad(self.spec(*args, **node.kw), [a for a, w in zip(args, need) if w], g, create_graph))
        partials = [next(found) if w else None for w in need]
        return partials if create_graph else [p if p is None else p._array for p in partials]
