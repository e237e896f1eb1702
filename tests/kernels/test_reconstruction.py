"""Mean errors: Triton against the reference, the reference against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as T

from scratchgan.errors import UserError
from scratchgan.kernels import reconstruction
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu.launch import trying
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]
SHAPES = [(2, 3, 5, 7), (1,), (17,), (0, 3), ()]
LOSSES = [("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3})]
EVERY_LOSS = pytest.mark.parametrize("name, settings", LOSSES)


def by_torch(name: str, a: np.ndarray, b: np.ndarray, settings: dict) -> list:
    """Value and da."""
    leaf = torch.tensor(a.astype(np.float64), requires_grad=True)
    value = getattr(T, name)(leaf, torch.tensor(b.astype(np.float64)), **settings)
    value.backward()
    return [value.detach().numpy(), leaf.grad.numpy()]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@EVERY_LOSS
def test_is_the_reference(on, name, settings, shape, dtype):
    loss = getattr(reconstruction, name)
    a, b = (np.asarray(draw(shape, dtype, seed)) for seed in (0, 1))
    check(on, loss, a, b, **settings)
    with trying(BLOCK=8):
        check(on, loss, a, b, scale=np.array([2.5], np.float32), **settings)


@pytest.mark.parametrize("on", ON)
@EVERY_LOSS
def test_any_memory_order_and_gaps(on, name, settings):
    a, b = draw((2, 4, 5, 6), np.float32, 0, CHANNELS_LAST), draw((2, 8, 5, 6), np.float32, 1)[:, ::-2]
    check(on, getattr(reconstruction, name), a, b, **settings)
    check(on, getattr(reconstruction, name), b, a, **settings)


@pytest.mark.parametrize("on", ON)
@EVERY_LOSS
def test_equal_numbers_kinks_and_extremes(on, name, settings):
    """Where the slope is 0, where the branches of the smooth loss meet, and without end."""
    d = np.array([0.0, 1.0, -1.0, 0.3, -0.3, 1e-20, -65000.0, 1e18, np.inf, -np.inf], np.float32)
    b = np.zeros_like(d)
    for number in range(d.size):
        one = slice(number, number + 1)
        compare(run(on, getattr(reconstruction, name), d[one], b[one], **settings),
                by_torch(name, d[one], b[one], settings), np.float32)  # fmt: skip


@EVERY_LOSS
def test_reference_is_torch_s(name, settings):
    a, b = draw((4, 5), np.float64), draw((4, 5), np.float64, 1)
    a[0] = b[0]
    compare(getattr(reconstruction, name)(a, b, **settings), by_torch(name, a, b, settings), np.float64)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@EVERY_LOSS
def test_dtypes(on, name, settings, dtype):
    """float16's differences and squares are those of float32."""
    a, b = np.full(5, 60000, dtype), np.full(5, -60000, dtype)
    loss = getattr(reconstruction, name)
    for value, da in (run(on, loss, a, b, **settings), loss(a, b, **settings)):
        assert (value.dtype, da.dtype) == (np.result_type(dtype, np.float32), dtype)
        np.testing.assert_allclose(value, by_torch(name, a, b, settings)[0], rtol=1e-6)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="dtypes float64 and float32: expected one"):
        reconstruction.l1_loss(np.ones(2), np.ones(2, np.float32))
    for choice in ("ref", "triton"):
        with implementation(choice), pytest.raises(ValueError, match=r"mse_loss: .*\(2,\) and \(2, 1\)"):
            reconstruction.mse_loss(np.ones(2), np.ones((2, 1)))
