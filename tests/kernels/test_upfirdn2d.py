"""upfirdn2d in Triton: rates, paddings, filters, memory orders, its gradients, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan import functional as F
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu.upfirdn2d import stencil
from scratchgan.kernels.upfirdn2d import upfirdn2d
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

TAPS = np.array([1, 3, 3, 1]) / 8
ORDERS = {"NHWC": CHANNELS_LAST, "NCHW": None,
          "NCWH": (0, 1, 3, 2), "CHWN": (1, 2, 3, 0), "HNWC": (2, 0, 3, 1)}  # fmt: skip


def rows(f) -> tuple[tuple[float, ...], ...]:
    """The filter as the kernel takes it."""
    return tuple(map(tuple, np.asarray(f, float).tolist()))


BLUR = rows(np.outer(TAPS, TAPS))
SKEW = rows(np.random.default_rng(5).standard_normal((3, 5)))  # not separable, not symmetric
MANY = rows(np.random.default_rng(6).standard_normal((9, 9)))
COLUMN, ROW = rows(TAPS[:, None]), rows(4 * TAPS[None])
CASES = {  # shape, f, up, down, pad, size
    "blur after a transposed convolution": ((2, 5, 6, 7), BLUR, (1, 1), (1, 1), (1, 1), (5, 6)),
    "picture, twice the size": ((2, 3, 3, 3), BLUR, (2, 2), (1, 1), (2, 2), (6, 6)),
    "half the size": ((2, 4, 8, 8), BLUR, (1, 1), (2, 2), (1, 1), (4, 4)),
    "rows only": ((1, 3, 5, 4), COLUMN, (2, 1), (1, 1), (2, 0), (10, 4)),
    "columns only": ((1, 3, 5, 4), ROW, (1, 1), (1, 2), (0, 1), (5, 2)),
    "rates with and without a common factor": ((1, 2, 5, 6), SKEW, (3, 2), (2, 4), (2, 3), (7, 4)),
    "more columns than a tile": ((1, 1, 1, 1030), SKEW, (1, 1), (1, 1), (1, 2), (1, 1030)),
    "crops": ((1, 2, 7, 9), SKEW, (1, 2), (1, 1), (-2, -3), (3, 11)),
    "far outside": ((1, 2, 2, 3), BLUR, (1, 1), (1, 1), (5, 1), (7, 3)),
    "means of blocks": ((2, 3, 6, 6), rows(np.full((3, 2), 1 / 6)), (1, 1), (3, 2), (0, 0), (2, 3)),
    "repeated pixels": ((2, 3, 2, 3), rows(np.ones((4, 4))), (4, 4), (1, 1), (3, 3), (8, 12)),
    "many taps": ((1, 2, 3, 5), MANY, (1, 2), (1, 1), (4, 4), (2, 6)),
    "zero filter": ((1, 2, 3, 3), rows(np.zeros((2, 2))), (1, 1), (1, 1), (0, 0), (2, 2)),
    "one pixel": ((1, 1, 1, 1), BLUR, (1, 1), (1, 1), (1, 2), (1, 1)),
    "no images": ((0, 2, 3, 3), BLUR, (1, 1), (1, 1), (1, 1), (2, 2)),
    "no channels": ((2, 0, 3, 3), BLUR, (1, 1), (1, 1), (1, 1), (2, 2)),
}
FILTERED = [("relu", 0.0, 1.0), ("leaky_relu", 0.2, 1.4), ("tanh", 0.0, 2.0), ("linear", 0.0, 0.5)]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order, dtype", [("NHWC", np.float16), ("NCHW", np.float32)])
@pytest.mark.parametrize("name", CASES)
def test_is_the_reference(on, name, order, dtype):
    shape, f, *rates = CASES[name]
    check(on, upfirdn2d, draw(shape, dtype, 0, ORDERS[order]), f, *rates, reduction=len(f) * len(f[0]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(on, order):
    shape, f, *rates = CASES["rates with and without a common factor"]
    check(on, upfirdn2d, draw(shape, np.float32, 0, ORDERS[order]), f, *rates, reduction=len(f) * len(f[0]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 1, 5), (2, 3, 4, 1), (1, 1, 4, 4)])
def test_axes_of_size_1_whose_strides_say_nothing(on, shape, order):
    """A grey image in channels-last memory has one stride for its channel and its pixels."""
    size = tuple(2 * n - 1 for n in shape[2:])
    check(on, upfirdn2d, draw(shape, np.float32, 0, ORDERS[order]), SKEW, (2, 2), (1, 1), (2, 1), size, reduction=15)


@pytest.mark.parametrize("on", ON)
def test_channels_beyond_a_tile(on):
    x = draw((1, 70, 2, 3), np.float32, 0, CHANNELS_LAST)
    check(on, upfirdn2d, x, SKEW, (1, 1), (1, 1), (1, 2), (2, 3), reduction=15)


@pytest.mark.parametrize("on", ON)
def test_gaps_and_steps_backwards(on):
    x = draw((2, 4, 3, 7))[::-1, ::2, :, 1:6]
    check(on, upfirdn2d, x, SKEW, (2, 1), (1, 2), (1, 3), (6, 3), reduction=15)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("activation, slope, gain", FILTERED)
def test_activation_on_the_way_out(on, activation, slope, gain):
    shape, f, *rates = CASES["blur after a transposed convolution"]
    x = draw(shape, np.float32, 0, CHANNELS_LAST)
    check(on, upfirdn2d, x, f, *rates, activation, slope, gain, reduction=16)


@pytest.mark.parametrize("on", ON)
def test_sums_of_halves_are_kept_in_float32(on):
    """64 numbers whose sums float16 doesn't hold: it would end at 2048 + 31 at the most."""
    x = np.full((1, 1, 8, 8), 1, np.float16)
    x[0, 0, 0, 0] = 2048
    y = run(on, upfirdn2d, x, rows(np.full((8, 8), 0.5)), (1, 1), (8, 8), (0, 0), (1, 1))
    assert y.item() == np.float16(0.5 * (2048 + 63))


