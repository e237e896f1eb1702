"""Convolutions under PyTorch's names and argument forms.

Inputs are (N, C, *spatial) or, for one image, (C, *spatial). Every geometry argument is one number or one per
spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence

from scratchgan.functional.shape import pad
from scratchgan.kernels.windows import Windows
from scratchgan.ops import conv as ops
from scratchgan.ops import resample
from scratchgan.ops.shape import getitem, reshape
from scratchgan.precision import factors

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "unfold"]

Ints = int | Sequence[int]


def conv1d(
    input, weight, bias=None, stride: Ints = 1, padding: Ints | str = 0, dilation: Ints = 1, groups: int = 1
):
    """Cross-correlation of input (N, C, L) with weight (K, C / groups, R): see `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input, weight, bias=None, stride: Ints = 1, padding: Ints | str = 0, dilation: Ints = 1, groups: int = 1
):
    """Cross-correlation: y[n, k, i, j] = b[k] + the sum over c, r, q of

        w[k, c, r, q] x[n, c, s i + d r - p, s j + d q - p],   zero being read outside of x.

    input (N, C, H, W), weight (K, C / groups, R, Q), bias (K,); padding "valid" is 0, "same" keeps H and W at
    stride 1.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input,
    weight,
    bias=None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
):
    """The adjoint of conv1d in its input: input (N, C, L), weight (C, K / groups, R)."""
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input,
    weight,
    bias=None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
):
    """The adjoint of conv2d in its input, plus a bias: input (N, C, H, W), weight (C, K / groups, R, Q), bias
    (K,).

    The result has (H - 1) s - 2 p + d (R - 1) + output_padding + 1 rows.
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def unfold(input, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1):
    """Sliding windows as columns: input (N, C, H, W) gives (N, C R Q, number of windows)."""
    x, alone = batched("unfold", input, 2)
    kernel, stride = (
        per_axis("unfold", "kernel_size", kernel_size, 2),
        per_axis("unfold", "stride", stride, 2),
    )
    padding, dilation = per_axis("unfold", "padding", padding, 2), per_axis("unfold", "dilation", dilation, 2)
    size = _windows("unfold", x.shape[2:], kernel, stride, padding, dilation)
    y = resample.unfold(x, windows=Windows(tuple(x.shape[2:]), size, kernel, stride, padding, dilation))
    columns = x.shape[1] * kernel[0] * kernel[1]
    return reshape(
        y, shape=(columns, size[0] * size[1]) if alone else (x.shape[0], columns, size[0] * size[1])
    )


def per_axis(name: str, argument: str, value: Ints, axes: int, least: int | None = None) -> tuple[int, ...]:
    """A number as one per axis, a sequence as a tuple; all at least `least`."""
    values = (value,) * axes if hasattr(value, "__index__") else tuple(value)
    if len(values) == 1:
        values *= axes
    if least is None:
        least = 0 if "padding" in argument else 1
    if len(values) != axes or any(v < least for v in values):
        raise ValueError(f"{name}: {argument} is {value!r}, expected an int >= {least}, or {axes} of them")
    return values


def batched(name: str, x, axes: int):
    """x with a batch axis, and whether it came without."""
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"{name}: input has shape {tuple(x.shape)}, expected {axes + 1} (one image) or {axes + 2} axes"
        )
    return (x, False) if x.ndim == axes + 2 else (reshape(x, shape=(1, *x.shape)), True)


def unbatched(y, alone: bool):
    """y without the batch axis that `batched` put there."""
    return getitem(y, index=(0,)) if alone else y


def _conv(name, axes, x, w, b, stride, padding, dilation, groups):
    x, w, b = factors(x, w, b)
    x, alone = batched(name, x, axes)
    stride, dilation = per_axis(name, "stride", stride, axes), per_axis(name, "dilation", dilation, axes)
    _check(
        name,
        axes,
        x,
        w,
        b,
        groups,
        in_channels=(w.shape[1] * groups if w.ndim > 1 else 0),
        out_channels=w.shape[0],
    )
    if isinstance(padding, str):
        x, padding = _named_padding(name, x, w.shape[2:], stride, padding, dilation)
    else:
        padding = per_axis(name, "padding", padding, axes)
    _windows(name, x.shape[2:], w.shape[2:], stride, padding, dilation)
    y = ops.conv(x, w, *_column(b, axes), stride=stride, padding=padding, dilation=dilation, groups=groups)
    return unbatched(y, alone)


def _conv_transpose(name, axes, x, w, b, stride, padding, output_padding, groups, dilation):
    x, w, b = factors(x, w, b)
    x, alone = batched(name, x, axes)
    stride, dilation = per_axis(name, "stride", stride, axes), per_axis(name, "dilation", dilation, axes)
    padding = per_axis(name, "padding", padding, axes)
    extra = per_axis(name, "output_padding", output_padding, axes)
    out_channels = w.shape[1] * groups if w.ndim > 1 else 0
    _check(name, axes, x, w, b, groups, in_channels=w.shape[0], out_channels=out_channels)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise ValueError(
            f"{name}: output_padding {extra} must be smaller than stride {stride} or dilation {dilation}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (r - 1) + e + 1
        for n, s, p, d, r, e in zip(x.shape[2:], stride, padding, dilation, w.shape[2:], extra)
    )
    if min(size) < 1:
        raise ValueError(
            f"{name}: input {tuple(x.shape)}, weight {tuple(w.shape)} and padding {padding} give size {size}"
        )
    y = ops.conv_dx(
        x,
        w,
        *_column(b, axes),
        x_shape=(x.shape[0], out_channels, *size),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return unbatched(y, alone)


def _check(name, axes, x, w, b, groups, in_channels, out_channels) -> None:
    if w.ndim != axes + 2:
        raise ValueError(f"{name}: weight has shape {tuple(w.shape)}, expected {axes + 2} axes")
    if 0 in w.shape:
        raise ValueError(f"{name}: weight has shape {tuple(w.shape)}, expected at least 1 along each axis")
    if groups < 1 or w.shape[0] % groups:
        raise ValueError(
            f"{name}: groups {groups} does not divide the {w.shape[0]} channels of weight {tuple(w.shape)}"
        )
    if x.shape[1] != in_channels:
        raise ValueError(
            f"{name}: input {tuple(x.shape)} has {x.shape[1]} channels, "
            f"weight {tuple(w.shape)} with groups {groups} expects {in_channels}"
        )
    if b is not None and tuple(b.shape) != (out_channels,):
        raise ValueError(f"{name}: bias has shape {tuple(b.shape)}, expected ({out_channels},)")
    for what, other in (("weight", w), ("bias", b)):
        if other is not None and other.dtype != x.dtype:
            raise TypeError(f"{name}: input is {x.dtype} but {what} is {other.dtype}, expected one dtype")


def _column(b, axes: int) -> tuple:
    """The bias (K,) as (K, 1, ...), as an argument list."""
    return () if b is None else (reshape(b, shape=(b.shape[0], *[1] * axes)),)


def _named_padding(name, x, kernel, stride, padding, dilation):
    """Padding by name as x, padded at the far end where "same" is uneven, and the symmetric rest."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        raise ValueError(f"{name}: padding is {padding!r}, expected 'same', 'valid' or numbers")
    if set(stride) != {1}:
        raise ValueError(f"{name}: padding 'same' needs stride 1, not {stride}")
    total = [d * (r - 1) for d, r in zip(dilation, kernel)]
    if any(t % 2 for t in total):
        x = pad(x, [n for t in reversed(total) for n in (0, t % 2)])
    return x, tuple(t // 2 for t in total)


def _windows(name, sizes, kernel, stride, padding, dilation) -> tuple[int, ...]:
    """How many windows fit along each axis."""
    out = tuple(
        (n + 2 * p - d * (r - 1) - 1) // s + 1
        for n, r, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    if min(out) < 1:
        raise ValueError(
            f"{name}: a kernel of size {tuple(kernel)} with dilation {dilation} does not fit into "
            f"an input of size {tuple(sizes)} with padding {padding}"
        )
    return out
