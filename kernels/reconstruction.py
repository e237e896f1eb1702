"""Mean errors of pixels and features, with their gradient, in one pass over both inputs.

With d = a - b and the mean over all numbers,

    mse_loss            mean d^2                                            da = 2 d / n
    l1_loss             mean |d|                                            da = sign(d) / n, 0 where d = 0
    smooth_l1_loss      mean of d^2 / (2 beta) where |d| < beta,            da = clip(d / beta, -1, 1) / n
                        |d| - beta / 2 elsewhere; beta > 0

and db = -da. Values, dtypes and `scale` are as in `kernels/losses.py`; d is taken in the precision of the
sums.
"""

from __future__ import annotations

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import check_shapes, gradient, mean, wide


@kernel
def mse_loss(a, b, scale=None):
    """mean (a - b)^2, and da."""
    d = _difference("mse_loss", a, b)
    return mean(d * d), gradient(2 * d, scale, a.dtype)


@kernel
def l1_loss(a, b, scale=None):
    """mean |a - b|, and da."""
    d = _difference("l1_loss", a, b)
    return mean(abs(d)), gradient(xp(d).sign(d), scale, a.dtype)


@kernel
def smooth_l1_loss(a, b, beta: float = 1.0, scale=None):
    """The mean of (a - b)^2 / (2 beta) where |a - b| < beta, |a - b| - beta / 2 elsewhere; and da."""
    d = _difference("smooth_l1_loss", a, b)
    slope = xp(d).clip(d / beta, -1, 1)
    return mean(slope * (d - (beta / 2) * slope)), gradient(slope, scale, a.dtype)


def _difference(name: str, a, b):
    check_shapes(name, a, b)
    return wide(a) - wide(b)
