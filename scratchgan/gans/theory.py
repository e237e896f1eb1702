"""What the theory of GANs predicts in closed form, to hold trained networks and simulated games against.

Optimal discriminators and divergences (Goodfellow et al. 2014, arXiv 1406.2661), for densities p of the data
and q of the samples, given as arrays of their values at ascending points x of the line; integrals are
trapezoidal. Optimal critics and Wasserstein's distance on the line. The Dirac-GAN (Mescheder, Geiger and
Nowozin 2018, "Which training methods for GANs do actually converge?", arXiv 1801.04406), the smallest GAN
that shows what training does near its equilibrium. `tests/test_theory.py` reads as a lecture on all of it.

The Dirac-GAN. The data are a point mass at 0, the samples a point mass at theta, and D(x) = psi x. Training
follows the gradient vector field v(theta, psi) = (-grad_theta loss_G, -grad_psi loss_D). The equilibrium is
the origin. Near it v(x) = J x, unless the critic is WGAN-GP's, and everything depends on the eigenvalues of

    J = [[-delta_G, f'(0)], [-f'(0), -delta_D]]

where f(t) = log sigmoid(t) for the GAN, f'(0) = 1/2, f''(0) = -1/4, and f(t) = t for the Wasserstein GAN.
The discriminator here is high on data, where the paper's is low: psi is the paper's -psi. The eigenvalues do
not notice, the curves run the other way round. With a learning rate h > 0:

    method                           damping               simultaneous steps     alternating steps
    minimax                          0                     spirals out            circles
    non-saturating                   0, then third order   cycle of radius        creeps in as
                                                           sqrt(2 h)              1 / sqrt(steps)
    WGAN                             0                     spirals out            circles
    WGAN, |psi| <= c                 0                     cycle of radius c      cycle of radius c at most
    WGAN-GP                          repels from psi = 0   never reaches 0        never reaches 0
    R1 or R2 penalty gamma           delta_D = gamma       converges              converges
    instance noise of variance s^2   delta_D = s^2 / 2     converges              converges
    consensus gamma                  both gamma f'(0)^2    converges              converges

Convergence is local and needs a small h. The rows on cycles and on creeping are not the paper's.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchgan.autograd import grad
from scratchgan.tensor import Tensor

Real = float | np.ndarray
Field = Callable[[Real, Real], tuple[Real, Real]]          # (theta, psi) -> v, element by element

LOGISTIC_SLOPE, LOGISTIC_CURVATURE = 0.5, -0.25     # f'(0) and f''(0) of f(t) = log sigmoid(t)
WASSERSTEIN_SLOPE = 1.0                             # f'(0) of f(t) = t


# Densities

def optimal_discriminator(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D*(x) = p(x) / (p(x) + q(x)), where p + q > 0 (Goodfellow et al. 2014, Proposition 1)."""
    return p / (p + q)


