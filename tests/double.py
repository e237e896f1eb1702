"""A strict double of CuPy: NumPy arrays in a wrapper that refuses what CuPy refuses.

Most machines have no GPU, so the suites run once on this double: code that works on it asks every array for
its module, converts nothing between host and device by accident, and calls nothing that CuPy lacks.

* Functions, methods and their parameters are those that CuPy 13.6 and 14.2 both have (cupy_api.json, read
  from the real packages).
* Host and device don't mix: an operation on a double and a NumPy array raises; Python and NumPy scalars are
  welcome, as in CuPy. Only `asarray`, `array`, `ascontiguousarray` and `asfortranarray` bring a host array
  over, only `get()` takes one back.
* Reductions and indexing with integers answer 0-d arrays, never NumPy scalars.
* Flags have no `writeable`; there is no buffer interface, no `__index__`, no `@=`.

In two points it is stricter than CuPy, because scratchgan promises that nothing converts silently: NumPy's
functions refuse a double (CuPy reroutes some of them), and host arrays are no indices (CuPy copies them over
on each call).

`backend.register(DoubleArray, module, "double")` makes device "double" known; importing this file does it.
"""

from __future__ import annotations

import json
import operator
from pathlib import Path

import numpy as np

from scratchgan import backend

API = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))
FROM_HOST = {
    "asarray",
    "array",
    "ascontiguousarray",
    "asfortranarray",
    "asanyarray",
}  # the doors from host to device
SCALARS = (bool, int, float, complex, np.generic, str, type(None), type(Ellipsis), slice, np.dtype, type)


class Flags:
    """What CuPy says of an array's memory: contiguous or not, owned or not; nothing about writing."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = (
            flags.c_contiguous,
            flags.f_contiguous,
            flags.owndata,
        )


class DoubleArray:
    """An array on the pretended device. `host` is private to this file: nobody else may look."""

    __array_ufunc__ = None  # NumPy's operators and ufuncs leave the field
    __hash__ = None

    def __init__(self, host: np.ndarray, base: DoubleArray | None = None):
        self.host, self.base = host, base

    # Doors that stay shut

    def __array__(self, *args, **kw):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function, types, args, kw):
        raise TypeError(
            f"numpy.{function.__name__} was called on a device array: ask backend.xp(array) for its module"
        )

    # What an array says of itself

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    strides = property(lambda self: self.host.strides)
    itemsize = property(lambda self: self.host.itemsize)
    nbytes = property(lambda self: self.host.nbytes)
    flags = property(lambda self: Flags(self.host.flags))
    device = property(lambda self: "double")
    T = property(lambda self: wrapped(self.host.T, [self]))
    real = property(lambda self: wrapped(self.host.real, [self]))
    imag = property(lambda self: wrapped(self.host.imag, [self]))

    # Back to the host, one element or all

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        return self.host.copy()

    def item(self):
        return self.host.item()

    def tolist(self):
        return self.host.tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.host)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return repr(self.host).replace("array", "double", 1)

    def __copy__(self):
        return DoubleArray(self.host.copy())

    def __deepcopy__(self, memo):
        return DoubleArray(self.host.copy())

    # Elements

    def __getitem__(self, key):
        return wrapped(self.host[_index(key)], [self])

    def __setitem__(self, key, value):
        self.host[_index(key)] = unwrapped(value, "__setitem__")


def wrapped(result, sources: list[DoubleArray]):
    """A result of NumPy as CuPy would give it back: arrays and NumPy scalars as device arrays, a view with
    its base.
    """
    if isinstance(result, (tuple, list)):
        return type(result)(wrapped(r, sources) for r in result)
    if isinstance(result, (np.ndarray, np.generic)):
        array = np.asarray(result)
        for source in sources:
            if array is source.host:
                return source
        owner = next(
            (s for s in sources if array.base is not None and np.may_share_memory(array, s.host)), None
        )
        return DoubleArray(array, owner if owner is None or owner.base is None else owner.base)
    return result


def unwrapped(value, name: str, from_host: bool = False):
    """The NumPy side of an argument; a TypeError for a host array where only device arrays and scalars may
    stand.
    """
    if isinstance(value, DoubleArray):
        return value.host
    if isinstance(value, (list, tuple)):
        return type(value)(unwrapped(v, name, from_host) for v in value)
    if isinstance(value, SCALARS) or (from_host and isinstance(value, np.ndarray)):
        return value
    raise TypeError(f"{name}: unsupported type {type(value)}: a device array or a scalar was expected")


def _index(key):
    if isinstance(key, tuple):
        return tuple(_index(k) for k in key)
    if isinstance(key, np.ndarray):
        raise TypeError("a host array is no index of a device array")
    return unwrapped(key, "index")


def _devices(values) -> list[DoubleArray]:
    """All device arrays among the arguments, lists opened."""
    found = []
    for v in values:
        if isinstance(v, DoubleArray):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            found += _devices(v)
    return found


def _delegate(function, name: str, parameters: set[str] | None, args: tuple, kw: dict):
    """Call NumPy's function on the host side of the arguments, if CuPy has all the parameters."""
    unknown = [] if parameters is None else [k for k in kw if k not in parameters]
    if unknown:
        raise TypeError(
            f"{name}() got an unexpected keyword argument {unknown[0]!r}: CuPy has no such parameter"
        )
    from_host = name in FROM_HOST
    sources = _devices([*args, *kw.values()])
    result = function(
        *[unwrapped(a, name, from_host) for a in args],
        **{k: unwrapped(v, name, from_host) for k, v in kw.items()},
    )
    if from_host and isinstance(result, np.ndarray) and any(result is a for a in args):
        result = result.copy()  # what comes over the bus is never the host's own memory
    return wrapped(result, sources)


