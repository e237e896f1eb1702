"""Convolution layers. One class holds what all of them share; the subclasses say how many axes they have and which way they map."""
from __future__ import annotations

from scratchgan import functional as F
from scratchgan.nn.linear import draw_weight_and_bias
from scratchgan.nn.module import Module
from scratchgan.nn.parameter import empty_parameter
from scratchgan.tensor import Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What convolutions have in common. The weight is (out, in / groups, *kernel), of transposed ones (in, out / groups, *kernel)."""
    axes: int
    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
                 padding_mode, device, dtype):
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}")
        if padding_mode not in PADDING_MODES[:1 if self.transposed else None]:
            raise ValueError(f"{name}: padding_mode {padding_mode!r} is unknown: expected one of {', '.join(PADDING_MODES)}"
                             + " (transposed convolutions: zeros)" * self.transposed)
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
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
            raise ValueError(f"{type(self).__name__}: expected an integer or {self.axes} of them, found {size!r}")
        return sizes

    def reset_parameters(self) -> None:
        draw_weight_and_bias(self.weight, self.bias)

    def extra_repr(self) -> str:
        nothing, one = (0,) * self.axes, (1,) * self.axes
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, usual in (("padding", nothing), ("dilation", one), ("output_padding", nothing), ("groups", 1)):
            value = getattr(self, name)
            if value != usual:
                shown.append(f"{name}={value}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode}")
        return ", ".join(shown)


class _Conv(_Convolution):

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, ...], stride: int | tuple[int, ...] = 1,
                 padding: int | tuple[int, ...] | str = 0, dilation: int | tuple[int, ...] = 1, groups: int = 1,
                 bias: bool = True, padding_mode: str = "zeros", device: str | None = None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode,
                         device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._pads(), mode=self.padding_mode), 0
        return self.function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _pads(self) -> list[int]:
        """What `F.pad` takes: before and after the last axis, then the one before it. "same" puts the odd one after."""
        if self.padding == "valid":
            return [0, 0] * self.axes
        if self.padding == "same":
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

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, ...], stride: int | tuple[int, ...] = 1,
                 padding: int | tuple[int, ...] = 0, output_padding: int | tuple[int, ...] = 0, groups: int = 1,
                 bias: bool = True, dilation: int | tuple[int, ...] = 1, padding_mode: str = "zeros",
                 device: str | None = None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
                         padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """`output_size` (the last axes, or the whole shape) chooses among the sizes that differ by less than a stride."""
        extra = self.output_padding if output_size is None else self._output_padding(input, tuple(output_size))
        return self.function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _output_padding(self, input: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        settings = zip(input.shape[-self.axes:], self.stride, self.padding, self.dilation, self.kernel_size)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in settings]
        extra = tuple(w - m for w, m in zip(wanted[-self.axes:], least))
        if len(wanted) not in (self.axes, len(input.shape)) or not all(0 <= e < s for e, s in zip(extra, self.stride)):
            most = [m + s - 1 for m, s in zip(least, self.stride)]
            raise ValueError(f"{type(self).__name__}: output_size {wanted} is out of reach: from {least} to {most} are possible")
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The adjoint of `Conv1d` with the same settings, as `functional.conv_transpose1d`."""
    axes, function = 1, staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """The adjoint of `Conv2d` with the same settings, as `functional.conv_transpose2d`."""
    axes, function = 2, staticmethod(F.conv_transpose2d)
