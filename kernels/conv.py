"""Convolution of arrays: the closed triple conv, conv_dx, conv_dw.

With stride s, padding p and dilation d, and x read as zero outside its borders,

    y[n, k, i] = sum over c, r of  w[k, c, r] x[n, c, s i + d r - p]                              (conv)

where i and r run over the positions of the output and of the kernel, one index per spatial axis. y is linear
in x and in w, so the trilinear form

    <g, conv(x, w)> = sum over n, k, c, i, r of  g[n, k, i] w[k, c, r] x[n, c, s i + d r - p]

has one gradient per argument: conv itself (in g), its adjoint in x and its adjoint in w,

    dx[n, c, j] = sum over k and all (i, r) with s i + d r - p = j of  g[n, k, i] w[k, c, r]      (conv_dx)
    dw[k, c, r] = sum over n, i of  g[n, k, i] x[n, c, s i + d r - p]                             (conv_dw)

and each one's two derivatives are the other two functions: three kernels give every order. conv_dx is what is
called transposed convolution. With G groups, group a of y's channels sees group a of x's channels only.

All three are matrix products with the columns  cols[(n, i), (r, c)] = x[n, c, s i + d r - p]  (im2col):

    y = cols W,    dcols = g W^T and dx = dcols added up where they came from (col2im),    dw = g^T cols.

Arrays have PyTorch's logical layout (N, C, *spatial). Their memory may be anything; channels-last is fastest,
since a window's row is then one run of memory, and it is what conv and conv_dx return. On the host columns
are made a few images at a time, so that no whole column matrix ever exists, and each thread takes a part of
the batch; conv_dw adds the parts up in order, so the same input gives the same bits.

Where there are channels enough, `scratchgan.kernels.winograd` does the same with fewer multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from scratchgan import blas
from scratchgan.backend import on_host, parallel, xp
from scratchgan.kernels import winograd
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.geometry import Geometry, ImageWindows, Ints
from scratchgan.kernels.tiles import narrowed, pixels_at_once, side_by_side, widened

BLOCK_NUMBERS = 1 << 18  # numbers of columns at a time on the host: 1 MiB of float32, one core's L2 cache
GATHERED = 8, 64  # at a stride conv_dx is gathered for so many channels of x at least, of g at most
SHARED = 1 << 24  # products of numbers from which on threads pay: handing over costs 0.1 to 0.2 ms
BLOCK_ROWS = 512  # but at least so many rows, since every block reads all of W (256: slower by up to a tenth)


def conv(x, w, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """Cross-correlation: x (N, C, *S) and w (K, C / groups, *R) give y (N, K, *P).

    P = (S + 2 p - d (R - 1) - 1) // s + 1. One or two spatial axes; stride, padding and dilation hold one int
    for each. Shapes are the caller's business: nothing is checked here.
    """
    if x.ndim == 3:
        return conv(_plane(x), _plane(w), *_on_plane(stride, padding, dilation), groups)[:, :, 0]
    axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation)
    out = tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in axes)
    geometry = Geometry(x.shape[2:], w.shape[2:], out, stride, padding, dilation, groups)
    return _from_nhwc(conv_nhwc(_nhwc(x), w, geometry))


def conv_dx(g, w, x_shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """The adjoint of conv in x: g (N, K, *P) and w (K, C / groups, *R) give dx (N, C, *S).

    x_shape tells S: with a stride, several sizes of x give the same size of y (PyTorch's output_padding).
    """
    if g.ndim == 3:
        shape = (*x_shape[:2], 1, x_shape[2])
        return conv_dx(_plane(g), _plane(w), shape, *_on_plane(stride, padding, dilation), groups)[:, :, 0]
    geometry = Geometry(x_shape[2:], w.shape[2:], g.shape[2:], stride, padding, dilation, groups)
    return _from_nhwc(conv_dx_nhwc(_nhwc(g), w, geometry))


def conv_dw(x, g, w_shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int):
    """The adjoint of conv in w: x (N, C, *S) and g (N, K, *P) give dw of w_shape (K, C / groups, *R)."""
    if x.ndim == 3:
        shape = (*w_shape[:2], 1, w_shape[2])
        return conv_dw(_plane(x), _plane(g), shape, *_on_plane(stride, padding, dilation), groups)[:, :, 0]
    geometry = Geometry(x.shape[2:], w_shape[2:], g.shape[2:], stride, padding, dilation, groups)
    return conv_dw_nhwc(_nhwc(x), _nhwc(g), geometry)


def _plane(a):
    """One spatial axis as two, the first of size 1."""
    return a[:, :, None]


def _on_plane(stride: Ints, padding: Ints, dilation: Ints) -> tuple[Ints, Ints, Ints]:
    return (1, *stride), (0, *padding), (1, *dilation)


def _nhwc(a):
    return a.transpose(0, 2, 3, 1)


def _from_nhwc(a):
    return a.transpose(0, 3, 1, 2)


@kernel
def conv_nhwc(x, w, geometry: Geometry):
    """`conv` of x (N, H, W, C) and w (K, C / groups, R, S): y (N, P, Q, K), contiguous."""
    K, C = w.shape[0], x.shape[3]
    y = xp(x).empty((x.shape[0], *geometry.out, K), dtype=x.dtype)
    if winograd.pays(x, geometry, C, K):
        fewer = winograd.Winograd(geometry)
        U = fewer.from_weights(w)
        _over(x, w.shape, geometry, lambda part: fewer.conv(x[part], U, y[part]))
        return y
    T = pixels_at_once(x, geometry, C, K)
    if T > 1:
        w, geometry = widened(w, geometry, T), side_by_side(geometry, T)
    matrix, wide = _matrix(w, geometry.groups).swapaxes(1, 2), y.reshape(y.shape[0], *geometry.out, w.shape[0])

    def work(part):
        for images, columns in _columns(x, part, geometry):
            _matmul(columns, matrix, _rows(wide[images], geometry.groups))

    _over(x, w.shape, geometry, work)
    return y


@kernel(file="conv_dx")
def conv_dx_nhwc(g, w, geometry: Geometry):
    """`conv_dx` of g (N, P, Q, K) and w (K, C / groups, R, S): dx (N, H, W, C), contiguous."""
    if geometry.kernel == geometry.size and geometry.padding == (0, 0) and geometry.groups == 1:
        return _from_one_window(g, w, geometry)
    K, C, gathers = w.shape[0], w.shape[1], _gathers(geometry, w.shape)
    if gathers and geometry.stride == (1, 1) and geometry.groups == 1:
        return conv_nhwc.reference(g, w[:, :, ::-1, ::-1].swapaxes(0, 1), _windows_of_phases(geometry)[0])
    if winograd.pays(g, geometry, C, K):
        dx, fewer = xp(g).empty((g.shape[0], *geometry.size, C), dtype=g.dtype), winograd.Winograd(geometry)
        U = fewer.from_weights(w)
        _over(g, w.shape, geometry, lambda part: fewer.conv_dx(g[part], U, dx[part]))
        return dx
    return (_gathered if gathers else _scattered)(g, w, geometry)


def _from_one_window(g, w, geometry: Geometry):
    """conv_dx with one window, which is all of x: one product."""
    rows, matrix = _rows(g, 1)[0], _matrix(w, 1)[0]
    dx = xp(g).empty((len(rows), matrix.shape[1]), dtype=g.dtype)
    _over(g, w.shape, geometry, lambda part: _matmul(rows[part], matrix, dx[part]))
    return dx.reshape(-1, *geometry.size, w.shape[1])


def _gathered(g, w, geometry: Geometry):
    """conv_dx with each position of x adding up what reaches it.

    Position s u + a of the padded x, a < s, gets g[u - t] w[a + s t] for the taps t < T = R / s: every phase a
    is a convolution over the same windows of g, and phases differ in w alone.
    """
    windows, first = _windows_of_phases(geometry)
    rows, columns = _phases(geometry, first, windows.out)
    matrices, channels, right = _phase_matrices(w, geometry), w.shape[1], geometry.stride[1]
    dx = xp(g).empty((g.shape[0], *geometry.size, channels * geometry.groups), dtype=g.dtype)

    def work(part):
        for images, windowed in _columns(g, part, windows, rows_first=True):
            out = dx[images]
            for (i, here), matrix in zip(rows, matrices):
                below = windowed[:, i]
                phase = below.reshape(len(below), -1, below.shape[-1]) @ matrix
                phase = phase.reshape(*below.shape[:-1], right, channels).transpose(2, 1, 3, 4, 0, 5)
                for b, (j, there) in enumerate(columns):
                    target = out[:, here, there]
                    target[...] = phase[:, :, j, b].reshape(target.shape)

    _over(g, w.shape, geometry, work)
    return dx


def _scattered(g, w, geometry: Geometry):
    """conv_dx with each position of g adding to its window."""
    geometry = _apart(geometry)
    # With x folded by phase, position s i + d r is row i + d r // s of phase d r % s: the dcols of a chunk of
    # taps that fall on different phases are added in one go, as runs of whole rows.
    (rows, columns), (P, Q), groups = _chunks(geometry), geometry.out, geometry.groups
    chunks = [(u, v, a, b, _matrix(w[:, :, r, s], groups)) for r, u, a in rows for s, v, b in columns]
    channels = w.shape[1] * groups
    fold = (P + rows[-1].shift, Q + columns[-1].shift, *geometry.stride)
    axes = zip(fold, geometry.stride, geometry.size, geometry.padding)
    covered = all(n * s >= h + p for n, s, h, p in axes)  # else the far border of x is read by no window
    dx = (xp(g).empty if covered else xp(g).zeros)((g.shape[0], *geometry.size, channels), dtype=g.dtype)

    def work(part):
        for images in _blocks(part, dx, geometry):
            grad = _rows(g[images], groups)
            folded = xp(g).zeros((images.stop - images.start, *fold, channels), dtype=g.dtype)
            for u, v, a, b, matrix in chunks:
                target = folded[:, u:u + P, v:v + Q, a, b]
                dcols = (grad @ matrix).reshape(groups, *target.shape[:-1], channels // groups)
                target += dcols.transpose(1, 2, 3, 4, 5, 0, 6).reshape(target.shape)
            _unfold(folded, dx[images], geometry)

    _over(g, w.shape, geometry, work)
    return dx


@kernel(file="conv_dw")
def conv_dw_nhwc(x, g, geometry: Geometry):
    """`conv_dw` of x (N, H, W, C) and g (N, P, Q, K): dw (K, C / groups, R, S)."""
    K, C = g.shape[3], x.shape[3]
    if winograd.pays(x, geometry, C, K):
        fewer, w_shape = winograd.Winograd(geometry), (K, C, *geometry.kernel)
        return fewer.to_weights(_sum_over(x, w_shape, geometry, lambda part: fewer.conv_dw(x[part], g[part])), C)
    T = pixels_at_once(x, geometry, C, K)
    if T > 1:
        wide = g.reshape(*g.shape[:2], g.shape[2] // T, T * g.shape[3])
        return narrowed(_dw(x, wide, side_by_side(geometry, T)), geometry, T)
    return _dw(x, g, geometry)


def _dw(x, g, geometry: Geometry):
    groups, w_shape = geometry.groups, (g.shape[3], x.shape[3] // geometry.groups, *geometry.kernel)

    def products(part: slice) -> Iterator:
        for images, columns in _columns(x, part, geometry):
            yield _rows(g[images], groups).swapaxes(1, 2) @ columns

    dw = _sum_over(x, w_shape, geometry, products)
    dw = dw.reshape(w_shape[0], *geometry.kernel, w_shape[1])
    return contiguous(_from_nhwc(dw))


def _sum_over(x, w_shape: Ints, geometry: Geometry, products: Callable[[slice], Iterator]):
    """The sum of `products` of the parts of x's images that threads take."""
    sums = {}  # by first image: threads end in any order, but their sums are added in one

    def work(part: slice) -> None:
        sums[part.start] = _sum(products(part))

    _over(x, w_shape, geometry, work)
    return _sum(sums[start] for start in sorted(sums))


def _sum(arrays: Iterator):
    """The sum of new arrays, in their order and in the memory of the first."""
    total = next(arrays)
    for array in arrays:
        total += array
    return total


def _matrix(w, groups: int):
    """w (K, C, R, S) as one matrix per group, (groups, K / groups, R S C)."""
    return contiguous(_nhwc(w)).reshape(groups, w.shape[0] // groups, -1)


def _rows(a, groups: int):
    """(N, H, W, C) as one matrix per group, (groups, N H W, C / groups): a view where a is contiguous."""
    n, height, width, channels = a.shape
    return a.reshape(n * height * width, groups, channels // groups).swapaxes(0, 1)


def _matmul(a, b, out):
    """out = a b, where the host writes straight into a view."""
    if on_host(a):
        blas.matmul(a, b, out=out)
    else:
        out[...] = a @ b


def _columns(x, part: slice, geometry: Geometry, rows_first: bool = False) -> Iterator[tuple[slice, Any]]:
    """im2col of the images of `part`, a block at a time: which images, and x (N, H, W, C) of these as one
    matrix per group, (groups, n P Q, R S C / groups), or (groups, P, n, Q, R S C / groups) with `rows_first`.
    All blocks are written to the same memory, which stays in the cache and is given its zeros once."""
    order = (5, 1, 0, 2, 3, 4, 6) if rows_first else (5, 0, 1, 2, 3, 4, 6)
    copied = geometry.out != (1, 1) and geometry.kernel != (1, 1)    # else the columns may be x's own memory
    (P, Q), (R, S), source, memory, columns = geometry.out, geometry.kernel, ImageWindows(geometry), None, None
    for images in _blocks(part, x, geometry):
        n, windows = images.stop - images.start, source.of(x[images]).transpose(order)
        if copied:
            if memory is None:
                memory = xp(x).empty(windows.size, dtype=x.dtype)
            if columns is None or columns.shape != windows.shape:
                columns = memory[:windows.size].reshape(windows.shape)
            columns[...] = windows
        rows = (P, n, Q) if rows_first else (n * P * Q,)
        yield images, (columns if copied else windows).reshape(windows.shape[0], *rows, R * S * windows.shape[-1])


def _gathers(geometry: Geometry, w_shape: Ints) -> bool:
    """Whether conv_dx is better gathered from g than scattered to x.

    Copying windows of g is cheaper than adding up windows of x, and makes for longer products: for 64 to 32
    channels, k4 s2, 0.75 of the time. But it takes a kernel of whole strides and multiplies a little beyond the
    borders of x, which costs more from 128 channels on; and few channels of x make its matrices narrow.
    """
    axes = zip(geometry.kernel, geometry.stride, geometry.dilation)
    if not all(r % s == 0 and (d == 1 or s == 1) for r, s, d in axes):
        return False
    windows, _ = _windows_of_phases(geometry)
    (P, Q), height, width = geometry.out, geometry.size[0], windows.out[1]
    more = height * width / max(1, P * Q * geometry.stride[0])
    least, most = GATHERED
    suited = geometry.stride == (1, 1) or (w_shape[1] >= least and w_shape[0] // geometry.groups <= most)
    return more < 1.3 and suited and min(windows.padding) >= 0


def _windows_of_phases(geometry: Geometry) -> tuple[Geometry, Ints]:
    """The windows of g that `_gathered` multiplies, as those of a convolution at stride 1, and the u of the
    first."""
    axes = list(zip(geometry.size, geometry.padding, geometry.stride))
    first = tuple(p // s for _, p, s in axes)
    count = tuple((h - 1 + p) // s + 1 - u for (h, p, s), u in zip(axes, first))
    taps = tuple(r // s for r, s in zip(geometry.kernel, geometry.stride))
    padding = tuple(d * (t - 1) - u for d, t, u in zip(geometry.dilation, taps, first))
    return geometry._replace(size=geometry.out, kernel=taps, out=count, stride=(1, 1), padding=padding), first


def _phase_matrices(w, geometry: Geometry) -> list:
    """For each vertical phase of x its weights (groups, T T K / groups, horizontal phases C / groups), the taps
    in the order in which a window of g has them."""
    K, C, groups, (down, right) = w.shape[0], w.shape[1], geometry.groups, geometry.stride
    taps, across = (r // s for r, s in zip(w.shape[2:], geometry.stride))
    by_tap = w.reshape(groups, K // groups, C, taps, down, across, right)[:, :, :, ::-1, :, ::-1]
    matrices = contiguous(by_tap.transpose(4, 0, 3, 5, 1, 6, 2)).reshape(down, groups, -1, right * C)
    return list(matrices)


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


def _over(a, w_shape: Ints, geometry: Geometry, work: Callable[[slice], None]) -> None:
    """work(slice) for slices of a's first axis: on the host one per thread, if there is enough to do, else all of it
    at once."""
    n = a.shape[0]
    if on_host(a) and n * math.prod(geometry.out) * math.prod(w_shape) >= SHARED:
        parallel(n, work)
    else:
        work(slice(0, n))


def _blocks(part: slice, x, geometry: Geometry) -> Iterator[slice]:
    """Cut a slice of the batch into blocks of a few MiB of columns; a device takes all of it at once."""
    block = x.shape[0]
    if on_host(x):
        columns = geometry.kernel[0] * geometry.kernel[1] * x.shape[3]
        block = max(BLOCK_ROWS, BLOCK_NUMBERS // columns) // math.prod(geometry.out)
    block = max(1, block)
    for start in range(part.start, max(part.stop, part.start + 1), block):  # an empty batch is an empty block
        yield slice(start, min(start + block, part.stop))
