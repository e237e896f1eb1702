"""Adversarial losses in Triton: the formulas of `kernels/losses.py`.

Layout: logits without gaps, in any order of the axes; gradients take the logits' order.

Tiling: program i takes the numbers i BLOCK ... (i + 1) BLOCK - 1 of both real and fake logits, each masked
beyond its own end; it stores their gradients and its part of the value. A second launch adds the parts, if
there are several.

    real     |........|........|....    |               N numbers
    fake     |........|........|........|......  |      M numbers
    program      0        1        2        3

A loss is a function of one tile that gives its losses and slopes; a kernel is compiled with one for each
side.

Bytes: reads each logit, writes each gradient. FLOPs: up to 40 for each number (exp, and log1p by its series).
Batches of logits are small, so what counts is the launch: one up to BLOCK logits, two beyond.

History:
1. The value's part and the gradients of both sides in one pass: one launch, where the formulas, operation by
   operation, take 10 to 20.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.means import store_gradient, total, workspace
from scratchgan.kernels.gpu.memory import demand, demand_alike, demand_numbers, empty_like, gapless
from scratchgan.kernels.means import check_shapes

DEFAULT = {"BLOCK": 1024, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (512, 1024, 2048) for warps in (2, 4)]


@triton.jit
def log1p(e):
    """log(1 + e) for 0 <= e <= 1.

    In float32, where tl.log has an error of 2^-22 near 1, as 2 artanh(z), z = e / (2 + e) <= 1/3, by its
    series, whose rest is 2e-9 of the sum. In float64 as log(w) - (w - 1 - e) / w, w being 1 + e as rounded.
    """
    if e.dtype == tl.float64:
        w = 1 + e
        y = tl.log(w) - (w - 1 - e) / w
    else:
        z = e / (2 + e)
        w = z * z
        y = 1 / 9 + w * (1 / 11 + w * (1 / 13 + w * (1 / 15)))
        y = 2 * z * (1 + w * (1 / 3 + w * (1 / 5 + w * (1 / 7 + w * y))))
    return y


# Losses of a tile of logits u, and their slopes


@triton.jit
def softplus(u, CENTRE: tl.constexpr):
    """log(1 + e^u) and s(u), from e = e^-|u| <= 1."""
    e = tl.exp(-tl.abs(u))
    return tl.maximum(u, 0.0) + log1p(e), tl.where(u < 0, e, 1.0) / (1 + e)


@triton.jit
def softplus_of_minus(u, CENTRE: tl.constexpr):
    """-log s(u) = softplus(-u)."""
    loss, slope = softplus(-u, CENTRE)
    return loss, -slope


@triton.jit
def minus_softplus(u, CENTRE: tl.constexpr):
    """log(1 - s(u)) = -softplus(u)."""
    loss, slope = softplus(u, CENTRE)
    return -loss, -slope


@triton.jit
def half_square(u, CENTRE: tl.constexpr):
    """(u - CENTRE)^2 / 2."""
    d = u - CENTRE
    return d * d * 0.5, d


@triton.jit
def above_minus_one(u, CENTRE: tl.constexpr):
    """max(0, 1 + u), of slope 0 where 1 + u is 0."""
    one = tl.full(u.shape, 1, u.dtype)
    return tl.maximum(1 + u, 0.0, propagate_nan=tl.PropagateNan.ALL), tl.where(1 + u <= 0, 0.0, one)


@triton.jit
def below_one(u, CENTRE: tl.constexpr):
    """max(0, 1 - u)."""
    loss, slope = above_minus_one(-u, CENTRE)
    return loss, -slope


@triton.jit
def itself(u, CENTRE: tl.constexpr):
    """u."""
    return u, tl.full(u.shape, 1, u.dtype)


@triton.jit
def minus(u, CENTRE: tl.constexpr):
    """-u."""
    return -u, tl.full(u.shape, -1, u.dtype)


# Kernels


@triton.jit
def one_mean(U, DU, SCALE, N,
             LOSS: tl.constexpr, CENTRE: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Store the gradients of this program's tile of N logits; its part of their mean loss."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < N
    loss, slope = LOSS(tl.load(U + offset, mask=inside, other=0.0).to(ACC), CENTRE)
    store_gradient(DU, offset, inside, slope / N, SCALE)
    return tl.sum(tl.where(inside, loss, 0.0)) / N


@triton.jit
def generator_kernel(F, DF, PARTS, SCALE, M, LOSS: tl.constexpr, CENTRE: tl.constexpr,
                     ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The mean loss of M fake logits, and its gradient."""
    tl.store(PARTS + tl.program_id(0), one_mean(F, DF, SCALE, M, LOSS, CENTRE, ACC, BLOCK))


