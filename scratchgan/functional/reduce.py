"""Reductions under PyTorch's names and argument forms: `dim` is one axis, several, or None for all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scratchgan.functional import dims
from scratchgan.functional.shape import gather, squeeze
from scratchgan.ops import reduce as ops
from scratchgan.ops.elementwise import absolute, maximum, minimum, ne
from scratchgan.tensor import cast

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "softmax",
    "std",
    "sum",
    "var",
]

Dim = int | Sequence[int] | None


def _typed(input, dtype):
    return input if dtype is None or input.dtype == dtype else cast(input, dtype=dtype)


def sum(input, dim: Dim = None, keepdim: bool = False, *, dtype=None):
    """The sum over `dim`; of integers and booleans in int64."""
    input = _typed(input, "int64" if dtype is None and input.dtype.kind in "bui" else dtype)
    return ops.sum(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def mean(input, dim: Dim = None, keepdim: bool = False, *, dtype=None):
    """The mean over `dim`; NaN where there is nothing to average."""
    input = _typed(input, dtype)
    return ops.mean(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def _spread_arguments(dim, unbiased, correction) -> tuple:
    """var(x, False) and var(x, unbiased=False) mean correction 0."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return dim, 1 if correction is None else correction


def var(
    input,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
):
    """sum (input - mean)^2 / (n - correction) over `dim`. `unbiased` says correction 1 or 0."""
    dim, correction = _spread_arguments(dim, unbiased, correction)
    return ops.var(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim, correction=correction)


def std(
    input,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
):
    """The square root of `var`."""
    dim, correction = _spread_arguments(dim, unbiased, correction)
    return ops.std(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim, correction=correction)


def amax(input, dim: Dim = (), keepdim: bool = False):
    """The largest element over `dim`; elements that tie share the gradient evenly."""
    return ops.amax(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def amin(input, dim: Dim = (), keepdim: bool = False):
    """The smallest element over `dim`; elements that tie share the gradient evenly."""
    return ops.amin(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def all(input, dim: Dim = None, keepdim: bool = False):
    """Whether every element over `dim` differs from 0."""
    return ops.all(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def any(input, dim: Dim = None, keepdim: bool = False):
    """Whether some element over `dim` differs from 0."""
    return ops.any(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def argmax(input, dim: int | None = None, keepdim: bool = False):
    """The place of the first largest element along `dim`, or in the flattened input."""
    return ops.argmax(input, axis=None if dim is None else dims.one(dim, input.ndim), keepdims=keepdim)


def argmin(input, dim: int | None = None, keepdim: bool = False):
    """The place of the first smallest element along `dim`, or in the flattened input."""
    return ops.argmin(input, axis=None if dim is None else dims.one(dim, input.ndim), keepdims=keepdim)


def _extreme(name: str, input, dim, keepdim: bool, whole, place, pairwise):
    """The three forms of max and min: over everything, of two tensors, and along one axis with the places."""
    if dim is None:
        return whole(input)
    if isinstance(dim, (tuple, list)):
        raise TypeError(f"{name}: dim is {dim!r}, expected an int; a{name} takes several")
    if not hasattr(dim, "__index__") or hasattr(dim, "dtype"):
        return pairwise(input, dim)
    at = place(input, dim, keepdim=True)
    values = gather(input, dim, at)
    return (values, at) if keepdim else (squeeze(values, dim), squeeze(at, dim))


def max(input, dim=None, keepdim: bool = False):
    """max(x): the largest element. max(x, y): element-wise. max(x, dim): (values, places), the gradient to
    the first of a tie.
    """
    return _extreme("max", input, dim, keepdim, amax, argmax, maximum)


def min(input, dim=None, keepdim: bool = False):
    """min(x): the smallest element. min(x, y): element-wise. min(x, dim): (values, places), the gradient to
    the first of a tie.
    """
    return _extreme("min", input, dim, keepdim, amin, argmin, minimum)


def logsumexp(input, dim: Dim, keepdim: bool = False):
    """log sum e^input over `dim`, without overflow."""
    return ops.logsumexp(input, axis=dims.reduced(dim, input.ndim), keepdims=keepdim)


def softmax(input, dim: int, *, dtype=None):
    """e^input / sum e^input along `dim`."""
    return ops.softmax(_typed(input, dtype), axis=dims.some(dim, input.ndim))


def log_softmax(input, dim: int, *, dtype=None):
    """log softmax(input) along `dim`, without underflow."""
    return ops.log_softmax(_typed(input, dtype), axis=dims.some(dim, input.ndim))


def norm(input, p: float | str = "fro", dim: Dim = None, keepdim: bool = False, dtype=None):
    """(sum |x|^p)^(1/p) over `dim`: "fro" is 2, inf and -inf the extremes of |x|, 0 the number of elements
    that are not 0.
    """
    input, axis = _typed(input, dtype), dims.reduced(dim, input.ndim)
    if p in ("fro", 2):
        return ops.norm2(input, axis=axis, keepdims=keepdim)
    if isinstance(p, str):
        raise ValueError(f"norm: p is {p!r}, expected a number or 'fro'")
    if p == 0:
        return ops.sum(cast(ne(input, 0), dtype=input.dtype), axis=axis, keepdims=keepdim)
    if p == 1:
        return ops.sum(absolute(input), axis=axis, keepdims=keepdim)
    if math.isinf(p):
        return (ops.amax if p > 0 else ops.amin)(absolute(input), axis=axis, keepdims=keepdim)
    return ops.norm_p(input, p=p, axis=axis, keepdims=keepdim)
