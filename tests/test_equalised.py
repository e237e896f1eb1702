"""The layers of growing GANs against scalar loops: equalised learning rate, pixel norm, minibatch deviation."""
from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

import scratchgan
from scratchgan import optim
from scratchgan.backend import manual_seed
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.nets.equalised import EqualConv2d, EqualLinear, minibatch_std, pixel_norm


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_linear_layer_by_loops():
    layer = EqualLinear(3, 2, gain=sqrt(2), lr_multiplier=0.1, bias_init=0.5).double()
    layer.load_state_dict({"weight": normal(2, 3), "bias": normal(2, seed=1)})
    w, b, x = normal(2, 3), normal(2, seed=1), normal(4, 3, seed=2)
    expected = [[sum(0.1 * sqrt(2) / sqrt(3) * w[j, i] * x[n, i] for i in range(3)) + 0.1 * b[j]
                 for j in range(2)] for n in range(4)]
    np.testing.assert_allclose(layer(scratchgan.tensor(x)).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("size, kernel", [(5, 3), (4, 1)])
def test_a_convolution_is_pytorchs_with_the_scaled_weight(size, kernel):
    layer = EqualConv2d(3, 2, kernel, gain=sqrt(2), lr_multiplier=0.5).double()
    w, b, x = normal(2, 3, kernel, kernel), normal(2, seed=1), normal(4, 3, size, size, seed=2)
    layer.load_state_dict({"weight": w, "bias": b})
    scale = 0.5 * sqrt(2) / sqrt(3 * kernel * kernel)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(scale * w),
                                          torch.from_numpy(0.5 * b), padding=kernel // 2)
    found = layer(scratchgan.tensor(x)).detach().numpy()
    assert found.shape == (4, 2, size, size)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_a_layer_begins_alike_whatever_its_multiplier(multiplier):
    manual_seed(3)
    layer = EqualLinear(200, 100, lr_multiplier=multiplier, bias_init=1.0)
    assert layer.weight.detach().numpy().std() == pytest.approx(1 / multiplier, rel=0.02)
    assert layer.scaled_weight().detach().numpy().std() == pytest.approx(1 / sqrt(200), rel=0.02)
    np.testing.assert_allclose(layer.scaled_bias().detach().numpy(), 1.0, rtol=1e-6)
    assert EqualLinear(3, 2, bias=False).scaled_bias() is None


@pytest.mark.parametrize("fan_in", [4, 400])
@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_one_step_of_adam_moves_all_layers_at_one_pace(fan_in, multiplier):
    """lr / (1 / m) of a stored weight's deviation, whatever the fan_in: m times lr relative to its size."""
    layer = EqualLinear(fan_in, 50, lr_multiplier=multiplier).double()
    before = layer.weight.detach().numpy().copy()
    layer(scratchgan.tensor(normal(8, fan_in))).sum().backward()
    optim.Adam(layer.parameters(), 0.1, eps=0.0).step()
    moved = abs(layer.weight.detach().numpy() - before)
    np.testing.assert_allclose(moved * multiplier, 0.1 * multiplier, rtol=1e-9)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)])
def test_pixel_norm_by_loops(shape):
    x = normal(*shape)
    expected = np.empty_like(x)
    for n, *place in np.ndindex(shape[0], *shape[2:]):
        vector = [x[(n, c, *place)] for c in range(shape[1])]
        for c in range(shape[1]):
            expected[(n, c, *place)] = vector[c] / sqrt(sum(v * v for v in vector) / shape[1] + 1e-8)
    np.testing.assert_allclose(pixel_norm(scratchgan.tensor(x)).numpy(), expected, rtol=1e-12)


# Which samples belong together: of N = m G samples i, i + m, i + 2 m, ...
GROUPS = {1: [[0]], 3: [[0, 1, 2]], 4: [[0, 1, 2, 3]], 8: [[0, 2, 4, 6], [1, 3, 5, 7]],
          6: [[0, 1, 2, 3], [4, 5]], 9: [[0, 2, 4, 6], [1, 3, 5, 7], [8]]}


@pytest.mark.parametrize("count", GROUPS)
def test_minibatch_deviation_by_loops(count):
    x = normal(count, 2, 2, 3)
    expected = np.empty((count, 2, 3))
    for group in GROUPS[count]:
        deviations = []
        for c, i, j in np.ndindex(2, 2, 3):
            values = [x[n, c, i, j] for n in group]
            mean = sum(values) / len(values)
            deviations.append(sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-8))
        expected[group] = sum(deviations) / len(deviations)
    found = minibatch_std(scratchgan.tensor(x)).numpy()
    np.testing.assert_array_equal(found[:, :2], x)
    np.testing.assert_allclose(found[:, 2], expected, rtol=1e-12)


@pytest.mark.parametrize("function, shape", [(pixel_norm, (3, 4)), (minibatch_std, (6, 2, 2, 2))])
def test_derivatives_to_second_order(function, shape):
    assert gradcheck(function, [normal(*shape)]).ok
    assert gradgradcheck(function, [normal(*shape)]).ok


def test_repr_names_what_is_unusual():
    assert repr(EqualLinear(3, 2, lr_multiplier=0.01)) == "EqualLinear((2, 3), bias=True, lr_multiplier=0.01)"
