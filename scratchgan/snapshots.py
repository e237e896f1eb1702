"""What a training in the plane leaves beside each picture: its samples, and D on a grid of points.

samples/step_000100.npz holds `samples` (N, 2), `logits` (GRID, GRID), D at the points of the grid, and `box`
(2, 2), the grid's least and greatest coordinates: logits[i, j] is D at the i-th y and the j-th x. All are
float32. The report draws level sets and gradients of D from them, since a run keeps but one checkpoint.
"""
from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchgan import storage
from scratchgan.data.files import reading
from scratchgan.data.npz import read_member
from scratchgan.errors import UserError

GRID = 64
MARGIN = 0.25       # of the data's extent, around it


class Snapshot(NamedTuple):
    """A training in the plane at one step; see the module."""
    samples: np.ndarray
    logits: np.ndarray
    box: np.ndarray


def box_around(points: np.ndarray) -> np.ndarray:
    """[[least x, least y], [greatest x, greatest y]] of points (N, 2), MARGIN of their extent further out."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * (high - low) + 1e-3
    return np.stack([low - margin, high + margin]).astype(np.float32)


def save(path: Path, samples: np.ndarray, logits: Callable[[np.ndarray], np.ndarray],
         box: np.ndarray) -> None:
    """Write the snapshot of `samples` (N, 2) and of D, `logits` of points (N, 2) -> (N,), on the grid of
    `box`."""
    x, y = (np.linspace(box[0, k], box[1, k], GRID, dtype=np.float32) for k in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    storage.write_npz(path, samples=samples.astype(np.float32), box=box,
                      logits=logits(grid).reshape(GRID, GRID).astype(np.float32))


def read(path: Path) -> Snapshot:
    """The snapshot at `path`. Raises UserError where it is damaged, of other shapes, or not finite."""
    with reading(str(path), "snapshot"), zipfile.ZipFile(path) as archive:
        snapshot = Snapshot(*(read_member(str(path), archive, key) for key in Snapshot._fields))
    samples, logits, box = snapshot
    fits = samples.shape[1:] == (2,) and logits.shape == (GRID, GRID) and box.shape == (2, 2)
    if not fits or any(array.dtype != np.float32 or not np.isfinite(array).all() for array in snapshot) \
            or not (box[0] < box[1]).all():
        raise UserError(f"{path}: expected finite float32 arrays samples (N, 2), logits ({GRID}, {GRID}) and "
                        f"box (2, 2), found {', '.join(f'{a.dtype} {a.shape}' for a in snapshot)}")
    return snapshot
