"""Guards against arrays that change between forward and backward.

Writes through Tensors (`x.copy_(...)`, `x += ...`, an optimiser's step) are stamped with the clock that also numbers nodes. Writes
to an array that `.data` or `.numpy()` has handed out can't be seen, so such an array is fingerprinted: when it is handed out (for the
nodes that hold it already) and whenever a node saves it later. `check_unchanged` compares when backward arrives at the node.
Tensors whose arrays were never handed out cost nothing.
"""
from __future__ import annotations

import itertools
import weakref

from scratchgan.backend import xp

clock = itertools.count(1)           # numbers nodes and writes: what is newer has the larger number


class writes:
    """The in-place writes through Tensors so far."""
    last = 0
    by_owner: dict[int, int] = {}    # id of the array that owns the memory -> time of its last write


# id of the array that owns the memory -> (weak reference to it, time of handing out, fingerprint then)
exposed: dict[int, tuple[weakref.ref, int, int]] = {}
prints: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()     # node -> fingerprints of the exposed arrays it saved


def owner(array):
    """The array that owns the memory which `array` is a view of."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "dtype"):
        array = array.base
    return array


def wrote(array) -> None:
    """Stamp an in-place write, so that a graph which saved this memory earlier refuses to go backward."""
    writes.last = next(clock)
    writes.by_owner[id(owner(array))] = writes.last


def expose(array) -> None:
    """Note that the caller gets hold of `array` itself, and what it contained at that time."""
    base = owner(array)
    entry = exposed.get(id(base))
    if entry is None or entry[0]() is not base:
        key = id(base)
        exposed[key] = (weakref.ref(base, lambda _: exposed.pop(key, None)), next(clock), fingerprint(base))


def remember(node) -> None:
    """Fingerprint those arrays of a new node that were handed out before."""
    found = [(a, fingerprint(a)) for a in node.saved if hasattr(a, "dtype") and id(owner(a)) in exposed]
    if found:
        prints[node] = found


def fingerprint(array) -> int:
    """A weighted sum over the array's bytes: one pass over the memory, changed by any ordinary write."""
    m = xp(array)
    data = m.ascontiguousarray(array).reshape(-1).view(m.uint8)
    if data.size % 4 == 0:
        data = data.view(m.uint32)
    width = 251                      # prime, so that swapped elements meet different weights
    rest = data.size % width
    rows = data[:data.size - rest].reshape(-1, width)
    weights = m.arange(1, width + 1, dtype=m.uint64)
    return int((rows.sum(axis=0, dtype=m.uint64) * weights).sum() + (data[data.size - rest:] * weights[:rest]).sum())


def check_unchanged(node) -> None:
    """Raise a RuntimeError if an array that this node saved was written to since the node was made."""
    for a in node.saved:
        if not hasattr(a, "dtype"):
            continue
        base = owner(a)
        _, when, before = exposed.get(id(base), (None, 0, 0))
        if writes.by_owner.get(id(base), 0) > node.id or (when > node.id and fingerprint(base) != before):
            _refuse(node, a)
    for a, before in prints.get(node, ()):
        if fingerprint(a) != before:
            _refuse(node, a)


def _refuse(node, array) -> None:
    raise RuntimeError(f"{node.op.name}: an array of shape {tuple(array.shape)} that its backward needs was changed in place "
                       "after forward")
