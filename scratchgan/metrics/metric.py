"""What every metric is: an object that reads batches, real and generated, and computes its figures at the end.

    metric = FrechetDistance()
    metric.update(real_features, "real")        # as often as there are batches, in any order
    metric.update(fake_features, "fake")
    metric.compute()                            # {"fid": 3.21}
    metric.reset()                              # forgets the generated samples, for the next draw of them

Memory grows with the features that a metric needs, never with the samples behind them.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    from scratchgan.data import Dataset

# real: samples of the data, for memorisation those that the GAN was trained on. held_out: samples of the data
# that it never saw. fake: its own.
Source = Literal["real", "held_out", "fake"]

# What a batch holds. samples: as the data has them, (N, C, H, W) in [-1, 1] or points (N, D); images: the
# same, but no points; features: (N, D) of an extractor; probabilities: (N, K) of a classifier.
Reading = Literal["samples", "images", "features", "probabilities"]


@dataclass(frozen=True)
class Setting:
    """What a metric may need to know besides batches.

    train, held_out: the two sides of the data. gan: the trained GAN, None where only its samples are there.
    seed: of everything that the metric draws.
    """

    train: Dataset
    held_out: Dataset
    gan: Any | None = None
    seed: int = 0


class Metric:
    """Base of the metrics.

    name: on the command line. reads: what its batches hold. sources: which of them it needs. figures: the
    names that `compute` returns, each with what is better: "lower", "higher", or the value to be at ("1").
    of_one_class: whether they mean something of the samples of one class alone.
    """

    name: ClassVar[str]
    reads: ClassVar[Reading]
    sources: ClassVar[tuple[Source, ...]] = ("real", "fake")
    figures: ClassVar[dict[str, str]]
    of_one_class: ClassVar[bool] = True

    @classmethod
    def create(cls, setting: Setting) -> Metric:
        """The metric with its usual parameters. Raises UserError where this data or GAN cannot have it."""
        return cls()

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        """Read a batch; `labels` (N,) are used by metrics of classes alone. ValueError for a wrong shape or
        NaN."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """The figures of all that was read. UserError where that is too little."""
        raise NotImplementedError

    def reset(self, source: Source = "fake") -> None:
        """Forget what was read of `source`."""
        raise NotImplementedError
