"""Mean and covariance of rows that arrive in batches, in float64 and memory that does not grow with them."""
from __future__ import annotations

import numpy as np

from scratchgan.metrics.checks import check_features

ROWS = 2048             # turned to float64 at a time


class Moments:
    """Count n, mean and covariance of all rows that `update` was given.

    Batches are merged by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979, eq. 2.1), which never subtracts large sums of squares from one another:

        S = S_a + S_b + n_a n_b / n  d d^T,    d = mean_b - mean_a,    covariance = S / (n - 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray | None = None
        self._scatter: np.ndarray | None = None

    def update(self, rows: np.ndarray) -> None:
        """Take in rows (N, D). Raises ValueError for other shapes, a D that changes, NaN and infinity."""
        rows = check_features("Moments", "rows", rows)
        if self.mean is not None and rows.shape[1] != len(self.mean):
            raise ValueError(f"Moments: rows have {rows.shape[1]} columns, "
                             f"those before them {len(self.mean)}")
        for i in range(0, len(rows), ROWS):
            self._merge(rows[i:i + ROWS].astype(np.float64))

    def _merge(self, rows: np.ndarray) -> None:
        mean = rows.mean(axis=0)
        centred = rows - mean
        scatter = centred.T @ centred
        n, m = self.count, len(rows)
        if n:
            step = mean - self.mean
            scatter += self._scatter + np.outer(step, step) * (n * m / (n + m))
            mean = self.mean + step * (m / (n + m))
        self.count, self.mean, self._scatter = n + m, mean, scatter

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance (D, D), its divisor n - 1. Raises ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"Moments: covariance of {self.count} rows, expected at least 2")
        return self._scatter / (self.count - 1)
