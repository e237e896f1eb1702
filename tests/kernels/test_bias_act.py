"""Bias and activation in Triton: values, both derivatives, odd sizes, memory orders, extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan.errors import UserError
from scratchgan.kernels.bias_act import ACTIVATIONS, bias_act, bias_act_ddx, bias_act_dx
from scratchgan.kernels.dispatch import implementation
from tests.kernels.harness import CHANNELS_LAST, ON, check, draw, run

SHAPES = [(2, 3, 5, 7), (1, 1, 1, 1), (3, 130, 4, 3), (0, 4, 2, 2), (2, 0, 3, 3)]
TYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("order", [CHANNELS_LAST, None])
def test_is_the_reference(on, dtype, shape, activation, order):
    x, g, h = (draw(shape, dtype, seed, order) for seed in range(3))
    b = draw((shape[1],), dtype, 3)
    settings = {"activation": activation, "slope": 0.2, "gain": 1.5}
    check(on, bias_act, x, b, axis=1, **settings)
    check(on, bias_act, x, None, axis=1, **settings)
    check(on, bias_act_dx, g, x, **settings)
    if activation == "tanh":
        check(on, bias_act_ddx, g, h, x / 8, activation=activation, gain=1.5)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_bias_along_any_axis(on, axis):
    x = draw((4, 3, 5), np.float32, 0, (1, 2, 0))
    check(on, bias_act, x, draw((x.shape[axis],), np.float32, 1), axis, "linear", 0.0, 1.0)


@pytest.mark.parametrize("on", ON)
def test_gaps_and_steps_backwards(on):
    x = draw((4, 6, 5, 9))[::-1, ::2, :, 1:8]
    check(on, bias_act, x, draw((3,)), 1, "leaky_relu", 0.2, 1.0)


@pytest.mark.parametrize("on", ON)
def test_tanh_of_tiny_and_huge_numbers_is_torch_s(on):
    u = np.concatenate([s * np.logspace(-30, 30, 241, dtype=np.float32) for s in (1, -1)])
    found = run(on, bias_act, u, None, axis=0, activation="tanh", slope=0.0, gain=1.0)
    np.testing.assert_allclose(found, torch.tanh(torch.from_numpy(u)).numpy(), rtol=5e-7)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="bias_act in Triton: dtype int64"):
        bias_act(np.arange(3), None, 0, "relu", 0.0, 1.0)
    with implementation("triton"), pytest.raises(UserError, match="activation 'swish'"):
        bias_act(np.ones(3), None, 0, "swish", 0.0, 1.0)
