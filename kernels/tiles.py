"""Neighbouring pixels of y as one pixel with more channels, for convolutions with few channels on the host.

With stride s, T pixels of one row of y read S' = s (T - 1) + S columns of x, where each alone reads S. So y
(N, P, Q, K), seen as (N, P, Q / T, T K), is a convolution of the same x at a horizontal stride of s T with a
kernel S' wide, in which the T pixels' kernels stand side by side, each s further to the right:

    w'[t K + k, c, r, s t + j] = w[k, c, r, j],   zero elsewhere.

Its columns hold R C S' / T numbers for each pixel of y, not R C S, in runs that are longer; its products are of
T K columns, not K, but S' / S times as many multiplications. With few channels the copies and the narrow products
are what takes the time, and this takes 0.3 to 0.8 of it.
"""
from __future__ import annotations

from functools import lru_cache

from scratchgan.backend import on_host, xp
from scratchgan.kernels.geometry import Geometry

# What a pixel costs on one core, in ns, fitted to 3 x 3 to 9 x 9 kernels at 1 to 128 channels: to write and read
# a number of the columns, to begin a run of them, to multiply. Products narrower than BLAS's tile cost as much.
NUMBER, RUN, MULTIPLY, NARROWEST = 0.35, 10.0, 0.033, 16
COUNTS = (1, 2, 4, 8)


def pixels_at_once(a, geometry: Geometry, C: int, K: int) -> int:
    """The T that is likely to take the least time for C channels of x and K of y; 1 where a is on a device."""
    return fastest(geometry, C, K) if on_host(a) else 1


@lru_cache(maxsize=4096)
def fastest(geometry: Geometry, C: int, K: int) -> int:
    """The same T, on the host."""
    if geometry.groups > 1 or geometry.dilation[1] > 1 or geometry.kernel == (1, 1):
        return 1
    return min((T for T in COUNTS if geometry.out[1] % T == 0), key=lambda T: pixel_time(geometry, C, K, T))


def pixel_time(geometry: Geometry, C: int, K: int, T: int) -> float:
    """What a pixel of y costs on one core, in ns, with T of them at once."""
    R, S = geometry.kernel
    numbers = R * C * _width(S, geometry.stride[1], T)
    return (numbers * (NUMBER + MULTIPLY * max(NARROWEST, T * K)) + R * RUN) / T


def _width(S: int, stride: int, T: int) -> int:
    return stride * (T - 1) + S


def side_by_side(geometry: Geometry, T: int) -> Geometry:
    """The geometry of the convolution that makes T pixels at once."""
    (R, S), (down, right), (P, Q) = geometry.kernel, geometry.stride, geometry.out
    return geometry._replace(kernel=(R, _width(S, right, T)), out=(P, Q // T), stride=(down, right * T))


def widened(w, geometry: Geometry, T: int):
    """w (K, C, R, S) as w' (T K, C, R, S'), for the geometry before `side_by_side`."""
    (K, C, R, S), right = w.shape, geometry.stride[1]
    wide = xp(w).zeros((T, K, C, R, _width(S, right, T)), dtype=w.dtype)
    for t in range(T):
        wide[t, ..., right * t:right * t + S] = w
    return wide.reshape(T * K, *wide.shape[2:])


def narrowed(dw, geometry: Geometry, T: int):
    """The adjoint of `widened`: dw' (T K, C, R, S') as dw (K, C, R, S), a sum over the T pixels."""
    S, right = geometry.kernel[1], geometry.stride[1]
    wide = dw.reshape(T, -1, *dw.shape[1:])
    return sum(wide[t, ..., right * t:right * t + S] for t in range(T))
