"""StyleGAN2's modulated convolutions as one op each, with styles, demodulation, noise, bias and rectifier.

Their mathematics is their spec, in differentiable ops, as `gans/stylegan2.py` has it; on arrays
`scratchgan.kernels.modulated` does the same without scaled images or scaled weights in memory. Its gradients
share what they can: one product gives those by x and by the style, one pass those by strength and bias and
what demodulation needs.
"""

from __future__ import annotations

from scratchgan.autograd import Fused
from scratchgan.backend import xp
from scratchgan.kernels import modulated as kernel
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.modulated import EPSILON, NOTHING, Finish
from scratchgan.ops.conv import conv, conv_dx
from scratchgan.ops.elementwise import leaky_relu, rsqrt
from scratchgan.ops.linalg import matmul
from scratchgan.ops.reduce import sum
from scratchgan.ops.shape import reshape, swap

PLAIN = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
DOUBLING = {"stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "groups": 1}


@Fused
def modulated_conv(x, w, style, noise, strength, bias, *, padding: tuple[int, int], demodulate: bool = True,
                   slope: float = 1.0, gain: float = 1.0):  # fmt: skip
    """f(a d conv(s x, w) + strength noise + bias), (N, K, P, Q), of x (N, C, H, W), w (K, C, R, S), s (N, C).

    noise (N or 1, 1, P, Q) and strength (), or None for both; bias (K,) or None. f(v) = slope v below 0; a is
    the gain, d the factors of `demodulation` or 1.
    """
    z = conv(_times(x, style), w, padding=padding, **PLAIN)
    z = _times(z, demodulation(w, style, gain)) if demodulate else z * gain
    if noise is not None:
        z = z + strength * noise
    if bias is not None:
        z = z + reshape(bias, shape=(-1, 1, 1))
    return z if slope == 1 else leaky_relu(z, slope=slope)


@Fused
def modulated_conv_up(x, w, style, *, demodulate: bool = True, gain: float = 1.0):
    """a d times the transposed convolution of s x at stride 2: (N, K, 2 (H - 1) + R, 2 (W - 1) + S).

    A filter, noise, bias and rectifier follow; d commutes with the filter.
    """
    shape = (x.shape[0], w.shape[0], *_doubled(x, w))
    z = conv_dx(_times(x, style), swap(w, 0, 1), x_shape=shape, **DOUBLING)
    return _times(z, demodulation(w, style, gain)) if demodulate else z * gain


def demodulation(w, style, gain: float):
    """gain / sqrt(sum over c, r of (s[n, c] w[k, c, r])^2 + epsilon), (N, K)."""
    squares = sum(w * w, axis=(2, 3), keepdims=False)
    return rsqrt(matmul(style * style, swap(squares)) + EPSILON) * gain


def _times(x, scale):
    """x (N, C, H, W) times scale (N, C)."""
    return x * reshape(scale, shape=(*scale.shape, 1, 1))


def _doubled(x, w) -> tuple[int, int]:
    return tuple(2 * (n - 1) + r for n, r in zip(x.shape[2:], w.shape[2:]))


# On arrays


def _conv(x, w, style, noise, strength, bias, *, padding, demodulate=True, slope=1.0, gain=1.0):
    after = kernel.factors(w, style, demodulate, gain)
    finish = _finish(noise, strength, bias, slope)
    y = kernel.scaled_conv(_nhwc(x), w, style, after, _geometry(x, w, padding), finish)
    return _nchw(y), (y, after)


def _conv_vjp(g, cache, need, x, w, style, noise, strength, bias, *, padding, demodulate=True, slope=1.0,
              gain=1.0):  # fmt: skip
    (y, after), geometry, finish = cache, _geometry(x, w, padding), _finish(noise, strength, bias, slope)
    g, sums = kernel.activation_sums(_nhwc(g), y, finish.noise, finish.activation, slope)
    dx = dstyle = dw = None
    if need[0] or need[2]:
        dx, dstyle = kernel.scaled_conv_dx(g, w, after, style, geometry, _nhwc(x))
    if need[1]:
        dw = kernel.scaled_conv_dw(_nhwc(x), g, style, after, geometry)
    if demodulate and (need[1] or need[2]):
        t = kernel.demodulation_slope(sums, after, finish, gain)
        dw, dstyle = _through_factors(dw, dstyle, t, w, style)
    dnoise = _noise(g, noise, strength) if need[3] else None
    found = (None if dx is None else _nchw(dx), dw, dstyle, dnoise, sums[1].sum(), sums[2].sum(axis=0))
    return _cast(found, need, (x, w, style, noise, strength, bias))


def _up(x, w, style, *, demodulate=True, gain=1.0):
    after = kernel.factors(w, style, demodulate, gain)
    y = kernel.scaled_conv_dx(_nhwc(x), w.swapaxes(0, 1), style, after, _doubling(x, w))
    return _nchw(y), (y, after)


def _up_vjp(g, cache, need, x, w, style, *, demodulate=True, gain=1.0):
    (y, after), geometry, g = cache, _doubling(x, w), _nhwc(g)
    dx = dstyle = dw = None
    if need[0] or need[2]:
        dx, dstyle = kernel.scaled_conv(g, w.swapaxes(0, 1), after, style, geometry, dot=_nhwc(x))
    if need[1]:
        dw = kernel.scaled_conv_dw(g, _nhwc(x), after, style, geometry).swapaxes(0, 1)
    if demodulate and (need[1] or need[2]):
        _, sums = kernel.activation_sums(g, y, None, "linear", 1.0)
        t = kernel.demodulation_slope(sums, after, NOTHING, gain)
        dw, dstyle = _through_factors(dw, dstyle, t, w, style)
    return _cast((None if dx is None else _nchw(dx), dw, dstyle), need, (x, w, style))


def _through_factors(dw, dstyle, t, w, style) -> tuple:
    """What was found of the gradients by w and style, with the way through the factors."""
    more_w, more_style = kernel.demodulation_vjp(t, w, style)
    return None if dw is None else dw + more_w, None if dstyle is None else dstyle + more_style


def _noise(g, noise, strength):
    """The gradient by noise, from g (N, P, Q, K) behind the rectifier."""
    by_noise = g.sum(axis=3)[:, None] * strength
    return by_noise if len(noise) == len(by_noise) else by_noise.sum(axis=0, keepdims=True)


def _cast(found: tuple, need: list[bool], arguments: tuple) -> list:
    """The gradients that are needed, each in its argument's dtype."""
    return [
        xp(a).asarray(d, dtype=a.dtype) if wanted else None for d, wanted, a in zip(found, need, arguments)
    ]


def _finish(noise, strength, bias, slope: float) -> Finish:
    activation = {1: "linear", 0: "relu"}.get(slope, "leaky_relu")
    return Finish(None if noise is None else noise[:, 0], strength, bias, activation, slope)


def _geometry(x, w, padding: tuple[int, int]) -> Geometry:
    out = tuple(n + 2 * p - r + 1 for n, p, r in zip(x.shape[2:], padding, w.shape[2:]))
    return Geometry(x.shape[2:], w.shape[2:], out, (1, 1), padding, (1, 1), 1)


def _doubling(x, w) -> Geometry:
    """Of the convolution whose adjoint `modulated_conv_up` is."""
    return Geometry(_doubled(x, w), w.shape[2:], x.shape[2:], (2, 2), (0, 0), (1, 1), 1)


def _nhwc(a):
    return a.transpose(0, 2, 3, 1)


def _nchw(a):
    return a.transpose(0, 3, 1, 2)


modulated_conv.fast(_conv, _conv_vjp)
modulated_conv_up.fast(_up, _up_vjp)
