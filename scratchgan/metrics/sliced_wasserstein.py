"""Sliced Wasserstein distance of image patches, level by level of a Laplacian pyramid: Karras et al.,
"Progressive growing of GANs for improved quality, stability, and variation" (arXiv 1710.10196, section 5);
the distance: Rabin et al., "Wasserstein barycenter and its application to texture mixing" (2011).

Every image is taken apart into frequency bands; from each level come 128 patches of 7 x 7 at random places,
normalised to mean 0 and deviation 1 in each channel over the whole set; real and generated patches are
compared along 512 random directions. The figure is the mean over levels, times 1,000 as in the paper.

Departures, for small images and bounded memory:
- The paper's levels are 16 pixels at the smallest. Here an image is halved as long as both edges keep 14
  pixels, twice a patch, which is the same for powers of two from 16 on; 28 x 28 has the levels 28 and 14. An
  image below 28 is its own only level, and one below 7 has none.
- A level with at most 128 places (14 x 14 has 64) gives each of its patches once.
- Patches are kept as float32, at most 131,072 for each level and side (the paper's 128 of 1,024 images; 26 MB
  in grey, 77 MB in colour, while collecting twice as much). Of more, a uniform random sample is kept.
"""
from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from scratchgan import backend
from scratchgan.data.seeds import generator
from scratchgan.metrics.checks import (
    check_alike,
    check_count,
    check_features,
    check_image_data,
    check_images,
    check_same_shape,
    check_source,
)
from scratchgan.metrics.metric import Metric, Setting, Source
from scratchgan.metrics.reservoir import Reservoir

