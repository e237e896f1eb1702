"""Training in half precision: products of float16 or bfloat16 numbers, everything else of float32.

Micikevicius et al. 2018, "Mixed precision training" (arXiv 1710.03740). Inside `half_products(dtype)`
convolutions and linear layers take their arguments in `dtype` and answer in it; what follows goes on in the type
that it finds. Weights, their gradients and updates, statistics and losses are float32 (section 3.1: master
weights).

float16 holds nothing below 6e-8, and gradients are small, so they are scaled (section 3.2): the cotangent of a
float16 tensor is S times the gradient, that of any other is the gradient itself. The sweep (`autograd.py`)
multiplies where it enters a float16 part of the graph and divides where it leaves it, so no GAN and no
optimiser has to know of S. Where gradients are to be differentiated themselves (`create_graph`), S is 1.
An optimiser leaves out a step whose gradients are not all finite, and S is halved; after INTERVAL steps without
that it is doubled.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratchgan.errors import UserError
from scratchgan.kernels import updates
from scratchgan.tensor import Tensor, cast

HALF = np.dtype(np.float16)
INTERVAL = 2000             # steps of optimisers after which S is doubled
SMALLEST, LARGEST = 1.0, 2.0**24


class LossScale:
    """S, and how many steps of optimisers there were since it changed."""

    def __init__(self, factor: float = 2.0**16):
        self.factor, self.steps = factor, 0

    def accepts(self, gradients: Iterable[Any]) -> bool:
        """Whether all numbers of these arrays are finite; S follows."""
        finite = not sum(updates.nonfinite(g) for g in gradients)
        self.steps = self.steps + 1 if finite else 0
        if not finite:
            self.factor = max(SMALLEST, self.factor / 2)
        elif self.steps == INTERVAL:
            self.factor, self.steps = min(LARGEST, self.factor * 2), 0
        return finite

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "steps": self.steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor, self.steps = float(state["factor"]), int(state["steps"])


class state:
    """One per process: of products, None for the type of their arguments; and what scales float16's gradients."""
    dtype: np.dtype | None = None
    scale: LossScale | None = None


def half_dtype(name: str) -> np.dtype:
    """The type called float16 or bfloat16. UserError where the package that knows bfloat16 is not there."""
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ModuleNotFoundError:
            raise UserError("bfloat16: needs the package ml_dtypes: pip install ml_dtypes") from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@contextmanager
def half_products(dtype: np.dtype | None, scale: LossScale | None = None) -> Iterator[None]:
    """Inside, layers multiply float32 numbers in `dtype` (None: as they are), with `scale` for float16."""
    before = state.dtype, state.scale
    state.dtype, state.scale = dtype, scale
    try:
        yield
    finally:
        state.dtype, state.scale = before


def factor() -> float:
    """S, or 1 where nothing is scaled."""
    return 1.0 if state.scale is None else state.scale.factor


def factors(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """What a product takes in the place of `tensors`: those of float32 in the type that `half_products` asks for."""
    if state.dtype is None:
        return tensors
    return tuple(cast(t, dtype=state.dtype) if t is not None and t.dtype == np.float32 else t for t in tensors)


def full(x: Tensor) -> Tensor:
    """x in float32 where it has fewer digits: for losses, and for squares that float16 might not hold."""
    return cast(x, dtype=np.float32) if x.dtype.itemsize < 4 else x
