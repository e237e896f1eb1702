"""Modules: parameters, buffers and submodules under names, with PyTorch's semantics.

A parameter, buffer or submodule is an ordinary attribute. The module itself only keeps, in the order of
assignment, which attribute is what: `_kinds["weight"] == PARAMETER`. Everything that walks a network
(`parameters`, `state_dict`, `train`, `to`) follows these names.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from scratchgan import backend, inplace
from scratchgan.backend import xp
from scratchgan.errors import UserError
from scratchgan.nn.parameter import Parameter
from scratchgan.tensor import Leaf, Tensor

PARAMETER, BUFFER, TRANSIENT, MODULE = "parameter", "buffer", "transient buffer", "module"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""
    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of networks and layers: assign parameters and submodules, define `forward`, call it."""

    def __new__(cls, *args, **kwargs):
        module = super().__new__(cls)
        module.__dict__.update(training=True, _kinds={}, _pre_hooks=[])
        return module

    def __init__(self):
        """Nothing is left to do: `__new__` has made the module ready for assignments."""

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args, **kwargs):
        for hook in self._pre_hooks:
            hook(self, args)
        return self.forward(*args, **kwargs)

    # Attributes

    def __setattr__(self, name: str, value) -> None:
        kinds = self._kinds
        kind = kinds.get(name)
        if isinstance(value, Parameter):
            kinds[name] = PARAMETER
        elif isinstance(value, Module):
            kinds[name] = MODULE
        elif value is not None and (kind in (PARAMETER, MODULE) or kind and not isinstance(value, Tensor)):
            expected = {PARAMETER: "a Parameter", MODULE: "a Module"}.get(kind, "a Tensor")
            raise TypeError(f"{type(self).__name__}.{name}: expected {expected} or None, "
                            f"found {type(value).__name__}")
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._kinds.pop(name, None)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Assign a parameter, or None where this configuration does without one (`bias=False`)."""
        self._register(name, PARAMETER, parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Assign a tensor that is state but isn't learned; only persistent ones are in `state_dict`."""
        self._register(name, BUFFER if persistent else TRANSIENT, tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Assign a submodule under any name without a dot."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.{name}: expected a Module or None, "
                            f"found {type(module).__name__}")
        self._register(name, MODULE, module)

    register_module = add_module

    def _register(self, name: str, kind: str, value) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{type(self).__name__}: a {kind}'s name is a string without dots, not {name!r}")
        if name not in self._kinds and hasattr(self, name):
            raise KeyError(f"{type(self).__name__}: attribute {name!r} exists already")
        self._kinds[name] = kind
        setattr(self, name, value)

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], None]) -> Callable[[], None]:
        """Have `hook(module, args)` run before every forward; the answer takes it off again."""
        self._pre_hooks.append(hook)
        return lambda: self._pre_hooks.remove(hook)

    # Walking

    def _own(self, *kinds: str) -> Iterator[tuple[str, object]]:
        for name, kind in self._kinds.items():
            value = self.__dict__[name]
            if kind in kinds and value is not None:
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, submodule) of each direct submodule."""
        return self._own(MODULE)

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(prefix of its names, module) for this module and all below, those that occur twice twice."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}{name}.")

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module and all below, each once."""
        seen = set()
        for path, module in self._walk(f"{prefix}." if prefix else ""):
            if module not in seen:
                seen.add(module)
                yield path.removesuffix("."), module

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named(self, kinds: tuple[str, ...], prefix: str, recurse: bool) -> Iterator[tuple[str, Tensor]]:
        seen = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in module._own(*kinds):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), a parameter that is shared under several names only once."""
        return self._named((PARAMETER,), prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer), each once."""
        return self._named((BUFFER, TRANSIENT), prefix, recurse)

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted name, "features.0.conv"; "" is this one."""
        module = self
        for name in target.split(".") if target else ():
            module = module._member(name, MODULE)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted name."""
        path, _, name = target.rpartition(".")
        return self.get_submodule(path)._member(name, PARAMETER)

    def _member(self, name: str, kind: str):
        if self._kinds.get(name) != kind:
            raise AttributeError(f"{type(self).__name__} has no {kind} {name!r}")
        return getattr(self, name)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def apply(self, function: Callable[[Module], None]) -> Module:
        """Call `function` on every module, children first, for instance to draw initial weights."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # Modes and places

    def train(self, mode: bool = True) -> Module:
        """Training mode (batch statistics, dropout) or, with False, evaluation mode, here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or overwrite them with zeros."""
        zero_grad(self.parameters(), set_to_none)

    def to(self, *args, device: str | None = None, dtype=None) -> Module:
        """Move to a device ("cpu", "cuda", "cuda:1") and/or cast floating-point parameters and buffers to a
        dtype, in place.

        The parameters stay the same objects with new memory; an optimiser made before must be made anew.
        """
        for a in args:
            device, dtype = (a, dtype) if isinstance(a, str) else (device, a)
        module = None if device is None else backend.module_of(device)

        def moved(array):
            if module is not None and xp(array) is not module:
                array = module.asarray(backend.to_host(array))
            return array if dtype is None or array.dtype.kind != "f" else array.astype(dtype, copy=False)

        for tensor in [*self.parameters(), *self.buffers()]:
            _replace(tensor, moved)
        return self

    def float(self) -> Module:
        return self.to(dtype=np.float32)

    def double(self) -> Module:
        return self.to(dtype=np.float64)

    def cpu(self) -> Module:
        return self.to(device="cpu")

    def cuda(self, device: int = 0) -> Module:
        return self.to(device=f"cuda:{device}")

    # State

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        """(key, tensor) of the state in PyTorch's order: own parameters, own buffers, the children's."""
        for path, module in self._walk():
            for name, value in [*module._own(PARAMETER), *module._own(BUFFER)]:
                yield path + name, value

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by PyTorch's keys: detached tensors that share their memory."""
        return {key: Tensor(value._array) for key, value in self._named_state()}

    def load_state_dict(self, state_dict: dict, strict: bool = True) -> IncompatibleKeys:
        """Copy values in place from Tensors, NumPy or CuPy arrays, or PyTorch tensors; either all of them or,
        on an error, none.

        Raises a UserError that names the keys which are missing or too many (unless `strict=False`) or whose
        shape differs.
        """
        own = dict(self._named_state())
        missing, unexpected = [k for k in own if k not in state_dict], [k for k in state_dict if k not in own]
        faults = []
        for what, keys in (("missing", missing), ("unexpected", unexpected)):
            if keys and strict:
                faults.append(f"{what} {_listed(keys)}")
        arrays = {key: as_array(state_dict[key]) for key in own if key in state_dict}
        for key, array in arrays.items():
            if array.shape != own[key].shape:
                faults.append(f"{key} has shape {tuple(array.shape)} where the module has {own[key].shape}")
            elif not np.can_cast(array.dtype, own[key].dtype, "same_kind"):
                faults.append(f"{key} is {array.dtype} where the module has {own[key].dtype}")
        if faults:
            raise UserError(f"{type(self).__name__}.load_state_dict: " + "; ".join(faults))
        for key, array in arrays.items():
            overwrite(own[key], array)
        return IncompatibleKeys(missing, unexpected)

    def __deepcopy__(self, memo: dict) -> Module:
        """A module of like structure with weights of its own; tensors in a graph are copied without it."""
        twin = memo[id(self)] = type(self).__new__(type(self))
        for name, value in self.__dict__.items():
            plain = isinstance(value, Tensor) and not isinstance(value, Parameter)
            twin.__dict__[name] = Tensor(value._array.copy()) if plain else copy.deepcopy(value, memo)
        return twin

    # Showing

    def extra_repr(self) -> str:
        """What stands between the parentheses of `repr`, before the submodules."""
        return ""

    def __repr__(self) -> str:
        extra, name = self.extra_repr(), type(self).__name__
        children = [f"({key}): {child!r}".replace("\n", "\n  ") for key, child in self.named_children()]
        if not children:
            return f"{name}({extra})" if "\n" not in extra else f"{name}(\n  {extra}\n)"
        return "\n  ".join([f"{name}(", *([extra] if extra else []), *children]) + "\n)"


