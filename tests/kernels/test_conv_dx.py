"""The adjoint of convolution in x in Triton: values over geometries, both kernels, the epilogue, extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan.errors import UserError
from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.conv import conv_dx_nhwc
from scratchgan.kernels.conv_dx_epilogue import conv_dx_fused_nhwc
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu import conv_dx
from tests.kernels.harness import ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]


def geometry(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) -> Geometry:
    """The Geometry of a convolution of x of `size`."""
    each = zip(size, kernel, stride, padding, dilation)
    out = tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in each)
    return Geometry(size, kernel, out, stride, padding, dilation, groups)


# name: geometry, N, C, K
CASES = {
    "DCGAN, k4 s2": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 2, 5, 16),
    "DCGAN's first layer": (geometry((4, 4), (4, 4)), 3, 17, 20),
    "x in RGB, k3": (geometry((6, 5), (3, 3), (1, 1), (1, 1)), 2, 3, 32),
    "g in RGB, k3": (geometry((6, 5), (3, 3), (1, 1), (1, 1)), 2, 18, 3),
    "one logit of 4 x 4": (geometry((4, 4), (4, 4)), 2, 16, 1),
    "k5 s2, odd size": (geometry((9, 7), (5, 5), (2, 2), (2, 2)), 1, 4, 16),
    "k9": (geometry((6, 5), (9, 9), (1, 1), (4, 4)), 1, 3, 16),
    "k1": (geometry((3, 5), (1, 1)), 2, 3, 48),
    "k1 s2: three phases without taps": (geometry((5, 6), (1, 1), (2, 2)), 2, 3, 16),
    "k2 s3: borders that no window covers": (geometry((7, 6), (2, 2), (3, 3)), 1, 3, 2),
    "k3 s2 d2: a phase without taps": (geometry((9, 8), (3, 3), (2, 2), (1, 1), (2, 2)), 1, 2, 16),
    "k3 x k2, s2 x s3, d3 x d2": (geometry((11, 8), (3, 2), (2, 3), (2, 0), (3, 2)), 1, 3, 5),
    "padding beyond the kernel": (geometry((2, 3), (2, 2), (2, 1), (3, 4)), 1, 2, 3),
    "a stride longer than x: empty phases": (geometry((2, 3), (1, 1), (3, 4)), 1, 2, 3),
    "two groups": (geometry((5, 4), (3, 3), (2, 1), (1, 1), groups=2), 2, 6, 32),
    "depthwise": (geometry((5, 4), (3, 3), (1, 1), (1, 1), groups=5), 2, 5, 5),
    "no images": (geometry((4, 4), (3, 3)), 0, 2, 3),
    "one pixel": (geometry((1, 1), (1, 1)), 1, 1, 1),
}
BOXES = {  # what Hopper's copy engine serves
    "k4 s2": (geometry((8, 10), (4, 4), (2, 2), (1, 1)), 2, 40, 32),
    "k3, odd size": (geometry((5, 7), (3, 3), (1, 1), (1, 1)), 3, 32, 96),
    "s2 x s1, d3 x d2": (geometry((9, 5), (3, 2), (2, 1), (1, 0), (3, 2)), 1, 33, 64),
    "borders that no window covers": (geometry((4, 5), (2, 2), (3, 3)), 1, 32, 32),
    "one window": (geometry((4, 3), (4, 3)), 3, 130, 64),
    "empty phases": (geometry((2, 3), (1, 1), (3, 4)), 1, 32, 32),
}


def factors(case, dtype):
    """Random g and w of a case."""
    form, N, C, K = case
    return draw((N, *form.out, K), dtype, 0), draw((K, C // form.groups, *form.kernel), dtype, 1)


def terms(case) -> int:
    """How many products a number of dx adds up at the most."""
    form, _, _, K = case
    return K // form.groups * form.kernel[0] * form.kernel[1]


@pytest.fixture
def pointers(monkeypatch):
    """A GPU without Hopper's copy engine."""
    monkeypatch.setattr(conv_dx, "capability", lambda: 80)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_the_reference(on, dtype, case, pointers):
    check(on, conv_dx_nhwc, *factors(case, dtype), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES)
def test_boxes_are_the_reference(on, case, monkeypatch):
    monkeypatch.setattr(conv_dx, "_by_pointers", None)
    g, w = factors(case, np.float16)
    check(on, conv_dx_nhwc, g, w, geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["k4 s2", "k3, odd size"])
