"""Metrics that need all features at once: they arrive in batches, are kept as float32, and are put in an
order that does not depend on the one in which they came."""
from __future__ import annotations

import numpy as np

from scratchgan.metrics.checks import check_count, check_features, check_source
from scratchgan.metrics.metric import Metric, Source


def canonical(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) sorted by their first column, equal ones by the second, and so on: the same array whatever
    the order that they had."""
    first = np.sort(rows[:, 0])
    ties = bool((first[1:] == first[:-1]).any())
    return rows[np.lexsort(rows.T[::-1]) if ties else np.argsort(rows[:, 0])]


class FeatureMetric(Metric):
    """Base of metrics that keep every row (N, D) of features: 4 N D bytes for each source."""

    reads = "features"

    def __init__(self) -> None:
        self._batches: dict[Source, list[np.ndarray]] = {source: [] for source in self.sources}

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        """Keep the rows of `batch` (N, D); labels are not used. ValueError for other shapes, NaN or
        infinity."""
        check_source(self.name, self.sources, source)
        batch = check_features(self.name, f"{source} batch", batch)
        known = next((b for batches in self._batches.values() for b in batches), batch)
        if batch.shape[1] != known.shape[1]:
            raise ValueError(f"{self.name}: {source} batch has {batch.shape[1]} features a sample, "
                             f"expected {known.shape[1]}")
        self._batches[source].append(batch.astype(np.float32))

    def rows(self, source: Source, least: int = 1) -> np.ndarray:
        """All rows of `source` (N, D), in canonical order. UserError where there are fewer than `least`."""
        batches = self._batches[source]
        check_count(self.name, source, sum(map(len, batches)), least)
        if len(batches) > 1:
            batches[:] = [np.concatenate(batches)]
        return canonical(batches[0])

    def reset(self, source: Source = "fake") -> None:
        """Forget the rows of `source`."""
        check_source(self.name, self.sources, source)
        self._batches[source].clear()
