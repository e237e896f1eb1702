"""Convolution and its two adjoints: a closed triple.

The trilinear form <g, conv(x, w)> has one derivative per argument: `conv` itself, `conv_dx` (transposed
convolution) and `conv_dw`. Each one's VJPs are the other two, so derivatives of every order stay inside the
triple. The arrays' work is in `scratchgan.kernels.conv`; stride, padding and dilation hold one int per
spatial axis.
"""

from __future__ import annotations

from scratchgan.kernels import conv as kernel
from scratchgan.tensor import Op, sum_to

Ints = tuple[int, ...]


@Op
def conv(x, w, b=None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """y = x * w + b (cross-correlation): x (N, C, *S), w (K, C / groups, *R), b (K, 1, ...), y (N, K, *P)."""
    return _add(kernel.conv(x, w, stride, padding, dilation, groups), b)


@Op
def conv_dx(y, w, b=None, *, x_shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """The adjoint of `conv` in x, plus a bias (C, 1, ...): y (N, K, *P) gives x of `x_shape`."""
    return _add(kernel.conv_dx(y, w, x_shape, stride, padding, dilation, groups), b)


@Op
def conv_dw(x, y, *, w_shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """The adjoint of `conv` in w: x (N, C, *S) and y (N, K, *P) give w of `w_shape` (K, C / groups, *R)."""
    return kernel.conv_dw(x, y, w_shape, stride, padding, dilation, groups)


def _add(fresh, b):
    """b added to an array that nobody else has seen."""
    if b is not None:
        fresh += b
    return fresh


def _conv_x(g, w, shape, stride, padding, dilation, groups):
    return conv_dx(g, w, x_shape=shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv_w(g, x, shape, stride, padding, dilation, groups):
    return conv_dw(x, g, w_shape=shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv_dx_y(g, w, stride, padding, dilation, groups):
    return conv(g, w, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv_dx_w(g, y, shape, stride, padding, dilation, groups):
    return conv_dw(g, y, w_shape=shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv_dw_x(g, y, shape, stride, padding, dilation, groups):
    return conv_dx(y, g, x_shape=shape, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv_dw_y(g, x, stride, padding, dilation, groups):
    return conv(x, g, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _bias(g, shape):
    return sum_to(g, shape=shape)


conv.vjp(x=_conv_x, w=_conv_w, b=_bias)
conv_dx.vjp(y=_conv_dx_y, w=_conv_dx_w, b=_bias)
conv_dw.vjp(x=_conv_dw_x, y=_conv_dw_y)
