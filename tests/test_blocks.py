"""Formulas over large arrays, cut into blocks and turned into passes over buffers: the same numbers as in
NumPy's own evaluation.
"""

import warnings
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.ops import blocks, passes
from scratchgan.ops.blocks import in_blocks, times
from scratchgan.ops.elementwise import flat, floor_quotient, remainder
from scratchgan.tensor import Tensor

SHAPE = (37, 12, 20, 17)
RNG = np.random.default_rng(0)
DENSE = RNG.standard_normal(SHAPE)
LAYOUTS = {
    "C": DENSE,
    "channels_last": RNG.standard_normal((37, 20, 17, 12)).transpose(0, 3, 1, 2),
    "strided": RNG.standard_normal((37, 24, 20, 17))[:, ::2],
    "reversed": DENSE[:, :, ::-1],
    "broadcast": np.broadcast_to(RNG.standard_normal((37, 1, 20, 1)), SHAPE),
    "float32": DENSE.astype(np.float32),
}
OTHERS = {
    **LAYOUTS,
    "channels": RNG.standard_normal((12, 1, 1)),
    "images": RNG.standard_normal((37, 1, 1, 1)),
    "number": 1.5,
    "float32 number": np.float32(1.5),
    "no axes": np.array(0.3),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 1)
    monkeypatch.setattr(blocks, "BLOCK", 1 << 10)


def formula(a, b, *, slope=0.5):
    """Values that are read again after others were made, comparisons, numbers on either side, `+=`."""
    product = a * b
    kept = product + a
    kept += 1
    low = np.maximum(kept, slope * b)
    return (2 - low) * (a > 0) + product / (1 + b * b) - np.minimum(3.0, kept)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_change_nothing(layout, other):
    a, b = LAYOUTS[layout], OTHERS[other]
    found, expected = in_blocks(formula)(a, b, slope=0.25), formula(a, b, slope=0.25)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6 if found.dtype == np.float32 else 1e-14, atol=1e-15)
    if layout == "channels_last":
        assert found.transpose(0, 2, 3, 1).flags.c_contiguous


def test_the_formula_is_evaluated_once_for_all_arrays_of_a_kind():
    calls = []

    @in_blocks
    def counted(x):
        calls.append(type(x))
        return x * 2 + 1

    for scale in (1, 2, 3):
        np.testing.assert_array_equal(counted(scale * DENSE), scale * DENSE * 2 + 1)
    assert calls == [passes.Symbol]


def test_numbers_of_two_types_are_two_programs():
    double = in_blocks(lambda x, number: x * number)
    x = DENSE.astype(np.float32)
    assert double(x, 2.0).dtype == np.float32 and double(x, np.float64(2)).dtype == np.float64


def test_what_is_no_ufunc_is_evaluated_as_it_stands():
    chosen = in_blocks(lambda x: np.where(np.asarray(x) > 0, x, -1.0))
    np.testing.assert_array_equal(chosen(DENSE), np.where(DENSE > 0, DENSE, -1.0))


def test_an_argument_given_back_is_copied():
    same = in_blocks(lambda x: x)
    assert same(DENSE) is not DENSE and (same(DENSE) == DENSE).all()


def test_a_slope_is_multiplied_by_the_cotangent():
    vjp = times(lambda x, *, low: x > low)
    np.testing.assert_array_equal(vjp(DENSE, DENSE, low=0.5), DENSE * (DENSE > 0.5))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_are_ignored_where_the_formula_or_the_caller_says_so(workers, monkeypatch):
    monkeypatch.setattr(backend, "workers", workers)

    @in_blocks
    def silent(x):
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(x * 1e6))

    loud = in_blocks(lambda x: np.exp(x * 1e6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent(DENSE)
        with np.errstate(over="ignore"):
            loud(DENSE)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            loud(DENSE)


def test_results_are_written_from_the_beginning_of_a_cache_line():
    out = np.empty(1000, np.float32)[1:]
    cuts = blocks._cuts(out, slice(7, 999), 128)
    assert cuts[0] == 7 and cuts[-1] == 999 and all(a < b for a, b in pairwise(cuts))
    assert all(passes.address(out[i:]) % passes.LINE == 0 for i in cuts[1:-1])


@pytest.mark.parametrize("axis", [(1,), (3,), (1, 2, 3), (0, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_on_threads_change_nothing(layout, axis, monkeypatch):
    def centred(a, b, *, axis):
        return a * b - a.mean(axis=axis, keepdims=True)

    def total(a, *, axis):
        return a.sum(axis=axis)

    monkeypatch.setattr(backend, "workers", 2)
    a = LAYOUTS[layout]
    np.testing.assert_array_equal(blocks.in_rows(centred)(a, DENSE, axis=axis), centred(a, DENSE, axis=axis))
    np.testing.assert_array_equal(blocks.in_rows(total)(a, axis=axis), total(a, axis=axis))


def _float32_near_multiples() -> tuple[np.ndarray, np.ndarray]:
    """Numbers a hair's breadth from multiples of others, k b with k up to 2^27, and anything else."""
    b = RNG.uniform(0.5, 2, 6000).astype(np.float32) * RNG.choice([-1, 1], 6000).astype(np.float32)
    a = (RNG.integers(-(2**27), 2**27, 6000) * b.astype(np.float64)).astype(np.float32)
    a[1000:3000] = (RNG.integers(-9, 9, 2000) * b[1000:3000].astype(np.float64)).astype(np.float32)
    a[::3], a[1::3] = np.nextafter(a[::3], np.float32(9e9)), np.nextafter(a[1::3], np.float32(-9e9))
    a[5000:] = RNG.standard_normal(1000)
    return a, b


def test_quotients_of_many_float32_are_the_rational_ones():
    """Where NumPy and PyTorch are off by up to two units in the last place, from 4 million on."""
    a, b = _float32_near_multiples()
    exact = [Fraction(float(x)) // Fraction(float(y)) for x, y in zip(a, b)]
    np.testing.assert_array_equal(floor_quotient(a, b), np.array(exact, np.float32))
    rest = [Fraction(float(x)) - k * Fraction(float(y)) for x, y, k in zip(a, b, exact)]
    np.testing.assert_array_equal(remainder(a, b), np.array([float(r) for r in rest], np.float32))


@pytest.mark.parametrize("b", [0.0, -0.0, 1e-45, -1.0, 2.5, 3e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("a", [0.0, 1e-45, -1e-45, 1.0, -7.0, 3e38, -3e38, np.inf, np.nan])
def test_quotients_of_many_extreme_numbers_are_numpys(a, b):
    a, b = np.full(5000, a, np.float32), np.full(5000, b, np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(floor_quotient(a, b), a // b)
        np.testing.assert_array_equal(remainder(a, b), a % b)


def test_flat_functions_hand_back_zeros():
    g = np.full(SHAPE, np.inf)
    for dx in (flat(g), flat(Tensor(g)).numpy()):
        assert dx.shape == SHAPE and dx.dtype == g.dtype and not dx.any()
