"""Weights in the kernels' orders: values, types, memories of w, sizes that no box divides."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan.kernels.prepack import prepack
from tests.kernels.harness import ON, check, draw, run

SHAPES = [
    (64, 3, 4, 4),
    (5, 7, 3, 3),
    (1, 1, 1, 1),
    (70, 65, 1, 1),
    (3, 2, 5, 7),
    (2, 3, 1, 9),
    (0, 3, 2, 2),
    (3, 0, 2, 2),
]
ORDERS = [None, (0, 2, 3, 1), (1, 2, 3, 0), (1, 0, 3, 2)]  # the last has no axis of taps: it is copied


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ORDERS)
def test_is_the_reference(on, shape, order):
    for have, want in (
        (np.float32, np.float16),
        (np.float16, np.float16),
        (np.float64, np.float64),
        (np.float32, np.float32),
    ):
        check(on, prepack, draw(shape, have, 0, order), np.dtype(want), dtype=want)


@pytest.mark.parametrize("on", ON)
def test_flipped_and_with_gaps(on):
    w = draw((6, 10, 3, 4), np.float32)
    for view in (w[:, :, ::-1, ::-1], w[::2, 1:8], w[:, :, :, 1:3], w.transpose(1, 0, 2, 3)):
        check(on, prepack, view, np.dtype(np.float32))


@pytest.mark.parametrize("on", ON)
def test_numbers_are_copied_as_they_are(on):
    w = np.array([np.inf, -np.inf, np.nan, 1e-40, -0.0, 1e5], np.float32).reshape(1, 6, 1, 1)
    for packed in run(on, prepack, w, np.dtype(np.float32)):
        np.testing.assert_array_equal(packed.ravel(), w.ravel())
    with np.errstate(over="ignore"):
        expected, found = w.ravel().astype(np.float16), run(on, prepack, w, np.dtype(np.float16))[0]
    np.testing.assert_array_equal(found.ravel(), expected)
