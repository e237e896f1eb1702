"""One spatial axis of a convolution as its kernels know it, and what their launchers share.

A kernel takes an Axis as one constant and reads its fields, AXIS.stride: loops over taps then have known ends, and
divisions by strides are shifts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import triton
import triton.language as tl
from scratchgan.kernels.conv import Geometry
from scratchgan.kernels.gpu.launch import dot_precision

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
