"""Classification accuracy score: Ravuri and Vinyals 2019, "Classification accuracy score for conditional
generative models" (arXiv 1905.10887).

Train a classifier on generated samples and their labels, test it on real held-out ones: `cas`, the accuracy
from 0 to 1, is high only if the samples cover every class as the data does. `cas_gap` is the accuracy of the
same classifier trained on real samples, as many, by the same budget, less `cas`: the price of training on
samples, 0 for a perfect generator.

The classifier is a quick one where the paper's is a ResNet-50: pixels -> 128 ReLU -> classes, Adam with a
cosine from 0.002, batches of 64, 800 steps, weights averaged. So figures compare with each other, not with
the paper's.

Labels come with the samples of a conditional generator. Without any, the shipped digit classifier labels each
generated digit; then `cas` tells whether samples cover the classes, and nothing of whether a sample is what
was asked for. Samples are kept as bytes, at most 10,000 a side; the test is all of the held-out data.
"""
from __future__ import annotations

from typing import ClassVar

import numpy as np

from scratchgan import nn
from scratchgan.data import Dataset
from scratchgan.data.images import to_bytes, to_unit
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError
from scratchgan.metrics.checks import check_count, check_finite, check_labels, check_source
from scratchgan.metrics.features import classifier
from scratchgan.metrics.fitting import accuracy, fit, own_streams
from scratchgan.metrics.metric import Metric, Setting, Source

HIDDEN = 128
BATCH = 64
STEPS = 800
KEPT = 10_000


def trained_accuracy(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, classes: int,
                     seed: int = 0, steps: int = STEPS) -> float:
    """Accuracy on (test_x, test_y) of the classifier above, trained on (x, y): x (N, *shape), float32 in
    [-1, 1], y (N,) in [0, classes). Deterministic given `seed` and the order of x."""
    with own_streams(seed):
        network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].size, HIDDEN), nn.ReLU(),
                                nn.Linear(HIDDEN, classes))
        epochs = max(1, round(steps * BATCH / len(x)))
        network = fit(network, x, y, epochs=epochs, batch_size=BATCH, seed=seed)
    return accuracy(network, test_x, test_y)


class _Kept:
    """Images as bytes, with labels, up to KEPT of them."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self.labels))

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        room = KEPT - len(self)
        self.images.append(to_bytes(images[:room]))
        self.labels.append(labels[:room].astype(np.int64))

    def drawn(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`count` of them, in random order."""
        rows = random.permutation(len(self))[:count]
        return to_unit(np.concatenate(self.images)[rows]), np.concatenate(self.labels)[rows]


class ClassificationAccuracy(Metric):
    """Keeps images and labels, trains twice in `compute`. The order of samples decides their order in
    training: figures of a permutation differ as those of another seed do."""
    name = "cas"
    reads = "images"
    of_one_class = False
    sources: ClassVar = ("real", "fake")
    figures: ClassVar = {"cas": "higher", "cas_gap": "0"}

    def __init__(self, test: Dataset, seed: int = 0, steps: int = STEPS) -> None:
        """test: labelled images that neither side is drawn from. UserError for anything else."""
        if test.labels is None or len(test.spec.shape) != 3:
            raise UserError(f"{self.name}: {test.name} holds no labelled images")
        self.test, self.classes, self.seed, self.steps = test, test.spec.classes, seed, steps
        self._kept = {source: _Kept() for source in self.sources}

    @classmethod
    def create(cls, setting: Setting) -> ClassificationAccuracy:
        return cls(setting.held_out, setting.seed)

    def update(self, batch: np.ndarray, source: Source, labels: np.ndarray | None = None) -> None:
        check_source(self.name, self.sources, source)
        batch = check_finite(self.name, f"{source} images", np.asarray(batch))
        if labels is None:
            labels = self._seen(batch, source)
        self._kept[source].add(batch, check_labels(self.name, labels, len(batch), self.classes))

    def _seen(self, batch: np.ndarray, source: Source) -> np.ndarray:
        if source != "fake":
            raise ValueError(f"{self.name}: {source} samples came without labels, expected the data's own")
        if self.classes != classifier().classes or batch.shape[1] != 1:
            raise UserError(f"{self.name}: generated samples came without labels, which only greyscale "
                            "digits can do without")
        return classifier().labels(batch)

    def compute(self) -> dict[str, float]:
        for source in self.sources:
            check_count(self.name, source, len(self._kept[source]), 1)
        random = generator(self.seed, "cas")
        count = min(map(len, self._kept.values()))
        test = self.test.get(np.arange(len(self.test))), self.test.labels
        real, fake = (trained_accuracy(*self._kept[source].drawn(count, random), *test, self.classes,
                                       self.seed, self.steps) for source in self.sources)
        return {"cas": fake, "cas_gap": real - fake}

    def reset(self, source: Source = "fake") -> None:
        self._kept[source] = _Kept()
