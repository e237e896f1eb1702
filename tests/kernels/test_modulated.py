"""Modulated convolution in Triton: values, sums on the way, every gradient, odd sizes, and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scratchgan.autograd import grad
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels import modulated
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.modulated import (
    Finish,
    activation_sums,
    demodulation,
    scaled_conv,
    scaled_conv_dw,
    scaled_conv_dx,
)
from scratchgan.ops import modulated as ops
from scratchgan.tensor import Tensor
from tests.cases import CASES, make_inputs
from tests.kernels.harness import ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]
LAYERS = {  # N, C, K, size of x, kernel, stride, padding, dilation
    "3 x 3 of an early layer": (3, 20, 18, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3 x 3 of more pixels than a tile": (2, 3, 5, (6, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "1 x 1 to RGB": (2, 5, 3, (4, 3), (1, 1), (1, 1), (0, 0), (1, 1)),
    "transposed, stride 2": (2, 4, 5, (7, 9), (3, 3), (2, 2), (0, 0), (1, 1)),
    "stride longer than the kernel": (1, 3, 2, (5, 5), (1, 2), (2, 3), (0, 1), (1, 1)),
    "dilated, every axis its own": (2, 3, 2, (6, 5), (2, 3), (1, 1), (2, 0), (3, 2)),
    "one pixel": (1, 1, 1, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    "no images": (0, 3, 2, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
}


def layer(name: str, dtype=np.float32) -> tuple:
    """x, w, style, factors, g and the geometry of a layer; the scales in another type than the images."""
    N, C, K, size, kernel, stride, padding, dilation = LAYERS[name]
    axes = zip(size, kernel, stride, padding, dilation)
    out = tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in axes)
    small = np.float64 if dtype == np.float64 else np.float32
    return (draw((N, *size, C), dtype), draw((K, C, *kernel), dtype, 1), draw((N, C), small, 2),
            draw((N, K), small, 3), draw((N, *out, K), dtype, 4),
            Geometry(size, kernel, out, stride, padding, dilation, 1))  # fmt: skip


def finish(g, activation: str = "leaky_relu", slope: float = 0.2, batch: int | None = None) -> Finish:
    """Noise, strength and bias for results like g."""
    N, P, Q, K = g.shape
    small = np.float64 if g.dtype == np.float64 else np.float32
    return Finish(draw((N if batch is None else batch, P, Q), small, 5), draw((), small, 6).reshape(()),
                  draw((K,), small, 7), activation, slope)  # fmt: skip


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", LAYERS)
def test_is_the_reference(on, name):
    x, w, style, factors, g, geometry = layer(name)
    taps, pixels = w[0].size, math.prod(geometry.size)
    check(on, scaled_conv, x, w, style, factors, geometry, dot=g, reduction=taps * pixels)
    check(on, scaled_conv_dx, g, w, factors, style, geometry, dot=x, reduction=w[:, 0].size * pixels)
    check(on, scaled_conv_dw, x, g, style, factors, geometry, reduction=g[..., 0].size)
    check(on, demodulation, w, style, 1.4, reduction=taps)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["3 x 3 of an early layer", "transposed, stride 2"])
def test_other_precisions(on, name, dtype):
    x, w, style, factors, g, geometry = layer(name, dtype)
    x, w, g = x / 4, w / 4, g / 4
    check(on, scaled_conv, x, w, style, factors, geometry, reduction=w[0].size)
    check(on, scaled_conv_dx, g, w, factors, style, geometry, reduction=w[:, 0].size)
    check(on, scaled_conv_dw, x, g, style, factors, geometry, reduction=g[..., 0].size)
    check(on, demodulation, w, style, reduction=w[0].size)


@pytest.mark.parametrize("on", ON)
def test_without_scales_it_is_the_convolution(on):
    x, w, _, _, g, geometry = layer("1 x 1 to RGB")
    check(on, scaled_conv, x, w, None, None, geometry, reduction=5)
    check(on, scaled_conv_dx, g, w, None, None, geometry, reduction=3)
    check(on, scaled_conv_dw, x, g, None, None, geometry, reduction=24)


def finished(x, w, style, factors, noise, strength, bias, geometry, activation, slope):
    """scaled_conv with the arrays of `Finish` as arguments of their own, which the harness can place."""
    return scaled_conv(x, w, style, factors, geometry, Finish(noise, strength, bias, activation, slope))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("activation, slope, batch", [
    ("leaky_relu", 0.2, None), ("relu", 0, 1), ("linear", 0, None),
])
def test_noise_bias_and_activation(on, activation, slope, batch):
    for name in ("3 x 3 of an early layer", "3 x 3 of more pixels than a tile"):
        x, w, style, factors, g, geometry = layer(name)
        noise, strength, bias, *_ = finish(g, batch=batch)
        arrays = x, w, style, factors, noise, strength, bias
        check(on, finished, *arrays, geometry, activation, slope, reduction=180)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation, slope", [
    ("leaky_relu", 0.2), ("leaky_relu", 0), ("relu", 0), ("linear", 0),
])
def test_sums_through_the_activation(on, dtype, activation, slope):
    for shape, batch in (((2, 13, 12, 5), 2), ((2, 3, 2, 70), 1), ((1, 1, 1, 1), 1), ((0, 2, 2, 3), 1)):
        g, y, noise = draw(shape, dtype), draw(shape, dtype, 1), draw((batch, *shape[1:3]), dtype, 2)
        y = np.maximum(y, 0) if (activation, slope) == ("leaky_relu", 0.0) else y
        check(on, activation_sums, g, y, noise, activation, slope, reduction=shape[1] * shape[2])
    check(on, activation_sums, g, y, None, activation, slope)


@pytest.mark.parametrize("on", ON)
def test_gaps_and_other_orders(on):
    x, w, style, factors, g, geometry = layer("3 x 3 of more pixels than a tile")
    x, g = (draw(tuple(2 * n for n in a.shape), np.float32, 8)[::2, ::-2, ::2, 1::2] for a in (x, g))
    w, style, factors = np.asfortranarray(w), np.asfortranarray(style), np.asfortranarray(factors)
    check(on, scaled_conv, x, w, style, factors, geometry, reduction=27)
    check(on, scaled_conv_dx, g, w, factors, style, geometry, dot=x, reduction=45 * 66)
    check(on, scaled_conv_dw, x, g, style, factors, geometry, reduction=132)
    check(on, demodulation, w, style, reduction=27)


@pytest.mark.parametrize("on", ON)
def test_equal_inputs_give_equal_bits(on):
    x, w, style, factors, g, geometry = layer("3 x 3 of more pixels than a tile")
    for kernel, *args in ((scaled_conv_dw, x, g, style, factors), (scaled_conv_dx, g, w, factors, style)):
        np.testing.assert_array_equal(*(np.asarray(run(on, kernel, *args, geometry)) for _ in range(2)))


@pytest.mark.parametrize("on", ON)
def test_extremes(on):
    """A style of 0 gives d = epsilon^(-1/2), dx = 0 and still a gradient of its own; huge ones are finite."""
    x, w, style, factors, g, geometry = layer("3 x 3 of an early layer")
    style = style * 0
    np.testing.assert_allclose(run(on, demodulation, w, style), np.full(factors.shape, 1e4), rtol=1e-6)
    dx, sums = run(on, scaled_conv_dx, g, w, factors, style, geometry, dot=x)
    assert not dx.any() and (sums != 0).all()
    d = run(on, demodulation, w, style + np.float32(1e15))
    assert np.isfinite(d).all() and (d > 0).all()


OPS = [c for c in CASES if c.op.startswith("modulated_conv")]


@pytest.mark.parametrize("case", [OPS[0], OPS[1], OPS[-3], OPS[-2]], ids=lambda c: c.id)
def test_op_and_gradient_are_torch_s(case):
    """The op on the kernels, against weights for each image and grouped convolutions."""
    ours = [Tensor(a).requires_grad_() for a in make_inputs(case)]
    theirs = [torch.from_numpy(a).requires_grad_() for a in make_inputs(case)]
    wanted = case.torch(*theirs)
    u = draw(tuple(wanted.shape), np.float64)
    with implementation("triton"):
        y = case.run(None, *ours)
        gradients = grad(y, ours, Tensor(u))
    compare(y._array, wanted.detach().numpy(), np.float64, reduction=27)
    for found, expected in zip(gradients, torch.autograd.grad(wanted, theirs, torch.from_numpy(u))):
        compare(found._array, expected.numpy(), np.float64, reduction=540)


@pytest.mark.parametrize("up", [False, True])
def test_both_derivatives(up):
    def layer(x, w, style, noise, strength, bias):
        if up:
            return ops.modulated_conv_up(x, w, style, gain=1.4)
        return ops.modulated_conv(x, w, style, noise, strength, bias, padding=(1, 1), gain=1.4)

    # as small as it goes: the interpreter runs every kernel 32 times
    shapes = ((2, 2, 1, 2), (1, 2, 2, 3), (2, 2), (1, 1, 2, 2), (), (1,))
    arrays = [np.asarray(draw(shape, np.float64, seed)) for seed, shape in enumerate(shapes)]
    with implementation("triton"):
        gradcheck(layer, arrays[:3] + [None] * 3 if up else arrays)
        gradgradcheck(layer, arrays[:3] + [None] * 3 if up else arrays)


def test_gradients_nobody_needs_are_not_made():
    case = OPS[0]
    for wanted in range(6):
        xs = [Tensor(a).requires_grad_(i == wanted) for i, a in enumerate(make_inputs(case))]
        (alone,) = grad(case.run(None, *xs).sum(), xs[wanted])
        xs = [Tensor(a).requires_grad_() for a in make_inputs(case)]
        compare(alone._array, grad(case.run(None, *xs).sum(), xs)[wanted]._array, np.float64)


def test_what_is_not_covered_is_said():
    x, w, style, factors, g, geometry = layer("one pixel")
    with implementation("triton"), pytest.raises(UserError, match="scaled_conv in Triton: 2 groups"):
        scaled_conv(x, w, style, factors, geometry._replace(groups=2))
    with implementation("triton"), pytest.raises(UserError, match="activation 'tanh'"):
        scaled_conv(x, w, style, factors, geometry, Finish(activation="tanh"))
    with implementation("triton"), pytest.raises(UserError, match="stride and dilation"):
        scaled_conv_dx(g, w, factors, style, geometry._replace(stride=(2, 2), dilation=(2, 2)))
    assert modulated.factors(w, style, demodulate=False, gain=1.0) is None
