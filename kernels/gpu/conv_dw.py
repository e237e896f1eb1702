"""Convolution's adjoint in w in Triton: the formulas of `kernels/conv.py`.

With m = (n, i) the pixels of g and q = (r, c) the columns that a window of x has, i and r for both axes,

    dw[k, c, r] = sum over m of  g[m, k] x[n, s i + d r - p, c]

is one product of matrices, of height K and width R S C, but reduced over very many pixels: its tiles alone
would leave most processors idle. So the pixels are split as well, each split writes its sums to a workspace,
and a second kernel adds the splits up, in the same order every time: the same bits.

Layout: x (N, H, W, C) and g (N, P, Q, K) contiguous; a workspace (splits, K, R S C / groups) in the
accumulator's type; dw (K, C / groups, R, S) contiguous.

Tiling: BLOCK_M channels k by BLOCK_Q columns for each program, BLOCK_P pixels at a time.

              pixels -->               q -->
            k| g^T       x     pixels| x, gathered   =  k| a split's dw   then  sum over splits, (r, c) to (c, r)

Three kernels:

    conv_dw_kernel         any geometry. Columns lie within one tap where a power of two from 16 on divides C; else a
                           tile runs over from tap to tap (FLAT), so that 3 channels and 4 x 4 taps are 48 columns, not
                           16 tiles of 3. Where g has the few channels, as before an RGB image, x and g change places:
                           x is read once, and columns (r, s, k) are gathered from g at j + p - d r. (An infinite x
                           then meets the zeros around g: at a border it may make NaN of a tap that never reads it.)
    conv_dw_boxes_kernel   Hopper's copy engine fetches boxes of images x rows x columns; at stride s from x seen as
                           (N, H/s, s, W/s, s C), where the pixels of one tap lie side by side.
    add_splits_kernel      one k and BLOCK_C channels: BLOCK_T splits at a time, turned from (r s, c) to (c, r s).

Bytes: x and g once where the cache holds x's windows, dw once, and the workspace twice: some 17 MB, which
stays in an H200's cache of 50 MB. FLOPs: 2 N P Q K C R S, with tensor cores for all but float32 without TF32.

History, by the static report of float16 k4 s2, 128 to 256 channels, on sm_90:
1. Pointers: 128 x 128 x 64 in 8 warps, splits enough for two programs on each processor.
2. Boxes: no division by P and Q for each pixel of each step, no address, no mask; 95 registers. g came as
   boxes (N, P, Q, K) and went through registers in the loop; as a matrix (N P Q, K) it does not: 90
   registers.
3. Few channels of g: 3 of them filled 9 tiles of 16 x 64 that each read x; in exchanged places x is read
   once.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.axis import PROCESSORS, Axis, axes, fetched, key, products, side, whole, within
from scratchgan.kernels.gpu.launch import (
    Case,
    accumulator,
    capability,
    configuration,
    descriptor,
    dot_precision,
    launch,
)
from scratchgan.kernels.gpu.memory import demand, demand_alike, empty
from scratchgan.kernels.means import accumulated

DEFAULTS = {  # by how products are taken
    "half": {"BLOCK_M": 128, "BLOCK_Q": 128, "BLOCK_P": 64, "num_warps": 8, "num_stages": 3},
    "tf32": {"BLOCK_M": 128, "BLOCK_Q": 64, "BLOCK_P": 32, "num_warps": 8, "num_stages": 3},
    "ieee": {"BLOCK_M": 128, "BLOCK_Q": 64, "BLOCK_P": 16, "num_warps": 8, "num_stages": 3},
    "double": {"BLOCK_M": 32, "BLOCK_Q": 32, "BLOCK_P": 16, "num_warps": 4, "num_stages": 2},
}
CONFIGURATIONS = [
    {"BLOCK_M": m, "BLOCK_Q": q, "BLOCK_P": p, "num_warps": warps, "num_stages": stages}
    for m, q, warps in ((128, 128, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (128, 256, 8), (256, 64, 8))
    for p in (32, 64)
    for stages in (3, 4)
] + [  # of boxes, too
    {"BLOCK_M": m, "BLOCK_Q": q, "num_warps": warps, "num_stages": stages}
    for m, q, warps in ((128, 128, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (128, 256, 8))
    for stages in (3, 4, 5)
]


@triton.jit
def conv_dw_kernel(X, G, PARTS, pixels, each, H, W, P, Q, ROWS: tl.constexpr, COLUMNS: tl.constexpr, C: tl.constexpr,
                   K: tl.constexpr, GROUPS: tl.constexpr, FLAT: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
                   BLOCK_M: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_P: tl.constexpr):  # fmt: skip
    """A split of `each` pixels of one tile of one group of dw."""
    split, group = tl.program_id(1), tl.program_id(2)
    channels: tl.constexpr = C // GROUPS
    width: tl.constexpr = ROWS.taps * COLUMNS.taps * channels
    tiles: tl.constexpr = (K // GROUPS + BLOCK_M - 1) // BLOCK_M
    k = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    start = tl.program_id(0) // tiles * BLOCK_Q
    q = start + tl.arange(0, BLOCK_Q)
    if FLAT:
        row_of_tap = q // channels // COLUMNS.taps * ROWS.dilation - ROWS.padding
        column_of_tap = q // channels % COLUMNS.taps * COLUMNS.dilation - COLUMNS.padding
        in_x = (row_of_tap * W + column_of_tap) * C + q % channels + group * channels
    else:
        row_of_tap = start // channels // COLUMNS.taps * ROWS.dilation - ROWS.padding
        column_of_tap = start // channels % COLUMNS.taps * COLUMNS.dilation - COLUMNS.padding
        c = tl.multiple_of(start % channels, BLOCK_Q) + tl.arange(0, BLOCK_Q)
        in_x = (row_of_tap * W + column_of_tap) * C + group * channels + c

    acc = tl.zeros((BLOCK_M, BLOCK_Q), ACC)
    for first in range(split * each, tl.minimum(pixels, split * each + each), BLOCK_P):
        m = first + tl.arange(0, BLOCK_P)
        i, j = m // Q % P * ROWS.stride, m % Q * COLUMNS.stride
        corner = ((m // Q // P * H + i) * W + j) * C
        g = tl.load(G + (m[:, None] * K + (group * (K // GROUPS) + k)[None, :]),
                    mask=(m < pixels)[:, None] & (k < K // GROUPS)[None, :], other=0.0)  # fmt: skip
        if FLAT:
            inside = within(i[:, None] + row_of_tap[None, :], H) & within(
                j[:, None] + column_of_tap[None, :], W
            )
            inside &= (m < pixels)[:, None] & (q < width)[None, :]
        else:
            inside = (within(i + row_of_tap, H) & within(j + column_of_tap, W) & (m < pixels))[:, None]
        x = tl.load(X + (corner[:, None] + in_x[None, :]), mask=inside, other=0.0)
        acc = tl.dot(g.T, x, acc, input_precision=PRECISION, out_dtype=ACC)

    row = split * K + group * (K // GROUPS) + k
    tl.store(
        PARTS + (row[:, None] * width + q[None, :]),
        acc,
        mask=(k < K // GROUPS)[:, None] & (q < width)[None, :],
    )


@triton.jit
def conv_dw_boxes_kernel(X, G, PARTS, boxes, each, across, above, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                         C: tl.constexpr, K: tl.constexpr, BOX_N: tl.constexpr, BOX_H: tl.constexpr, BOX_W: tl.constexpr,
                         BLOCK_M: tl.constexpr, BLOCK_Q: tl.constexpr):  # fmt: skip
    """A split of `each` boxes of BLOCK_M channels k by BLOCK_Q channels c of one tap.

    X (N, H / s, s, W / s, s C) and G (N P Q, K) are descriptors; `above` x `across` boxes make an image of g, and
    the pixels of a box follow one another in g.
    """
    tiles: tl.constexpr = (K + BLOCK_M - 1) // BLOCK_M
    tiles_c: tl.constexpr = (C + BLOCK_Q - 1) // BLOCK_Q
    first_k, first_c = tl.program_id(0) % tiles * BLOCK_M, tl.program_id(0) // tiles % tiles_c * BLOCK_Q
    tap, split = tl.program_id(0) // tiles // tiles_c, tl.program_id(1)
    # d r - p = s (down - p) + phase, with s p added so that the division is of no negative number
    row = tap // COLUMNS.taps * ROWS.dilation + (ROWS.stride - 1) * ROWS.padding
    column = tap % COLUMNS.taps * COLUMNS.dilation + (COLUMNS.stride - 1) * COLUMNS.padding
    down, right = row // ROWS.stride - ROWS.padding, column // COLUMNS.stride - COLUMNS.padding
    phase, first_x = row % ROWS.stride, column % COLUMNS.stride * C + first_c

    acc = tl.zeros((BLOCK_M, BLOCK_Q), tl.float32)
    for box in range(split * each, tl.minimum(boxes, split * each + each)):
        n, i, j = box // across // above * BOX_N, box // across % above * BOX_H, box % across * BOX_W
        g = G.load([box * (BOX_N * BOX_H * BOX_W), first_k])
        x = X.load([n, i + down, phase, j + right, first_x]).reshape(BOX_N * BOX_H * BOX_W, BLOCK_Q)
        acc = tl.dot(g.T, x, acc)

    k, c = first_k + tl.arange(0, BLOCK_M), first_c + tl.arange(0, BLOCK_Q)
    target = (split * K + k)[:, None] * (ROWS.taps * COLUMNS.taps * C) + (tap * C + c)[None, :]
    tl.store(PARTS + target, acc, mask=(k < K)[:, None] & (c < C)[None, :])


@triton.jit
def add_splits_kernel(PARTS, DW, splits, size, C, step_k, step_c, TAPS: tl.constexpr, BLOCK_T: tl.constexpr,
                      BLOCK_C: tl.constexpr, BLOCK_TAPS: tl.constexpr):  # fmt: skip
    """dw[k, c, tap] = sum over splits of parts[split, k, tap, c], for one k and BLOCK_C channels c."""
    k, tap = tl.program_id(0), tl.arange(0, BLOCK_TAPS)[None, None, :]
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C))[None, :, None]
    inside = (c < C) & (tap < TAPS)
    acc = tl.zeros((BLOCK_T, BLOCK_C, BLOCK_TAPS), PARTS.dtype.element_ty)
    for first in range(0, splits, BLOCK_T):
        split = (first + tl.arange(0, BLOCK_T))[:, None, None]
        acc += tl.load(
            PARTS + (split * size + (k * TAPS + tap) * C + c), mask=inside & (split < splits), other=0.0
        )
    dw = tl.sum(acc, 0, keep_dims=True).to(DW.dtype.element_ty)
    tl.store(DW + (k * step_k + c * step_c + tap), dw, mask=inside)


def conv_dw_nhwc(x, g, geometry: Geometry):
    """See `scratchgan.kernels.conv.conv_dw_nhwc`."""
    demand(x, g)
    demand_alike(x, g)
    x, g = contiguous(x), contiguous(g)
    dw = empty(x, (g.shape[3], x.shape[3] // geometry.groups, *geometry.kernel))
    if _swaps(x, g, geometry):
        mirrored = (axis._replace(padding=-axis.padding, dilation=-axis.dilation) for axis in axes(geometry))
        _add_splits(_by_pointers(g, x, *mirrored, 1), dw.transpose(1, 0, 2, 3))
    elif _suits_boxes(x, g, geometry):
        _add_splits(_by_boxes(x, g, geometry), dw)
    else:
        _add_splits(_by_pointers(x, g, *axes(geometry), geometry.groups), dw)
    return dw


def _swaps(x, g, geometry: Geometry) -> bool:
    """Whether g had better be gathered, x be read once: at stride 1 both are as large, g has few channels."""
    few = g.shape[3] < 16 <= x.shape[3] and geometry.groups == 1
    return few and geometry.stride == (1, 1) and math.prod(geometry.size) < 2 * math.prod(geometry.out)


def _by_pointers(x, g, rows: Axis, columns: Axis, groups: int):
    """The workspace (splits, K, R S C / groups), filled."""
    (_, H, W, C), (N, P, Q, K) = x.shape, g.shape
    width = rows.taps * columns.taps * C // groups
    tiles = configuration(
        "conv_dw",
        key(x, g, rows, columns, groups),
        _tiles(g.dtype, N * P * Q, K // groups, C // groups, width),
    )
    programs = triton.cdiv(K // groups, tiles["BLOCK_M"]) * triton.cdiv(width, tiles["BLOCK_Q"])
    splits, each = _split(triton.cdiv(N * P * Q, tiles["BLOCK_P"]), programs * groups)
    parts = _workspace(g, splits, K, width)
    launch(conv_dw_kernel, (programs, splits, groups), x, g, parts, N * P * Q, each * tiles["BLOCK_P"], H, W, P, Q,
           ROWS=rows, COLUMNS=columns, C=C, K=K, GROUPS=groups, FLAT=C // groups % tiles["BLOCK_Q"] != 0,
           PRECISION=dot_precision(), ACC=accumulator(g.dtype), **tiles)  # fmt: skip
    return parts


def _tiles(dtype, pixels: int, height: int, channels: int, width: int) -> dict[str, int]:
    """The default, cut to the size of the problem; columns lie within one tap where 16 of them do."""
    default = DEFAULTS[products(dtype)]
    aligned = whole(channels) >= 16
    tiles = {
        **default,
        "BLOCK_M": side(height, default["BLOCK_M"]),
        "BLOCK_Q": min(default["BLOCK_Q"], whole(channels)) if aligned else side(width, 64),
        "BLOCK_P": side(pixels, default["BLOCK_P"] if aligned else min(32, default["BLOCK_P"])),
    }
    small = tiles["BLOCK_M"] * tiles["BLOCK_Q"] < default["BLOCK_M"] * default["BLOCK_Q"]
    if small and (aligned or products(dtype) != "ieee"):  # else 4 warps spill: Triton 3.7 on sm_80
        tiles["num_warps"] = 4
    return tiles


def _suits_boxes(x, g, geometry: Geometry) -> bool:
    """Whether boxes of 64 neighbours in memory make up g, x falls into phases, and both can be fetched."""
    (P, Q), (images, down, across) = geometry.out, _box(geometry.out)
    run = (across == Q or down * images == 1) and (down == P or images == 1)
    phases = all(h % s == 0 for h, s in zip(geometry.size, geometry.stride))
    filled = geometry.groups == 1 and g.shape[3] >= 64 and x.shape[3] >= 32
    return run and phases and filled and products(g.dtype) == "half" and capability() >= 90 and fetched(x, g)


def _box(out: tuple[int, int]) -> tuple[int, int, int]:
    """64 pixels: as many of a row as divide it, then rows that divide an image, then images."""
    across = min(64, whole(out[1]))
    down = min(64 // across, whole(out[0]))
    return 64 // across // down, down, across


def _by_boxes(x, g, geometry: Geometry):
    """The workspace, filled."""
    rows, columns = axes(geometry)
    (N, H, W, C), (_, P, Q, K) = x.shape, g.shape
    tiles = {**dict(zip(("BOX_N", "BOX_H", "BOX_W"), _box(geometry.out))), "BLOCK_M": side(K, 128),
             "BLOCK_Q": side(C, 128), "num_warps": 8 if min(C, K) > 64 else 4, "num_stages": 3}  # fmt: skip
    tiles = configuration("conv_dw_boxes", key(x, g, rows, columns, 1), tiles)
    box = tiles["BOX_N"], tiles["BOX_H"], tiles["BOX_W"]
    taps = rows.taps * columns.taps
    programs = taps * triton.cdiv(K, tiles["BLOCK_M"]) * triton.cdiv(C, tiles["BLOCK_Q"])
    boxes = triton.cdiv(N, box[0]) * (P // box[1]) * (Q // box[2])
    splits, each = _split(boxes, programs)
    parts = _workspace(g, splits, K, taps * C)
    x = x.reshape(N, H // rows.stride, rows.stride, W // columns.stride, columns.stride * C)
    launch(conv_dw_boxes_kernel, (programs, splits), descriptor(x, (*box[:2], 1, box[2], tiles["BLOCK_Q"])),
           descriptor(g.reshape(-1, K), (math.prod(box), tiles["BLOCK_M"])), parts, boxes, each, Q // box[2], P // box[1],
           ROWS=rows, COLUMNS=columns, C=C, K=K, **tiles)  # fmt: skip
    return parts


def _split(steps: int, programs: int) -> tuple[int, int]:
    """In how many parts, of how many steps each, `programs` tiles are reduced: two programs a processor."""
    each = max(4, triton.cdiv(steps, max(1, 2 * PROCESSORS // max(1, programs))))
    return triton.cdiv(steps, each), each


def _workspace(g, splits: int, height: int, width: int):
    parts = empty(g, (splits, height, width), accumulated(g.dtype))
    demand(parts)
    return parts


def _add_splits(parts, dw) -> None:
    """dw (K, C, R, S), a view, from parts (splits, K, R S C)."""
    K, C, R, S = dw.shape
    taps = triton.next_power_of_2(R * S)
    across = min(triton.next_power_of_2(max(1, C)), max(1, 1024 // taps))
    while across > 8 and K * triton.cdiv(C, across) < PROCESSORS:
        across //= 2
    at_once = min(triton.next_power_of_2(max(1, len(parts))), max(1, 4096 // (across * taps)))
    steps = (step // dw.itemsize for step in dw.strides[:2])
    launch(add_splits_kernel, (K, triton.cdiv(C, across)), parts, dw, len(parts), K * C * R * S, C, *steps, TAPS=R * S,
           BLOCK_T=at_once, BLOCK_C=across, BLOCK_TAPS=taps, num_warps=4)  # fmt: skip


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    from scratchgan.kernels.dispatch import float32_matmul

    def case(dtype, C, K, size, taps, stride, padding, precision="highest"):
        out = (size + 2 * padding - taps) // stride + 1
        geometry = Geometry((size,) * 2, (taps,) * 2, (out,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), 1)
        x, g = np.empty((64, size, size, C), dtype), np.empty((64, out, out, K), dtype)

        def call():
            with float32_matmul(precision):
                conv_dw_nhwc(x, g, geometry)

        return Case(call, 2 * g.size * C * taps**2, (x.size + g.size + C * K * taps**2) * g.itemsize)

    return {
        "float16 128>256 k4 s2": case(np.float16, 128, 256, 32, 4, 2, 1),
        "bfloat16 512>512 k3": case(ml_dtypes.bfloat16, 512, 512, 8, 3, 1, 1),
        "float16 3>64 k4 s2": case(np.float16, 3, 64, 64, 4, 2, 1),
        "float16 64>3 k3": case(np.float16, 64, 3, 64, 3, 1, 1),
        "float16 512>1 k4 of one pixel": case(np.float16, 512, 1, 4, 4, 1, 0),
        "float32 128>256 k4 s2": case(np.float32, 128, 256, 32, 4, 2, 1),
        "tf32 128>256 k4 s2": case(np.float32, 128, 256, 32, 4, 2, 1, "high"),
        "float32 3>64 k4 s2": case(np.float32, 3, 64, 64, 4, 2, 1),
        "float64 128>256 k4 s2": case(np.float64, 128, 256, 32, 4, 2, 1),
    }
