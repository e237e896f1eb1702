"""Cross entropy of logits and classes, with its gradient: PyTorch's, the mean over what is not ignored.

For each of the entries i = (n, place) of x (N, C, ...), with p = softmax(x_i), target t_i, label smoothing s,
a weight w_c for each class (1 by default), and k_i = 0 where t_i is ignored, else 1,

    a_ic  = k_i ((1 - s) w_c [c = t_i] + s w_c / C)         A_i = sum_c a_ic
    count = sum_i k_i w_(t_i)
    value = sum_i sum_c a_ic (-log p_ic) / count
    dx_ic = (A_i p_ic - a_ic) / count,  0 where t_i is ignored

With z = x - max x, -log p_c = log(sum_j e^z_j) - z_c keeps its digits at logits of any size. Infinite logits
give what PyTorch makes of them, and so does a mean of nothing: NaN, with a gradient of 0. A target that is
neither ignored nor a class makes the count NaN. Values, dtypes and `scale` are as in `kernels/losses.py`.
"""

from __future__ import annotations

import numpy as np

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import gradient, wide


@kernel
def cross_entropy(x, target, weight=None, ignore_index: int = -100, label_smoothing: float = 0.0, scale=None):
    """The value, and dx, of logits x (N, C, ...) and integers `target` (N, ...); `weight` is (C,) or None."""
    check_classes(x, target, weight)
    m, z, C = xp(x), wide(x), x.shape[1]
    w = m.ones((C,), dtype=z.dtype) if weight is None else weight.astype(z.dtype, copy=False)
    w, classes = (a.reshape(1, C, *[1] * (x.ndim - 2)) for a in (w, m.arange(C)))
    kept = (target != ignore_index)[:, None]
    hit = kept & (classes == target[:, None])
    known = hit.any(axis=1) | ~kept[:, 0]
    count = m.where(known, (hit * w).sum(axis=1), np.nan).sum()
    a = hit * ((1 - label_smoothing) * w) + kept * (label_smoothing / C * w)
    total_a = a.sum(axis=1, keepdims=True)

    z = z - z.max(axis=1, keepdims=True)
    p = m.exp(z)
    total = p.sum(axis=1, keepdims=True)
    loss = (total_a * m.log(total)).sum() - (a * m.where(a == 0, 0, z)).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        dx = m.where(kept, (total_a * (p / total) - a) / count, 0)
        return loss / count, gradient(dx, scale, x.dtype, 1)


def check_classes(x, target, weight) -> None:
    """Raise a ValueError for shapes that don't fit together."""
    expected = (x.shape[0], *x.shape[2:])
    if target.shape != expected:
        raise ValueError(f"cross_entropy: target has shape {target.shape}, expected {expected}")
    if weight is not None and weight.shape != x.shape[1:2]:
        raise ValueError(f"cross_entropy: weight has shape {weight.shape}, expected {x.shape[1:2]}")
