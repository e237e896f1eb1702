"""Operators and methods of Tensor, attached to the class when scratchgan is imported.

Operators call ops directly, methods call `scratchgan.functional` with the tensor as first argument. What
changes a tensor in place (`add_`, `x += y`, `x[i] = y`, `copy_`, ...) writes into its memory and stamps the
write. Where the change would have to be differentiated, the tensor becomes a handle on a newly computed array
instead; a leaf that requires gradients refuses.
"""

from __future__ import annotations

from functools import update_wrapper

import numpy as np

from scratchgan import backend, functional, inplace
from scratchgan.functional.dims import one, spread
from scratchgan.functional.shape import indexing_steps
from scratchgan.ops import elementwise as ops
from scratchgan.ops.shape import reshape, setitem
from scratchgan.recording import state
from scratchgan.tensor import Leaf, Op, Tensor, cast

METHODS = """
abs add all amax amin any argmax argmin broadcast_to chunk clamp clone contiguous cos div eq erf exp flatten
gather ge gt index_select isfinite isnan le log log1p log_softmax logsumexp lt matmul max maximum mean min
minimum mul narrow ne neg norm pow relu remainder rsqrt sigmoid sign sin softmax split sqrt squeeze std sub sum t
tanh transpose unbind unflatten unsqueeze var
""".split()
SPREADING = "expand flip permute".split()  # x.permute(0, 2, 1) and x.permute((0, 2, 1)) alike
IN_PLACE = "abs add clamp div exp log mul neg pow relu sigmoid sqrt sub tanh".split()


def _attach(name: str):
    """Decorator: make the function a method or property of Tensor under this name."""

    def attach(function):
        setattr(Tensor, name, function)
        return function

    return attach


# Operators


def _operator(name: str, op: Op) -> None:
    def method(self, other):
        return op(self, other)

    def reflected(self, other):
        return op(other, self)

    setattr(Tensor, f"__{name}__", method)
    setattr(Tensor, f"__r{name}__", reflected)


for name, op in {
    "add": ops.add,
    "sub": ops.sub,
    "mul": ops.mul,
    "truediv": ops.div,
    "pow": functional.pow,
    "matmul": functional.matmul,
    "floordiv": ops.floor_quotient,
    "mod": ops.remainder,
    "and": ops.bitwise_and,
    "or": ops.bitwise_or,
}.items():
    _operator(name, op)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _operator(name, getattr(ops, name))

_attach("__neg__")(lambda self: ops.neg(self))
_attach("__abs__")(lambda self: ops.absolute(self))
_attach("__invert__")(lambda self: ops.bitwise_not(self))
_attach("__pos__")(lambda self: self)
_attach("__hash__")(object.__hash__)


# Methods that are functions


def _method(function):
    if not isinstance(function, Op):
        return function  # a plain function binds by itself

    def method(self, *others):
        return function(self, *others)

    method.__name__ = method.__qualname__ = function.name
    method.__doc__ = function.__doc__
    return method


def _spreading(function):
    def method(self, *numbers):
        return function(self, spread(numbers))

    return update_wrapper(method, function)


for name in METHODS:
    setattr(Tensor, name, _method(getattr(functional, name)))
for name in SPREADING:
    setattr(Tensor, name, _spreading(getattr(functional, name)))


@_attach("reshape")
def _reshape(self, *shape) -> Tensor:
    """The elements in memory order under another shape, `x.reshape(2, 3)` or `x.reshape((2, 3))`; one entry may be -1."""
    return reshape(self, shape=spread(shape))


Tensor.view = Tensor.reshape
Tensor.T = property(
    lambda self: functional.permute(self, range(self.ndim)[::-1]), doc="All axes in reverse order."
)
Tensor.mT = property(lambda self: functional.transpose(self, -1, -2), doc="The last two axes exchanged.")


@_attach("view_as")
def _view_as(self, other: Tensor) -> Tensor:
    return functional.reshape(self, other.shape)


@_attach("expand_as")
def _expand_as(self, other: Tensor) -> Tensor:
    return functional.broadcast_to(self, other.shape)


@_attach("where")
def _where(self, condition, other) -> Tensor:
    """The tensor where the condition holds, `other` elsewhere."""
    return functional.where(condition, self, other)


