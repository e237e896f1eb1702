"""Convolution with fewer multiplications, on the host: Winograd's minimal filtering.

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks" (arXiv 1509.09308), section 4. m outputs
of a filter w of T taps, y_i = sum over t of w_t x_(i + t), take m + T - 1 products instead of m T:

    y = A^T [(G w) * (B^T x)],    * element by element                                              F(m, T)

with the matrices in `FILTERS`, and a tile of m x m outputs the same along either axis, A^T [(G w G^T) *
(B^T x B)] A. At a stride s, with kernels of s T taps, position s t + u of the padded x and of w is position t of
phase u, and y is a sum over phases as it is one over channels. A tile of 2 x 2 outputs then takes, for each
channel and phase, 9 products instead of 16 (kernels of 4 at stride 2) or 16 instead of 36 (kernels of 3).

With f for the products of a tile and of each pair of channels, and a for the channels and phases of x,

    <g, conv(x, w)> = sum over tiles, f, k, a of  (A g)[f, tile, k]  (G w)[f, k, a]  (B^T x)[f, tile, a]

and so conv and its adjoints are one matrix product for each f, between three transforms and their transposes:

    y = A^T [(B^T x) (G w)^T],    dx = B [(A g) (G w)],    dw = G^T [(A g)^T (B^T x)].

Here f is called a point, as in the polynomial multiplication behind F(m, T), and the factors and the product of
y are named as in the paper: U = G w, V = B^T x and M = V U^T. Transforms are sums and differences of rows of
memory, of as many images as the cache holds. In float32 the root mean square error is 1 to 2.1 times that of
plain sums (64 to 256 channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scratchgan.backend import on_host
from scratchgan.kernels.blocks import contiguous, over
from scratchgan.kernels.geometry import Geometry, ImageWindows, Ints
from scratchgan.kernels.tiles import fastest, pixel_time

Matrix = tuple[Ints, ...]

TILES = 192  # at a time: enough rows for a product, few enough for the cache

# What a number of V, of M and of U costs on one core, and what a multiplication, in the units of kernels.tiles, fitted
# to kernels of 3 and of 4 at stride 2, at 32 to 512 channels. U is made once and read again with each TILES.
V_NUMBER, M_NUMBER, U_NUMBER, MULTIPLY = 2.0, 1.5, 1.0, 0.036


class Filter(NamedTuple):
    """F(m, T) by its matrices, which have a row for each point. Rows of G have the factor `scale`, too."""

    A: Matrix  # a column for each output
    G: Matrix  # a column for each tap
    B_T: Matrix
    scale: tuple[float, ...]

    @property
    def outputs(self) -> int:
        return len(self.A[0])


FILTERS = {  # by T
    2: Filter(
        A=((1, 0), (1, 1), (0, 1)),
        G=((1, 0), (1, 1), (0, 1)),
        B_T=((1, -1, 0), (0, 1, 0), (0, -1, 1)),
        scale=(1, 1, 1),
    ),
    3: Filter(
        A=((1, 0), (1, 1), (1, -1), (0, 1)),
        G=((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1)),
        B_T=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
        scale=(1, 0.5, 0.5, 1),
    ),
}


def pays(a, geometry: Geometry, C: int, K: int) -> bool:
    """Whether this is likely to be faster than plain sums, for C channels of x, K of y and the images of a."""
    possible = on_host(a) and a.dtype.type in (np.float32, np.float64) and a.size and covers(geometry)
    return bool(possible) and _faster(geometry, len(a), C, K)


def covers(geometry: Geometry) -> bool:
    """Whether kernels are of two or three whole strides, in one group and not dilated."""
    whole = all(r in (2 * s, 3 * s) for r, s in zip(geometry.kernel, geometry.stride))
    return whole and geometry.groups == 1 and geometry.dilation == (1, 1)


@lru_cache(maxsize=4096)
def _faster(geometry: Geometry, n: int, C: int, K: int) -> bool:
    """The same for n images, where it can be done."""
    plain = n * math.prod(geometry.out) * pixel_time(geometry, C, K, fastest(geometry, C, K))
    return _time(geometry, n, C, K) < plain


def _time(geometry: Geometry, n: int, C: int, K: int) -> float:
    form, phases = Winograd(geometry), math.prod(geometry.stride)
    tiles, points = n * math.prod(form.tiles), math.prod(form.points)
    tile = phases * C * (V_NUMBER + MULTIPLY * K) + K * M_NUMBER
    return points * (tiles * tile + phases * C * K * U_NUMBER * (1 + tiles / min(TILES, tiles)))


class Winograd:
    """The triple of one Geometry, for parts of a batch: x (n, H, W, C), y and g (n, P, Q, K), and U = G w
    (f, K, a), a running over phases (u, v) and channels."""

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.filters = tuple(FILTERS[r // s] for r, s in zip(geometry.kernel, geometry.stride))
        self.tiles = tuple(-(-p // F.outputs) for p, F in zip(geometry.out, self.filters))
        self.points = tuple(len(F.A) for F in self.filters)
        # Up to where tiles read a phase of the padded x: the last tiles may end beyond y, and beyond that x.
        self.positions = tuple(F.outputs * (i - 1) + len(F.B_T) for i, F in zip(self.tiles, self.filters))

    def conv(self, x, U, y) -> None:
        """Write conv(x, w) to y."""
        windows = self._rows_of_tiles()
        for images in self._blocks(x):
            M = self._transformed_x(windows.of(x[images])) @ U.swapaxes(1, 2)
            self._write_y(M, y[images])

    def conv_dx(self, g, U, dx) -> None:
        """Write conv_dx(g, w) to dx."""
        for images in self._blocks(g):
            self._write_dx(self._transformed_g(g[images]) @ U, dx[images])

    def conv_dw(self, x, g) -> Iterator:
        """dU (f, K, a) of conv_dw(x, g), whose sum `to_weights` takes, for some images after the other."""
        windows = self._rows_of_tiles()
        for images in self._blocks(x):
            yield self._transformed_g(g[images]).swapaxes(1, 2) @ self._transformed_x(windows.of(x[images]))

    def from_weights(self, w):
        """U = G w (f, K, a) of w (K, C, R, S)."""
        (K, C, _, _), (down, right) = w.shape, self.geometry.stride
        U = np.empty((*self.points, K, down, right * C), w.dtype)

        def work(_, rows: slice) -> None:
            some = contiguous(w[rows].transpose(0, 2, 3, 1))
            by_phase = some.reshape(len(some), -1, down, w.shape[3] // right, right * C)
            _expand(by_phase, *(F.G for F in self.filters), U[:, :, rows])
            self._scale(U[:, :, rows])

        over(w, work)
        return U.reshape(-1, K, down * right * C)

    def to_weights(self, dU, C: int):
        """dw = G^T dU (K, C, R, S), the adjoint of `from_weights`. dU is written to."""
        (R, S), (down, right), K = self.geometry.kernel, self.geometry.stride, dU.shape[1]
        dU, dw = dU.reshape(*self.points, K, down, right * C), np.empty((K, C, R, S), dU.dtype)

        def work(_, rows: slice) -> None:
            self._scale(dU[:, :, rows])
            some = np.empty((rows.stop - rows.start, R, S, C), dU.dtype)
            by_phase = some.reshape(len(some), R // down, down, S // right, right * C)
            _contract(dU[:, :, rows], *(F.G for F in self.filters), by_phase)
            dw[rows] = some.transpose(0, 3, 1, 2)

        over(dw, work)
        return dw

    def _blocks(self, a) -> Iterator[slice]:
        step = max(1, TILES // math.prod(self.tiles))
        for start in range(0, len(a), step):
            yield slice(start, start + step)

    def _scale(self, U) -> None:
        """U (f, f, ...) times the scale of G's rows along both axes."""
        scale = np.multiply.outer(*(F.scale for F in self.filters))
        if (scale != 1).any():
            U *= scale.astype(U.dtype).reshape(*scale.shape, *[1] * (U.ndim - 2))

    def _rows_of_tiles(self) -> ImageWindows:
        """The rows of the padded x that each row of tiles reads, (n, I, 1, rows, columns, 1, C)."""
        (down, right), (I, _), (F, _) = self.geometry.stride, self.tiles, self.filters
        return ImageWindows(self.geometry._replace(
            kernel=(down * len(F.B_T), right * self.positions[1]), stride=(down * F.outputs, 1), out=(I, 1)
        ))

    def _transformed_x(self, rows):
        """B^T x (f, n I J, a)."""
        (down, right), (I, J), (F, E) = self.geometry.stride, self.tiles, self.filters
        n, C = rows.shape[0], rows.shape[-1]
        rows = rows.reshape(n, I, len(F.B_T), down, -1, C).transpose(2, 0, 1, 3, 4, 5)
        half = np.empty((len(F.B_T), n, I, down, self.positions[1], right * C), rows.dtype)
        _combine(F.B_T, rows, half.reshape(*half.shape[:4], -1, C))
        V = np.empty((*self.points, n, I, J, down, right * C), rows.dtype)
        half, m = half.transpose(4, 0, 1, 2, 3, 5), E.outputs
        columns = [half[q:q + m * (J - 1) + 1:m].transpose(1, 2, 3, 0, 4, 5) for q in range(len(E.B_T))]
        _combine(E.B_T, columns, V.swapaxes(0, 1))
        return V.reshape(-1, n * I * J, down * right * C)

    def _write_dx(self, M, dx) -> None:
        """Write B M to dx, tiles adding up where they overlap: the adjoint of `_transformed_x`."""
        (down, right), (I, J), (F, E) = self.geometry.stride, self.tiles, self.filters
        n, height, width, C = dx.shape
        M = M.reshape(*self.points, n, I, J, down, right * C)
        half = np.empty((len(F.B_T), n, I, down, self.positions[1], right * C), dx.dtype)
        _add_up(E, M.transpose(1, 4, 0, 2, 3, 5, 6), half.transpose(4, 0, 1, 2, 3, 5))
        padded = np.empty((n, self.positions[0], down, self.positions[1], right * C), dx.dtype)
        _add_up(F, half.transpose(0, 2, 1, 3, 4, 5), padded.swapaxes(0, 1))
        padded = padded.reshape(n, down * self.positions[0], right * self.positions[1], C)
        (top, left), (inner, across) = self.geometry.padding, self.geometry.inside
        if (inner, across) != (height, width):
            dx[...] = 0
        dx[:, :inner, :across] = padded[:, top:top + inner, left:left + across]

    def _transformed_g(self, g):
        """A g (f, n I J, K)."""
        n, P, Q, K = g.shape
        (I, J), (F, E) = self.tiles, self.filters
        whole = (n, I * F.outputs, J * E.outputs, K)
        if g.shape != whole:
            g, inner = np.zeros(whole, g.dtype), g
            g[:, :P, :Q] = inner
        transformed = np.empty((*self.points, n * I, J, K), g.dtype)
        _expand(g.reshape(n * I, F.outputs, J, E.outputs, K), F.A, E.A, transformed)
        return transformed.reshape(-1, n * I * J, K)

    def _write_y(self, M, y) -> None:
        """Write A^T M to y: the adjoint of `_transformed_g`."""
        (n, P, Q, K), (I, J), (F, E) = y.shape, self.tiles, self.filters
        whole = (n, I * F.outputs, J * E.outputs, K)
        target = y if y.shape == whole else np.empty(whole, y.dtype)
        M = M.reshape(*self.points, n * I, J, K)
        _contract(M, F.A, E.A, target.reshape(n * I, F.outputs, J, E.outputs, K))
        if target is not y:
            y[...] = target[:, :P, :Q]


