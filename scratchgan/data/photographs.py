"""Colour photographs that ship inside the package scikit-image, as patches: no download.

Five scenes before a camera: an astronaut, a cat (chelsea), a cup of coffee, a motorcycle seen by two cameras,
and a rocket at dusk. The package's other pictures in colour are none of nature's kind: a colour wheel, stars,
a retina, stained tissue. The files are read where they lie: importing skimage costs seconds.
"""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from scratchgan.data.dataset import Dataset, Spec
from scratchgan.data.files import reading
from scratchgan.data.images import to_unit
from scratchgan.errors import UserError

# Scene: its photographs. Both views of the motorcycle show the same things, so a split must not part them.
SCENES = {"astronaut": ("astronaut.png",), "chelsea": ("chelsea.png",), "coffee": ("coffee.png",),
          "motorcycle": ("motorcycle_left.png", "motorcycle_right.png"), "rocket": ("rocket.jpg",)}
SIZE = 32
LEAST_STEP = 8              # pixels between neighbouring patches, which otherwise overlap by half


def photographs(size: int | None = None) -> Dataset:
    """Patches (3, size, size), float32 in [-1, 1], of six photographs; size 32 unless given, 5,959 of them.

    They lie on a grid, size / 2 apart but at least 8 pixels, in the photograph's middle; nothing is resized.
    The `groups` are the scenes, so that a split holds out whole scenes.
    Raises UserError without scikit-image and for a size beyond the smallest photograph's 300 pixels.
    """
    size = SIZE if size is None else size
    pictures = [(number, photograph(file)) for number, files in enumerate(SCENES.values()) for file in files]
    smallest = min(min(picture.shape[1:]) for _, picture in pictures)
    if size > smallest:
        raise UserError(f"photographs: size={size}, expected at most the {smallest} pixels of the smallest")
    corners = [_corners(picture.shape[1:], size) for _, picture in pictures]
    groups = np.repeat([number for number, _ in pictures], [len(places) for places in corners])
    samples = _Patches([picture for _, picture in pictures], corners, size)
    return Dataset("photographs", Spec((3, size, size), -1.0, 1.0), samples, groups=groups,
                   group_names=tuple(SCENES))


def photograph(file: str) -> np.ndarray:
    """A whole picture of scikit-image in colour, by its file's name: uint8 (3, H, W). UserError where it is
    missing or damaged."""
    found = importlib.util.find_spec("skimage")
    roots = found.submodule_search_locations if found else None
    if not roots:
        raise UserError("photographs: the package scikit-image is not installed: "
                        "pip install 'scratchgan[data]'")
    path = Path(roots[0], "data", file)
    with reading(str(path), "photograph"), Image.open(path, formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _corners(extent: tuple[int, int], size: int) -> np.ndarray:
    """(N, 2): the upper left corners of the patches of a picture (H, W), row by row."""
    step = max(size // 2, LEAST_STEP)
    axes = [np.arange((n - size) % step // 2, n - size + 1, step) for n in extent]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


class _Patches:
    """Windows of size x size pixels into pictures (3, H, W), cut out when asked for."""

    def __init__(self, pictures: list[np.ndarray], corners: list[np.ndarray], size: int) -> None:
        self._pictures, self._size = pictures, size
        self._source = np.repeat(np.arange(len(pictures)), [len(places) for places in corners])
        self._corners = np.concatenate(corners)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        patches = np.empty((len(indices), 3, self._size, self._size), np.uint8)
        for patch, source, (top, left) in zip(patches, self._source[indices], self._corners[indices]):
            patch[...] = self._pictures[source][:, top:top + self._size, left:left + self._size]
        return to_unit(patches)
