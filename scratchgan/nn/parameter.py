"""Parameters: the tensors that a module learns, which `Module.parameters()` finds among its attributes."""
from __future__ import annotations

import numpy as np

from scratchgan import backend
from scratchgan.tensor import Tensor


class Parameter(Tensor):
    """A tensor that counts as a module's weight; `data`, Tensor or array, is taken over without a copy."""
    __slots__ = ()

    def __init__(self, data, requires_grad: bool = True):
        array = data._array if isinstance(data, Tensor) else data
        if not hasattr(array, "dtype"):
            raise TypeError(f"Parameter: expected a Tensor or an array, found {type(data).__name__}")
        super().__init__(array)
        if requires_grad:
            self.requires_grad = True

    def __deepcopy__(self, memo: dict) -> Parameter:
        """A parameter of equal values in memory of its own, with no gradient yet."""
        twin = memo[id(self)] = Parameter(self._array.copy(), self.requires_grad)
        return twin

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def empty_parameter(shape: tuple[int, ...], device: str | None = None, dtype=None) -> Parameter:
    """A parameter whose values are still to be drawn; float32 on the CPU unless told otherwise."""
    return Parameter(backend.module_of(device or "cpu").empty(shape, dtype=dtype or np.float32))
