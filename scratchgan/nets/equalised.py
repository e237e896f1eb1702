"""Layers of the growing GANs: Karras et al. 2018, "Progressive growing of GANs for improved quality, stability,
and variation" (arXiv 1710.10196), sections 3 and 4.

Equalised learning rate (section 4.1): weights begin at N(0, 1) and are multiplied at run time by He's constant
c = gain / sqrt(fan_in). Adam's updates do not depend on a gradient's scale, so with c outside of the weight
all layers learn at one relative pace, however large their fan_in is.

A learning-rate multiplier m (Karras et al. 2019, arXiv 1812.04948, appendix C: 0.01 in the mapping network)
stores weights that begin at N(0, 1 / m^2) and multiplies them, and the biases, by m: the layer begins as it
would without, and each of Adam's steps moves it m times as far.
"""
from __future__ import annotations

import math

from scratchgan import functional as F
from scratchgan import nn
from scratchgan.nn.parameter import empty_parameter
from scratchgan.precision import full
from scratchgan.tensor import Tensor

EPSILON = 1e-8          # under the roots, as in the papers


class _Equalised(nn.Module):
    """A stored weight (out, in, *kernel) and a stored bias (out,), for the formulas above."""

    def __init__(self, shape: tuple[int, ...], bias: bool, gain: float, lr_multiplier: float,
                 bias_init: float):
        super().__init__()
        self.gain, self.lr_multiplier, self.bias_init = gain, lr_multiplier, bias_init
        self.weight = empty_parameter(shape)
        self.register_parameter("bias", empty_parameter(shape[:1]) if bias else None)
        self.scale = lr_multiplier * gain / math.sqrt(nn.init.fans(self.weight)[0])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew; the bias that takes part begins at `bias_init`."""
        nn.init.normal_(self.weight, 0.0, 1 / self.lr_multiplier)
        if self.bias is not None:
            nn.init.constant_(self.bias, self.bias_init / self.lr_multiplier)

    def scaled_weight(self) -> Tensor:
        """The weight that takes part in the layer: m c times the stored one."""
        return self.weight * self.scale

    def scaled_bias(self) -> Tensor | None:
        """The bias that takes part in the layer: m times the stored one."""
        if self.bias is None or self.lr_multiplier == 1:
            return self.bias
        return self.bias * self.lr_multiplier

    def extra_repr(self) -> str:
        settings = (("gain", 1.0), ("lr_multiplier", 1.0), ("bias_init", 0.0))
        shown = [f"{name}={getattr(self, name):g}" for name, usual in settings if getattr(self, name) != usual]
        return ", ".join([f"{tuple(self.weight.shape)}", f"bias={self.bias is not None}", *shown])


class EqualLinear(_Equalised):
    """x (m c W)^T + m b: (N, in_features) -> (N, out_features), c = gain / sqrt(in_features)."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, gain: float = 1.0,
                 lr_multiplier: float = 1.0, bias_init: float = 0.0):
        super().__init__((out_features, in_features), bias, gain, lr_multiplier, bias_init)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled_weight(), self.scaled_bias())


class EqualConv2d(_Equalised):
    """x (N, in, H, W) convolved with m c W, plus m b, c = gain / sqrt(in kernel_size^2); at stride 1 an odd
    kernel keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True,
                 gain: float = 1.0, lr_multiplier: float = 1.0, bias_init: float = 0.0):
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), bias, gain, lr_multiplier,
                         bias_init)
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.scaled_weight(), self.scaled_bias(), padding=self.padding)


def pixel_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean over channels of x^2 + 1e-8), (N, C, ...): the paper's local response normalisation
    (section 4.2); of latents (N, C) each is brought to the sphere of radius sqrt(C)."""
    return x * F.rsqrt((x * x).mean(dim=1, keepdim=True) + EPSILON)


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    """x (N, C, H, W) with one more channel, constant on each sample: how much the samples of its group differ.

    The standard deviation over the group, of each feature at each place, averaged over all of them (section
    3). As in the authors' code a batch of N = m `group` samples consists of m groups, numbers i, i + m, ... in
    group i; fewer samples are one group, and what is left over of a batch that `group` does not divide is one
    of its own.
    """
    x = full(x)
    n, *features = x.shape
    rest = n % group if n > group else 0
    if rest:
        whole, left = x[:n - rest], x[n - rest:]
        return F.cat([minibatch_std(whole, group), minibatch_std(left, group)], dim=0)
    y = x.reshape(min(group, n), -1, *features)
    y = y - y.mean(dim=0, keepdim=True)
    deviation = F.sqrt((y * y).mean(dim=0) + EPSILON).mean(dim=(1, 2, 3))     # one per group
    height, width = features[1:]
    channel = deviation.reshape(1, -1, 1, 1, 1).expand(y.shape[0], -1, 1, height, width)
    return F.cat([x, channel.reshape(n, 1, height, width)], dim=1)