def _expand(a, L: Matrix, R: Matrix, out) -> None:
    """Write L a R^T of a (lead, q, mid, r, tail), along q and r, to out (f, e, lead, mid, tail)."""
    lead, _, mid, r, tail = a.shape
    half = np.empty((len(L), lead, mid, r, tail), a.dtype)
    _combine(L, a.swapaxes(0, 1), half)
    _combine(R, half.transpose(3, 0, 1, 2, 4), out.swapaxes(0, 1))


def _contract(a, L: Matrix, R: Matrix, out) -> None:
    """Write L^T a R of a (f, e, lead, mid, tail) to out (lead, q, mid, r, tail): the adjoint of `_expand`."""
    _, e, lead, mid, tail = a.shape
    half = np.empty((out.shape[1], e, lead, mid, tail), a.dtype)
    _combine(_transposed(L), a, half)
    _combine(_transposed(R), half.swapaxes(0, 1), out.transpose(3, 1, 0, 2, 4))


def _combine(matrix: Matrix, terms: Sequence, targets: Sequence) -> None:
    """targets[i] = sum over j of matrix[i][j] terms[j], for numbers 0, 1 and -1 of which one is 1."""
    for row, target in zip(matrix, targets):
        (_, first), *others = sorted(_used(row, terms), key=lambda signed: -signed[0])
        if not others:
            target[...] = first
        for sign, term in others:
            _signed_sum(first, sign, term, target)
            first = target


def _add_up(F: Filter, products, out) -> None:
    """out[m i + q] = sum over f of B_T[f][q] products[f][i], added up where tiles i overlap."""
    m, count = F.outputs, products.shape[1]
    out[m * count:] = 0
    places = [out[q:q + m * (count - 1) + 1:m] for q in range(len(F.B_T))]
    B = _transposed(F.B_T)
    _combine(B[:m], products, places)
    for row, place in zip(B[m:], places[m:]):
        for sign, term in _used(row, products):
            _signed_sum(place, sign, term, place)


def _used(row: Ints, terms: Sequence) -> list:
    return [(sign, term) for sign, term in zip(row, terms) if sign]


def _signed_sum(a, sign: int, b, out) -> None:
    """out = a + sign b."""
    (np.add if sign > 0 else np.subtract)(a, b, out=out)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix))
