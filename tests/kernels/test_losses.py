"""Adversarial losses: Triton against the reference, the reference against PyTorch, at any logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, relu

from scratchgan.autograd import grad
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels import losses
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu.launch import trying
from scratchgan.ops import adversarial
from scratchgan.tensor import Tensor
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]
SIZES = [(1, 1), (64, 64), (7, 3), (3, 10), (0, 0), (0, 5), (5, 0)]  # of real and fake logits
EXTREMES = [0.0, 1.0, -1.0, 1e-3, 17.0, -17.0, 40.0, -40.0, 88.0, -104.0, 1e4, -1e4, np.inf, -np.inf, np.nan]


def softplus(u):
    return -logsigmoid(-u)


UNPAIRED = {
    "minimax_d": lambda r, f: softplus(-r).mean() + softplus(f).mean(),
    "least_squares_d": lambda r, f: 0.5 * (r - 1).square().mean() + 0.5 * f.square().mean(),
    "hinge_d": lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(),
    "wasserstein_d": lambda r, f: f.mean() - r.mean(),
}
PAIRED = {
    "relativistic_d": lambda r, f: softplus(f - r).mean(),
    "relativistic_g": lambda r, f: softplus(r.detach() - f).mean(),
}
GENERATOR = {
    "minimax_g": lambda f: -softplus(f).mean(),
    "non_saturating_g": lambda f: softplus(-f).mean(),
    "least_squares_g": lambda f: 0.5 * (f - 1).square().mean(),
    "wasserstein_g": lambda f: -f.mean(),
}
TORCH = {**UNPAIRED, **PAIRED, **GENERATOR}


def arguments(name: str, real, fake) -> list:
    """What the loss takes; as many real logits as fake ones for pairs."""
    if name in GENERATOR:
        return [fake]
    return [np.resize(real, fake.shape) if name in PAIRED else real, fake]


def by_torch(name: str, *logits) -> list:
    """Value and gradients, as the kernel returns them."""
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in logits]
    value = TORCH[name](*leaves)
    value.backward()
    return [value.detach().numpy()] + [a.grad.numpy() for a in leaves if a.grad is not None]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", TORCH)
def test_is_the_reference(on, name, sizes, dtype):
    real, fake = (3 * draw((n,), dtype, seed) for seed, n in enumerate(sizes))
    loss, logits = getattr(losses, name), arguments(name, real, fake)
    check(on, loss, *logits)
    with trying(BLOCK=4):
        check(on, loss, *logits, scale=np.array([2.5], np.float32))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", TORCH)
def test_is_torch_s_at_any_logits(on, name):
    """One pair at a time, so that no infinite loss hides another."""
    extremes = np.array(EXTREMES, np.float32).reshape(-1, 1)
    for shift in (0, 1, 4):
        for real, fake in zip(extremes, np.roll(extremes, shift)):
            logits = arguments(name, real, fake)
            compare(run(on, getattr(losses, name), *logits), by_torch(name, *logits), np.float32)


@pytest.mark.parametrize("name", TORCH)
def test_reference_is_torch_s(name):
    for sizes in [(6, 4), (1, 1)]:
        logits = arguments(name, *(9 * draw((n,), np.float64, seed) for seed, n in enumerate(sizes)))
        compare(getattr(losses, name)(*logits), by_torch(name, *logits), np.float64)
    logits = arguments(name, np.array(EXTREMES), np.array(EXTREMES[::-1]))
    compare(getattr(losses, name)(*logits), by_torch(name, *logits), np.float64)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-13)])
def test_digits_of_small_losses_are_kept(on, dtype, tolerance):
    """A confident discriminator's loss is e^-|u|, which 1 + e^-|u| would round away."""
    for f in np.linspace(-80, 1, 28, dtype=dtype).reshape(-1, 1):
        for found, exact in zip(run(on, losses.minimax_g, f), by_torch("minimax_g", f)):
            np.testing.assert_allclose(found, exact, rtol=tolerance)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("targets", [{}, {"a": -1.0, "b": 1.0}, {"a": 0.1, "b": 0.9}])
def test_targets_of_least_squares(on, targets):
    real, fake = draw((5,), np.float64), draw((4,), np.float64, 1)
    check(on, losses.least_squares_d, real, fake, **targets)
    check(on, losses.least_squares_g, fake, c=targets.get("b", 0.0) / 3)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", TORCH)
def test_patches_in_any_order_and_with_gaps(on, name):
    real = draw((2, 3, 3, 5), np.float32, 0, CHANNELS_LAST)
    fake = draw((2, 3, 6, 5), np.float32, 1)[:, :, ::-2]
    check(on, getattr(losses, name), *([fake] if name in GENERATOR else [real, fake]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", TORCH)
def test_dtypes(on, name):
    """The value is in the precision of sums, gradients are in the logits'; the same in the reference."""
    for dtype in TYPES:
        logits = arguments(name, draw((3,), dtype), draw((3,), dtype, 1))
        expected = [np.result_type(dtype, np.float32), *[np.dtype(dtype)] * len(by_torch(name, *logits)[1:])]
        for results in (run(on, getattr(losses, name), *logits), getattr(losses, name)(*logits)):
            assert [a.dtype for a in results] == expected


@pytest.mark.parametrize("on", ON)
def test_scale_comes_before_rounding(on):
    """Slopes that float16 cannot hold arrive where they are scaled up first; too large ones are infinite."""
    fake = np.full(16, -17, np.float16)
    scale = np.array([1024.0])
    assert not run(on, losses.minimax_g, fake)[1].any()
    for found in (run(on, losses.minimax_g, fake, scale)[1], losses.minimax_g(fake, scale)[1]):
        np.testing.assert_allclose(found, -64 / (1 + np.exp(17)), rtol=5e-2)
    too_much = fake[:1], 128 * scale
    for found in (run(on, losses.wasserstein_g, *too_much), losses.wasserstein_g(*too_much)):
        assert found[1] == -np.inf


@pytest.mark.parametrize("name", TORCH)
def test_ops_to_second_order(name):
    """First derivatives are Triton's, seen against differences; second ones are those of the op's formula."""
    real, fake = draw((4,), np.float64), draw((4,), np.float64, 1)
    logits = [Tensor(a).requires_grad_() for a in arguments(name, real, fake)]
    op = getattr(adversarial, name)
    with implementation("triton"):
        gradcheck(op, logits)
        gradgradcheck(op, logits)
        raw = grad(op(*logits), logits)
        recorded = grad(op(*logits), logits, create_graph=True)
    for a, b in zip(raw, recorded):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12)


def test_what_is_not_covered_is_said():
    one, two = np.ones(1, np.float32), np.ones(2)
    with implementation("triton"):
        with pytest.raises(UserError, match="minimax_d in Triton: dtype int64"):
            losses.minimax_d(np.arange(3), np.arange(3))
        with pytest.raises(UserError, match="dtypes float32 and float64: expected one dtype"):
            losses.minimax_d(one, two)
        with pytest.raises(UserError, match=r"shape \(2,\): expected one number"):
            losses.minimax_g(one, two)
    for choice in ("ref", "triton"):
        with implementation(choice), pytest.raises(ValueError, match=r"shapes \(2,\) and \(2, 1\)"):
            losses.relativistic_d(two, two[:, None])
