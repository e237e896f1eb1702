"""Does the critic's estimate follow the distance? WGAN and WGAN-GP on the line, where W1 is known exactly.

The data are an even mixture of N(-1, 0.3^2) and N(2, 0.5^2); the GANs have their settings for points, with
the learning rates of their papers, at which a training takes long enough to be watched. Every EVERY steps,
from step WARM on, the critic as it stands and the present G: the estimate is the mean of the critic over
COUNT examples less its mean over COUNT samples, W1 is that of the same examples and samples
(`theory.wasserstein_1`). Over the course of a training, per seed:

    pearson, spearman   correlation of the estimate with W1, and that of their ranks
    slope               median of estimate / W1: for an optimal critic of Lipschitz constant K it is K
    w1_first, w1_last   W1 at the first and the last look, w1_least the least of all: what there was to follow

A critic has to be near its optimum for its estimate to mean anything. Algorithm 1 gives it n_critic updates
per step of G, 5 in both papers; "wgan, 25" has 25. Before WARM its weights are still on the way from where
they began to the sides of their box, and K with them. With 5, that takes WGAN longer than these trainings:
its K grows while W1 hardly moves, and the two have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import timing
from scratchgan import gans
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.gans.theory import wasserstein_1

SEEDS = (0, 1, 2)
STEPS, WARM, EVERY, COUNT = 500, 40, 10, 4000
LINE = Spec((1,), -np.inf, np.inf)


@dataclass(frozen=True)
class Setup:
    """A GAN and what differs from its settings for points."""

    name: str
    gan: str
    settings: dict = field(default_factory=dict)


SETUPS = [
    Setup("wgan", "wgan", {"lr": 5e-5}),
    Setup("wgan, 25", "wgan", {"lr": 5e-5, "n_critic": 25}),
    Setup("wgan_gp", "wgan_gp", {"lr": 1e-4}),
]


@dataclass(frozen=True)
class Followed:
    """Estimates and W1 at the same steps of one training."""

    name: str
    seed: int
    estimates: np.ndarray
    distances: np.ndarray

    @property
    def pearson(self) -> float:
        return correlation(self.estimates, self.distances)

    @property
    def spearman(self) -> float:
        return correlation(ranks(self.estimates), ranks(self.distances))

    @property
    def slope(self) -> float:
        return float(np.median(self.estimates / self.distances))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of two series (N,)."""
    return float(np.corrcoef(a, b)[0, 1])


def ranks(a: np.ndarray) -> np.ndarray:
    """The place of each number in their order; there are no ties among measurements."""
    return np.argsort(np.argsort(a))


def points(rng: np.random.Generator, n: int) -> np.ndarray:
    """n points of the mixture, (n, 1) float32."""
    right = rng.random((n, 1)) < 0.5
    return np.where(right, rng.normal(2.0, 0.5, (n, 1)), rng.normal(-1.0, 0.3, (n, 1))).astype(np.float32)


def batches(rng: np.random.Generator, n: int) -> Iterator[tuple[np.ndarray, None]]:
    while True:
        yield points(rng, n), None


def follow(setup: Setup, seed: int, steps: int = STEPS) -> Followed:
    """Train from `seed` and look every EVERY steps."""
    config = gans.configure(setup.gan, data="ring", **setup.settings)
    gan = gans.get(setup.gan)(LINE, config, Streams(seed), "cpu")
    train = batches(np.random.default_rng(seed), config.batch_size)
    x = points(np.random.default_rng(1000 + seed), COUNT)
    estimates, distances = [], []
    for step in range(1, steps + 1):
        gan.step(train)
        if step >= WARM and step % EVERY == 0:
            samples = gan.sample(COUNT, Streams(seed)["critic"], averaged=False)
            estimates.append(float(gan.logits(x).mean() - gan.logits(samples).mean()))
            distances.append(wasserstein_1(x[:, 0].astype(float), samples[:, 0].astype(float)))
    return Followed(setup.name, seed, np.array(estimates), np.array(distances))


def measure(only: str = "") -> list[Followed]:
    """Every setup whose name contains `only`, from every seed."""
    return [follow(setup, seed) for setup in SETUPS if only in setup.name for seed in SEEDS]


def show(rows: list[Followed]) -> None:
    print(f"\n{'critic':<9}  seed  pearson  spearman     slope  W1 first  W1 last")
    for r in rows:
        print(
            f"{r.name:<9}  {r.seed:>4}  {r.pearson:>7.3f}  {r.spearman:>8.3f}  {r.slope:>8.3g}"
            f"  {r.distances[0]:>8.3f}  {r.distances[-1]:>7.3f}"
        )


def save(rows: list[Followed]) -> Path:
    header = ["name", "seed", "looks", "pearson", "spearman", "slope", "w1_first", "w1_last", "w1_least"]
    lines = [
        [r.name, r.seed, len(r.distances)]
        + [f"{v:.4g}" for v in (r.pearson, r.spearman, r.slope, *r.distances[[0, -1]], r.distances.min())]
        for r in rows
    ]
    return timing.save("critic", header, lines)
