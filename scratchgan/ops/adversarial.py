"""Adversarial losses of logits and penalties on gradient norms, each as one op: the papers are in
`scratchgan.kernels.losses` and `scratchgan.kernels.gradient_norms`.

What they are is written in differentiable ops; on arrays one pass gives value and gradients. Backward is that
pass once more, scaled by what comes from behind before anything is rounded: for a batch of logits it is as
long as the products that it spares, and float16 keeps slopes that it could not hold unscaled.
"""

from __future__ import annotations

from scratchgan.autograd import Fused
from scratchgan.backend import xp
from scratchgan.kernels import gradient_norms, losses
from scratchgan.kernels.dispatch import Kernel
from scratchgan.ops import reduce
from scratchgan.ops.elementwise import logsigmoid, relu
from scratchgan.ops.loss import reduced


def _mean(x):
    return reduced(x, "mean")


# Losses of the discriminator


@Fused
def minimax_d(real, fake):
    """-mean log sigmoid(real) - mean log(1 - sigmoid(fake))."""
    return -_mean(logsigmoid(real)) - _mean(logsigmoid(-fake))


@Fused
def least_squares_d(real, fake, *, a: float = 0.0, b: float = 1.0):
    """1/2 mean (real - b)^2 + 1/2 mean (fake - a)^2."""
    return 0.5 * (_mean((real - b) ** 2) + _mean((fake - a) ** 2))


@Fused
def hinge_d(real, fake):
    """mean max(0, 1 - real) + mean max(0, 1 + fake)."""
    return _mean(relu(1 - real)) + _mean(relu(1 + fake))


@Fused
def wasserstein_d(real, fake):
    """mean fake - mean real."""
    return _mean(fake) - _mean(real)


@Fused
def relativistic_d(real, fake):
    """-mean log sigmoid(real - fake), of pairs."""
    return -_mean(logsigmoid(real - fake))


# Losses of the generator


@Fused
def minimax_g(fake):
    """mean log(1 - sigmoid(fake))."""
    return _mean(logsigmoid(-fake))


@Fused
def non_saturating_g(fake):
    """-mean log sigmoid(fake)."""
    return -_mean(logsigmoid(fake))


@Fused
def least_squares_g(fake, *, c: float = 1.0):
    """1/2 mean (fake - c)^2."""
    return 0.5 * _mean((fake - c) ** 2)


@Fused
def wasserstein_g(fake):
    """-mean fake, also the generator's loss beside `hinge_d`."""
    return -_mean(fake)


def relativistic_g(real, fake):
    """-mean log sigmoid(fake - real), of pairs."""
    return relativistic_d(fake, real)


# Penalties on gradients g (N, ...) of the discriminator


@Fused
def r1_penalty(g, *, gamma: float):
    """gamma / 2 mean_n |g_n|^2."""
    return reduce.sum(g * g, axis=tuple(range(g.ndim)), keepdims=False) * (gamma / (2 * max(1, g.shape[0])))


@Fused
def gradient_penalty(g, *, weight: float):
    """weight mean_n (|g_n| - 1)^2."""
    return weight * _mean((reduce.norm2(g, axis=tuple(range(1, g.ndim)), keepdims=False) - 1) ** 2)


def _in_one_pass(op: Fused, kernel: Kernel) -> None:
    """Let `kernel`, which returns a value and the gradient by each argument, shadow `op`."""

    def forward(*arrays, **settings):
        value = kernel(*arrays, **settings)[0]
        return value.astype(arrays[0].dtype, copy=False), None

    def vjp(g, cache, need, *arrays, **settings):
        found = kernel(*arrays, **settings, scale=xp(arrays[0]).asarray(g))[1:]
        return [d if wanted else None for d, wanted in zip(found, need)]

    op.fast(forward, vjp)


for _op in (minimax_d, least_squares_d, hinge_d, wasserstein_d, relativistic_d,
            minimax_g, non_saturating_g, least_squares_g, wasserstein_g):  # fmt: skip
    _in_one_pass(_op, getattr(losses, _op.name))
_in_one_pass(r1_penalty, gradient_norms.r1_penalty)
_in_one_pass(gradient_penalty, gradient_norms.gradient_penalty)
