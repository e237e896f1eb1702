"""Arrays of any number of axes as the four digits of an offset, which is all that reductions and broadcasts
need.

In memory order, and with neighbours of the same kind merged, the arrays of all normalisations and sums are

    x[k0, r0, k1, r1]  at  ((k0 R0 + r0) K1 + k1) R1 + r1,        k kept, r summed over, some of size 1:

    batch norm     N H W C: r0 = n h w, k1 = c                    N C H W: r0 = n, k1 = c, r1 = h w
    instance norm  N H W C: k0 = n, r0 = h w, k1 = c              N C H W: k1 = n c, r1 = h w
    layer norm     N H W C: k1 = n, r1 = h w c                    N C H W: k1 = n, r1 = c h w
    group norm     N H W C: k0 = n, r0 = h w, k1 = group, r1 = channel in it

Kernels that only broadcast take the digits (d0, d1 | d2, d3) as planes of rows d1 and columns (d2, d3)
instead. An operand, a mean or a weight, has some of x's digits and is broadcast along the others: its ON says
which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.memory import back, order

Digits = tuple[int, int, int, int]
On = tuple[bool, bool, bool, bool]


class InOrder:
    """Arrays that broadcast against x, as they lie when their axes stand in x's memory order.

    Calling it gives an array, or None, transposed so and without gaps; `out` is for results. `kept` says
    which axes, in memory order, are not `summed`. Where these alternate too often for the digits, they come
    last instead, at the price of a copy.
    """

    def __init__(self, x, summed: Iterable[int] = ()):
        self.x, self.axes, summed = x, order(x), {i % x.ndim for i in summed}
        runs = merged([x.shape[i] for i in self.axes], [i not in summed for i in self.axes])
        if len(runs) > 4 or len(runs) == 4 and runs[-1][1][0]:  # K R K R is the longest
            self.axes.sort(key=lambda i: i in summed)
        self.kept = [i not in summed for i in self.axes]

    def __call__(self, array):
        if array is None:
            return None
        array = array.reshape((1,) * (self.x.ndim - array.ndim) + array.shape)
        return contiguous(array.transpose(self.axes))

    def out(self, array):
        """A result, in memory order, with its axes where the caller expects them."""
        return back(array, self.axes)


def merged(shape: Sequence[int], *patterns: Iterable[bool]) -> list[tuple[int, tuple[bool, ...]]]:
    """The axes of `shape` that are not 1, as (size, its value in each pattern); equal neighbours are one."""
    axes = [(n, marks) for n, *marks in zip(shape, *patterns) if n != 1]
    return [(math.prod(n for n, _ in run), tuple(marks)) for marks, run in groupby(axes, lambda a: a[1])]


def for_sums(shape: Sequence[int], kept: Sequence[bool], *operands) -> tuple[Digits, list[On]]:
    """(K0, R0, K1, R1) of arrays of `shape`, whose axes `kept` stay, and the ON of each operand (or None)."""
    digits: list = [(1, (False,) * (1 + len(operands)))] * 4
    place = 4
    for group in reversed(merged(shape, kept, *(varies(a, shape) for a in operands))):
        place -= 1 if place % 2 == group[1][0] else 2  # kept ones stand at 0 and 2, summed ones at 1 and 3
        if place < 0:
            raise NotCovered(f"sums of shape {tuple(shape)}, in memory order, over too many runs of axes")
        digits[place] = group
    sizes, marks = zip(*digits)
    return sizes, [tuple(m[1 + i] for m in marks) for i in range(len(operands))]


def for_planes(shape: Sequence[int], *operands) -> tuple[Digits, list[On]]:
    """(D0, D1, D2, D3) of arrays of `shape`, planes of rows d1, columns (d2, d3), and each operand's ON."""
    groups = merged(shape, *(varies(a, shape) for a in operands))
    if len(groups) > 4:
        raise NotCovered(f"operands that vary along {len(groups)} runs of axes: expected at most 4")
    one = (1, (False,) * len(operands))
    if len(groups) == 4:
        digits = groups
    else:  # the last ones are (d0, d1, d3); a plane of one row of columns has no d2
        first, second, last = [one] * (3 - len(groups)) + groups
        digits = [first, second, (1, last[1]), last]
    sizes, marks = zip(*digits)
    return sizes, [tuple(m[i] for m in marks) for i in range(len(operands))]


