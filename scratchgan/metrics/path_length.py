"""Perceptual path length: how far an image travels, to the eye of an extractor, for a small step of z.

Karras, Laine and Aila 2019, "A style-based generator architecture for generative adversarial networks" (arXiv
1812.04948), section 4.1, in the generator's input space:

    l_Z = E[ d(G(slerp(z1, z2; t)), G(slerp(z1, z2; t + epsilon))) / epsilon^2 ],  t ~ U(0, 1), epsilon = 1e-4

Departures. d is the squared Euclidean distance of an extractor's features instead of LPIPS with VGG-16, so
figures compare only under one extractor. Normal latents are interpolated on the arc between them that keeps
their lengths (Shoemake 1985, without normalising z, which our generators take as it is), other latents on the
straight line. A conditional generator makes both ends of a step from the same condition: classes, or images,
come in turn. As in the authors' code, values below the 1st and above the 99th percentile are left out of the
mean.

Precision. A step of 1e-4 leaves float32 (unit roundoff 6e-8) about three digits of the change in z. Rounding
errors are random and are squared here, so they add to the figure, in proportion to 1 / epsilon^2. G runs in
float64, on a copy of the averaged generator; the extractor in float32. On digits features this adds about
2e-5 to l_Z at 1e-4, and 1e-3 at 1e-5 (seen on a generator whose images hardly differ), where generators worth
measuring have 1 and more. G in float32 would change an l_Z of 5.902 to 5.897 in the same 300 pairs.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from scratchgan.data.seeds import generator
from scratchgan.errors import UserError
from scratchgan.gans.sampling import slerp
from scratchgan.metrics.features import default_extractor
from scratchgan.metrics.metric import Metric, Setting, Source

EPSILON = 1e-4
PAIRS = 2000
BATCH = 100
KEPT_PERCENTILES = (1, 99)

Function = Callable[[np.ndarray], np.ndarray]


def path_lengths(features: Function, z1: np.ndarray, z2: np.ndarray, t: np.ndarray,
                 interpolate: Callable = slerp, epsilon: float = EPSILON) -> np.ndarray:
    """|f(z(t)) - f(z(t + epsilon))|^2 / epsilon^2, (N,) float64, for z1 and z2 (N, L), t (N,), and features f
    of latents, (N, L) -> (N, D). ValueError where f answers NaN."""
    here, there = (np.asarray(features(interpolate(z1, z2, s)), np.float64) for s in (t, t + epsilon))
    lengths = ((there - here) ** 2).sum(axis=1) / epsilon**2
    if not np.isfinite(lengths).all():
        raise ValueError("path_lengths: the features of a sample hold NaN or infinity, expected finite ones")
    return lengths


def trimmed_mean(values: np.ndarray, percentiles: tuple[float, float] = KEPT_PERCENTILES) -> float:
    """Mean of what lies between the two percentiles, both included."""
    low = np.percentile(values, percentiles[0], method="lower")
    high = np.percentile(values, percentiles[1], method="higher")
    return float(values[(values >= low) & (values <= high)].mean())


class PathLength(Metric):
    """Draws its own pairs of latents: it reads no samples, and its figure depends on the seed and their
    number, 2,000."""
    name = "ppl"
    reads = "samples"
    sources: ClassVar = ()
    figures: ClassVar = {"ppl": "lower"}

    def __init__(self, gan: Any, extractor: Function, seed: int = 0, pairs: int = PAIRS) -> None:
        self.gan, self.extractor, self.seed, self.pairs = gan, extractor, seed, pairs
        self._twin = copy.copy(gan)         # the GAN with an average in float64
        self._twin.ema = copy.deepcopy(gan.ema)
        self._twin.ema.module.double()

    @classmethod
    def create(cls, setting: Setting) -> PathLength:
        if setting.gan is None:
            raise UserError(f"{cls.name}: needs the generator itself, found only samples")
        if setting.gan.noiseless:
            raise UserError(f"{cls.name}: this generator has no latent along which a path could lead")
        return cls(setting.gan, default_extractor(setting.train.spec), setting.seed)

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        """Samples are left aside."""

    def compute(self) -> dict[str, float]:
        random = generator(self.seed, "path length")
        lengths = []
        for start in range(0, self.pairs, BATCH):
            n = min(BATCH, self.pairs - start)
            z1, z2 = self.gan.prior(random, n), self.gan.prior(random, n)
            lengths.append(path_lengths(self._features, z1, z2, random.random(n), self.gan.between))
        return {"ppl": trimmed_mean(np.concatenate(lengths))}

    def _features(self, z: np.ndarray) -> np.ndarray:
        return self.extractor(self._twin.generate(z, self.gan.in_turn(len(z))))

    def reset(self, source: Source = "fake") -> None:
        """There is nothing to forget."""
