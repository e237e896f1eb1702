"""Penalties on gradient norms in Triton: the formulas of `kernels/gradient_norms.py`.

Layout: g without gaps, as N rows of L numbers, one for each sample, in any order of the other axes; dg is
laid out likewise.

Tiling of r1_penalty: BLOCK numbers in a row for each program, which stores their gradients and its part of
the value; a second launch adds the parts. Of gradient_penalty, whose gradients need the norms:

    launch 1    row n    |..........|..........|......    |        squares of row n, added chunk by chunk
                              |           |          |
                parts (N, CHUNKS)         CHUNKS numbers
                              |___________|__________|
    launch 2    row n    |..........|..........|......    |        each program adds row n's parts, and scales
                                                                   one chunk; the first adds all for the value

A program takes BLOCK_N rows and one chunk of PER numbers, BLOCK_L at a time: several rows where they are
short (points of the plane), several tiles where a row has more than MOST_CHUNKS. Parts are added in the same
order in all programs, so that equal inputs give equal bits.

Bytes: r1_penalty reads g and writes dg; gradient_penalty reads g twice, the second time from the cache as far
as it fits there. FLOPs: two or three for each number.

History:
1. The value in the second launch, by its first program: two launches where three would be natural.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.means import store_gradient, total, workspace
from scratchgan.kernels.gpu.memory import demand, demand_numbers, empty, empty_like, gapless, inner
from scratchgan.kernels.means import accumulated

DEFAULT = {"BLOCK": 1024, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (512, 1024, 2048) for warps in (4, 8)]
MOST_CHUNKS = 256  # of a row


@triton.jit
def r1_kernel(G, DG, PARTS, SCALE, gamma: tl.float64, size, N, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """This program's part of gamma / 2N sum g^2, and dg = gamma / N g of its numbers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    g = tl.load(G + offset, mask=inside, other=0.0).to(ACC)
    slope = g * (tl.full((), gamma, ACC) / N)
    store_gradient(DG, offset, inside, slope, SCALE)
    tl.store(PARTS + tl.program_id(0), tl.sum(slope * g) * 0.5)


@triton.jit
def rows_of(N, CHUNKS, BLOCK_N: tl.constexpr):
    """The rows n of this program, and the number of its chunk."""
    program = tl.program_id(0)
    return program // CHUNKS * BLOCK_N + tl.arange(0, BLOCK_N), program % CHUNKS


@triton.jit
def squares_kernel(G, PARTS, N, L, PER, CHUNKS,
                   ACC: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_L: tl.constexpr):  # fmt: skip
    """PARTS[n, chunk] = the sum of g^2 over a chunk of row n."""
    n, chunk = rows_of(N, CHUNKS, BLOCK_N)
    squares = tl.zeros((BLOCK_N, BLOCK_L), ACC)
    for start in range(chunk * PER, tl.minimum(chunk * PER + PER, L), BLOCK_L):
        i = start + tl.arange(0, BLOCK_L)
        inside = (n < N)[:, None] & (i < L)[None, :]
        g = tl.load(G + n[:, None] * L + i[None, :], mask=inside, other=0.0).to(ACC)
        squares += g * g
    tl.store(PARTS + n * CHUNKS + chunk, tl.sum(squares, 1), mask=n < N)


@triton.jit
def norms_of(n, PARTS, N, CHUNKS, BLOCK_CHUNKS: tl.constexpr):
    """|g_n| of the rows n, 0 beyond the last."""
    chunk = tl.arange(0, BLOCK_CHUNKS)
    inside = (n < N)[:, None] & (chunk < CHUNKS)[None, :]
    return tl.sqrt(tl.sum(tl.load(PARTS + n[:, None] * CHUNKS + chunk[None, :], mask=inside, other=0.0), 1))


