"""What a metric asks of arrays before it computes with them; each error is one sentence with what was
found."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratchgan.data import Dataset
from scratchgan.errors import UserError
from scratchgan.metrics.metric import Source


def check_features(function: str, name: str, array: np.ndarray) -> np.ndarray:
    """`array` as float32 or float64, rows of features (N, D) with N, D >= 1.

    Raises ValueError, naming function and argument, for another shape, for what are no real numbers, and for
    NaN or infinity.
    """
    array = np.asarray(array)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{function}: {name} has shape {array.shape}, expected (N, D) with N, D >= 1")
    return check_finite(function, name, array)


def check_finite(function: str, name: str, array: np.ndarray) -> np.ndarray:
    """`array` as float32 or float64; ValueError for what are no real numbers and for NaN or infinity."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{function}: {name} has dtype {array.dtype}, expected real numbers")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    if not np.isfinite(array).all():
        wrong = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        raise ValueError(f"{function}: {name} holds NaN or infinity, first in row {np.argmax(wrong)}")
    return array


def check_alike(function: str, x: np.ndarray, y: np.ndarray) -> None:
    """ValueError where rows of x and of y differ in length."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{function}: x has {x.shape[1]} columns and y has {y.shape[1]}, expected as many")


def check_source(name: str, sources: Sequence[Source], source: Source) -> None:
    """ValueError for a source that the metric `name` has no use for."""
    if source not in sources:
        raise ValueError(f"{name}: source {source!r} found, expected {' or '.join(sources)}")


def check_count(name: str, source: Source, found: int, least: int) -> None:
    """UserError where the metric `name` read fewer than `least` samples of `source`."""
    if found < least:
        raise UserError(f"{name}: {found} {source} samples were read, expected at least {least}")


def check_labels(function: str, labels: np.ndarray | None, count: int, classes: int) -> np.ndarray:
    """`labels` as an array (count,) of integers in [0, classes). ValueError for anything else, and for
    None."""
    labels = np.empty(0) if labels is None else np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{function}: got labels of dtype {labels.dtype} and shape {labels.shape}, "
                         f"expected {count} integers")
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise ValueError(f"{function}: got label {labels[outside][0]}, expected 0 to {classes - 1}")
    return labels


def check_images(function: str, name: str, images: np.ndarray, least: int = 1) -> np.ndarray:
    """`images` (N, C, H, W) as float32 or float64.

    Raises ValueError, naming function and argument, for another shape, for H or W below `least`, and for NaN
    or infinity.
    """
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"{function}: {name} has shape {images.shape}, expected images (N, C, H, W)")
    if min(images.shape[2:]) < least:
        raise ValueError(f"{function}: {name} has shape {images.shape}, expected H and W of at least {least}")
    return check_finite(function, name, images)


def check_same_shape(name: str, source: Source, batch: np.ndarray, shape: tuple[int, ...] | None) -> None:
    """ValueError where the images of a batch are not of `shape`, that of those before; None: there were none."""
    if shape not in (None, batch.shape[1:]):
        raise ValueError(f"{name}: {source} batch has images {batch.shape[1:]}, those before it {shape}")


def check_image_data(name: str, data: Dataset, least: int) -> None:
    """UserError where the samples of `data` are no images with edges of at least `least` pixels."""
    shape = data.spec.shape
    if len(shape) != 3 or min(shape[1:]) < least:
        raise UserError(f"{name}: {data.name} has samples of shape {shape}, "
                        f"expected images of at least {least} x {least}")
