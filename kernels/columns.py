"""Columns of images (im2col): what turns a convolution into matrix products, a few images at a time.

cols[(n, i), (r, c)] = x[n, c, s i + d r - p] has a row for each pixel of y and a column for each number that its
window reads. On the host a block of images makes as many rows as the cache holds columns of, so that no whole
column matrix ever exists, and each thread takes a part of the batch. A device takes all images at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from scratchgan import blas
from scratchgan.backend import on_host, parallel, xp
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.geometry import Geometry, ImageWindows, Ints

BLOCK_NUMBERS = 1 << 18  # numbers of columns at a time on the host: 1 MiB of float32, one core's L2 cache
BLOCK_ROWS = 512  # but at least so many rows, since every block reads all of W (256: slower by up to a tenth)
SHARED = 1 << 24  # products of numbers from which on threads pay: handing over costs 0.1 to 0.2 ms


def columns(x, part: slice, geometry: Geometry, rows_first: bool = False) -> Iterator[tuple[slice, Any]]:
    """im2col of the images of `part`, a block at a time: which images, and x (N, H, W, C) of these as one
    matrix per group, (groups, n P Q, R S C / groups), or (groups, P, n, Q, R S C / groups) with `rows_first`.
    All blocks are written to the same memory, which stays in the cache and is given its zeros once."""
    order = (5, 1, 0, 2, 3, 4, 6) if rows_first else (5, 0, 1, 2, 3, 4, 6)
    copied = geometry.out != (1, 1) and geometry.kernel != (1, 1)    # else the columns may be x's own memory
    (P, Q), (R, S), source, memory, copy = geometry.out, geometry.kernel, ImageWindows(geometry), None, None
    for images in image_blocks(part, x, geometry):
        n, windows = images.stop - images.start, source.of(x[images]).transpose(order)
        if copied:
            if memory is None:
                memory = xp(x).empty(windows.size, dtype=x.dtype)
            if copy is None or copy.shape != windows.shape:
                copy = memory[:windows.size].reshape(windows.shape)
            copy[...] = windows
        rows = (P, n, Q) if rows_first else (n * P * Q,)
        yield images, (copy if copied else windows).reshape(windows.shape[0], *rows, R * S * windows.shape[-1])


def pixel_rows(a, groups: int):
    """(N, H, W, C) as one matrix per group, (groups, N H W, C / groups): a view where a is contiguous."""
    n, height, width, channels = a.shape
    return a.reshape(n * height * width, groups, channels // groups).swapaxes(0, 1)


def weight_matrix(w, groups: int):
    """w (K, C, R, S) as one matrix per group, (groups, K / groups, R S C)."""
    return contiguous(w.transpose(0, 2, 3, 1)).reshape(groups, w.shape[0] // groups, -1)


def multiply(a, b, out=None):
    """a b, in `out` where that is given; the host writes straight into a view."""
    if on_host(a):
        return blas.matmul(a, b, out=out)
    if out is None:
        return a @ b
    out[...] = a @ b
    return out


def over_images(a, w_shape: Ints, geometry: Geometry, work: Callable[[slice], None]) -> None:
    """work(slice) for slices of a's first axis: on the host one per thread, if there is enough to do, else all of it
    at once."""
    n = a.shape[0]
    if on_host(a) and n * math.prod(geometry.out) * math.prod(w_shape) >= SHARED:
        parallel(n, work)
    else:
        work(slice(0, n))


def image_blocks(part: slice, x, geometry: Geometry) -> Iterator[slice]:
    """Cut a slice of the batch into blocks of a few MiB of columns; a device takes all of it at once."""
    block = x.shape[0]
    if on_host(x):
        numbers = geometry.kernel[0] * geometry.kernel[1] * x.shape[3]
        block = max(BLOCK_ROWS, BLOCK_NUMBERS // numbers) // math.prod(geometry.out)
    block = max(1, block)
    for start in range(part.start, max(part.stop, part.start + 1), block):  # an empty batch is an empty block
        yield slice(start, min(start + block, part.stop))
