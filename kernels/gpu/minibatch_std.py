"""The standard deviation over minibatches in Triton: the formulas of `kernels/minibatch_std.py`.

Layout: memory without gaps with the samples outermost, each seen as (outer, C, inner): inner = 1 for
channels-last, H W for (N, C, H, W). Results take x's order; other orders are copied to channels-last first.

Tiling: a program has all samples of one group and as many features as make BLOCK numbers.

                 f ->
    sample j  [........]   mu, sigma down      parts (groups, blocks of features): sums of sigma, which every
       |      [........]                       program that writes the result adds up again, in the same order

Bytes: x is read twice and y written, three numbers for each of x; the gradient reads x and g and writes dx.
It is a layer of 4 x 4 pixels, less than a MB: what counts is the number of launches, two each way.

History:
1. Sum, then write: the sums of the blocks are added by the programs that need them, which saves a launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty, empty_like, gapless, in_order, inner, order
from scratchgan.kernels.means import accumulated
from scratchgan.kernels.minibatch_std import EPSILON, groups

LARGEST_GROUP = 64
DEFAULT = {"BLOCK": 1024, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (512, 1024, 2048) for warps in (4, 8)]


@triton.jit
def deviations_kernel(X, PARTS, first, size, count, F, eps,
                      ACC: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The sum of sigma over BLOCK features of one group."""
    f = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    _, sigma = deviations(X, f, first, size, count, F, eps, ACC, SAMPLES)
    total = tl.sum(tl.where(f < F, sigma, 0.0))
    tl.store(PARTS + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), total)


@triton.jit
def deviations(X, f, first, size, count, F, eps, ACC: tl.constexpr, SAMPLES: tl.constexpr):
    """x - mu (SAMPLES, features) of this program's group, and sigma (features,)."""
    j = tl.arange(0, SAMPLES)
    n = first + tl.program_id(0) + j * count
    x = tl.load(X + n[:, None] * F + f[None, :], mask=(j < size)[:, None] & (f < F)[None, :], other=0.0).to(
        ACC
    )
    centred = tl.where((j < size)[:, None], x - (tl.sum(x, 0) / size)[None, :], 0.0)
    return centred, tl.sqrt(tl.sum(centred * centred, 0) / size + eps)


