"""Runs a Triton kernel between poisoned memory, and compares it with its reference in float64.

Every array handed in lies between margins of NaN, and so does every array that a launcher allocates, which is full
of NaN besides. A number that is never written, a read beyond the end, and a write beyond it all show.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import memory

ON = ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)]  # for pytest.mark.parametrize("on", ON)
MARGIN = 64  # numbers on either side
RELATIVE = {"float16": 1e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-12}


def run(on: str, kernel: Callable, *args, **kwargs):
    """The kernel's Triton results, as NumPy arrays, for NumPy arguments."""
    guards: list[tuple] = []
    args = [_placed(on, a, guards) for a in args]
    kwargs = {name: _placed(on, a, guards) for name, a in kwargs.items()}
    with implementation("triton"), _poisoned(guards):
        results = kernel(*args, **kwargs)
    for buffer, size in guards:
        margins = np.concatenate([_host(buffer[:MARGIN]), _host(buffer[MARGIN + size :])])
        assert (margins == _poison(margins.dtype)).all() or np.isnan(margins).all(), "a kernel wrote beyond an array"
    return _map(_host, results)


def check(on: str, kernel: Callable, *args, reduction: int = 1, dtype=None, **kwargs) -> None:
    """The Triton results equal the reference in float64 on the same numbers.

    `reduction` is how many numbers a result adds up: the absolute tolerance grows with its root. `dtype` is the
    coarsest type on the way (that of the first argument by default).
    """
    found = run(on, kernel, *args, **kwargs)
    exact = [_map(_upcast, a) for a in args]
    with implementation("ref"):
        expected = kernel(*exact, **{name: _map(_upcast, a) for name, a in kwargs.items()})
    compare(found, expected, dtype or args[0].dtype, reduction)


def compare(found, expected, dtype, reduction: int = 1) -> None:
    """Equal structures of arrays of equal shapes, close as befits `dtype`."""
    tolerance = RELATIVE[np.dtype(dtype).name]
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            compare(a, b, dtype, reduction)
    elif expected is None:
        assert found is None
    else:
        assert found.shape == expected.shape
        scale = max(1.0, abs(expected).max(initial=0.0)) if np.isfinite(expected).all() else 1.0
        np.testing.assert_allclose(
            found.astype(np.float64), expected, rtol=4 * tolerance, atol=tolerance * scale * math.sqrt(reduction)
        )


def draw(shape: tuple[int, ...], dtype=np.float32, seed: int = 0, memory_order: tuple[int, ...] | None = None):
    """Standard normal numbers, laid out in memory in the order of axes `memory_order`."""
    axes = list(memory_order or range(len(shape)))
    numbers = np.random.default_rng(seed).standard_normal([shape[i] for i in axes]).astype(dtype)
    return numbers.transpose([axes.index(i) for i in range(len(shape))])


CHANNELS_LAST = (0, 2, 3, 1)  # for draw's memory_order


def _placed(on: str, value, guards: list):
    """An array on the device that `on` names, between margins; anything else as it is."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(_placed(on, v, guards) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    axes = memory.order(value)
    module = np if on == "interpreter" else backend.module_of("cuda")
    inside = _guarded(module, tuple(value.shape[i] for i in axes), value.dtype, guards)
    inside[...] = module.asarray(np.ascontiguousarray(value.transpose(axes)))
    return inside.transpose([axes.index(i) for i in range(value.ndim)])


@contextlib.contextmanager
def _poisoned(guards: list) -> Iterator[None]:
    before = memory.allocate
    memory.allocate = lambda module, shape, dtype: _guarded(module, shape, np.dtype(dtype), guards)
    try:
        yield
    finally:
        memory.allocate = before


def _guarded(module, shape: tuple[int, ...], dtype, guards: list):
    """Memory full of poison, with margins that are noted in `guards`."""
    size = math.prod(shape)
    buffer = module.full(size + 2 * MARGIN, _poison(dtype), dtype=dtype)
    guards.append((buffer, size))
    return buffer[MARGIN : MARGIN + size].reshape(shape)


def _poison(dtype):
    return np.iinfo(dtype).max if dtype.kind in "iu" else True if dtype.kind == "b" else np.nan


def _host(array):
    return backend.to_host(array) if array is not None else None


def _upcast(array):
    floating = isinstance(array, np.ndarray) and array.dtype.name in RELATIVE
    return array.astype(np.float64) if floating else array


def _map(function: Callable, value):
    return type(value)(map(function, value)) if type(value) in (tuple, list) else function(value)
