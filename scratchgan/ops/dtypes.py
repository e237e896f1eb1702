"""PyTorch's rules for mixed dtypes, where NumPy's differ.

- A function that answers in floating-point numbers takes integers and booleans as float32.
- Floating-point numbers beat integers whatever their widths: int64 and float32 give float32.
- A tensor with axes beats one without: float32 of shape (3,) and float64 of shape () give float32.
"""

from __future__ import annotations

import numpy as np


def floating(x):
    """x itself where it holds floating-point numbers, otherwise as float32. Python numbers pass."""
    dtype = getattr(x, "dtype", None)
    return x if dtype is None or dtype.kind in "fc" else x.astype(np.float32)


def alike(a, b):
    """The arguments of a binary operation, cast where NumPy would not find PyTorch's dtype."""
    left, right = getattr(a, "dtype", None), getattr(b, "dtype", None)
    if left is right:
        return a, b
    if left is None:
        return a, floating(b) if isinstance(a, float) else b
    if right is None:
        return floating(a) if isinstance(b, float) else a, b
    dtype = _common(a, b)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


RANKS = {"b": 0, "u": 1, "i": 1}  # of a dtype's kind; floating-point numbers come after


def _common(a, b) -> np.dtype:
    left, right = RANKS.get(a.dtype.kind, 2), RANKS.get(b.dtype.kind, 2)
    higher, rank = (a, left) if left > right else (b, right)
    if left != right and (rank == 2 or a.ndim == b.ndim == 0):
        return higher.dtype
    if left == right and (a.ndim == 0) != (b.ndim == 0):
        return a.dtype if a.ndim else b.dtype
    return np.promote_types(a.dtype, b.dtype)
