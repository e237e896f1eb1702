"""The engine: reverse-mode differentiation of any order, in one file.

A `Tensor` is a thin handle on an array and on the `Node` that made it. Calling an `Op` runs its forward on arrays and, while
gradients are recorded, leaves a node behind. Nodes are numbered as they are made, so the numbers are a topological order:
`grad` walks them downwards, from the outputs to the oldest goal, and hands each op the cotangent of its output.

A vector-Jacobian product (VJP) is one formula per argument, and its parameters say what it reads:

    @Op
    def mul(a, b):
        return a * b

    mul.vjp(a=lambda g, b: g * b,
            b=lambda g, a: g * a)

`g` is the cotangent of the output. Other names mean an argument, a keyword of the call, `out` (the result) or `shape` (the shape
of the argument whose VJP this is). What no needed formula names, the graph does not hold.

The formulas run on raw arrays in a first-order sweep, which costs no wrapping, and on Tensors under `create_graph=True`, where
they are recorded like any other computation. Hence every derivative of every op exists with nothing more to write.

An array that backward is going to read must not change before; `inplace.py` sees to that.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from math import prod

import numpy as np
from numpy import ndarray

from scratchgan import inplace
from scratchgan.backend import xp
from scratchgan.inplace import clock, exposed
from scratchgan.kernels.sums import total
from scratchgan.recording import state

FREED = ("freed",)               # stands in `saved` once backward has been through a node


class Node:
    """One recorded call: what made it, what its VJPs will read, and the nodes of its arguments."""
    __slots__ = ("id", "op", "parents", "saved", "kw", "cache", "shape", "dtype", "__weakref__")

    def __init__(self, op, parents, saved, kw, cache, shape, dtype):
        self.id = next(clock)
        self.op = op
        self.parents = parents      # one per argument, None for a constant
        self.saved = saved          # the arguments and, last, the output; None for each that no VJP reads
        self.kw = kw
        self.cache = cache          # what a fused op's fast VJP wants to find again
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Leaf(Node):
    """Where a graph begins: a tensor that was made with `requires_grad=True`. Gradients accumulate in `grad`."""
    __slots__ = ("grad",)

    def __init__(self, array):
        super().__init__(None, (), (), {}, None, array.shape, array.dtype)
        self.grad: Tensor | None = None


class _Formula:
    """A VJP and what it reads. `call(g, saved, node, i)` fetches the values that its parameters name."""

    def __init__(self, function: Callable, op: Op):
        names = [*op.names, "out"]
        self.reads = list(inspect.signature(function).parameters)[1:]
        arrays = [names.index(r) for r in self.reads if r in names]
        settings = [r for r in self.reads if r not in names and r != "shape"]
        if settings or "shape" in self.reads:
            def call(g, saved, node, i):
                found = {k: node.kw[k] if k in node.kw else op.defaults[k] for k in settings}
                if "shape" in self.reads:
                    found["shape"] = node.parents[i].shape
                return function(g, *[saved[k] for k in arrays], **found)
        elif not arrays:                # the common cases, without a list: this is the hot path of small tensors
            def call(g, saved, node, i):
                return function(g)
        elif len(arrays) == 1:
            k = arrays[0]

            def call(g, saved, node, i):
                return function(g, saved[k])
        else:
            def call(g, saved, node, i):
                return function(g, *[saved[k] for k in arrays])
        self.call = call


class Op:
    """A differentiable function of arrays. Positional parameters are arrays, keyword-only parameters are settings.

    Called on arrays it returns an array; called on at least one Tensor it returns a Tensor. `broadcasts=True` lets VJPs answer in the
    shape and dtype of the output; the engine sums and casts them down to the argument's.
    """
    caches = False                  # whether forward returns (result, cache)

    def __init__(self, forward: Callable, *, broadcasts: bool = False):
        update_wrapper(self, forward)
        self.name, self.forward, self.broadcasts = forward.__name__.rstrip("_"), forward, broadcasts
        parameters = inspect.signature(forward).parameters.values()
        self.names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        self.formulas: list[_Formula | None] = [None] * len(self.names)
        self.differentiable = False
        self._drops: dict[int, tuple[int, ...]] = {}

    def vjp(self, **formulas: Callable) -> None:
        """Give the VJP of each differentiable argument, by the argument's name."""
        self.differentiable = True
        for name, function in formulas.items():
            self.formulas[self.names.index(name)] = _Formula(function, self)

    def saves(self, live: int, count: int) -> list[bool]:
        """Which of the arguments and, last, the output are read by the VJPs of the arguments in the bit mask `live`."""
        read = {r for i, f in enumerate(self.formulas) if f and live >> i & 1 for r in f.reads}
        return [name in read for name in [*self.names[:count], "out"]]

    def __call__(self, *args, **kw):
        values, parents, live, bit, traced = [], [], 0, 1, False
        for a in args:
            if a.__class__ is ndarray:          # asked first: isinstance takes long to say no
                values.append(a)
                parents.append(None)
            elif isinstance(a, Tensor):
                traced = True
                values.append(a._array)
                node = a._node
                parents.append(node)
                if node is not None:
                    live |= bit
            else:
                values.append(a)
                parents.append(None)
            bit += bit
        cache = None
        try:
            out = self.forward(*values, **kw)
        except (ValueError, TypeError, IndexError) as error:
            raise _explained(error, self, values) from None
        if not traced:
            return out[0] if self.caches else out
        if self.caches:
            out, cache = out
        if out.__class__ is not ndarray and isinstance(out, np.generic):
            out = np.asarray(out)
        if not live or not state.recording or not self.differentiable:
            return Tensor(out)
        values.append(out)
        drops = self._drops.get(live + bit)
        if drops is None:
            drops = self._find_drops(live, bit)
        for i in drops:
            values[i] = None
        node = Node(self, parents, values, kw, cache, out.shape, out.dtype)
        if exposed:
            inplace.remember(node)
        return Tensor(out, node)

    def _find_drops(self, live: int, bit: int) -> tuple[int, ...]:
        """Which of the arguments and, last, the output no VJP will read. `bit` is one past the last argument's."""
        keep = self.saves(live, bit.bit_length() - 1)
        drops = self._drops[live + bit] = tuple(i for i, k in enumerate(keep) if not k)
        return drops

    def backward(self, node: Node, g, path: set[Node], create_graph: bool) -> list:
        """The cotangents of the arguments whose nodes are in `path`, None for the others."""
        saved = rewrapped(node) if create_graph else node.saved
        result = []
        for i, p in enumerate(node.parents):
            if p not in path:
                result.append(None)
            elif self.formulas[i] is None:
                raise TypeError(f"{self.name} has no derivative in its argument {self.names[i]!r}")
            else:
                result.append(self.formulas[i].call(g, saved, node, i))
        return result


