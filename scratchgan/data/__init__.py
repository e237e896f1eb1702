"""Data: `load` by name or from a file, `Dataset.split`, and `Batches` for training. Host memory and NumPy only.

Images are (C, H, W) in [-1, 1], points (D,); both float32. Each format is one file: digits and points (named sets), idx, cifar,
npz, folder.
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
from scratchgan.data.npz import load_npz
from scratchgan.data.points import grid, ring, swissroll
from scratchgan.errors import UserError

__all__ = ["Batches", "Dataset", "IMAGES", "Modes", "POINTS", "Spec", "load"]

IMAGES = {"mnist5k": mnist5k, "digits": digits}
POINTS = {"ring": ring, "grid": grid, "swissroll": swissroll}


def load(name_or_path: str | os.PathLike[str], size: int | None = None, seed: int = 0,
         labels: str | os.PathLike[str] | None = None) -> Dataset:
    """A named set, or a file or folder: IDX (plain or .gz), CIFAR-10 .bin (or the folder of them), .npz, a folder of images.

    A name wins over a path of that name: write ./digits for the folder. The format's function states shape and value range.
    size: edge of square images, in pixels; None keeps the data's own (64 for a folder of images).
    seed: of generated points; nothing else depends on it.
    labels: the file of an IDX file's labels, where it is not found by MNIST's naming.
    Raises UserError, one line, for whatever is wrong with name, arguments or files.
    """
    name = os.fspath(name_or_path)
    check_image_size(size)
    if name not in IMAGES and name not in POINTS and _is_idx(name):
        return load_idx(name, None if labels is None else os.fspath(labels), size)
    if labels is not None:
        raise UserError(f"labels={os.fspath(labels)!r}: only an IDX file takes a file of labels, found {name!r}")
    if name in POINTS:
        if size is not None:
            raise UserError(f"size={size}: only images have a size, found the points of {name}")
        return POINTS[name](seed)
    if name in IMAGES:
        return IMAGES[name](size)
    if os.path.isdir(name):
        return load_cifar(name, size) if batch_files(name) else load_folder(name, size)
    return _load_file(name, size)


def _is_idx(path: str) -> bool:
    name = os.path.basename(path).lower()
    return os.path.isfile(path) and ("idx" in name or "ubyte" in name or name.endswith(".gz"))


def _load_file(path: str, size: int | None) -> Dataset:
    if not os.path.isfile(path):
        raise _unknown(path)
    if path.lower().endswith(".npz"):
        return load_npz(path, size)
    if path.lower().endswith(".bin"):
        return load_cifar(path, size)
    raise UserError(f"{path}: unknown format, expected .npz, CIFAR-10's .bin, IDX (idx or ubyte in the name, or .gz), "
                    "or a folder of images")


def _unknown(name: str) -> UserError:
    names = [*IMAGES, *POINTS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"{name!r}: no such file or folder, and no named data ({', '.join(names)}){hint}")
