"""The convolution triple against PyTorch, as adjoints of one another, and on the strict double of CuPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scratchgan.kernels import columns, tiles, transposed, winograd
from scratchgan.kernels.conv import conv, conv_dw, conv_dx
from scratchgan.kernels.geometry import Geometry
from tests.double import DoubleArray, device


@pytest.fixture(autouse=True, params=["one thread", "threads"])
def shared(request, monkeypatch):
    """Threads take part in everything or in nothing."""
    monkeypatch.setattr(columns, "SHARED", 0 if request.param == "threads" else math.inf)


def uncached(monkeypatch, module, name):
    monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)


# N, C, K, spatial sizes, kernel, stride, padding, dilation, groups
ODD = [
    (2, 3, 4, (7, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (3, 5, 2, (6, 9), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 3, 5, (6, 9), (1, 1), (2, 3), (0, 1), (1, 1), 1),
    (2, 3, 2, (4, 5), (1, 2), (1, 1), (2, 2), (1, 1), 1),
    (2, 4, 6, (8, 8), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (5, 4, 6, (9, 7), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (2, 3, 5, (11, 6), (4, 2), (2, 1), (1, 0), (1, 1), 1),
    (3, 2, 7, (5, 5), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (2, 2, 3, (10, 11), (5, 5), (2, 2), (2, 2), (1, 1), 1),
    (2, 2, 3, (12, 8), (6, 6), (2, 2), (2, 2), (1, 1), 1),
    (1, 2, 3, (9, 12), (7, 3), (3, 1), (3, 0), (1, 1), 1),
    (2, 1, 1, (8, 8), (7, 7), (1, 2), (3, 3), (1, 1), 1),
    (2, 3, 2, (10, 9), (3, 2), (1, 2), (2, 1), (2, 3), 1),
    (2, 3, 2, (9, 9), (3, 3), (2, 3), (2, 3), (2, 3), 1),
    (2, 2, 3, (7, 8), (2, 2), (3, 3), (0, 0), (1, 1), 1),
    (1, 2, 3, (1, 2), (1, 1), (7, 7), (3, 3), (1, 1), 1),
    (3, 2, 2, (2, 3), (4, 4), (1, 1), (2, 2), (1, 1), 1),
    (2, 4, 6, (9, 8), (4, 4), (2, 2), (1, 1), (1, 1), 2),
    (2, 6, 6, (7, 8), (3, 3), (1, 1), (1, 1), (1, 1), 6),
    (2, 3, 6, (7, 8), (4, 3), (2, 1), (1, 1), (1, 2), 3),
    (0, 3, 4, (7, 6), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (0, 4, 6, (8, 8), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (2, 3, 5, (9,), (3,), (2,), (1,), (1,), 1),
    (2, 4, 6, (10,), (4,), (2,), (1,), (1,), 2),
    (4, 2, 3, (11,), (3,), (1,), (2,), (2,), 1),
    (0, 2, 3, (5,), (5,), (1,), (0,), (1,), 1),
    (3, 2, 3, (11, 10), (6, 4), (3, 2), (3, 0), (1, 1), 1),
    (3, 2, 4, (7, 8), (2, 3), (1, 1), (0, 0), (1, 1), 1),
    (5, 3, 2, (6, 5), (4, 6), (2, 2), (3, 4), (1, 1), 1),
    (2, 2, 2, (3, 3), (6, 6), (2, 2), (5, 5), (1, 1), 1),
    (0, 2, 3, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
]
# Layers of real networks, and what lies just off them: several blocks, both threads, each way to do conv_dx.
LAYERS = [
    (66, 1, 64, (32, 32), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (19, 3, 64, (32, 32), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (33, 16, 32, (16, 16), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (5, 64, 32, (9, 10), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (1, 128, 256, (8, 8), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (9, 100, 96, (7, 6), (4, 4), (2, 2), (2, 0), (1, 1), 1),
    (9, 256, 1, (4, 4), (4, 4), (1, 1), (0, 0), (1, 1), 1),
    (9, 256, 100, (4, 4), (4, 4), (1, 1), (0, 0), (1, 1), 1),
    (33, 16, 24, (16, 16), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 128, 160, (7, 9), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (9, 64, 32, (18, 17), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (9, 32, 32, (9, 9), (5, 5), (1, 1), (2, 2), (1, 1), 1),
    (9, 24, 24, (12, 12), (3, 3), (1, 1), (1, 1), (1, 1), 24),
    (9, 64, 32, (330,), (3,), (1,), (1,), (1,), 1),
    (9, 32, 64, (320,), (4,), (2,), (1,), (1,), 1),
    (9, 24, 24, (24, 24), (5, 5), (2, 2), (0, 0), (1, 1), 1),
    (5, 12, 12, (63, 64), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (3, 12, 20, (30, 31), (7, 5), (3, 2), (2, 1), (1, 1), 2),
    (5, 8, 16, (13, 12), (2, 3), (3, 2), (0, 0), (1, 1), 1),
]


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def arguments(case, dtype=np.float64, layout=np.ascontiguousarray):
    """x, w, a gradient for y, the shared settings, and PyTorch's y, dx, dw in float64."""
    n, c, k, size, kernel, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, *size)).astype(dtype)
    w = rng.standard_normal((k, c // groups, *kernel)).astype(dtype)
    tx, tw = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w))
    fn = torch.nn.functional.conv2d if len(size) == 2 else torch.nn.functional.conv1d
    ty = fn(tx, tw, None, stride, padding, dilation, groups)
    g = rng.standard_normal(tuple(ty.shape)).astype(dtype)
    tdx, tdw = torch.autograd.grad(ty, (tx, tw), torch.tensor(g, dtype=torch.float64))
    expected = ty.detach().numpy(), tdx.numpy(), tdw.numpy()
    return layout(x), w, layout(g), (stride, padding, dilation, groups), expected