PATCH, PATCHES = 7, 128
LIMIT = 128 * 1024
PROJECTIONS = 512
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16       # Burt and Adelson 1983
ENTRIES = 1 << 21           # projected values at a time


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, projections: int = PROJECTIONS, seed: int = 0) -> float:
    """Mean over random unit vectors u of the 1-Wasserstein distance of {u.x_i} and {u.y_j}.

    x: (N, D). y: (M, D). At least 0; 0 for equal sets; in the units of x. The directions follow from the
    seed. Computed in the precision of x and y, summed in float64.
    Raises ValueError for other shapes, NaN, infinity, and fewer than one projection.
    """
    x, y = check_features("sliced_wasserstein", "x", x), check_features("sliced_wasserstein", "y", y)
    check_alike("sliced_wasserstein", x, y)
    if projections < 1:
        raise ValueError(f"sliced_wasserstein: {projections} projections, expected at least 1")
    directions = generator(seed, "directions").standard_normal((projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = np.empty(projections)
    count = max(1, ENTRIES // max(len(x), len(y)))
    steps = None if len(x) == len(y) else common_steps(len(x), len(y))

    def project(part: slice) -> None:
        for i in range(part.start, part.stop, count):
            some = slice(i, min(i + count, part.stop))
            a, b = (np.sort(directions[some].astype(z.dtype) @ z.T, axis=1) for z in (x, y))
            distances[some] = sorted_wasserstein(a, b, steps)

    backend.parallel(projections, project)
    return float(distances.mean())


class Steps(NamedTuple):
    """Intervals on which the quantile functions of n and of m values are both constant: their lengths, which
    add up to 1, and which of the ascending values the two have there."""

    lengths: np.ndarray
    of_n: np.ndarray
    of_m: np.ndarray


def common_steps(n: int, m: int) -> Steps:
    """Those between the multiples of 1/n and 1/m. It takes longer than to use them: once for all directions."""
    # In units of 1 / (n m) the steps are whole numbers: no place is missed or doubled by rounding.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    return Steps(np.diff(ends, prepend=0) / (n * m), (ends - 1) // m, (ends - 1) // n)


def sorted_wasserstein(a: np.ndarray, b: np.ndarray, steps: Steps | None = None) -> np.ndarray:
    """1-Wasserstein distance int_0^1 |F^-1(t) - G^-1(t)| dt of a[i] (n values) and b[i] (m values),
    ascending.

    a: (P, n). b: (P, m). steps: `common_steps(n, m)`, computed if None. Returns (P,). For n = m it is the mean
    of |a - b|.
    """
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return abs(a - b).mean(axis=1, dtype=np.float64)
    steps = common_steps(n, m) if steps is None else steps
    apart = a.take(steps.of_n, axis=1) - b.take(steps.of_m, axis=1)
    return abs(apart).astype(np.float64) @ steps.lengths


def laplacian_pyramid(images: np.ndarray) -> list[np.ndarray]:
    """Levels of images (N, C, H, W), from fine to coarse: each is an image less its smoothed half-size
    version, enlarged again; the last one is the smallest image itself. Their sum, each enlarged, is the
    image.
    """
    levels = []
    while min(images.shape[2:]) // 2 >= 2 * PATCH:
        smaller = _smooth(images)[:, :, ::2, ::2]
        levels.append(images - _enlarge(smaller, images.shape))
        images = smaller
    return [*levels, images]


def _enlarge(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape, images.dtype)
    spread[:, :, ::2, ::2] = images
    return 4 * _smooth(spread)


def _smooth(images: np.ndarray) -> np.ndarray:
    """Both ways with the binomial filter; images are mirrored at their edges, whose pixels are not
    repeated."""
    for axis in (2, 3):
        n = images.shape[axis]
        padded = np.pad(images, [(2, 2) if i == axis else (0, 0) for i in range(4)], mode="reflect")
        images = sum(w * padded.take(range(i, i + n), axis) for i, w in enumerate(BINOMIAL))
    return images


def normalise(patches: np.ndarray) -> np.ndarray:
    """Patches (M, C, h, w) as rows (M, C h w), each channel with mean 0 and deviation 1 over all of them; a
    channel that is constant becomes 0."""
    axes = (0, 2, 3)
    mean = patches.mean(axis=axes, keepdims=True, dtype=np.float64)
    centred = patches - mean.astype(patches.dtype)
    deviation = np.sqrt(np.square(centred).mean(axis=axes, keepdims=True, dtype=np.float64))
    # What is left of a constant by rounding is no structure to be blown up.
    flat = deviation <= np.finfo(np.float32).eps * abs(mean)
    centred *= np.where(flat, 0, 1 / np.where(flat, 1, deviation)).astype(patches.dtype)
    return centred.reshape(len(patches), -1)


class _Patches:
    """The patches of one side and one level."""

    def __init__(self, seed: int, source: Source, level: int) -> None:
        self._places = generator(seed, f"{source} patches", level)
        self._kept = Reservoir(LIMIT, generator(seed, f"{source} patches kept", level))

    def update(self, images: np.ndarray) -> None:
        """Draw patches from a level's images (N, C, H, W)."""
        windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
        places = windows.shape[2] * windows.shape[3]
        count = min(PATCHES, places)
        chosen, keys = self._kept.choose(len(images) * count)
        image, number = chosen // count, chosen % count
        if places > PATCHES:
            number = (self._places.random((len(images), count)) * places).astype(np.int64)[image, number]
        self._kept.keep(windows[image, :, number // windows.shape[3], number % windows.shape[3]], keys)

    def rows(self) -> np.ndarray:
        """All that are kept, normalised: (M, C PATCH^2)."""
        return normalise(self._kept.rows())


class SlicedWasserstein(Metric):
    """SWD of images, times 1,000: `swd`, the mean over the levels, at least 0; `by_level` has each.

    Biased upwards in the number of patches: compare figures of equally many. Patches depend on the order in
    which images come, but not on the batches. Of constant images all patches are 0.
    """

    name, reads = "swd", "images"
    figures: ClassVar = {"swd": "lower"}

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._shape: tuple[int, ...] | None = None
        self._sides: dict[Source, list[_Patches]] = {source: [] for source in self.sources}
        self._edges: list[int] = []

    @classmethod
    def create(cls, setting: Setting) -> SlicedWasserstein:
        check_image_data(cls.name, setting.train, PATCH)
        return cls(setting.seed)

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_images(self.name, f"{source} batch", batch, PATCH).astype(np.float32, copy=False)
        check_same_shape(self.name, source, batch, self._shape)
        levels = laplacian_pyramid(batch)
        self._shape, self._edges = batch.shape[1:], [min(level.shape[2:]) for level in levels]
        if not self._sides[source]:
            self._sides[source] = [_Patches(self.seed, source, i) for i in range(len(levels))]
        for patches, level in zip(self._sides[source], levels):
            patches.update(level)

    def by_level(self) -> dict[int, float]:
        """The distance of each level, times 1,000, by its smaller edge in pixels, from fine to coarse."""
        for source in self.sources:
            check_count(self.name, source, len(self._sides[source]), 1)
        pairs = zip(self._edges, self._sides["real"], self._sides["fake"])
        return {edge: 1e3 * sliced_wasserstein(real.rows(), fake.rows(), seed=self.seed)
                for edge, real, fake in pairs}

    def compute(self) -> dict[str, float]:
        return {"swd": float(np.mean(list(self.by_level().values())))}

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._sides[source] = []
