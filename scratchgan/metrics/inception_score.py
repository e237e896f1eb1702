"""Inception score: Salimans et al., "Improved techniques for training GANs" (arXiv 1606.03498, section 4).

With a classifier other than Inception, such as that of digits, it is the same formula of its probabilities.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.metrics.checks import check_count, check_features, check_source
from scratchgan.metrics.metric import Metric, Source

SPLITS = 10
SUM_TOLERANCE = 1e-3    # probabilities in float16 sum to 1 within this


def inception_score(probabilities: np.ndarray, splits: int = SPLITS) -> tuple[float, float]:
    """(mean, standard deviation) over consecutive splits, as equal as can be, of

        exp(E_x KL(p(y|x) || p(y))),    p(y) = E_x p(y|x) over the split

    probabilities: (N, K), rows p(y|x). The score is between 1, where all rows are equal, and K, where rows
    are certain and classes equally frequent, and at most the number of samples in a split. 0 log 0 is 0. The
    standard deviation divides by the number of splits, as in the paper's code. Splits make the score depend
    on the order of the rows; with one split it does not.
    Raises ValueError for other shapes, rows that are no probabilities, and splits outside [1, N].
    """
    p = check_probabilities("inception_score", probabilities)
    if not 1 <= splits <= len(p):
        raise ValueError(f"inception_score: {splits} splits of {len(p)} rows, expected 1 to {len(p)}")
    scores = [_score(p[len(p) * i // splits:len(p) * (i + 1) // splits]) for i in range(splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(p: np.ndarray) -> float:
    """E_x KL is the entropy of the mean minus the mean entropy."""
    return float(np.exp(_negative_entropy(p) / len(p) - _negative_entropy(p.mean(axis=0, dtype=np.float64))))


def _negative_entropy(p: np.ndarray) -> float:
    """Sum of p log p, in float64 from terms in p's precision."""
    terms = np.log(np.maximum(p, np.finfo(p.dtype).tiny))
    terms *= p
    return float(terms.sum(dtype=np.float64))


def check_probabilities(function: str, probabilities: np.ndarray) -> np.ndarray:
    """Rows of probabilities (N, K) as float32 or float64; ValueError for anything else."""
    p = check_features(function, "probabilities", probabilities)
    sums = p.sum(axis=1)
    if p.min() < 0 or abs(sums - 1).max() > SUM_TOLERANCE:
        raise ValueError(f"{function}: probabilities from {p.min():.3g} to {p.max():.3g}, with sums from "
                         f"{sums.min():.6g} to {sums.max():.6g}, expected none below 0 and sums of 1")
    return p


class InceptionScore(Metric):
    """Inception score of generated samples: `is`, and `is_std`, its standard deviation over ten splits.

    Samples count in the order in which they come. Biased downwards in their number, since p(y) is that of a
    tenth of them. Needs ten; keeps their probabilities as float32.
    """

    name, reads, sources = "is", "probabilities", ("fake",)
    figures: ClassVar = {"is": "higher", "is_std": ""}

    def __init__(self) -> None:
        self._batches: list[np.ndarray] = []

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_probabilities(self.name, batch).astype(np.float32)
        if self._batches and batch.shape[1] != self._batches[0].shape[1]:
            raise ValueError(f"{self.name}: batch of {batch.shape[1]} classes, those before it have "
                             f"{self._batches[0].shape[1]}")
        self._batches.append(batch)

    def compute(self) -> dict[str, float]:
        check_count(self.name, "fake", sum(map(len, self._batches)), SPLITS)
        score, deviation = inception_score(np.concatenate(self._batches))
        return {"is": score, "is_std": deviation}

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._batches.clear()
