"""The training of each GAN in PyTorch, written from the papers, as a PyTorch user would write it.

Nothing here imports scratchgan: what agrees with these files after ten steps agrees with an independent reading of the papers. The
networks carry the names that scratchgan's have, so that one state_dict serves both. Noise comes from functions that the caller gives,
so that both sides can be handed the same.
"""
from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """Exponential moving average of a network: w' <- decay w' + (1 - decay) w for weights; buffers are taken as they are."""

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay = network, decay
        self.module = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        for kept, new in zip(self.module.parameters(), self.network.parameters()):
            kept.lerp_(new, 1 - self.decay)
        for kept, new in zip(self.module.buffers(), self.network.buffers()):
            kept.copy_(new)
