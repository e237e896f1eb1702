"""The standard deviation over minibatches in Triton: values, gradient, groups, the network's formula."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan.autograd import grad
from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.minibatch_std import groups, minibatch_std, minibatch_std_dx
from scratchgan.nets.equalised import minibatch_std as formula
from scratchgan.tensor import Tensor
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

SHAPES = [((4, 3, 2, 2), 4), ((8, 5, 3, 2), 4), ((7, 3, 2, 3), 3), ((2, 4, 1, 1), 4), ((1, 3, 2, 2), 4),
          ((9, 40, 4, 4), 4), ((0, 3, 2, 2), 4), ((3, 2, 0, 2), 2)]  # fmt: skip
ORDERS = [None, CHANNELS_LAST, (0, 2, 1, 3), (1, 2, 3, 0)]


def pair(shape, dtype=np.float32, order=None) -> tuple:
    """x, and a gradient of the result's shape."""
    N, C, H, W = shape
    return draw(shape, dtype, 0, order), draw((N, C + 1, H, W), dtype, 1, CHANNELS_LAST)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape, group", SHAPES)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:Mean of empty")  # of no pixels
def test_is_the_reference(on, dtype, shape, group):
    for order in ORDERS[:2]:
        x, g = pair(shape, dtype, order)
        check(on, minibatch_std, x, group, reduction=x[0].size if len(x) else 1)
        if len(x) != 1 and len(x) % group != 1:  # else sigma is 1e-4, and its inverse magnifies rounding
            check(on, minibatch_std_dx, g, x, group, reduction=group * g[0, 0].size if len(x) else 1)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(on, order):
    x, g = pair((5, 3, 2, 4), np.float32, order)
    check(on, minibatch_std, x, 2, reduction=24)
    check(on, minibatch_std_dx, g[:4], x[:4], 2, reduction=16)
    wide = draw((4, 6, 2, 8))[::-1, ::2, :, ::2]
    check(on, minibatch_std, wide, 2, reduction=24)
    check(on, minibatch_std_dx, g[:4], wide, 2, reduction=16)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("shape, group", SHAPES[:5])
def test_is_the_network_s_formula_and_gradient(on, shape, group):
    x, g = pair(shape, np.float64)
    t = Tensor(x).requires_grad_()
    y = formula(t, group)
    compare(run(on, minibatch_std, x, group), y._array, np.float64)
    compare(run(on, minibatch_std_dx, g, x, group), grad(y, t, Tensor(g))[0]._array, np.float64)


@pytest.mark.parametrize("on", ON)
def test_equal_samples_and_far_offsets(on):
    """Equal samples give sqrt(epsilon); an offset of 1000 costs deviations no more than their last digits."""
    x = np.broadcast_to(draw((1, 3, 2, 2)), (4, 3, 2, 2))
    np.testing.assert_allclose(run(on, minibatch_std, x, 4)[:, 3], 1e-4, rtol=1e-5)
    x = draw((4, 3, 2, 2))
    far = run(on, minibatch_std, x + np.float32(1000), 4)[:, 3]
    np.testing.assert_allclose(far, run(on, minibatch_std, x, 4)[:, 3], rtol=1e-4)


def test_groups_are_the_paper_s():
    assert [tuple(g) for g in groups(8, 4)] == [(0, 4, 2)]
    assert [tuple(g) for g in groups(7, 3)] == [(0, 3, 2), (6, 1, 1)]
    assert [tuple(g) for g in groups(3, 4)] == [(0, 3, 1)]
    assert groups(0, 4) == []


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="minibatch_std in Triton: groups of 65"):
        minibatch_std(np.ones((65, 1, 1, 1), np.float32), 65)
