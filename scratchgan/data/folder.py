"""A folder of pictures, or of one folder of pictures a class, decoded when asked for."""
from __future__ import annotations

import os

import numpy as np

from scratchgan.data.dataset import Dataset, Spec
from scratchgan.data.files import reading
from scratchgan.data.images import decode, to_unit
from scratchgan.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
DEFAULT_SIZE = 64
KEPT_BYTES = 256 << 20  # decoded pictures kept for the next epoch: 20,000 at 64x64


def load_folder(path: str, size: int | None = None) -> Dataset:
    """RGB images (3, size, size), float32 in [-1, 1]: shorter side resized to `size`, then centre-cropped.

    Pictures lie in `path` itself (no labels), or in its subfolders, which are then the classes in
    alphabetical order; names that begin with a dot and subfolders without pictures are passed over. Only the
    first picture is decoded here, so that a folder of something else is refused at once; the others when
    their turn comes.
    Raises UserError for a folder without pictures, pictures beside class folders, and a file that is none.
    """
    size = DEFAULT_SIZE if size is None else size
    direct, folders = _list(path)
    by_class = {folder: files for folder in folders if (files := _list(os.path.join(path, folder))[0])}
    if direct and by_class:
        raise UserError(f"{path}: holds pictures ({os.path.basename(direct[0])}) beside folders of pictures "
                        f"({next(iter(by_class))}), expected only one of the two")
    files = direct or [file for group in by_class.values() for file in group]
    if not files:
        raise UserError(f"{path}: no pictures found, expected files ending in {' '.join(SUFFIXES)}")
    counts = [len(group) for group in by_class.values()]
    labels = np.repeat(np.arange(len(counts)), counts) if by_class else None
    spec = Spec((3, size, size), -1.0, 1.0, len(by_class) or None, tuple(by_class) or None)
    dataset = Dataset(path, spec, _ImageFiles(files, size), labels)
    dataset.get([0])
    return dataset


class _ImageFiles:
    """Samples decoded from files; the first KEPT_BYTES of them are kept for later epochs."""

    def __init__(self, files: list[str], size: int) -> None:
        self._files, self._size = files, size
        self._kept: dict[int, np.ndarray] = {}
        self._room = KEPT_BYTES // (3 * size * size)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        pixels = np.empty((len(indices), 3, self._size, self._size), np.uint8)
        for picture, index in zip(pixels, indices.tolist()):
            picture[...] = self._decoded(index)
        return to_unit(pixels)

    def _decoded(self, index: int) -> np.ndarray:
        if index in self._kept:
            return self._kept[index]
        picture = decode(self._files[index], self._size)
        if len(self._kept) < self._room:
            self._kept[index] = picture
        return picture


def _list(folder: str) -> tuple[list[str], list[str]]:
    """(paths of pictures, names of subfolders), sorted, since the order of a listing is the machine's."""
    with reading(folder, "folder"), os.scandir(folder) as entries:
        seen = [entry for entry in sorted(entries, key=lambda entry: entry.name) if entry.name[0] != "."]
        pictures = [entry for entry in seen if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
        return [entry.path for entry in pictures], [entry.name for entry in seen if entry.is_dir()]
