"""Arenas: arrays one after the other in one array, so that one launch goes through all of them.

On a device a network's update is dozens of small launches for each parameter, or one for all. An `Arena` moves
the arrays of tensors into one piece of memory, of which each becomes a view; the kernels of
`scratchgan.kernels.updates` do the rest. Gradients are made anew by every backward, so they are gathered first.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratchgan import inplace
from scratchgan.backend import xp
from scratchgan.kernels import updates
from scratchgan.kernels.dispatch import pick
from scratchgan.tensor import Tensor

UNIT = 16           # numbers: to a multiple of so many an arena is filled up, for loads of whole words


def suits(arrays: Sequence[Any]) -> bool:
    """Whether these are floating-point arrays of one dtype whose updates are Triton's."""
    return pick(updates.adam, arrays[0]) == "triton" and arrays[0].dtype.kind == "f" and len({a.dtype for a in arrays}) == 1


class Arena:
    """Views of `flat` in the shapes of some arrays, one after the other; what is left over is 0."""

    def __init__(self, arrays: Sequence[Any]):
        size = sum(a.size for a in arrays)
        self.flat = xp(arrays[0]).zeros(-(-size // UNIT) * UNIT, dtype=arrays[0].dtype)
        self.views, start = [], 0
        for a in arrays:
            self.views.append(self.flat[start:start + a.size].reshape(a.shape))
            start += a.size
        self.gather(arrays)

    def gather(self, arrays: Sequence[Any]) -> None:
        """Copy arrays of these shapes here."""
        size = sum(a.size for a in arrays)
        xp(self.flat).concatenate([a.reshape(-1) for a in arrays], out=self.flat[:size])

    def holds(self, arrays: Sequence[Any]) -> bool:
        """Whether `arrays` are these views themselves."""
        return len(arrays) == len(self.views) and all(a is v for a, v in zip(arrays, self.views))

    @classmethod
    def of(cls, tensors: Sequence[Tensor], present: Arena | None) -> Arena:
        """The arena in which the tensors lie: `present`, or a new one that they are moved to."""
        arrays = [t._array for t in tensors]
        if present is not None and present.holds(arrays):
            return present
        arena = cls(arrays)
        for tensor, view in zip(tensors, arena.views):
            inplace.wrote(tensor._array)        # what a graph has saved is no longer the tensor's
            tensor._array = view
        return arena


def gathered(arrays: Sequence[Any], present: Arena | None) -> Arena:
    """An arena with copies of `arrays`: `present` where it has their shapes."""
    if present is None or [v.shape for v in present.views] != [a.shape for a in arrays]:
        return Arena(arrays)
    present.gather(arrays)
    return present
