"""Products shared out among threads equal BLAS's own, whatever the shapes and the memory."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan.kernels import product as kernel
from scratchgan.kernels.product import product

SHAPES = [
    ((37, 20), (20, 50)),
    ((50, 20), (20, 37)),
    ((1, 7), (7, 1)),
    ((7, 1), (1, 5)),
    ((4, 3, 1), (1, 5)),
    ((2, 1, 6, 1), (3, 1, 4)),
    ((0, 4), (4, 3)),
    ((5, 0), (0, 3)),
    ((4, 6, 5), (4, 5, 3)),
    ((4, 6, 5), (5, 3)),
    ((6, 5), (3, 5, 4)),
    ((1, 6, 5), (3, 5, 4)),
    ((2, 1, 6, 5), (3, 5, 4)),
]


@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_equals_the_plain_product(monkeypatch, a_shape, b_shape, dtype, transposed):
    monkeypatch.setattr(kernel, "WORTH", 0)
    random = np.random.default_rng(0)
    a, b = random.standard_normal(a_shape).astype(dtype), random.standard_normal(b_shape).astype(dtype)
    if transposed:
        a, b = (np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for x in (a, b))
    found = product(a, b)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    assert found.dtype == dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mixed", [(np.int64, np.int64), (np.float32, np.float64), (bool, np.float64)])
def test_other_types_are_numpy_s(monkeypatch, mixed):
    monkeypatch.setattr(kernel, "WORTH", 0)
    for a_shape, b_shape in (((3, 3), (3, 3)), ((3, 1), (1, 3))):
        a, b = np.ones(a_shape, mixed[0]), np.ones(b_shape, mixed[1])
        assert product(a, b).dtype == (a @ b).dtype
