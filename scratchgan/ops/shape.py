"""Rearranging elements. All are linear, so that each VJP is the adjoint, which is again one of these."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import numpy as np

from scratchgan.backend import on_host, xp
from scratchgan.kernels import blocks
from scratchgan.kernels.blocks import copy, fill, large, over
from scratchgan.kernels.resample import empty_as
from scratchgan.tensor import Op, Variadic


@Op
def reshape(x, *, shape):
    """The elements in memory order under another shape, one entry of which may be -1."""
    if shape and min(shape) < -1:
        raise ValueError(f"shape is {shape}, expected sizes, one of which may be -1")
    return x.reshape(shape)


@Op
def permute(x, *, axes):
    """Axis number i of the result is axis axes[i] of x; axes are not negative."""
    return x.transpose(axes)


@Op
def flip(x, *, axes):
    """The elements in reverse order along the axes."""
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


@Op
def clone(x):
    """A copy in the same memory layout."""
    return copy(x, "K")


@Op
def contiguous(x):
    """x in memory order; itself where it is already."""
    return blocks.contiguous(x)


reshape.vjp(x=lambda g, shape: g.reshape(shape))
permute.vjp(x=lambda g, axes: permute(g, axes=inverse(axes)))
flip.vjp(x=lambda g, axes: flip(g, axes=axes))
clone.vjp(x=lambda g: g)
contiguous.vjp(x=lambda g: g)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def swap(x, i: int = -1, j: int = -2):
    """x with two axes exchanged; the transposed matrices by default."""
    if type(x) is np.ndarray:
        return x.swapaxes(i, j)
    axes = list(range(x.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return permute(x, axes=tuple(axes))


# Joining


@partial(Variadic, broadcasts=True)
def cat(*arrays, axis):
    """The arrays one after another along an axis that they have."""
    m = xp(arrays[0])
    if not _are_large(arrays):
        return m.concatenate(arrays, axis=axis)
    ends = list(accumulate(a.shape[axis] for a in arrays))
    shape, before = arrays[0].shape, (slice(None),) * axis
    out = m.empty((*shape[:axis], ends[-1], *shape[axis + 1:]), dtype=m.result_type(*arrays))
    for a, end in zip(arrays, ends):
        fill(out[(*before, slice(end - a.shape[axis], end))], a)
    return out


@partial(Variadic, broadcasts=True)
def stack(*arrays, axis):
    """The arrays one after another along a new axis."""
    m = xp(arrays[0])
    if not _are_large(arrays):
        return m.stack(arrays, axis=axis)
    shape, before = arrays[0].shape, (slice(None),) * axis
    out = m.empty((*shape[:axis], len(arrays), *shape[axis:]), dtype=m.result_type(*arrays))
    for i, a in enumerate(arrays):
        fill(out[(*before, i)], a)
    return out


def _are_large(arrays: tuple) -> bool:
    """Whether to share the copying among threads; the layers that join channels meet such arrays."""
    return all(large(a) and a.flags.c_contiguous for a in arrays)


def _part(g, i, shapes, axis):
    start = sum(shape[axis] for shape in shapes[:i])
    return getitem(g, index=(*[slice(None)] * axis, slice(start, start + shapes[i][axis])))


cat.vjp(_part, reads=False)
stack.vjp(lambda g, i, shapes, axis: getitem(g, index=(*[slice(None)] * axis, i)), reads=False)


# Indexing


@Op
def getitem(x, *, index):
    """x[index] by NumPy's rules, `index` a tuple."""
    if _is_rows(index) and on_host(x) and x.flags.c_contiguous:
        return x.take(index[0], axis=0)  # a third of the time for rows of 64 numbers
    return x[index]


@Op
def scatter(x, *, index, shape):
    """Zeros of `shape` with x added at `index`, places that occur repeatedly included: the adjoint of
    `getitem`.
    """
    m = xp(x)
    if not _may_repeat(index):
        out = m.zeros(shape, dtype=x.dtype)
        out[index] = x
        return out
    if on_host(x) and all(getattr(i, "ndim", 0) and i.dtype.kind in "iu" for i in index):
        return _rows_added(x, index, shape)
    size = math.prod(shape)
    places = m.arange(size).reshape(shape)[index].reshape(-1)
    return m.bincount(places, weights=x.reshape(-1), minlength=size).astype(x.dtype).reshape(shape)


OFTEN = 64  # rows for one place from which on elements are added one by one


def _rows_added(x: np.ndarray, index: tuple, shape: tuple[int, ...]) -> np.ndarray:
    """`scatter` for arrays of integers along the first axes, which are flattened to one."""
    place = np.intp(0)
    for i, n in zip(index, shape):
        place = place * n + i % np.intp(n)
    place, places, length = place.reshape(-1), *map(math.prod, (shape[: len(index)], shape[len(index) :]))
    out, rows = np.zeros((places, length), dtype=x.dtype), x.reshape(place.size, length)
    if length > 1 and _add_rounds(out, place, rows):
        return out.reshape(shape)
    elements = (place * length)[:, None] + np.arange(length)
    np.add.at(out.reshape(-1), elements.reshape(-1), rows.reshape(-1))
    return out.reshape(shape)


