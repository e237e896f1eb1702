"""Adaptive instance normalisation in Triton: maps in registers and larger ones, any memory order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan import tensor
from scratchgan.autograd import grad
from scratchgan.errors import UserError
from scratchgan.gans import stylegan
from scratchgan.kernels.adain import adain, adain_vjp
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import adain as gpu
from tests.kernels.harness import CHANNELS_LAST, ON, check, draw, run

EPS = 1e-8
SHAPES = [(2, 5, 4, 4), (3, 19, 2, 2), (1, 3, 5, 7), (2, 1, 3, 3), (1, 1, 1, 2), (0, 3, 2, 2), (2, 0, 2, 2)]
ORDERS = [CHANNELS_LAST, None]


def arguments(shape, dtype, order):
    """x, g, scale, bias."""
    x, g = (draw(shape, dtype, seed, order) for seed in (0, 1))
    return x * dtype(2) + dtype(1), g, draw(shape[:2], dtype, 2), draw(shape[:2], dtype, 3)


def checked(on, x, g, scale, bias):
    check(on, adain, x, scale, bias, EPS)
    wide = np.float64 if x.dtype == np.float64 else np.float32
    with implementation("ref"):
        _, mean, rstd = adain(x.astype(wide), scale.astype(wide), bias.astype(wide), EPS)
    check(on, adain_vjp, g, x, mean, rstd, scale, reduction=max(1, x.size))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ORDERS)
def test_is_the_reference(on, shape, dtype, order):
    checked(on, *arguments(shape, dtype, order))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", [*ORDERS, (2, 0, 3, 1)])
def test_maps_that_do_not_fit_and_memory_of_any_order(on, order, monkeypatch):
    checked(on, *arguments((2, 5, 4, 6), np.float32, order))
    monkeypatch.setattr(gpu, "MOST", 16)
    checked(on, *arguments((2, 5, 4, 6), np.float32, order))


@pytest.mark.parametrize("on", ON)
def test_gaps_in_maps_and_styles(on):
    x, g, scale, bias = arguments((2, 6, 8, 4), np.float32, None)
    g = np.broadcast_to(g[:, :3, :1, :1], (2, 3, 4, 4))
    checked(on, x[:, ::2, ::-2], g, scale[:, ::2], bias.T[1::2].T)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", ORDERS)
def test_maps_far_from_zero_keep_their_digits(on, order):
    x, _, scale, bias = arguments((2, 3, 9, 7), np.float32, order)
    x = x + np.float32(1e4)
    y, _, rstd = run(on, adain, x, scale, bias, EPS)
    wide = [a.astype(np.float64) for a in (x, scale, bias)]
    exact, _, exact_rstd = adain.reference(*wide, EPS)
    np.testing.assert_allclose(y, exact, atol=1e-5)  # although digits of mean in float32 are 1e-3 apart
    np.testing.assert_allclose(rstd, exact_rstd, rtol=1e-6)


@pytest.mark.parametrize("choice", ["ref", "triton"])
def test_value_and_gradient_are_pytorchs(choice):
    x, g, scale, bias = arguments((2, 3, 4, 5), np.float64, CHANNELS_LAST)
    with implementation(choice):
        y, mean, rstd = adain(x, scale, bias, EPS)
        found = adain_vjp(g, x, mean, rstd, scale)
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, scale, bias)]
    expected = inputs[1][:, :, None, None] * torch.nn.functional.instance_norm(inputs[0], eps=EPS)
    expected = expected + inputs[2][:, :, None, None]
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-9, atol=1e-12)
    for a, b in zip(found, inputs):
        np.testing.assert_allclose(a, b.grad, rtol=1e-9, atol=1e-11)


def test_is_stylegans():
    x, g, scale, bias = arguments((2, 3, 4, 4), np.float64, CHANNELS_LAST)
    inputs = [tensor(a, requires_grad=True) for a in (x, scale, bias)]
    expected = stylegan.adain(*inputs)
    with implementation("triton"):
        y, mean, rstd = adain(x, scale, bias, EPS)
        found = adain_vjp(g, x, mean, rstd, scale)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    for a, b in zip(found, grad(expected, inputs, tensor(g))):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-11)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="adain in Triton: dtype int64"):
        adain(np.ones((1, 1, 2, 2), int), np.ones((1, 1)), np.ones((1, 1)), EPS)