@_attach("masked_fill")
def _masked_fill(self, mask, value) -> Tensor:
    """`value` where the mask holds, the tensor elsewhere."""
    return functional.where(mask, value, self).to(self.dtype)


_attach("square")(lambda self: functional.pow(self, 2))
_attach("reciprocal")(lambda self: 1 / self)
_attach("type_as")(lambda self, other: self.to(other.dtype))
_attach("__contains__")(lambda self, value: bool((self == value).any()))


# What a tensor says of itself

Tensor.ndim = property(lambda self: self._array.ndim, doc="The number of axes.")
Tensor.device = property(lambda self: backend.device_of(self._array), doc="'cpu', or 'cuda:0' and so on.")


@_attach("dim")
def _dim(self) -> int:
    return self._array.ndim


@_attach("numel")
def _numel(self) -> int:
    return self._array.size


@_attach("size")
def _size(self, dim: int | None = None):
    """The shape, or the size of one axis."""
    return self.shape if dim is None else self.shape[one(dim, self.ndim)]


@_attach("is_floating_point")
def _is_floating_point(self) -> bool:
    return self.dtype.kind == "f"


@_attach("__len__")
def _len(self) -> int:
    if self.ndim == 0:
        raise TypeError("len(): a tensor without axes has no length")
    return self.shape[0]


@_attach("__iter__")
def _iter(self):
    if self.ndim == 0:
        raise TypeError("iter(): a tensor without axes can't be iterated over")
    return iter(functional.unbind(self))


@_attach("__repr__")
def _repr(self) -> str:
    text = np.array2string(backend.to_host(self._array), separator=", ", prefix="tensor(", threshold=1000)
    if self.dtype not in (np.float32, np.int64, np.bool_):
        text += f", dtype={self.dtype}"
    if self.device != "cpu":
        text += f", device='{self.device}'"
    if self.requires_grad:
        text += ", requires_grad=True" if self.is_leaf else f", made by {self._node.op.name}"
    return f"tensor({text})"


# Numbers, and arrays for others


@_attach("item")
def _item(self):
    """The only element as a Python number."""
    if self._array.size != 1:
        raise RuntimeError(f"item: expected one element, found shape {self.shape}")
    return self._array.item()


def _without_gradients(self, name: str):
    if self.requires_grad:
        raise RuntimeError(
            f"{name}: a tensor that requires gradients can't leave its graph; use detach() first"
        )
    return self._array


@_attach("numpy")
def _numpy(self) -> np.ndarray:
    """The array in host memory, shared. A write to it after a graph has saved it makes that graph's backward
    raise.
    """
    array = _without_gradients(self, "numpy")
    if not backend.on_host(array):
        raise TypeError(f"numpy: the tensor is on {self.device}; use cpu() first")
    inplace.expose(array)
    return array


@_attach("__array__")
def _array(self, dtype=None, copy: bool | None = None) -> np.ndarray:
    array = _without_gradients(self, "np.asarray")
    if not backend.on_host(array):
        raise TypeError(f"np.asarray: the tensor is on {self.device}; use cpu() first")
    if not copy:
        inplace.expose(array)
    return np.array(array, dtype=dtype, copy=copy)


_attach("tolist")(lambda self: self._array.tolist())
_attach("__float__")(lambda self: float(self.item()))
_attach("__int__")(lambda self: int(self.item()))


@_attach("__bool__")
def _bool(self) -> bool:
    if self._array.size != 1:
        raise RuntimeError(
            f"bool(): a tensor of shape {self.shape} is neither true nor false; use any() or all()"
        )
    return bool(self._array.item())


@_attach("__index__")
def _index(self) -> int:
    if self._array.size != 1 or self.dtype.kind not in "biu":
        raise TypeError(
            f"a tensor of shape {self.shape} and dtype {self.dtype} is no index: expected one integer"
        )
    return int(self._array.item())


@_attach("__format__")
def _format(self, spec: str) -> str:
    return format(self._array.item() if spec and self.ndim == 0 else repr(self), spec)


# Copies, dtypes, devices


@_attach("detach")
def _detach(self) -> Tensor:
    """The same memory, outside of any graph."""
    return Tensor(self._array)


@_attach("requires_grad_")
def _requires_grad_(self, requires_grad: bool = True) -> Tensor:
    self.requires_grad = requires_grad
    return self


