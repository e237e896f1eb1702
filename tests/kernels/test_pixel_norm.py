"""Pixel norm in Triton: values, gradient, odd sizes, memory orders, extremes, PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.pixel_norm import pixel_norm, pixel_norm_dx
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

SHAPES = [(2, 3, 5, 7), (1, 1, 1, 1), (3, 130, 2, 3), (5, 64), (1, 3), (0, 4, 2, 2), (0, 4), (2, 1500)]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_reference(on, dtype, shape):
    for order in (None, CHANNELS_LAST) if len(shape) == 4 else (None, (1, 0)):
        x, g = draw(shape, dtype, 0, order), draw(shape, dtype, 1, order)
        check(on, pixel_norm, x, reduction=shape[1])
        check(on, pixel_norm_dx, g, x, reduction=shape[1])


@pytest.mark.parametrize("on", ON)
def test_gaps_and_mixed_orders(on):
    x, g = draw((4, 6, 5, 9))[::-1, ::2, :, 1:8], draw((4, 3, 5, 7), np.float32, 1, CHANNELS_LAST)
    check(on, pixel_norm, x, reduction=3)
    check(on, pixel_norm_dx, g, x, reduction=3)


@pytest.mark.parametrize("on", ON)
def test_extremes(on):
    """Zeros stay zeros; squares that float16 doesn't hold do no harm; epsilon holds tiny pixels down."""
    zeros = np.zeros((2, 4, 3), np.float32)
    np.testing.assert_array_equal(run(on, pixel_norm, zeros), zeros)
    large = np.full((2, 4, 3), 6e4, np.float16)
    np.testing.assert_array_equal(run(on, pixel_norm, large), np.ones_like(large))
    small = np.full((1, 2), 1e-4, np.float32)
    np.testing.assert_allclose(run(on, pixel_norm, small), np.full((1, 2), 0.5**0.5), rtol=1e-5)


@pytest.mark.parametrize("on", ON)
def test_gradient_is_torch_s(on):
    x, g = draw((2, 5, 3, 2), np.float64), draw((2, 5, 3, 2), np.float64, 1)
    t = torch.from_numpy(x).requires_grad_()
    y = t * (t.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    compare(run(on, pixel_norm, x), y.detach().numpy(), np.float64)
    (wanted,) = torch.autograd.grad(y, t, torch.from_numpy(g))
    compare(run(on, pixel_norm_dx, g, x), wanted.numpy(), np.float64)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="pixel_norm in Triton: 9000 channels"):
        pixel_norm(np.ones((1, 9000), np.float32))
