"""Normalisations, embedding and dropout under PyTorch's names and argument forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scratchgan import inplace
from scratchgan.backend import default_streams, on_host, xp
from scratchgan.kernels import norm as kernel
from scratchgan.ops.norm import normalize, scale_shift
from scratchgan.ops.shape import getitem, reshape
from scratchgan.tape import fed
from scratchgan.tensor import Tensor

__all__ = ["batch_norm", "dropout", "embedding", "group_norm", "instance_norm", "layer_norm"]


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of x (N, C, ...), statistics over all
    other axes.

    With `training` they are the batch's, and the running ones, if any, move: r <- (1 - momentum) r + momentum
    statistic, where the variance is the unbiased one. Otherwise the running ones are used.
    """
    _check_channels(
        "batch_norm", input, 2, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        return _with_running("batch_norm", input, running_mean, running_var, weight, bias, eps)
    axes = (0, *range(2, input.ndim))
    count = input.shape[0] * math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel in training, got {tuple(input.shape)}"
        )
    moments = kernel.moments(_array(input), axes)
    _follow(running_mean, running_var, moments, count, momentum)
    return _affine(input, _channels(weight, input), _channels(bias, input), axes, eps, moments)


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
):
    """`batch_norm` for each image by itself: statistics of x (N, C, ...) over the axes from 2 on.

    Running statistics, where given, follow the images' mean statistics; `use_input_stats=False` uses them
    instead.
    """
    _check_channels(
        "instance_norm",
        input,
        3,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if not use_input_stats:
        return _with_running("instance_norm", input, running_mean, running_var, weight, bias, eps)
    axes = tuple(range(2, input.ndim))
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"instance_norm: expected more than 1 spatial element, got input {tuple(input.shape)}"
        )
    moments = kernel.moments(_array(input), axes)
    _follow(running_mean, running_var, [m.mean(axis=0, keepdims=True) for m in moments], count, momentum)
    return _affine(input, _channels(weight, input), _channels(bias, input), axes, eps, moments)


def layer_norm(input, normalized_shape: int | Sequence[int], weight=None, bias=None, eps: float = 1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, those of `normalized_shape`."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    first = input.ndim - len(shape)
    if not shape or first < 0 or tuple(input.shape[first:]) != shape:
        raise ValueError(f"layer_norm: input {tuple(input.shape)} does not end in normalized_shape {shape}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and tuple(parameter.shape) != shape:
            raise ValueError(f"layer_norm: {name} has shape {tuple(parameter.shape)}, expected {shape}")
    full = (1,) * first + shape
    return _affine(input, _shaped(weight, full), _shaped(bias, full), tuple(range(first, input.ndim)), eps)


def group_norm(input, num_groups: int, weight=None, bias=None, eps: float = 1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over groups of channels of each image."""
    _check_channels("group_norm", input, 2, weight=weight, bias=bias)
    n, channels = input.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"group_norm: num_groups {num_groups} does not divide the {channels} channels of the input"
        )
    split = (num_groups, channels // num_groups)
    grouped = reshape(input, shape=(n, *split, *input.shape[2:]))
    column = (1, *split, *[1] * (input.ndim - 2))
    y = _affine(grouped, _shaped(weight, column), _shaped(bias, column), tuple(range(2, grouped.ndim)), eps)
    return reshape(y, shape=tuple(input.shape))


def embedding(input, weight, padding_idx: int | None = None, max_norm: float | None = None):
    """Rows of weight (V, D) by the integers of `input`. The row `padding_idx` gets no gradient."""
    if max_norm is not None:
        raise ValueError(
            "embedding: max_norm, which changes the weight in place, is not supported; normalise the weight"
        )
    index = _array(input)
    if index.dtype.kind not in "iu" or weight.ndim != 2:
        raise TypeError(
            f"embedding: expected integers and weight (V, D), got {index.dtype} and {tuple(weight.shape)}"
        )
    count = weight.shape[0]
    if on_host(index) and index.size and not (0 <= index.min() and index.max() < count):
        raise IndexError(
            f"embedding: input holds {index.min()} ... {index.max()}, weight has the rows 0 ... {count - 1}"
        )
    rows = getitem(weight, index=(index,))
    if padding_idx is None:
        return rows
    if not -count <= padding_idx < count:
        raise ValueError(f"embedding: padding_idx {padding_idx} is no row of weight {tuple(weight.shape)}")
    return _held(rows, index == padding_idx % count)


def dropout(input, p: float = 0.5, training: bool = True):
    """Zero with probability p, and what stays times 1 / (1 - p). Masks come from the stream "dropout"."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, expected a probability")
    if not training or p == 0:
        return input

    def mask() -> np.ndarray:
        kept = default_streams()["dropout"].random(input.shape, dtype=np.float32) >= p
        return kept.astype(input.dtype) * (1 / (1 - p) if p < 1 else 0)

    return input * fed(mask, _array(input))


def _array(x):
    return x._array if isinstance(x, Tensor) else x


def _shaped(parameter, shape: tuple[int, ...]):
    return None if parameter is None else reshape(parameter, shape=shape)


def _channels(parameter, x):
    """(C,) as it broadcasts against x (N, C, ...)."""
    return _shaped(parameter, (1, -1, *[1] * (x.ndim - 2)))


def _affine(x, weight, bias, axes, eps, moments=None):
    """`normalize`, whose fast path gives the bias the weight's shape: a bias alone is added here."""
    if weight is None and bias is not None:
        return normalize(x, None, None, axes=axes, eps=eps, moments=moments) + bias
    return normalize(x, weight, bias, axes=axes, eps=eps, moments=moments)


def _with_running(name, x, running_mean, running_var, weight, bias, eps):
    """The affine map that fixed statistics make of a normalisation: x scale + (bias - mean scale)."""
    if running_mean is None or running_var is None:
        raise ValueError(
            f"{name}: running_mean and running_var are needed where the batch's statistics are not used"
        )
    scale = (running_var + eps) ** -0.5
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    return scale_shift(x, _channels(scale, x), _channels(shift, x))


def _follow(running_mean, running_var, moments, count: int, momentum: float) -> None:
    """Move the running statistics towards a batch's (mean, biased variance), in place."""
    mean, variance = moments
    for running, now in ((running_mean, mean), (running_var, variance * (count / max(1, count - 1)))):
        if running is not None:
            array = _array(running)
            array[...] = (1 - momentum) * array + momentum * now.reshape(-1)
            inplace.wrote(array)


def _held(rows, constant):
    """`rows` without gradient where `constant` is true."""
    if not isinstance(rows, Tensor):
        return rows
    mask = xp(constant).asarray(constant, dtype=rows.dtype)[..., None]
    return rows * (1 - mask) + rows.detach() * mask


def _check_channels(name: str, x, axes: int, **parameters) -> None:
    if x.ndim < axes:
        raise ValueError(
            f"{name}: input has shape {tuple(x.shape)}, expected at least {axes} axes (N, C, ...)"
        )
    for what, parameter in parameters.items():
        if parameter is not None and tuple(parameter.shape) != (x.shape[1],):
            raise ValueError(
                f"{name}: {what} has shape {tuple(parameter.shape)}, expected ({x.shape[1]},) "
                f"for input {tuple(x.shape)}"
            )
