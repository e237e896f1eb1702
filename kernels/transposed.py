"""Transposed convolution of arrays: three ways to compute conv_dx, and which of them takes the least time.

    dx[n, c, j] = sum over k and all (i, r) with s i + d r - p = j of  g[n, k, i] w[k, c, r]

Where there is one window, which is all of x, it is one product. Else either each position of x gathers what
reaches it, or each position of g scatters to its window (col2im):

Gathered. Position s u + a of the padded x, of phase a < s, gets g[u - t] w[a + s t] for the taps t with a + s t < R:
every phase is a convolution at stride 1 over the same windows of g, and phases differ in their weights alone. At
stride 1 there is one phase, and this is conv with the taps in reverse.

Scattered. dcols = g w, and dcols[i, r] is added to position s i + d r: to row i + d r // s of phase d r % s.

Copying windows of g is cheaper than adding up windows of x, and makes for longer products. But gathering also
multiplies what lies beyond the borders of g, and zeros where a kernel is not a whole number of strides wide.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from scratchgan.backend import xp
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.columns import columns, image_blocks, multiply, over_images, pixel_rows, weight_matrix
from scratchgan.kernels.geometry import Geometry, Ints
from scratchgan.kernels.tiles import MULTIPLY, NARROWEST, NUMBER, RUN, fastest, pixel_time

# What takes a number on one core, in ns, beside the costs in `scratchgan.kernels.tiles`: to add one of dcols, to write
# one of dx, to read one of g again for the next taps. Fitted to kernels of 1 to 7 at strides of 1 to 3.
ADD, WRITE, READ = 0.8, 0.6, 0.2


def from_one_window(g, w, geometry: Geometry):
    """dx (N, H, W, C) of g (N, 1, 1, K) and w (K, C, H, W): one product."""
    rows, matrix = pixel_rows(g, 1)[0], weight_matrix(w, 1)[0]
    dx = xp(g).empty((len(rows), matrix.shape[1]), dtype=g.dtype)
    over_images(g, w.shape, geometry, lambda part: multiply(rows[part], matrix, dx[part]))
    return dx.reshape(-1, *geometry.size, w.shape[1])


@lru_cache(maxsize=4096)
def gathering_pays(w_shape: Ints, geometry: Geometry) -> bool:
    """Whether gathering can be done, and is likely to be faster than scattering."""
    axes = zip(geometry.kernel, geometry.stride, geometry.dilation)
    possible = all(r >= s and (d == 1 or s == 1) for r, s, d in axes)  # with r < s some phases would be all zeros
    if not possible or min(windows_of_phases(geometry)[0].padding) < 0:
        return False
    return _gathered_time(w_shape, geometry) < _scattered_time(w_shape, geometry)


def _gathered_time(w_shape: Ints, geometry: Geometry) -> float:
    """What an image costs on one core, in ns."""
    windows, _ = windows_of_phases(geometry)
    (K, C), (down, right), (T, across) = w_shape[:2], geometry.stride, windows.kernel
    if is_conv(geometry):
        return math.prod(windows.out) * pixel_time(windows, K, C, fastest(windows, K, C))
    copies = T * across * K * NUMBER + T * RUN + down * right * C * geometry.groups * WRITE
    return math.prod(windows.out) * (copies + geometry.kernel[0] * across * K * max(NARROWEST, right * C) * MULTIPLY)


def _scattered_time(w_shape: Ints, geometry: Geometry) -> float:
    """What an image costs on one core, in ns."""
    (K, C), (rows, across) = w_shape[:2], _chunks(geometry)
    chunks, taps, channels = len(rows) * len(across), math.prod(geometry.kernel), C * geometry.groups
    width = rows[0].taps.stop * across[0].taps.stop * C  # of the products, but for the last taps
    product = K * C * max(1, NARROWEST / max(1, width)) * MULTIPLY
    pixel = taps * (product + channels * ADD) + chunks * (geometry.stride[0] * RUN + K * READ)
    return math.prod(geometry.out) * pixel + math.prod(geometry.size) * channels * WRITE


def is_conv(geometry: Geometry) -> bool:
    """Whether gathering is conv itself, of g and the taps in reverse over `windows_of_phases`."""
    return geometry.stride == (1, 1) and geometry.groups == 1


@lru_cache(maxsize=4096)
def windows_of_phases(geometry: Geometry) -> tuple[Geometry, Ints]:
    """The windows of g that `gathered` multiplies, as those of a convolution at stride 1, and the u of the first."""
    axes = list(zip(geometry.size, geometry.padding, geometry.stride))
    first = tuple(p // s for _, p, s in axes)
    count = tuple((h - 1 + p) // s + 1 - u for (h, p, s), u in zip(axes, first))
    taps = tuple(-(-r // s) for r, s in zip(geometry.kernel, geometry.stride))
    padding = tuple(d * (t - 1) - u for d, t, u in zip(geometry.dilation, taps, first))
    return geometry._replace(size=geometry.out, kernel=taps, out=count, stride=(1, 1), padding=padding), first


def gathered(g, w, geometry: Geometry):
    """dx (N, H, W, C) of g (N, P, Q, K) and w (K, C / groups, R, S), phase by phase."""
    windows, first = windows_of_phases(geometry)
    rows, across = _phases(geometry, first, windows.out)
    matrices, channels, right = _phase_matrices(w, geometry, windows.kernel), w.shape[1], geometry.stride[1]
    dx = xp(g).empty((g.shape[0], *geometry.size, channels * geometry.groups), dtype=g.dtype)

    def work(part):
        for images, windowed in columns(g, part, windows, rows_first=True):
            out = dx[images]
            for (i, here), matrix in zip(rows, matrices):
                below = windowed[:, i]
                taps = below.reshape(len(below), -1, below.shape[-1])[..., below.shape[-1] - matrix.shape[1]:]
                phase = multiply(taps, matrix).reshape(*below.shape[:-1], right, channels).transpose(2, 1, 3, 4, 0, 5)
                for b, (j, there) in enumerate(across):
                    target = out[:, here, there]
                    target[...] = phase[:, :, j, b].reshape(target.shape)

    over_images(g, w.shape, geometry, work)
    return dx


def _phase_matrices(w, geometry: Geometry, taps: Ints) -> list:
    """For each vertical phase of x its weights (groups, T T K / groups, horizontal phases C / groups), the taps
    in the order in which a window of g has them.

    A kernel that ends within a stride gets zeros beside it; below it a phase without a last tap has fewer rows.
    """
    (K, C, R, S), groups, (down, right), (T, across) = w.shape, geometry.groups, geometry.stride, taps
    whole = w
    if (R, S) != (T * down, across * right):
        whole = xp(w).zeros((K, C, T * down, across * right), dtype=w.dtype)
        whole[:, :, :R, :S] = w
    by_tap = whole.reshape(groups, K // groups, C, T, down, across, right)[:, :, :, ::-1, :, ::-1]
    matrices = contiguous(by_tap.transpose(4, 0, 3, 5, 1, 6, 2)).reshape(down, groups, -1, right * C)
    absent = [T - len(range(a, R, down)) for a in range(down)]
    return [matrix[:, n * (matrix.shape[1] // T):] for n, matrix in zip(absent, matrices)]


def scattered(g, w, geometry: Geometry):
    """dx (N, H, W, C) of g (N, P, Q, K) and w (K, C / groups, R, S), some taps after the other."""
    geometry = _apart(geometry)
    # The dcols of a chunk of taps that fall on different phases are added in one go, as runs of whole rows.
    (rows, across), (P, Q), groups = _chunks(geometry), geometry.out, geometry.groups
    chunks = [(u, v, a, b, weight_matrix(w[:, :, r, s], groups)) for r, u, a in rows for s, v, b in across]
    channels = w.shape[1] * groups
    fold = (P + rows[-1].shift, Q + across[-1].shift, *geometry.stride)
    axes = zip(fold, geometry.stride, geometry.size, geometry.padding)
    covered = all(n * s >= h + p for n, s, h, p in axes)  # else the far border of x is read by no window
    dx = (xp(g).empty if covered else xp(g).zeros)((g.shape[0], *geometry.size, channels), dtype=g.dtype)

    def work(part):
        for images in image_blocks(part, dx, geometry):
            grad = pixel_rows(g[images], groups)
            folded = xp(g).zeros((images.stop - images.start, *fold, channels), dtype=g.dtype)
            for u, v, a, b, matrix in chunks:
                target = folded[:, u:u + P, v:v + Q, a, b]
                dcols = multiply(grad, matrix).reshape(groups, *target.shape[:-1], channels // groups)
                target += dcols.transpose(1, 2, 3, 4, 5, 0, 6).reshape(target.shape)
            _unfold(folded, dx[images], geometry)

    over_images(g, w.shape, geometry, work)
    return dx


def _apart(geometry: Geometry) -> Geometry:
    """The same sum with a stride as long as the kernel where there is but one window: its taps never meet."""
    axes = zip(geometry.out, geometry.stride, geometry.kernel)
    return geometry._replace(stride=tuple(max(s, r) if n == 1 else s for n, s, r in axes))


class Chunk(NamedTuple):
    """Taps of one axis that read different phases of x after the same shift."""

    taps: slice
    shift: int
    phases: slice


def _chunks(geometry: Geometry) -> list[list[Chunk]]:
    """For each axis, the kernel's taps in chunks of a stride, or one by one where they are dilated."""
    axes = []
    for taps, stride, dilation in zip(geometry.kernel, geometry.stride, geometry.dilation):
        step, chunks = (stride if dilation == 1 else 1), []
        for first in range(0, taps, step):
            length = min(step, taps - first)
            shift, phase = divmod(dilation * first, stride)
            chunks.append(Chunk(slice(first, first + length), shift, slice(phase, phase + length)))
        axes.append(chunks)
    return axes


