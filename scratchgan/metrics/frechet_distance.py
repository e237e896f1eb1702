"""Frechet distance of features, FID when they are Inception's.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (arXiv
1706.08500, eq. 6); the distance of Gaussians: Dowson and Landau, "The Frechet distance between multivariate
normal distributions" (1982).
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.metrics.checks import check_count, check_source
from scratchgan.metrics.metric import Metric, Source
from scratchgan.metrics.moments import Moments

INDEFINITE = 1e-6       # eigenvalues below minus this share of the largest are no rounding


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of the Gaussians N(mu1, sigma1) and N(mu2, sigma2):

        d^2 = |mu1 - mu2|^2 + Tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2))

    mu: (D,). sigma: (D, D), symmetric and positive semi-definite, singular ones included. At least 0, and 0
    for equal arguments, both to rounding; what rounds below 0 is returned as 0.
    With sigma_i = A_i A_i^T, the eigenvalues of (sigma1 sigma2)^(1/2) are the singular values of A_1^T A_2;
    no square root of a non-symmetric matrix is taken, and nothing is added to the diagonal.
    Raises ValueError for other shapes, NaN, infinity, and matrices that are not symmetric or have negative
    eigenvalues.
    """
    mu1, factor1 = _checked("1", mu1, sigma1)
    mu2, factor2 = _checked("2", mu2, sigma2)
    if mu1.shape != mu2.shape:
        raise ValueError(f"frechet_distance: mu1 has {len(mu1)} entries and mu2 has {len(mu2)}, "
                         "expected as many")
    traces = np.square(factor1).sum() + np.square(factor2).sum()
    cross = np.linalg.svd(factor1.T @ factor2, compute_uv=False).sum()
    return max(float(np.square(mu1 - mu2).sum() + traces - 2 * cross), 0.0)


def _checked(number: str, mu: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mu and a factor A of sigma = A A^T, in float64."""
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    if mu.ndim != 1 or sigma.shape != 2 * mu.shape or len(mu) == 0:
        raise ValueError(f"frechet_distance: mu{number} has shape {mu.shape} and sigma{number} "
                         f"{sigma.shape}, expected (D,) and (D, D) with D >= 1")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f"frechet_distance: mu{number} or sigma{number} holds NaN or infinity")
    if abs(sigma - sigma.T).max() > INDEFINITE * abs(sigma).max():
        raise ValueError(f"frechet_distance: sigma{number} is not symmetric")
    return mu, _factor(number, sigma)


def _factor(number: str, sigma: np.ndarray) -> np.ndarray:
    """A with A A^T = sigma, from sigma's eigenvectors; eigenvalues that are mere rounding count as 0."""
    values, vectors = np.linalg.eigh(sigma)
    largest = abs(values).max()
    if values[0] < -INDEFINITE * largest:
        raise ValueError(f"frechet_distance: sigma{number} has the eigenvalue {values[0]:.3g}, "
                         "expected none below 0")
    # The root of a rounding of 1e-16 is 1e-8: left in, it would be all that is seen of a singular matrix.
    values[values < len(sigma) * np.finfo(np.float64).eps * largest] = 0
    return vectors * np.sqrt(values)


class FrechetDistance(Metric):
    """FID of features: `fid`, at least 0, in units of the features squared; 0 for equal means and
    covariances.

    Biased upwards in the number of samples (Binkowski et al., arXiv 1801.01401, section 4): compare figures
    of equally many. With fewer samples than dimensions the covariances are singular, which is exact here but
    biased most. Needs two samples of each side. Keeps means and covariances, 8 D^2 bytes a side.
    """

    name, reads = "fid", "features"
    figures: ClassVar = {"fid": "lower"}

    def __init__(self) -> None:
        self._moments: dict[Source, Moments] = {source: Moments() for source in self.sources}

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        self._moments[source].update(batch)

    def compute(self) -> dict[str, float]:
        real, fake = (self._moments[s] for s in ("real", "fake"))
        check_count(self.name, "real", real.count, 2)
        check_count(self.name, "fake", fake.count, 2)
        return {"fid": frechet_distance(real.mean, real.covariance, fake.mean, fake.covariance)}

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._moments[source] = Moments()
