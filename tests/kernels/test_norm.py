"""Normalisation and sums in Triton: any axes, memory orders, chunks, digits far from zero, derivatives."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
import torch

import scratchgan
from scratchgan import functional as F
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import launch
from scratchgan.kernels.gpu import sums as gpu_sums
from scratchgan.kernels.norm import moments, moments_from_sums, normalize, normalize_vjp, scale_shift
from scratchgan.kernels.sums import total
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

GROUPS_LAST = (0, 3, 4, 1, 2)  # channels-last memory of (N, groups, channels of a group, H, W)
SETTINGS = {  # shape, axes, shape of the weight
    "batch": ((3, 6, 4, 5), (0, 2, 3), (1, 6, 1, 1)),
    "batch of vectors": ((7, 5), (0,), (1, 5)),
    "batch of 2x2": ((5, 19, 2, 2), (0, 2, 3), (1, 19, 1, 1)),
    "instance": ((2, 5, 4, 3), (2, 3), (1, 5, 1, 1)),
    "adaptive instance": ((2, 5, 4, 3), (2, 3), (2, 5, 1, 1)),
    "no weight": ((2, 5, 4, 3), (2, 3), None),
    "layer": ((3, 6, 2, 5), (1, 2, 3), (1, 6, 2, 5)),
    "layer of columns": ((3, 2, 4, 5), (3,), (1, 1, 1, 5)),
    "layer without a weight": ((3, 6, 2, 5), (1, 2, 3), None),
    "group": ((2, 3, 4, 3, 5), (2, 3, 4), (1, 3, 4, 1, 1)),
    "group of 1x1": ((2, 3, 4, 1, 1), (2, 3, 4), (1, 3, 4, 1, 1)),
    "all": ((2, 3, 5, 4), (0, 1, 2, 3), None),
    "one number": ((1, 1, 1, 1), (0, 2, 3), (1, 1, 1, 1)),
    "no image": ((0, 3, 2, 2), (0, 2, 3), (1, 3, 1, 1)),
    "no channel": ((2, 0, 2, 2), (0, 2, 3), (1, 0, 1, 1)),
}


def orders(shape):
    return [None, {4: CHANNELS_LAST, 5: GROUPS_LAST}.get(len(shape), tuple(range(len(shape)))[::-1])]


CASES = [(name, order) for name, (shape, *_) in SETTINGS.items() for order in orders(shape)]


@pytest.fixture
def chunks(request, monkeypatch):
    """Whether small arrays are summed in many chunks."""
    if getattr(request, "param", True):
        tiles = {"BLOCK": 64, "WIDTH": 8, "PROGRAMS": 1024, "num_warps": 4}
        monkeypatch.setattr(gpu_sums, "DEFAULTS", dict.fromkeys(gpu_sums.DEFAULTS, tiles))


def arguments(name, order, dtype):
    """x, g, statistics of x in the precision of sums, weight and bias."""
    shape, axes, weight = SETTINGS[name]
    x, g = draw(shape, dtype, 0, order) * dtype(2) + dtype(1), draw(shape, dtype, 1, order)
    wide = np.float64 if dtype is np.float64 else np.float32
    with implementation("ref"):
        mean, variance = moments(x.astype(wide), axes)
    w, b = (draw(weight, wide, seed) if weight else None for seed in (2, 3))
    return axes, x, g, mean, (variance + wide(1e-3)) ** -0.5, w, b


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name, order", CASES)
def test_is_the_reference(on, name, order, wide):
    dtype = (np.float64 if order else np.float32) if wide else np.float16
    axes, x, g, mean, rstd, w, b = arguments(name, order, dtype)
    count = max(1, x.size // max(1, mean.size))
    check(on, moments, x, axes, reduction=count, dtype=mean.dtype)
    check(on, normalize, x, mean, rstd, w, b)
    check(on, normalize_vjp, g, x, mean, rstd, w, axes, reduction=count)
    if w is not None:
        check(on, scale_shift, x, w, b)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name, order", [("batch", None), ("batch", CHANNELS_LAST), ("batch of 2x2", None),
                                         ("instance", CHANNELS_LAST), ("layer", CHANNELS_LAST), ("all", None),
                                         ("group", None), ("group", GROUPS_LAST), ("no image", None)],
)  # fmt: skip
def test_in_many_chunks(on, name, order, chunks):
    axes, x, g, mean, rstd, w, _ = arguments(name, order, np.float32)
    if w is None or w.shape[axes[-1]] == 1:
        x, g = (np.concatenate([a] * 3, axis=axes[-1]) for a in (x, g))
    check(on, moments, x, axes, reduction=x.size)
    check(on, normalize_vjp, g, x, mean, rstd, w, axes, reduction=x.size)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name, order", [("batch", None), ("instance", CHANNELS_LAST), ("group", None),
                                         ("layer", CHANNELS_LAST), ("group", GROUPS_LAST)])  # fmt: skip
def test_in_many_tiles(on, name, order):
    axes, x, g, mean, rstd, w, b = arguments(name, order, np.float32)
    with launch.trying(BLOCK=64, WIDTH=8):
        check(on, normalize, x, mean, rstd, w, b)
        check(on, normalize_vjp, g, x, mean, rstd, w, axes, reduction=x.size)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("chunks", [False, True], indirect=True)
@pytest.mark.parametrize("name, order", [("batch", None), ("batch", CHANNELS_LAST), ("layer", CHANNELS_LAST),
                                         ("group", GROUPS_LAST)])  # fmt: skip
def test_data_far_from_zero_keeps_its_digits(on, name, order, chunks):
    """float32 against float64: the error stays that of x itself, whose digits the offset eats."""
    (shape, axes, weight), offset = SETTINGS[name], 1e4
    x = draw((6, *shape[1:-1], 9), np.float32, 0, order) + np.float32(offset)
    w = draw((*weight[:-1], 1 if weight[-1] == 1 else 9), np.float32, 2)
    g = draw(x.shape, np.float32, 1, order)

    def everything(run):
        mean, variance = run(moments, x, axes)
        rstd = (variance + 1e-5) ** -0.5
        y = run(normalize, x, mean, rstd, w, None)
        return [variance, y, *run(normalize_vjp, g, x, mean, rstd, w, axes)]

    narrow = everything(lambda kernel, *args: run(on, kernel, *args))
    x, g, w = (a.astype(np.float64) for a in (x, g, w))
    wide = everything(lambda kernel, *args: kernel.reference(*args))
    for a, b in zip(narrow, wide):
        assert a.dtype == np.float32
        assert abs(a - b).max() <= (1e-5 + 2e-7 * offset) * abs(b).max()


@pytest.mark.parametrize("on", ON)
def test_a_step_in_the_data_is_no_loss(on):
    """The first numbers are far from all others: sums shifted by them would lose digits."""
    x = draw((1, 1, 64, 64)) + np.float32(1e4)
    x[..., 0, :] = 0
    with launch.trying(BLOCK=64, WIDTH=64):
        mean, variance = run(on, moments, x, (2, 3))
    np.testing.assert_allclose(variance.item(), x.astype(np.float64).var(), rtol=1e-5)
    np.testing.assert_allclose(mean.item(), x.astype(np.float64).mean(), rtol=1e-6)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", [None, CHANNELS_LAST])
def test_a_channel_of_equal_numbers_is_its_mean(on, order, chunks):
    """With eps = 1e-8 the last digit of a mean of 1000 would become 0.6."""
    x = draw((6, 3, 7, 9), np.float32, 0, order) * 0 + np.float32([1234.567, 7e8, -0.1])[:, None, None]
    mean, variance = run(on, moments, x, (0, 2, 3))
    assert (mean == x[:1, :, :1, :1]).all() and (variance <= 1e-20 * mean**2).all()


@pytest.mark.parametrize("on", ON)
def test_gaps_steps_backwards_and_repeated_numbers(on):
    x = draw((4, 6, 5, 9))[::-1, ::2, :, 1:8]
    g = np.broadcast_to(draw((1, 3, 1, 1), seed=1), x.shape)
    mean, w = draw((1, 3, 1, 1), seed=2), draw((3, 2, 1, 1), seed=3)[:, 1:].transpose(1, 0, 2, 3)
    check(on, moments, x, (0, 2, 3), reduction=200)
    check(on, normalize, x, mean, abs(mean), w, None)
    check(on, normalize_vjp, g, x, mean, abs(mean), w, (0, 2, 3), reduction=200)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", [CHANNELS_LAST, None])
def test_a_weight_and_a_bias_of_different_shapes(on, order):
    x, scale, shift = draw((2, 3, 4, 5), np.float32, 0, order), draw((2, 3, 1, 1)), draw((1, 3, 4, 1), seed=1)
    check(on, scale_shift, x, scale, shift)
    check(on, scale_shift, x, scale, shift[0])


@pytest.mark.parametrize("on", ON)
def test_float16_statistics_do_not_overflow(on):
    x = draw((2, 3, 4, 4), np.float16) * np.float16(8000)
    mean, variance = run(on, moments, x, (0, 2, 3))
    assert mean.dtype == variance.dtype == np.float32 and np.isfinite(variance).all()
    y = run(on, normalize, x, mean, variance**-0.5, None, None)
    assert y.dtype == np.float16 and abs(y.astype(np.float64).var() - 1) < 1e-2


@pytest.mark.parametrize("on", ON)
def test_not_a_number_and_infinity_stay_in_their_channel(on):
    x = draw((2, 3, 4, 4))
    x[1, 0, 2, 3], x[0, 1, 0, 0] = np.nan, np.inf
    for found in run(on, moments, x, (0, 2, 3)):
        bad, worse, good = found[0]
        assert np.isnan(bad).all() and not np.isfinite(worse).any() and np.isfinite(good).all()


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_from_sums(on, dtype):
    x = draw((6, 37), np.float64) + 3
    sums, squares = x.sum(axis=0).astype(dtype), (x * x).sum(axis=0).astype(dtype)
    check(on, moments_from_sums, sums, squares, 6)
    _, variance = run(on, moments_from_sums, sums, squares, 6)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-5)
    same = np.full(4, 0.1, dtype)
    assert (run(on, moments_from_sums, 3 * same, 3 * same * same, 3)[1] >= 0).all()
    assert np.isnan(run(on, moments_from_sums, same, same * np.nan, 3)[1]).all()


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", [None, CHANNELS_LAST, (3, 1, 0, 2)])
@pytest.mark.parametrize("axis", list(chain.from_iterable(combinations(range(4), k) for k in range(5))))
def test_sums_over_any_axes(on, axis, order, chunks):
    x = draw((3, 6, 4, 5), np.float32, 0, order)
    check(on, total, x, axis, reduction=x.size)
    if order is None:
        check(on, total, x[:2], axis, True, reduction=x.size)


@pytest.mark.parametrize("on", ON)
def test_sums_of_what_is_no_float32(on):
    for dtype in (np.float16, np.float64, np.int32, np.uint8, np.bool_):
        x = (draw((5, 70)) * 10).astype(dtype)
        expected = x.sum(axis=1)
        found = run(on, total, x, (-1,))
        assert found.dtype == expected.dtype
        compare(found, expected.astype(np.float64), np.float16 if dtype == np.float16 else np.float64, 70)
    assert run(on, total, np.zeros((0, 3)), (0,)).tolist() == [0, 0, 0]
    assert run(on, total, np.ones(()), ()) == 1


@pytest.mark.parametrize("on", ON)
def test_equal_numbers_give_equal_bits(on, chunks):
    x = draw((4, 5, 8, 8), np.float32, 0, CHANNELS_LAST)
    assert gpu_sums.Plan("moments", x, (1, 4 * 8 * 8, 5, 1)).chunks > 1
    one, other = (run(on, moments, x, (0, 2, 3)) for _ in range(2))
    assert [a.tobytes() for a in one] == [a.tobytes() for a in other]


TORCH = torch.nn.functional
FUNCTIONS = {  # ours, PyTorch's, shape of x, shape of weight and bias
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                   lambda x, w, b: TORCH.batch_norm(x, None, None, w, b, training=True), (3, 4, 3, 2), (4,)),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
                      lambda x, w, b: TORCH.instance_norm(x, weight=w, bias=b), (2, 3, 3, 2), (3,)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (3, 3, 2), w, b),
                   lambda x, w, b: TORCH.layer_norm(x, (3, 3, 2), w, b), (2, 3, 3, 2), (3, 3, 2)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b),
                   lambda x, w, b: TORCH.group_norm(x, 2, w, b), (2, 4, 3, 2), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_derivative_agrees_with_differences(name):
    ours, _, shape, parameters = FUNCTIONS[name]
    inputs = [draw(shape, np.float64, 0, CHANNELS_LAST), *(draw(parameters, np.float64, i) for i in (1, 2))]
    with implementation("triton"):
        gradcheck(ours, inputs)
        gradgradcheck(ours, inputs)


@pytest.mark.parametrize("choice", ["ref", "triton"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient_are_pytorchs(name, choice):
    ours, theirs, shape, parameters = FUNCTIONS[name]
    arrays = [draw(shape, np.float64, 0), draw(parameters, np.float64, 1), draw(parameters, np.float64, 2)]
    g = draw(shape, np.float64, 3)
    mine = [scratchgan.tensor(a, requires_grad=True) for a in arrays]
    with implementation(choice):
        y = ours(*mine)
        y.backward(scratchgan.tensor(g))
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    expected.backward(torch.from_numpy(g))
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    for a, b in zip(mine, tensors):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_what_is_not_covered_is_said():
    with implementation("triton"), pytest.raises(UserError, match="moments in Triton: dtype int64"):
        moments(np.ones((2, 2), int), (0,))
    with implementation("triton"), pytest.raises(UserError, match="5 runs of axes"):
        scale_shift(np.ones((2,) * 5), *[np.ones(s) for s in ((2, 1, 2, 1, 2), (2, 1, 2, 1, 2))])
