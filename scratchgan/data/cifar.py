"""CIFAR-10's binary version: records of 3073 bytes, a label 0..9 and then 32x32 bytes each of R, G and B.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009); the layout as its page states it.
"""
from __future__ import annotations

import os
import re

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.files import reading
from scratchgan.data.images import image_dataset
from scratchgan.errors import UserError

RECORD = 1 + 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCH = re.compile(r"data_batch_(\d+)\.bin")


def batch_files(folder: str) -> list[str]:
    """The files data_batch_1.bin, data_batch_2.bin ... of a folder, by number; test_batch.bin is left out."""
    with reading(folder, "folder"):
        batches = [found for name in os.listdir(folder) if (found := _BATCH.fullmatch(name))]
    return [os.path.join(folder, found[0]) for found in sorted(batches, key=lambda found: int(found[1]))]


def load_cifar(path: str, size: int | None = None) -> Dataset:
    """RGB images (3, 32, 32), float32 in [-1, 1], labels 0..9: a .bin file, or a folder's data_batch_*.bin.

    Raises UserError for an empty file, a length that is no multiple of 3073, or a label above 9.
    """
    files = batch_files(path) if os.path.isdir(path) else [path]
    if not files:
        raise UserError(f"{path}: holds no data_batch_*.bin, expected CIFAR-10's binary version")
    records = np.concatenate([_read_records(file) for file in files])
    return image_dataset(path, records[:, 1:].reshape(-1, 3, 32, 32), size, records[:, 0], CLASSES)


def _read_records(path: str) -> np.ndarray:
    with reading(path, "CIFAR-10 file"):
        data = np.fromfile(path, np.uint8)
    if len(data) == 0 or len(data) % RECORD:
        raise UserError(f"{path}: holds {len(data)} bytes, expected a multiple of {RECORD} above 0")
    records = data.reshape(-1, RECORD)
    wrong = records[:, 0] >= len(CLASSES)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(f"{path}: record {first} has label {records[first, 0]}, expected CIFAR-10's 0 to 9")
    return records
