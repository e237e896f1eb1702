"""Metrics of generated samples, one file each, with the mathematics and its source in the docstring.

`get("fid")` is a metric's class; metric.py says how one is used.
"""
from __future__ import annotations

from importlib import import_module

from scratchgan import settings
from scratchgan.errors import UserError
from scratchgan.metrics.metric import Metric, Setting

__all__ = ["Metric", "Setting", "get", "names"]

CLASSES: dict[str, tuple[str, str]] = {      # name on the command line: file, class in it
    "fid": ("frechet_distance", "FrechetDistance"),
    "kid": ("kernel_distance", "KernelDistance"),
    "is": ("inception_score", "InceptionScore"),
    "precision_recall": ("precision_recall", "PrecisionRecall"),
    "density_coverage": ("density_coverage", "DensityCoverage"),
    "swd": ("sliced_wasserstein", "SlicedWasserstein"),
    "ms_ssim": ("ms_ssim", "MultiScaleSimilarity"),
    "modes": ("mixture", "ModeCoverage"),
    "stacked_modes": ("stacked_mnist", "StackedModes"),
    "memorisation": ("memorisation", "Memorisation"),
    "three_sample": ("three_sample", "ThreeSample"),
    "birthday": ("birthday", "BirthdayParadox"),
    "groups": ("groups", "Groups"),
    "cas": ("classification_accuracy", "ClassificationAccuracy"),
    "asked_class": ("asked_class", "AskedClass"),
    "ppl": ("path_length", "PathLength"),
}


def names() -> list[str]:
    """The names of the metrics."""
    return list(CLASSES)


def get(name: str) -> type[Metric]:
    """The class of a metric. Raises UserError, with the nearest name, for an unknown one."""
    if name not in CLASSES:
        raise UserError(f"{name!r} is no metric{settings.nearest(name, CLASSES)} (metrics: {', '.join(CLASSES)})")
    file, class_name = CLASSES[name]
    return getattr(import_module(f"{__name__}.{file}"), class_name)