def _add_rounds(out: np.ndarray, place: np.ndarray, rows: np.ndarray) -> bool:
    """out[place[i]] += rows[i] for an `out` of zeros; False where more than OFTEN rows have one place.

    In rounds: the n-th takes the n-th row of each place that has so many. With the places that have most in
    front, the sums that a round adds to lie beside one another, as its rows do.
    """
    times = np.bincount(place, minlength=len(out))
    if times.max(initial=0) > OFTEN:
        return False
    most_first = _sorted(OFTEN - times, OFTEN)
    rank = np.empty_like(most_first)
    rank[most_first] = np.arange(len(out))
    by_place = _sorted(rank[place], len(out))
    times = times[most_first]
    nth = np.arange(place.size) - np.repeat(np.cumsum(times) - times, times)
    rows = rows.take(by_place[_sorted(nth, OFTEN)], axis=0)
    first, *others = np.split(rows, np.cumsum(np.bincount(nth))[:-1])
    for one in others:
        first[: len(one)] += one
    out[most_first[: len(first)]] = first
    return True


def _sorted(numbers: np.ndarray, limit: int) -> np.ndarray:
    """The order that sorts numbers below `limit`; NumPy is ten times as fast with 16 bits."""
    return numbers.astype(np.min_scalar_type(limit)).argsort(kind="stable")


def _is_rows(index: tuple) -> bool:
    """Whether the index is one array of integers, along the first axis."""
    return len(index) == 1 and getattr(index[0], "ndim", 0) > 0 and index[0].dtype.kind in "iu"


def _may_repeat(index: tuple) -> bool:
    return any(
        getattr(i, "dtype", None) is not None and i.ndim and i.dtype.kind in "iu" or isinstance(i, list)
        for i in index
    )


@partial(Op, broadcasts=True)
def setitem(x, value, *, index):
    """x with `value` in place of x[index]."""
    out = copy(x, "K")
    out[index] = value
    return out


getitem.vjp(x=lambda g, shape, index: scatter(g, index=index, shape=shape))
scatter.vjp(x=lambda g, index: getitem(g, index=index))
setitem.vjp(x=lambda g, index: setitem(g, 0, index=index), value=lambda g, index: getitem(g, index=index))


# Padding


@Op
def pad(x, *, widths, value):
    """x with widths[i] = (before, after) elements of `value` around its axis i, in x's memory order."""
    out = _widened(x, widths)

    def work(rows: slice) -> None:
        out[rows] = value
        out[rows][inside(widths, x[rows].shape)] = x[rows]

    _by_rows(out, widths, work)
    return out


def _widened(x, widths):
    """Memory for x with its borders, in x's memory order."""
    return empty_as(x, tuple(n + sum(w) for n, w in zip(x.shape, widths)))


def inside(widths, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where an array of `shape` lies once it is padded."""
    return tuple(slice(before, before + n) for (before, _), n in zip(widths, shape))


pad.vjp(x=lambda g, shape, widths: getitem(g, index=inside(widths, shape)))


@Op
def extend(x, *, widths, mode):
    """x with borders of widths[i] = (before, after) around its axis i that repeat what is in x.

    `mode` says what: "reflect" the elements next to the edge without the edge, outwards; "replicate" the
    edge; "circular" the elements next to the opposite edge.
    """
    out, borders = _widened(x, widths), _borders(widths, x.shape, mode)

    def work(rows: slice) -> None:
        part = out[rows]
        part[inside(widths, x[rows].shape)] = x[rows]
        for border, source in borders:
            part[border] = part[source]

    _by_rows(out, widths, work)
    return out


@Op
def fold_borders(y, *, widths, mode):
    """The adjoint of `extend`: borders added to what they repeat, and cut off."""
    out = empty_as(y, tuple(n - sum(w) for n, w in zip(y.shape, widths)))
    borders = _borders(widths, out.shape, mode)

    def work(rows: slice) -> None:
        part = y[rows].copy(order="K")
        for border, source in borders:
            added = part[border]
            if mode == "replicate":
                added = added.sum(axis=len(border) - 1, keepdims=True)
            part[source] += added
        out[rows] = part[inside(widths, out[rows].shape)]

    _by_rows(y, widths, work)
    return out


def _by_rows(a, widths, work: Callable[[slice], None]) -> None:
    """work(rows) for blocks of a's first axis, or for all of it at once where that has borders too."""
    if any(widths[0]):
        work(slice(None))
    else:
        over(a, lambda _, rows: work(rows))


def _borders(widths, shape: tuple[int, ...], mode: str) -> list[tuple[tuple, tuple]]:
    """Each border and what it repeats, places in the extended array; later axes repeat the borders of earlier
    ones too.
    """
    found = []
    for axis, ((before, after), n) in enumerate(zip(widths, shape)):
        end, everything = before + n, (slice(None),) * axis
        sources = {
            "reflect": (_backwards(before + 1, before), _backwards(end - 1 - after, after)),
            "replicate": (slice(before, before + 1), slice(end - 1, end)),
            "circular": (slice(n, n + before), slice(before, before + after)),
        }[mode]
        for border, source in zip((slice(0, before), slice(end, end + after)), sources):
            if border.start != border.stop:
                found.append(((*everything, border), (*everything, source)))
    return found


def _backwards(start: int, count: int) -> slice:
    """The places start + count - 1, ..., start."""
    return slice(start + count - 1, start - 1 if start else None, -1)


extend.vjp(x=lambda g, widths, mode: fold_borders(g, widths=widths, mode=mode))
fold_borders.vjp(y=lambda g, widths, mode: extend(g, widths=widths, mode=mode))