def optimal_logit(log_p: np.ndarray | Tensor, log_q: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """log p(x) - log q(x), whose sigmoid is D*(x): a trained discriminator's logits estimate the log-ratio of
    the densities."""
    return log_p - log_q


def value(logit: np.ndarray, p: np.ndarray, q: np.ndarray, x: np.ndarray) -> float:
    """V = int p log D + q log(1 - D) dx for D = sigmoid(logit): Goodfellow et al. 2014, (1), as an integral
    over x."""
    return -float(np.trapezoid(p * np.logaddexp(0, -logit) + q * np.logaddexp(0, logit), x))


def kl_divergence(p: np.ndarray, q: np.ndarray, x: np.ndarray) -> float:
    """KL(p || q) = int p log(p / q) dx, in nats, 0 log 0 being 0. Infinite if q = 0 < p at some x."""
    where = p > 0
    if (q[where] == 0).any():
        return float("inf")
    ratio = np.divide(p, q, out=np.ones_like(p), where=where)
    return float(np.trapezoid(p * np.log(ratio), x))


def jensen_shannon(p: np.ndarray, q: np.ndarray, x: np.ndarray) -> float:
    """JSD(p || q) = (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in nats: from 0 for p = q to log 2
    for disjoint supports. V(D*, G) = 2 JSD - log 4 (Goodfellow et al. 2014, Theorem 1)."""
    m = (p + q) / 2
    return (kl_divergence(p, m, x) + kl_divergence(q, m, x)) / 2


# Transport on the line

def _cdfs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All points of both samples in order, and the distribution functions of x and y on the gaps between
    them."""
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        raise ValueError(f"samples of the line have shapes {x.shape} and {y.shape}, expected (N,) and (M,) "
                         f"of at least one point each")
    points = np.sort(np.concatenate([x, y]))
    below = [np.searchsorted(np.sort(s), points[:-1], side="right") / len(s) for s in (x, y)]
    return points, below[0], below[1]


def wasserstein_1(x: np.ndarray, y: np.ndarray) -> float:
    """W1 of the empirical distributions of samples x (N,) and y (M,) of the line, exactly:

        W1 = inf over couplings of E|X - Y| = int |F - G| du = int_0^1 |F^-1(t) - G^-1(t)| dt

    with F, G the distribution functions; for N = M, the mean distance of sorted points (Vallender 1974).
    Raises ValueError for other shapes, or without points.
    """
    points, f, g = _cdfs(x, y)
    return float((abs(f - g) * np.diff(points)).sum())


def kantorovich_potential(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An optimal critic between samples x (N,) and y (M,) of the line: knots (N + M,) and its values there,
    linear in between. Raises as `wasserstein_1`.

    Kantorovich and Rubinstein: W1 = sup E D(X) - E D(Y) over functions of slopes at most 1, Arjovsky,
    Chintala and Bottou 2017 (arXiv 1701.07875), equation (2). On the line this is int D' (G - F) du, which
    D' = sign(G - F) maximises.
    """
    points, f, g = _cdfs(x, y)
    return points, np.concatenate([[0.0], np.cumsum(np.sign(g - f) * np.diff(points))])


def penalised_slope(f: np.ndarray, g: np.ndarray, density: np.ndarray, penalty: float) -> np.ndarray:
    """D'(x) of the critic that maximises WGAN-GP's E D(X) - E D(Y) - lambda E(|D'(x^)| - 1)^2 on the line.

    f, g: distribution functions of data and samples at some points; density: that of x^ there, positive. The
    objective is int D' (g - f) - lambda density (|D'| - 1)^2 dx, so at each x by itself

        D' = sign(g - f) + (g - f) / (2 lambda density)

    steeper than 1, and E D(X) - E D(Y) = W1 + int (g - f)^2 / (2 lambda density) dx is more than W1.

    This is the best critic; a slope of the other sign, -sign(g - f) + (g - f) / (2 lambda density), is a
    local optimum wherever lambda > |g - f| / (2 density), and training may not get out of it.
    """
    return np.sign(g - f) + (g - f) / (2 * penalty * density)


# The Dirac-GAN: gradient vector fields

def _sigmoid(t: Real) -> Real:
    return (1 + np.tanh(t / 2)) / 2


def minimax_field(theta: Real, psi: Real) -> tuple[Real, Real]:
    """sigmoid(psi theta) (psi, -theta): both players' V = log sigmoid(0) + log(1 - sigmoid(psi theta)).
    Orthogonal to (theta, psi)."""
    d_fake = _sigmoid(psi * theta)
    return psi * d_fake, -theta * d_fake


def non_saturating_field(theta: Real, psi: Real) -> tuple[Real, Real]:
    """(psi (1 - d), -theta d) with d = sigmoid(psi theta), D of the sample: the generator descends -log d."""
    d_fake = _sigmoid(psi * theta)
    return psi * (1 - d_fake), -theta * d_fake


def wasserstein_field(theta: Real, psi: Real) -> tuple[Real, Real]:
    """(psi, -theta): both players' E D(x) - E D(G(z)) = -psi theta."""
    return psi, -theta


def wgan_gp_field(theta: Real, psi: Real, penalty: float) -> tuple[Real, Real]:
    """(psi, -theta - 2 lambda (|psi| - 1) sign(psi)): `wasserstein_field`, the critic's penalty being
    lambda (|psi| - 1)^2. It jumps by 4 lambda across psi = 0, where the equilibrium would be."""
    return psi, -theta - 2 * penalty * (abs(psi) - 1) * np.sign(psi)


def zero_centred_field(theta: Real, psi: Real, gamma: float,
                       field: Field = minimax_field) -> tuple[Real, Real]:
    """`field` with a penalty of gamma psi^2 / 2 on the discriminator, which both R1 and R2 amount to."""
    v_theta, v_psi = field(theta, psi)
    return v_theta, v_psi - gamma * psi


def instance_noise_field(theta: Real, psi: Real, noise: np.ndarray) -> tuple[Real, Real]:
    """The minimax field when `noise` (n,) is added to the data point and to the sample, averaged over it."""
    theta, psi = np.asarray(theta)[..., None], np.asarray(psi)[..., None]
    d_real, d_fake = _sigmoid(psi * noise), _sigmoid(psi * (theta + noise))
    v_psi = noise * (1 - d_real) - (theta + noise) * d_fake
    return (psi * d_fake).mean(-1), v_psi.mean(-1)


def consensus_field(theta: Real, psi: Real, gamma: float) -> tuple[Real, Real]:
    """v - gamma grad(|v|^2 / 2) of the minimax field v: consensus optimisation (Mescheder, Nowozin and Geiger
    2017, "The numerics of GANs", arXiv 1705.10461)."""
    d_fake = _sigmoid(psi * theta)
    steeper = (theta ** 2 + psi ** 2) * d_fake ** 2 * (1 - d_fake)
    v_theta, v_psi = minimax_field(theta, psi)
    return (v_theta - gamma * (theta * d_fake ** 2 + psi * steeper),
            v_psi - gamma * (psi * d_fake ** 2 + theta * steeper))


def zero_centred_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor, gamma: float) -> Tensor:
    """(gamma / 2) mean ||grad D(x)||^2, the square over all axes of a sample of x (N, ...): R1 for x of the
    data and R2 for x of the samples, equations (9) and (10) of Mescheder et al. 2018. Differentiable in D's
    weights, not in x."""
    x = x.detach().requires_grad_()
    slope, = grad(discriminator(x).sum(), x, create_graph=True)
    return gamma / 2 * (slope ** 2).sum() / len(x)


