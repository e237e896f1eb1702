"""Element-wise formulas over large host arrays: in blocks that stay in cache, on all worker threads.

NumPy computes a formula such as `g * (1 - out * out)` in one pass over memory per operation. Cut into blocks,
the intermediate results never leave the cache, and only the arguments and the result travel to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import signature

import numpy as np

from scratchgan.backend import on_host, parallel

LARGE = 1 << 17  # elements from which on blocks pay
BLOCK = 1 << 15  # elements of a block: 128 KiB of float32; a handful of them fits one core's L2


def in_blocks(formula: Callable) -> Callable:
    """Make the element-wise `formula(x, *others, **settings)` run in blocks where its arrays are large and on
    the host.

    `others` are numbers and arrays of x's shape. The result keeps x's memory layout. All else (Tensors,
    device arrays, small, broadcasting or strided arrays) is handed to the formula as it is. A formula with a
    keyword `into` gets the place of its result there, and spares a copy by writing to it.
    """
    writes = "into" in signature(formula).parameters

    @wraps(formula)
    def run(x, *others, **settings):
        if type(x) is np.ndarray and x.size >= LARGE:
            order = _memory_order(x)
            flat = [_flat(a, x.shape, order) for a in (x, *others)]
            if all(a is not None for a in flat):
                dtype = formula(*[_block(a, 0, 0) for a in flat], **settings).dtype
                result = np.empty_like(x, dtype=dtype)
                _run(partial(formula, **settings), flat, _flat(result, x.shape, order), writes)
                return result
        return formula(x, *others, **settings)

    return run


def _memory_order(x: np.ndarray) -> list[int]:
    """The axes of x, the one with the largest stride first."""
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


def _flat(a, shape: tuple[int, ...], order: list[int]):
    """The memory of `a` as one run, a number as itself, None where neither is possible."""
    if isinstance(a, (int, float)):
        return a
    if not on_host(a) or a.shape != shape:
        return None
    a = a.transpose(order)
    return a.reshape(-1) if a.flags.c_contiguous else None


def _block(a, start: int, stop: int):
    return a[start:stop] if on_host(a) else a


def _run(formula: Callable, arguments: list, out: np.ndarray, writes: bool) -> None:
    def work(part: slice) -> None:
        for start in range(part.start, part.stop, BLOCK):
            stop = min(start + BLOCK, part.stop)
            blocks = [_block(a, start, stop) for a in arguments]
            if writes:
                formula(*blocks, into=out[start:stop])
            else:
                out[start:stop] = formula(*blocks)

    parallel(out.size, work)
