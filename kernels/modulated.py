"""Modulated convolution of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, equations 1 to 3), on arrays.

The style s[n, c] scales the input channels of the weights, and demodulation scales each output channel to the
unit deviation it has on inputs of unit variance; i is an output, r a tap, j = stride i + dilation r - padding
its place:

    y[n, k, i] = f(a d[n, k] z[n, k, i] + strength noise[n, i] + b[k])
    z[n, k, i] = sum over c, r of  w[k, c, r] s[n, c] x[n, c, j]
    d[n, k] = (sum over c, r of  (w[k, c, r] s[n, c])^2 + epsilon)^(-1/2)           (demodulation)

As z and d are sums over products with s, no image needs weights of its own: x is scaled as it is read, z as
it is written, and d is a small matrix product, d^-2 = s^2 W + epsilon, where W[k, c] is the sum over r of
w[k, c, r]^2. The gain a stands with d, where it costs nothing: bias and noise do not have it.

Convolution and its two adjoints stay what they are with such scales A[n, c] before and B[n, k] after it:

    y = B conv(A x, w)                                                              (scaled_conv)
    x = A conv_dx(B y, w)                                                           (scaled_conv_dx)
    w = conv_dw(A x, B y)                                                           (scaled_conv_dw)

Let g be the gradient at the argument of f. With s and a d in the places of A and B the gradients by x and w
are these two functions, and those by the scales themselves are sums over the pixels of one image:

    ds[n, c] = sum of x conv_dx(a d g, w),        dd[n, k] = a sum of g z,

both made on the way (`dot`, `activation_sums`). Through d they reach w and s once more (`demodulation_vjp`):
with t = -d^3 dd / 2,

    dw += 2 w (t^T s^2),        ds += 2 s (t W).

x, y are (N, H, W, C), contiguous or not, w (K, C, R, S), A and B (N, channels).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgan.backend import xp
from scratchgan.kernels.bias_act import bias_act, bias_act_dx
from scratchgan.kernels.conv import conv_dw_nhwc, conv_dx_nhwc, conv_nhwc
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.means import wide

EPSILON = 1e-8
ACTIVATIONS = ("linear", "relu", "leaky_relu")  # where they have a slope, y tells the argument


class Finish(NamedTuple):
    """What follows: f(y + strength noise + bias), for noise (N or 1, P, Q), strength () and bias (K,)."""

    noise: Any = None
    strength: Any = None
    bias: Any = None
    activation: str = "linear"
    slope: float = 0.0


NOTHING = Finish()


def modulated_conv(x, w, style, geometry: Geometry, demodulate: bool = True, noise=None, noise_strength=None,
                   bias=None, activation: str = "linear", slope: float = 0.0, gain: float = 1.0):  # fmt: skip
    """y (N, P, Q, K) of the formulas above; without `demodulate` d is 1."""
    after = factors(w, style, demodulate, gain)
    return scaled_conv(x, w, style, after, geometry, Finish(noise, noise_strength, bias, activation, slope))


def factors(w, style, demodulate: bool, gain: float):
    """a d (N, K), or None where that is 1."""
    if demodulate:
        return demodulation(w, style, gain)
    return None if gain == 1 else xp(style).full((style.shape[0], w.shape[0]), gain, dtype=style.dtype)


@kernel
def demodulation(w, style, gain: float = 1.0):
    """gain d (N, K) from w (K, C, R, S) and style (N, C), in the dtype of sums."""
    squares, s = xp(w).square(wide(w)).sum(axis=(2, 3)), wide(style)
    return gain * (s * s @ squares.T + EPSILON) ** -0.5


def demodulation_vjp(t, w, style):
    """(dw, ds) by the way through d, from t = -d^3 dd / 2 (N, K)."""
    s, v = wide(style), wide(w)
    dw = 2 * v * (t.T @ (s * s))[:, :, None, None]
    ds = 2 * s * (t @ (v * v).sum(axis=(2, 3)))
    return dw.astype(w.dtype, copy=False), ds.astype(style.dtype, copy=False)


def demodulation_slope(sums, after, finish: Finish, gain: float):
    """t (N, K) for `demodulation_vjp`, from the sums of `activation_sums` and `after` = a d.

    v - strength noise - b is a d z, so the sum of dv a d z is d dd, and t = -d^2 (d dd) / 2.
    """
    by_z = sums[0] if finish.noise is None else sums[0] - finish.strength * sums[1]
    by_z = by_z if finish.bias is None else by_z - finish.bias * sums[2]
    return -0.5 * (after / gain) ** 2 * by_z


@kernel
def scaled_conv(x, w, before, after, geometry: Geometry, finish: Finish = NOTHING, dot=None):
    """B conv(A x, w) and what follows; A and B are `before` (N, C) and `after` (N, K), or None.

    With `dot` (N, P, Q, K) also the sums (N, K) of dot conv(A x, w) over pixels: (y, sums).
    """
    z = conv_nhwc(_scaled(x, before), w, geometry)
    y = _scaled(z, after)
    if finish.noise is not None:
        y = y + (finish.strength * finish.noise).astype(y.dtype, copy=False)[..., None]
    y = bias_act(y, finish.bias, 3, finish.activation, finish.slope, 1.0).astype(x.dtype, copy=False)
    return y if dot is None else (y, _sums(dot, z))


@kernel(file="modulated_dx")
def scaled_conv_dx(g, w, before, after, geometry: Geometry, dot=None):
    """A conv_dx(B g, w); B and A are `before` (N, K), by what is read, and `after` (N, C), or None.

    With `dot` (N, H, W, C) also the sums (N, C) of dot conv_dx(B g, w) over pixels: (x, sums).
    """
    z = conv_dx_nhwc(_scaled(g, before), w, geometry)
    x = _scaled(z, after)
    return x if dot is None else (x, _sums(dot, z))


@kernel(file="modulated_dw")
def scaled_conv_dw(x, g, before, after, geometry: Geometry):
    """conv_dw(A x, B g), A and B being `before` (N, C) and `after` (N, K), or None."""
    return conv_dw_nhwc(_scaled(x, before), _scaled(g, after), geometry)


@kernel(file="modulated_dw")
def activation_sums(g, y, noise, activation: str, slope: float):
    """From g at y = f(v): dv = g f'(v), and its sums over pixels with v, noise and 1: (3, N, K).

    v is read off y: it is y, or y / slope below 0; where f' = 0, it does not matter.
    """
    m, dv = xp(g), bias_act_dx(g, y, activation, slope, 1.0)
    v = (m.minimum if slope <= 1 else m.maximum)(y, y / slope) if activation == "leaky_relu" and slope else y
    by_v, by_one = _sums(dv, v), _sums(dv)
    by_noise = m.zeros_like(by_one) if noise is None else _weighted(dv, noise)
    return dv, m.stack([by_v, by_noise, by_one])


def _scaled(a, scale):
    """a (N, H, W, C) times scale (N, C), in a's dtype. A row of pixels is one vector: few channels alone would make
    for short loops."""
    if scale is None:
        return a
    n, height, width, channels = a.shape
    row = xp(a).tile(scale, width)[:, None]
    return (a.reshape(n, height, width * channels) * row).astype(a.dtype, copy=False).reshape(a.shape)


def _sums(a, b=None):
    """Sums of a b, or of a alone, over pixels, (N, C)."""
    products = wide(a) if b is None else wide(a) * wide(b)
    n, height, width, channels = products.shape
    columns = xp(a).ones(height, products.dtype) @ products.reshape(n, height, width * channels)
    return columns.reshape(n, width, channels).sum(axis=1)


def _weighted(a, noise):
    """Sums of a (N, P, Q, K) times noise (N or 1, P, Q) over pixels, (N, K)."""
    n, height, width, channels = a.shape
    noise = wide(noise).reshape(len(noise), 1, height * width)
    return (noise @ wide(a).reshape(n, height * width, channels))[:, 0]
