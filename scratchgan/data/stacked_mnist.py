"""Stacked-MNIST: three digits as the red, green and blue of one image, 1,000 modes that can be counted.

Metz et al. 2017, "Unrolled generative adversarial networks" (arXiv 1611.02163), from the digits of mnist5k.
"""
from __future__ import annotations

import numpy as np

from scratchgan.data.dataset import Dataset, Spec
from scratchgan.data.digits import mnist5k
from scratchgan.data.seeds import generator

COUNT = 128_000             # as in Lin et al. 2018 (PacGAN, arXiv 1712.04086)
PLACES = np.array([100, 10, 1])


def stacked_mnist(size: int | None = None, seed: int = 0) -> Dataset:
    """128,000 images (3, 28, 28), float32 in [-1, 1]: each channel a digit of mnist5k, drawn by `seed`, all
    digits as likely. The label, 0..999, is the mode: the digits of its three decimals are red, green, blue.

    Images are put together when asked for; what is kept are three indices each. Both sides of a `split` hold
    the same 5,000 digits, in other triples. `size` as in mnist5k.
    """
    digits = mnist5k(size)
    drawn = generator(seed, "stacked_mnist").integers(len(digits), size=(COUNT, 3))
    channels, height, width = digits.spec.shape
    spec = Spec((3 * channels, height, width), digits.spec.low, digits.spec.high, 1000)
    return Dataset("stacked_mnist", spec, _Stacked(digits, drawn), digits.labels[drawn] @ PLACES)


class _Stacked:
    """Row i is the digits of row i of `drawn` (N, 3), one above the other."""

    def __init__(self, digits: Dataset, drawn: np.ndarray) -> None:
        self._digits, self._drawn = digits, drawn

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        stack = self._digits.get(self._drawn[indices].ravel())
        return stack.reshape(len(indices), -1, *stack.shape[2:])