def triple(x, w, g, settings):
    return conv(x, w, *settings), conv_dx(g, w, x.shape, *settings), conv_dw(x, g, w.shape, *settings)


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= tolerance * max(1, np.abs(expected).max(initial=0))


@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last, np.asfortranarray])
@pytest.mark.parametrize("case", ODD + LAYERS, ids=str)
def test_equals_torch_in_float64(case, layout):
    x, w, g, settings, expected = arguments(case, layout=layout)
    for actual, wanted in zip(triple(x, w, g, settings), expected):
        assert actual.dtype == np.float64
        assert_near(actual, wanted, 1e-12)


@pytest.mark.parametrize("case", ODD + LAYERS, ids=str)
def test_equals_torch_in_float32(case):
    x, w, g, settings, expected = arguments(case, np.float32, channels_last)
    for actual, wanted in zip(triple(x, w, g, settings), expected):
        assert actual.dtype == np.float32
        assert_near(actual, wanted, 1e-5)


@pytest.mark.parametrize("gathering_takes", [-1, math.inf], ids=["gathered", "scattered"])
@pytest.mark.parametrize("case", [case for case in ODD + LAYERS if max(case[5]) > 1], ids=str)
def test_both_ways_of_conv_dx_equal_torch(case, gathering_takes, monkeypatch):
    """At a stride, whatever the number of channels."""
    monkeypatch.setattr(transposed, "_gathered_time", lambda *_: gathering_takes)
    uncached(monkeypatch, transposed, "gathering_pays")
    x, w, g, settings, (_, expected, _) = arguments(case, layout=channels_last)
    assert_near(conv_dx(g, w, x.shape, *settings), expected, 1e-12)
    assert_near(conv_dx(device(g), device(w), x.shape, *settings).get(), expected, 1e-12)


@pytest.mark.parametrize("T", [2, 4, 8])
@pytest.mark.parametrize("case", ODD + LAYERS, ids=str)
def test_pixels_side_by_side_equal_torch(case, T, monkeypatch):
    """Wherever Q is a multiple of T, as multiplications are said to cost nothing."""
    monkeypatch.setattr(tiles, "COUNTS", (1, T))
    monkeypatch.setattr(tiles, "MULTIPLY", 0)
    uncached(monkeypatch, tiles, "fastest")
    x, w, g, settings, expected = arguments(case, layout=channels_last)
    for actual, wanted in zip(triple(x, w, g, settings), expected):
        assert_near(actual, wanted, 1e-12)


def winograd_covers(case) -> bool:
    n, c, _, size, kernel, stride, padding, dilation, groups = case
    return len(size) == 2 and winograd.covers(Geometry(size, kernel, size, stride, padding, dilation, groups))


COVERED = [case for case in ODD + LAYERS if winograd_covers(case)]


@pytest.fixture
def winograd_everywhere(monkeypatch):
    """Whatever time it takes, and in blocks of few images."""
    monkeypatch.setattr(winograd, "_time", lambda *_: -1)
    uncached(monkeypatch, winograd, "_faster")
    monkeypatch.setattr(winograd, "TILES", 40)


def test_winograd_is_tried_at_all_sizes():
    assert len(COVERED) > 12
    assert {(case[4][0] // case[5][0], case[5][0]) for case in COVERED} >= {(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)}


@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last, np.asfortranarray])
@pytest.mark.parametrize("case", COVERED, ids=str)
def test_winograd_equals_torch_in_float64(case, layout, winograd_everywhere):
    x, w, g, settings, expected = arguments(case, layout=layout)
    for actual, wanted in zip(triple(x, w, g, settings), expected):
        assert_near(actual, wanted, 1e-12)


