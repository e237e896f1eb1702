"""Cross entropy in Triton: the formulas of `kernels/cross_entropy.py`.

Layout: x (N, C, P) with the places P in one axis, contiguous or channels-last (others are copied); dx
likewise. The entry i = n P + p begins at n C P + p, its classes P apart; or at i C, its classes in a row.

Tiling: a program takes BLOCK_M entries, and walks over their classes twice, BLOCK_C at a time: for the
maximum and the sum of e^z, which is scaled anew where the maximum grows, then for losses and gradients. Where
one tile holds all classes the second reading is of the cache.

              c -->  BLOCK_C
    i |  [        ] [        ] [     ]      1. max, sum e^(x - max)
    BLOCK_M         [        ] [     ]      2. z = x - max:  loss -= a z,  dx = (A e^z / sum - a) / count

The count of entries, by which both are divided, each program adds up itself where there are at most FEW; of
more it is added before, in two launches. Parts of the value are added in a last one.

Bytes: reads x, twice where C > BLOCK_C, and writes dx. FLOPs: some 15 for each logit, with two exponentials.

History:
1. Losses and gradients from two sweeps: two launches for a batch of classified images, forward and backward.
2. Tiles of 1024 numbers: with 2048, 64 entries of 19 classes took 250 registers and spilled in Triton 3.6.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.cross_entropy import check_classes
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.means import store_gradient, total, workspace
from scratchgan.kernels.gpu.memory import demand, demand_numbers, empty

DEFAULT = {"BLOCK": 1024, "BLOCK_C": 1024, "num_warps": 4}  # BLOCK: numbers of a tile; BLOCK_C: at the most
CONFIGURATIONS = [
    {"BLOCK": block, "BLOCK_C": classes, "num_warps": warps}
    for block in (512, 1024, 2048)
    for classes in (256, 1024)
    for warps in (4, 8)
]
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
FEW = 4096  # entries that each program counts


@triton.jit
def counted(i, TARGET, WEIGHT, M, C, IGNORED: tl.constexpr, ACC: tl.constexpr):
    """Classes of the entries i, whether they count, and their weights: 0 if not, NaN for what is no class."""
    t = tl.load(TARGET + i, mask=i < M, other=0).to(tl.int64)
    kept = (i < M) & (t != IGNORED)
    known = (t >= 0) & (t < C)
    t = tl.where(known, t, -1).to(tl.int32)
    w = tl.full(i.shape, 1, ACC)
    if WEIGHT is not None:
        w = tl.load(WEIGHT + t, mask=kept & known, other=0.0).to(ACC)
    return t, kept, tl.where(kept, tl.where(known, w, float("nan")), 0.0)


@triton.jit
def count_kernel(TARGET, WEIGHT, PARTS, M, C, IGNORED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """This program's part of the count."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _, _, w = counted(i, TARGET, WEIGHT, M, C, IGNORED, ACC)
    tl.store(PARTS + tl.program_id(0), tl.sum(w))


