"""One spatial axis of a convolution as its kernels know it, and what their launchers share.

A kernel takes an Axis as one constant and reads its fields, AXIS.stride: loops over taps then have known ends, and
divisions by strides are shifts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import triton
import triton.language as tl

from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.launch import Argument, dot_precision

PROCESSORS = 132  # multiprocessors of an H200: fewer programs leave some of them idle


class Axis(NamedTuple):
    """Tap r of window i reads x at stride i + dilation r - padding.

    With e = gcd(stride, dilation): the taps that read one phase of x are step = stride / e apart, what they read is
    spread = dilation / e windows apart, and inverse spread = 1 mod step.
    """

    taps: int
    stride: int
    padding: int
    dilation: int
    step: int
    spread: int
    inverse: int


def axes(geometry: Geometry) -> tuple[Axis, Axis]:
    """The axes of rows and of columns. (pow(a, -1, 1) is 0.)"""
    found = []
    for taps, stride, padding, dilation in zip(
        geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
    ):
        common = math.gcd(stride, dilation)
        step, spread = stride // common, dilation // common
        found.append(Axis(taps, stride, padding, dilation, step, spread, pow(spread, -1, step)))
    return tuple(found)


@triton.jit
def within(i, size):
    """0 <= i < size, in one comparison."""
    return i.to(tl.uint32) < tl.cast(size, tl.uint32)


def fetched(*arrays) -> bool:
    """Whether Hopper's copy engine can fetch these contiguous arrays: all steps in memory are of whole 16 bytes."""
    return all(
        a.size and Argument(a).data_ptr() % 16 == 0 and a.shape[-1] * a.itemsize % 16 == 0 for a in arrays
    )


def products(dtype) -> str:
    """How products of `dtype` are taken: "half", "tf32", "ieee" or "double"."""
    if dtype.itemsize == 2:
        return "half"
    return "double" if dtype.itemsize == 8 else dot_precision()


def side(size: int, most: int) -> int:
    """The side of a tile for `size` numbers: a power of two, 16 at least, as tl.dot demands, and `most` at most."""
    return max(16, min(most, triton.next_power_of_2(max(1, size))))


def whole(size: int) -> int:
    """The largest power of two that divides `size`: steps as long end where it ends."""
    return size & -size


def key(x, g, rows: Axis, columns: Axis, groups: int) -> str:
    """The name of a shape in the tables of tuned configurations."""
    numbers = (g.shape[0], x.shape[3], g.shape[3], *x.shape[1:3], *g.shape[1:3], rows.taps, columns.taps)
    words = zip(("N", "C", "K", "H", "W", "P", "Q", "R", "S"), numbers)
    return " ".join([g.dtype.name, *(f"{name}{number}" for name, number in words), f"groups {groups}"])
