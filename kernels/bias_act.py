"""Bias and activation in one pass (the `bias_act` of StyleGAN), and its derivatives, on arrays.

With c the index along the channel axis, gain a and activation f,

    y = a f(u),    u = x + b[c]                                                    (bias_act)
    dx = g a f'(u),    db[c] = sum of dx over all axes but c                       (bias_act_dx)

and, dx being linear in g, the derivative of <h, dx> by g is h a f'(u), once more bias_act_dx, and by x

    h g a f''(u),                                                                  (bias_act_ddx)

which is zero but for tanh. f is the identity ("linear"), max(u, 0) ("relu"), u or s u for u < 0 ("leaky_relu", of
slope s), or "tanh". f' and f'' follow from y alone, so that x need not be kept: with v = y / a,

    relu: f' = [v > 0]     leaky_relu: f' = 1 or s by the sign of v (s > 0)     tanh: f' = 1 - v^2, f'' = -2 v f'.
"""

from __future__ import annotations

from scratchgan.backend import xp
from scratchgan.kernels.blocks import large, over
from scratchgan.kernels.dispatch import kernel

ACTIVATIONS = ("linear", "relu", "leaky_relu", "tanh")


@kernel
def bias_act(x, b, axis: int, activation: str, slope: float, gain: float):
    """y = gain f(x + b), b of one number for each index of x's axis `axis`, or None."""
    bias = None if b is None else _along(b, x.ndim, axis)

    def activated(x):
        u, m = x if bias is None else x + bias, xp(x)
        if activation == "relu":
            u = m.maximum(u, 0)
        elif activation == "leaky_relu":
            u = (m.maximum if slope <= 1 else m.minimum)(u, u * slope)
        elif activation == "tanh":
            u = m.tanh(u)
        return u * gain

    return activated(x) if axis % x.ndim == 0 else _in_blocks(activated, x)


@kernel
def bias_act_dx(g, y, activation: str, slope: float, gain: float):
    """dx = g gain f'(u), from y = gain f(u)."""

    def derived(g, y):
        if activation == "linear":
            return g * gain
        if activation == "tanh":
            return g * (gain * (1 - xp(g).square(y / gain)))
        below = slope * gain if activation == "leaky_relu" else 0.0
        return g * ((y > 0).astype(g.dtype) * (gain - below) + below)

    return _in_blocks(derived, g, y)


def _in_blocks(formula, *arrays):
    """formula(*arrays) for arrays of one shape; of large ones on the host block by block."""
    first = arrays[0]
    if not large(first):
        return formula(*arrays)
    out = xp(first).empty_like(first, dtype=formula(*(a[:0] for a in arrays)).dtype)

    def work(_, rows):
        out[rows] = formula(*(a[rows] for a in arrays))

    over(out, work)
    return out


@kernel
def bias_act_ddx(g, h, y, activation: str, gain: float):
    """h g gain f''(u), from y = gain f(u)."""
    if activation != "tanh":
        return xp(g).zeros_like(g)
    v = y / gain
    return g * h * (-2 * gain * v * (1 - v * v))


def _along(b, ndim: int, axis: int):
    """b with axes of size 1 around it, so that it broadcasts along `axis`."""
    return b.reshape(*[-1 if i == axis % ndim else 1 for i in range(ndim)])
