"""Modes of a Gaussian mixture: how many a generator captures, how many samples lie near one, how evenly.

Lin, Khetan, Fanti and Oh 2018, "PacGAN: The power of two samples in generative adversarial networks" (arXiv
1712.04086), section 4.1, on the ring and the grid of data/points.py, with 2,500 generated samples:

- a mode is captured if at least one sample lies within 3 sigma of its mean;
- a sample is of high quality if it lies within 3 sigma of the nearest mean;
- the reverse KL is KL(q || p) of histograms over the nearest mode, q of generated and p of real samples.

Distances are Euclidean, sigma is the standard deviation of one coordinate: of the real samples in the plane,
a share of 1 - exp(-9/2) = 0.989 is of high quality. All three figures depend on the number of samples.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.data import Modes
from scratchgan.errors import UserError
from scratchgan.metrics.checks import check_count, check_features, check_source
from scratchgan.metrics.histograms import kl_divergence
from scratchgan.metrics.metric import Metric, Setting, Source

RADIUS = 3.0                # in sigma
SAMPLES = 2500              # of the protocol


def nearest_modes(samples: np.ndarray, modes: Modes) -> tuple[np.ndarray, np.ndarray]:
    """(index of the nearest mean, distance to it), each (N,), of samples (N, D). ValueError for another D or
    NaN."""
    samples = check_features("nearest_modes", "samples", samples).astype(np.float64)
    if samples.shape[1] != modes.means.shape[1]:
        raise ValueError(f"nearest_modes: samples of shape {samples.shape}, expected {modes.means.shape[1]} "
                         "coordinates as the modes have")
    distances = np.linalg.norm(samples[:, None] - modes.means, axis=2)
    nearest = distances.argmin(axis=1)
    return nearest, distances[np.arange(len(samples)), nearest]


class ModeCoverage(Metric):
    """Counts of samples by their nearest mode, and by that within 3 sigma: memory for K numbers.

    A mode counts as captured by a sample that has it as the nearest, which is the protocol's as long as
    means are 6 sigma apart.
    """
    name = "modes"
    reads = "samples"
    sources: ClassVar = ("real", "fake")
    figures: ClassVar = {"modes": "higher", "high_quality": "higher", "reverse_kl": "lower"}
    samples: ClassVar[int] = SAMPLES

    def __init__(self, modes: Modes) -> None:
        self.modes = modes
        self._all = {source: np.zeros(len(modes.means), np.int64) for source in self.sources}
        self._near = {source: np.zeros(len(modes.means), np.int64) for source in self.sources}

    @classmethod
    def create(cls, setting: Setting) -> ModeCoverage:
        if setting.train.modes is None:
            raise UserError(f"{cls.name}: {setting.train.name} has no known modes, expected a mixture such "
                            "as ring or grid")
        return cls(setting.train.modes)

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        nearest, distance = nearest_modes(batch, self.modes)
        near = nearest[distance <= RADIUS * self.modes.sigma]
        self._all[source] += np.bincount(nearest, minlength=len(self.modes.means))
        self._near[source] += np.bincount(near, minlength=len(self.modes.means))

    def compute(self) -> dict[str, float]:
        for source in self.sources:
            check_count(self.name, source, int(self._all[source].sum()), 1)
        generated, real = self._all["fake"], self._all["real"]
        unknown = np.flatnonzero((real == 0) & (generated > 0))
        if len(unknown):
            raise UserError(f"{self.name}: none of the {real.sum()} real samples is of mode {unknown[0]}, "
                            "which generated ones have: reverse KL is infinite; more real samples are needed")
        near = self._near["fake"]
        return {"modes": float(np.count_nonzero(near)), "high_quality": float(near.sum() / generated.sum()),
                "reverse_kl": kl_divergence(generated, real)}

    def reset(self, source: Source = "fake") -> None:
        for counts in (self._all, self._near):
            counts[source][:] = 0
