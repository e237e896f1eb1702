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
that it is doubled. S and what was found are arrays: only the count of steps waits for them, until the step is over.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratchgan.backend import to_host, xp
from scratchgan.errors import UserError
from scratchgan.kernels import updates
from scratchgan.tensor import Tensor, cast

HALF = np.dtype(np.float16)
INTERVAL = 2000             # steps of optimisers after which S is doubled
SMALLEST, LARGEST = 1.0, 2.0**24


class LossScale:
    """S, and how many steps of optimisers there were since it changed. Both are arrays beside the gradients and
    move there without a look from the host, so that a step can be repeated by itself (`graph.py`)."""

    def __init__(self, factor: float = 2.0**16):
        self._factor, self._steps = np.full((), factor, np.float32), np.zeros((), np.float32)

    def beside(self, like: Any) -> Any:
        """S as an array of one number on the device of `like`."""
        m = xp(like)
        if m is not xp(self._factor):
            self._factor, self._steps = (m.asarray(to_host(a)) for a in self.arrays())
        return self._factor

    def arrays(self) -> tuple[Any, Any]:
        """What `follow` moves."""
        return self._factor, self._steps

    def follow(self, gradients: Sequence[Any]) -> Any:
        """How many numbers of these arrays are not finite, an array of one number; S follows."""
        factor = self.beside(gradients[0])
        found = xp(factor).asarray(sum(updates.nonfinite(g) for g in gradients))
        updates.rescale(factor, self._steps, found, interval=INTERVAL)
        factor[...] = xp(factor).clip(factor, SMALLEST, LARGEST)
        return found

    @property
    def factor(self) -> float:
        return to_host(self._factor).item()

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor[...] = factor

    @property
    def steps(self) -> int:
        return int(to_host(self._steps))

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "steps": self.steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor = float(state["factor"])
        self._steps[...] = int(state["steps"])


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


def factor(like: Any) -> Any:
    """S as an array on the device of `like`, None where nothing is scaled."""
    return None if state.scale is None else state.scale.beside(like)


def moving() -> tuple:
    """The arrays that steps of optimisers move besides their own."""
    return () if state.scale is None else state.scale.arrays()


def factors(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """What a product takes in the place of `tensors`: those of float32 in the type that `half_products` asks for."""
    if state.dtype is None:
        return tensors
    return tuple(cast(t, dtype=state.dtype) if t is not None and t.dtype == np.float32 else t for t in tensors)


def full(x: Tensor) -> Tensor:
    """x in float32 where it has fewer digits: for losses, and for squares that float16 might not hold."""
    return cast(x, dtype=np.float32) if x.dtype.itemsize < 4 else x