class Variadic(Op):
    """An op of any number of arrays with one VJP, `formula(g, i, inputs, **keywords)`: the cotangent of argument number i.

    `inputs` are the arguments' shapes or, with `reads=True`, the arguments themselves.
    """

    def vjp(self, formula: Callable, *, reads: bool) -> None:
        self.differentiable, self.formula, self.reads, self.caches = True, formula, reads, True
        self.forward = _with_shapes(self.forward)

    def saves(self, live: int, count: int) -> list[bool]:
        return [self.reads] * count + [False]

    def backward(self, node: Node, g, path: set[Node], create_graph: bool) -> list:
        inputs = node.cache if not self.reads else rewrapped(node) if create_graph else node.saved
        return [self.formula(g, i, inputs, **node.kw) if p in path else None for i, p in enumerate(node.parents)]


def _with_shapes(forward: Callable) -> Callable:
    def run(*arrays, **kw):
        return forward(*arrays, **kw), [a.shape for a in arrays]
    return run


def _explained(error: Exception, op: Op, values: list) -> Exception:
    """The same kind of error, with the op's name and the arguments' shapes in front."""
    shown = ", ".join(f"{tuple(v.shape)} {v.dtype}" if hasattr(v, "shape") else repr(v) for v in values)
    text = f"{op.name}({shown}): {error}"
    try:
        return type(error)(text)
    except TypeError:       # some of NumPy's are not made from a text
        return TypeError(text)


def rewrapped(node: Node) -> list:
    """What the node saved, as Tensors that are tied to the graph again."""
    nodes = [*node.parents, node]
    return [Tensor(a, n) if n is not None and a is not None else a for a, n in zip(node.saved, nodes)]


class Tensor:
    """An array that remembers how it was made. Operators and the usual methods are attached by `scratchgan.methods`."""
    __slots__ = ("_array", "_node", "__weakref__")
    __array_ufunc__ = None          # ndarray + Tensor asks the Tensor

    def __init__(self, array, node: Node | None = None):
        self._array = array
        self._node = node

    @property
    def data(self):
        """The array itself (NumPy or CuPy). A write to it after a graph has saved it makes that graph's backward raise."""
        inplace.expose(self._array)
        return self._array

    @data.setter
    def data(self, array) -> None:
        array = array._array if isinstance(array, Tensor) else array
        if tuple(array.shape) != self.shape:
            raise ValueError(f"data: shape {tuple(array.shape)} does not replace {self.shape}")
        inplace.wrote(self._array)
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self):
        return self._array.dtype

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not self.is_leaf:
            raise RuntimeError("requires_grad: can be set on leaf tensors only; use detach()")
        if wanted and self.dtype.kind not in "fc":
            raise RuntimeError(f"requires_grad: only floating-point tensors have gradients, not {self.dtype}")
        if wanted != self.requires_grad:
            self._node = Leaf(self._array) if wanted else None

    @property
    def is_leaf(self) -> bool:
        return self._node is None or self._node.op is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has accumulated here; None before, and on tensors that are no leaves."""
        return self._node.grad if isinstance(self._node, Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self._node, Leaf):
            raise RuntimeError("grad: only a leaf tensor with requires_grad=True holds a gradient")
        if value is not None and value.shape != self.shape:
            raise ValueError(f"grad: shape {value.shape} is not the tensor's {self.shape}")
        self._node.grad = value

@Op
def alias(x):
    """x itself, at a node of its own."""
    return x


@partial(Op, broadcasts=True)       # so that the sweep casts the cotangent back
def cast(x, *, dtype):
    """x in another dtype."""
    return x.astype(dtype)


@Op
def sum_to(x, *, shape):
    """Sum over the axes along which `shape` was broadcast: the adjoint of `expand_to`."""
    new = x.ndim - len(shape)
    axes = [i + new for i, n in enumerate(shape) if n == 1 and x.shape[i + new] != 1]
    return total(x, (*range(new), *axes)).reshape(shape)


@Op
def expand_to(x, *, shape):
    """Repeat along axes of size 1 and new leading axes. A large result is a view."""
    if prod(shape) > 1024:
        return xp(x).broadcast_to(x, shape)
    out = xp(x).empty(shape, dtype=x.dtype)         # NumPy's broadcast_to takes five times as long as a small copy
    out[...] = x
    return out


alias.vjp(x=lambda g: g)
cast.vjp(x=lambda g: g)
sum_to.vjp(x=lambda g, shape: expand_to(g, shape=shape))
expand_to.vjp(x=lambda g, shape: sum_to(g, shape=shape))