def varies(operand, shape: Sequence[int]) -> list[bool]:
    """Along which axes the operand varies; along none, if it is None."""
    return [operand is not None and operand.shape[i] != 1 for i in range(len(shape))]


def reduced(sizes: Digits) -> str:
    """Which of the digits (K0, R0, K1, R1) sums run over: "outer", r0; "inner", r1, contiguous; or "both"."""
    _, R0, _, R1 = sizes
    return "outer" if R1 == 1 else "inner" if R0 == 1 else "both"


def tile(rows: int, columns: int, block: int, width: int) -> tuple[int, int]:
    """The edges of a tile of at most `block` numbers, no larger than need be, and at most `width` wide if
    there are rows to fill it."""
    columns = triton.next_power_of_2(max(1, columns))
    rows = min(triton.next_power_of_2(max(1, rows)), block // min(columns, width))
    return rows, min(columns, block // rows)


def chunks(wanted: int, R: int, block: int) -> tuple[int, int]:
    """In how many chunks (about `wanted`), of how many numbers, R is cut: 4 steps of `block` each, or more."""
    count = max(1, min(wanted, R // (4 * block)))
    per = max(1, triton.cdiv(triton.cdiv(R, count), block)) * block
    return max(1, triton.cdiv(R, per)), per


# In kernels


@triton.jit
def kept_digits(K0, K1, BLOCK_K: tl.constexpr):
    """(chunk, k0, vector of k1) of this program: the tile of k1 runs fastest, the chunk slowest."""
    program = tl.program_id(0)
    tiles = tl.cdiv(K1, BLOCK_K)
    k1 = program % tiles * BLOCK_K + tl.arange(0, BLOCK_K)
    return program // tiles // K0, program // tiles % K0, k1


@triton.jit
def at_number(k0, r, k1, SIZES, REDUCED: tl.constexpr):
    """Where x[k0, r0, k1, r1] lies, r counting through (r0, r1)."""
    _, R0, K1, R1 = SIZES
    if REDUCED == "outer":
        at = (k0 * R0 + r) * K1 + k1
    elif REDUCED == "inner":
        at = (k0 * K1 + k1) * R1 + r
    else:
        at = ((k0 * R0 + r // R1) * K1 + k1) * R1 + r % R1
    return at


@triton.jit
def load_beside(P, k0, r, k1, r_inside, k1_inside, SIZES, REDUCED: tl.constexpr, ON: tl.constexpr):
    """The operand's numbers beside x[k0, r0, k1, r1]; of size 1 where it does not vary."""
    _, R0, K1, R1 = SIZES
    at, inside = tl.zeros((1, 1), tl.int32), tl.full((1, 1), True, tl.int1)
    if ON[0]:
        at += k0
    if ON[1]:
        at, inside = at * R0 + (r // R1 if REDUCED == "both" else r), inside & r_inside
    if ON[2]:
        at, inside = at * K1 + k1, inside & k1_inside
    if ON[3]:
        at, inside = at * R1 + (r % R1 if REDUCED == "both" else r), inside & r_inside
    return tl.load(P + at, mask=inside, other=0)


@triton.jit
def load_on_plane(P, d0, m, n, m_inside, n_inside, SIZES, ON: tl.constexpr):
    """The operand's numbers for rows m and columns n of plane d0; of size 1 where it does not vary."""
    _, D1, D2, D3 = SIZES
    at, inside = tl.zeros((1, 1), tl.int32), tl.full((1, 1), True, tl.int1)
    if ON[0]:
        at += d0
    if ON[1]:
        at, inside = at * D1 + m, inside & m_inside
    if ON[2] and ON[3]:
        at, inside = at * D2 * D3 + n, inside & n_inside
    elif ON[2]:
        at, inside = at * D2 + n // D3, inside & n_inside
    elif ON[3]:
        at, inside = at * D3 + n % D3, inside & n_inside
    return tl.load(P + at, mask=inside, other=0)
