"""Points in the plane on which mode collapse can be counted: 100,000 of them, from the seed alone.

ring and grid follow Lin et al., "PacGAN: The power of two samples in generative adversarial networks" (arXiv
1712.04086): modes are drawn uniformly, and one counts as captured by a sample within 3 sigma of its mean.
Shape (2,), float32, unbounded; the label of a mixture's point is the mode that it was drawn from.
"""
from __future__ import annotations

import numpy as np

from scratchgan.data.dataset import Dataset, Modes, Spec
from scratchgan.data.seeds import generator

COUNT = 100_000


def ring(seed: int = 0) -> Dataset:
    """Eight Gaussians, sigma 0.01, with means (cos 2 pi k / 8, sin 2 pi k / 8), k = 0..7."""
    angles = 2 * np.pi * np.arange(8) / 8
    means = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _mixture("ring", Modes(means, 0.01), seed)


def grid(seed: int = 0) -> Dataset:
    """Twenty-five Gaussians, sigma 0.05, with means {-4, -2, 0, 2, 4}^2."""
    ticks = np.arange(-4.0, 5.0, 2.0)
    means = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    return _mixture("grid", Modes(means, 0.05), seed)


def swissroll(seed: int = 0) -> Dataset:
    """(t cos t, t sin t) + noise of sigma 0.25, all over 7.5, t uniform in [1.5 pi, 4.5 pi]; no labels.

    The plane spiral of scikit-learn's make_swiss_roll, scaled as in the toy of Gulrajani et al. (arXiv
    1704.00028): each coordinate gets a standard deviation just below 1, and the roll ends at radius 1.9.
    """
    random = generator(seed, "swissroll")
    t = random.uniform(1.5 * np.pi, 4.5 * np.pi, COUNT)
    roll = t[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    points = (roll + 0.25 * random.standard_normal((COUNT, 2))) / 7.5
    return Dataset("swissroll", _plane(None), points.astype(np.float32))


def _mixture(name: str, modes: Modes, seed: int) -> Dataset:
    random = generator(seed, name)
    mode = random.integers(len(modes.means), size=COUNT)
    points = modes.means[mode] + modes.sigma * random.standard_normal((COUNT, 2))
    return Dataset(name, _plane(len(modes.means)), points.astype(np.float32), mode, modes)


def _plane(classes: int | None) -> Spec:
    return Spec((2,), -np.inf, np.inf, classes)
