"""Layers that move pixels about: up and down in size, between channels and space, around the border."""
from __future__ import annotations

from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.module import Module
from scratchgan.nn.pooling import Pair
from scratchgan.nn.stateless import Stateless
from scratchgan.tensor import Tensor


@dataclass(eq=False, repr=False)
class Upsample(Stateless):
    """Resize by interpolation to `size` or by `scale_factor`, as `functional.interpolate`."""
    function = staticmethod(F.interpolate)
    size: Pair | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    def __post_init__(self):
        if isinstance(self.scale_factor, int):
            self.scale_factor = float(self.scale_factor)

    def extra_repr(self) -> str:
        name = "size" if self.scale_factor is None else "scale_factor"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


@dataclass(eq=False, repr=False)
class PixelShuffle(Stateless):
    """(*, C r^2, H, W) -> (*, C, H r, W r)."""
    function = staticmethod(F.pixel_shuffle)
    upscale_factor: int


@dataclass(eq=False, repr=False)
class PixelUnshuffle(Stateless):
    """(*, C, H r, W r) -> (*, C r^2, H, W)."""
    function = staticmethod(F.pixel_unshuffle)
    downscale_factor: int


@dataclass(eq=False, repr=False)
class Unfold(Stateless):
    """(N, C, H, W) -> (N, C kh kw, L): every window of the image as a column."""
    function = staticmethod(F.unfold)
    kernel_size: Pair
    dilation: Pair = 1
    padding: Pair = 0
    stride: Pair = 1


class _Pad2d(Module):
    """Extend height and width by `padding`: one integer, or (left, right, top, bottom)."""
    mode: str

    def __init__(self, padding: int | tuple[int, int, int, int]):
        super().__init__()
        self.padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 4:
            name = type(self).__name__
            raise ValueError(f"{name}: expected an integer or (left, right, top, bottom), found {padding!r}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(_Pad2d):
    """A border of zeros; negative widths crop."""
    mode = "constant"


class ReflectionPad2d(_Pad2d):
    """A border that mirrors the image, the edge itself not repeated."""
    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """A border that repeats the image's edge."""
    mode = "replicate"
