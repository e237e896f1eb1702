"""Optimisers in Triton: the updates of `kernels/updates.py`, in place.

Layout: arenas are arrays of one axis without gaps.

Tiling: BLOCK numbers in a row for each program, of every arena.

    p        |........|........|........|....    |
    g        |........|........|........|....    |      read, then 0
    m, v     |........|........|........|....    |
    ema      |........|........|........|....    |      from the new p
    half     |........|........|........|....    |      written
    program      0        1        2        3           (masked beyond the end)

Pad arenas to a multiple of 16 numbers: masks of others, and so their loads, are one number wide.

Numbers of the step (lr, clock, scale, found) are read from device memory by each program; the corrections of
Adam's averages, which need powers in float64, are made once a step by `advance`. Settings are constants of
the kernel.

Bytes: Adam with ema, half and zeroed gradients moves 42 for each float32 parameter (p, m, v, ema: 8 each; g:
8; half: 2), where separate passes for update, average, cast and zeroing move 50. FLOPs: some 20, with a root
and a division, so memory decides: the goal is the rate of a copy.

History:
1. One pass over all arenas, 1024 numbers for each program of 4 warps: of float32, each thread has two loads of
   16 bytes of each arena.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.means import total, workspace
from scratchgan.kernels.gpu.memory import demand, demand_numbers
from scratchgan.kernels.updates import check_arenas

DEFAULT = {"BLOCK": 1024, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (512, 1024, 2048) for warps in (4, 8)]


# The step's numbers


@triton.jit
def advance_kernel(CLOCK, FOUND, log_beta1: tl.float64, log_beta2: tl.float64):
    """t <- t + 1 and both corrections, with beta^t = exp(t log beta)."""
    if to_write(FOUND, 1) > 0:
        t = tl.load(CLOCK) + 1
        tl.store(CLOCK, t)
        tl.store(CLOCK + 1, 1 - tl.exp(t * log_beta1))
        tl.store(CLOCK + 2, tl.sqrt(1 - tl.exp(t * log_beta2)))


@triton.jit
def to_write(FOUND, size):
    """How many of `size` numbers change: none if the number at FOUND is not 0."""
    if FOUND is not None:
        size = tl.where(tl.load(FOUND) == 0, size, 0)
    return size


@triton.jit
def nonfinite_kernel(G, PARTS, size, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """How many of BLOCK numbers are infinite or NaN."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(G + offset, mask=offset < size, other=0.0).to(ACC)
    tl.store(PARTS + tl.program_id(0), tl.sum(tl.where(tl.abs(g) < float("inf"), 0.0, 1.0)))


@triton.jit
def rescale_kernel(SCALE, CLEAN, FOUND, growth: tl.float64, backoff: tl.float64, interval):
    """The next loss scale and number of steps without infinite gradients."""
    scale, over = tl.load(SCALE).to(tl.float64), tl.load(FOUND) != 0
    steps = tl.where(over, 0, tl.load(CLEAN) + 1)
    larger = (scale * growth).to(SCALE.dtype.element_ty)
    larger = tl.where(tl.abs(larger) < float("inf"), larger.to(tl.float64), scale)
    scale = tl.where(over, scale * backoff, tl.where(steps == interval, larger, scale))
    tl.store(SCALE, scale.to(SCALE.dtype.element_ty))
    tl.store(CLEAN, tl.where(steps == interval, 0, steps))


# What all updates begin and end with


@triton.jit
def gradient(G, SCALE, p, offset, inside, WEIGHT_DECAY: tl.constexpr, MAXIMIZE: tl.constexpr):
    """g / scale or its negative, plus weight_decay p."""
    g = tl.load(G + offset, mask=inside, other=0.0).to(p.dtype)
    if SCALE is not None:
        g /= tl.load(SCALE).to(p.dtype)
    if MAXIMIZE:
        g = -g
    if WEIGHT_DECAY != 0:
        g += WEIGHT_DECAY * p
    return g


@triton.jit
def finish(P, G, EMA, HALF, CLOCK, p, offset, inside, written, decay,
           WARMUP: tl.constexpr, ZERO: tl.constexpr):  # fmt: skip
    """Store the new p, and with it ema, half and the zeros in G."""
    tl.store(P + offset, p, mask=written)
    if EMA is not None:
        d = tl.full((), decay, tl.float64)
        if WARMUP:
            t = tl.load(CLOCK)
            d = tl.minimum(d, t / (t + 9))
        e = tl.load(EMA + offset, mask=inside, other=0.0)
        tl.store(EMA + offset, e + (p - e) * (1 - d).to(p.dtype), mask=written)
    if HALF is not None:
        tl.store(HALF + offset, p.to(HALF.dtype.element_ty), mask=written)
    if ZERO:
        tl.store(G + offset, tl.zeros(p.shape, G.dtype.element_ty), mask=inside)


@triton.jit
def average(mean, g, WEIGHT: tl.constexpr):
    """mean + weight (g - mean), reckoned from the nearer end."""
    if WEIGHT < 0.5:
        mean += (g - mean) * WEIGHT
    else:
        mean = g + (g - mean) * (WEIGHT - 1)
    return mean


