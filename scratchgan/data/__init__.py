"""Data: `load` by name or from a file, `Dataset.split`, `Batches` for training; host memory and NumPy only.

Images are (C, H, W) in [-1, 1], points (D,), both float32. Named sets are in digits.py, stacked_mnist.py,
photographs.py and points.py; each file format has its own: idx.py, cifar.py, npz.py, folder.py.
"""
from __future__ import annotations

import difflib
import os

from scratchgan.data.batches import Batches
from scratchgan.data.cifar import batch_files, load_cifar
from scratchgan.data.dataset import Dataset, Modes, Spec
from scratchgan.data.digits import digits, mnist5k
from scratchgan.data.folder import load_folder
from scratchgan.data.idx import load_idx
from scratchgan.data.images import check_image_size
from scratchgan.data.npz import load_npz, samples_shape
from scratchgan.data.photographs import photographs
from scratchgan.data.points import grid, ring, swissroll
from scratchgan.data.stacked_mnist import stacked_mnist
from scratchgan.errors import UserError

__all__ = ["DRAWN", "IMAGES", "POINTS", "Batches", "Dataset", "Modes", "Spec", "holds_points", "load"]

IMAGES = {"mnist5k": mnist5k, "digits": digits, "stacked_mnist": stacked_mnist, "photographs": photographs}
DRAWN = ("stacked_mnist",)      # those of IMAGES that are put together by a seed
POINTS = {"ring": ring, "grid": grid, "swissroll": swissroll}


def load(name_or_path: str | os.PathLike[str], size: int | None = None, seed: int = 0,
         labels: str | os.PathLike[str] | None = None) -> Dataset:
    """A named set, IDX (plain or .gz), CIFAR-10's .bin (or a folder of them), .npz, or a folder of images.

    A name wins over a path of that name: write ./digits for the folder. Shape and value range are stated by
    the format's own function.
    size: edge of square images, in pixels; None keeps the data's own (64 for a folder of images).
    seed: of generated points and of stacked_mnist's triples; nothing else depends on it.
    labels: the file of an IDX file's labels, where it is not found by MNIST's naming.
    Raises UserError, one line, for whatever is wrong with name, arguments or files.
    """
    name = os.fspath(name_or_path)
    check_image_size(size)
    named = name in IMAGES or name in POINTS
    if not named and not os.path.exists(name):
        raise _unknown(name)
    if not named and _is_idx(name):
        return load_idx(name, None if labels is None else os.fspath(labels), size)
    if labels is not None:
        raise UserError(f"{name}: got labels={os.fspath(labels)!r}, which only IDX images take")
    if name in POINTS and size is not None:
        raise UserError(f"{name}: got size={size}, but these are points, expected none")
    if named:
        return _load_named(name, size, seed)
    return _load_folder_or_file(name, size)


def _load_named(name: str, size: int | None, seed: int) -> Dataset:
    if name in POINTS:
        return POINTS[name](seed)
    return IMAGES[name](size, seed) if name in DRAWN else IMAGES[name](size)


def holds_points(name_or_path: str) -> bool:
    """Whether `load` would give points, not images; False too for what is no file. UserError for a damaged .npz.
    """
    if name_or_path in POINTS or not name_or_path.lower().endswith(".npz"):
        return name_or_path in POINTS
    return os.path.isfile(name_or_path) and len(samples_shape(name_or_path)) == 2


def _is_idx(path: str) -> bool:
    name = os.path.basename(path).lower()
    return os.path.isfile(path) and ("idx" in name or "ubyte" in name or name.endswith(".gz"))


def _load_folder_or_file(path: str, size: int | None) -> Dataset:
    if os.path.isdir(path):
        return load_cifar(path, size) if batch_files(path) else load_folder(path, size)
    if path.lower().endswith(".npz"):
        return load_npz(path, size)
    if path.lower().endswith(".bin"):
        return load_cifar(path, size)
    raise UserError(f"{path}: unknown format, expected .npz, CIFAR-10's .bin, "
                    "IDX (idx or ubyte in its name, or .gz) or a folder of images")


def _unknown(name: str) -> UserError:
    names = [*IMAGES, *POINTS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"{name!r}: no such file or folder, and no named data ({', '.join(names)}){hint}")
