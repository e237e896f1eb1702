"""Upsample by zeros, filter, downsample in Triton: the formula of `kernels/upfirdn2d.py`.

Layout: memory whose rows and columns lie side by side in the order of the axes, seen as (images, H, W,
inner): inner = C for channels-last, 1 for (N, C, H, W), when channels count as images. Columns may come
before rows. Other orders are copied first. The result takes x's order.

Per axis, outputs i and i + u / gcd(u, d) read x at places d / gcd(u, d) apart with the same taps. So the taps
of a few neighbouring outputs are known when the kernel is compiled: `stencil` lists the pixels that these
outputs read, each once, and the weight of each pixel in each output. Zeros between pixels and taps of weight
0 cost nothing.

Tiling: a program computes OUTPUTS neighbouring outputs (4 rows; 2 rows of 2 columns for u = 2) for BLOCK_Q of
their columns and BLOCK_C inner places. Here u = d = 1 with a filter of 4 x 4:

      reads 7 x 4 pixels        makes 4 x 1
      x x x x
      x x x x                        y
      x x x x                        y          7 reads for an output instead of 16;
      x x x x                        y          beside it, BLOCK_Q columns to the right,
      x x x x                        y          BLOCK_C channels into the page
      x x x x
      x x x x

Bytes: x is read once from memory (its other reads are served by the caches) and y written. FLOPs: 2 for each
tap that meets a pixel, R S / u^2 of them for an output: 8 FLOPs a byte for 4 x 4 taps in float16, so memory
decides. Filtering rows and columns in two passes would need half the FLOPs but write and read an image more:
4 numbers instead of 2 for u = d = 1, 9 / 4 instead of 5 / 4 for u = 2 (in numbers for each of y). One pass it
is, also for separable filters.

History:
1. Taps unrolled for each output alone: 16 loads for an output of a 4 x 4 filter.
2. Four rows for each program, pixels shared: 28 loads for 4 outputs (u = 1), 9 for 4 (u = 2).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

import triton
import triton.language as tl

from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.activation import activate
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import back, demand, empty, in_order, order

Pair = tuple[int, int]
MOST_TAPS, MOST_PHASES = 256, 16  # beyond these the unrolled kernel takes too long to compile
FEW_TAPS = 64  # with more, programs compute no more outputs than they must

DEFAULT = {"BLOCK": 1024, "OUTPUTS": 4, "num_warps": 4}
CONFIGURATIONS = [
    {"BLOCK": block, "OUTPUTS": outputs, "num_warps": warps}
    for block, warps in ((512, 2), (512, 4), (1024, 4), (2048, 8))
    for outputs in (2, 4, 8)
]


class Stencil(NamedTuple):
    """What the outputs of one program read: outputs (row, column) and pixels (row, column), counted from the
    program's first, and the weight of each pixel in each output."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    pixel_rows: tuple[int, ...]
    pixel_columns: tuple[int, ...]
    weights: tuple[float, ...]  # (pixels, outputs), flattened


