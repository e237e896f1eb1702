"""What the GANs share: limits of settings, real batches, noise, samples, and what a diagnosis may look at.

How a GAN trains is in its own file. Noise is drawn on the host in float64 and rounded to the networks' dtype,
so that one seed means the same noise on every device.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from scratchgan import nn, optim
from scratchgan.backend import Streams, to_host, xp
from scratchgan.errors import UserError
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor


def check_limits(config: Any, **limits: tuple[float, float]) -> None:
    """Raise UserError unless each named setting, or each member of a tuple, lies in its [low, high)."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        members = value if isinstance(value, tuple) else (value,)
        if not members or not all(low <= v < high for v in members):
            below = "" if math.isinf(high) else f" and below {high:g}"
            raise UserError(f"{name}={value}: expected {'numbers' if value is members else 'a number'} "
                            f"of at least {low:g}{below}")


def constant(array: np.ndarray, network: nn.Module) -> Tensor:
    """A host array as a Tensor without gradient, in the dtype and on the device of the network's weights."""
    weight = next(network.parameters())._array
    return Tensor(xp(weight).asarray(array, dtype=weight.dtype))


def real(batches: Iterator[tuple[np.ndarray, np.ndarray | None]], network: nn.Module) -> Tensor:
    """The samples of the next batch; its labels are left aside."""
    x, _ = next(batches)
    return constant(x, network)


def scalars(**values: Tensor) -> dict[str, float]:
    """What `step` reports, as numbers."""
    return {name: value.item() for name, value in values.items()}


class Player(NamedTuple):
    """One side of the game: a network and what updates it."""
    network: nn.Module
    optimizer: optim.Optimizer


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode and without graphs; afterwards each layer is in the mode that it was
    in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with no_grad():
            yield network
    finally:
        for module in training:
            module.training = True


def logits(network: nn.Module, x: np.ndarray) -> np.ndarray:
    """What D says of host samples x (N, *shape), (N,), in evaluation mode: neither random streams nor running
    statistics move."""
    with evaluating(network) as D:
        return to_host(D(constant(x, D))._array)


class Sampler:
    """Drawing z and G(z), for GANs with a `config.latent`, a `generator`, its moving average `ema`, and
    `streams`."""
    config: Any
    streams: Streams
    generator: nn.Module
    ema: optim.EMA

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """n draws of z, (n, latent): N(0, I), unless the paper has another."""
        return stream.standard_normal((n, self.config.latent))

    def noise(self, n: int) -> Tensor:
        """n draws of z for training, from the stream "noise"."""
        return constant(self.prior(self.streams["noise"], n), self.generator)

    def sample(self, n: int, noise: np.random.Generator | None = None, averaged: bool = True) -> np.ndarray:
        """n samples (n, *shape) of the averaged generator, or of the present one, in evaluation mode and in
        the range of the data; `noise` draws z, or else the stream "sample"."""
        z = self.prior(self.streams["sample"] if noise is None else noise, n)
        with evaluating(self.ema.module if averaged else self.generator) as G:
            return to_host(G(constant(z, G))._array)
