"""Making tensors: from data, filled with a number, or drawn at random. Python numbers become float32 or
int64, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratchgan import backend, inplace
from scratchgan.functional.dims import spread
from scratchgan.tensor import Tensor

float16, float32, float64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
uint8, int32, int64 = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64)


def _made(array, requires_grad: bool) -> Tensor:
    t = Tensor(array)
    t.requires_grad = requires_grad
    return t


def as_tensor(data, dtype=None, device: str | None = None) -> Tensor:
    """`data` (an array, a Tensor, a number, nested lists) as a Tensor, sharing its memory where dtype and
    device allow.
    """
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    if not hasattr(data, "dtype"):
        data = np.array(data)
        if data.dtype == float64:
            data = data.astype(float32)
        elif data.dtype.kind not in "biuf":
            raise TypeError(f"tensor: data of type {data.dtype} holds no numbers")
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if device is not None and backend.device_of(data) != device:
        data = backend.module_of(device).asarray(backend.to_host(data))
    return Tensor(data if dtype is None else data.astype(dtype, copy=False))


def tensor(data, dtype=None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A copy of `data` (an array, a number, nested lists) as a Tensor."""
    if isinstance(data, Tensor):
        data = data._array
    return _made(as_tensor(data, dtype, device)._array.copy(), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor on the memory of `array`. A write to the array after a graph has saved it makes that graph's
    backward raise.
    """
    inplace.expose(array)
    return Tensor(array)


def full(
    size: int | Sequence[int], fill_value, *, dtype=None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A tensor of one value everywhere, of the value's dtype unless another is given."""
    if dtype is None:
        dtype = bool if isinstance(fill_value, bool) else int64 if isinstance(fill_value, int) else float32
    return _made(backend.module_of(device).full(spread((size,)), fill_value, dtype=dtype), requires_grad)


def zeros(*size: int, dtype=float32, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """zeros(2, 3) or zeros((2, 3))."""
    return full(spread(size), 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones(*size: int, dtype=float32, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """ones(2, 3) or ones((2, 3))."""
    return full(spread(size), 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty(*size: int, dtype=float32, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """Memory with nothing definite in it."""
    return _made(backend.module_of(device).empty(spread(size), dtype=dtype), requires_grad)


def full_like(input: Tensor, fill_value, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, in the input's shape, on its device, of its dtype unless another is given."""
    array = input._array
    return _made(backend.xp(array).full_like(array, fill_value, dtype=dtype), requires_grad)


def zeros_like(input: Tensor, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """Zeros in the input's shape."""
    return full_like(input, 0, dtype=dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """Ones in the input's shape."""
    return full_like(input, 1, dtype=dtype, requires_grad=requires_grad)


def arange(
    start, end=None, step=1, *, dtype=None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below end; arange(n) counts from 0. float32 if one of the numbers is no
    integer, else int64.
    """
    start, end = (0, start) if end is None else (start, end)
    if dtype is None:
        dtype = float32 if any(isinstance(n, float) for n in (start, end, step)) else int64
    return _made(backend.module_of(device).arange(start, end, step, dtype=dtype), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype=float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """`steps` numbers at equal distances from start to end, both included."""
    return _made(backend.module_of(device).linspace(start, end, steps, dtype=dtype), requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype=float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Ones on the diagonal of an n by m matrix, zeros elsewhere."""
    return _made(backend.module_of(device).eye(n, m, dtype=dtype), requires_grad)


# Random numbers are drawn on the host, so that a seed means the same numbers on every device.


def _drawn(
    draw, size: tuple, dtype, device: str, requires_grad: bool, generator: np.random.Generator | None
) -> Tensor:
    generator = backend.default_streams()["random"] if generator is None else generator
    return _made(
        backend.module_of(device).asarray(draw(generator, spread(size)).astype(dtype)), requires_grad
    )


def randn(
    *size: int,
    dtype=float32,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Standard normal numbers, from the default stream "random" unless a generator is given."""
    return _drawn(lambda g, shape: g.standard_normal(shape), size, dtype, device, requires_grad, generator)


def rand(
    *size: int,
    dtype=float32,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Numbers from [0, 1), from the default stream "random" unless a generator is given."""
    return _drawn(lambda g, shape: g.random(shape), size, dtype, device, requires_grad, generator)


def randint(
    low: int,
    high: int,
    size: Sequence[int],
    *,
    dtype=int64,
    device: str = "cpu",
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Integers low ... high - 1."""
    return _drawn(lambda g, shape: g.integers(low, high, shape), (size,), dtype, device, False, generator)