@triton.jit
def average_square(v, g, DECAY: tl.constexpr):
    """decay v + (1 - decay) g^2."""
    return v * DECAY + g * (1 - DECAY) * g


# Updates


@triton.jit
def sgd_kernel(P, G, B, EMA, HALF, CLOCK, LR, SCALE, FOUND, size, decay: tl.float64,
               MOMENTUM: tl.constexpr, DAMPENING: tl.constexpr, NESTEROV: tl.constexpr,
               WEIGHT_DECAY: tl.constexpr, MAXIMIZE: tl.constexpr, WARMUP: tl.constexpr, ZERO: tl.constexpr,
               BLOCK: tl.constexpr):  # fmt: skip
    """One step of BLOCK parameters."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    written = offset < to_write(FOUND, size)
    p = tl.load(P + offset, mask=inside, other=0.0)
    g = gradient(G, SCALE, p, offset, inside, WEIGHT_DECAY, MAXIMIZE)
    u = g
    if B is not None:
        b = tl.load(B + offset, mask=inside, other=0.0)
        b = tl.where(tl.load(CLOCK) == 1, g, b * MOMENTUM + g * (1 - DAMPENING))
        tl.store(B + offset, b, mask=written)
        u = b
        if NESTEROV:
            u = b * MOMENTUM + g
    p += u * -tl.load(LR).to(p.dtype)
    finish(P, G, EMA, HALF, CLOCK, p, offset, inside, written, decay, WARMUP, ZERO)


@triton.jit
def rmsprop_kernel(P, G, V, MEAN, B, EMA, HALF, CLOCK, LR, SCALE, FOUND, size, decay: tl.float64,
                   ALPHA: tl.constexpr, EPS: tl.constexpr, MOMENTUM: tl.constexpr, WEIGHT_DECAY: tl.constexpr,
                   MAXIMIZE: tl.constexpr, WARMUP: tl.constexpr, ZERO: tl.constexpr,
                   BLOCK: tl.constexpr):  # fmt: skip
    """One step of BLOCK parameters."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    written = offset < to_write(FOUND, size)
    p = tl.load(P + offset, mask=inside, other=0.0)
    g = gradient(G, SCALE, p, offset, inside, WEIGHT_DECAY, MAXIMIZE)
    v = average_square(tl.load(V + offset, mask=inside, other=0.0), g, ALPHA)
    tl.store(V + offset, v, mask=written)
    if MEAN is not None:
        mean = average(tl.load(MEAN + offset, mask=inside, other=0.0), g, 1 - ALPHA)
        tl.store(MEAN + offset, mean, mask=written)
        v = tl.maximum(v - mean * mean, 0.0, propagate_nan=tl.PropagateNan.ALL)
    root = tl.sqrt(v) + EPS
    lr = tl.load(LR).to(p.dtype)
    if B is not None:
        b = tl.load(B + offset, mask=inside, other=0.0) * MOMENTUM + g / root
        tl.store(B + offset, b, mask=written)
        p += b * -lr
    else:
        p += g * -lr / root
    finish(P, G, EMA, HALF, CLOCK, p, offset, inside, written, decay, WARMUP, ZERO)


