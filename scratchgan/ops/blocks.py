"""Element-wise formulas over large host arrays: in blocks that stay in cache, on all worker threads.

NumPy computes a formula such as `g * (1 - out * out)` in one pass over memory per operation. Cut into blocks,
the intermediate results never leave the cache, and only the arguments and the result travel to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import Signature, signature
from itertools import pairwise

import numpy as np

from scratchgan import backend
from scratchgan.backend import on_host, parallel
from scratchgan.kernels.blocks import written_out
from scratchgan.ops import passes

LARGE = 1 << 20  # elements from which on blocks and threads pay
# Elements of a block: 1 MiB of float32. Larger ones leave the cache; with smaller ones the threads, which
# ask for the interpreter after every pass, wait for one another.
BLOCK = 1 << 18


def in_blocks(formula: Callable) -> Callable:
    """Make the element-wise `formula(x, *others, **settings)` run in blocks where x is a large host array.

    `others` are numbers and arrays that broadcast to x's shape. The result keeps x's memory layout. All else
    (Tensors, device arrays, small arrays) is handed to the formula as it is.
    """

    def run(x, *others, **settings):
        if type(x) is np.ndarray and x.size >= LARGE:
            return _large(formula, (x, *others), settings)
        return formula(x, *others, **settings)

    # One and two arguments spelled out: packing them costs small arrays as much as adding them.

    def run_one(x):
        if type(x) is np.ndarray and x.size >= LARGE:
            return _large(formula, (x,), {})
        return formula(x)

    def run_two(x, y):
        if type(x) is np.ndarray and x.size >= LARGE:
            return _large(formula, (x, y), {})
        return formula(x, y)

    parameters = signature(formula).parameters.values()
    settings = any(p.kind is p.KEYWORD_ONLY for p in parameters)
    return wraps(formula)(run if settings else {1: run_one, 2: run_two}.get(len(parameters), run))


def times(slope: Callable) -> Callable:
    """The VJP of an element-wise op: the cotangent g times `slope(*arrays, **settings)`, in blocks."""

    def vjp(g, *arrays, **settings):
        return g * slope(*arrays, **settings)

    g, *_ = signature(vjp).parameters.values()
    vjp.__signature__ = Signature([g, *signature(slope).parameters.values()])
    return in_blocks(vjp)


def in_rows(formula: Callable) -> Callable:
    """Make `formula(x, *others, axis=..., **settings)`, whose rows along the first axis have nothing to do
    with one another as long as `axis` does not name it, share them among threads if x is a large host array.

    `others` are arrays with as many rows as x.
    """

    @wraps(formula)
    def run(x, *others, axis, **settings):
        compute = partial(formula, axis=axis, **settings)
        if type(x) is not np.ndarray or x.size < LARGE or 0 in axis or backend.workers == 1:
            return compute(x, *others)
        n = len(x)
        one = compute(x[:1], *[a[:1] for a in others])
        result = np.empty_like(one, shape=(n, *one.shape[1:]))
        step = max(1, BLOCK * n // x.size)

        def work(part: slice) -> None:
            for start in range(part.start, part.stop, step):
                rows = slice(start, min(start + step, part.stop))
                result[rows] = compute(x[rows], *[a[rows] for a in others])

        parallel(n, work)
        return result

    return run


def _large(formula: Callable, arguments: tuple, settings: dict):
    """The formula of a large host array and others: in blocks where they broadcast to its shape."""
    operands = _operands(arguments)
    if operands is None:
        return formula(*arguments, **settings)
    return _run(formula, operands, settings)


def _operands(arguments: tuple) -> list | None:
    """The arguments, arrays with as many axes as the first, x; None where one is no number and does not broadcast
    to x's shape on the host.
    """
    x, found = arguments[0], []
    for a in arguments:
        if on_host(a) and a.ndim:
            if a.ndim > x.ndim or any(n not in (1, m) for n, m in zip(a.shape[::-1], x.shape[::-1])):
                return None
            a = a.reshape((1,) * (x.ndim - a.ndim) + a.shape)
        elif on_host(a):
            a = a[()]
        elif not isinstance(a, (int, float, np.generic)):
            return None
        found.append(a)
    return found


def _run(formula: Callable, operands: list, settings: dict) -> np.ndarray:
    """The formula block by block, along the axis that is outermost in memory."""
    program = passes.read(formula, tuple(map(passes.kind, operands)), tuple(settings.items()))
    shape = operands[0].shape
    like = next((a for a in operands if np.shape(a) == shape and 0 not in a.strides), operands[0])
    result = np.empty_like(like, dtype=program.dtype)
    order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    arrays = [a.transpose(order) if np.ndim(a) else a for a in (result, *operands)]
    if all(a.shape == arrays[0].shape and a.flags.c_contiguous for a in arrays if np.ndim(a)):
        arrays = [a.reshape(-1) if np.ndim(a) else a for a in arrays]  # one run of memory each
    n, *rest = arrays[0].shape
    arrays = [written_out(a, arrays[0]) if np.ndim(a) else a for a in arrays]
    step = n if program.one_pass else min(n, max(1, BLOCK * n // result.size))
    errors = {**np.geterr(), **program.ignored}

    def work(part: slice) -> None:
        memory = program.memory((step, *rest))
        cuts = _cuts(arrays[0], part, step)
        with np.errstate(**errors):
            for start, stop in pairwise(cuts):
                out, *blocks = [
                    a[start:stop] if np.ndim(a) and len(a) == n else a  # a single row broadcasts
                    for a in arrays
                ]
                program.run(blocks, out, memory)

    parallel(n, work)
    return result


def _cuts(out: np.ndarray, part: slice, step: int) -> list[int]:
    """Where to cut this part of `out`, at the beginnings of cache lines if it is one run of memory."""
    head = (-passes.address(out[part]) % passes.LINE) // out.itemsize if out.ndim == 1 else 0
    return [part.start, *range(part.start + (head or step), part.stop, step), part.stop]
