"""The training of each GAN in PyTorch, written from the papers, as a PyTorch user would write it.

Nothing here imports scratchgan: what agrees with these files after ten steps agrees with an independent
reading of the papers. Each file has `make(spec, config, draws)`, which returns its Training: `update(batches)`
takes batches (x, y), y None without labels, and reports losses and means, `step(batches)` as numbers;
`parts()` names networks, optimisers and averages as scratchgan's GAN does. The networks carry the names that
scratchgan's have, so that one state_dict serves both. Noise comes from `draws`, so that both sides can be
handed the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn


class Average:
    """Exponential moving average of a network: w' <- d w' + (1 - d) w for weights; buffers are taken as they
    are.

    Update number t has d = min(decay, t / (t + 9)), so that the average soon leaves the initial weights.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.updates = network, decay, 0
        self.module = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        for kept, new in zip(self.module.parameters(), self.network.parameters()):
            kept.lerp_(new, 1 - decay)
        for kept, new in zip(self.module.buffers(), self.network.buffers()):
            kept.copy_(new)


class Draws:
    """PyTorch's own random numbers. `stream` says what they are for."""

    def normal(self, stream: str, *shape: int) -> torch.Tensor:
        """Of N(0, 1)."""
        return torch.randn(shape)

    def uniform(self, stream: str, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Of U[low, high]."""
        return low + (high - low) * torch.rand(shape)

    def integers(self, stream: str, high: int, *shape: int) -> torch.Tensor:
        """0, ..., high - 1 alike."""
        return torch.randint(high, shape)


Noise = Callable[[int], torch.Tensor]  # n -> n latents
Report = dict[str, torch.Tensor | float]  # losses and means of a step, by name


def numbers(report: Report) -> dict[str, float]:
    """The report as numbers."""
    return {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in report.items()}


class Parts:
    """What a Training is made of, by the names that scratchgan's GAN has for it."""

    PARTS = ("generator", "discriminator", "optimizer_g", "optimizer_d", "ema")

    def update(self, batches: Iterator[tuple]) -> Report:
        """One training step, without a look at the device."""
        raise NotImplementedError

    def step(self, batches: Iterator[tuple]) -> dict[str, float]:
        """One training step and what it reports, which waits for the device."""
        return numbers(self.update(batches))

    def parts(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.PARTS}
