"""NumPy's .npz: one array of samples, and labels where there are any. Pickled arrays are refused.

Members are read one by one with their headers checked against the archive first: NumPy's own loader allocates
whatever shape a header declares.
"""
from __future__ import annotations

import math
import os
import zipfile

import numpy as np

from scratchgan.data.dataset import Dataset, Spec, check_finite, count_classes
from scratchgan.data.files import MAX_INFLATION, reading
from scratchgan.data.images import image_dataset, to_unit
from scratchgan.errors import UserError

SAMPLE_KEYS = ("x", "images", "samples", "arr_0")
LABEL_KEYS = ("y", "labels")
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load_npz(path: str, size: int | None = None) -> Dataset:
    """Samples under x, images, samples or arr_0 (the first there is), or whatever the name of the only array;
    integer labels under y or labels.

    Images have shape (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3, and are handed out as float32
    (C, H, W) in [-1, 1]. Bytes (uint8) always mean 0..255. With floats the range of the whole array decides:
    it is taken as [0, 1] if it lies within, else as [-1, 1], else as [0, 255], and refused beyond.
    Points are floats of shape (N, D), handed out as float32, unbounded.
    Raises UserError for damaged archives, missing keys, object arrays, other dtypes or shapes, NaN or
    infinity (with the first bad sample's index), and labels of another length.
    """
    samples, labels = _read_arrays(path)
    if samples.ndim < 2 or 0 in samples.shape:
        raise UserError(f"{path}: samples have shape {samples.shape}, expected 2 to 4 axes, none of length 0")
    if samples.dtype.kind == "f":
        # float64 beyond float32's range becomes infinity here, which the check then names
        with np.errstate(over="ignore", invalid="ignore"):
            samples = samples.astype(np.float32)
        check_finite(path, samples)
        if samples.ndim == 2:
            return _points(path, samples, size, labels)
    elif samples.dtype != np.uint8:
        raise UserError(f"{path}: samples have dtype {samples.dtype}, expected uint8 images or floats")
    images = _channels_first(path, samples)
    return image_dataset(path, images if images.dtype == np.uint8 else _in_unit(path, images), size, labels)


def _points(path: str, points: np.ndarray, size: int | None, labels: np.ndarray | None) -> Dataset:
    if size is not None:
        raise UserError(f"{path}: size={size} is for images, found points of shape {points.shape[1:]}")
    classes = None if labels is None else count_classes(path, labels)
    return Dataset(path, Spec(points.shape[1:], -np.inf, np.inf, classes), points, labels)


def _channels_first(path: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first = images.ndim == 4 and images.shape[1] in (1, 3)
    last = images.ndim == 4 and images.shape[3] in (1, 3)
    if first == last:
        trouble = "which could be either of" if first else "expected (N, H, W) or, with C 1 or 3,"
        raise UserError(f"{path}: images have shape {images.shape}, {trouble} (N, H, W, C) and (N, C, H, W)")
    return np.ascontiguousarray(images if first else images.transpose(0, 3, 1, 2))


def _in_unit(path: str, images: np.ndarray) -> np.ndarray:
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:
        return 2 * images - 1
    if low >= -1 and high <= 1:
        return images
    if low >= 0 and high <= 255:
        return to_unit(images)
    raise UserError(f"{path}: images span [{low:g}, {high:g}], expected [0, 1], [-1, 1] or [0, 255]")


def samples_shape(path: str) -> tuple[int, ...]:
    """The shape of the array of samples, from its header alone. Raises UserError as `load_npz`."""
    with reading(path, ".npz archive"), zipfile.ZipFile(path) as archive:
        return _checked_shape(path, archive, _keys(path, archive)[0])


def _read_arrays(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    with reading(path, ".npz archive"), zipfile.ZipFile(path) as archive:
        samples, labels = _keys(path, archive)
        return (read_member(path, archive, samples),
                None if labels is None else read_member(path, archive, labels))


def _keys(path: str, archive: zipfile.ZipFile) -> tuple[str, str | None]:
    """The names of the samples and of the labels."""
    keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    labels = next((key for key in LABEL_KEYS if key in keys), None)
    others = [key for key in keys if key not in LABEL_KEYS]
    samples = others[0] if len(others) == 1 else next((key for key in SAMPLE_KEYS if key in keys), None)
    if samples is None:
        raise UserError(f"{path}: holds {', '.join(keys[:8]) or 'no arrays'}, "
                        f"expected samples under {', '.join(SAMPLE_KEYS)}, or one array alone")
    return samples, labels


def read_member(path: str, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """One array, allocated once its header agrees with the archive, and the archive with the file's size."""
    _checked_shape(path, archive, key)
    with archive.open(f"{key}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _checked_shape(path: str, archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    entry = archive.getinfo(f"{key}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{path}: {key} has zip compression {entry.compress_type}, expected none or deflate")
    if entry.file_size > os.path.getsize(path) * MAX_INFLATION:
        raise UserError(f"{path}: {key} declares {entry.file_size} bytes, more than the file can hold")
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise UserError(f"{path}: {key} has .npy version {version}, expected (1, 0) or (2, 0)")
        shape, _, dtype = _READ_HEADER[version](stream)
        if dtype.hasobject:
            raise UserError(f"{path}: {key} holds Python objects (dtype {dtype}), expected numbers")
        expected, held = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
        if expected != held:
            raise UserError(f"{path}: {key} is {dtype} {shape}: expected {expected} bytes, found {held}")
    return shape
