"""Which class a sample is of, for metrics class by class.

Real samples have the labels of the data. Generated ones have those that come with them, as from a conditional
generator; without any, greyscale digits are what the shipped classifier sees in them. Its errors are then
those of the real samples in the floor, too, whose classes are read in the same way.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scratchgan.data import Dataset, Spec
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError

JUDGED = 1000       # real samples on which the classifier is judged
LEAST = 0.8         # share of them whose label it has to see: below, its classes are not those of the data


class Labelled(Protocol):
    """Generated samples, and whether labels come with them."""
    labels: Spec | None


@dataclass(frozen=True)
class Classes:
    """Names of the classes, 0 and up. agreement: the share of real samples in which the classifier sees their
    label, where it is what gives generated samples their class; None where they have labels."""

    names: tuple[str, ...]
    agreement: float | None = None

    @property
    def seen(self) -> bool:
        """Whether the classifier says of which class generated samples are."""
        return self.agreement is not None

    def of_samples(self, views: dict[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
        """Classes (N,) of samples, or of real ones in their place, from their probabilities or labels."""
        return views["probabilities"].argmax(axis=1) if self.seen else labels

    def described(self, data: str) -> str:
        """In words, where classes come from."""
        if not self.seen:
            return f"class: the labels of {data} and those that come with the samples"
        return (f"class: of the reference by the labels of {data}; of samples, also of the real ones in "
                "their place, as the shipped digit classifier sees them, which agrees with "
                f"{100 * self.agreement:.1f} % of these labels")


def classes_of(samples: Labelled, train: Dataset, held_out: Dataset | None = None, seed: int = 0) -> Classes:
    """The classes of `train`, and how those of `samples` are known. Raises UserError where they are not, or
    where labels of `samples` or of `held_out` do not fit those of `train`."""
    for side in (train, held_out):
        if side is not None and side.labels is None:
            raise UserError(f"--per-class: {side.name} has no labels, so the classes of its samples are "
                            "unknown")
    if held_out is not None:
        _check_alike(held_out.name, held_out.spec, train)
    names = train.spec.class_names or tuple(map(str, range(train.spec.classes)))
    if samples.labels is not None:
        _check_alike("the samples", samples.labels, train)
        return Classes(names)
    return Classes(names, _agreement(train, seed))


def _check_alike(name: str, labels: Spec, real: Dataset) -> None:
    own, theirs = labels.class_names, real.spec.class_names
    if labels.classes > real.spec.classes:
        raise UserError(f"--per-class: labels of {name} go up to {labels.classes - 1}, those of {real.name} "
                        f"to {real.spec.classes - 1}")
    if None not in (own, theirs) and own != theirs:
        raise UserError(f"--per-class: classes of {name} are {', '.join(own)}, but those of {real.name} "
                        f"{', '.join(theirs)}")


def _agreement(train: Dataset, seed: int) -> float:
    """Share of the labels of `train` that the shipped classifier sees, of at most JUDGED."""
    from scratchgan.metrics.features import DigitClassifier, classifier
    shape, classes = train.spec.shape, train.spec.classes
    if len(shape) != 3 or shape[0] != 1 or classes != DigitClassifier.classes:
        raise UserError("--per-class: the samples come without labels, which only greyscale digits can do "
                        f"without; {train.name} has samples of shape {shape} and {classes} classes")
    chosen = generator(seed, "judged").permutation(len(train))[:JUDGED]
    agreement = float(np.mean(classifier().labels(train.get(chosen)) == train.labels[chosen]))
    if agreement < LEAST:
        raise UserError(f"--per-class: the samples come without labels, and the digit classifier sees only "
                        f"{100 * agreement:.1f} % of those of {train.name}, expected at least "
                        f"{100 * LEAST:.0f} %")
    return agreement
