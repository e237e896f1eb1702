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

All three are matrix products with the columns  cols[(n, i), (r, c)] = x[n, c, s i + d r - p]  (im2col, see
`scratchgan.kernels.columns`):

    y = cols W,    dcols = g W^T and dx = dcols added up where they came from (col2im),    dw = g^T cols.

Arrays have PyTorch's logical layout (N, C, *spatial). Their memory may be anything; channels-last is fastest,
since a window's row is then one run of memory, and it is what conv and conv_dx return. The same input gives the
same bits: what threads do for parts of the batch conv_dw adds up in order.

`scratchgan.kernels.transposed` has the ways of conv_dx. `scratchgan.kernels.tiles` widens narrow products where
channels are few, `scratchgan.kernels.winograd` takes fewer multiplications where there are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scratchgan.backend import xp
from scratchgan.kernels import transposed, winograd
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.columns import columns, multiply, over_images, pixel_rows, weight_matrix
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.geometry import Geometry, Ints
from scratchgan.kernels.tiles import narrowed, pixels_at_once, side_by_side, widened


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
        over_images(x, w.shape, geometry, lambda part: fewer.conv(x[part], U, y[part]))
        return y
    T = pixels_at_once(x, geometry, C, K)
    if T > 1:
        w, geometry = widened(w, geometry, T), side_by_side(geometry, T)
    matrix, wide = weight_matrix(w, geometry.groups).swapaxes(1, 2), y.reshape(y.shape[0], *geometry.out, w.shape[0])

    def work(part):
        for images, windows in columns(x, part, geometry):
            multiply(windows, matrix, pixel_rows(wide[images], geometry.groups))

    over_images(x, w.shape, geometry, work)
    return y


@kernel(file="conv_dx")
def conv_dx_nhwc(g, w, geometry: Geometry):
    """`conv_dx` of g (N, P, Q, K) and w (K, C / groups, R, S): dx (N, H, W, C), contiguous."""
    if geometry.kernel == geometry.size and geometry.padding == (0, 0) and geometry.groups == 1:
        return transposed.from_one_window(g, w, geometry)
    gathering_pays = transposed.gathering_pays(w.shape, geometry)
    if gathering_pays and transposed.is_conv(geometry):
        windows, _ = transposed.windows_of_phases(geometry)
        return conv_nhwc.reference(g, w[:, :, ::-1, ::-1].swapaxes(0, 1), windows)
    K, C = w.shape[:2]
    if winograd.pays(g, geometry, C, K):
        dx, fewer = xp(g).empty((g.shape[0], *geometry.size, C), dtype=g.dtype), winograd.Winograd(geometry)
        U = fewer.from_weights(w)
        over_images(g, w.shape, geometry, lambda part: fewer.conv_dx(g[part], U, dx[part]))
        return dx
    return (transposed.gathered if gathering_pays else transposed.scattered)(g, w, geometry)


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
        for images, windows in columns(x, part, geometry):
            yield pixel_rows(g[images], groups).swapaxes(1, 2) @ windows

    dw = _sum_over(x, w_shape, geometry, products)
    dw = dw.reshape(w_shape[0], *geometry.kernel, w_shape[1])
    return contiguous(_from_nhwc(dw))


def _sum_over(x, w_shape: Ints, geometry: Geometry, products: Callable[[slice], Iterator]):
    """The sum of `products` of the parts of x's images that threads take."""
    sums = {}  # by first image: threads end in any order, but their sums are added in one

    def work(part: slice) -> None:
        sums[part.start] = _sum(products(part))

    over_images(x, w_shape, geometry, work)
    return _sum(sums[start] for start in sorted(sums))


def _sum(arrays: Iterator):
    """The sum of new arrays, in their order and in the memory of the first."""
    total = next(arrays)
    for array in arrays:
        total += array
    return total
