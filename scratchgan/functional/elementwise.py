"""Element-wise functions under PyTorch's names and argument forms. Tensors, arrays and numbers broadcast
together.
"""

from __future__ import annotations

import math

from scratchgan.ops import elementwise as ops
from scratchgan.ops.elementwise import absolute as abs
from scratchgan.ops.elementwise import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    cos,
    eq,
    erf,
    exp,
    ge,
    gt,
    isfinite,
    isnan,
    le,
    log,
    log1p,
    logsigmoid,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    relu,
    remainder,
    rsqrt,
    sigmoid,
    sign,
    silu,
    sin,
    sqrt,
    tanh,
)
from scratchgan.ops.shape import reshape

__all__ = [
    "abs",
    "add",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "clamp",
    "cos",
    "div",
    "elu",
    "eq",
    "erf",
    "exp",
    "ge",
    "gelu",
    "gt",
    "isfinite",
    "isnan",
    "le",
    "leaky_relu",
    "log",
    "log1p",
    "logsigmoid",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "neg",
    "pow",
    "prelu",
    "relu",
    "remainder",
    "rsqrt",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softplus",
    "sqrt",
    "sub",
    "tanh",
    "where",
]


def add(input, other, *, alpha: float = 1):
    """input + alpha other."""
    return ops.add(input, other if alpha == 1 else ops.mul(other, alpha))


def sub(input, other, *, alpha: float = 1):
    """input - alpha other."""
    return ops.sub(input, other if alpha == 1 else ops.mul(other, alpha))


def div(input, other, *, rounding_mode: str | None = None):
    """input / other; `rounding_mode` "floor" or "trunc" rounds the quotient down or towards 0: then the gradient is
    0, and integers give integers.
    """
    if rounding_mode is None:
        return ops.div(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise ValueError(f"div: rounding_mode is {rounding_mode!r}, expected None, 'floor' or 'trunc'")
    return (ops.floor_quotient if rounding_mode == "floor" else ops.trunc_quotient)(input, other)


def pow(input, exponent):
    """input ** exponent, either of them a number."""
    if isinstance(exponent, (int, float)):
        return ops.power_of(input, p=exponent)
    if isinstance(input, (int, float)):
        return ops.power_from(exponent, base=input)
    return ops.power(input, exponent)


def clamp(input, min=None, max=None):
    """min(max(input, min), max); either bound a number, a tensor or None. The gradient passes at the bounds.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must not be None")
    if isinstance(min, (int, float)) and isinstance(max, (int, float)):
        return ops.clamp_between(input, low=min, high=max)
    if min is not None:
        input = ops.clamp_min(input, min)
    return input if max is None else ops.clamp_max(input, max)


def where(condition, input=None, other=None):
    """`input` where the condition holds, `other` elsewhere."""
    if input is None or other is None:
        raise TypeError("where: expected a condition and two choices")
    return ops.where(condition, input, other)


def leaky_relu(input, negative_slope: float = 0.01):
    """input where it is positive, negative_slope input elsewhere."""
    if 0 <= negative_slope <= 1:
        return ops.leaky_relu(input, slope=negative_slope)
    return ops.where(input > 0, input, negative_slope * input)


def prelu(input, weight):
    """input where it is positive, weight input elsewhere: weight is one number, (1,), or one for each of the C
    channels of input (N, C, ...), (C,).
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or math.prod(weight.shape) not in (1, channels):
        raise ValueError(
            f"prelu: weight has shape {tuple(weight.shape)}, expected one number or one for each channel of "
            f"{tuple(input.shape)}"
        )
    column = (-1, *[1] * (input.ndim - 2)) if input.ndim else ()
    return ops.prelu(input, reshape(weight, shape=column))


def elu(input, alpha: float = 1.0):
    """input where it is positive, alpha (e^input - 1) elsewhere."""
    return ops.elu(input, alpha=alpha)


def gelu(input, approximate: str = "none"):
    """input times the standard normal distribution function; `approximate="tanh"` takes the formula with
    tanh.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return ops.gelu(input) if approximate == "none" else ops.gelu_tanh(input)


def softplus(input, beta: float = 1.0, threshold: float = 20.0):
    """log(1 + e^(beta input)) / beta, and the input itself where beta input > threshold."""
    return ops.softplus(input, beta=beta, threshold=threshold)
