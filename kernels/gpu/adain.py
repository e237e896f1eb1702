"""Adaptive instance normalisation in Triton: the formulas of `kernels/adain.py`.

Layout: channels-last memory is x[n, r, c] with r the pixel, channels-first x[n c, r]; both are the digits
x[k0, r0, k1, r1] of `kernels/gpu/digits.py`, and the styles x's kept ones (k0, k1) in order.

Tiling: a program holds all R pixels of BLOCK_K maps in registers.

    channels-last     c --> BLOCK_K                 channels-first     r --> R
                r  | [ tile  ]                               n c  | [ tile  ]
                R  v   one column, one map                BLOCK_K v   one row, one map

        load x --> mean --> deviations, r --> y = s h + b --> store

Maps of up to 32 x 32 pixels fit, channels-first up to 128 x 128; larger ones take the kernels of `norm`,
statistics and then the affine map, which read x twice.

Bytes: x is read once and y written once, two numbers for each of x where separate kernels move three;
backward reads g and x and writes dx, three where separate kernels move five. FLOPs: 8 and 12 for each number:
memory decides.

History:
1. The tile is as wide as a sector of memory needs (32 bytes: 16 channels of float16), as tall as the map, and
   has a warp for each 1024 numbers, so that a thread keeps 32 of each array, in at most 127 registers. Only
   the tiles of 16384 numbers (32 x 32 in 16 bits) then fill a processor alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.adain import PIXELS, maps
from scratchgan.kernels.gpu.digits import InOrder, at_number, for_sums, kept_digits, reduced
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty
from scratchgan.kernels.gpu.norm import moments, normalize, normalize_vjp
from scratchgan.kernels.means import accumulated

DEFAULT = {"BYTES": 32, "BLOCK": 2048, "WARP": 1024}  # of a row of channels; numbers of a tile; of a warp
CONFIGURATIONS = [
    {"BYTES": row, "BLOCK": block, "WARP": warp}
    for row in (16, 32, 64)
    for block in (512, 2048, 4096)
    for warp in (512, 1024)
]
MOST = 1 << 14  # numbers of a tile


@triton.jit
def adain_kernel(X, S, B, Y, MEAN, RSTD, K0, R, SIZES, EPS: tl.constexpr, REDUCED: tl.constexpr,
                 ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """y = s (x - mean) rstd + b for BLOCK_K maps of R pixels."""
    AXIS: tl.constexpr = 0 if REDUCED == "outer" else 1  # of the tile, along which pixels run
    _, k0, k = kept_digits(K0, SIZES[2], BLOCK_K)
    k1, r = tl.expand_dims(k, AXIS), tl.expand_dims(tl.arange(0, BLOCK_R), 1 - AXIS)
    at, inside = at_number(k0, r, k1, SIZES, REDUCED), (k1 < SIZES[2]) & (r < R)
    x = tl.load(X + at, mask=inside, other=0.0).to(ACC)
    mean = tl.sum(x, AXIS) / R
    apart = tl.where(inside, x - tl.expand_dims(mean, AXIS), 0.0)
    left = tl.sum(apart, AXIS) / R  # what the mean's rounding left
    mean, apart = mean + left, apart - tl.expand_dims(left, AXIS)
    rstd = 1 / tl.sqrt(tl.sum(tl.where(inside, apart * apart, 0.0), AXIS) / R + EPS)
    style, in_style = k0 * SIZES[2] + k, k < SIZES[2]
    scale = rstd * tl.load(S + style, mask=in_style, other=0.0).to(ACC)
    bias = tl.load(B + style, mask=in_style, other=0.0).to(ACC)
    y = apart * tl.expand_dims(scale, AXIS) + tl.expand_dims(bias, AXIS)
    tl.store(Y + at, y.to(Y.dtype.element_ty), mask=inside)
    tl.store(MEAN + style, mean, mask=in_style)
    tl.store(RSTD + style, rstd, mask=in_style)


@triton.jit
def adain_vjp_kernel(G, X, MEAN, RSTD, S, DX, DS, DB, K0, R, SIZES, REDUCED: tl.constexpr, ACC: tl.constexpr,
                     BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """dx = rstd s (g - mean(g) - h mean(g h)), ds = sum of g h, db = sum of g, for BLOCK_K maps."""
    AXIS: tl.constexpr = 0 if REDUCED == "outer" else 1  # of the tile, along which pixels run
    _, k0, k = kept_digits(K0, SIZES[2], BLOCK_K)
    k1, r = tl.expand_dims(k, AXIS), tl.expand_dims(tl.arange(0, BLOCK_R), 1 - AXIS)
    at, inside = at_number(k0, r, k1, SIZES, REDUCED), (k1 < SIZES[2]) & (r < R)
    style, in_style = k0 * SIZES[2] + k, k < SIZES[2]
    mean = tl.load(MEAN + style, mask=in_style, other=0.0).to(ACC)
    rstd = tl.load(RSTD + style, mask=in_style, other=0.0).to(ACC)
    scale = tl.load(S + style, mask=in_style, other=0.0).to(ACC)
    g = tl.load(G + at, mask=inside, other=0.0).to(ACC)
    x = tl.load(X + at, mask=inside, other=0.0).to(ACC)
    h = (x - tl.expand_dims(mean, AXIS)) * tl.expand_dims(rstd, AXIS)
    ds, db = tl.sum(g * h, AXIS), tl.sum(g, AXIS)
    dx = g - tl.expand_dims(db / R, AXIS) - h * tl.expand_dims(ds / R, AXIS)
    tl.store(DX + at, (dx * tl.expand_dims(rstd * scale, AXIS)).to(DX.dtype.element_ty), mask=inside)
    tl.store(DS + style, ds.to(DS.dtype.element_ty), mask=in_style)
    tl.store(DB + style, db.to(DB.dtype.element_ty), mask=in_style)


class Maps(InOrder):
    """x's maps and their styles in memory order, and the tile that holds BLOCK_K maps, if they `fit`."""

    def __init__(self, x):
        super().__init__(x, PIXELS)
        self.sizes, _ = for_sums([x.shape[i] for i in self.axes], self.kept)
        K0, R0, K1, R1 = self.sizes
        self.R, self.reduced = R0 * R1, reduced(self.sizes)
        tiles = configuration("adain", self.reduced, DEFAULT)
        least = tiles["BYTES"] // x.itemsize if self.reduced == "outer" else 1
        self.block_r = triton.next_power_of_2(max(1, self.R))
        self.block_k = min(triton.next_power_of_2(max(1, K1)), max(least, tiles["BLOCK"] // self.block_r))
        self.fit = 0 < self.R and self.block_r * self.block_k <= MOST
        self.grid = (K0 * triton.cdiv(K1, self.block_k),)
        self.warps = min(16, max(1, self.block_r * self.block_k // tiles["WARP"]))

    def style(self, array):
        """A result, one number for each map, as (N, C)."""
        return self.out(array)[:, :, 0, 0]

    def launch(self, kernel, *arrays, **constants) -> None:
        """Run `kernel` on all maps."""
        launch(kernel, self.grid, *arrays, self.sizes[0], self.R, self.sizes, ACC=accumulator(self.x.dtype),
               REDUCED=self.reduced, BLOCK_K=self.block_k, BLOCK_R=self.block_r, num_warps=self.warps,
               **constants)  # fmt: skip


def adain(x, scale, bias, eps: float):
    """See `scratchgan.kernels.adain.adain`."""
    demand(x, scale, bias)
    of = Maps(x)
    if not of.fit:
        mean, variance = moments(x, PIXELS)
        rstd = (variance + eps) ** -0.5
        return normalize(x, mean, rstd, maps(scale), maps(bias)), mean[:, :, 0, 0], rstd[:, :, 0, 0]
    x, scale, bias = of(x), of(maps(scale)), of(maps(bias))
    y = empty(x, x.shape)
    mean, rstd = (empty(x, scale.shape, accumulated(x.dtype)) for _ in range(2))
    of.launch(adain_kernel, x, scale, bias, y, mean, rstd, EPS=eps)
    return of.out(y), of.style(mean), of.style(rstd)


def adain_vjp(g, x, mean, rstd, scale):
    """See `scratchgan.kernels.adain.adain_vjp`."""
    demand(g, x, mean, rstd, scale)
    of = Maps(x)
    if not of.fit:
        dx, dbias, dscale = normalize_vjp(g, x, maps(mean), maps(rstd), maps(scale), PIXELS)
        return dx, dscale[:, :, 0, 0], dbias[:, :, 0, 0]
    g, x = of(g), of(x)
    mean, rstd, scale = (of(maps(a)) for a in (mean, rstd, scale))
    dx = empty(x, x.shape)
    dscale, dbias = (empty(x, scale.shape, scale.dtype) for _ in range(2))
    of.launch(adain_vjp_kernel, g, x, mean, rstd, scale, dx, dscale, dbias)
    return of.out(dx), of.style(dscale), of.style(dbias)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def cases(name, N, C, H, dtype, last=True):
        x = np.empty((N, H, H, C), dtype).transpose(0, 3, 1, 2) if last else np.empty((N, C, H, H), dtype)
        s, n, size = np.empty((N, C), np.float32), x.size, x.itemsize
        return {
            f"{name} {x.dtype.name}": Case(lambda: adain(x, s, s, 1e-8), 8 * n, 2 * n * size),
            f"{name} vjp {x.dtype.name}": Case(lambda: adain_vjp(x, x, s, s, s), 12 * n, 3 * n * size),
        }

    large = np.empty((8, 1024, 1024, 16), np.float16).transpose(0, 3, 1, 2)
    n, style = large.size, np.empty((8, 16), np.float32)
    return {
        **cases("4x4", 32, 512, 4, np.float16),
        **cases("8x8", 32, 512, 8, ml_dtypes.bfloat16),
        **cases("32x32", 32, 512, 32, np.float16),
        **cases("32x32", 32, 512, 32, np.float32),
        **cases("32x32 NCHW", 32, 512, 32, np.float16, last=False),
        "1024x1024 vjp float16": Case(lambda: adain_vjp(large, large, *[style] * 3), 12 * n, 10 * n),
    }