@triton.jit
def adam_kernel(P, G, M, V, LARGEST, EMA, HALF, CLOCK, LR, SCALE, FOUND, size, decay: tl.float64,
                BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr, WEIGHT_DECAY: tl.constexpr,
                MAXIMIZE: tl.constexpr, WARMUP: tl.constexpr, ZERO: tl.constexpr,
                BLOCK: tl.constexpr):  # fmt: skip
    """One step of BLOCK parameters."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    written = offset < to_write(FOUND, size)
    p = tl.load(P + offset, mask=inside, other=0.0)
    g = gradient(G, SCALE, p, offset, inside, WEIGHT_DECAY, MAXIMIZE)
    m = average(tl.load(M + offset, mask=inside, other=0.0), g, 1 - BETA1)
    v = average_square(tl.load(V + offset, mask=inside, other=0.0), g, BETA2)
    tl.store(M + offset, m, mask=written)
    tl.store(V + offset, v, mask=written)
    if LARGEST is not None:
        largest = tl.load(LARGEST + offset, mask=inside, other=0.0)
        v = tl.maximum(v, largest, propagate_nan=tl.PropagateNan.ALL)
        tl.store(LARGEST + offset, v, mask=written)
    step = (tl.load(LR).to(tl.float64) / tl.load(CLOCK + 1)).to(p.dtype)
    p += m * -step / (tl.sqrt(v) / tl.load(CLOCK + 2).to(p.dtype) + EPS)
    finish(P, G, EMA, HALF, CLOCK, p, offset, inside, written, decay, WARMUP, ZERO)


# Launchers


def advance(clock, beta1: float = 0.0, beta2: float = 0.0, found=None):
    """See `scratchgan.kernels.updates.advance`."""
    _covered(clock, found)
    log_beta1, log_beta2 = (math.log(beta) if beta > 0 else -math.inf for beta in (beta1, beta2))
    launch(advance_kernel, (1,), clock, found, log_beta1, log_beta2, num_warps=1)
    return clock


def nonfinite(g):
    """See `scratchgan.kernels.updates.nonfinite`."""
    demand(g)
    if not g.flags.c_contiguous:
        raise NotCovered("gradients must have no gaps")
    tiles = configuration("updates nonfinite", "", DEFAULT)
    parts = workspace(g, g.size, tiles["BLOCK"])
    launch(nonfinite_kernel, parts.shape, g, parts, g.size, ACC=accumulator(g.dtype), **tiles)
    return total(parts)


def rescale(scale, clean, found, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000):
    """See `scratchgan.kernels.updates.rescale`."""
    demand_numbers(scale, clean, found)
    launch(rescale_kernel, (1,), scale, clean, found, float(growth), float(backoff), interval, num_warps=1)
    return scale, clean


def sgd(p, g, b, clock, lr, *, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False,
        weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """See `scratchgan.kernels.updates.sgd`."""
    settings = {"MOMENTUM": float(momentum), "DAMPENING": float(dampening), "NESTEROV": nesterov}
    settings |= {"WEIGHT_DECAY": float(weight_decay), "MAXIMIZE": maximize}
    return _update("sgd", sgd_kernel, p, g, [b], clock, lr, settings, **shared)


def rmsprop(p, g, v, mean, b, clock, lr, *, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
            weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """See `scratchgan.kernels.updates.rmsprop`."""
    settings = {"ALPHA": float(alpha), "EPS": float(eps), "MOMENTUM": float(momentum)}
    settings |= {"WEIGHT_DECAY": float(weight_decay), "MAXIMIZE": maximize}
    return _update("rmsprop", rmsprop_kernel, p, g, [v, mean, b], clock, lr, settings, **shared)


def adam(p, g, m, v, largest, clock, lr, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
         weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """See `scratchgan.kernels.updates.adam`."""
    settings = {"BETA1": float(beta1), "BETA2": float(beta2), "EPS": float(eps)}
    settings |= {"WEIGHT_DECAY": float(weight_decay), "MAXIMIZE": maximize}
    return _update("adam", adam_kernel, p, g, [m, v, largest], clock, lr, settings, **shared)


def _update(name: str, kernel, p, g, averages, clock, lr, settings, *, ema=None, half=None,
            decay: float = 0.999, warmup=False, scale=None, found=None, zero=True):  # fmt: skip
    check_arenas(p, g, *averages, ema=ema, half=half)
    arenas = [p, g, *averages, ema, half]
    _covered(clock, lr, scale, found, arenas=[a for a in arenas if a is not None])
    tiles = configuration(f"updates {name}", "", DEFAULT)
    grid = (triton.cdiv(p.size, tiles["BLOCK"]),)
    launch(kernel, grid, *arenas, clock, lr, scale, found, p.size, float(decay), WARMUP=warmup, ZERO=zero,
           **settings, **tiles)  # fmt: skip
    return tuple(arenas)


def _covered(clock, *numbers, arenas=()) -> None:
    demand(*arenas)
    demand_numbers(*numbers)
    demand(clock, dtypes=("float64",))
    demand(*arenas[:1], dtypes=("float32", "float64"))
    if clock.shape != (3,):
        raise NotCovered(f"a clock of shape {clock.shape}: expected (3,)")
    if not all(a.flags.c_contiguous for a in (clock, *arenas)):
        raise NotCovered("arenas and the clock must have no gaps: they are written to")


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    n = 12_000_000  # a StyleGAN2 discriminator of 64 pixels, about
    p, m, v, ema = (np.empty(n, np.float32) for _ in range(4))
    g, gh, half, brain = p, *(np.empty(n, t) for t in (np.float16, np.float16, ml_dtypes.bfloat16))
    clock, one = np.empty(3), np.empty(1, np.float32)
    shared = {"ema": ema, "half": half}
    scaled = {**shared, "warmup": True, "scale": one, "found": one}
    return {
        "adam float32": Case(lambda: adam(p, g, m, v, None, clock, one, **shared), 20 * n, 42 * n),
        "adam float16": Case(lambda: adam(p, gh, m, v, None, clock, one, **scaled), 21 * n, 38 * n),
        "adam bfloat16": Case(lambda: adam(p, brain, m, v, None, clock, one, half=brain), 20 * n, 30 * n),
        "adam amsgrad": Case(lambda: adam(p, g, m, v, ema, clock, one, weight_decay=0.1), 20 * n, 40 * n),
        "sgd": Case(lambda: sgd(p, g, m, clock, one, momentum=0.9, nesterov=True, ema=ema), 10 * n, 32 * n),
        "rmsprop": Case(lambda: rmsprop(p, g, v, None, None, clock, one), 12 * n, 24 * n),
        "rmsprop centered": Case(lambda: rmsprop(p, g, v, m, ema, clock, one, momentum=0.5, maximize=True),
                                 18 * n, 40 * n),
        "advance": Case(lambda: advance(clock, 0.5, 0.999, one), 10, 28),
        "nonfinite": Case(lambda: nonfinite(gh), n, 2 * n),
        "rescale": Case(lambda: rescale(one, one, one), 5, 20),
    }  # fmt: skip
