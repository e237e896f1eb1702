"""Asked class: the share of a conditional generator's samples in which the shipped digit classifier sees the
class that was asked for.

Its floor is the share of real samples in which it sees their label: the classifier's own accuracy, above which
a figure means that samples are easier to recognise than the data, not better. It says nothing of whether a
class is covered; `cas` and --per-class do.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.checks import check_count, check_features, check_labels, check_source
from scratchgan.metrics.features import DigitClassifier, default_classifier
from scratchgan.metrics.metric import Metric, Setting, Source


class AskedClass(Metric):
    """Counts samples, and those whose largest probability is that of their label."""
    name, reads, sources = "asked_class", "probabilities", ("fake",)
    figures: ClassVar = {"asked_class": "higher"}

    def __init__(self, classes: int = DigitClassifier.classes) -> None:
        self.classes = classes
        self.reset()

    @classmethod
    def create(cls, setting: Setting) -> AskedClass:
        spec = setting.train.spec
        default_classifier(spec)
        if spec.classes != DigitClassifier.classes:
            raise UserError(f"{cls.name}: {setting.train.name} has {spec.classes or 'no'} classes, "
                            f"expected the {DigitClassifier.classes} digits that the classifier knows")
        if setting.gan is not None and setting.gan.conditioned_on != "labels":
            raise UserError(f"{cls.name}: nobody asks this GAN for a class: it is not conditioned on labels")
        return cls()

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_features(self.name, "probabilities", batch)
        if batch.shape[1] != self.classes:
            raise ValueError(f"{self.name}: probabilities of {batch.shape[1]} classes, "
                             f"expected {self.classes}")
        if labels is None:
            raise UserError(f"{self.name}: the samples came without labels, the classes that were asked for")
        labels = check_labels(self.name, labels, len(batch), self.classes)
        self._seen += int((batch.argmax(axis=1) == labels).sum())
        self._count += len(batch)

    def compute(self) -> dict[str, float]:
        check_count(self.name, "fake", self._count, 1)
        return {"asked_class": self._seen / self._count}

    def reset(self, source: Source = "fake") -> None:
        check_source(self.name, self.sources, source)
        self._count = self._seen = 0