def test_pointers_give_what_boxes_give(on, name, pointers):
    g, w = factors(BOXES[name], np.float16)
    check(on, conv_dx_nhwc, g, w, geometry=BOXES[name][0], reduction=terms(BOXES[name]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", [CASES["DCGAN, k4 s2"], CASES["two groups"], BOXES["k4 s2"]])
def test_bias_and_activation(on, activation, case):
    g, w = factors(case, np.float16)
    bias = draw((case[2],), np.float32, 2)
    check(on, conv_dx_fused_nhwc, g, w / 8, case[0], bias, activation, 0.2, reduction=terms(case))


@pytest.mark.parametrize("on", ON)
def test_the_bias_reaches_what_no_window_covers(on):
    case = CASES["k2 s3: borders that no window covers"]
    found = run(
        on, conv_dx_fused_nhwc, *factors(case, np.float32), case[0], np.arange(6.0)[::2], "linear", 0.0
    )
    assert (found[:, 6] == [0, 2, 4]).all()


@pytest.mark.parametrize("on", ON)
def test_any_memory(on):
    case = CASES["DCGAN, k4 s2"]
    g, w = (
        draw((2, 4, 4, 16), np.float32, 0, (0, 3, 1, 2))[:, ::-1],
        draw((32, 5, 4, 4), np.float32, 1, (3, 0, 1, 2))[::2],
    )
    check(on, conv_dx_nhwc, g, w, geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", [CASES["k3 x k2, s2 x s3, d3 x d2"], BOXES["k4 s2"]])
def test_an_infinite_number_reaches_its_window_alone(on, case):
    g, w = factors(case, np.float16)
    g[0, 1, 1, 2] = np.inf
    with implementation("ref"), np.errstate(invalid="ignore"):
        expected = conv_dx_nhwc(g.astype(np.float64), w.astype(np.float64), case[0])
    with np.errstate(invalid="ignore"):
        found = run(on, conv_dx_nhwc, g, w, case[0])
    assert (np.isfinite(found) == np.isfinite(expected)).all()
    assert np.isfinite(found).any() and not np.isfinite(found).all()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_epilogue_s_reference_is_torch_s(activation):
    form = geometry((8, 6), (4, 4), (2, 2), (1, 1))
    g, w, bias = (
        draw((2, *form.out, 5), np.float64, 0),
        draw((5, 3, 4, 4), np.float64, 1),
        draw((3,), np.float64, 2),
    )
    y = torch.nn.functional.conv_transpose2d(*map(torch.from_numpy, (g.transpose(0, 3, 1, 2), w, bias)), 2, 1)
    found = conv_dx_fused_nhwc(g, w, form, bias, activation, 0.0)
    compare(found, getattr(torch, activation)(y).numpy().transpose(0, 2, 3, 1), np.float64)


@pytest.mark.parametrize("odd", [0, 1])
def test_memory_that_the_copy_engine_cannot_fetch(odd):
    g, w = factors(BOXES["k4 s2"], np.float16)
    odd_g, odd_w = (_shifted(a, by) for a, by in ((g, 1 - odd), (w.transpose(1, 2, 3, 0), odd)))
    with implementation("triton"):
        found = conv_dx_nhwc(odd_g, odd_w.transpose(3, 0, 1, 2), BOXES["k4 s2"][0])
    compare(
        found, conv_dx_nhwc(g.astype(np.float64), w.astype(np.float64), BOXES["k4 s2"][0]), np.float16, 512
    )


def _shifted(array, by: int):
    """A contiguous copy, `by` numbers behind where the allocator would put it."""
    memory = np.empty(array.size + by, array.dtype)[by:].reshape(array.shape)
    memory[...] = array
    return memory


def test_what_is_not_covered_is_said():
    form = geometry((3, 3), (3, 3))
    with implementation("triton"), pytest.raises(UserError, match="conv_dx_nhwc in Triton: dtype int32"):
        conv_dx_nhwc(np.ones((1, 1, 1, 2), np.int32), np.ones((2, 1, 3, 3), np.int32), form)
    with implementation("triton"), pytest.raises(UserError, match="expected one dtype"):
        conv_dx_nhwc(np.ones((1, 1, 1, 2), np.float32), np.ones((2, 1, 3, 3), np.float16), form)
    with implementation("triton"), pytest.raises(UserError, match="activation 'swish'"):
        conv_dx_fused_nhwc(np.ones((1, 1, 1, 2)), np.ones((2, 1, 3, 3)), form, None, "swish", 0.0)
