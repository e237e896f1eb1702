"""Stacked-MNIST: which of 1,000 modes a generator reaches, and how evenly.

An image's three channels are three digits, and each triple is a mode (data/stacked_mnist.py). Metz, Poole,
Pfau and Sohl-Dickstein 2017 ("Unrolled generative adversarial networks", arXiv 1611.02163) count the modes
that a classifier, applied to each channel, finds among the samples, and report KL(q || p) in nats, q the
share of each mode among the samples and p the data's, here 1 / 1,000 for each, as data/stacked_mnist.py draws
its digits. Lin et al. 2018 (PacGAN, arXiv 1712.04086) take 26,000 samples, which the data itself covers with
1,000 modes and, from sampling alone, a KL of about 999 / 52,000 = 0.019.

The classifier is the shipped one. It is wrong about one digit in a hundred, so about one triple in thirty
lands on a neighbouring mode: figures compare with each other, and with papers only as far as their
classifiers are alike.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.checks import check_count, check_source
from scratchgan.metrics.features import DigitClassifier, classifier
from scratchgan.metrics.histograms import kl_divergence
from scratchgan.metrics.metric import Metric, Setting, Source

MODES = 1000
SAMPLES = 26_000            # of the protocol


def triples(images: np.ndarray, digits: DigitClassifier) -> np.ndarray:
    """Modes 100 r + 10 g + b (N,) of the digits r, g, b that the classifier sees in the channels of images
    (N, 3, H, W). ValueError for another shape, or NaN."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"triples: images have shape {images.shape}, expected (N, 3, H, W)")
    seen = digits.labels(images.reshape(-1, 1, *images.shape[2:])).reshape(-1, 3)
    return seen @ np.array([100, 10, 1])


class StackedModes(Metric):
    """Counts of modes: memory for 1,000 numbers."""
    name = "stacked_modes"
    reads = "images"
    of_one_class = False
    sources: ClassVar = ("fake",)
    figures: ClassVar = {"stacked_modes": "higher", "stacked_kl": "lower"}
    samples: ClassVar[int] = SAMPLES

    def __init__(self, digits: DigitClassifier | None = None) -> None:
        self._digits = classifier() if digits is None else digits
        self._counts = np.zeros(MODES, np.int64)

    @classmethod
    def create(cls, setting: Setting) -> StackedModes:
        if setting.train.spec.shape[0] != 3 or setting.train.spec.classes != MODES:
            raise UserError(f"{cls.name}: {setting.train.name} is not stacked_mnist, expected images of "
                            "three digits")
        return cls()

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        self._counts += np.bincount(triples(batch, self._digits), minlength=MODES)

    def compute(self) -> dict[str, float]:
        check_count(self.name, "fake", int(self._counts.sum()), 1)
        return {"stacked_modes": float(np.count_nonzero(self._counts)),
                "stacked_kl": kl_divergence(self._counts, np.ones(MODES))}

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._counts[:] = 0
