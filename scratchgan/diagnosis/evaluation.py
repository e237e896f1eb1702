"""Metrics of the averaged generator while it trains (--eval-every): one draw of samples, no floors.

The protocol is that of `scratchgan evaluate` (measure.py), in short. The random streams of the run are not
touched.
"""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scratchgan import metrics
from scratchgan.errors import UserError
from scratchgan.measure import Generated, measure
from scratchgan.metrics import Setting
from scratchgan.metrics.fitting import own_streams

if TYPE_CHECKING:
    from scratchgan.run import Run

OF_IMAGES = ("images", "probabilities")


def metric_names(run: Run) -> tuple[str, ...]:
    """What the plan names; else modes for a mixture, the Frechet distance for images, precision and recall for
    other points."""
    if run.plan.eval_metrics:
        return run.plan.eval_metrics
    if run.dataset.modes is not None:
        return ("modes",)
    return ("fid",) if len(run.dataset.spec.shape) == 3 else ("precision_recall",)


def check(run: Run) -> None:
    """Raise UserError, before any training, for a metric that is unknown or that this run cannot have."""
    for name in metric_names(run):
        kind = metrics.get(name)
        if kind.reads in OF_IMAGES and len(run.dataset.spec.shape) != 3:
            raise UserError(f"{name}: is a metric of images, but {run.dataset.name} holds points")
        if "held_out" in kind.sources and run.held_out_data is None:
            raise UserError(f"{name}: compares with held-out data, but --held-out is 0")
        with own_streams(run.plan.seed):
            kind.create(_setting(run))


def evaluate(run: Run) -> dict[str, float]:
    """The finite figures, by "eval/FIGURE"; those of a metric that is undefined at present are left out."""
    figures = measure(Generated(run.gan, run.plan.seed), _setting(run), metric_names(run), draws=1,
                      floors=False, progress=False)
    return {f"eval/{figure.name}": figure.mean for figure in figures if math.isfinite(figure.mean)}


def _setting(run: Run) -> Setting:
    return Setting(run.train_data, run.held_out_data, run.gan, run.plan.seed)
