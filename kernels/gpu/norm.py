"""Normalisation over any set of axes in Triton: the formulas of `kernels/norm.py`.

Layout: any memory order, as the digits of `kernels/gpu/digits.py`. Sums run over x[k0, r0, k1, r1]; the
kernels that write an array as large as x take planes d0 of rows d1 and columns (d2, d3), and load each
coefficient once for a row or column of the tile, wherever it varies along no more than that:

    forward    x --> moments_kernel --> chunks' moments --> merge_kernel --> mean, variance
               x, mean, rstd, w, b --> normalize_kernel --> y = (x - mean) rstd w + b
    backward   g, x --> products_kernel --> sums of g and of g h --> sums --> dw, db
               g, x, sums --> normalize_dx_kernel --> dx

                columns -->                  channels-last: a column is a channel, loads its coefficients once
    rows   [ BLOCK_M x BLOCK_N ]             channels-first: a row is a channel

Statistics keep their digits where the mean is far larger than the deviation: every place of a tile keeps the
mean and the sum of squared deviations of the numbers that it has seen (Welford 1962), and places and chunks
are merged as Chan, Golub and LeVeque (1979) do. That costs 4 FLOPs for each number where sums of x and x^2
cost 3. A short row is one step: mean and deviations straight from registers.

Bytes: forward reads x twice and writes y, backward reads g and x twice and writes dx; coefficients and sums
are small beside that. In layer norm, whose weight is as large as an image, sums over an image and over the
minibatch are two launches, so g and x are read three times. With the sums of a convolution's epilogue
(`moments_from_sums`) x is read but once. FLOPs: about 6 for each number forward, 10 backward: memory decides.

History, loads and registers as compiled for sm_90:
1. Coefficients are loaded as rows or columns of the tile: 4 loads of 16 bytes for x and 4 of one number each
   for the coefficients in a thread of `normalize_kernel`, where coefficients beside each number would be 128.
2. Merging multiplies by 1 / n: 25 divisions in `moments_kernel` became 2.
3. Channels-last group norm takes moments of channels and merges them too (`_without_short_runs`): a thread
   had 16 loads of 2 bytes, since 4 channels of a group were the longest run, and now has 2 of 16 bytes.
4. Arrays of up to 2^20 numbers take tiles of 512: batch norm of 32 maps of 4 x 4 with 512 channels has 128
   programs instead of 32.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.backend import xp
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.gpu.digits import (
    InOrder,
    at_number,
    for_planes,
    for_sums,
    kept_digits,
    load_beside,
    load_on_plane,
    tile,
    varies,
)
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty
from scratchgan.kernels.gpu.sums import SMALL, Plan, sums
from scratchgan.kernels.means import accumulated

PLANES = {  # of the kernels that write an array as large as x
    "large": {"BLOCK": 4096, "WIDTH": 256, "num_warps": 4},
    "small": {"BLOCK": 1024, "WIDTH": 256, "num_warps": 4},
}
CONFIGURATIONS = [
    {"BLOCK": block, "WIDTH": width, "num_warps": warps}
    for block, warps in ((1024, 2), (2048, 4), (4096, 4), (4096, 8), (8192, 8))
    for width in (64, 128, 256, 1024)
]
MERGE = {"BLOCK": 4096, "num_warps": 4}
SHORT = 16  # numbers of a run along which sums are not worth a tile's fast axis
MOST = 2048  # parts that are merged, in one tile
FEW = {"BLOCK": 256, "num_warps": 2}


# Statistics


@triton.jit
def merged_moments(count, mean, squares, n, AXIS: tl.constexpr):
    """Moments along AXIS of parts of `count` numbers, n in all, with means and sums of squared deviations.

    The mean of large means is off by several roundings; the mean of what is left corrects it.
    """
    share = 1 / n
    about = tl.sum(count * mean, AXIS) * share
    apart = tl.where(count > 0, mean - tl.expand_dims(about, AXIS), 0.0)
    left = tl.sum(count * apart, AXIS) * share
    variance = tl.sum(squares + count * apart * apart, AXIS) * share - left * left
    return about + left, tl.where(variance < 0, 0.0, variance)  # a maximum would hide NaN


@triton.jit
def moments_kernel(X, MEAN, VARIANCE, K0, K, R, PER, SIZES, REDUCED: tl.constexpr, ACC: tl.constexpr,
                   BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """MEAN and VARIANCE[chunk, k] of the chunk's numbers x[k, r]."""
    AXIS: tl.constexpr = 0 if REDUCED == "outer" else 1  # of the tile, along which r runs
    K1 = SIZES[2]
    chunk, k0, k = kept_digits(K0, K1, BLOCK_K)
    k1 = tl.expand_dims(k, AXIS)
    first = chunk * PER
    last = first + tl.minimum(PER, R - first)
    places = tl.expand_dims(tl.arange(0, BLOCK_R), 1 - AXIS)
    mean = tl.zeros((BLOCK_R, BLOCK_K) if AXIS == 0 else (BLOCK_K, BLOCK_R), ACC)
    squares, seen = mean, tl.full((), 0, ACC)
    for start in range(first, last, BLOCK_R):
        r = start + places
        inside = (k1 < K1) & (r < last)
        x = tl.load(X + at_number(k0, r, k1, SIZES, REDUCED), mask=inside, other=0.0).to(ACC)
        seen += 1
        apart = tl.where(inside, x - mean, 0.0)
        mean += apart * (1 / seen)
        squares += apart * (x - mean)
    count = (tl.maximum(last - first - places, 0) + BLOCK_R - 1) // BLOCK_R
    n = tl.maximum(last - first, 1).to(ACC)
    mean, variance = merged_moments(count.to(ACC), mean, squares, n, AXIS)
    at = chunk * K + k0 * K1 + k
    tl.store(MEAN + at, mean.to(MEAN.dtype.element_ty), mask=k < K1)
    tl.store(VARIANCE + at, variance.to(VARIANCE.dtype.element_ty), mask=k < K1)


