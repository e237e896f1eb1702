"""What the references of losses share: means of float16 and bfloat16 in float32, and their gradients."""

from __future__ import annotations

import numpy as np

from scratchgan.backend import xp


def accumulated(dtype) -> np.dtype:
    """What sums of `dtype` are kept in: float32, or float64 for float64."""
    return np.dtype("float64" if dtype.name == "float64" else "float32")


def wide(a):
    """`a` in the dtype of its sums."""
    return a.astype(accumulated(a.dtype), copy=False)


def mean(loss):
    """The mean of all numbers; NaN, without a warning, where there are none."""
    return loss.mean() if loss.size else xp(loss).full((), np.nan, dtype=loss.dtype)


def gradient(slope, scale, dtype, count: int | None = None):
    """slope / count, times the one number in the array `scale` if there is one, in `dtype`.

    `count` is how many numbers the mean is of, by default slope's. What exceeds float16 becomes infinite:
    that is how a loss scale is found to be too large.
    """
    d = slope / max(1, slope.size if count is None else count)
    d = d if scale is None else d * scale.reshape(())
    with np.errstate(over="ignore"):
        return d.astype(dtype, copy=False)


def check_shapes(name: str, a, b) -> None:
    """Raise a ValueError for arrays that are no pairs: NumPy would broadcast (N,) and (N, 1)."""
    if a.shape != b.shape:
        raise ValueError(f"{name}: arrays of shapes {a.shape} and {b.shape}, expected equal ones")
