"""Fully connected generator and discriminator, for images of any shape and for points."""
from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from scratchgan import nn
from scratchgan.tensor import Tensor


class Generator(nn.Module):
    """z (N, latent) -> x (N, *shape): hidden layers of the given widths with ReLU, then one linear layer.

    `bounded` ends it with tanh, for data in [-1, 1]. `norm` puts batch normalisation before each ReLU; the
    linear layers below have no biases then, since the normalisation would take them off again.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], widths: Sequence[int], *,
                 bounded: bool, norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([latent, *widths]):
            layers += [nn.Linear(fan_in, fan_out, bias=not norm),
                       *([nn.BatchNorm1d(fan_out)] if norm else []), nn.ReLU()]
        layers += [nn.Linear(widths[-1], math.prod(shape)), *([nn.Tanh()] if bounded else [])]
        self.shape, self.layers = tuple(shape), nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).reshape(-1, *self.shape)


class Discriminator(nn.Module):
    """x (N, *shape) -> one logit per sample (N,): hidden layers with LeakyReLU(0.2) and dropout (left out at
    0), then one linear layer."""

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int], *, dropout: float = 0.0):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([math.prod(shape), *widths]):
            layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(0.2),
                       *([nn.Dropout(dropout)] if dropout else [])]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(len(x), -1)).reshape(-1)