@pytest.mark.parametrize("on", ON)
def test_results_take_the_order_of_x(on):
    for order in ORDERS.values():
        x = draw((2, 3, 4, 5), np.float32, 0, order)
        with implementation("triton"):
            y = upfirdn2d(x, COLUMN, (1, 1), (1, 1), (1, 0), (3, 5))
        wanted = sorted(range(4), key=lambda i: -x.strides[i])
        if wanted != [2, 0, 3, 1]:  # rows and columns apart: channels-last is taken instead
            assert sorted(range(4), key=lambda i: -y.strides[i]) == wanted


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["picture, twice the size", "rates with and without a common factor"])
def test_is_its_own_adjoint(on, name):
    """<g, A x> = <A' g, x>, A' with rates swapped, the filter reversed and T - 1 - p in front."""
    shape, f, up, down, pad, size = CASES[name]
    x, g = draw(shape, np.float64), draw((*shape[:2], *size), np.float64, 1)
    back = tuple(row[::-1] for row in f[::-1])
    behind = (len(f) - 1 - pad[0], len(f[0]) - 1 - pad[1])
    forward = run(on, upfirdn2d, x, f, up, down, pad, size)
    adjoint = run(on, upfirdn2d, g, back, down, up, behind, shape[2:])
    np.testing.assert_allclose((g * forward).sum(), (adjoint * x).sum(), rtol=1e-12)


PADDED = [(2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 1, 1)), (1, 1, (0, 2, 1, 1))]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("up, down, padding", PADDED)
def test_is_torch_s(on, up, down, padding):
    x, (left, _, top, _) = draw((2, 3, 6, 5), np.float64), padding
    t = torch.zeros(2, 3, 6 * up, 5 * up, dtype=torch.float64)
    t[:, :, ::up, ::up] = torch.from_numpy(x)
    f = torch.tensor(SKEW, dtype=torch.float64).expand(3, 1, 3, 5)
    t = torch.nn.functional.pad(t, padding)
    wanted = torch.nn.functional.conv2d(t, f, groups=3)[:, :, ::down, ::down].numpy()
    found = run(on, upfirdn2d, x, SKEW, (up, up), (down, down), (top, left), wanted.shape[2:])
    compare(found, wanted, np.float64, reduction=15)


@pytest.mark.parametrize("up, down", [(2, 1), (1, 2)])
def test_both_derivatives(up, down):
    def filtered(x):
        return F.upfirdn2d(x, np.array(SKEW)[:2, :3], up=up, down=down, padding=1) ** 3  # not linear

    x = draw((1, 1, 3, 2), np.float64)
    with implementation("triton"):
        gradcheck(filtered, x)
        gradgradcheck(filtered, x)


def test_pixels_are_read_once():
    """As the kernel's docstring says: 28 pixels for four outputs, 9 for the four phases of twice the size."""
    assert len(stencil(BLUR, (1, 1), (1, 1), (1, 1), (4, 1)).pixel_rows) == 28
    assert len(stencil(BLUR, (2, 2), (1, 1), (2, 2), (2, 2)).pixel_rows) == 9


def test_what_is_not_covered_is_said():
    x = np.ones((1, 1, 32, 32), np.float32)
    with implementation("triton"), pytest.raises(UserError, match="1024 taps in 1 phases"):
        upfirdn2d(x, rows(np.ones((32, 32))), (1, 1), (32, 32), (0, 0), (1, 1))
    with implementation("triton"), pytest.raises(UserError, match="25 phases"):
        upfirdn2d(x, rows(np.ones((5, 5))), (5, 5), (1, 1), (4, 4), (160, 160))
    with implementation("triton"), pytest.raises(UserError, match="activation 'swish'"):
        upfirdn2d(x, BLUR, (1, 1), (1, 1), (1, 1), (31, 31), "swish")
