"""The three-sample test for data-copying: Meehan, Chaudhuri and Dasgupta 2020, "A non-parametric test to
detect data-copying in generative models" (arXiv 2004.05675).

Is a generated sample (Q_m) systematically nearer to the training set T than a new sample of the data (P_n)?
Space is cut into cells, by k-means on T. In each cell pi every sample has its distance L to the nearest
training sample of that cell, and the Mann-Whitney statistic compares the two groups of distances:

    U = #{(q, p): L(q) > L(p)} + #{(q, p): L(q) = L(p)} / 2,    Z = (U - mn / 2) / sqrt(mn (m + n + 1) / 12)

    C_T = sum_pi P_n(pi) Z_pi / sum_pi P_n(pi)    over the cells with a share of Q_m above tau = 20 / m

Under the null hypothesis Z is N(0, 1) for large cells, and C_T has mean 0. C_T << 0 is data-copying, C_T >> 0
underfitting: samples farther from the data than data is. Ties, which continuous distances do not have, count
one half, and do not change the variance.

One departure: beside C_T stands c_t_score = C_T / sqrt(sum_pi w_pi^2), with w_pi the share of a cell in that
average. It is N(0, 1) under the null whatever the number of cells: -3 or below is evidence of copying.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.kmeans import cells, kmeans
from scratchgan.metrics.metric import Setting
from scratchgan.metrics.nearest import nearest_distances

ENOUGH = 20                 # generated samples that a cell needs: tau m, as in the authors' experiments
PER_CELL = 50               # held-out samples a cell should have, which sets the number of cells
MOST_CELLS = 50             # the authors' number for MNIST


def mann_whitney_u(x: np.ndarray, y: np.ndarray) -> float:
    """#{(i, j): x_i > y_j} + #{x_i = y_j} / 2, for x (m,) and y (n,); scipy.stats.mannwhitneyu's statistic.

    ValueError for empty or other shapes, or NaN.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or y.ndim != 1 or 0 in (len(x), len(y)) or np.isnan(x).any() or np.isnan(y).any():
        raise ValueError(f"mann_whitney_u: x of shape {x.shape} and y of shape {y.shape}, expected (m,) and "
                         "(n,) without NaN, m, n >= 1")
    y = np.sort(y)
    return float(np.sum(np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")) / 2)


def z_score(u: float, m: int, n: int) -> float:
    """(U - mn / 2) / sqrt(mn (m + n + 1) / 12)."""
    return (u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12)


def copying_scores(generated: np.ndarray, held_out: np.ndarray, train: np.ndarray,
                   centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Z (c,), P_n (c,)) of the c cells that have enough generated samples, a held-out and a training one.

    generated (m, D), held_out (n, D), train (l, D), centres (k, D). c may be 0.
    """
    q_cells, p_cells, t_cells = (cells(x, centres) for x in (generated, held_out, train))
    scores, weights = [], []
    for cell in range(len(centres)):
        q, p, t = generated[q_cells == cell], held_out[p_cells == cell], train[t_cells == cell]
        if len(q) > ENOUGH and len(p) and len(t):
            u = mann_whitney_u(*(nearest_distances(x, t, 1)[0][:, 0] for x in (q, p)))
            scores.append(z_score(u, len(q), len(p)))
            weights.append(len(p) / len(held_out))
    return np.array(scores), np.array(weights)


class ThreeSample(FeatureMetric):
    """The test on features, with as many cells as give each 50 held-out samples, at most 50."""
    name = "three_sample"
    sources: ClassVar = ("real", "held_out", "fake")
    figures: ClassVar = {"c_t": "0", "c_t_score": "0"}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    @classmethod
    def create(cls, setting: Setting) -> ThreeSample:
        return cls(setting.seed)

    def compute(self) -> dict[str, float]:
        train, held_out = self.rows("real", 2), self.rows("held_out", 2)
        generated = self.rows("fake", ENOUGH + 1)
        count = int(np.clip(len(held_out) // PER_CELL, 1, min(MOST_CELLS, len(train))))
        scores, weights = copying_scores(generated, held_out, train, kmeans(train, count, self.seed))
        if not len(scores):
            raise UserError(f"{self.name}: none of {count} cells has more than {ENOUGH} of {len(generated)} "
                            "generated samples and a held-out one: more samples are needed")
        weights /= weights.sum()
        c_t = float(weights @ scores)
        return {"c_t": c_t, "c_t_score": c_t / float(np.linalg.norm(weights))}