@lru_cache(maxsize=256)
def stencil(f, up: Pair, down: Pair, pad: Pair, size: Pair) -> Stencil:
    """Of size[0] x size[1] neighbours: tap t of output i reads (i d + t - p) / u, if that is whole."""
    outputs = [(i, j) for i in range(size[0]) for j in range(size[1])]
    weights = defaultdict(lambda: [0.0] * len(outputs))
    for number, (i, j) in enumerate(outputs):
        for r, taps in enumerate(f):
            for s, weight in enumerate(taps):
                row, column = i * down[0] + r - pad[0], j * down[1] + s - pad[1]
                if weight and row % up[0] == 0 and column % up[1] == 0:
                    weights[row // up[0], column // up[1]][number] += weight
    pixels = sorted(weights)
    rows, columns = zip(*outputs)
    return Stencil(rows, columns, tuple(p[0] for p in pixels), tuple(p[1] for p in pixels),
                   tuple(w for p in pixels for w in weights[p]))  # fmt: skip


@triton.jit
def upfirdn2d_kernel(X, Y, H, W, P, Q, inner, groups, column_tiles, inner_tiles, SLOPE: tl.constexpr, GAIN: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, PIXEL_ROWS: tl.constexpr,
                     PIXEL_COLUMNS: tl.constexpr, WEIGHTS: tl.constexpr, OUT_ROWS: tl.constexpr,
                     OUT_STEP: tl.constexpr, IN_ROWS: tl.constexpr, IN_STEP: tl.constexpr,
                     ACTIVATION: tl.constexpr, ACC: tl.constexpr,
                     BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """Outputs from row OUT_ROWS group and column OUT_STEP j on, j < BLOCK_Q, read x from row IN_ROWS group
    and column IN_STEP j on."""
    program = tl.program_id(0)
    c = program % inner_tiles * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    program //= inner_tiles
    j = program % column_tiles * BLOCK_Q + tl.arange(0, BLOCK_Q)[:, None]
    program //= column_tiles
    group = tl.full((BLOCK_Q, 1), program % groups, tl.int32)  # the interpreter masks by tiles alone
    image = program // groups
    COUNT: tl.constexpr = len(ROWS)
    y = (tl.zeros((BLOCK_Q, BLOCK_C), ACC),) * COUNT
    for pixel in tl.static_range(len(PIXEL_ROWS)):
        row = group * IN_ROWS + PIXEL_ROWS[pixel]
        column = j * IN_STEP + PIXEL_COLUMNS[pixel]
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W) & (c < inner)
        x = tl.load(X + ((image * H + row) * W + column) * inner + c, mask=inside, other=0.0).to(ACC)
        for output in tl.static_range(COUNT):
            if WEIGHTS[pixel * COUNT + output] != 0:
                y = replaced(y, output, y[output] + x * WEIGHTS[pixel * COUNT + output])
    for output in tl.static_range(COUNT):
        row = group * OUT_ROWS + ROWS[output]
        column = j * OUT_STEP + COLUMNS[output]
        inside = (row < P) & (column < Q) & (c < inner)
        value = activate(y[output], SLOPE, ACTIVATION) * GAIN
        tl.store(Y + ((image * P + row) * Q + column) * inner + c, value.to(Y.dtype.element_ty), mask=inside)


@triton.jit
def replaced(values, INDEX: tl.constexpr, value):
    """The tuple `values` with another value at INDEX."""
    return values[:INDEX] + (value,) + values[INDEX + 1 :]


def upfirdn2d(x, f, up: Pair, down: Pair, pad: Pair, size: Pair,
              activation: str = "linear", slope: float = 0.0, gain: float = 1.0):  # fmt: skip
    """See `scratchgan.kernels.upfirdn2d.upfirdn2d`."""
    demand(x)
    steps = tuple(u // gcd(u, d) for u, d in zip(up, down))
    taps = len(f) * len(f[0])
    if taps > MOST_TAPS or prod(steps) > MOST_PHASES:
        most = f"{MOST_TAPS} in {MOST_PHASES}"
        raise NotCovered(f"{taps} taps in {prod(steps)} phases: expected at most {most}")
    if activation not in ACTIVATIONS:
        raise NotCovered(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    x, axes = _side_by_side(x)
    shape, (rows, columns) = (*x.shape[:2], *size), (2, 3)
    y = back(empty(x, tuple(shape[i] for i in axes)), axes)
    demand(y)
    if axes.index(3) < axes.index(2):  # memory holds the transposed images
        f, (rows, columns) = tuple(zip(*f)), (3, 2)
        up, down, pad, size, steps = up[::-1], down[::-1], pad[::-1], size[::-1], steps[::-1]
    place = axes.index(rows)
    images, inner = (prod(x.shape[i] for i in part) for part in (axes[:place], axes[place + 2 :]))
    _launch(x, y, f, (up, down, pad, size), (x.shape[rows], x.shape[columns]), steps, images, inner,
            activation, slope, gain)  # fmt: skip
    return y


def _side_by_side(x):
    """x without gaps, and its axes in their order in memory, rows beside columns. Strides alone do not tell that
    order: an axis of size 1 has any."""
    axes = order(x)
    if abs(axes.index(2) - axes.index(3)) != 1:
        axes = [0, 2, 3, 1]
    return in_order(x, axes), axes


def _launch(x, y, f, rates: tuple[Pair, Pair, Pair, Pair], x_size: Pair, steps: Pair, images: int, inner: int,
            activation: str, slope: float, gain: float) -> None:  # fmt: skip
    up, down, pad, size = rates
    constants = dict(configuration("upfirdn2d", f"up {steps} of {len(f)} x {len(f[0])} taps", DEFAULT))
    block, outputs = constants.pop("BLOCK"), constants.pop("OUTPUTS")
    few = len(f) * len(f[0]) <= FEW_TAPS
    rows = steps[0] * (max(1, outputs // prod(steps)) if few else 1)
    columns = -(-size[1] // steps[1])
    block_c = min(triton.next_power_of_2(inner), 64)
    block_q = min(triton.next_power_of_2(max(1, columns)), block // block_c)
    column_tiles, inner_tiles = triton.cdiv(columns, block_q), triton.cdiv(inner, block_c)
    groups = triton.cdiv(size[0], rows)
    what = stencil(f, up, down, pad, (rows, steps[1]))
    launch(upfirdn2d_kernel, (images * groups * column_tiles * inner_tiles,),
           x, y, *x_size, *size, inner, groups, column_tiles, inner_tiles, SLOPE=slope, GAIN=gain,
           ROWS=what.rows, COLUMNS=what.columns, PIXEL_ROWS=what.pixel_rows, PIXEL_COLUMNS=what.pixel_columns,
           WEIGHTS=what.weights, OUT_ROWS=rows, OUT_STEP=steps[1], IN_ROWS=rows * down[0] // up[0],
           IN_STEP=steps[1] * down[1] // up[1], ACTIVATION=activation, ACC=accumulator(x.dtype),
           BLOCK_Q=block_q, BLOCK_C=block_c, **constants)  # fmt: skip


def static_cases() -> dict[str, Case]:
    """Calls that cover the kernel at StyleGAN2's layers, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    square = tuple(map(tuple, np.outer(taps, taps).tolist()))

    def case(shape, dtype, up, down, pad, size, channels_last=True, **act):
        n, c, h, w = shape
        x = np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2) if channels_last else np.empty(shape, dtype)
        y_size = n * c * size * size
        return Case(lambda: upfirdn2d(x, square, (up, up), (down, down), (pad, pad), (size, size), **act),
                    2 * 16 / up**2 * y_size, x.itemsize * (x.size + y_size))  # fmt: skip

    act = {"activation": "leaky_relu", "slope": 0.2, "gain": 1.4}
    return {
        "blur float16": case((32, 128, 65, 65), np.float16, 1, 1, 1, 64),
        "blur float32": case((32, 128, 65, 65), np.float32, 1, 1, 1, 64),
        "blur and activate bfloat16": case((32, 128, 65, 65), ml_dtypes.bfloat16, 1, 1, 1, 64, **act),
        "up 2 float16": case((32, 128, 32, 32), np.float16, 2, 1, 2, 64),
        "down 2 float16": case((32, 128, 64, 64), np.float16, 1, 2, 1, 32),
        "RGB up 2 float32": case((32, 3, 64, 64), np.float32, 2, 1, 2, 128),
        "RGB up 2 float32 NCHW": case((32, 3, 64, 64), np.float32, 2, 1, 2, 128, channels_last=False),
    }
