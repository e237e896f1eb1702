"""Diversity by multi-scale structural similarity of pairs of generated images: Odena et al., "Conditional
image synthesis with auxiliary classifier GANs" (arXiv 1610.09585, section 4.2).

The similarity: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment"
(2003, eq. 7). It is 1 for equal images; a generator whose pairs are more alike than pairs of real images has
collapsed, which is why the figure of real images stands beside it.

Departures, for small images: the paper's five scales need 176 pixels. Here an image is halved as long as both
edges keep 11 pixels, the window, and at most four times: 64 x 64 has three scales, 28 x 28 and 32 x 32 two.
The weights of the scales that there are, the paper's first ones, are divided by their sum. An image below 11
pixels gets the largest odd window that fits into it, with a deviation smaller in proportion.
Odena et al. take 100 pairs of each class; here pairs are drawn from all images, whatever their class, so that
classes that are lost count, too.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan import backend
from scratchgan.data.seeds import generator
from scratchgan.metrics.checks import (
    check_count,
    check_image_data,
    check_images,
    check_same_shape,
    check_source,
)
from scratchgan.metrics.metric import Metric, Setting, Source
from scratchgan.metrics.reservoir import Reservoir

WINDOW, SIGMA = 11, 1.5
WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
K1, K2 = 0.01, 0.03
LEAST = 7               # pixels of an edge
PAIRS = 1000
BLOCK = 1 << 18         # pixels of x at a time


def ms_ssim(x: np.ndarray, y: np.ndarray, value_range: float = 2.0) -> np.ndarray:
    """MS-SSIM of each image of x with that of y, (N,), in [0, 1]; 1 for equal images.

        l = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1)
        cs = (2 sigma_xy + C2) / (sigma_x^2 + sigma_y^2 + C2)
        MS-SSIM = mean(l cs)_M^w_M  prod_{j < M} mean(cs)_j^w_j

    with means, variances and covariance under a Gaussian window that lies within the image, C = (K
    value_range)^2, and the mean over places and channels. Negative means, which have no such powers, count as
    0.
    x, y: (N, C, H, W), values within an interval as wide as value_range: 2 for [-1, 1]. In float64.
    Raises ValueError for other shapes, edges below 7 pixels, NaN, infinity, and a value_range not above 0.
    """
    x, y = check_images("ms_ssim", "x", x, LEAST), check_images("ms_ssim", "y", y, LEAST)
    if x.shape != y.shape:
        raise ValueError(f"ms_ssim: x has shape {x.shape} and y {y.shape}, expected the same")
    if not value_range > 0:
        raise ValueError(f"ms_ssim: value_range = {value_range}, expected a number above 0")
    values = np.empty(len(x))
    count = max(1, BLOCK // x[0].size)

    def compare(part: slice) -> None:
        for i in range(part.start, part.stop, count):
            some = slice(i, min(i + count, part.stop))
            values[some] = _ms_ssim(x[some].astype(np.float64), y[some].astype(np.float64), value_range)

    backend.parallel(len(x), compare)
    return values


def _ms_ssim(x: np.ndarray, y: np.ndarray, value_range: float) -> np.ndarray:
    scales = count_scales(x.shape[2:])
    weights = WEIGHTS[:scales] / WEIGHTS[:scales].sum()
    product = np.ones(len(x))
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halve(x), _halve(y)
        similarity, contrast = one_scale(x, y, value_range)
        product *= np.maximum(similarity if scale == scales - 1 else contrast, 0) ** weight
    return product


def count_scales(size: tuple[int, int]) -> int:
    """How many times images (H, W) are looked at, each time half as large."""
    edge, scales = min(size) // 2, 1
    while edge >= WINDOW and scales < len(WEIGHTS):
        edge, scales = edge // 2, scales + 1
    return scales


def one_scale(x: np.ndarray, y: np.ndarray, value_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of l cs, which is SSIM, and of cs over each image of x and y (N, C, H, W), unchecked: (N,) both."""
    c1, c2 = (K1 * value_range) ** 2, (K2 * value_range) ** 2
    mean_x, mean_y, xx, yy, xy = _windowed(np.stack([x, y, x * x, y * y, x * y]))
    products, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (xy - products) + c2) / (xx + yy - squares + c2)
    luminance = (2 * products + c1) / (squares + c1)
    return (luminance * contrast).mean(axis=(1, 2, 3)), contrast.mean(axis=(1, 2, 3))


def _windowed(images: np.ndarray) -> np.ndarray:
    """Gaussian means over every window within the images (..., H, W), by one matrix for each axis."""
    window = min(WINDOW, (min(images.shape[-2:]) - 1) // 2 * 2 + 1)
    rows, columns = (_window_matrix(n, window) for n in images.shape[-2:])
    return rows.T @ (images @ columns)


def _window_matrix(n: int, window: int) -> np.ndarray:
    """(n, n - window + 1): column i weighs the pixels i to i + window - 1."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-0.5 * (offsets / (SIGMA * window / WINDOW)) ** 2)
    places = np.arange(n - window + 1)
    matrix = np.zeros((n, len(places)))
    matrix[places[:, None] + np.arange(window), places[:, None]] = weights / weights.sum()
    return matrix


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; a last odd row or column is left out."""
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return (x[:, :, :h:2, :w:2] + x[:, :, 1:h:2, :w:2] + x[:, :, :h:2, 1:w:2] + x[:, :, 1:h:2, 1:w:2]) / 4


class MultiScaleSimilarity(Metric):
    """MS-SSIM diversity: `ms_ssim`, the mean over random pairs of generated images, in [0, 1], lower for more
    different ones; `ms_ssim_gap`, that minus the mean over pairs of real images: above 0 where the generated
    ones are more alike than the data.

    A random sample of 2,000 images of each side is kept and paired, none of them twice; all of them, if they
    are fewer. Needs two of each. The pairs depend on the order in which images come, but not on the batches.
    Images that are all the same have `ms_ssim` 1.
    """

    name, reads = "ms_ssim", "images"
    figures: ClassVar = {"ms_ssim": "lower", "ms_ssim_gap": "0"}

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._shape: tuple[int, ...] | None = None
        self._images: dict[Source, Reservoir] = {}
        for source in self.sources:
            self.reset(source)

    @classmethod
    def create(cls, setting: Setting) -> MultiScaleSimilarity:
        check_image_data(cls.name, setting.train, LEAST)
        return cls(setting.seed)

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_images(self.name, f"{source} batch", batch, LEAST)
        check_same_shape(self.name, source, batch, self._shape)
        self._shape = batch.shape[1:]
        chosen, keys = self._images[source].choose(len(batch))
        self._images[source].keep(batch[chosen].astype(np.float32), keys)

    def compute(self) -> dict[str, float]:
        real, fake = self._similarity("real"), self._similarity("fake")
        return {"ms_ssim": fake, "ms_ssim_gap": fake - real}

    def _similarity(self, source: Source) -> float:
        check_count(self.name, source, self._images[source].seen, 2)
        images = self._images[source].rows()
        count = len(images) // 2
        return float(ms_ssim(images[:count], images[count:2 * count]).mean())

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._images[source] = Reservoir(2 * PAIRS, generator(self.seed, f"{source} pairs"))
