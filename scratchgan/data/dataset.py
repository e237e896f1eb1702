"""What a dataset is: samples by index, their labels, and what a model must know of them.

Every format ends in one `Dataset` over some `Samples`: an array in memory, bytes turned to floats on the way
out, or files that are decoded when asked for. The checks that hold for all of them (labels, lengths,
finiteness) live here.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from scratchgan.data.seeds import generator
from scratchgan.errors import UserError

# Models allocate a row per class, so a stray label such as 10**9 must not pass as a number of classes.
MAX_CLASSES = 65536


class Samples(Protocol):
    """Where samples come from. A float32 array (N, *shape) is one as it stands."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The samples at `indices` (int64, each in [0, N)): a fresh float32 array (len(indices), *shape)."""


@dataclass(frozen=True)
class Spec:
    """What a model needs to know of data.

    shape: of one sample, (C, H, W) for images and (D,) for points.
    low, high: bounds of its values, -1 and 1 for images, minus and plus infinity for points.
    classes: number of classes, None without labels. class_names: one name a class where the data has them.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    classes: int | None = None
    class_names: tuple[str, ...] | None = None


class Modes(NamedTuple):
    """The true modes of a Gaussian mixture: means (K, D) and each coordinate's standard deviation sigma."""

    means: np.ndarray
    sigma: float


class Dataset:
    """N samples of one Spec, with integer labels in [0, spec.classes) where the data has them.

    name: what was loaded. labels: int64 (N,) or None. modes: the Modes of a generated mixture, else None.
    groups: int64 (N,) or None: samples of one group, such as parts of one photograph, know too much of each
    other to stand on both sides of a split; group_names: what each is.
    """

    def __init__(self, name: str, spec: Spec, samples: Samples, labels: np.ndarray | None = None,
                 modes: Modes | None = None, groups: np.ndarray | None = None,
                 group_names: tuple[str, ...] | None = None) -> None:
        if len(samples) == 0:
            raise UserError(f"{name}: holds no samples, expected at least one")
        self.name, self.spec, self.modes, self.group_names = name, spec, modes, group_names
        self.groups = None if groups is None else _checked_groups(name, groups, len(samples), group_names)
        self.labels = None if labels is None else _checked_labels(name, labels, len(samples), spec.classes)
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def get(self, indices) -> np.ndarray:
        """The samples at `indices`, integers along one axis: a new float32 array (len(indices), *spec.shape).

        Raises IndexError outside [0, N), TypeError for anything but integers, and UserError for a file of a
        folder that cannot be read.
        """
        return self._samples[self._checked_indices(indices)]

    def subset(self, indices) -> Dataset:
        """The dataset of the samples at `indices`, in that order; nothing is copied but labels."""
        indices = self._checked_indices(indices)
        labels, groups = (None if a is None else a[indices] for a in (self.labels, self.groups))
        return Dataset(self.name, self.spec, _Chosen(self._samples, indices), labels, self.modes, groups,
                       self.group_names)

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
        """(train, held-out): disjoint, together everything, round(held_out * N) held out.

        Stratified where there are labels: each class gives its share to within one sample.
        Where there are groups, whole ones are held out instead, at least one, but not all: in random order,
        one after the other, as long as that brings their samples nearer to held_out * N.
        Raises UserError where a side would be empty.
        """
        n = len(self)
        m = round(held_out * n) if 0 < held_out < 1 else 0
        if self.groups is not None and 0 < held_out < 1:
            return self._split_by_groups(held_out * n, seed)
        if not 0 < m < n:
            raise UserError(f"{self.name}: held_out={held_out} of {n} samples leaves one side empty, "
                            "expected a fraction in (0, 1) with samples on both sides")
        order = generator(seed, "split").permutation(n)
        if self.labels is not None:
            # A stable sort is the same on every machine; the default one depends on the processor.
            order = order[np.argsort(self.labels[order], kind="stable")]
        # m evenly spaced places of n: any k places in a row, and a class is such a row, hold m k / n of them,
        # rounded down or up.
        places = np.arange(n, dtype=np.int64)
        chosen = (places + 1) * m // n > places * m // n
        return self.subset(np.sort(order[~chosen])), self.subset(np.sort(order[chosen]))

    def _split_by_groups(self, wanted: float, seed: int) -> tuple[Dataset, Dataset]:
        groups, counts = np.unique(self.groups, return_counts=True)
        if len(groups) < 2:
            raise UserError(f"{self.name}: all {len(self)} samples are of one group, which cannot be split")
        order = generator(seed, "split").permutation(len(groups))
        held = np.cumsum(counts[order][:-1])
        chosen = np.isin(self.groups, groups[order[:np.argmin(abs(held - wanted)) + 1]])
        return self.subset(np.flatnonzero(~chosen)), self.subset(np.flatnonzero(chosen))

    def _checked_indices(self, indices) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.size == 0:
            indices = indices.astype(np.int64)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: indices must be integers along one axis, "
                            f"found dtype {indices.dtype} and shape {indices.shape}")
        outside = (indices < 0) | (indices >= len(self))
        if outside.any():
            raise IndexError(f"{self.name}: index {indices[outside][0]} is outside [0, {len(self)})")
        return indices.astype(np.int64)


class _Chosen:
    """Samples of `source` at `indices`."""

    def __init__(self, source: Samples, indices: np.ndarray) -> None:
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._source[self._indices[indices]]


def count_classes(name: str, labels: np.ndarray) -> int:
    """Largest label plus one; UserError past MAX_CLASSES, or where labels are no integers."""
    _check_integers(name, labels)
    classes = int(labels.max(initial=0)) + 1
    if classes > MAX_CLASSES:
        raise UserError(f"{name}: label {classes - 1} found, expected class numbers below {MAX_CLASSES}")
    return classes


def check_finite(name: str, samples: np.ndarray) -> None:
    """UserError with the index of the first sample that holds NaN or infinity."""
    finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        raise UserError(f"{name}: sample {np.argmin(finite)} holds NaN or infinity, expected finite values")


def _checked_labels(name: str, labels: np.ndarray, n: int, classes: int | None) -> np.ndarray:
    if labels.shape != (n,):
        raise UserError(f"{name}: labels have shape {labels.shape}, expected one for each of {n} samples")
    _check_integers(name, labels)
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        raise UserError(f"{name}: sample {first} has label {labels[first]}, expected one in [0, {classes})")
    return labels.astype(np.int64)


def _checked_groups(name: str, groups: np.ndarray, n: int, names: tuple[str, ...] | None) -> np.ndarray:
    _check_integers(name, groups, "groups")
    if groups.shape != (n,) or groups.min() < 0 or (names is not None and groups.max() >= len(names)):
        raise UserError(f"{name}: groups have shape {groups.shape} and span "
                        f"[{groups.min()}, {groups.max()}], expected a number for each of {n} samples"
                        + (f", below {len(names)}" if names is not None else ""))
    return groups.astype(np.int64)


def _check_integers(name: str, numbers: np.ndarray, what: str = "labels") -> None:
    if numbers.dtype.kind not in "iu":
        raise UserError(f"{name}: {what} have dtype {numbers.dtype}, expected integers")
