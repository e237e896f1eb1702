"""How many different samples a generator has: the birthday paradox.

Arora, Risteski and Zhang 2018, "Do GANs learn the distribution? Some theory and empirics" (ICLR 2018; arXiv
1706.08224): a batch of s samples from a distribution on N equally likely ones holds a duplicate with
probability 1 - exp(-s^2 / (2N)), one half at s = sqrt(2 N log 2); a batch that often has duplicates tells of
a support of about s^2. They look for the batch size by eye, on the nearest pairs of a batch.

Here all pairs of n generated samples count. Two are duplicates with probability r = sum_i p_i^2, estimated
without bias by c / (n (n - 1) / 2) with c duplicate pairs, and

    support = n (n - 1) / (2 max(c, 1))

is 1 / r, the number of equally likely samples that would give as many duplicates: less than the true support
where some are likelier than others. Without duplicates it is a lower bound that grows with n.

Duplicates are told automatically: two samples whose distance in feature space is below a threshold that is
calibrated on the real data, which is taken to have none: the 1 % quantile of the distance from a real sample
to the nearest other one. So of the real samples 1 in 100 would have a duplicate, and no support above that of
the real samples themselves, which `evaluate` shows as the floor, can be told.
"""
from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.nearest import count_balls, nearest_distances

QUANTILE = 0.01


def duplicate_threshold(real: np.ndarray, quantile: float = QUANTILE) -> float:
    """The quantile of the distance from a row of real (N, D) to the nearest other. ValueError for N < 2."""
    return float(np.quantile(nearest_distances(real, real, 1, exclude_self=True)[0], quantile))


def duplicate_pairs(samples: np.ndarray, threshold: float) -> int:
    """Pairs of rows of samples (N, D) whose distance is at most `threshold`, by blocks."""
    near = count_balls(samples, samples, np.full(len(samples), threshold))
    return int(near.sum() - len(samples)) // 2


def support_size(pairs: int, n: int) -> float:
    """n (n - 1) / (2 max(pairs, 1)): see above. ValueError for n < 2."""
    if n < 2:
        raise ValueError(f"support_size: found n = {n} samples, expected at least 2")
    return n * (n - 1) / (2 * max(pairs, 1))


def batch_with_duplicate(support: float) -> float:
    """sqrt(2 N log 2): the batch that holds a duplicate of N equally likely samples every other time."""
    return math.sqrt(2 * support * math.log(2))


class BirthdayParadox(FeatureMetric):
    """The support of the generator from all pairs; `half_batch` is the batch size that Arora et al. seek."""
    name = "birthday"
    sources: ClassVar = ("real", "fake")
    figures: ClassVar = {"support": "higher", "half_batch": "higher", "duplicates": "lower"}

    def compute(self) -> dict[str, float]:
        real, generated = self.rows("real", 2), self.rows("fake", 2)
        threshold = duplicate_threshold(real)
        if threshold == 0:
            raise UserError(f"{self.name}: 1 % of the real samples occur twice, expected different ones to "
                            "calibrate the distance of duplicates")
        pairs = duplicate_pairs(generated, threshold)
        support = support_size(pairs, len(generated))
        return {"support": support, "half_batch": batch_with_duplicate(support), "duplicates": float(pairs)}
