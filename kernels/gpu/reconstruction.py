"""Mean errors in Triton: the formulas of `kernels/reconstruction.py`.

Layout: memory without gaps, in any order of the axes; b is brought to a's order, which da takes.

Tiling: BLOCK numbers in a row for each program, which stores their gradients and its part of the mean; a
second launch adds the parts, if there are several.

    a, b     |........|........|........|....    |
    program      0        1        2        3       (masked beyond the end)

Bytes: reads a and b, writes da: three numbers for each of a. FLOPs: 5 to 10 for each number, so memory
decides: the goal is the rate of a copy.

History:
1. 2048 numbers for each program of 4 warps: of float16, two loads of 16 bytes of each input for each thread.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.means import store_gradient, total, workspace
from scratchgan.kernels.gpu.memory import demand, demand_alike, demand_numbers, empty_like, gapless
from scratchgan.kernels.means import check_shapes

DEFAULT = {"BLOCK": 2048, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (1024, 2048, 4096) for warps in (4, 8)]


# Losses of a tile of differences d, and their slopes


@triton.jit
def square(d, BETA: tl.constexpr):
    """d^2."""
    return d * d, 2 * d


@triton.jit
def absolute(d, BETA: tl.constexpr):
    """|d|."""
    one = tl.full(d.shape, 1, d.dtype)
    return tl.abs(d), tl.where(d > 0, one, tl.where(d < 0, -one, d))


@triton.jit
def smooth_absolute(d, BETA: tl.constexpr):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere."""
    slope = d / BETA
    slope = tl.where(slope > 1, 1.0, tl.where(slope < -1, -1.0, slope))
    return slope * (d - 0.5 * BETA * slope), slope


@triton.jit
def error_kernel(A, B, DA, PARTS, SCALE, size,
                 LOSS: tl.constexpr, BETA: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """This program's part of the mean loss of a - b, and da of its numbers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    a = tl.load(A + offset, mask=inside, other=0.0).to(ACC)
    b = tl.load(B + offset, mask=inside, other=0.0).to(ACC)
    loss, slope = LOSS(a - b, BETA)
    store_gradient(DA, offset, inside, slope * (tl.full((), 1, ACC) / size), SCALE)
    tl.store(PARTS + tl.program_id(0), tl.sum(loss) / size)  # beyond the end a = b, without loss


def mse_loss(a, b, scale=None):
    """See `scratchgan.kernels.reconstruction.mse_loss`."""
    return _error("mse_loss", square, a, b, scale)


def l1_loss(a, b, scale=None):
    """See `scratchgan.kernels.reconstruction.l1_loss`."""
    return _error("l1_loss", absolute, a, b, scale)


def smooth_l1_loss(a, b, beta: float = 1.0, scale=None):
    """See `scratchgan.kernels.reconstruction.smooth_l1_loss`."""
    return _error("smooth_l1_loss", smooth_absolute, a, b, scale, float(beta))


def _error(name: str, loss, a, b, scale, beta: float = 1.0):
    check_shapes(name, a, b)
    demand(a, b)
    demand_alike(a, b)
    demand_numbers(scale)
    a, b = gapless(a, b)
    da, tiles = empty_like(a), configuration(f"reconstruction {name}", "", DEFAULT)
    parts = workspace(a, a.size, tiles["BLOCK"])
    launch(error_kernel, parts.shape, a, b, da, parts, scale, a.size,
           LOSS=loss, BETA=beta, ACC=accumulator(a.dtype), **tiles)  # fmt: skip
    return total(parts), da


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    types = (np.float16, ml_dtypes.bfloat16, np.float32)
    half, brain, single = (np.empty((16, 3, 256, 256), dtype) for dtype in types)
    n = half.size
    return {
        "l1 float16": Case(lambda: l1_loss(half, half), 5 * n, 6 * n),
        "l1 float32": Case(lambda: l1_loss(single, single), 5 * n, 12 * n),
        "mse bfloat16": Case(lambda: mse_loss(brain, brain), 5 * n, 6 * n),
        "mse float32": Case(lambda: mse_loss(single, single), 5 * n, 12 * n),
        "smooth l1 float32": Case(lambda: smooth_l1_loss(single, single, 0.5), 10 * n, 12 * n),
    }
