"""Precision and recall of generated samples: Kynkaanniemi et al., "Improved precision and recall metric for
assessing generative models" (arXiv 1904.06991, eq. 1 and 2)."""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.metrics.checks import check_alike, check_features
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.nearest import count_balls, nearest_distances

K = 3


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = K) -> tuple[float, float]:
    """(precision, recall), both in [0, 1]. With NN_k(phi, Phi) the k-th nearest feature to phi in Phi but
    itself,

        f(phi, Phi) = 1 if |phi - phi'| <= |phi' - NN_k(phi', Phi)| for at least one phi' in Phi, else 0
        precision = mean of f(fake_j, real) over j,    recall = mean of f(real_i, fake) over i

    Precision: how much of what is generated lies in the real samples' manifold. Recall: how much of the real
    lies in the generated ones'. real: (N, D). fake: (M, D). Balls are closed, so two sets of one and the same
    point have precision and recall 1.
    Raises ValueError for other shapes, NaN, infinity, and k outside [1, min(N, M) - 1].
    """
    real = check_features("precision_recall", "real", real)
    fake = check_features("precision_recall", "fake", fake)
    check_alike("precision_recall", real, fake)
    return _covered(fake, real, k), _covered(real, fake, k)


def _covered(samples: np.ndarray, reference: np.ndarray, k: int) -> float:
    """The mean of f(sample, reference)."""
    return float(np.mean(count_balls(samples, reference, ball_radii(reference, k)) > 0))


def ball_radii(reference: np.ndarray, k: int) -> np.ndarray:
    """The distance of each row of `reference` (N, D) from its k-th nearest other row: (N,)."""
    return nearest_distances(reference, reference, k, exclude_self=True)[0][:, -1]


class PrecisionRecall(FeatureMetric):
    """Precision and recall of features, with k = 3; needs four samples of each side.

    Both depend on the counts: compare figures of equally many samples, as many real as generated ones.
    """

    name = "precision_recall"
    figures: ClassVar = {"precision": "higher", "recall": "higher"}

    def compute(self) -> dict[str, float]:
        precision, recall = precision_recall(self.rows("real", K + 1), self.rows("fake", K + 1))
        return {"precision": precision, "recall": recall}
