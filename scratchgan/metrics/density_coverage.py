"""Density and coverage of generated samples: Naeem et al., "Reliable fidelity and diversity metrics for
generative models" (arXiv 2002.09797, eq. 6 and 7)."""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.metrics.checks import check_alike, check_features
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.nearest import count_balls, nearest_distances
from scratchgan.metrics.precision_recall import ball_radii

K = 5


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = K) -> tuple[float, float]:
    """(density, coverage). With B_i the ball around real_i that reaches to its k-th nearest other real
    sample,

        density = 1/(k M) sum_j sum_i 1[fake_j in B_i],    coverage = 1/N sum_i 1[some fake_j in B_i]

    Density is at least 0, may exceed 1, and has expectation 1 for equal distributions; coverage is in [0, 1]
    and has expectation 1 - (N-1)...(N-k) / ((2N-1)...(2N-k)) for equal distributions and counts, which is
    0.969 for k = 5 and many samples. real: (N, D). fake: (M, D).
    Balls are closed: of real samples that are all one point, a generated one there is in all N balls, so that
    density is N / k, and coverage 1.
    Raises ValueError for other shapes, NaN, infinity, and k outside [1, N - 1].
    """
    real = check_features("density_coverage", "real", real)
    fake = check_features("density_coverage", "fake", fake)
    check_alike("density_coverage", real, fake)
    radii = ball_radii(real, k)
    density = count_balls(fake, real, radii).mean() / k
    nearest = nearest_distances(real, fake, 1)[0][:, 0]
    return float(density), float(np.mean(nearest <= radii))


class DensityCoverage(FeatureMetric):
    """Density and coverage of features, with k = 5; needs six real samples.

    Coverage grows with the number of generated samples: compare figures of equally many.
    """

    name = "density_coverage"
    figures: ClassVar = {"density": "higher", "coverage": "higher"}

    def compute(self) -> dict[str, float]:
        density, coverage = density_coverage(self.rows("real", K + 1), self.rows("fake"))
        return {"density": density, "coverage": coverage}
