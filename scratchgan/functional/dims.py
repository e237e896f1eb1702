"""PyTorch's dimension arguments (one number, several, none; negative ones count from the end) as the tuples
that ops take.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as integer


def one(dim: int, ndim: int) -> int:
    """`dim` as a number from 0 on; IndexError where an array of `ndim` axes has none such."""
    n = max(1, ndim)  # an array without axes takes 0 and -1
    d = integer(dim)
    if not -n <= d < n:
        raise IndexError(f"dim {d} is out of range: expected {-n} <= dim < {n}")
    return d % n


def some(dim: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """One dimension or several, in the order given; ValueError where one is named twice."""
    if hasattr(dim, "__index__"):
        axis = one(dim, ndim)
        return (axis,) if ndim else ()
    axes = tuple([one(d, ndim) for d in dim])
    if len(set(axes)) != len(axes):
        raise ValueError(f"dim {tuple(dim)} names an axis twice")
    return axes if ndim else ()


def reduced(dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """What a reduction over `dim` takes away: all axes where it is None or empty."""
    if dim is None or dim == () or dim == []:
        return tuple(range(ndim))
    return some(dim, ndim)


def spread(sizes: tuple) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) alike."""
    if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
        sizes = sizes[0]
    return tuple([integer(n) for n in sizes])
