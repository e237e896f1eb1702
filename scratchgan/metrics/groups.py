"""Groups: does the generator give every class its share, and does it serve every class as well?

With q_k and p_k the shares of class k among generated and real samples, the classes of both as the shipped
digit classifier sees them, so that its errors are on both sides:

- groups_tv = sum_k |q_k - p_k| / 2, the share of samples in the wrong class;
- groups_kl = KL(q || p), as for modes (see histograms.py);
- ratio_k = q_k / p_k: above 1 the class is amplified, below 1 it is lost; ratio_smallest is that of the class
  with the least real samples (the first of several), ratio_min and ratio_max are the extremes.

`PerClass` evaluates any other metric class by class.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.checks import check_count, check_features, check_labels, check_source
from scratchgan.metrics.features import DigitClassifier, default_classifier
from scratchgan.metrics.histograms import frequencies, kl_divergence, total_variation
from scratchgan.metrics.metric import Metric, Setting, Source


def amplification(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """q_k / p_k (K,) of counts generated and real, each (K,). ValueError for a class without real samples."""
    q, p = frequencies("amplification", generated), frequencies("amplification", real)
    if q.shape != p.shape or (p == 0).any():
        raise ValueError(f"amplification: {np.count_nonzero(p)} of {len(p)} classes have real samples and "
                         f"counts are of {len(q)} classes, expected as many, each with real samples")
    return q / p


class Groups(Metric):
    """Counts of classes by the largest probability: memory for K numbers. Labels are left aside."""
    name = "groups"
    reads = "probabilities"
    of_one_class = False
    sources: ClassVar = ("real", "fake")
    figures: ClassVar = {"groups_tv": "lower", "groups_kl": "lower", "ratio_smallest": "1", "ratio_min": "1",
                         "ratio_max": "1", **{f"ratio_{k}": "1" for k in range(DigitClassifier.classes)}}

    def __init__(self, classes: int = DigitClassifier.classes) -> None:
        self._counts = {source: np.zeros(classes, np.int64) for source in self.sources}

    @classmethod
    def create(cls, setting: Setting) -> Groups:
        default_classifier(setting.train.spec)
        return cls()

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_features(self.name, "probabilities", batch)
        classes = len(self._counts[source])
        if batch.shape[1] != classes:
            raise ValueError(f"{self.name}: got probabilities of shape {batch.shape}, expected {classes} "
                             "classes")
        self._counts[source] += np.bincount(batch.argmax(axis=1), minlength=classes)

    def compute(self) -> dict[str, float]:
        generated, real = self._counts["fake"], self._counts["real"]
        check_count(self.name, "fake", int(generated.sum()), 1)
        if not real.all():
            raise UserError(f"{self.name}: none of the {real.sum()} real samples is of class "
                            f"{real.argmin()}, expected some of each: more real samples are needed")
        ratios = amplification(generated, real)
        return {"groups_tv": total_variation(generated, real), "groups_kl": kl_divergence(generated, real),
                "ratio_smallest": float(ratios[real.argmin()]), "ratio_min": float(ratios.min()),
                "ratio_max": float(ratios.max()), **{f"ratio_{k}": float(r) for k, r in enumerate(ratios)}}

    def reset(self, source: Source = "fake") -> None:
        self._counts[source][:] = 0


class PerClass(Metric):
    """Another metric once for each class: figure "fid" becomes fid_0, fid_1 ...

    `make()` makes one; batches come with labels (N,) of both sides: the data's own, and a generator's
    conditions or what a classifier sees. Every source is divided.
    """

    def __init__(self, make: Callable[[], Metric], classes: int) -> None:
        if classes < 1:
            raise ValueError(f"PerClass: classes={classes}, expected at least 1")
        self._metrics = [make() for _ in range(classes)]
        one = self._metrics[0]
        self.name, self.reads, self.sources = f"{one.name} per class", one.reads, one.sources
        self.figures = {f"{figure}_{k}": better
                        for k in range(classes) for figure, better in one.figures.items()}

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        """ValueError without one label in [0, classes) for each sample."""
        labels = check_labels(self.name, labels, len(batch), len(self._metrics))
        for k in np.unique(labels):
            self._metrics[k].update(batch[labels == k], source, labels[labels == k])

    def by_class(self) -> list[dict[str, float] | ValueError]:
        """The figures of each class under their own names, or why there are none, as with too few samples."""
        found: list[dict[str, float] | ValueError] = []
        for metric in self._metrics:
            try:
                found.append({name: float(value) for name, value in metric.compute().items()})
            except ValueError as error:
                found.append(error)
        return found

    def compute(self) -> dict[str, float]:
        """UserError for a class without figures."""
        figures = {}
        for k, found in enumerate(self.by_class()):
            if isinstance(found, ValueError):
                raise UserError(f"class {k}: {found}") from found
            figures |= {f"{name}_{k}": value for name, value in found.items()}
        return figures

    def reset(self, source: Source = "fake") -> None:
        for metric in self._metrics:
            metric.reset(source)
