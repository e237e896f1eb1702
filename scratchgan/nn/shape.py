"""Layers that merge and split axes."""
from __future__ import annotations

from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.stateless import Stateless
from scratchgan.tensor import Tensor


@dataclass(eq=False, repr=False)
class Flatten(Stateless):
    """Merge the axes from `start_dim` to `end_dim`."""
    function = staticmethod(F.flatten)
    start_dim: int = 1
    end_dim: int = -1


@dataclass(eq=False, repr=False)
class Unflatten(Stateless):
    """Split the axis `dim` into axes of the sizes `unflattened_size`, of which one may be -1."""
    dim: int
    unflattened_size: tuple[int, ...]

    def forward(self, input: Tensor) -> Tensor:
        return F.unflatten(input, self.dim, self.unflattened_size)
