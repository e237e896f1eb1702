"""Forward convolution to few channels without tensor cores, in Triton: the formulas of `kernels/conv.py`.

tl.dot multiplies tiles of 16 at the least, so that with K = 3 channels of y it would take five products for
each one that is wanted, and fetch each number of x from the second-level cache for every tap. Here a thread
keeps its sums and weights in registers, and taps find x in the first-level cache.

Layout: x (N, H, W, C) and y (N, P, Q, K) contiguous.

Tiling of conv_to_few_kernel, for K <= 3 (to RGB, logits) with weights (K, R, S, C): BLOCK_M pixels by BLOCK_C
channels of x. Each thread adds up x w for its own channels over all taps, for each k apart; one sum along the
tile's rows ends it. A window that is all of x is one run of R S C numbers: few steps for DCGAN's logit.

              c ->  BLOCK_C
    m  |  x  [====]  *  w[k, tap] [====]   added to the sums of k [====]   -> y[m, k]
    BLOCK_M

Tiling of conv_apart_kernel, for one channel in each group (depthwise) with weights (R, S, K): BLOCK_M pixels
by BLOCK_K channels, y += x w along the channels.

Few channels of x (from RGB) need no kernel of their own: conv.py counts (r, s, c) as one axis, so that tl.dot
wastes little, and reads of so small an x are cheap.

Bytes: x and y once, and weights, which stay in the first-level cache. FLOPs: 2 R S K for each number of x: 27
for each byte of float16 at k3 and K = 3, where an H200's vector units do 14 in the time of a byte of memory.

History:
1. Tiles of 2048 numbers for each program of 4 warps: 16 sums in each thread for every k, of the channels that
   the thread loads itself: threads exchange nothing in the loop, and shared memory serves the last sum alone.
2. A kernel for C <= 3, outer products of pixels and channels: left out. The compiler gave each thread one
   channel of 16 pixels, so 17 loads for 16 products, and took the weights through shared memory every time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.gpu.axis import axes, within
from scratchgan.kernels.gpu.epilogue import Output, Problem, finish, static_case
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.prepack import crsk, krsc

FEW = 3
CONFIGURATIONS = [{"BLOCK_M": m, "num_warps": warps} for m in (8, 16, 32, 64, 128) for warps in (4, 8)]


@triton.jit
def window(m, P, Q, height, width, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of the pixels m of y: the first row and column of their windows, and where that is in x."""
    top, left = m // Q % P * ROWS.stride - ROWS.padding, m % Q * COLUMNS.stride - COLUMNS.padding
    return top, left, ((m // Q // P * height + top) * width + left) * C


@triton.jit
def conv_to_few_kernel(X, W, Y, BIAS, RESIDUAL, SUMS, pixels, height, width, P, Q, ROWS: tl.constexpr,
                       COLUMNS: tl.constexpr, C: tl.constexpr, K: tl.constexpr, ACTIVATION: tl.constexpr,
                       SLOPE: tl.constexpr, GAIN: tl.constexpr, SHUFFLE: tl.constexpr, ACC: tl.constexpr,
                       BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """All K <= 3 channels of BLOCK_M pixels."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    top, left, corner = window(m, P, Q, height, width, C, ROWS, COLUMNS)
    LENGTH: tl.constexpr = ROWS.taps * COLUMNS.taps * C
    STEPS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    zeros = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    sums_0, sums_1, sums_2 = zeros, zeros, zeros
    for step in range(ROWS.taps * COLUMNS.taps * STEPS):
        tap, c = step // STEPS, step % STEPS * BLOCK_C + tl.arange(0, BLOCK_C)
        r, s = tap // COLUMNS.taps * ROWS.dilation, tap % COLUMNS.taps * COLUMNS.dilation
        inside = (m < pixels) & within(top + r, height) & within(left + s, width)
        at_x = (corner + (r * width + s) * C)[:, None] + c[None, :]
        x = tl.load(X + at_x, mask=inside[:, None] & (c < C)[None, :], other=0.0).to(ACC)
        sums_0 += x * tl.load(W + tap * C + c, mask=c < C, other=0.0).to(ACC)[None, :]
        if K > 1:
            sums_1 += x * tl.load(W + LENGTH + tap * C + c, mask=c < C, other=0.0).to(ACC)[None, :]
        if K > 2:
            sums_2 += x * tl.load(W + 2 * LENGTH + tap * C + c, mask=c < C, other=0.0).to(ACC)[None, :]
    k = tl.arange(0, 4)
    y = tl.where((k == 0)[None, :], tl.sum(sums_0, 1)[:, None], 0.0)
    if K > 1:
        y = tl.where((k == 1)[None, :], tl.sum(sums_1, 1)[:, None], y)
    if K > 2:
        y = tl.where((k == 2)[None, :], tl.sum(sums_2, 1)[:, None], y)
    finish(y, Y, BIAS, RESIDUAL, SUMS, tl.program_id(0), m, m < pixels, k, k < K, K, P, Q,
           ACTIVATION, SLOPE, GAIN, SHUFFLE)  # fmt: skip


@triton.jit
def conv_apart_kernel(X, W, Y, BIAS, RESIDUAL, SUMS, pixels, height, width, P, Q, K, ROWS: tl.constexpr,
                      COLUMNS: tl.constexpr, ACTIVATION: tl.constexpr, SLOPE: tl.constexpr,
                      GAIN: tl.constexpr, SHUFFLE: tl.constexpr, ACC: tl.constexpr, BLOCK_M: tl.constexpr,
                      BLOCK_K: tl.constexpr):  # fmt: skip
    """BLOCK_K channels of BLOCK_M pixels, each from the channel of x of its own number."""
    tiles_k = tl.cdiv(K, BLOCK_K)
    tile = tl.program_id(0) // tiles_k
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(0) % tiles_k * BLOCK_K + tl.arange(0, BLOCK_K)
    top, left, corner = window(m, P, Q, height, width, K, ROWS, COLUMNS)
    acc = tl.zeros((BLOCK_M, BLOCK_K), ACC)
    for tap in range(ROWS.taps * COLUMNS.taps):
        r, s = tap // COLUMNS.taps * ROWS.dilation, tap % COLUMNS.taps * COLUMNS.dilation
        inside = (m < pixels) & within(top + r, height) & within(left + s, width)
        at_x = (corner + (r * width + s) * K)[:, None] + k[None, :]
        x = tl.load(X + at_x, mask=inside[:, None] & (k < K)[None, :], other=0.0).to(ACC)
        acc += x * tl.load(W + tap * K + k, mask=k < K, other=0.0).to(ACC)[None, :]
    finish(acc, Y, BIAS, RESIDUAL, SUMS, tile, m, m < pixels, k, k < K, K, P, Q,
           ACTIVATION, SLOPE, GAIN, SHUFFLE)  # fmt: skip


def suits(p: Problem) -> bool:
    """Whether one of these kernels is the right one."""
    return _to_few(p) or p.CG == p.KG == 1


def _to_few(p: Problem) -> bool:
    return p.geometry.groups == 1 and p.K <= FEW


def by_lanes(p: Problem):
    """Launch the kernel that suits the problem."""
    if _to_few(p):
        p = _one_run(p)
        wide = min(1024, triton.next_power_of_2(max(1, p.C)))
        tiles = {"BLOCK_M": max(1, 2048 // max(64, wide)), "BLOCK_C": wide, "num_warps": 4}
        return _launch("conv_to_few", conv_to_few_kernel, p, krsc(p.w, p.x.dtype), tiles, C=p.C, K=p.K)
    wide = min(64, triton.next_power_of_2(p.K))
    tiles = {"BLOCK_M": 2048 // max(16, wide), "BLOCK_K": wide, "num_warps": 4}
    return _launch("conv_apart", conv_apart_kernel, p, crsk(p.w, p.x.dtype), tiles, p.K)


def _one_run(p: Problem) -> Problem:
    """The same problem at 1 x 1 pixel where every window is all of x: what it covers is one run of memory."""
    g = p.geometry
    if g.kernel != g.size or g.padding != (0, 0) or g.dilation != (1, 1):
        return p
    w = krsc(p.w, p.x.dtype).reshape(p.K, p.length, 1, 1)
    geometry = g._replace(size=(1, 1), kernel=(1, 1), stride=(1, 1))
    return p._replace(x=p.x.reshape(-1, 1, 1, p.length), w=w, geometry=geometry)


def _launch(name: str, kernel, p: Problem, w, tiles: dict[str, int], *arguments, **constants):
    rows, columns = axes(p.geometry)
    tiles = configuration(name, p.key, tiles)
    across = triton.cdiv(p.pixels, tiles["BLOCK_M"])
    out = Output(p, across)
    grid = (across * triton.cdiv(p.K, tiles.get("BLOCK_K", p.K or 1)),)
    launch(kernel, grid, p.x, w, *out.pointers, p.pixels, *p.geometry.size, *p.geometry.out, *arguments,
           ROWS=rows, COLUMNS=columns, ACC=accumulator(p.x.dtype), **constants, **out.constants,
           **tiles)  # fmt: skip
    return out.results()


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    float16, float32 = np.float16, np.float32
    return {
        "float16 64>3 k3, tanh": static_case(float16, 16, 64, 3, 64, 3, 1, 1, activation="tanh"),
        "float32 64>3 k9": static_case(float32, 16, 64, 3, 64, 9, 1, 4),
        "bfloat16 128>3 k1": static_case(ml_dtypes.bfloat16, 16, 128, 3, 128, 1, 1, 0),
        "float16 512>1 k4, logits": static_case(float16, 128, 512, 1, 4, 4, 1, 0),
        "float16 128>128 k3, apart": static_case(float16, 16, 128, 128, 64, 3, 1, 1, groups=128),
        "float32 128>128 k3, apart": static_case(float32, 16, 128, 128, 64, 3, 1, 1, groups=128),
    }