@triton.jit
def count_of(COUNT, TARGET, WEIGHT, M, C, IGNORED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """The number at COUNT, or if that is None what these launches would find."""
    if COUNT is not None:
        count = tl.load(COUNT)
    else:
        parts = tl.zeros((BLOCK,), ACC)
        for start in range(0, M, BLOCK):
            _, _, w = counted(start + tl.arange(0, BLOCK), TARGET, WEIGHT, M, C, IGNORED, ACC)
            parts += w
        count = tl.sum(parts)
    return count


@triton.jit
def weights_of(WEIGHT, c, C, ACC: tl.constexpr):
    """w_c, 0 beyond the last class."""
    if WEIGHT is None:
        w = (c < C).to(ACC)
    else:
        w = tl.load(WEIGHT + c, mask=c < C, other=0.0).to(ACC)
    return w


@triton.jit
def cross_entropy_kernel(X, TARGET, WEIGHT, COUNT, DX, PARTS, SCALE, M, C, P, STEP_P, STEP_C,
                         IGNORED: tl.constexpr, SMOOTHING: tl.constexpr, ACC: tl.constexpr,
                         BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """dx of BLOCK_M entries, and their part of the value."""
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    target, kept, w_target = counted(i, TARGET, WEIGHT, M, C, IGNORED, ACC)
    first = i // P * (C * P) + i % P * STEP_P

    # 1. The maximum and the sum of exponentials; sum of weights
    top = tl.full((BLOCK_M,), float("-inf"), ACC)
    exponentials = tl.zeros((BLOCK_M,), ACC)
    weights = tl.zeros((BLOCK_C,), ACC)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (i < M)[:, None] & (c < C)[None, :]
        x = tl.load(X + first[:, None] + c[None, :] * STEP_C, mask=inside, other=float("-inf")).to(ACC)
        before, top = top, tl.maximum(top, tl.max(x, 1))
        base = tl.where(top == float("-inf"), 0.0, top)  # a tile of nothing but -inf has no finite difference
        exponentials = exponentials * tl.exp(before - base) + tl.sum(tl.exp(x - base[:, None]), 1)
        weights += weights_of(WEIGHT, c, C, ACC)

    # 2. Losses and gradients
    base = tl.where((top == float("-inf")) & (i >= M), 0.0, top)
    smooth = tl.full((), SMOOTHING, ACC) / C
    total_a = w_target * (1 - SMOOTHING) + smooth * tl.sum(weights)
    count = count_of(COUNT, TARGET, WEIGHT, M, C, IGNORED, ACC, BLOCK)
    loss = total_a * tl.log(exponentials)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (i < M)[:, None] & (c < C)[None, :]
        x = tl.load(X + first[:, None] + c[None, :] * STEP_C, mask=inside, other=float("-inf")).to(ACC)
        z = x - base[:, None]
        a = tl.where(c[None, :] == target[:, None], (w_target * (1 - SMOOTHING))[:, None], 0.0)
        a += smooth * weights_of(WEIGHT, c, C, ACC)[None, :]
        loss -= tl.sum(tl.where(inside & (a != 0), a * z, 0.0), 1)
        dx = (total_a[:, None] * (tl.exp(z) / exponentials[:, None]) - a) / count
        dx = tl.where(kept[:, None], dx, 0.0)
        store_gradient(DX, first[:, None] + c[None, :] * STEP_C, inside, dx, SCALE)
    tl.store(PARTS + tl.program_id(0), tl.sum(tl.where(kept, loss, 0.0)) / count)


def cross_entropy(x, target, weight=None, ignore_index: int = -100, label_smoothing: float = 0.0, scale=None):
    """See `scratchgan.kernels.cross_entropy.cross_entropy`."""
    check_classes(x, target, weight)
    demand(x, *([] if weight is None else [weight]))
    demand(target, dtypes=INTEGERS)
    demand_numbers(scale)
    N, C, *places = x.shape
    P, M = math.prod(places), N * math.prod(places)
    target, weight = contiguous(target), None if weight is None else contiguous(weight)
    x, dx, step_p, step_c = _laid_out(x, C, P)
    tiles = configuration("cross_entropy", f"C{C}", DEFAULT)
    tiles["BLOCK_C"] = min(tiles["BLOCK_C"], triton.next_power_of_2(C))
    tiles["BLOCK_M"] = max(1, tiles["BLOCK"] // tiles["BLOCK_C"])
    constants = {"IGNORED": ignore_index, "ACC": accumulator(x.dtype)}
    parts = workspace(x, M, tiles["BLOCK_M"])
    count = _count(x, target, weight, M, C, constants)
    launch(cross_entropy_kernel, parts.shape, x, target, weight, count, dx, parts, scale, M, C, max(1, P),
           step_p, step_c, SMOOTHING=float(label_smoothing), **constants, **tiles)  # fmt: skip
    return total(parts), dx


def _count(x, target, weight, M: int, C: int, constants: dict):
    """The sum of the weights of what is not ignored; None where programs do that themselves."""
    if M <= FEW:
        return None
    block = DEFAULT["BLOCK"]
    parts = workspace(x, M, block)
    launch(count_kernel, parts.shape, target, weight, parts, M, C, BLOCK=block, **constants)
    return total(parts)


def _laid_out(x, C: int, P: int):
    """x contiguous or channels-last, memory like it for dx, the steps between places and between classes."""
    last = x.transpose(0, *range(2, x.ndim), 1)
    if x.ndim > 2 and last.flags.c_contiguous:
        return x, empty(x, last.shape).transpose(0, x.ndim - 1, *range(1, x.ndim - 1)), C, 1
    return contiguous(x), empty(x, x.shape), 1, P


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    half, brain, single = (np.empty((256, 1000), t) for t in (np.float16, ml_dtypes.bfloat16, np.float32))
    many, of_many = np.empty((4096, 21841), np.float16), np.empty(4096, np.int64)
    pixels, of_pixels = np.empty((8, 128, 128, 19), np.float32), np.empty((8, 128, 128), np.int32)
    pixels, labels = pixels.transpose(0, 3, 1, 2), np.empty(256, np.int64)
    weight, n = np.empty(1000, np.float32), half.size
    return {
        "float16": Case(lambda: cross_entropy(half, labels), 15 * n, 4 * n),
        "bfloat16 smoothed": Case(lambda: cross_entropy(brain, labels, label_smoothing=0.1), 17 * n, 4 * n),
        "float32 weighed": Case(lambda: cross_entropy(single, labels, weight), 17 * n, 8 * n),
        "float16 21841": Case(lambda: cross_entropy(many, of_many), 15 * many.size, 6 * many.size),
        "float32 pixels": Case(lambda: cross_entropy(pixels, of_pixels), 15 * pixels.size, 8 * pixels.size),
    }