@_attach("__deepcopy__")
def _deepcopy(self, memo: dict) -> Tensor:
    if not self.is_leaf:
        raise RuntimeError("deepcopy: only leaf tensors can be copied; use clone(), or detach() first")
    memo[id(self)] = copy = Tensor(self._array.copy())
    return copy.requires_grad_(self.requires_grad)


@Op
def moved(x, *, source, target):
    """x on another device."""
    return backend.module_of(target).asarray(backend.to_host(x))


moved.vjp(x=lambda g, source, target: moved(g, source=target, target=source))


@_attach("to")
def _to(self, *args, dtype=None, device: str | None = None) -> Tensor:
    """to(dtype), to(device), to(device, dtype) or to(other tensor); the tensor itself where nothing changes.
    """
    for a in args:
        if isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, str):
            device = a
        elif a is not None:
            dtype = a
    if device is not None and device != self.device and f"{device}:0" != self.device:
        self = moved(self, source=self.device, target=device)
    return self if dtype is None or self.dtype == dtype else cast(self, dtype=np.dtype(dtype))


_attach("cpu")(lambda self: self.to("cpu"))
_attach("cuda")(lambda self: self.to("cuda"))
for name, dtype in {
    "half": np.float16,
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "long": np.int64,
    "bool": np.bool_,
}.items():
    setattr(Tensor, name, lambda self, dtype=dtype: self.to(dtype))


# Changes in place


def _is_recorded(self, name: str, *others) -> bool:
    """Whether a graph has to know of a change to `self`; a leaf that requires gradients may not change while
    gradients are recorded.
    """
    if not state.recording:
        return False
    if isinstance(self._node, Leaf):
        raise RuntimeError(
            f"{name}: a leaf tensor that requires gradients can't be changed in place; use no_grad()"
        )
    return self._node is not None or any(isinstance(o, Tensor) and o._node is not None for o in others)


def _become(self, result: Tensor, name: str) -> Tensor:
    """Give `self` the values of `result`: in its memory, or as a handle on the result where the change is
    recorded.
    """
    if result.shape != self.shape:
        raise ValueError(
            f"{name}: the result has shape {result.shape}, "
            f"which the tensor of shape {self.shape} can't hold in place"
        )
    if not np.can_cast(result.dtype, self.dtype, "same_kind"):
        raise TypeError(
            f"{name}: the result has dtype {result.dtype}, which a tensor of {self.dtype} can't hold in place"
        )
    if _is_recorded(self, name, result):
        result = result.to(self.dtype)
        self._array, self._node = result._array, result._node
    else:
        self._array[...] = result._array
        inplace.wrote(self._array)
    return self


def _in_place(function, name: str):
    def method(self, *args, **kw):
        return _become(self, function(self, *args, **kw), name)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}`, in place."
    return method


for name in IN_PLACE:
    setattr(Tensor, name + "_", _in_place(getattr(functional, name), name + "_"))
for name, op in {
    "add": ops.add,
    "sub": ops.sub,
    "mul": ops.mul,
    "truediv": ops.div,
    "pow": functional.pow,
}.items():
    setattr(Tensor, f"__i{name}__", _in_place(op, f"{name}_"))


@_attach("copy_")
def _copy_(self, source) -> Tensor:
    """Take over the values of `source`, broadcast and cast."""
    source = source if isinstance(source, Tensor) else Tensor(source)
    return _become(
        self, functional.clone(functional.broadcast_to(source, self.shape)).to(self.dtype), "copy_"
    )


@_attach("fill_")
def _fill_(self, value) -> Tensor:
    return self.copy_(Tensor(backend.xp(self._array).full_like(self._array, value)))


@_attach("zero_")
def _zero_(self) -> Tensor:
    return self.fill_(0)


_attach("__getitem__")(functional.getitem)


@_attach("__setitem__")
def _setitem(self, index, value) -> None:
    *first, last = indexing_steps(index)
    if _is_recorded(self, "x[index] = value", value):
        if first:
            inner = functional.getitem(self, first[0])
            value, last = setitem(inner, value, index=last), first[0]
        changed = setitem(self, value, index=last)
        self._array, self._node = changed._array, changed._node
    else:
        array = self._array[first[0]] if first else self._array
        array[last] = value._array if isinstance(value, Tensor) else value
        inplace.wrote(self._array)