@triton.jit
def discriminator_kernel(R, F, DR, DF, PARTS, SCALE, N, M,
                         LOSS_R: tl.constexpr, LOSS_F: tl.constexpr, A: tl.constexpr, B: tl.constexpr,
                         ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The mean loss of N real logits and that of M fake ones, and the gradients by both."""
    real = one_mean(R, DR, SCALE, N, LOSS_R, B, ACC, BLOCK)
    fake = one_mean(F, DF, SCALE, M, LOSS_F, A, ACC, BLOCK)
    tl.store(PARTS + tl.program_id(0), real + fake)


@triton.jit
def pairs_kernel(R, F, DR, DF, PARTS, SCALE, N, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """mean softplus(f - r) of N pairs, and its gradients by r and, unless DF is None, by f."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < N
    r = tl.load(R + offset, mask=inside, other=0.0).to(ACC)
    f = tl.load(F + offset, mask=inside, other=0.0).to(ACC)
    loss, slope = softplus(f - r, 0.0)
    store_gradient(DR, offset, inside, -slope / N, SCALE)
    if DF is not None:
        store_gradient(DF, offset, inside, slope / N, SCALE)
    tl.store(PARTS + tl.program_id(0), tl.sum(tl.where(inside, loss, 0.0)) / N)


# Launchers


def minimax_d(real, fake, scale=None):
    """See `scratchgan.kernels.losses.minimax_d`."""
    return _discriminator(softplus_of_minus, softplus, real, fake, scale)


def minimax_g(fake, scale=None):
    """See `scratchgan.kernels.losses.minimax_g`."""
    return _generator(minus_softplus, fake, scale)


def non_saturating_g(fake, scale=None):
    """See `scratchgan.kernels.losses.non_saturating_g`."""
    return _generator(softplus_of_minus, fake, scale)


def least_squares_d(real, fake, a: float = 0.0, b: float = 1.0, scale=None):
    """See `scratchgan.kernels.losses.least_squares_d`."""
    return _discriminator(half_square, half_square, real, fake, scale, float(a), float(b))


def least_squares_g(fake, c: float = 1.0, scale=None):
    """See `scratchgan.kernels.losses.least_squares_g`."""
    return _generator(half_square, fake, scale, float(c))


def hinge_d(real, fake, scale=None):
    """See `scratchgan.kernels.losses.hinge_d`."""
    return _discriminator(below_one, above_minus_one, real, fake, scale)


def wasserstein_d(real, fake, scale=None):
    """See `scratchgan.kernels.losses.wasserstein_d`."""
    return _discriminator(minus, itself, real, fake, scale)


def wasserstein_g(fake, scale=None):
    """See `scratchgan.kernels.losses.wasserstein_g`."""
    return _generator(minus, fake, scale)


def relativistic_d(real, fake, scale=None):
    """See `scratchgan.kernels.losses.relativistic_d`."""
    return _pairs(real, fake, scale, by_both=True)


def relativistic_g(real, fake, scale=None):
    """See `scratchgan.kernels.losses.relativistic_g`."""
    return _pairs(fake, real, scale, by_both=False)[:2]


def _generator(loss, fake, scale, centre: float = 0.0):
    _covered(scale, fake)
    (fake,) = gapless(fake)
    dfake = empty_like(fake)
    tiles = configuration("losses generator", "", DEFAULT)
    parts = workspace(fake, fake.size, tiles["BLOCK"])
    launch(generator_kernel, parts.shape, fake, dfake, parts, scale, fake.size,
           LOSS=loss, CENTRE=centre, ACC=accumulator(fake.dtype), **tiles)  # fmt: skip
    return total(parts), dfake


def _discriminator(loss_real, loss_fake, real, fake, scale, a: float = 0.0, b: float = 0.0):
    _covered(scale, real, fake)
    (real,), (fake,) = gapless(real), gapless(fake)
    dreal, dfake = empty_like(real), empty_like(fake)
    tiles = configuration("losses discriminator", "", DEFAULT)
    parts = workspace(real, max(real.size, fake.size), tiles["BLOCK"])
    launch(discriminator_kernel, parts.shape, real, fake, dreal, dfake, parts, scale, real.size, fake.size,
           LOSS_R=loss_real, LOSS_F=loss_fake, A=a, B=b, ACC=accumulator(real.dtype), **tiles)  # fmt: skip
    return total(parts), dreal, dfake


def _pairs(r, f, scale, by_both: bool):
    """mean softplus(f - r) and its gradients by r and, if `by_both`, by f."""
    check_shapes("relativistic loss", r, f)
    _covered(scale, r, f)
    r, f = gapless(r, f)
    dr, df = empty_like(r), empty_like(f) if by_both else None
    tiles = configuration("losses pairs", "", DEFAULT)
    parts = workspace(r, r.size, tiles["BLOCK"])
    launch(pairs_kernel, parts.shape, r, f, dr, df, parts, scale, r.size, ACC=accumulator(r.dtype), **tiles)
    return total(parts), dr, df


def _covered(scale, *logits) -> None:
    demand(*logits)
    demand_alike(*logits)
    demand_numbers(scale)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    half, brain, single, few = (
        np.empty((32, 1, 62, 62), np.float16),
        np.empty((32, 1, 62, 62), ml_dtypes.bfloat16),
        np.empty((32, 1, 62, 62), np.float32),
        np.empty(64, np.float32),
    )
    n = half.size
    return {
        "minimax_d float16": Case(lambda: minimax_d(half, half), 60 * n, 8 * n),
        "minimax_d float32": Case(lambda: minimax_d(single, single), 60 * n, 16 * n),
        "minimax_d 64 logits": Case(lambda: minimax_d(few, few), 60 * 64, 16 * 64),
        "hinge_d bfloat16": Case(lambda: hinge_d(brain, brain), 10 * n, 8 * n),
        "hinge_d float32 scaled": Case(lambda: hinge_d(single, single, few[:1]), 12 * n, 16 * n),
        "least_squares_d float32": Case(lambda: least_squares_d(single, single), 12 * n, 16 * n),
        "wasserstein_d float32": Case(lambda: wasserstein_d(single, single), 6 * n, 16 * n),
        "minimax_g float32": Case(lambda: minimax_g(single), 30 * n, 8 * n),
        "non_saturating_g float16": Case(lambda: non_saturating_g(half), 30 * n, 4 * n),
        "relativistic_d float16": Case(lambda: relativistic_d(half, half), 34 * n, 8 * n),
        "relativistic_g float32": Case(lambda: relativistic_g(single, single), 32 * n, 12 * n),
    }
