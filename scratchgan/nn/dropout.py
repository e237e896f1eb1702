"""Dropout layers: in training mode, zeros with probability p, and what stays times 1 / (1 - p)."""
from __future__ import annotations

from scratchgan import functional as F
from scratchgan.backend import xp
from scratchgan.nn.module import Module
from scratchgan.tensor import Tensor


class Dropout(Module):
    """Zero single entries: Srivastava et al. 2014. Masks come from the default random stream "dropout"."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is a probability between 0 and 1, not {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Zero whole channels of (N, C, H, W) or (C, H, W): Tompson et al. 2015 (arXiv 1411.4280)."""

    def forward(self, input: Tensor) -> Tensor:
        if len(input.shape) not in (3, 4):
            raise ValueError(f"Dropout2d: expected (N, C, H, W) or (C, H, W), found shape {input.shape}")
        if not self.training:
            return input
        ones = xp(input._array).ones((*input.shape[:-2], 1, 1), dtype=input.dtype)
        return input * F.dropout(Tensor(ones), self.p, True)