@pytest.mark.parametrize("case", COVERED, ids=str)
def test_winograd_equals_torch_in_float32(case, winograd_everywhere):
    """And gives the same bits a second time."""
    x, w, g, settings, expected = arguments(case, np.float32, channels_last)
    for actual, again, wanted in zip(triple(x, w, g, settings), triple(x, w, g, settings), expected):
        assert actual.dtype == np.float32
        assert_near(actual, wanted, 1e-5)
        assert actual.tobytes() == again.tobytes()


@pytest.mark.parametrize("case", [case for case in COVERED if case[0]], ids=str)
def test_winograd_is_what_ran(case, winograd_everywhere, monkeypatch):
    """All three: at stride 1 conv_dx may be a convolution."""
    ran = []
    for name in ("conv", "conv_dx", "conv_dw"):
        method = getattr(winograd.Winograd, name)
        monkeypatch.setattr(winograd.Winograd, name, lambda *args, m=method, n=name: ran.append(n) or m(*args))
    x, w, g, settings, _ = arguments(case)
    triple(x, w, g, settings)
    assert {"conv", "conv_dw"} <= set(ran)
    assert "conv_dx" in ran or case[5] == (1, 1)


def test_winograd_is_for_many_channels_on_the_host():
    layer = Geometry((16, 16), (4, 4), (8, 8), (2, 2), (1, 1), (1, 1), 1)
    x = np.zeros((64, 16, 16, 64), np.float32)
    assert winograd.pays(x, layer, 64, 128)
    assert not winograd.pays(x[..., :3], layer, 3, 64)
    assert not winograd.pays(x[:1], layer, 64, 128)         # most of the time would go into the weights
    assert not winograd.pays(x[:0], layer, 64, 128)
    assert not winograd.pays(x.astype(np.float16), layer, 64, 128)
    assert not winograd.pays(device(x), layer, 64, 128)
    assert not winograd.pays(x, layer._replace(dilation=(2, 1)), 64, 128)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_winograd_keeps_what_is_not_finite_where_it_is_read(value, winograd_everywhere):
    """Pixels of y that do not see it stay as they are."""
    x, w, _, settings, _ = arguments((1, 2, 3, (12, 12), (4, 4), (2, 2), (1, 1), (1, 1), 1))
    expected = conv(x, w, *settings)
    x[0, 1, 5, 6] = value
    y = conv(x, w, *settings)
    seen = ~np.isfinite(y[0]).all(axis=0)
    assert seen[2:4, 2:5].any() and seen.sum() == 4
    assert np.array_equal(y[0][:, ~seen], expected[0][:, ~seen])


@pytest.mark.parametrize("case", ODD, ids=str)
def test_equals_torch_on_the_device_double(case):
    x, w, g, settings, expected = arguments(case)
    for actual, wanted in zip(triple(device(x), device(w), device(g), settings), expected):
        assert isinstance(actual, DoubleArray)
        assert_near(actual.get(), wanted, 1e-12)


@pytest.mark.parametrize("case", ODD + LAYERS, ids=str)
def test_each_is_the_others_adjoint(case):
    x, w, g, settings, _ = arguments(case)
    y, dx, dw = triple(x, w, g, settings)
    form = np.vdot(g, y)
    assert np.vdot(x, dx) == pytest.approx(form, rel=1e-10, abs=1e-10)
    assert np.vdot(w, dw) == pytest.approx(form, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_same_input_gives_the_same_bits(case):
    x, w, g, settings, _ = arguments(case, np.float32, channels_last)
    for first, second in zip(triple(x, w, g, settings), triple(x, w, g, settings)):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("case", LAYERS[2:5], ids=str)
def test_inputs_are_left_alone(case):
    x, w, g, settings, _ = arguments(case, np.float32, channels_last)
    before = x.copy(), w.copy(), g.copy()
    for a in (x, w, g):
        a.flags.writeable = False
    triple(x, w, g, settings)
    for a, b in zip((x, w, g), before):
        assert np.array_equal(a, b)


def test_layout_of_the_results():
    x, w, g, settings, _ = arguments(LAYERS[2], np.float32)
    y, dx, dw = triple(x, w, g, settings)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dw.flags.c_contiguous


def test_output_padding_is_told_by_the_shape_of_x():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 2, 3, 3))
    for size in (7, 8):
        g = rng.standard_normal((2, 3, 4, 4))
        dx = conv_dx(g, w, (2, 2, size, size), (2, 2), (1, 1), (1, 1), 1)
        args = {"stride": 2, "padding": 1, "output_padding": size - 7}
        expected = torch.nn.functional.conv_transpose2d(torch.tensor(g), torch.tensor(w), **args)
        assert_near(dx, expected.numpy(), 1e-12)