@triton.jit
def merge_kernel(MEANS, VARIANCES, MEAN, VARIANCE, parts, K, R, PER, E, ACC: tl.constexpr,
                 BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """Moments of k from its parts [chunk, k, e], E in a chunk, of PER numbers but for the last chunk's."""
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    part = tl.arange(0, BLOCK_P)[:, None]
    chunk, inside = part // E, (part < parts) & (k < K)[None, :]
    at = (chunk * K + k[None, :]) * E + part % E
    count = tl.minimum(tl.maximum(R - chunk * PER, 0), PER).to(ACC)
    mean = tl.load(MEANS + at, mask=inside, other=0.0)
    squares = tl.load(VARIANCES + at, mask=inside, other=0.0) * count
    n = tl.full((), 1, ACC) * tl.maximum(R * E, 1)
    mean, variance = merged_moments(count, mean, squares, n, 0)
    tl.store(MEAN + k, mean.to(MEAN.dtype.element_ty), mask=k < K)
    tl.store(VARIANCE + k, variance.to(VARIANCE.dtype.element_ty), mask=k < K)


@triton.jit
def moments_from_sums_kernel(SUM, SQUARES, MEAN, VARIANCE, size, count, BLOCK: tl.constexpr):
    """Moments from sums of `count` numbers and of their squares; float64, since a difference is left."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.full((), 1, tl.float64) * count
    mean = tl.load(SUM + k, mask=k < size, other=0.0).to(tl.float64) / n
    variance = tl.load(SQUARES + k, mask=k < size, other=0.0).to(tl.float64) / n - mean * mean
    variance = tl.where(variance < 0, 0.0, variance)
    tl.store(MEAN + k, mean.to(MEAN.dtype.element_ty), mask=k < size)
    tl.store(VARIANCE + k, variance.to(VARIANCE.dtype.element_ty), mask=k < size)


def moments(x, axes: tuple[int, ...]):
    """See `scratchgan.kernels.norm.moments`."""
    demand(x)
    in_order = InOrder(x, axes)
    kept, x = in_order.kept, in_order(x)
    sizes, _ = for_sums(x.shape, kept)
    sizes, E = _without_short_runs(sizes)
    plan, acc = Plan("moments", x, sizes, most=MOST // E), accumulator(x.dtype)
    found = empty(x, (2, *(n if keep else 1 for n, keep in zip(x.shape, kept))), plan.workspace)
    parts = plan.chunks * E
    if parts == 1:
        plan.launch(moments_kernel, x, *found, ACC=acc)
    else:
        of_parts = empty(x, (2, plan.chunks, plan.K), plan.workspace)
        plan.launch(moments_kernel, x, *of_parts, ACC=acc)
        K, tiles = plan.K // E, configuration("merge", "", MERGE)
        high = triton.next_power_of_2(parts)
        wide = min(triton.next_power_of_2(max(1, K)), max(1, tiles["BLOCK"] // high))
        launch(merge_kernel, (triton.cdiv(K, wide),), *of_parts, *found, parts, K, plan.R, plan.per, E,
               ACC=acc, BLOCK_P=high, BLOCK_K=wide, num_warps=tiles["num_warps"])  # fmt: skip
    return tuple(map(in_order.out, found))


def _without_short_runs(sizes):
    """Digits with r1 among the kept ones if it is short, as in channels-last group norm, and how many parts a
    result then has: a tile's fast axis is all channels instead of a group's few."""
    K0, R0, K1, R1 = sizes
    short = R0 != 1 and R1 < SHORT
    return ((K0, R0, K1 * R1, 1), R1) if short else (sizes, 1)


def moments_from_sums(sums, squares, count: int):
    """See `scratchgan.kernels.norm.moments_from_sums`."""
    demand(sums, squares)
    in_order = InOrder(sums)
    sums, squares = in_order(sums), in_order(squares)
    mean, variance = empty(sums, sums.shape), empty(sums, sums.shape)
    tiles = configuration("moments_from_sums", "", FEW)
    launch(moments_from_sums_kernel, (triton.cdiv(sums.size, tiles["BLOCK"]),), sums, squares, mean, variance,
           sums.size, max(1, count), **tiles)  # fmt: skip
    return in_order.out(mean), in_order.out(variance)


# The affine map


@triton.jit
def plane_tile(SIZES, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """(plane, rows, columns, which rows and which columns exist) of this program: columns run fastest."""
    _, D1, D2, D3 = SIZES
    program = tl.program_id(0)
    across, down = tl.cdiv(D2 * D3, BLOCK_N), tl.cdiv(D1, BLOCK_M)
    m = (program // across % down * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    n = (program % across * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    return program // across // down, m, n, m < D1, n < D2 * D3


@triton.jit
def normalize_kernel(X, MEAN, RSTD, W, B, Y, SIZES, MEAN_ON: tl.constexpr, W_ON: tl.constexpr,
                     ACC: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """y = (x - mean) rstd w + b, one tile of a plane; what is None is left out."""
    d, m, n, m_inside, n_inside = plane_tile(SIZES, BLOCK_M, BLOCK_N)
    at, inside = (d * SIZES[1] + m) * (SIZES[2] * SIZES[3]) + n, m_inside & n_inside
    y = tl.load(X + at, mask=inside, other=0.0).to(ACC)
    if MEAN is not None:
        y -= load_on_plane(MEAN, d, m, n, m_inside, n_inside, SIZES, MEAN_ON).to(ACC)
        y *= load_on_plane(RSTD, d, m, n, m_inside, n_inside, SIZES, MEAN_ON).to(ACC)
    if W is not None:
        y *= load_on_plane(W, d, m, n, m_inside, n_inside, SIZES, W_ON).to(ACC)
    if B is not None:
        y += load_on_plane(B, d, m, n, m_inside, n_inside, SIZES, W_ON).to(ACC)
    tl.store(Y + at, y.to(Y.dtype.element_ty), mask=inside)


def normalize(x, mean, rstd, weight, bias):
    """See `scratchgan.kernels.norm.normalize`."""
    demand(*(a for a in (x, mean, rstd, weight, bias) if a is not None))
    in_order = InOrder(x)
    x, mean, rstd = map(in_order, (x, mean, rstd))
    return in_order.out(_affine(x, mean, rstd, *map(in_order, _of_one_shape(weight, bias))))


def scale_shift(x, scale, shift):
    """See `scratchgan.kernels.norm.scale_shift`."""
    return normalize(x, None, None, scale, shift)


def _affine(x, mean, rstd, weight, bias):
    """`normalize` for arrays in order."""
    y = empty(x, x.shape)
    affine = weight if bias is None else bias
    _planes("normalize", normalize_kernel, x, mean, affine, (x, mean, rstd, weight, bias, y))
    return y


def _of_one_shape(weight, bias):
    """Both with all the axes that either of them has."""
    if weight is None or bias is None or weight.shape == bias.shape:
        return weight, bias
    return xp(weight).broadcast_arrays(weight, bias)


def _planes(name: str, kernel, x, mean, affine, arguments: tuple, **constants) -> None:
    """Launch `kernel` on the tiles of x's planes."""
    sizes, (mean_on, w_on) = for_planes(x.shape, mean, affine)
    D0, D1, D2, D3 = sizes
    key = "small" if x.size <= SMALL else "large"
    tiles = configuration(name, key, PLANES[key])
    height, width = tile(D1, D2 * D3, tiles["BLOCK"], tiles["WIDTH"])
    grid = (D0 * triton.cdiv(D1, height) * triton.cdiv(D2 * D3, width),)
    launch(kernel, grid, *arguments, sizes, MEAN_ON=mean_on, W_ON=w_on, ACC=accumulator(x.dtype),
           BLOCK_M=height, BLOCK_N=width, num_warps=tiles["num_warps"], **constants)  # fmt: skip


# Backward


@triton.jit
def products_kernel(G, X, MEAN, RSTD, W, SUM_G, SUM_GH, K0, K, R, PER, SIZES, REDUCED: tl.constexpr,
                    MEAN_ON: tl.constexpr, W_ON: tl.constexpr, ACC: tl.constexpr,
                    BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """Sums over the chunk's r of g w and of g w h, h = (x - mean) rstd; w is left out where it is None."""
    AXIS: tl.constexpr = 0 if REDUCED == "outer" else 1  # of the tile, along which r runs
    K1 = SIZES[2]
    chunk, k0, k = kept_digits(K0, K1, BLOCK_K)
    k1 = tl.expand_dims(k, AXIS)
    first = chunk * PER
    last = first + tl.minimum(PER, R - first)
    sum_g = tl.zeros((BLOCK_R, BLOCK_K) if AXIS == 0 else (BLOCK_K, BLOCK_R), ACC)
    sum_gh = sum_g
    for start in range(first, last, BLOCK_R):
        r = tl.expand_dims(start + tl.arange(0, BLOCK_R), 1 - AXIS)
        at, k_inside, r_inside = at_number(k0, r, k1, SIZES, REDUCED), k1 < K1, r < last
        g = tl.load(G + at, mask=k_inside & r_inside, other=0.0).to(ACC)
        x = tl.load(X + at, mask=k_inside & r_inside, other=0.0).to(ACC)
        mean = load_beside(MEAN, k0, r, k1, r_inside, k_inside, SIZES, REDUCED, MEAN_ON).to(ACC)
        rstd = load_beside(RSTD, k0, r, k1, r_inside, k_inside, SIZES, REDUCED, MEAN_ON).to(ACC)
        if W is not None:
            g *= load_beside(W, k0, r, k1, r_inside, k_inside, SIZES, REDUCED, W_ON).to(ACC)
        sum_g += g
        sum_gh += g * ((x - mean) * rstd)
    at = chunk * K + k0 * K1 + k
    tl.store(SUM_G + at, tl.sum(sum_g, AXIS), mask=k < K1)
    tl.store(SUM_GH + at, tl.sum(sum_gh, AXIS), mask=k < K1)


@triton.jit
def normalize_dx_kernel(G, X, MEAN, RSTD, W, SUM_G, SUM_GH, DX, count, SIZES, MEAN_ON: tl.constexpr,
                        W_ON: tl.constexpr, ACC: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                        WEIGHTED: tl.constexpr):  # fmt: skip
    """dx = rstd (g w - mean(g w) - h mean(g w h)), one tile of a plane.

    The sums over `count` numbers are those of g w and g w h where WEIGHTED, else of g and g h.
    """
    d, m, n, m_inside, n_inside = plane_tile(SIZES, BLOCK_M, BLOCK_N)
    at, inside = (d * SIZES[1] + m) * (SIZES[2] * SIZES[3]) + n, m_inside & n_inside
    g = tl.load(G + at, mask=inside, other=0.0).to(ACC)
    x = tl.load(X + at, mask=inside, other=0.0).to(ACC)
    rstd = load_on_plane(RSTD, d, m, n, m_inside, n_inside, SIZES, MEAN_ON).to(ACC)
    h = (x - load_on_plane(MEAN, d, m, n, m_inside, n_inside, SIZES, MEAN_ON).to(ACC)) * rstd
    share = tl.full((), 1, ACC) / count
    mean_g = load_on_plane(SUM_G, d, m, n, m_inside, n_inside, SIZES, MEAN_ON) * share
    mean_gh = load_on_plane(SUM_GH, d, m, n, m_inside, n_inside, SIZES, MEAN_ON) * share
    if W is not None:
        w = load_on_plane(W, d, m, n, m_inside, n_inside, SIZES, W_ON).to(ACC)
        if WEIGHTED:
            g *= w
        else:
            rstd *= w
    dx = rstd * (g - mean_g - h * mean_gh)
    tl.store(DX + at, dx.to(DX.dtype.element_ty), mask=inside)


def normalize_vjp(g, x, mean, rstd, weight, axes: tuple[int, ...]):
    """See `scratchgan.kernels.norm.normalize_vjp`."""
    demand(*(a for a in (g, x, mean, rstd, weight) if a is not None))
    in_order = InOrder(x, axes)
    kept = in_order.kept
    g, x, mean, rstd, weight = map(in_order, (g, x, mean, rstd, weight))
    along = varies(weight, x.shape)
    if weight is not None and all(n == 1 or k != a for n, k, a in zip(x.shape, kept, along)):  # layer norm
        weighted, means = True, _products(g, x, mean, rstd, weight, kept)
        affine = _products(g, x, mean, rstd, None, along)
    else:
        weighted = any(a and not k for k, a in zip(kept, along))
        found = _products(g, x, mean, rstd, None, [k or a for k, a in zip(kept, along)])
        means = sums(found, [True, *kept], weight[None]) if weighted else found
        affine = (None, None) if weight is None else _over(found, [True, *along])
    count = math.prod(n for n, k in zip(x.shape, kept) if not k)
    dx = empty(x, x.shape, g.dtype)
    arguments = (g, x, mean, rstd, weight, *means, dx, count)
    _planes("normalize_dx", normalize_dx_kernel, x, mean, weight, arguments, WEIGHTED=weighted)
    affine = (a if a is None else in_order.out(a.astype(weight.dtype, copy=False)) for a in affine)
    return in_order.out(dx), *affine


def _products(g, x, mean, rstd, weight, kept: list[bool]):
    """Sums of g w and of g w h over all but the `kept` axes, (2, ...) in the precision of sums."""
    shape = tuple(n if keep else 1 for n, keep in zip(x.shape, kept))
    if all(keep or not m for keep, m in zip(kept, varies(mean, shape))):  # let the mean vary as the sums do
        mean, rstd = (contiguous(xp(a).broadcast_to(a, shape)) for a in (mean, rstd))
    sizes, (mean_on, w_on) = for_sums(x.shape, kept, mean, weight)
    plan = Plan("products", x, sizes)
    parts = empty(x, (2, plan.chunks, plan.K), plan.workspace)
    plan.launch(products_kernel, g, x, mean, rstd, weight, *parts,
                MEAN_ON=mean_on, W_ON=w_on, ACC=accumulator(x.dtype))  # fmt: skip
    return _over(parts, [True, False, True], "chunks").reshape(2, *shape)


def _over(parts, kept: list[bool], key: str | None = None):
    """Sums over all but the `kept` axes; nothing is launched where there is only one of each."""
    if all(k or n == 1 for n, k in zip(parts.shape, kept)):
        return parts
    return sums(parts, kept, key=key)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def images(dtype, N=32, C=128, H=64, last=True):
        return np.empty((N, H, H, C), dtype).transpose(0, 3, 1, 2) if last else np.empty((N, C, H, H), dtype)

    def backward(x, axes, weight):
        mean = np.empty([1 if i in axes else n for i, n in enumerate(x.shape)], accumulated(x.dtype))
        return normalize_vjp(x, x, mean, mean, np.empty(weight, mean.dtype), axes)

    def forward(x, axes, weight):
        w = np.empty(weight, accumulated(x.dtype))
        mean, variance = moments(x, axes)
        return normalize(x, mean, variance, w, w)

    def cases(name, x, axes, weight):
        n, size = x.size, x.itemsize
        return {
            f"{name} {x.dtype.name}": Case(lambda: forward(x, axes, weight), 9 * n, 3 * n * size),
            f"{name} backward {x.dtype.name}": Case(lambda: backward(x, axes, weight), 14 * n, 5 * n * size),
        }

    half, single = images(np.float16), images(np.float32)
    first, brain = images(np.float16, last=False), images(ml_dtypes.bfloat16, C=512, H=4)
    sums_of_c, channel, batch = np.empty(512, np.float32), (1, 128, 1, 1), (0, 2, 3)
    grouped = half.reshape(32, 32, 4, 64, 64)
    return {
        **cases("batch", half, batch, channel),
        **cases("batch", single, batch, channel),
        **cases("batch NCHW", first, batch, channel),
        **cases("batch 4x4", brain, batch, (1, 512, 1, 1)),
        **cases("instance", half, (2, 3), channel),
        **cases("instance NCHW", first, (2, 3), channel),
        **cases("group", grouped, (2, 3, 4), (1, 32, 4, 1, 1)),
        **cases("layer", half, (1, 2, 3), (1, 128, 64, 64)),
        "from sums": Case(lambda: moments_from_sums(sums_of_c, sums_of_c, 512), 2048, 8192),
    }