@triton.jit
def append_kernel(X, PARTS, Y, first, count, blocks, C, inner, F, F_Y,
                  ACC: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One sample of y: x, and s in the last of C + 1 channels."""
    n = first + tl.program_id(0)
    part = tl.arange(0, PLACES)
    s = tl.sum(tl.load(PARTS + tl.program_id(0) % count * blocks + part, mask=part < blocks, other=0.0)) / F
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = o // inner
    c, place = row % (C + 1), (row // (C + 1) * C + row % (C + 1)) * inner + o % inner
    x = tl.load(X + n * F + place, mask=(o < F_Y) & (c < C), other=0.0).to(ACC)
    tl.store(Y + n * F_Y + o, tl.where(c < C, x, s).to(Y.dtype.element_ty), mask=o < F_Y)


@triton.jit
def slopes_kernel(G, SLOPES, first, size, count, C, inner, pixels, F_Y,
                  ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The sum of g over the last channel of all samples of one group."""
    total = tl.zeros((BLOCK,), ACC)
    for start in range(0, size * pixels, BLOCK):
        o = start + tl.arange(0, BLOCK)
        n, pixel = first + tl.program_id(0) + o // pixels * count, o % pixels
        place = (pixel // inner * (C + 1) + C) * inner + pixel % inner
        total += tl.load(G + n * F_Y + place, mask=o < size * pixels, other=0.0).to(ACC)
    tl.store(SLOPES + tl.program_id(0), tl.sum(total))


@triton.jit
def minibatch_std_dx_kernel(G, X, SLOPES, DX, first, size, count, C, inner, F, F_Y, eps,
                            ACC: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """dx = g + slope (x - mu) / (F G sigma), BLOCK features of one group."""
    f = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    centred, sigma = deviations(X, f, first, size, count, F, eps, ACC, SAMPLES)
    slope = tl.load(SLOPES + tl.program_id(0)) / F / size
    j = tl.arange(0, SAMPLES)
    n = (first + tl.program_id(0) + j * count)[:, None]
    inside = (j < size)[:, None] & (f < F)[None, :]
    row = f // inner
    place = (row // C * (C + 1) + row % C) * inner + f % inner
    g = tl.load(G + n * F_Y + place[None, :], mask=inside, other=0.0).to(ACC)
    dx = g + slope * centred / sigma[None, :]
    tl.store(DX + n * F + f[None, :], dx.to(DX.dtype.element_ty), mask=inside)


def minibatch_std(x, group: int = 4):
    """See `scratchgan.kernels.minibatch_std.minibatch_std`."""
    x = _covered(x, group)
    N, C, H, W = x.shape
    y, F, F_Y = empty_like(x, (N, C + 1, H, W)), C * H * W, (C + 1) * H * W
    features, constants = _tiles(group)
    blocks, block = max(1, triton.cdiv(F, features["BLOCK"])), constants["BLOCK"]
    for part in groups(N, group):
        parts = empty(x, (part.count, blocks), accumulated(x.dtype))
        launch(
            deviations_kernel,
            (part.count, blocks),
            x,
            parts,
            *part,
            F,
            EPSILON,
            ACC=accumulator(x.dtype),
            **features,
        )
        launch(append_kernel, (part.size * part.count, triton.cdiv(F_Y, block)),
               x, parts, y, part.first, part.count, blocks, C, inner(x, 1), F, F_Y,
               ACC=accumulator(x.dtype), PLACES=triton.next_power_of_2(blocks), **constants)  # fmt: skip
    return y


def minibatch_std_dx(g, x, group: int = 4):
    """See `scratchgan.kernels.minibatch_std.minibatch_std_dx`."""
    demand(g)
    x = _covered(x, group)
    g = in_order(g, order(x))
    (N, C, H, W), dx, step = x.shape, empty_like(x), inner(x, 1)
    F, F_Y = C * H * W, (C + 1) * H * W
    features, constants = _tiles(group)
    for part in groups(N, group):
        slopes = empty(x, (part.count,), accumulated(x.dtype))
        launch(
            slopes_kernel,
            (part.count,),
            g,
            slopes,
            *part,
            C,
            step,
            H * W,
            F_Y,
            ACC=accumulator(x.dtype),
            **constants,
        )
        launch(minibatch_std_dx_kernel, (part.count, triton.cdiv(F, features["BLOCK"])), g, x, slopes, dx,
               *part, C, step, F, F_Y, EPSILON, ACC=accumulator(x.dtype), **features)  # fmt: skip
    return dx


def _covered(x, group: int):
    """x without gaps, its samples outermost."""
    demand(x)
    if group > LARGEST_GROUP:
        raise NotCovered(f"groups of {group}: expected at most {LARGEST_GROUP}")
    (x,) = gapless(x)
    return x if order(x)[0] == 0 else in_order(x, [0, 2, 3, 1])


def _tiles(group: int) -> tuple[dict, dict]:
    """The constants of kernels that hold a group's samples, and of those that hold a row of BLOCK numbers."""
    constants = configuration("minibatch_std", "", DEFAULT)
    samples = triton.next_power_of_2(group)
    return {**constants, "SAMPLES": samples, "BLOCK": max(1, constants["BLOCK"] // samples)}, constants


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def case(dtype, call, channels_last=True):
        images = (
            np.empty((32, 4, 4, 512), dtype).transpose(0, 3, 1, 2)
            if channels_last
            else np.empty((32, 512, 4, 4), dtype)
        )
        more = (
            np.empty((32, 4, 4, 513), dtype).transpose(0, 3, 1, 2)
            if channels_last
            else np.empty((32, 513, 4, 4), dtype)
        )
        return Case(lambda: call(images, more), 8 * images.size, 3 * images.itemsize * images.size)

    return {
        "y float16": case(np.float16, lambda x, _: minibatch_std(x)),
        "y float32": case(np.float32, lambda x, _: minibatch_std(x)),
        "y float32 NCHW": case(np.float32, lambda x, _: minibatch_std(x), channels_last=False),
        "dx bfloat16": case(ml_dtypes.bfloat16, lambda x, g: minibatch_std_dx(g, x)),
        "dx float32": case(np.float32, lambda x, g: minibatch_std_dx(g, x)),
    }
