"""What a case is: a function, the shapes and domains of its inputs, and what PyTorch calls the same thing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Input:
    """One input array. Domains:

    "normal"     standard normal numbers
    "positive"   0.5 to 2
    "unit"       0.05 to 0.95
    "nonzero"    normal numbers moved away from 0 by 0.2
    "distinct"   any two at least 0.05 apart, in random order
    ("int", n)   integers 0 ... n - 1
    "bool"       true or false
    """

    shape: tuple[int, ...]
    domain: str | tuple[str, int] = "normal"
    grad: bool = True  # whether it is differentiated; integers and booleans never are
    layout: str = "C"  # memory: "C", "channels_last", "transposed" or "strided"

    @property
    def differentiable(self) -> bool:
        return self.grad and self.domain != "bool" and not isinstance(self.domain, tuple)


@dataclass(frozen=True)
class Case:
    """One call: `scratchgan.functional.<op>(*inputs, **kwargs)`, or `call(F, *tensors)`; `torch(*tensors)`
    where names differ.
    """

    op: str
    inputs: tuple[Input, ...]
    kwargs: dict = field(default_factory=dict)
    call: Callable | None = None
    torch: Callable | None = None
    order: int = 2  # the highest derivative that exists
    differences: bool = (
        True  # whether difference quotients show it: not at a kink, nor where PyTorch leaves a gradient out
    )
    note: str = ""  # what is special about it, where shapes and arguments don't tell

    @property
    def id(self) -> str:
        shapes = ",".join("x".join(map(str, i.shape)) or "()" for i in self.inputs)
        layouts = "".join(f" {i.layout}" for i in self.inputs if i.layout != "C")
        arguments = "".join(f" {k}={v}" for k, v in self.kwargs.items())
        return f"{self.op}[{shapes}{layouts}{arguments}{' ' + self.note if self.note else ''}]"

    @property
    def derivatives(self) -> int:
        """The highest derivative there is to test: none where no input is differentiated."""
        return self.order if any(i.differentiable for i in self.inputs) else 0

    def run(self, F, *tensors):
        """Our result."""
        return self.call(F, *tensors) if self.call else getattr(F, self.op)(*tensors, **self.kwargs)


def make_inputs(case: Case, dtype=np.float64, seed: int = 0) -> list[np.ndarray]:
    """The case's inputs; integers are int64."""
    rng = np.random.default_rng([seed, *case.op.encode()])
    return [_laid_out(_values(i, rng, dtype), i.layout) for i in case.inputs]


def _values(spec: Input, rng: np.random.Generator, dtype) -> np.ndarray:
    if isinstance(spec.domain, tuple):
        return np.asarray(rng.integers(0, spec.domain[1], spec.shape))
    if spec.domain == "bool":
        return np.asarray(rng.random(spec.shape) < 0.5)
    normal = rng.standard_normal(spec.shape)
    if spec.domain == "normal":
        return np.asarray(normal, dtype)
    if spec.domain == "nonzero":
        return np.asarray(normal + np.copysign(0.2, normal), dtype)
    if spec.domain == "positive":
        return np.asarray(rng.uniform(0.5, 2, spec.shape), dtype)
    if spec.domain == "unit":
        return np.asarray(rng.uniform(0.05, 0.95, spec.shape), dtype)
    if spec.domain == "distinct":
        n = math.prod(spec.shape)
        return ((rng.permutation(n) - n / 2 + 0.3) * 0.05).reshape(spec.shape).astype(dtype)
    raise ValueError(f"Input: domain {spec.domain!r} is unknown")


def _laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values with other strides."""
    if layout == "C":
        return array
    if layout == "channels_last":
        axes = (0, *range(2, array.ndim), 1)
        return np.ascontiguousarray(array.transpose(axes)).transpose(
            (0, array.ndim - 1, *range(1, array.ndim - 1))
        )
    if layout == "transposed":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.zeros([2 * n for n in array.shape], array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    raise ValueError(f"Input: layout {layout!r} is unknown")
