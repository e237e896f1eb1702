"""IDX, the format of MNIST and its relatives: plain or gzipped.

    byte 0, 1   0
    byte 2      element type, 0x08 for unsigned bytes
    byte 3      number of axes d
    4 d bytes   lengths, big-endian uint32
    then the elements, last axis fastest
"""
from __future__ import annotations

import gzip
import math
import os
import re
import struct
from typing import BinaryIO

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.files import MAX_INFLATION, read_at_most, reading
from scratchgan.data.images import image_dataset
from scratchgan.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
_CONTENT = {1: "labels", 3: "images"}


def load_idx(path: str, labels: str | None = None, size: int | None = None) -> Dataset:
    """Greyscale images (1, H, W), float32 in [-1, 1], from an IDX file of unsigned bytes with 3 axes.

    Labels come from the file `labels`, or from the one that MNIST's naming puts beside the images
    (train-images-idx3-ubyte, train-labels-idx1-ubyte, with or without .gz); without one the dataset has none.
    Classes: largest label plus one.
    Raises UserError for a wrong magic, a length other than the header declares, or labels of another length.
    """
    images = read_idx(path, 3)
    labels = _labels_beside(path) if labels is None else labels
    return image_dataset(path, images[:, None], size, None if labels is None else read_idx(labels, 1))


def read_idx(path: str, axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes with 1 axis (labels) or 3 (images) as a uint8 array.

    Memory is taken only for bytes that the file holds, whatever its header declares.
    """
    with reading(path, "IDX file"), open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        zipped = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        shape = _read_header(path, stream, axes)
        expected, room = math.prod(shape), size * MAX_INFLATION if zipped else size - raw.tell()
        if expected > room:
            raise _wrong_length(path, shape, f"{'at most ' if zipped else ''}{room}")
        data = read_at_most(stream, expected + 1)
    if len(data) != expected:
        raise _wrong_length(path, shape, str(len(data)) if len(data) < expected else "more")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_header(path: str, stream: BinaryIO, axes: int) -> tuple[int, ...]:
    magic, lengths = stream.read(4), stream.read(4 * axes)
    expected = bytes([0, 0, 8, axes])
    if magic != expected:
        raise UserError(f"{path}: magic {magic.hex() or 'missing'}, expected {expected.hex()} "
                        f"(IDX of unsigned bytes with {axes} axes: {_CONTENT[axes]})")
    if len(lengths) < 4 * axes:
        raise UserError(f"{path}: header ends after {4 + len(lengths)} bytes, expected {4 + 4 * axes}")
    shape = struct.unpack(f">{axes}I", lengths)
    if 0 in shape:
        raise UserError(f"{path}: header declares shape {shape}, expected no axis of length 0")
    return shape


def _wrong_length(path: str, shape: tuple[int, ...], found: str) -> UserError:
    expected = math.prod(shape)
    return UserError(f"{path}: expected {expected} bytes after the header for shape {shape}, found {found}")


def _labels_beside(path: str) -> str | None:
    """train-images-idx3-ubyte -> train-labels-idx1-ubyte where that exists, with or without .gz."""
    folder, name = os.path.split(path)
    twin, replaced = re.subn(r"images([-.])idx3", r"labels\1idx1", name)
    if not replaced:
        return None
    bare = twin.removesuffix(".gz")
    candidates = (os.path.join(folder, candidate) for candidate in (twin, bare, bare + ".gz"))
    return next(filter(os.path.isfile, candidates), None)
