"""Sums by BLAS against NumPy's in float64: every set of axes, memory orders, sizes that leave a rest."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest

from scratchgan.kernels import sums
from scratchgan.kernels.sums import total
from tests.double import DoubleArray, device

SHAPE = (7, 6, 5, 9)
AXES = list(chain.from_iterable(combinations(range(4), k) for k in range(5)))
LAYOUTS = {
    "as it comes": lambda a: a,
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "reversed": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
}


@pytest.fixture(autouse=True, params=["one thread", "threads"])
def small_arrays_are_large(request, monkeypatch):
    monkeypatch.setattr(sums, "LARGE", 1)
    monkeypatch.setattr(sums, "SHARED", 1 if request.param == "threads" else 1 << 22)
    monkeypatch.setattr(sums, "PIECE", 4)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_numpys(layout, axis, keepdims):
    x = LAYOUTS[layout](np.random.default_rng(0).standard_normal(SHAPE))
    expected = x.sum(axis=axis, keepdims=keepdims)
    found = total(x, axis, keepdims)
    assert found.shape == expected.shape and found.dtype == x.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1,), (5, 1), (1, 1, 1)])
def test_empty_axes_and_axes_of_size_one(shape):
    x = np.ones(shape, np.float32)
    for axis in chain.from_iterable(combinations(range(x.ndim), k) for k in range(x.ndim + 1)):
        np.testing.assert_array_equal(total(x, axis), x.sum(axis=axis))


def test_integers_and_half_floats_are_numpys():
    for dtype in (np.int64, bool, np.float16):
        x = np.ones((300, 7), dtype)
        assert total(x, (0,)).dtype == x.sum(axis=0).dtype and total(x, (0,))[0] == 300


def test_float32_is_as_accurate_as_numpys(monkeypatch):
    monkeypatch.undo()
    x = (1 + np.random.default_rng(1).random((300, 1000))).astype(np.float32)
    for axis in ((0,), (1,), (0, 1)):
        exact = x.sum(axis=axis, dtype=np.float64)
        assert np.abs(total(x, axis) / exact - 1).max() < 3e-7


def test_nan_and_infinity_stay():
    x = np.ones((8, 8))
    x[2, 3], x[5, 1] = np.nan, np.inf
    np.testing.assert_array_equal(total(x, (1,)), x.sum(axis=1))


def test_device_arrays_use_their_own_sum():
    found = total(device(np.ones((8, 8))), (0,))
    assert isinstance(found, DoubleArray) and (found.get() == 8).all()


def test_same_bits_on_any_number_of_threads(monkeypatch):
    x = np.random.default_rng(2).standard_normal((97, 33)).astype(np.float32)
    alone = {}
    for workers in (1, 2):
        monkeypatch.setattr("scratchgan.backend.workers", workers)
        for axis in ((0,), (1,), (0, 1)):
            assert alone.setdefault(axis, total(x, axis).tobytes()) == total(x, axis).tobytes()
