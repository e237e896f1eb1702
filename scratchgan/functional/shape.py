"""Rearranging, joining, indexing and padding under PyTorch's names and argument forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index as integer

import numpy as np

from scratchgan.backend import on_host, xp
from scratchgan.functional.dims import one, some, spread
from scratchgan.ops import shape as ops
from scratchgan.ops.shape import clone, contiguous
from scratchgan.tensor import Tensor, expand_to

__all__ = [
    "broadcast_to",
    "cat",
    "chunk",
    "clone",
    "concat",
    "concatenate",
    "contiguous",
    "expand",
    "flatten",
    "flip",
    "gather",
    "getitem",
    "index_select",
    "narrow",
    "pad",
    "permute",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
]


# Axes


def reshape(input, shape: int | Sequence[int]):
    """The elements in memory order under another shape; one entry may be -1."""
    return ops.reshape(input, shape=spread((shape,)))


def permute(input, dims: Sequence[int]):
    """Axis number i of the result is axis dims[i] of the input."""
    axes = some(dims, input.ndim)
    if len(axes) != input.ndim:
        raise ValueError(f"permute: dims is {tuple(dims)}, expected one entry for each of {input.ndim} axes")
    return ops.permute(input, axes=axes)


def transpose(input, dim0: int, dim1: int):
    """The input with two axes exchanged."""
    if input.ndim == 0:
        one(dim0, 0), one(dim1, 0)
        return input
    return ops.swap(input, one(dim0, input.ndim), one(dim1, input.ndim))


def t(input):
    """The transpose of a matrix; vectors and single numbers as they are."""
    if input.ndim > 2:
        raise ValueError(f"t: expected at most 2 axes, found shape {tuple(input.shape)}")
    return ops.swap(input) if input.ndim == 2 else input


def broadcast_to(input, size: Sequence[int]):
    """The input repeated along new leading axes and along axes of size 1, without a copy; -1 keeps an axis.
    """
    size = spread((size,))
    new = len(size) - input.ndim
    if new < 0 or -1 in size[:new]:
        raise ValueError(f"expand: size {size} does not fit the shape {tuple(input.shape)}")
    if -1 in size:
        size = tuple([input.shape[i - new] if n == -1 else n for i, n in enumerate(size)])
    return expand_to(input, shape=size)


def expand(input, *sizes: int):
    """`broadcast_to` as PyTorch's method spells it: expand(2, 3) or expand((2, 3))."""
    return broadcast_to(input, spread(sizes))


def squeeze(input, dim: int | Sequence[int] | None = None):
    """The input without its axes of size 1, or without those of them that `dim` names."""
    axes = range(input.ndim) if dim is None else some(dim, input.ndim)
    return ops.reshape(input, shape=tuple([n for i, n in enumerate(input.shape) if n != 1 or i not in axes]))


def unsqueeze(input, dim: int):
    """The input with a new axis of size 1 at `dim`."""
    at = one(dim, input.ndim + 1)
    return ops.reshape(input, shape=(*input.shape[:at], 1, *input.shape[at:]))


