"""What a convolution reads: its Geometry, and the windows of padded images as views of memory."""

from __future__ import annotations

from typing import NamedTuple

from scratchgan.backend import xp

Ints = tuple[int, ...]


class Geometry(NamedTuple):
    """What the index s i + d r - p ranges over, on two spatial axes."""

    size: Ints  # of x
    kernel: Ints
    out: Ints  # of y
    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int

    @property
    def extent(self) -> Ints:
        """What the windows cover of the padded x, which may end before its far border."""
        axes = zip(self.stride, self.out, self.dilation, self.kernel)
        return tuple(s * (p - 1) + d * (r - 1) + 1 for s, p, d, r in axes)

    @property
    def inside(self) -> Ints:
        """How many of the covered positions of each axis are x's own, not padding."""
        return tuple(max(0, min(h, e - p)) for h, e, p in zip(self.size, self.extent, self.padding))


class ImageWindows:
    """The windows of x, some images at a time, with zeros around x: overlapping views (n, P, Q, R, S, groups,
    C / groups). Where x is padded all of them use the same memory, which is given its zeros once."""

    def __init__(self, geometry: Geometry):
        self.geometry, self.extent, self.inside = geometry, geometry.extent, geometry.inside
        self.padded = self.views = None

    def of(self, x):
        """Those of x (n, H, W, C), with no more images than the first time."""
        (top, left), (height, width) = self.geometry.padding, self.inside
        x = x[:, :height, :width]
        if self.extent == self.inside:
            return _overlapping(x, self.geometry)
        if self.padded is None:
            self.padded = xp(x).zeros((len(x), *self.extent, x.shape[3]), dtype=x.dtype)
            self.views = _overlapping(self.padded, self.geometry)
        self.padded[:len(x), top:top + height, left:left + width] = x
        return self.views[:len(x)]


def _overlapping(padded, geometry: Geometry):
    n, _, _, channels = padded.shape
    images, down, right, step = padded.strides
    (sh, sw), (dh, dw), width = geometry.stride, geometry.dilation, channels // geometry.groups
    shape = (n, *geometry.out, *geometry.kernel, geometry.groups, width)
    strides = (images, sh * down, sw * right, dh * down, dw * right, width * step, step)
    return xp(padded).lib.stride_tricks.as_strided(padded, shape, strides)
