"""Writers of the file formats that scratchgan.data reads, and what must hold of every dataset it gives."""
from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 7), dtype=np.uint8)
LABELS = np.array([3, 0, 1, 3, 2, 0], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def cifar(labels, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


def npz(compressed: bool = False, **arrays) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def picture(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_sound(dataset) -> None:
    """Dtype, shape, range and labels are as the dataset's own Spec says, for every sample."""
    spec = dataset.spec
    x = dataset.get(range(len(dataset)))
    assert x.dtype == np.float32 and x.shape == (len(dataset), *spec.shape)
    assert np.isfinite(x).all() and spec.low <= x.min() and x.max() <= spec.high
    if dataset.labels is None:
        assert spec.classes is None
    else:
        assert dataset.labels.dtype == np.int64 and dataset.labels.shape == (len(dataset),)
        assert dataset.labels.min() >= 0 and dataset.labels.max() < spec.classes
