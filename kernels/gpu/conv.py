"""Forward convolution in Triton, an implicit matrix product: see `kernels/conv.py` and `conv_epilogue.py`.

Layout: x (N, H, W, C) and y (N, P, Q, K) contiguous, weights packed as (K, R, S, C), where C counts the
channels of a group: the axis that is summed over, (r, s, c), is the last one of the weights and, tap by tap,
of x.

Tiling: a program makes a tile of y, pixels m = (n P + p) Q + q by channels k of one group:

                 (r, s, c) ->  BLOCK_C           k ->  BLOCK_K
    m  |  x, shifted by the tap  [====]    x   w^T [ ]    =   acc [      ] , then `finish` of epilogue.py
    BLOCK_M                      [====]            [ ]            [      ]

Programs that stand side by side in k run at the same time and read the same rows of x from the second-level
cache. Where BLOCK_C divides C (ALIGNED), every step lies in one tap: it adds one number to all addresses and
compares once for each pixel. Elsewhere each column of a step finds its own tap, so that 3 channels of k4 take
48 columns, where they would take 256 if each tap's were padded to 16.

Where tiles are too few for the GPU's processors, as with the few pixels of D's last layers, each is made by
SPLITS programs, which add up a part of (r, s, c) each and leave it in a workspace; a second launch adds the
parts up, in their order, and finishes the tile:

    m  |  x [====|====|====]  ->  parts [split, m, k]  ->  sum over splits, `finish`
              0    1    2

Which kernel: this one serves every geometry. `conv_few.py` (at most 3 channels of y, or each channel apart)
and `conv_boxes.py` (Hopper's copy engine) take what suits them.

Bytes: x, w and y once, if the caches hold what taps and tiles share. FLOPs: 2 N P Q K R S C; from some 64
channels on they decide: tensor cores for float16, bfloat16, TF32 and float64.

History, by the static report of 128>256 k4 s2 in float16 on sm_90, 8 warps:
1. Pointers for each number of the tiles: 122 registers, all loads asynchronous, 24 LDGSTS for 4 HGMMA.
2. Offsets of 32 bits from one pointer: 112 registers; no masks but for padding, since tiles repeat the last
   pixel and channel; C as a constant, so that 100 channels are read 8 bytes at a time, where they were 2.
3. Stores by a channel index that was not clamped: 8 of 16 bytes for each thread, where there were 64 of 2.
4. 256 channels in a tile where that fills the GPU: 192 registers, and less to fetch for each product.
5. The loop's end no constant: loops of 9 steps were unrolled, and spilled on sm_80.
6. Splits: 512>512 k3 s2 of 16 images of 5 x 5 had 24 programs of 72 steps each, now 120 of 15.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.conv_epilogue import Epilogue
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu import conv_boxes, conv_few
from scratchgan.kernels.gpu.axis import PROCESSORS, axes, products, side, whole, within
from scratchgan.kernels.gpu.epilogue import Output, Problem, channels, finish, problem, static_case
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, dot_precision, launch
from scratchgan.kernels.gpu.memory import empty
from scratchgan.kernels.gpu.prepack import krsc
from scratchgan.kernels.means import accumulated

DEFAULTS = {  # by how products are taken
    "half": {"BLOCK_M": 128, "BLOCK_K": 256, "BLOCK_C": 64, "num_warps": 8, "num_stages": 3},
    "tf32": {"BLOCK_M": 128, "BLOCK_K": 128, "BLOCK_C": 32, "num_warps": 8, "num_stages": 3},
    "ieee": {"BLOCK_M": 128, "BLOCK_K": 64, "BLOCK_C": 16, "num_warps": 8, "num_stages": 3},
    "double": {"BLOCK_M": 64, "BLOCK_K": 64, "BLOCK_C": 16, "num_warps": 8, "num_stages": 3},
}
CONFIGURATIONS = [
    {"BLOCK_M": m, "BLOCK_K": k, "BLOCK_C": c, "num_warps": 8, "num_stages": stages}
    for m, k in ((128, 256), (256, 64), (128, 128), (128, 64), (64, 64), (128, 32), (128, 16))
    for c in (16, 32, 64)
    for stages in (3, 4)
] + [{"SPLITS": splits} for splits in (1, 2, 4, 8, 16)]
LEAST_STEPS, MOST_SPLITS = 8, 16  # of a split, at least; of a tile, at most
FINISH = {"BLOCK_M": 16, "BLOCK_K": 64, "num_warps": 4}  # of the second launch


@triton.jit
def conv_kernel(X, W, Y, BIAS, RESIDUAL, SUMS, PARTS, pixels, height, width, K, P, Q, KG, length, each,
                ROWS: tl.constexpr, COLUMNS: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
                PADDED: tl.constexpr, ALIGNED: tl.constexpr, ACTIVATION: tl.constexpr, SLOPE: tl.constexpr,
                GAIN: tl.constexpr, SHUFFLE: tl.constexpr, RUN: tl.constexpr, ACC: tl.constexpr,
                PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
                BLOCK_C: tl.constexpr):  # fmt: skip
    """BLOCK_M pixels of y by BLOCK_K channels of one group; with PARTS `each` of the products to be added up."""
    tiles_k = tl.cdiv(KG, BLOCK_K)
    tile, group = tl.program_id(0) // tiles_k, tl.program_id(1)
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    t = tl.program_id(0) % tiles_k * BLOCK_K + tl.arange(0, BLOCK_K)
    # Beyond the last pixel and channel a tile repeats them: loads need no mask for that, the store has one.
    pixel, repeated = tl.minimum(m, pixels - 1), channels(tl.minimum(t, KG - 1), KG, RUN)
    top = pixel // Q % P * ROWS.stride - ROWS.padding
    left = pixel % Q * COLUMNS.stride - COLUMNS.padding
    corner = ((pixel // Q // P * height + top) * width + left) * C + group * CG  # of each pixel's window
    LENGTH: tl.constexpr = ROWS.taps * COLUMNS.taps * CG
    row_of_w = (group * KG + repeated) * LENGTH
    acc = tl.zeros((BLOCK_M, BLOCK_K), ACC)
    first, last = 0, length  # which is LENGTH, but no constant, or short loops would be unrolled
    if PARTS is not None:
        first = tl.program_id(2) * each
        last = tl.minimum(first + each, length)
    for start in range(first, last, BLOCK_C):
        i = tl.arange(0, BLOCK_C)
        if ALIGNED:
            r, s = start // CG // COLUMNS.taps * ROWS.dilation, start // CG % COLUMNS.taps * COLUMNS.dilation
            inside = (within(top + r, height) & within(left + s, width))[:, None]
            step = tl.multiple_of((r * width + s) * C + start % CG, BLOCK_C)
            at_x = X + step + (corner[:, None] + i[None, :])
            x = tl.load(at_x, mask=inside, other=0.0) if PADDED else tl.load(at_x)
            w = tl.load(W + start + (row_of_w[None, :] + i[:, None]))
        else:
            i += start
            r = (i // CG // COLUMNS.taps * ROWS.dilation)[None, :]
            s = (i // CG % COLUMNS.taps * COLUMNS.dilation)[None, :]
            known = i < LENGTH
            inside = known[None, :]
            if PADDED:
                inside &= within(top[:, None] + r, height) & within(left[:, None] + s, width)
            at_x = X + (corner[:, None] + (r * width + s) * C + (i % CG)[None, :])
            x = tl.load(at_x, mask=inside, other=0.0)
            w = tl.load(W + (row_of_w[None, :] + i[:, None]), mask=known[:, None], other=0.0)
        acc = tl.dot(x, w, acc, input_precision=PRECISION, out_dtype=ACC)
    k = group * KG + channels(t, KG, RUN)
    if PARTS is not None:
        place = (tl.program_id(2) * pixels + m)[:, None] * K + k[None, :]
        tl.store(PARTS + place, acc, mask=(m < pixels)[:, None] & (t < KG)[None, :])
    else:
        finish(acc, Y, BIAS, RESIDUAL, SUMS, tile, m, m < pixels, k, t < KG, K, P, Q,
               ACTIVATION, SLOPE, GAIN, SHUFFLE)  # fmt: skip


@triton.jit
def finish_parts_kernel(PARTS, Y, BIAS, RESIDUAL, SUMS, splits, pixels, K, P, Q, KG, ACTIVATION: tl.constexpr,
                        SLOPE: tl.constexpr, GAIN: tl.constexpr, SHUFFLE: tl.constexpr, RUN: tl.constexpr,
                        BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """BLOCK_M pixels by BLOCK_K channels of all groups, from their parts (splits, pixels, K)."""
    tile = tl.program_id(0)
    m, t = tile * BLOCK_M + tl.arange(0, BLOCK_M), tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    k = t // KG * KG + channels(t % KG, KG, RUN)
    inside = (m < pixels)[:, None] & (t < K)[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_K), PARTS.dtype.element_ty)
    for split in range(splits):
        acc += tl.load(PARTS + (split * pixels + m)[:, None] * K + k[None, :], mask=inside, other=0.0)
    finish(acc, Y, BIAS, RESIDUAL, SUMS, tile, m, m < pixels, k, t < K, K, P, Q,
           ACTIVATION, SLOPE, GAIN, SHUFFLE)  # fmt: skip


def conv_nhwc(x, w, geometry: Geometry):
    """See `scratchgan.kernels.conv.conv_nhwc`."""
    return conv_fused_nhwc(x, w, geometry, Epilogue())


def conv_fused_nhwc(x, w, geometry: Geometry, epilogue: Epilogue):
    """See `scratchgan.kernels.conv_epilogue.conv_fused_nhwc`."""
    p = problem(x, w, geometry, epilogue)
    if conv_few.suits(p):
        return conv_few.by_lanes(p)
    w = krsc(p.w, p.x.dtype)
    by_boxes = conv_boxes.suits(p, w) and _splits(p, _tiles(p)) == 1
    return conv_boxes.by_boxes(p, w) if by_boxes else by_pointers(p, w)


def by_pointers(p: Problem, w):
    """Launch `conv_kernel`, the weights packed as (K, R, S, C)."""
    rows, columns = axes(p.geometry)
    tiles = _tiles(p)
    tiles = configuration("conv", p.key, {**tiles, "SPLITS": _splits(p, tiles)})
    splits = tiles.pop("SPLITS")
    across = triton.cdiv(p.pixels, tiles["BLOCK_M"])
    grid = (across * triton.cdiv(p.KG, tiles["BLOCK_K"]), p.geometry.groups, splits)
    each = triton.cdiv(triton.cdiv(p.length, tiles["BLOCK_C"]), splits) * tiles["BLOCK_C"]
    parts = None if splits == 1 else empty(p.x, (splits, p.pixels, p.K), accumulated(p.x.dtype))
    tall = across if splits == 1 else triton.cdiv(p.pixels, FINISH["BLOCK_M"])
    out = Output(p, tall)
    launch(conv_kernel, grid, p.x, w, *out.pointers, parts, p.pixels, *p.geometry.size, p.K, *p.geometry.out, p.KG,
           p.length, each, ROWS=rows, COLUMNS=columns, C=p.C, CG=p.CG, PADDED=p.padded,
           ALIGNED=p.CG % tiles["BLOCK_C"] == 0, RUN=p.run, ACC=accumulator(p.x.dtype),
           PRECISION=dot_precision(), **out.constants, **tiles)  # fmt: skip
    if parts is not None:
        grid = (tall, triton.cdiv(p.K, FINISH["BLOCK_K"]))
        launch(finish_parts_kernel, grid, parts, *out.pointers, splits, p.pixels, p.K, *p.geometry.out, p.KG,
               RUN=p.run, **out.constants, **FINISH)  # fmt: skip
    return out.results()


def _splits(p: Problem, tiles: dict[str, int]) -> int:
    """How many programs share a tile, so that all processors have one, of some steps each."""
    tall, wide = triton.cdiv(p.pixels, tiles["BLOCK_M"]), triton.cdiv(p.KG, tiles["BLOCK_K"])
    programs, steps = max(1, tall * wide * p.geometry.groups), triton.cdiv(p.length, tiles["BLOCK_C"])
    return max(1, min(PROCESSORS // programs, steps // LEAST_STEPS, MOST_SPLITS))


def _tiles(p: Problem) -> dict[str, int]:
    """The default, cut to the size of the problem, and halved while that leaves processors idle."""
    tiles = dict(DEFAULTS[products(p.x.dtype)])
    aligned = whole(p.CG) >= 16
    most = tiles["BLOCK_M"] if aligned else 64  # else a step's numbers all have addresses in registers
    tiles["BLOCK_M"], tiles["BLOCK_K"] = side(p.pixels, most), side(p.KG, tiles["BLOCK_K"])
    tiles["BLOCK_C"] = min(tiles["BLOCK_C"], whole(p.CG) if aligned else 16 if p.length <= 64 else 32)
    for name in ("BLOCK_K", "BLOCK_K", "BLOCK_M"):
        tall, wide = triton.cdiv(p.pixels, tiles["BLOCK_M"]), triton.cdiv(p.KG, tiles["BLOCK_K"])
        if tall * wide * p.geometry.groups < PROCESSORS and tiles[name] > 64:
            tiles[name] //= 2
    return tiles


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    float16, float32 = np.float16, np.float32
    return {
        "float16 128>256 k4 s2, odd size": static_case(float16, 128, 128, 256, 33, 4, 2, 1),
        "float16 512>512 k3, few pixels": static_case(float16, 16, 512, 512, 5, 3, 2, 1, sums=True),
        "float16 100>256 k3": static_case(float16, 128, 100, 256, 32, 3, 1, 1),
        "float16 3>64 k4 s2": static_case(float16, 128, 3, 64, 64, 4, 2, 1),
        "float16 128>32 k1": static_case(float16, 128, 128, 32, 64, 1, 1, 0),
        "float16 512>512 k3, 32 groups": static_case(float16, 16, 512, 512, 32, 3, 1, 1, groups=32),
        "bfloat16 64>128 k4 s2, odd size, sums": static_case(
            ml_dtypes.bfloat16, 128, 64, 128, 33, 4, 2, 1, sums=True
        ),
        "float16 64>256 k3, shuffle": static_case(
            float16, 16, 64, 256, 32, 3, 1, 1, shuffle=2, activation="leaky_relu"
        ),
        "float32 128>256 k4 s2": static_case(float32, 128, 128, 256, 32, 4, 2, 1),
        "float32 3>64 k4 s2": static_case(float32, 128, 3, 64, 64, 4, 2, 1, activation="leaky_relu"),
        "float32 3>32 k1": static_case(float32, 16, 3, 32, 256, 1, 1, 0),
        "tf32 100>256 k3": static_case(float32, 128, 100, 256, 32, 3, 1, 1, precision="high"),
        "float64 128>256 k4 s2": static_case(np.float64, 128, 128, 256, 32, 4, 2, 1),
    }