def flatten(input, start_dim: int = 0, end_dim: int = -1):
    """The axes from start_dim to end_dim as one."""
    first, last = one(start_dim, input.ndim), one(end_dim, input.ndim)
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    shape = input.shape
    return ops.reshape(input, shape=(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def unflatten(input, dim: int, sizes: Sequence[int]):
    """One axis as several; one of the sizes may be -1."""
    at = one(dim, input.ndim)
    sizes = spread((sizes,))
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes = tuple([input.shape[at] // rest if n == -1 else n for n in sizes])
    if math.prod(sizes) != input.shape[at]:
        raise ValueError(
            f"unflatten: sizes {sizes} do not multiply to {input.shape[at]}, the size of axis {dim}"
        )
    return ops.reshape(input, shape=(*input.shape[:at], *sizes, *input.shape[at + 1 :]))


def flip(input, dims: int | Sequence[int]):
    """The input with the order along `dims` reversed."""
    return ops.flip(input, axes=some(dims, input.ndim))


# Joining and parting


def cat(tensors: Sequence, dim: int = 0):
    """Tensors one after another along an axis; those of shape (0,) are left out, as in PyTorch."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    kept = [x for x in tensors if tuple(x.shape) != (0,)] or tensors[:1]
    return ops.cat(*kept, axis=one(dim, kept[0].ndim))


concat = concatenate = cat


def stack(tensors: Sequence, dim: int = 0):
    """Tensors of one shape along a new axis."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    return ops.stack(*tensors, axis=one(dim, tensors[0].ndim + 1))


def narrow(input, dim: int, start: int, length: int):
    """The elements start ... start + length - 1 along an axis."""
    n = input.shape[one(dim, input.ndim)]
    start = integer(start) + (n if start < 0 else 0)
    if not 0 <= start <= start + length <= n:
        raise IndexError(f"narrow: start {start} and length {length} reach beyond axis {dim} of size {n}")
    return _along(input, dim, slice(start, start + length))


def split(tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple:
    """Pieces of one size (the last may be smaller), or of the sizes listed."""
    n, sizes = tensor.shape[one(dim, tensor.ndim)], split_size_or_sections
    if hasattr(sizes, "__index__"):
        if sizes < 1:
            raise ValueError(f"split: split_size is {sizes}, expected at least 1")
        sizes = [sizes] * (n // sizes) + [n % sizes] * (n % sizes > 0) or [0]
    if sum(sizes) != n:
        raise ValueError(f"split: sections {list(sizes)} do not add up to {n}, the size of axis {dim}")
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return tuple([narrow(tensor, dim, a, b - a) for a, b in zip(ends, ends[1:])])


def chunk(input, chunks: int, dim: int = 0) -> tuple:
    """At most `chunks` pieces of equal size, the last one perhaps smaller."""
    n = input.shape[one(dim, input.ndim)]
    return split(input, max(1, -(-n // chunks)), dim)


def unbind(input, dim: int = 0) -> tuple:
    """The slices along an axis, which is gone."""
    return tuple([_along(input, dim, i) for i in range(input.shape[one(dim, input.ndim)])])


# Indexing


def _along(input, dim: int, at):
    """input[:, ..., at] with `at` at axis `dim`."""
    return ops.getitem(input, index=(*[slice(None)] * one(dim, input.ndim), at))


def _entry(i):
    """An index that an array understands, in place of a Tensor."""
    if isinstance(i, Tensor):
        i = i._array
    return int(i) if getattr(i, "ndim", None) == 0 and i.dtype.kind in "iu" else i


def indexing_steps(index) -> list[tuple]:
    """What stands between x[ and ] as one or two indices for NumPy, applied one after the other.

    PyTorch takes numbers before arrays: x[0, :, [1, 2]] is x[0][:, [1, 2]], whereas NumPy joins 0 and [1, 2]
    to one index.
    """
    index = tuple([_entry(i) for i in index]) if isinstance(index, tuple) else (_entry(index),)
    arrays = [isinstance(i, list) or getattr(i, "ndim", 0) > 0 for i in index]
    if True not in arrays or not any(_is_number(i) for i in index):
        return [index]
    basic, advanced = [], []
    for i, is_array in zip(index, arrays):
        basic += [slice(None)] * _axes_of(i) if is_array else [i]
        if not _is_number(i):
            advanced.append(i if is_array or i is Ellipsis else slice(None))
    return [tuple(basic), tuple(advanced)]


def _is_number(i) -> bool:
    return isinstance(i, (int, np.integer)) and not isinstance(i, bool)


def getitem(input, index):
    """input[index]: numbers, slices, None, ..., arrays, lists or Tensors of integers or booleans."""
    for step in indexing_steps(index):
        input = ops.getitem(input, index=step)
    return input


def _axes_of(index) -> int:
    """How many axes an array of indices stands for: a boolean mask for as many as it has."""
    return index.ndim if hasattr(index, "dtype") and index.dtype.kind == "b" else 1


def _indices(index, name: str, size: int):
    """An array of indices; those of the host are looked at, a device would have to be waited for."""
    index = index._array if isinstance(index, Tensor) else index
    if getattr(index, "dtype", None) is None or index.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: index has dtype {getattr(index, 'dtype', type(index).__name__)}, expected integers"
        )
    if on_host(index) and index.size:
        least, most = index.min(), index.max()
        if least < 0 or most >= size:
            raise IndexError(f"{name}: index has {least if least < 0 else most}, expected 0 to {size - 1}")
    return index


def gather(input, dim: int, index):
    """out[i, j, k] = input[i, index[i, j, k], k] for dim = 1, and likewise along other axes."""
    axis = one(dim, input.ndim)
    index = _indices(index, "gather", input.shape[axis] if input.ndim else 1)
    if index.ndim != input.ndim:
        raise ValueError(
            f"gather: index has shape {tuple(index.shape)}, expected as many axes as {tuple(input.shape)}"
        )
    if any(i > n for d, (i, n) in enumerate(zip(index.shape, input.shape)) if d != axis):
        raise ValueError(
            f"gather: index has shape {tuple(index.shape)}, beyond the input's {tuple(input.shape)}"
        )
    if not input.ndim:
        return input
    places = [
        xp(index).arange(n).reshape([-1 if d == i else 1 for d in range(index.ndim)])
        for i, n in enumerate(index.shape)
    ]
    places[axis : axis + 1] = [index]
    return ops.getitem(input, index=tuple(places))


def index_select(input, dim: int, index):
    """The slices `index` along an axis."""
    axis = one(dim, input.ndim)
    index = _indices(index, "index_select", input.shape[axis] if input.ndim else 1)
    if index.ndim > 1:
        raise ValueError(f"index_select: index has shape {tuple(index.shape)}, expected one axis")
    return _along(input, axis, index.reshape(-1)) if input.ndim else input


# Padding


def pad(input, pad: Sequence[int], mode: str = "constant", value: float | None = None):
    """The input with elements around it: pad = (before, after) of the last axis, then of the one before it,
    and so on.

    Modes: "constant" (`value`, default 0), "reflect" (without the border itself), "replicate", "circular".
    Negative entries crop.
    """
    pad = spread((pad,))
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: pad is {pad}, expected two numbers for each of at most {input.ndim} axes")
    if mode != "constant" and (mode not in _LARGEST or value is not None):
        raise ValueError(
            f"pad: mode is {mode!r} and value {value}, "
            "expected 'constant', 'reflect', 'replicate' or 'circular', "
            "and a value for 'constant' only"
        )
    widths = [(0, 0)] * (input.ndim - len(pad) // 2) + [pad[i : i + 2] for i in range(len(pad) - 2, -1, -2)]
    if min(pad, default=0) < 0:
        if any(n + min(a, 0) + min(b, 0) < 0 for (a, b), n in zip(widths, input.shape)):
            raise ValueError(f"pad: pad {pad} takes more away than input {tuple(input.shape)} has")
        input = ops.getitem(
            input, index=tuple([slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, input.shape)])
        )
        widths = [(max(0, a), max(0, b)) for a, b in widths]
    if mode == "constant":
        return (
            ops.pad(input, widths=tuple(widths), value=0 if value is None else value)
            if any(map(any, widths))
            else input
        )
    for (before, after), n in zip(widths, input.shape):
        if max(before, after) > _LARGEST[mode](n):
            raise ValueError(
                f"pad: borders of {before} and {after} elements ({mode}) need a longer axis, found size {n}"
            )
    return ops.extend(input, widths=tuple(widths), mode=mode) if any(map(any, widths)) else input


_LARGEST = {  # the widest border of an axis of size n
    "reflect": lambda n: max(0, n - 1),
    "replicate": lambda n: math.inf if n else 0,
    "circular": lambda n: n,
}
