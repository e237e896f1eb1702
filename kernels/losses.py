"""Adversarial losses of logits: the value, and its gradients by the logits, in one pass.

With r = D(x) the logits of N real samples, f = D(G(z)) those of M samples of G, s(u) = 1 / (1 + e^-u), and so
-log s(u) = softplus(-u) and -log(1 - s(u)) = softplus(u), the losses to be descended are

    minimax_d           mean softplus(-r) + mean softplus(f)            -(1) of Goodfellow et al. 2014 [1]
    minimax_g           -mean softplus(f) = mean log(1 - s(f))          the part of (1) that G moves
    non_saturating_g    mean softplus(-f)                               ibid., section 3
    least_squares_d     1/2 mean (r - b)^2 + 1/2 mean (f - a)^2         Mao et al. 2017 [2]
    least_squares_g     1/2 mean (f - c)^2                              ibid.
    hinge_d             mean max(0, 1 - r) + mean max(0, 1 + f)         Lim & Ye 2017 [3], Miyato 2018 [4]
    wasserstein_d       mean f - mean r                                 Arjovsky et al. 2017 [5]
    wasserstein_g       -mean f                                         ibid.; G's loss beside the hinge, too
    relativistic_d      mean softplus(f - r), of pairs, N = M           Jolicoeur-Martineau 2018 [6],
    relativistic_g      mean softplus(r - f), of pairs                  Huang et al. 2024 (R3GAN) [7]

    arXiv: [1] 1406.2661  [2] 1611.04076  [3] 1705.02894  [4] 1802.05957  [5] 1701.07875  [6] 1807.00734
           [7] 2501.05441

Discriminators' return (value, dr, df), generators' (value, df): the real logits do not depend on G.

Logits have any shape; means are over all of their numbers. softplus(u) = max(u, 0) + log1p(e^-|u|) neither
overflows nor loses digits, so that values and gradients are right at logits of any size. Infinite logits give
what the formulas' limits are (inf - inf is NaN), NaN gives NaN, and the mean of no logits is NaN, as in
PyTorch; where 1 - r or 1 + f is 0, the hinge's slope is 0.

The value is a float32 (for float64 logits float64) number without axes, gradients are in the logits' dtype.
With `scale`, an array of one number, they are those of scale times the value: the loss scale of float16, or
what comes back from behind the loss; gradients are multiplied by it before they are rounded.
"""

from __future__ import annotations

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import check_shapes, gradient, mean, wide


@kernel
def minimax_d(real, fake, scale=None):
    """mean softplus(-real) + mean softplus(fake)."""
    loss_real, s = logistic(-wide(real))
    loss_fake, dfake = logistic(wide(fake))
    return _both(real, fake, scale, loss_real, -s, loss_fake, dfake)


@kernel
def minimax_g(fake, scale=None):
    """-mean softplus(fake)."""
    loss, slope = logistic(wide(fake))
    return mean(-loss), gradient(-slope, scale, fake.dtype)


@kernel
def non_saturating_g(fake, scale=None):
    """mean softplus(-fake)."""
    loss, slope = logistic(-wide(fake))
    return mean(loss), gradient(-slope, scale, fake.dtype)


@kernel
def least_squares_d(real, fake, a: float = 0.0, b: float = 1.0, scale=None):
    """1/2 mean (real - b)^2 + 1/2 mean (fake - a)^2."""
    dreal, dfake = wide(real) - b, wide(fake) - a
    return _both(real, fake, scale, dreal * dreal / 2, dreal, dfake * dfake / 2, dfake)


@kernel
def least_squares_g(fake, c: float = 1.0, scale=None):
    """1/2 mean (fake - c)^2."""
    d = wide(fake) - c
    return mean(d * d / 2), gradient(d, scale, fake.dtype)


@kernel
def hinge_d(real, fake, scale=None):
    """mean max(0, 1 - real) + mean max(0, 1 + fake)."""
    m, r, f = xp(real), 1 - wide(real), 1 + wide(fake)
    dreal, dfake = m.where(r <= 0, 0, -m.ones_like(r)), m.where(f <= 0, 0, m.ones_like(f))
    return _both(real, fake, scale, m.maximum(r, 0), dreal, m.maximum(f, 0), dfake)


@kernel
def wasserstein_d(real, fake, scale=None):
    """mean fake - mean real."""
    m, r, f = xp(real), wide(real), wide(fake)
    return _both(real, fake, scale, -r, -m.ones_like(r), f, m.ones_like(f))


@kernel
def wasserstein_g(fake, scale=None):
    """-mean fake."""
    f = wide(fake)
    return mean(-f), gradient(-xp(f).ones_like(f), scale, fake.dtype)


@kernel
def relativistic_d(real, fake, scale=None):
    """mean softplus(fake - real), of pairs."""
    check_shapes("relativistic loss", real, fake)
    loss, slope = logistic(wide(fake) - wide(real))
    dfake = gradient(slope, scale, fake.dtype)
    return mean(loss), -dfake, dfake


@kernel
def relativistic_g(real, fake, scale=None):
    """mean softplus(real - fake), of pairs; the gradient is by fake."""
    check_shapes("relativistic loss", real, fake)
    loss, slope = logistic(wide(real) - wide(fake))
    return mean(loss), gradient(-slope, scale, fake.dtype)


def logistic(u):
    """softplus(u) = log(1 + e^u), and its derivative s(u), from e = e^-|u| <= 1."""
    m = xp(u)
    e = m.exp(-abs(u))
    return m.maximum(u, 0) + m.log1p(e), m.where(u < 0, e, 1) / (1 + e)


def _both(real, fake, scale, loss_real, dreal, loss_fake, dfake):
    """The sum of both means, and the gradients."""
    value = mean(loss_real) + mean(loss_fake)
    return value, gradient(dreal, scale, real.dtype), gradient(dfake, scale, fake.dtype)
