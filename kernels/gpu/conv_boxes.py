"""Forward convolution by Hopper's copy engine, in Triton: `kernels/conv.py` and `kernels/conv_epilogue.py`.

Layout: x (N, H, W, C) and weights (K, R S C), contiguous, behind tensor descriptors. At stride 2 x is seen as
(N, H/2, 2, W/2, 2 C), so that what one tap reads is a box without holes again: row 2 p + r - padding is row
p + a of phase b, with r - padding = 2 a + b, and so for columns, whose phase is the upper half of 2 C.

Tiling: a program makes BLOCK_K channels by a box of BOX_N images, BOX_H rows and BOX_W columns of y. For each
tap the engine fetches the box of x that the tap reads, and fills what lies beyond x's borders with zeros:
padding and ends of images cost no mask and no address.

              (r, s, c) ->  BLOCK_C            pixels ->
    k  |  weights   [====]        x     box^T [ ]     =   acc [      ]^T, then `finish` of epilogue.py
    BLOCK_K         [====]                    [ ]             [      ]

The weights are the first factor, because the box, transposed, can be the second one as it lies in shared
memory.

Bytes and FLOPs: as in conv.py. Not covered, and left to conv.py: groups, other strides, odd H or W at stride
2, C without a factor of 32, K below 64, boxes of which less than three quarters are pixels, shuffles, and
types without tensor cores.

History, by the static report of 128>256 k4 s2 in float16 on sm_90, 8 warps, tiles of 128 x 128 x 64:
1. Boxes: no LDGSTS, no addresses and no masks in the loop, one thread starts each copy: 92 registers, where
   the same tiles took 109 by pointers.
2. The weights in two axes: from (K, R S, C) they went through registers on their way to the first factor.
3. 256 channels in a tile where that fills the GPU: 154 registers.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.gpu.axis import PROCESSORS, axes, fetched, products, side, whole
from scratchgan.kernels.gpu.epilogue import Output, Problem, finish, static_case
from scratchgan.kernels.gpu.launch import Case, capability, configuration, descriptor, dot_precision, launch

WASTE = 4 / 3  # at most so many pixels in boxes for each pixel of y
CONFIGURATIONS = [
    {"BLOCK_K": k, "BOX_N": 1, "BOX_H": h, "BOX_W": w, "num_warps": 8, "num_stages": stages}
    for k in (64, 128, 256)
    for h, w in ((8, 16), (16, 8), (4, 32), (2, 64), (8, 8), (4, 16), (16, 16))
    for stages in (3, 4)
]


@triton.jit
def conv_boxes_kernel(X, W, Y, BIAS, RESIDUAL, SUMS, N, K, P, Q, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                      C: tl.constexpr, ACTIVATION: tl.constexpr, SLOPE: tl.constexpr, GAIN: tl.constexpr,
                      SHUFFLE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_K: tl.constexpr,
                      BOX_N: tl.constexpr, BOX_H: tl.constexpr, BOX_W: tl.constexpr,
                      BLOCK_C: tl.constexpr):  # fmt: skip
    """BLOCK_K channels by one box of pixels of y."""
    tiles_k, across, down = tl.cdiv(K, BLOCK_K), tl.cdiv(Q, BOX_W), tl.cdiv(P, BOX_H)
    first_k, box = tl.program_id(0) % tiles_k * BLOCK_K, tl.program_id(0) // tiles_k
    first_q, first_p = box % across * BOX_W, box // across % down * BOX_H
    first_n = box // across // down * BOX_N
    PIXELS: tl.constexpr = BOX_N * BOX_H * BOX_W
    STEPS: tl.constexpr = C // BLOCK_C  # which divides it
    acc = tl.zeros((BLOCK_K, PIXELS), tl.float32)
    for step in range(ROWS.taps * COLUMNS.taps * STEPS):
        tap, c = step // STEPS, step % STEPS * BLOCK_C
        i = tap // COLUMNS.taps * ROWS.dilation - ROWS.padding
        j = tap % COLUMNS.taps * COLUMNS.dilation - COLUMNS.padding
        if ROWS.stride == 2:
            x = X.load([first_n, first_p + (i >> 1), i & 1, first_q + (j >> 1), (j & 1) * C + c])
        else:
            x = X.load([first_n, first_p + i, first_q + j, c])
        w = W.load([first_k, tap * C + c])
        acc = tl.dot(w, x.reshape(PIXELS, BLOCK_C).T, acc, input_precision=PRECISION)
    at = tl.arange(0, PIXELS)
    n, p, q = first_n + at // (BOX_H * BOX_W), first_p + at // BOX_W % BOX_H, first_q + at % BOX_W
    k = first_k + tl.arange(0, BLOCK_K)
    m, inside = (n * P + p) * Q + q, (n < N) & (p < P) & (q < Q)
    finish(acc.T, Y, BIAS, RESIDUAL, SUMS, box, m, inside, k, k < K, K, P, Q,
           ACTIVATION, SLOPE, GAIN, SHUFFLE)  # fmt: skip


def suits(p: Problem, w) -> bool:
    """Whether this kernel covers the problem, on a GPU that has the engine, without much waste."""
    g = p.geometry
    covered = g.stride == (1, 1) or (g.stride == (2, 2) and g.size[0] % 2 == g.size[1] % 2 == 0)
    filled = g.groups == 1 and whole(p.C) >= 32 and p.K >= 64 and _boxed(p, _box(p)) <= WASTE * p.pixels
    simple = p.epilogue.shuffle == 1 and products(p.x.dtype) in ("half", "tf32")
    return covered and filled and simple and capability() >= 90 and fetched(p.x, w)


def by_boxes(p: Problem, w):
    """Launch `conv_boxes_kernel`, the weights packed as (K, R, S, C)."""
    (rows, columns), g, N = axes(p.geometry), p.geometry, p.x.shape[0]
    tiles = configuration("conv_boxes", p.key, _tiles(p))
    tiles["BLOCK_C"] = min(tiles["BLOCK_C"], whole(p.C))  # a step lies in one tap
    box = tiles["BOX_N"], tiles["BOX_H"], tiles["BOX_W"]
    boxes = math.prod(map(triton.cdiv, (N, *g.out), box))
    out = Output(p, boxes)
    if g.stride == (2, 2):
        x = p.x.reshape(N, g.size[0] // 2, 2, g.size[1] // 2, 2 * p.C)
        x = descriptor(x, (*box[:2], 1, box[2], tiles["BLOCK_C"]))
    else:
        x = descriptor(p.x, (*box, tiles["BLOCK_C"]))
    w = descriptor(w.reshape(p.K, -1), (tiles["BLOCK_K"], tiles["BLOCK_C"]))
    grid = (boxes * triton.cdiv(p.K, tiles["BLOCK_K"]),)
    launch(conv_boxes_kernel, grid, x, w, *out.pointers, N, p.K, *g.out, ROWS=rows, COLUMNS=columns, C=p.C,
           PRECISION=dot_precision(), **out.constants, **tiles)  # fmt: skip
    return out.results()


def _box(p: Problem) -> tuple[int, int, int]:
    """Images, rows and columns, 128 pixels or as many as there are: least waste, then the smallest border."""
    pixels = side(p.pixels, 128)
    powers = [2**i for i in range(pixels.bit_length())]
    boxes = [
        (pixels // (down * across), down, across)
        for down in powers
        for across in powers
        if down * across <= pixels
    ]
    return min(boxes, key=lambda box: (_boxed(p, box), box[0] * (box[1] + 2) * (box[2] + 2)))


def _boxed(p: Problem, box: tuple[int, int, int]) -> int:
    """How many pixels the boxes hold that cover y."""
    return math.prod(triton.cdiv(n, b) * b for n, b in zip((p.x.shape[0], *p.geometry.out), box))


def _tiles(p: Problem) -> dict[str, int]:
    """Tiles of 128 pixels by 256 channels, and smaller ones where processors would be idle."""
    wide = 64 if p.K <= 64 else 128 if p.K <= 128 else 256
    while wide > 64 and triton.cdiv(p.pixels, 128) * triton.cdiv(p.K, wide) < PROCESSORS:
        wide //= 2
    names = ("BOX_N", "BOX_H", "BOX_W")
    return {**dict(zip(names, _box(p))), "BLOCK_K": wide, "BLOCK_C": 128 // p.x.dtype.itemsize,
            "num_warps": 8, "num_stages": 3}  # fmt: skip


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`; by pointers on sm_80."""
    import ml_dtypes
    import numpy as np

    float16, float32 = np.float16, np.float32
    return {
        "float16 128>256 k4 s2": static_case(float16, 128, 128, 256, 32, 4, 2, 1),
        "float16 64>128 k4 s2, sums": static_case(float16, 128, 64, 128, 32, 4, 2, 1, sums=True),
        "float16 64>64 k3, skip": static_case(
            float16, 16, 64, 64, 64, 3, 1, 1, residual=np.empty((16, 64, 64, 64), float16)
        ),
        "bfloat16 512>512 k3, leaky_relu": static_case(
            ml_dtypes.bfloat16, 16, 512, 512, 16, 3, 1, 1, activation="leaky_relu"
        ),
        "tf32 128>256 k4 s2": static_case(float32, 128, 128, 256, 32, 4, 2, 1, precision="high"),
    }