@triton.jit
def penalty_kernel(G, DG, PARTS, VALUE, SCALE, weight: tl.float64, N, L, PER, CHUNKS, ACC: tl.constexpr,
                   BLOCK_N: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_CHUNKS: tl.constexpr,
                   BLOCK_V: tl.constexpr):  # fmt: skip
    """dg of this program's chunks; in the first program the value, too, BLOCK_V rows at a time."""
    n, chunk = rows_of(N, CHUNKS, BLOCK_N)
    of_one = tl.full((), weight, ACC) / N
    norm = norms_of(n, PARTS, N, CHUNKS, BLOCK_CHUNKS)
    factor = tl.where(norm > 0, 2 * of_one * (1 - 1 / tl.where(norm > 0, norm, 1.0)), 0.0)
    for start in range(chunk * PER, tl.minimum(chunk * PER + PER, L), BLOCK_L):
        i = start + tl.arange(0, BLOCK_L)
        inside = (n < N)[:, None] & (i < L)[None, :]
        offset = n[:, None] * L + i[None, :]
        g = tl.load(G + offset, mask=inside, other=0.0).to(ACC)
        store_gradient(DG, offset, inside, g * factor[:, None], SCALE)
    if tl.program_id(0) == 0:
        squares = tl.zeros((BLOCK_V,), ACC)
        for start in range(0, N, BLOCK_V):
            row = start + tl.arange(0, BLOCK_V)
            excess = norms_of(row, PARTS, N, CHUNKS, BLOCK_CHUNKS) - 1
            squares += tl.where(row < N, excess * excess, 0.0)
        tl.store(VALUE, tl.sum(squares) * of_one)


def r1_penalty(g, gamma: float, scale=None):
    """See `scratchgan.kernels.gradient_norms.r1_penalty`."""
    demand(g)
    demand_numbers(scale)
    (g,) = gapless(g)
    dg, tiles = empty_like(g), configuration("gradient_norms r1", "", DEFAULT)
    parts = workspace(g, g.size, tiles["BLOCK"])
    launch(r1_kernel, parts.shape, g, dg, parts, scale, float(gamma), g.size, len(g),
           ACC=accumulator(g.dtype), **tiles)  # fmt: skip
    return total(parts), dg


def gradient_penalty(g, weight: float, scale=None):
    """See `scratchgan.kernels.gradient_norms.gradient_penalty`."""
    demand(g)
    demand_numbers(scale)
    N, L = len(g), math.prod(g.shape[1:])
    (g,) = gapless(g)
    if N > 1 and inner(g, 0) != L:
        g = contiguous(g)  # samples are interleaved
    tiles = configuration("gradient_norms penalty", f"L{L}", DEFAULT)
    block = tiles.pop("BLOCK")
    block_l = min(block, triton.next_power_of_2(max(1, L)))
    block_n = block // block_l
    per = block_l * triton.cdiv(max(1, L), block_l * MOST_CHUNKS)
    chunks = triton.cdiv(max(1, L), per)
    grid = (max(1, triton.cdiv(N, block_n)) * chunks,)
    parts, dg = empty(g, (N, chunks), accumulated(g.dtype)), empty_like(g)
    value = empty(g, (), parts.dtype)
    tiles.update(ACC=accumulator(g.dtype), BLOCK_N=block_n, BLOCK_L=block_l)
    launch(squares_kernel, grid, g, parts, N, L, per, chunks, **tiles)
    block_chunks = triton.next_power_of_2(chunks)
    launch(penalty_kernel, grid, g, dg, parts, value, scale, float(weight), N, L, per, chunks,
           BLOCK_CHUNKS=block_chunks, BLOCK_V=max(1, 2048 // block_chunks), **tiles)  # fmt: skip
    return value, dg


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def images(dtype, edge):
        return np.empty((32, edge, edge, 3), dtype).transpose(0, 3, 1, 2)

    half, brain, single = (images(dtype, 64) for dtype in (np.float16, ml_dtypes.bfloat16, np.float32))
    large = images(np.float32, 512)
    points, n = np.empty((256, 2), np.float32), half.size
    return {
        "r1 float16": Case(lambda: r1_penalty(half, 10.0), 3 * n, 4 * n),
        "r1 float32": Case(lambda: r1_penalty(single, 10.0), 3 * n, 8 * n),
        "penalty float16": Case(lambda: gradient_penalty(half, 10.0), 3 * n, 6 * n),
        "penalty bfloat16": Case(lambda: gradient_penalty(brain, 10.0), 3 * n, 6 * n),
        "penalty float32": Case(lambda: gradient_penalty(single, 10.0), 3 * n, 12 * n),
        "penalty float32 512": Case(lambda: gradient_penalty(large, 10.0), 3 * 64 * n, 12 * 64 * n),
        "penalty float32 points": Case(lambda: gradient_penalty(points, 0.1), 3 * 512, 12 * 512),
    }
