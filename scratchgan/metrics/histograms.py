"""Distances of histograms: how the samples of a generator are spread over modes or classes."""
from __future__ import annotations

import numpy as np


def frequencies(function: str, counts: np.ndarray) -> np.ndarray:
    """Counts (K,) as shares of their sum. ValueError for another shape, for negative or no counts."""
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ValueError(f"{function}: counts of shape {counts.shape} with sum {counts.sum():g}, "
                         "expected (K,) of at least 0, not all of them 0")
    return counts / counts.sum()


def _pair(function: str, q: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q, p = frequencies(function, q), frequencies(function, p)
    if q.shape != p.shape:
        raise ValueError(f"{function}: histograms of {len(q)} and {len(p)} bins, expected as many")
    return q, p


def kl_divergence(q: np.ndarray, p: np.ndarray) -> float:
    """KL(q || p) = sum_k q_k log(q_k / p_k), in nats, of two histograms (K,), counts or shares.

    0 where equal; infinite where p lacks a bin that q has. With q from n samples of p itself its expectation
    is about (K - 1) / (2n). Raises ValueError as `frequencies` does.
    """
    q, p = _pair("kl_divergence", q, p)
    held = q > 0
    if (p[held] == 0).any():
        return float("inf")
    return max(0.0, float(np.sum(q[held] * np.log(q[held] / p[held]))))


def total_variation(q: np.ndarray, p: np.ndarray) -> float:
    """sum_k |q_k - p_k| / 2, from 0 to 1: the share of samples that sits in the wrong bin."""
    q, p = _pair("total_variation", q, p)
    return float(np.abs(q - p).sum() / 2)