def zero_grad(parameters, set_to_none: bool = True) -> None:
    """Forget the gradients of `parameters`, or overwrite them with zeros."""
    for parameter in parameters:
        if set_to_none and parameter.requires_grad:
            parameter.grad = None
        elif parameter.grad is not None:
            overwrite(parameter.grad, 0)


def overwrite(tensor: Tensor, value) -> None:
    """Write into the tensor's memory, from the host or its own device; graphs that saved it get to know."""
    array = tensor._array
    if hasattr(value, "dtype") and xp(value) is not xp(array):
        value = xp(array).asarray(backend.to_host(value))
    array[...] = value
    inplace.wrote(array)


def _replace(tensor: Tensor, moved: Callable) -> None:
    """Give the tensor, and its gradient, other memory: a leaf's node is made anew for the new dtype."""
    gradient, tensor._array = tensor.grad, moved(tensor._array)
    if tensor._node is not None:
        tensor._node = Leaf(tensor._array)
        tensor.grad = None if gradient is None else Tensor(moved(gradient._array))


def as_array(value):
    """The array in a Tensor, an array, a number or a PyTorch tensor (by its `detach().cpu().numpy()`)."""
    if isinstance(value, Tensor):
        return value._array
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return value if hasattr(value, "dtype") and hasattr(value, "ndim") else np.asarray(value)


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
