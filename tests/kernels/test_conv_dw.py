"""The adjoint of convolution in w in Triton: values over geometries, both kernels, splits; the triple's derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan import functional as F
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels.conv import conv_dw_nhwc, conv_dx_nhwc, conv_nhwc
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import conv_dw
from tests.kernels.harness import ON, check, compare, draw, run
from tests.kernels.test_conv_dx import CASES, geometry

TYPES = [np.float16, np.float32, np.float64]
BOXES = {  # what Hopper's copy engine serves: geometry, N, C, K
    "k4 s2": (geometry((8, 16), (4, 4), (2, 2), (1, 1)), 3, 40, 64),
    "k3": (geometry((4, 8), (3, 3), (1, 1), (1, 1)), 3, 32, 72),
    "k3 x k2, s2 x s3, d2 x d1": (geometry((8, 9), (3, 2), (2, 3), (2, 1), (2, 1)), 2, 40, 64),
    "two splits": (geometry((12, 16), (1, 1)), 2, 32, 64),
    "half a row": (geometry((1, 128), (1, 2), (1, 1), (0, 1), (1, 2)), 1, 32, 64),
    "one window": (geometry((2, 3), (2, 3)), 3, 32, 64),
}


def factors(case, dtype):
    """Random x and g of a case."""
    form, N, C, K = case
    return draw((N, *form.size, C), dtype, 0), draw((N, *form.out, K), dtype, 1)


def terms(case) -> int:
    """How many products a number of dw adds up at the most."""
    form, N, _, _ = case
    return max(1, N * form.out[0] * form.out[1])


@pytest.fixture
def pointers(monkeypatch):
    """A GPU without Hopper's copy engine."""
    monkeypatch.setattr(conv_dw, "capability", lambda: 80)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_the_reference(on, dtype, case, pointers):
    check(on, conv_dw_nhwc, *factors(case, dtype), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES)
def test_boxes_are_the_reference(on, case, monkeypatch):
    monkeypatch.setattr(conv_dw, "_by_pointers", None)
    check(on, conv_dw_nhwc, *factors(case, np.float16), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
def test_pointers_give_what_boxes_give(on, pointers):
    case = BOXES["half a row"]
    check(on, conv_dw_nhwc, *factors(case, np.float16), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
def test_many_splits_are_added_up_the_same_way_every_time(on):
    case = geometry((24, 16), (1, 1)), 1, 3, 4
    x, g = factors(case, np.float16)
    first, second = (run(on, conv_dw_nhwc, x, g, case[0]) for _ in range(2))
    assert (first == second).all()
    with implementation("ref"):
        expected = conv_dw_nhwc(x.astype(np.float64), g.astype(np.float64), case[0])
    compare(first, expected, np.float16, terms(case))


@pytest.mark.parametrize("on", ON)
def test_any_memory(on):
    case = CASES["DCGAN, k4 s2"]
    x, g = (
        draw((2, 8, 8, 5), np.float32, 0, (0, 3, 1, 2))[:, ::-1],
        draw((2, 4, 4, 32), np.float32, 1)[..., ::2],
    )
    check(on, conv_dw_nhwc, x, g, case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
def test_an_infinite_number_reaches_its_taps_alone(on):
    case = CASES["k3 x k2, s2 x s3, d3 x d2"]
    x, g = factors(case, np.float16)
    x[0, 0, 0, 1] = np.inf
    with implementation("ref"), np.errstate(invalid="ignore"):
        expected = conv_dw_nhwc(x.astype(np.float64), g.astype(np.float64), case[0])
    with np.errstate(invalid="ignore"):
        found = run(on, conv_dw_nhwc, x, g, case[0])
    assert np.isfinite(found[:, [0, *range(2, found.shape[1])]]).all()
    assert (np.isfinite(found) >= np.isfinite(expected)).all() and not np.isfinite(found).all()


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["DCGAN, k4 s2", "k3 x k2, s2 x s3, d3 x d2", "depthwise"])
def test_the_adjoints_share_one_trilinear_form(on, name):
    form, _, C, K = CASES[name]
    x, g = factors(CASES[name], np.float64)
    w = draw((K, C // form.groups, *form.kernel), np.float64, 2)
    with implementation("ref"):
        expected = (g * conv_nhwc(x, w, form)).sum()
    found = (x * run(on, conv_dx_nhwc, g, w, form)).sum(), (w * run(on, conv_dw_nhwc, x, g, form)).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_is_torch_s_gradient():
    case = CASES["k3 s2 d2: a phase without taps"]
    form, (x, g) = case[0], factors(case, np.float64)
    w = torch.zeros(16, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv2d(torch.from_numpy(x.transpose(0, 3, 1, 2)), w, None, 2, 1, 2)
    y.backward(torch.from_numpy(g.transpose(0, 3, 1, 2)))
    compare(run("interpreter", conv_dw_nhwc, x, g, form), w.grad.numpy(), np.float64, terms(case))


@pytest.mark.parametrize("check_order", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    "form", [{"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2, "groups": 2}], ids=str
)
@pytest.mark.parametrize("layer", [F.conv2d, F.conv_transpose2d])
def test_layers_have_both_derivatives(layer, form, check_order):
    x, w = draw((2, 4, 4, 3), np.float64, 0), draw((4, 4 // form.get("groups", 1), 3, 2), np.float64, 1)
    with implementation("triton"):
        check_order(lambda x, w, b: layer(x, w, b, **form), [x, w, draw((4,), np.float64, 2)])


def test_what_is_not_covered_is_said():
    form = geometry((3, 3), (3, 3))
    with implementation("triton"), pytest.raises(UserError, match="conv_dw_nhwc in Triton: dtype int32"):
        conv_dw_nhwc(np.ones((1, 3, 3, 2), np.int32), np.ones((1, 1, 1, 2), np.int32), form)
    with implementation("triton"), pytest.raises(UserError, match="expected one dtype"):
        conv_dw_nhwc(np.ones((1, 3, 3, 2), np.float32), np.ones((1, 1, 1, 2), np.float16), form)
