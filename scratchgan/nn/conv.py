"""Convolution layers: one class holds what all share, its subclasses the number of axes and the direction."""
from __future__ import annotations

from scratchgan import functional as F
from scratchgan.nn.linear import draw_weight_and_bias
from scratchgan.nn.module import Module
from scratchgan.nn.parameter import empty_parameter
from scratchgan.tensor import Tensor

Ints = int | tuple[int, ...]            # one for all axes, or one each
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """A weight (out, in / groups, *kernel), if transposed (in, out / groups, *kernel), and a bias (out)."""
    axes: int
    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
                 groups, bias, padding_mode, device, dtype):
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: groups {groups} must divide in_channels {in_channels} "
                             f"and out_channels {out_channels}")
        modes = ("zeros",) if self.transposed else PADDING_MODES
        if padding_mode not in modes:
            raise ValueError(f"{name}: padding_mode is {padding_mode!r}, expected {' or '.join(modes)}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = padding_mode
        self.kernel_size, self.stride, self.dilation = map(self._per_axis, (kernel_size, stride, dilation))
        self.padding = padding if isinstance(padding, str) else self._per_axis(padding)
        self.output_padding = self._per_axis(output_padding)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = empty_parameter((first, second // groups, *self.kernel_size), device, dtype)
        self.register_parameter("bias", empty_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def _per_axis(self, size) -> tuple[int, ...]:
        sizes = (size,) * self.axes if isinstance(size, int) else tuple(size)
        if len(sizes) != self.axes:
            name = type(self).__name__
            raise ValueError(f"{name}: expected an integer or {self.axes} of them, found {size!r}")
        return sizes

    def reset_parameters(self) -> None:
        draw_weight_and_bias(self.weight, self.bias)

    def extra_repr(self) -> str:
        shown = [f"{self.in_channels}, {self.out_channels}"]
        shown += [f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        none, ones = (0,) * self.axes, (1,) * self.axes
        for name, usual in (("padding", none), ("dilation", ones), ("output_padding", none), ("groups", 1)):
            value = getattr(self, name)
            if value != usual:
                shown.append(f"{name}={value}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode}")
        return ", ".join(shown)


class _Conv(_Convolution):

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1,
                 padding: Ints | str = 0, dilation: Ints = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: str | None = None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias,
                         padding_mode, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._pads(), mode=self.padding_mode), 0
        return self.function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _pads(self) -> list[int]:
        """As `F.pad` takes them: before and after the last axis, then the one before it."""
        if self.padding == "valid":
            return [0, 0] * self.axes
        if self.padding == "same":                  # an odd one goes behind
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            return [n for total in reversed(totals) for n in (total // 2, total - total // 2)]
        return [n for p in reversed(self.padding) for n in (p, p)]


class Conv1d(_Conv):
    """Cross-correlation of (N, C, L) or (C, L) with `out_channels` kernels, as `functional.conv1d`."""
    axes, function = 1, staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Cross-correlation of (N, C, H, W) or (C, H, W) with `out_channels` kernels, as `functional.conv2d`."""
    axes, function = 2, staticmethod(F.conv2d)


class _ConvTranspose(_Convolution):
    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1,
                 padding: Ints = 0, output_padding: Ints = 0, groups: int = 1, bias: bool = True,
                 dilation: Ints = 1, padding_mode: str = "zeros", device: str | None = None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
                         groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """`output_size`, last axes or whole shape, chooses among sizes that differ by less than a stride."""
        extra = self.output_padding
        if output_size is not None:
            extra = self._output_padding(input, tuple(output_size))
        return self.function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
                             self.dilation)

    def _output_padding(self, input: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        settings = zip(input.shape[-self.axes:], self.stride, self.padding, self.dilation, self.kernel_size)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in settings]
        extra = tuple(w - m for w, m in zip(wanted[-self.axes:], least))
        reachable = all(0 <= e < s for e, s in zip(extra, self.stride))
        if not reachable or len(wanted) not in (self.axes, len(input.shape)):
            most = [m + s - 1 for m, s in zip(least, self.stride)]
            raise ValueError(f"{type(self).__name__}: output_size {wanted} is out of reach: "
                             f"from {least} to {most} are possible")
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The adjoint of `Conv1d` with the same settings, as `functional.conv_transpose1d`."""
    axes, function = 1, staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """The adjoint of `Conv2d` with the same settings, as `functional.conv_transpose2d`."""
    axes, function = 2, staticmethod(F.conv_transpose2d)
