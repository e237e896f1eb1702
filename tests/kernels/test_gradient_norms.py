"""Penalties on gradient norms: Triton against the reference, the reference against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan.autograd import grad
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import gradient_norms
from scratchgan.kernels.gpu.launch import trying
from scratchgan.kernels.gradient_norms import gradient_penalty, r1_penalty
from scratchgan.ops import adversarial
from scratchgan.tensor import Tensor
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]
PENALTIES = [r1_penalty, gradient_penalty]
# images, points, one long sample, one number each, one number, no samples, samples of nothing
SHAPES = [(3, 2, 5, 7), (9, 2), (1, 45), (5, 1), (3,), (1, 1, 1, 1), (0, 3, 2), (4, 0, 2)]


def by_torch(penalty, g: np.ndarray, weight: float) -> list:
    """Value and gradient, with PyTorch's norm."""
    g = torch.tensor(g.astype(np.float64), requires_grad=True)
    rows = g.reshape(len(g), -1)
    if penalty is r1_penalty:
        value = weight / 2 * rows.square().sum(dim=1).mean()
    else:
        value = weight * (rows.norm(dim=1) - 1).square().mean()
    value.backward()
    return [value.detach().numpy(), g.grad.numpy()]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_is_the_reference(on, penalty, shape, dtype):
    g = draw(shape, dtype)
    check(on, penalty, g, 0.3, reduction=g.size)
    with trying(BLOCK=8):
        check(on, penalty, g, 0.3, np.array([3.5], np.float32), reduction=g.size)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("order", [CHANNELS_LAST, (1, 2, 3, 0), (2, 0, 1, 3)])
def test_any_memory_order_and_gaps(on, penalty, order):
    g = draw((3, 4, 5, 6), np.float32, 0, order)
    check(on, penalty, g, 2.0)
    check(on, penalty, g[:, ::-2, 1:, :5], 2.0)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_rows_of_several_chunks_of_several_tiles(on, monkeypatch, most):
    monkeypatch.setattr(gradient_norms, "MOST_CHUNKS", most)
    with trying(BLOCK=8):
        for length in (16, 17, 41, 64):
            check(on, gradient_penalty, draw((3, length)), 10.0)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
def test_no_derivative_where_the_gradient_vanishes(on, dtype):
    g = draw((4, 6), dtype)
    g[1] = 0
    g[3] = 0
    expected = by_torch(gradient_penalty, g, 10.0)
    assert not expected[1][1].any()
    compare(run(on, gradient_penalty, g, 10.0), expected, dtype, 6)
    compare(gradient_penalty(g, 10.0), expected, dtype, 6)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_extreme_gradients(on, penalty):
    """float16's largest numbers have squares beyond it; one sample does not spoil another's gradient."""
    check(on, penalty, np.full((2, 3), 60000, np.float16), 1e-3)
    for size in (1e15, 1e-15):
        g = draw((2, 5)) * np.float32(size)
        for found, exact in zip(run(on, penalty, g, 1.0), by_torch(penalty, g, 1.0)):
            np.testing.assert_allclose(found, exact, rtol=1e-5)
    g = draw((3, 5))
    g[1, 2] = np.nan
    value, dg = run(on, penalty, g, 1.0)
    assert np.isnan(value)
    assert np.isfinite(dg[[0, 2]]).all()


@pytest.mark.parametrize("shape", [(3, 2, 5), (7, 2), (1, 9), (4,)])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_reference_is_torch_s(penalty, shape):
    g = draw(shape, np.float64)
    compare(penalty(g, 0.7), by_torch(penalty, g, 0.7), np.float64)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_dtypes(on, penalty, dtype):
    g = draw((2, 3), dtype)
    for value, dg in (run(on, penalty, g, 1.0), penalty(g, 1.0)):
        assert (value.dtype, dg.dtype) == (np.result_type(dtype, np.float32), dtype)


@pytest.mark.parametrize(
    "penalty, settings", [("r1_penalty", {"gamma": 3.0}), ("gradient_penalty", {"weight": 10.0})]
)
def test_ops_to_second_order(penalty, settings):
    """First derivatives are Triton's, seen against differences; second ones are those of the op's formula."""
    g = Tensor(draw((3, 2, 2), np.float64)).requires_grad_()

    def op(g):
        return getattr(adversarial, penalty)(g, **settings)

    with implementation("triton"):
        gradcheck(op, [g])
        gradgradcheck(op, [g])
        (raw,), (recorded,) = grad(op(g), g), grad(op(g), g, create_graph=True)
    np.testing.assert_allclose(raw.numpy(), recorded.detach().numpy(), rtol=1e-12)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="r1_penalty in Triton: dtype int64"):
        r1_penalty(np.ones((2, 3), int), 1.0)
    with implementation("triton"), pytest.raises(UserError, match="expected one number"):
        gradient_penalty(np.ones((2, 3)), 1.0, np.ones(2))
