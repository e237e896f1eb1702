"""Cutting host arrays into blocks of rows that stay in the processor's cache, and sharing the blocks among
threads.

Where blocks are cut does not depend on the number of threads, so results are the same bits on any machine
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product, takewhile

from scratchgan.backend import on_host, parallel, xp

BLOCK = 1 << 18  # numbers per block: with fewer, threads wait for one another after every pass
SHORT = 4  # indices along an axis up to which each may be copied by itself
SMALL = 1 << 13  # numbers below which looking for the better loop takes longer than the worse one
RUNS = 1 << 20  # numbers from which on threads help to copy runs of memory; transposed ones: more than a block


def blocks(a) -> list[slice]:
    """Slices of a's first axis, some BLOCK numbers each; one slice on a device, where one launch is best."""
    n = a.shape[0]
    step = max(1, BLOCK * n // max(1, a.size)) if on_host(a) else max(1, n)
    return [slice(i, min(i + step, n)) for i in range(0, max(1, n), step)]


def large(a) -> bool:
    """Whether `over` makes more than one block of `a`, an array on the host with a first axis."""
    return a.ndim > 0 and on_host(a) and a.size > BLOCK


def over(a, work: Callable[[int, slice], None]) -> None:
    """work(number of the block, its rows) for every block of `a`, on threads if `a` is on the host."""
    cuts = blocks(a)

    def some(part: slice) -> None:
        for i in range(part.start, part.stop):
            work(i, cuts[i])

    if on_host(a):
        parallel(len(cuts), some)
    else:
        some(slice(0, len(cuts)))


def written_out(row, a):
    """A row that all rows of `a` share, itself or without axes along which it is to be broadcast.

    Those cut the runs of memory that NumPy's loops go along. It copies runs of less than its buffer (8192
    numbers) to lengthen them, and takes three times as long.
    """
    if row.shape[0] != 1 or row.shape[1:] == a.shape[1:] or a.shape[0] == 1 or not on_host(a):
        return row
    whole = xp(a).empty_like(a[:1], dtype=row.dtype)
    whole[...] = row
    return whole


def fill(target, source) -> None:
    """target[...] = source, for a source of target's shape, by all threads where that is large."""
    short = _short_axes(target, source) if on_host(target) else []

    def work(_, rows: slice) -> None:
        _assign(target[rows], source[rows], short)

    if large(target) and (target.size > RUNS or _innermost(target) != _innermost(source)):
        over(target, work)
    else:
        _assign(target, source, short)


def _short_axes(target, source) -> list[int]:
    """Axes whose indices are better copied one by one: NumPy's inner loop runs along the target's innermost axis,
    and where that and perhaps the next ones are short, and not the source's, this makes fewer and longer loops.
    """
    order = _from_within(target)
    short = list(takewhile(lambda axis: target.shape[axis] <= SHORT, order))
    times = math.prod(target.shape[axis] for axis in short)
    if len(short) == len(order) or target.shape[order[len(short)]] <= times or _innermost(source) == order[0]:
        return []
    return short


def _assign(target, source, short: list[int]) -> None:
    """target[...] = source, each index of the `short` axes by itself."""
    if not short:
        target[...] = source
        return
    for at in product(*(range(n) if axis in short else [slice(None)] for axis, n in enumerate(target.shape))):
        target[at] = source[at]


def _from_within(a) -> list[int]:
    """The axes, the one along which numbers are nearest to one another first."""
    return sorted(range(a.ndim), key=lambda i: (a.shape[i] == 1, abs(a.strides[i])))


def _innermost(a) -> int:
    return _from_within(a)[0]


def contiguous(a):
    """a in memory order; itself where it is already."""
    return a if a.flags.c_contiguous else copy(a, "C")


def copy(a, order: str):
    """a.copy(order=order)."""
    if not on_host(a) or a.size < SMALL:
        return a.copy(order=order)
    new = xp(a).empty_like(a, order=order)
    fill(new, a)
    return new
