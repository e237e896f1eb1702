"""Layers that merge and split axes."""
from __future__ import annotations

import math
from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.module import Module
from scratchgan.nn.stateless import Stateless
from scratchgan.tensor import Tensor


@dataclass(eq=False, repr=False)
class Flatten(Stateless):
    """Merge the axes from `start_dim` to `end_dim`."""
    function = staticmethod(F.flatten)
    start_dim: int = 1
    end_dim: int = -1


class Unflatten(Module):
    """Split the axis `dim` into axes of the sizes `unflattened_size`, of which one may be -1."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        shape = input.shape
        if not -len(shape) <= self.dim < len(shape):
            raise IndexError(f"Unflatten: dim {self.dim} is out of range for shape {shape}")
        dim, size = self.dim % len(shape), shape[self.dim]
        known = math.prod(n for n in self.unflattened_size if n != -1)
        if (size % known if -1 in self.unflattened_size and known else size != known) or self.unflattened_size.count(-1) > 1:
            raise ValueError(f"Unflatten: an axis of size {size} does not split into {self.unflattened_size}")
        return F.reshape(input, (*shape[:dim], *self.unflattened_size, *shape[dim + 1:]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