def _unfold(folded, dx, geometry: Geometry) -> None:
    """Write folded (N, I, J, sh, sw, C), the padded dx by phase, to dx (N, H, W, C)."""
    rows, columns = _phases(geometry, (0, 0), folded.shape[1:3])
    for a, (i, here) in enumerate(rows):
        for b, (j, there) in enumerate(columns):
            dx[:, here, there] = folded[:, i, j, a, b]


def _phases(geometry: Geometry, first: Ints, count: Ints) -> list[list[tuple[slice, slice]]]:
    """For each axis and phase which of the positions u, `count` of them from `first` on, lie inside x, and
    where."""
    axes = zip(first, count, geometry.stride, geometry.padding, geometry.size)
    return [[_phase(phase, *axis) for phase in range(axis[2])] for axis in axes]


def _phase(phase: int, first: int, count: int, stride: int, padding: int, size: int) -> tuple[slice, slice]:
    """Which of the positions u = first, first + 1, ... of a phase lie inside x, counted from `first`, and
    where: at s u + phase - p."""
    start = max(first, -((phase - padding) // stride))
    stop = max(start, min(first + count, (size - 1 + padding - phase) // stride + 1))
    begin = stride * start + phase - padding
    return slice(start - first, stop - first), slice(begin, begin + stride * (stop - start), stride)
