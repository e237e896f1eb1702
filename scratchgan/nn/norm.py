"""Normalisation layers: (x - mean) / sqrt(var + eps) * weight + bias.

They differ in the axes over which mean and variance run.
"""
from __future__ import annotations

import numpy as np

from scratchgan import backend
from scratchgan import functional as F
from scratchgan.nn import init
from scratchgan.nn.module import Module
from scratchgan.nn.parameter import empty_parameter
from scratchgan.tape import only_eager
from scratchgan.tensor import Tensor


class _Norm(Module):
    """A weight (at first 1) and a bias (at first 0) of the given shape, or neither."""

    def _add_scale(self, shape: tuple[int, ...], weight: bool, bias: bool, device: str | None, dtype) -> None:
        self.register_parameter("weight", empty_parameter(shape, device, dtype) if weight else None)
        self.register_parameter("bias", empty_parameter(shape, device, dtype) if bias else None)

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _RunningNorm(_Norm):
    """Per channel, with running statistics for evaluation mode.

    At each training batch, running <- (1 - momentum) running + momentum (that of the batch).
    """
    dims: tuple[int, ...]               # how many dimensions an input may have

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
                 affine: bool = True, track_running_stats: bool = True, device: str | None = None,
                 dtype=None, *, bias: bool = True):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._add_scale((num_features,), affine, affine and bias, device, dtype)
        self._add_statistics(backend.module_of(device or "cpu"), dtype or np.float32)
        self.reset_parameters()

    def _add_statistics(self, module, dtype) -> None:
        channels = (self.num_features,)
        shapes = {"running_mean": channels, "running_var": channels, "num_batches_tracked": ()}
        for name, shape in shapes.items():
            array = module.empty(shape, dtype=dtype if shape else np.int64)
            self.register_buffer(name, Tensor(array) if self.track_running_stats else None)

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.constant_(self.num_batches_tracked, 0)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        super().reset_parameters()

    def _check(self, input: Tensor, channel_axis: int) -> None:
        name = type(self).__name__
        if len(input.shape) not in self.dims:
            expected = " or ".join(f"{n}D" for n in self.dims)
            raise ValueError(f"{name}: expected {expected} input, found shape {input.shape}")
        if input.shape[channel_axis] != self.num_features:
            raise ValueError(f"{name}: expected {self.num_features} channels, found shape {input.shape}")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class _BatchNorm(_RunningNorm):

    def forward(self, input: Tensor) -> Tensor:
        self._check(input, 1)
        momentum = self.momentum
        if self.training and self.track_running_stats:
            count = self.num_batches_tracked._array
            count += 1
            if momentum is None:                    # a plain average over all batches so far
                only_eager("a plain average over all batches reads their number")
                momentum = 1 / int(count)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training or not self.track_running_stats, momentum or 0.0, self.eps)


class BatchNorm1d(_BatchNorm):
    """Over the batch and any length of (N, C) or (N, C, L): Ioffe & Szegedy 2015 (arXiv 1502.03167)."""
    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Over batch, height and width of (N, C, H, W): Ioffe & Szegedy 2015 (arXiv 1502.03167)."""
    dims = (4,)


class _InstanceNorm(_RunningNorm):

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1,
                 affine: bool = False, track_running_stats: bool = False, device: str | None = None,
                 dtype=None, *, bias: bool = True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        batched = len(input.shape) == max(self.dims)
        self._check(input, 1 if batched else 0)
        x = input if batched else F.unsqueeze(input, 0)
        x = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training or not self.track_running_stats, self.momentum, self.eps)
        return x if batched else F.squeeze(x, 0)


class InstanceNorm1d(_InstanceNorm):
    """Over the length of (N, C, L) or (C, L), per sample: Ulyanov et al. 2016 (arXiv 1607.08022)."""
    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Over height and width of (N, C, H, W) or (C, H, W), per sample: likewise (arXiv 1607.08022)."""
    dims = (3, 4)


class LayerNorm(_Norm):
    """Over the last axes, of sizes `normalized_shape`, per sample: Ba et al. 2016 (arXiv 1607.06450)."""

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5,
                 elementwise_affine: bool = True, bias: bool = True, device: str | None = None, dtype=None):
        super().__init__()
        whole = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if whole else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._add_scale(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class GroupNorm(_Norm):
    """Over groups of channels and all positions, per sample: Wu & He 2018 (arXiv 1803.08494)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
                 device: str | None = None, dtype=None, *, bias: bool = True):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups {num_groups} must divide num_channels {num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._add_scale((num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")
