"""Metrics of 10,000 real and 10,000 generated samples against the published packages, in one process with the
same number of threads: prdc and torchmetrics, which take features, so no network is in the times.

Real samples are Gaussian, generated ones wider by a tenth. A metric has to give the package's figure before
it is timed. Where no package has it (sliced Wasserstein), the other side is the same computation in PyTorch.
The two sides take turns, a call each, in another order every round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

from bench.timing import Budget, Row, check_close, in_turn, milliseconds
from scratchgan.data.seeds import generator
from scratchgan.metrics.density_coverage import density_coverage
from scratchgan.metrics.frechet_distance import FrechetDistance
from scratchgan.metrics.inception_score import inception_score
from scratchgan.metrics.kernel_distance import kernel_distance, squared_mmd
from scratchgan.metrics.ms_ssim import WEIGHTS, ms_ssim
from scratchgan.metrics.precision_recall import precision_recall
from scratchgan.metrics.sliced_wasserstein import sliced_wasserstein
from tests import published

SAMPLES, FEATURES, CLASSES = 10_000, 128, 10
SLOW = 3            # rounds of what takes seconds
PATCHES, PROJECTIONS = 128 * 1024, 64
SCALES = WEIGHTS[:2] / WEIGHTS[:2].sum()


@cache
def draw(name: str, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Gaussian numbers, the same at every call."""
    return (scale * generator(0, name).standard_normal(shape)).astype(np.float32)


def features() -> tuple[np.ndarray, np.ndarray]:
    return draw("real", SAMPLES, FEATURES), draw("fake", SAMPLES, FEATURES, scale=1.1)


@cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of 28 x 28 images that are alike in part, 10,000 in all."""
    shape = (SAMPLES // 2, 1, 28, 28)
    common, x, y = (draw(name, *shape, scale=0.4) for name in ("common", "x", "y"))
    return np.tanh(common + x), np.tanh(common + y)


def our_fid() -> float:
    metric = FrechetDistance()
    for batch, source in zip(features(), ("real", "fake")):
        metric.update(batch, source)
    return metric.compute()["fid"]


def our_inception_score() -> float:
    """From logits, as the package takes them; in the package's order."""
    logits = draw("logits", SAMPLES, CLASSES, scale=2.0)[published.shuffled(SAMPLES)]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return inception_score(exponentials / exponentials.sum(axis=1, keepdims=True))[0]


def torch_sliced_wasserstein() -> float:
    """The same directions, projected and sorted by PyTorch."""
    directions = generator(0, "directions").standard_normal((PROJECTIONS, 49))
    directions = torch.from_numpy(directions / np.linalg.norm(directions, axis=1, keepdims=True)).float()
    x, y = (torch.sort(directions @ torch.from_numpy(z).T, dim=1).values for z in patches())
    return float((x - y).abs().mean())


def patches() -> tuple[np.ndarray, np.ndarray]:
    return draw("real patches", PATCHES, 49), draw("fake patches", PATCHES, 49, scale=1.1)


@dataclass(frozen=True)
class Workload:
    """A metric, its counterpart, and how far their figures may be apart, relative to the larger or to 1e-3.

    expected: what our figure is compared with, where that is not the counterpart's own.
    """

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    tolerance: float
    expected: Callable[[], object] | None = None
    rounds: int = 9


WORKLOADS = [
    Workload("FID, 128 features (torchmetrics)", our_fid, lambda: published.fid(*features()), 1e-5),
    Workload("KID, 10 subsets of 1,000 (torchmetrics)", lambda: kernel_distance(*features())[0],
             lambda: published.kid(*features(), subsets=10, size=1000), 0.1,
             # Its subsets are others than ours: both estimate what all samples give.
             expected=lambda: squared_mmd(*features())),
    Workload("squared MMD of all 10,000 (torchmetrics)", lambda: squared_mmd(*features()),
             lambda: published.kid(*features(), subsets=1, size=SAMPLES), 1e-3, rounds=SLOW),
    Workload("Inception score, 10 classes (torchmetrics)", our_inception_score,
             lambda: published.inception_score(draw("logits", SAMPLES, CLASSES, scale=2.0), 10)[0], 1e-5),
    Workload("precision, recall, density, coverage (prdc)",
             lambda: [*precision_recall(*features(), k=5), *density_coverage(*features())],
             lambda: published.prdc(*features(), k=5), 1e-6, rounds=SLOW),
    Workload("sliced Wasserstein, 131,072 patches, 64 directions (PyTorch)",
             lambda: sliced_wasserstein(*patches(), PROJECTIONS), torch_sliced_wasserstein, 1e-5,
             rounds=SLOW),
    Workload("MS-SSIM of 5,000 pairs 28x28 (torchmetrics)", lambda: ms_ssim(*images()).mean(),
             lambda: published.ms_ssim(*images(), SCALES), 1e-5, rounds=SLOW,
             # The package's own figure includes windows beyond the image.
             expected=lambda: published.ms_ssim_within(*images(), SCALES).mean()),
]


def check(workload: Workload) -> None:
    """Refuse to time a wrong figure."""
    expected = workload.expected or workload.theirs
    check_close(workload.name, [workload.ours()], [expected()], workload.tolerance)


def measure(budget: Budget, only: str = "") -> list[Row]:
    """Milliseconds of a call of each."""
    rows = []
    for workload in WORKLOADS:
        if only in workload.name:
            check(workload)
            calls = (partial(milliseconds, function) for function in (workload.ours, workload.theirs))
            rows.append(in_turn(workload.name, *calls, min(workload.rounds, budget.rounds)))
    return rows
