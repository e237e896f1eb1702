"""Pooling layers."""
from __future__ import annotations

from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.stateless import Stateless

Pair = int | tuple[int, int]


@dataclass(eq=False, repr=False)
class MaxPool2d(Stateless):
    """The largest entry of each window; `stride` is by default the window's size."""
    function = staticmethod(F.max_pool2d)
    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    dilation: Pair = 1
    ceil_mode: bool = False

    def __post_init__(self):
        self.stride = self.kernel_size if self.stride is None else self.stride


@dataclass(eq=False, repr=False)
class AvgPool2d(Stateless):
    """The mean of each window; `stride` is by default the window's size."""
    function = staticmethod(F.avg_pool2d)
    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self):
        self.stride = self.kernel_size if self.stride is None else self.stride

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


@dataclass(eq=False, repr=False)
class AdaptiveAvgPool2d(Stateless):
    """Means over as many windows as `output_size` asks for; None keeps an axis as it is."""
    function = staticmethod(F.adaptive_avg_pool2d)
    output_size: int | None | tuple[int | None, int | None]