def trajectory(field: Field, start: tuple[float, float], h: float, steps: int, *, alternating: bool = False,
               n_g: int = 1, n_d: int = 1, clip: float = np.inf) -> np.ndarray:
    """(theta, psi) from `start` over `steps` steps of gradient descent with learning rate h: (steps + 1, 2).

    Simultaneous: both players move along the field at the same point. `alternating`: n_d steps of psi, then
    n_g of theta, each along the field where it then is, as the GANs' `step` does. `clip` holds psi in
    [-clip, clip], the weight clipping of Arjovsky et al. 2017.
    """
    theta, psi = start
    path = [(theta, psi)]
    for _ in range(steps):
        if alternating:
            for _ in range(n_d):
                psi = min(max(psi + h * field(theta, psi)[1], -clip), clip)
            for _ in range(n_g):
                theta = theta + h * field(theta, psi)[0]
        else:
            v_theta, v_psi = field(theta, psi)
            theta, psi = theta + h * v_theta, min(max(psi + h * v_psi, -clip), clip)
        path.append((theta, psi))
    return np.array(path, dtype=np.float64)


# The Dirac-GAN: eigenvalues

def _roots(trace: float, determinant: float) -> np.ndarray:
    """Both eigenvalues of a 2 x 2 matrix, as complex numbers."""
    root = np.sqrt(complex(trace ** 2 / 4 - determinant))
    return np.array([trace / 2 + root, trace / 2 - root])


def field_eigenvalues(slope: float, damping_d: float = 0.0, damping_g: float = 0.0) -> np.ndarray:
    """The eigenvalues of J, with slope = f'(0). In Mescheder et al. 2018, where consensus is in the appendix:

        no damping (Lemma 2.2):      +- i f'(0)
        R1 or R2 (Lemma 3.3):        -gamma / 2 +- sqrt(gamma^2 / 4 - f'(0)^2)
        instance noise (Lemma 3.2):  f''(0) sigma^2 +- sqrt(f''(0)^2 sigma^4 - f'(0)^2)
        consensus:                   -gamma f'(0)^2 +- i f'(0)
    """
    return _roots(-damping_g - damping_d, damping_g * damping_d + slope ** 2)


def instance_noise_damping(sigma: float, curvature: float = LOGISTIC_CURVATURE) -> float:
    """delta_D = -2 f''(0) sigma^2: noise of standard deviation sigma damps as R1 does with this gamma."""
    return -2 * curvature * sigma ** 2


def critical_penalty(slope: float) -> float:
    """gamma = 2 |f'(0)|: the smallest penalty under which the curves no longer turn about the equilibrium,
    and the one under which they approach it fastest."""
    return 2 * abs(slope)


def simultaneous_eigenvalues(slope: float, h: float, damping_d: float = 0.0,
                             damping_g: float = 0.0) -> np.ndarray:
    """1 + h lambda for each eigenvalue lambda of J: those of x -> x + h v(x) at the equilibrium. Their
    absolute values are the factors by which the distance shrinks or grows per step; without damping they are
    sqrt(1 + h^2 f'(0)^2), beyond 1 for every h (Mescheder et al. 2018, section 2)."""
    return 1 + h * field_eigenvalues(slope, damping_d, damping_g)


def alternating_eigenvalues(slope: float, h: float, damping_d: float = 0.0, damping_g: float = 0.0,
                            n_g: int = 1, n_d: int = 1) -> np.ndarray:
    """Those of n_d steps of the discriminator after n_g of the generator (or before, which makes no
    difference).

    n steps with damping delta keep the share r = (1 - h delta)^n of one's own parameter and add
    s = h (1 + (1 - h delta) + ... + (1 - h delta)^(n-1)) times f'(0) of the other's, so the operator has
    determinant r_G r_D and trace r_G + r_D - f'(0)^2 s_G s_D. Without damping, for
    alpha = sqrt(n_g n_d) h f'(0),

        lambda = 1 - alpha^2 / 2 +- sqrt((1 - alpha^2 / 2)^2 - 1)

    which lies on the unit circle for alpha <= 2 (Mescheder et al. 2018, section 2).
    """
    (r_g, s_g), (r_d, s_d) = _repeated(h, damping_g, n_g), _repeated(h, damping_d, n_d)
    return _roots(r_g + r_d - slope ** 2 * s_g * s_d, r_g * r_d)


def _repeated(h: float, damping: float, n: int) -> tuple[float, float]:
    """r and s of `alternating_eigenvalues`."""
    share = 1 - h * damping
    return share ** n, h * sum(share ** k for k in range(n))
