"""Pictures for the page, as data URIs: samples over time, walks between latents, nearest training neighbours.

Pictures from files are decoded and encoded anew, so that nothing of a file but its pixels reaches the page.
"""
from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from scratchgan import report
from scratchgan.data import Dataset
from scratchgan.data.files import reading
from scratchgan.metrics.nearest import nearest_distances
from scratchgan.run import Run

MOST_FRAMES = 40        # pictures over time; of more, evenly many
BUDGET = 6_000_000      # characters of them all
LONGEST = 1100          # pixels: larger pictures are made smaller
QUALITY = 85            # of WebP
WALKS, STOPS = 6, 9     # rows and columns of the interpolation
SHOWN, NEIGHBOURS = 8, 5
CHUNK = 1000            # training samples at a time in the search for neighbours

T = TypeVar("T")


class Picture(NamedTuple):
    """A picture as a data URI, with its size in pixels."""
    uri: str
    width: int
    height: int


def encoded(image: Image.Image) -> Picture:
    """WebP, at most LONGEST pixels long."""
    image = image.convert("RGB")
    image.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return Picture("data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), *image.size)


def grid(images: np.ndarray, columns: int) -> Picture:
    """Images (N, C, H, W) in [-1, 1], row by row."""
    picture = report.image_grid(images, columns)
    return encoded(Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture))


# Samples over time

def steps(folder: Path, suffix: str) -> dict[int, Path]:
    """The files samples/step_N`suffix` of a run by step, at most MOST_FRAMES: evenly many, with the first and
    the last."""
    found = {int(match[1]): path for path in (folder / "samples").glob(f"step_*{suffix}")
             if (match := re.fullmatch(r"step_(\d{1,12})", path.stem))}
    return {step: found[step] for step in evenly(sorted(found), MOST_FRAMES)}


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, as evenly as may be, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def frames(folder: Path) -> dict[int, Picture]:
    """The run's pictures of samples by step; fewer where they would take more than BUDGET. Raises UserError
    for a damaged file."""
    found = {step: frame(path) for step, path in steps(folder, ".png").items()}
    size = sum(len(picture.uri) for picture in found.values())
    most = max(2, int(len(found) * BUDGET / max(size, 1)))
    return {step: found[step] for step in evenly([*found], most)}


def frame(path: Path) -> Picture:
    """The picture in a file of the run."""
    with reading(str(path), "picture"), Image.open(path, formats=["PNG"]) as image:
        image.load()
    return encoded(image)


# The averaged generator

def walks(run: Run, rows: int = WALKS, stops: int = STOPS) -> np.ndarray:
    """The run's `interpolations`: (rows, stops, *shape)."""
    return run.interpolations(rows, stops, run.plan.seed)


def with_neighbours(run: Run, count: int = SHOWN, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Samples (count, *shape), and the `k` training samples nearest to each in Euclidean distance of the
    values, nearest first: (count, k, *shape)."""
    samples = run.sample(count, run.plan.seed)
    indices = nearest_indices(samples, run.train_data, min(k, len(run.train_data)))
    return samples, np.stack([run.train_data.get(row) for row in indices])


def nearest_indices(samples: np.ndarray, data: Dataset, k: int) -> np.ndarray:
    """(N, k): which samples of `data` are nearest, CHUNK of them in memory at a time."""
    flat = samples.reshape(len(samples), -1)
    distances, indices = np.empty((len(flat), 0)), np.empty((len(flat), 0), np.int64)
    for start in range(0, len(data), CHUNK):
        part = data.get(np.arange(start, min(start + CHUNK, len(data))))
        near, where = nearest_distances(flat, part.reshape(len(part), -1), min(k, len(part)))
        distances, indices = np.hstack([distances, near]), np.hstack([indices, where + start])
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances, indices = (np.take_along_axis(a, order, axis=1) for a in (distances, indices))
    return indices
