"""Element-wise formulas, read once and kept as a list of NumPy calls that write to chosen places.

Evaluated as it stands, `g * (1 - out * out)` makes NumPy allocate an array for each operation, at whatever
address. A pass over memory takes half the time where it writes whole cache lines, and least where it writes
over what it has read. So a formula is called once on `Symbol`s, which note down what is done to them, and the
`Program` does the same to blocks of arrays, with a few aligned buffers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

LINE = 64  # bytes of a cache line
NOT_IN_PLACE = (np.sign,)  # eight times as slow where it writes over what it reads


class Symbol(NDArrayOperatorsMixin):
    """Stands for an array while a formula is read: an argument, or what `function(*inputs)` gives.

    `values` are the symbols of one formula in the order in which they came up.
    """

    ndim = 1

    def __init__(self, dtype: np.dtype, values: list[Symbol], function: Callable | None = None, inputs=()):
        self.dtype, self.values, self.function, self.inputs = dtype, values, function, inputs
        self.number = len(values)
        self.ignored = {error: how for error, how in np.geterr().items() if how == "ignore"}
        values.append(self)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        """What NumPy calls for every operator and function. `x += 1` makes a new value, as `x + 1` does."""
        if method != "__call__" or settings or any(isinstance(a, np.ndarray) for a in inputs):
            return NotImplemented
        if ufunc in BOUNDS and self.dtype.kind == "f" and isinstance(inputs[1], (int, float)):
            return self.clip(**{"low": -math.inf, "high": math.inf, BOUNDS[ufunc]: inputs[1]})
        dtype = ufunc(*[np.empty(0, a.dtype) if isinstance(a, Symbol) else a for a in inputs]).dtype
        if dtype != bool:  # a call that casts on its way is slow
            inputs = [a.astype(dtype) if isinstance(a, Symbol) and a.dtype == bool else a for a in inputs]
        return Symbol(dtype, self.values, ufunc, inputs)

    def astype(self, dtype, copy: bool = True) -> Symbol:
        return self if dtype == self.dtype else Symbol(np.dtype(dtype), self.values, _cast, [self])

    def clip(self, low, high) -> Symbol:
        dtype = np.empty(0, self.dtype).clip(low, high).dtype
        return Symbol(dtype, self.values, _clip, [self, low, high])


BOUNDS = {np.maximum: "low", np.minimum: "high"}  # have vector instructions for two arrays; with a number clip has


def _clip(a, low, high, out) -> None:
    a.clip(low, high, out=out)


def _cast(a, out) -> None:
    np.copyto(out, a, casting="unsafe")


class Program:
    """The calls that make `result`, each with the places of its inputs and of what it writes.

    The places are, in this order: the formula's arguments, the result, buffers, numbers (from the end).
    """

    def __init__(self, arguments: list, result: Symbol):
        self.dtype, self.ignored = result.dtype, {}
        self.steps: list[tuple[Callable, list[int], int]] = []
        self.buffers: list[np.dtype] = []
        self.numbers: list[float] = []
        self._first = len(arguments)
        place = {a.number: i for i, a in enumerate(arguments) if isinstance(a, Symbol)}
        calls = [v for v in result.values[: result.number + 1] if v.function]
        last = {a.number: call for call in calls for a in call.inputs if isinstance(a, Symbol)}
        free = [self._first]
        for call in calls:
            inputs = [self._input(a, place) for a in call.inputs]
            done = {p for n, p in place.items() if last.get(n) is call and p >= self._first}
            usable = free if call.function in NOT_IN_PLACE else [*free, *sorted(done)]
            target = self._first if call is result else self._target(call.dtype, usable)
            free = [p for p in [*free, *sorted(done)] if p != target]
            place[call.number] = target
            self.steps.append((call.function, inputs, target))
            self.ignored.update(call.ignored)
        self.one_pass = len(self.steps) == 1 and not self.buffers

    def _input(self, a, place: dict[int, int]) -> int:
        if isinstance(a, Symbol):
            return place[a.number]
        self.numbers.insert(0, a)
        return -len(self.numbers)

    def _target(self, dtype: np.dtype, free: list[int]) -> int:
        """Among the free places the one that was used last, or a new buffer."""
        for p in reversed(free):
            if [self.dtype, *self.buffers][p - self._first] == dtype:
                return p
        self.buffers.append(dtype)
        return self._first + len(self.buffers)

    def memory(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Buffers for blocks of at most this shape."""
        return [aligned(shape, dtype) for dtype in self.buffers]

    def run(self, arguments: list, out: np.ndarray, memory: list[np.ndarray]) -> None:
        """Leave in `out` what the formula makes of the arguments."""
        places = [*arguments, out, *[buffer[: len(out)] for buffer in memory], *self.numbers]
        for function, inputs, target in self.steps:
            function(*[places[i] for i in inputs], out=places[target])


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of this shape at the beginning of a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -address(memory) % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def address(a: np.ndarray) -> int:
    """Where the memory of `a` begins."""
    return a.__array_interface__["data"][0]


def kind(a) -> tuple:
    """What a program depends on: of an array its dtype, of a number its type and value."""
    return (a.dtype,) if np.ndim(a) else (type(a), a)


class Whole:
    """A formula that is not made of ufuncs alone, as it stands."""

    one_pass = False

    def __init__(self, formula: Callable, arguments: list):
        self.formula, self.dtype, self.ignored = formula, formula(*arguments).dtype, {}

    def memory(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        return []

    def run(self, arguments: list, out: np.ndarray, memory: list[np.ndarray]) -> None:
        out[...] = self.formula(*arguments)


@lru_cache(maxsize=1024)
def read(formula: Callable, kinds: tuple[tuple, ...], settings: tuple) -> Program | Whole:
    """formula(*arguments, **settings) as a program, if it is made of ufuncs alone."""
    formula, values = partial(formula, **dict(settings)), []
    arguments = [Symbol(k[0], values) if len(k) == 1 else k[1] for k in kinds]
    try:
        with np.errstate(all="warn"):
            result = formula(*arguments)
        if isinstance(result, Symbol) and result.function:
            return Program(arguments, result)
    except (AttributeError, TypeError):
        pass  # the formula asks for more than a Symbol has
    return Whole(formula, [np.empty(0, k[0]) if len(k) == 1 else k[1] for k in kinds])
