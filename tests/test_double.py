"""The strict double of CuPy refuses what CuPy refuses, and otherwise computes what NumPy computes."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest

from scratchgan import backend, inplace
from tests.double import DoubleArray, cupy, device


@pytest.fixture
def host():
    return np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda d, h: np.asarray(d),
        lambda d, h: np.array(d),
        lambda d, h: np.exp(d),
        lambda d, h: np.sum(d),
        lambda d, h: np.concatenate([d, d]),
        lambda d, h: np.float64(d),
        lambda d, h: np.matmul(h, d),
        lambda d, h: d + h,
        lambda d, h: h + d,
        lambda d, h: d @ h.T,
        lambda d, h: h > d,
        lambda d, h: cupy.maximum(d, h),
        lambda d, h: cupy.concatenate([d, h]),
        lambda d, h: cupy.where(h > 0, d, d),
        lambda d, h: cupy.sum(h),
        lambda d, h: d[np.array([0])],
        lambda d, h: d.__setitem__(..., h),
        lambda d, h: d.__iadd__(h),
        lambda d, h: range(cupy.sum(d)),
        lambda d, h: [0, 1][cupy.argmax(d[0, :1])],
        lambda d, h: memoryview(d),
        lambda d, h: d.sum(where=d > 0),
        lambda d, h: cupy.max(d, initial=0.0),
        lambda d, h: cupy.asarray(d).max(initial=0.0),
    ],
)
def test_refuses_with_a_type_error(mistake, host):
    with pytest.raises(TypeError):
        mistake(device(host), host)


@pytest.mark.parametrize("name", ["vecdot", "block", "errstate", "nditer", "insert", "float128", "random"])
def test_has_no_name_that_cupy_lacks(name):
    assert hasattr(np, name)
    with pytest.raises(AttributeError):
        getattr(cupy, name)


def test_has_no_flag_and_no_method_that_cupy_lacks(host):
    d = device(host)
    assert d.flags.c_contiguous and not hasattr(d.flags, "writeable")
    assert (
        not hasattr(d, "resize") and not hasattr(d, "__array_interface__") and not hasattr(d, "__imatmul__")
    )
    assert not hasattr(cupy.maximum, "at") and hasattr(cupy.add, "at")


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, a: m.exp(a) * 2 - 1 / (a + 3),
        lambda m, a: a.sum(axis=0),
        lambda m, a: a.T @ a,
        lambda m, a: a[:, 1:][::-1],
        lambda m, a: m.where(a > 2, a, 0.0),
        lambda m, a: m.concatenate([a, a], axis=1),
        lambda m, a: a[a > 2],
        lambda m, a: m.einsum("ij,kj->ik", a, a),
        lambda m, a: m.pad(a, ((1, 0), (0, 2))),
        lambda m, a: np.float32(2) * a,
        lambda m, a: m.linalg.norm(a, axis=1),
        lambda m, a: a.astype(m.float32),
        lambda m, a: 2**a,
        lambda m, a: m.split(a, 3, axis=1)[1],
        lambda m, a: m.lib.stride_tricks.as_strided(a, (2, 2, 2), (24, 8, 8)),
        lambda m, a: m.add.reduce(a, axis=1),
        lambda m, a: m.take_along_axis(a, m.argsort(-a, axis=1), axis=1),
        lambda m, a: -abs(a - 3),
        lambda m, a: m.zeros(3) + a,
    ],
)
def test_computes_what_numpy_computes(compute, host):
    expected, found = compute(np, host), compute(cupy, device(host))
    assert (
        type(found) is DoubleArray
        and found.dtype == expected.dtype
        and found.strides == np.asarray(expected).strides
    )
    np.testing.assert_array_equal(found.get(), expected)


def test_reductions_and_elements_are_arrays_on_the_device(host):
    d = device(host)
    for value in (d.sum(), cupy.max(d), d[1, 2], cupy.sqrt(2.0), next(iter(d[0]))):
        assert type(value) is DoubleArray and value.shape == ()
    assert float(d.sum()) == 15 and math.isfinite(d.sum()) and d.max().item() == 5


def test_views_share_memory_and_name_their_base(host):
    d = device(host)
    view = d.reshape(3, 2).T[1:]
    view[...] = 9
    assert view.base is d and (d.get() == 9).any() and d.base is None
    assert inplace.owner(view) is d and weakref.ref(d)() is d
    assert (d + 0).base is None and d.copy().base is None


def test_nothing_shares_memory_across_the_bus(host):
    d = cupy.asarray(host)
    d += 1
    assert host[0, 0] == 0
    back = d.get()
    back[...] = 7
    assert d.tolist()[0][0] == 1


def test_the_backend_knows_the_double(host):
    d = backend.module_of("double").asarray(host)
    assert backend.xp(d) is cupy and not backend.on_host(d) and backend.device_of(d) == "double"
    np.testing.assert_array_equal(backend.to_host(d), host)