def _parameters(text: str) -> set[str] | None:
    return None if "**" in text else set(text.replace("*", "").split())


def _method(name: str, parameters: set[str] | None):
    def method(self, *args, **kw):
        return _delegate(getattr(np.ndarray, name), name, parameters, (self, *args), kw)

    method.__name__ = name
    return method


def _operator(name: str, function, swapped: bool = False):
    def method(self, other):
        if not isinstance(other, DoubleArray) and getattr(other, "__array_ufunc__", self) is None:
            return NotImplemented  # a Tensor: its own operators decide
        pair = (other, self) if swapped else (self, other)
        return _delegate(function, name, set(), pair, {})

    method.__name__ = name
    return method


def _in_place(name: str, function):
    def method(self, other):
        function(self.host, unwrapped(other, name))
        return self

    method.__name__ = name
    return method


def _unary(name: str, function):
    def method(self):
        return _delegate(function, name, set(), (self,), {})

    method.__name__ = name
    return method


def _attach() -> None:
    for name, text in API["methods"].items():
        if hasattr(np.ndarray, name) and not hasattr(DoubleArray, name):
            setattr(DoubleArray, name, _method(name, _parameters(text)))
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and_",
        "or_",
        "xor",
        "lshift",
        "rshift",
    ):
        plain, function = name.rstrip("_"), getattr(operator, name)
        setattr(DoubleArray, f"__{plain}__", _operator(plain, function))
        setattr(DoubleArray, f"__r{plain}__", _operator(plain, function, swapped=True))
        if name != "matmul":  # CuPy has no @=
            setattr(DoubleArray, f"__i{plain}__", _in_place(plain, getattr(operator, f"i{plain}")))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(DoubleArray, f"__{name}__", _operator(name, getattr(operator, name)))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(DoubleArray, f"__{name}__", _unary(name, getattr(operator, name)))


_attach()


class Ufunc:
    """One of CuPy's universal functions: a call, and the few methods that CuPy gives it."""

    METHODS = {
        "add": {"reduce", "accumulate", "reduceat", "at", "outer"},
        "multiply": {"reduce", "accumulate", "reduceat", "outer"},
    }

    def __init__(self, name: str):
        self.__name__, self.function = name, getattr(np, name)

    def __call__(self, *args, **kw):
        return _delegate(
            self.function, self.__name__, {"out", "dtype", "where", "casting", "axes", "axis"}, args, kw
        )

    def __getattr__(self, method: str):
        if method not in self.METHODS.get(self.__name__, {"outer"}):
            raise AttributeError(f"cupy.{self.__name__} has no method {method!r} that works everywhere")
        bound = getattr(self.function, method)
        return lambda *args, **kw: _delegate(
            bound, f"{self.__name__}.{method}", {"axis", "dtype", "out", "keepdims"}, args, kw
        )


class Module:
    """The double of the module `cupy`, or of one of its submodules: names that CuPy has, and no others."""

    def __init__(self, prefix: str = "", numpy_module=np):
        self._prefix, self._numpy = prefix, numpy_module

    def __getattr__(self, name: str):
        full = self._prefix + name
        if full in ("linalg", "lib", "lib.stride_tricks"):
            return Module(full + ".", getattr(self._numpy, name))
        if full in API["ufuncs"]:
            return (
                Ufunc(name) if hasattr(getattr(self._numpy, name), "reduce") else self._function(name, None)
            )
        if full in API["functions"]:
            return self._function(name, _parameters(API["functions"][full]))
        if full == "ndarray":
            return DoubleArray
        if full in API["constants"] and name not in ("random", "fft", "testing"):
            return getattr(self._numpy, name)
        raise AttributeError(f"module 'cupy' has no attribute {full!r}")

    def _function(self, name: str, parameters):
        function = getattr(self._numpy, name)
        return lambda *args, **kw: _delegate(function, name, parameters, args, kw)


cupy = Module()
backend.register(DoubleArray, cupy, "double")


def device(array) -> DoubleArray:
    """A copy of a host array on the pretended device."""
    return DoubleArray(np.array(array, order="K"))
