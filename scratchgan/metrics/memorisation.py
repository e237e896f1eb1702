"""Memorisation: are generated samples nearer to the training set than to data that the GAN never saw?

With d(g, S) the distance in feature space from a generated sample g to the nearest sample of a set S, T the
training and H the held-out samples:

- nn_ratio = 2 E d(g, T') / (E d(g, T') + E d(g, H')), for T' and H' of equal counts, so that neither is
  nearer for being larger. 1: neither is preferred; 0: every sample is one of T'; 2: one of H'. The larger of
  T and H is cut into as many disjoint parts of the smaller's size as it holds, by the seed, and d is averaged
  over parts. So in a replay of all of T, d is 0 for one part in |T| / |H|, no more.
- nearer_train is the share of (g, T', H') with d(g, T') < d(g, H'), ties one half: 0.5 is neutral. Synthetic
  records are audited by this share ("distance to closest record").
- copy_rate is the share of g with d(g, T) < tau, all of T, where tau is the 1 % quantile of d(h, T) over the
  held-out samples h: samples nearer to the training set than 99 in 100 new samples of the data are. So new
  samples of the data have a copy rate of 1 %, and copies 100 %.

The shipped digit classifier has itself learnt the training sides of mnist5k and digits, and its features of
those are a little more typical than those of held-out ones: `evaluate` shows what held-out digits get in the place
of samples, and figures are to be read against that.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.data.seeds import generator
from scratchgan.errors import UserError
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.metric import Setting
from scratchgan.metrics.nearest import nearest_distances

QUANTILE = 0.01


def distances_to(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """d(x_i, y), (N,), of x (N, D) and y (M, D). ValueError for other shapes or NaN."""
    return nearest_distances(x, y, 1)[0][:, 0]


def copy_threshold(held_out: np.ndarray, train: np.ndarray, quantile: float = QUANTILE) -> float:
    """tau: the quantile of d(h, T), interpolated between held-out samples."""
    return float(np.quantile(distances_to(held_out, train), quantile))


def copy_rate(generated: np.ndarray, train: np.ndarray, threshold: float) -> float:
    """Share of rows g with d(g, T) < threshold, from 0 to 1."""
    return float(np.mean(distances_to(generated, train) < threshold))


def equal_parts(x: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Disjoint random parts of `count` rows of x (N, D), as many as there are; the rest is left out."""
    order = generator(seed, "parts").permutation(len(x))
    return [x[order[i:i + count]] for i in range(0, len(x) - count + 1, count)]


def nearest_ratio(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray,
                  seed: int = 0) -> tuple[float, float]:
    """(nn_ratio, nearer_train), see above; (1, 0.5) where all distances are 0. ValueError for empty sets or
    NaN."""
    count = min(len(train), len(held_out))
    to_train, to_held_out = (
        np.stack([distances_to(generated, part) for part in equal_parts(side, count, seed)])
        for side in (train, held_out))
    near, far = to_train.mean(), to_held_out.mean()
    ratio = 2 * near / (near + far) if near + far > 0 else 1.0
    sign = np.sign(to_held_out[None] - to_train[:, None])
    return float(ratio), float((1 + sign.mean()) / 2)


class Memorisation(FeatureMetric):
    """The three figures on features."""
    name = "memorisation"
    sources: ClassVar = ("real", "held_out", "fake")
    figures: ClassVar = {"nn_ratio": "1", "nearer_train": "0.5", "copy_rate": "lower"}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    @classmethod
    def create(cls, setting: Setting) -> Memorisation:
        return cls(setting.seed)

    def compute(self) -> dict[str, float]:
        train, held_out, generated = self.rows("real"), self.rows("held_out"), self.rows("fake")
        threshold = copy_threshold(held_out, train)
        if threshold == 0:
            raise UserError(f"{self.name}: 1 % of the held-out samples are in the training set, expected "
                            "sets that share none")
        ratio, nearer = nearest_ratio(generated, train, held_out, self.seed)
        return {"nn_ratio": ratio, "nearer_train": nearer,
                "copy_rate": copy_rate(generated, train, threshold)}
