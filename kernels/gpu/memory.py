"""Memory of the arrays that kernels read and write: what is covered, in which order it lies, where results go."""

from __future__ import annotations

import math

from scratchgan.backend import xp
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import NotCovered

FLOATS = ("float16", "bfloat16", "float32", "float64")
LARGEST = 2**31 - 2**16  # numbers of an array: offsets are 32 bits, also where the last tile juts out


def demand(*arrays, dtypes: tuple[str, ...] = FLOATS) -> None:
    """Raise NotCovered for arrays of other dtypes, or with offsets beyond 32 bits."""
    for array in arrays:
        if array.dtype.name not in dtypes:
            raise NotCovered(f"dtype {array.dtype.name}: expected one of {', '.join(dtypes)}")
        if array.size > LARGEST:
            raise NotCovered(f"{array.size} numbers of shape {array.shape}: expected at most {LARGEST}")


def demand_alike(*arrays) -> None:
    """Raise NotCovered for arrays whose dtype is not that of the first."""
    for array in arrays:
        if array.dtype != arrays[0].dtype:
            raise NotCovered(f"dtypes {arrays[0].dtype.name} and {array.dtype.name}: expected one dtype")


def demand_numbers(*arrays) -> None:
    """Raise NotCovered for what is neither None nor an array of one floating-point number."""
    for array in arrays:
        if array is not None:
            demand(array)
            if array.size != 1:
                raise NotCovered(f"an array of shape {array.shape}: expected one number")


def empty(like, shape: tuple[int, ...], dtype=None):
    """New memory beside `like`, for results and workspaces of every launcher."""
    return allocate(xp(like), shape, like.dtype if dtype is None else dtype)


def allocate(module, shape: tuple[int, ...], dtype):
    """Uninitialised memory of NumPy or CuPy; tests put in its place memory full of NaN between guarded margins."""
    return module.empty(shape, dtype=dtype)


def order(array) -> list[int]:
    """The axes of `array` from the one with the longest step in memory to the one with the shortest."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def empty_like(array, shape: tuple[int, ...] | None = None):
    """New memory in the memory order of `array`, without gaps, of its shape or another."""
    axes = order(array)
    shape = array.shape if shape is None else shape
    return back(empty(array, tuple(shape[i] for i in axes)), axes)


def gapless(*arrays) -> list:
    """Arrays of one shape, all in the memory order of the first and without gaps; copies only where need be."""
    axes = order(arrays[0])
    return [in_order(a, axes) for a in arrays]


def in_order(array, axes: list[int]):
    """`array` without gaps, its axes in memory in the order `axes`; a copy only where need be."""
    return back(contiguous(array.transpose(axes)), axes)


def inner(array, axis: int) -> int:
    """How many numbers a gapless array has from one index of `axis` to the next."""
    axes = order(array)
    return math.prod(array.shape[i] for i in axes[axes.index(axis % array.ndim) + 1 :])


def back(array, axes: list[int]):
    """The array whose `transpose(axes)` is `array`."""
    return array.transpose([axes.index(i) for i in range(array.ndim)])
