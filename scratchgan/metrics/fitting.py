"""Fitting a classifier by cross-entropy, apart from the random streams of whatever else runs."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from scratchgan import backend, nn, optim
from scratchgan import functional as F
from scratchgan.backend import Streams
from scratchgan.data.seeds import generator
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

BATCH = 256                 # images at a time through a network that only answers, at most,
VALUES = 1 << 18            # and values of them: 256 images of 32x32, 1 of 256x256 in colour


@contextmanager
def own_streams(seed: int) -> Iterator[None]:
    """Inside, layers draw from streams of their own: a run that is measured goes on as if it were not."""
    before = backend.default_streams()
    backend.use_streams(Streams(seed))
    try:
        yield
    finally:
        backend.use_streams(before)


def fit(network: nn.Module, images: np.ndarray, labels: np.ndarray, *, epochs: int, batch_size: int = 64,
        lr: float = 2e-3, seed: int = 0, ema_decay: float = 0.99,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        progress: bool = False) -> nn.Module:
    """Minimise the mean cross-entropy of `network(images)` (N, K) and `labels` (N,) by Adam; the answer is
    the moving average of the weights, in evaluation mode.

    The learning rate falls from `lr` to 0 along a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983),
    without restarts. Each epoch is a fresh order of the images, by `seed`, whose last part batch is left
    out; there are fewer images than `batch_size` only if it is the only one. `augment(batch, random)` may
    change a batch. `progress` shows a bar.
    """
    batch_size = min(batch_size, len(images))
    steps = epochs * (len(images) // batch_size)
    random = generator(seed, "fit")
    optimizer, ema = optim.Adam(network.parameters(), lr), optim.EMA(network, ema_decay, warmup=True)
    bar = tqdm(total=steps, unit="step", desc="classifier", disable=not progress, dynamic_ncols=True)
    network.train()
    with bar:
        for step, rows in enumerate(_orders(len(images), batch_size, epochs, random)):
            optimizer.param_groups[0]["lr"] = lr * (1 + np.cos(np.pi * step / steps)) / 2
            batch = images[rows] if augment is None else augment(images[rows], random)
            loss = F.cross_entropy(network(Tensor(batch)), Tensor(labels[rows]))
            optimizer.zero_grad()
            loss.backward(inputs=list(network.parameters()))
            optimizer.step()
            ema.update()
            bar.update()
    return ema.module


def _orders(n: int, batch_size: int, epochs: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(epochs):
        order = random.permutation(n)
        for start in range(0, n - batch_size + 1, batch_size):
            yield order[start:start + batch_size]


def answers(function: Callable[[Tensor], Tensor], images: np.ndarray) -> np.ndarray:
    """function(images) by batches, without a graph: (N, ...) in host memory."""
    size = min(BATCH, max(1, VALUES // images[0].size))
    with no_grad():
        return np.concatenate([backend.to_host(function(Tensor(images[i:i + size]))._array)
                               for i in range(0, len(images), size)])


def accuracy(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is their label's."""
    return float(np.mean(answers(network, images).argmax(axis=1) == labels))
