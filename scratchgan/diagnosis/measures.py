"""What is measured of a training besides its losses, every `log_every` steps.

    logit_real, logit_held_out, logit_fake
                    mean of D over `shown` examples that it trains on, over as many that are held out, and
                    over as many samples of the present G; the same examples and the same z each time
    logit_gap       logit_real - logit_held_out: what D knows of its examples beyond their distribution
    logit_std       standard deviation of D over those examples, the held-out ones and the samples together
    grad_norm_d, grad_norm_g
                    Euclidean norm of the gradient that the player's last update used, all weights together
    update_ratio_d, update_ratio_g
                    ||w' - w|| / ||w|| of all weights of the player over the step (all of D's updates in it)
    diversity       mean distance of two of COMPARED samples of the averaged G over that of two examples, in
                    features: 1 for samples as different from each other as examples are, 0 for all the same
    steps_per_s     since the line before that has it, pictures and checkpoints included

Networks are looked at in evaluation mode, and noise follows from the seed alone: neither a random stream of
the run nor a running statistic moves, so a run is the same to the bit without it.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from scratchgan.backend import Streams, xp
from scratchgan.data import Dataset
from scratchgan.data.seeds import generator

SHOWN = 128         # samples of each kind, for the logits
SHOWN_FROM_IMAGES = 16      # where G makes images from images: it works at full size, several times as long as D
COMPARED = 64       # of those, for the diversity
EDGE = 16           # images are halved down to this, for the features


class Measures:
    """Of `gan`, which trains on `train_data` and never sees `held_out_data` (None: its figures are left out).

    The GAN has `players()`, `logits(x)` and `sample(n, noise, averaged)`; one that is conditioned on labels
    takes them as `given`: D those of the examples, G those of the first. `seed` chooses the examples and z.
    """

    def __init__(self, gan: Any, train_data: Dataset, held_out_data: Dataset | None, seed: int):
        self.gan, self.seed = gan, seed
        self.shown = SHOWN_FROM_IMAGES if gan.conditioned_on == "images" else SHOWN
        sides = {"real": train_data, "held_out": held_out_data}
        some = {name: _some(side, self.shown, seed) for name, side in sides.items() if side is not None}
        self.examples = {name: side.get(np.arange(len(side))) for name, side in some.items()}
        labelled = gan.conditioned_on == "labels"
        self.given = {name: {"given": side.labels} if labelled else {} for name, side in some.items()}
        self.given["fake"] = {"given": np.resize(some["real"].labels, self.shown)} if labelled else {}
        self.features = _features(train_data.spec.shape)
        self.compared = min(COMPARED, self.shown)
        self.real_distance = mean_distance(self.features(self.examples["real"][:self.compared]))
        self.before: dict[str, list] = {}

    def before_step(self) -> None:
        """Remember the weights, for the update ratios."""
        self.before = {name: [p._array.copy() for p in player.network.parameters()]
                       for name, player in self.gan.players().items()}

    def after_step(self) -> dict[str, float]:
        """The measures of the step taken since `before_step`, by name."""
        return {**self._logits(), **self._gradients(), **self._updates(), **self._diversity()}

    def _logits(self) -> dict[str, float]:
        shown = {**self.examples, "fake": self._samples(self.shown, averaged=False)}
        logits = {name: self.gan.logits(x, **self.given[name]).astype(np.float64)
                  for name, x in shown.items()}
        means = {f"logit_{name}": float(values.mean()) for name, values in logits.items()}
        if "held_out" in logits:
            means["logit_gap"] = means["logit_real"] - means["logit_held_out"]
        return {**means, "logit_std": float(np.concatenate(list(logits.values())).std())}

    def _gradients(self) -> dict[str, float]:
        return {f"grad_norm_{name}": norm([p.grad._array for p in player.network.parameters()
                                           if p.grad is not None])
                for name, player in self.gan.players().items()}

    def _updates(self) -> dict[str, float]:
        ratios = {}
        for name, player in self.gan.players().items():
            before, after = self.before[name], [p._array for p in player.network.parameters()]
            size = norm(before)
            if size > 0:
                ratios[f"update_ratio_{name}"] = norm([b - a for a, b in zip(before, after)]) / size
        return ratios

    def _diversity(self) -> dict[str, float]:
        if self.real_distance == 0:
            return {}
        samples = self._samples(self.compared, averaged=True)
        if not np.isfinite(samples).all():
            return {"diversity": float("nan")}
        return {"diversity": mean_distance(self.features(samples)) / self.real_distance}

    def _samples(self, n: int, averaged: bool) -> np.ndarray:
        given = {key: labels[:n] for key, labels in self.given["fake"].items()}
        return self.gan.sample(n, Streams(self.seed)["diagnosis"], averaged=averaged, **given)


def norm(arrays: list) -> float:
    """Euclidean norm of all entries of `arrays` together."""
    return float(np.linalg.norm([float(xp(a).linalg.norm(a)) for a in arrays]))


def mean_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance of two different rows of (N, D), in float64; 0 for fewer than two rows."""
    x, n = features.astype(np.float64), len(features)
    x -= x.mean(axis=0)
    squares = (x * x).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    return float(distances.sum() / max(n * (n - 1), 1))


def _some(side: Dataset, n: int, seed: int) -> Dataset:
    return side.subset(generator(seed, "diagnosis").permutation(len(side))[:n])


def _features(shape: tuple[int, ...]):
    """Random convolutional features for images, made small first; the coordinates of points."""
    from scratchgan.metrics import features
    if len(shape) != 3:
        return features.get("pixels")
    extract = features.get("random")
    return lambda images: extract(halved(images))


def halved(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) as means over 2x2 pixels, again until no edge is longer than EDGE or one is odd."""
    while max(images.shape[2:]) > EDGE and not any(edge % 2 for edge in images.shape[2:]):
        n, c, h, w = images.shape
        images = images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
    return images
