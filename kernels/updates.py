"""Optimisers over flat arenas: update, average of weights, zeroed gradients and half-precision copy in one.

All parameters of a network lie one after the other in one array p (n,), and so do their gradients g, the
optimiser's averages, the moving average of the weights `ema`, and `half`, the copy in which networks compute.
The updates are those of `scratchgan/optim.py`, operation by operation, with the gradient g / scale, or its
negative (`maximize`), plus weight_decay p:

    sgd         b <- momentum b + (1 - dampening) g, at step 1 b <- g
                p <- p - lr b, for Nesterov p - lr (g + momentum b)
    rmsprop     v <- alpha v + (1 - alpha) g^2
                p <- p - lr g / (sqrt(v) + eps)
    adam        m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
                p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    ema <- ema + (1 - d) (p - ema)    d = decay, or with `warmup` min(decay, t / (t + 9))
    half <- p, rounded
    g <- 0                            unless `zero` is False

Nothing here reads the host, so that a CUDA graph can hold a step: `lr`, `scale` and `found` are arrays of one
number, and `clock` is one of three in float64, which begin as 0 and which `advance` moves once a step, before
the updates:

    clock = (t, 1 - beta1^t, sqrt(1 - beta2^t)),    t <- t + 1

Where `found` is not 0 (`nonfinite` counts the infinite gradients and NaN that too large a loss scale makes),
the step does not take place: advance and updates leave everything as it is, but zero g. `rescale`, last in a
step, then makes the loss scale smaller, and larger after a while without such steps, as PyTorch's GradScaler
does.

Updates are in place: they return the arrays that they were given, in the order p, g, the optimiser's, ema,
half, with None for those that were left out. p, the averages and ema are of one dtype, float32 or float64; g
and half are of any. The references read `found` on the host. `shared` stands for ema, half, decay, warmup,
scale, found, zero.
"""

from __future__ import annotations

import numpy as np

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import accumulated


@kernel
def advance(clock, beta1: float = 0.0, beta2: float = 0.0, found=None):
    """t <- t + 1 in clock (3,), and Adam's corrections for it; nothing where `found`. In place."""
    if not _is_set(found):
        clock[0] += 1
        clock[1] = 1 - beta1 ** clock[0]
        clock[2] = xp(clock).sqrt(1 - beta2 ** clock[0])
    return clock


@kernel
def nonfinite(g):
    """How many numbers of g are infinite or NaN; float32, float64 of float64."""
    return (~xp(g).isfinite(g)).sum(dtype=accumulated(g.dtype))


@kernel
def rescale(scale, clean, found, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000):
    """scale <- backoff scale where `found`; after `interval` steps without, growth scale if that is finite.

    In place. `clean`, of one number like scale and found, counts these steps.
    """
    m, over = xp(scale), found != 0
    steps = m.where(over, 0, clean + 1)
    with np.errstate(over="ignore"):
        larger = m.where(m.isfinite(scale * growth), scale * growth, scale)
    scale[...] = m.where(over, scale * backoff, m.where(steps == interval, larger, scale))
    clean[...] = m.where(steps == interval, 0, steps)
    return scale, clean


@kernel
def sgd(p, g, b, clock, lr, *, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False,
        weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """One step of SGD; b is None without momentum."""
    check_arenas(p, g, b, **shared)

    def rule(g):
        u = g
        if b is not None:
            b[...] = xp(g).where(clock[0] == 1, g, b * momentum + g * (1 - dampening))
            u = b * momentum + g if nesterov else b
        return u * -_number(lr, p.dtype)

    return _update(rule, p, g, [b], clock, weight_decay, maximize, **shared)


@kernel
def rmsprop(p, g, v, mean, b, clock, lr, *, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
            weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """One step of RMSprop.

    With `mean`, the average gradient, v - mean^2 is in v's place ("centered"), 0 where rounding makes it
    negative. With momentum, b <- momentum b + g / (sqrt(v) + eps) and p <- p - lr b. Without, these are None.
    """
    check_arenas(p, g, v, mean, b, **shared)

    def rule(g):
        m, variance, step = xp(g), _average_square(v, g, alpha), -_number(lr, p.dtype)
        if mean is not None:
            variance = m.maximum(v - m.square(_average(mean, g, 1 - alpha)), 0)
        root = m.sqrt(variance) + eps
        if b is None:
            return g * step / root
        b[...] = b * momentum + g / root
        return b * step

    return _update(rule, p, g, [v, mean, b], clock, weight_decay, maximize, **shared)


@kernel
def adam(p, g, m, v, largest, clock, lr, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
         weight_decay: float = 0.0, maximize: bool = False, **shared):  # fmt: skip
    """One step of Adam, the clock advanced by the same betas; `largest`: AMSGrad's largest v so far, or None."""
    check_arenas(p, g, m, v, largest, **shared)

    def rule(g):
        module, most = xp(g), _average_square(v, g, beta2)
        _average(m, g, 1 - beta1)
        if largest is not None:
            most = module.maximum(largest, v, out=largest)
        step = _number(_number(lr, np.float64) / clock[1], p.dtype)
        return m * -step / (module.sqrt(most) / _number(clock[2], p.dtype) + eps)

    return _update(rule, p, g, [m, v, largest], clock, weight_decay, maximize, **shared)


def check_arenas(p, g, *averages, ema=None, half=None, **_) -> None:
    """Raise a ValueError for arrays that are no arenas of one size, and of one dtype where they must be."""
    for a in (p, g, *averages, ema, half):
        if a is not None and (a.ndim != 1 or a.shape != p.shape):
            raise ValueError(f"updates: arenas of shapes {p.shape} and {a.shape}, expected one axis and size")
    for a in (*averages, ema):
        if a is not None and a.dtype != p.dtype:
            raise ValueError(f"updates: {p.dtype} parameters, averages of {a.dtype}: expected one dtype")


def _update(rule, p, g, averages, clock, weight_decay, maximize, *, ema=None, half=None, decay: float = 0.999,
            warmup: bool = False, scale=None, found=None, zero: bool = True):  # fmt: skip
    """p <- p + rule(gradient), and what follows every update."""
    if not _is_set(found):
        slope = g.astype(p.dtype)
        if scale is not None:
            slope = slope / _number(scale, p.dtype)
        slope = -slope if maximize else slope
        slope = slope + weight_decay * p if weight_decay else slope
        p += rule(slope)
        if ema is not None:
            kept = xp(clock).minimum(clock[0] / (clock[0] + 9), decay) if warmup else decay
            ema += (p - ema) * (_number(1 - kept, p.dtype) if warmup else 1 - kept)
        if half is not None:
            with np.errstate(over="ignore"):
                half[...] = p.astype(half.dtype)
    if zero:
        g[...] = 0
    return (p, g, *averages, ema, half)


def _average(mean, g, weight: float):
    """mean <- mean + weight (g - mean), reckoned from the nearer end as `torch.lerp` does; in place."""
    difference = g - mean
    mean[...] = mean + difference * weight if weight < 0.5 else g + difference * (weight - 1)
    return mean


def _average_square(v, g, decay: float):
    """v <- decay v + (1 - decay) g^2, in place."""
    v *= decay
    v += g * (1 - decay) * g
    return v


def _number(a, dtype):
    """The one number of `a` in `dtype`, so that it does not widen what it is multiplied with."""
    return a.reshape(()).astype(dtype)


def _is_set(found) -> bool:
    return found is not None and bool(found.any())
