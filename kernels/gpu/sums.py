"""Sums over any axes in Triton: `total` of `kernels/sums.py`, and the sums of small arrays of other kernels.

Layout: x[k0, r0, k1, r1] as in `kernels/gpu/digits.py`; what alternates more often in memory is copied first.

Tiling: a program has BLOCK_K kept indices k1 and walks over one chunk of the summed ones, BLOCK_R at a time.
The tile's fast axis is the contiguous one: k1 where the sum is over r0 alone (channels-last batch norm), else
r.

            r -->  BLOCK_R            chunk 0   |   chunk 1
    k1  |  [      ] [      ] [      ] [      ]  |  [      ] ...
    BLOCK_K     each thread adds up its own numbers of all tiles; at the end of a chunk a row's are added

No atomics: chunks go to a workspace (chunks, K), whose columns a second launch of the same kernel adds, so
that equal inputs give equal bits on every GPU. Short sums take one chunk, and one launch.

Bytes: x is read once. FLOPs: one for each number. Sums of float16, bfloat16 and float32 are kept in float32,
those of integers in 64 bits.

History:
1. Tiles of 2048 numbers for each program of 4 warps: 16 accumulators in each thread, and two loads of 16
   bytes of float16 under way for each, in at most 40 registers.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl

from scratchgan.kernels.gpu.digits import (
    Digits,
    InOrder,
    at_number,
    chunks,
    for_sums,
    kept_digits,
    load_beside,
    reduced,
    tile,
)
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import FLOATS, demand, empty

SIGNED, UNSIGNED = ("bool", "int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64")
DEFAULTS = {  # by what is summed over; WIDTH: the tile's numbers along its contiguous axis, at the most
    "outer": {"BLOCK": 2048, "WIDTH": 64, "PROGRAMS": 1024, "num_warps": 4},
    "inner": {"BLOCK": 2048, "WIDTH": 2048, "PROGRAMS": 1024, "num_warps": 4},
    "both": {"BLOCK": 2048, "WIDTH": 256, "PROGRAMS": 1024, "num_warps": 4},
    "outer small": {"BLOCK": 512, "WIDTH": 16, "PROGRAMS": 1024, "num_warps": 4},
    "inner small": {"BLOCK": 512, "WIDTH": 512, "PROGRAMS": 1024, "num_warps": 4},
    "both small": {"BLOCK": 512, "WIDTH": 64, "PROGRAMS": 1024, "num_warps": 4},
    "chunks": {"BLOCK": 2048, "WIDTH": 8, "PROGRAMS": 1, "num_warps": 4},
}
SMALL = 1 << 20  # numbers up to which programs would be too few for all processors, unless tiles are small
CONFIGURATIONS = [
    {"BLOCK": block, "WIDTH": width, "PROGRAMS": programs, "num_warps": warps}
    for block, warps in ((512, 4), (1024, 4), (2048, 4), (4096, 8))
    for width in (16, 32, 64, 256, 2048)
    for programs in (512, 1024, 2048)
]


@triton.jit
def total_kernel(X, W, Y, K0, K, R, PER, SIZES, REDUCED: tl.constexpr, W_ON: tl.constexpr, ACC: tl.constexpr,
                 BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """Y[chunk, k] = sum of x w over the chunk's r, or of x where there is no w."""
    AXIS: tl.constexpr = 0 if REDUCED == "outer" else 1  # of the tile, along which r runs
    K1 = SIZES[2]
    chunk, k0, k = kept_digits(K0, K1, BLOCK_K)
    k1 = tl.expand_dims(k, AXIS)
    first = chunk * PER
    last = first + tl.minimum(PER, R - first)
    acc = tl.zeros((BLOCK_R, BLOCK_K) if AXIS == 0 else (BLOCK_K, BLOCK_R), ACC)
    for start in range(first, last, BLOCK_R):
        r = tl.expand_dims(start + tl.arange(0, BLOCK_R), 1 - AXIS)
        x = tl.load(X + at_number(k0, r, k1, SIZES, REDUCED), mask=(k1 < K1) & (r < last), other=0).to(ACC)
        if W is not None:
            x *= load_beside(W, k0, r, k1, r < last, k1 < K1, SIZES, REDUCED, W_ON).to(ACC)
        acc += x
    tl.store(Y + chunk * K + k0 * K1 + k, tl.sum(acc, AXIS).to(Y.dtype.element_ty), mask=k < K1)


def total(x, axis: tuple[int, ...], keepdims: bool = False):
    """See `scratchgan.kernels.sums.total`."""
    demand(x, dtypes=(*FLOATS, *SIGNED, *UNSIGNED))
    in_order = InOrder(x, axis)
    y = in_order.out(sums(in_order(x), in_order.kept, dtype=_of_sums(x.dtype.name)))
    return y if keepdims else y.squeeze(tuple(axis))


def sums(x, kept: list[bool], w=None, dtype=None, key: str | None = None):
    """The sums of x w, both without gaps, over the axes not `kept`, now of size 1; `dtype` or x's."""
    sizes, (w_on,) = for_sums(x.shape, kept, x if w is None else w)
    plan = Plan("total", x, sizes, key)
    shape = tuple(n if keep else 1 for n, keep in zip(x.shape, kept))
    whole = plan.chunks == 1
    y = empty(x, shape if whole else (plan.chunks, plan.K), (dtype or x.dtype) if whole else plan.workspace)
    plan.launch(total_kernel, x, w, y, W_ON=w_on, ACC=_accumulator(x.dtype))
    return y if whole else sums(y, [False, True], None, dtype or x.dtype, "chunks").reshape(shape)


class Plan:
    """How a kernel that sums over x[k0, r0, k1, r1] is cut into programs, under one of DEFAULTS' keys.

    K sums of R numbers are made in `chunks` parts, `most` at most, which go to arrays of `workspace`'s dtype.
    """

    def __init__(self, name: str, x, sizes: Digits, key: str | None = None, most: int = 2048):
        K0, R0, K1, R1 = sizes
        self.sizes, self.reduced = sizes, reduced(sizes)
        self.K, self.R = K0 * K1, R0 * R1
        key = key or self.reduced + (" small" if x.size <= SMALL else "")
        tiles: dict[str, Any] = configuration(name, key, DEFAULTS[key])
        self.warps = tiles["num_warps"]
        if self.reduced == "outer":
            self.block_r, self.block_k = tile(self.R, K1, tiles["BLOCK"], tiles["WIDTH"])
        else:
            self.block_k, self.block_r = tile(K1, self.R, tiles["BLOCK"], tiles["WIDTH"])
        programs = K0 * triton.cdiv(K1, self.block_k)
        wanted = min(tiles["PROGRAMS"] // max(1, programs), most)
        self.chunks, self.per = chunks(wanted, self.R, self.block_r)
        self.grid = (self.chunks * programs,)
        self.workspace = _of_sums(x.dtype.name, half="float32")

    def launch(self, kernel, *arrays, **constants) -> None:
        """Run `kernel`, which takes arrays, then what `total_kernel` takes after them."""
        sizes = tuple(max(1, n) for n in self.sizes)  # they divide, also where there is nothing
        launch(kernel, self.grid, *arrays, self.sizes[0], self.K, self.R, self.per, sizes,
               REDUCED=self.reduced, BLOCK_K=self.block_k, BLOCK_R=self.block_r, num_warps=self.warps,
               **constants)  # fmt: skip


def _of_sums(dtype: str, half: str | None = None) -> str:
    """The dtype of NumPy's sums; `half` in place of a float of 16 bits."""
    if dtype in SIGNED + UNSIGNED:
        return "int64" if dtype in SIGNED else "uint64"
    return half if half and dtype in ("float16", "bfloat16") else dtype


def _accumulator(dtype) -> tl.dtype:
    if dtype.name in FLOATS:
        return accumulator(dtype)
    return tl.int64 if dtype.name in SIGNED else tl.uint64


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import numpy as np

    def last(dtype, shape=(32, 128, 64, 64)):
        N, C, H, W = shape
        return np.empty((N, H, W, C), dtype).transpose(0, 3, 1, 2)

    half, single, first = last(np.float16), last(np.float32), np.empty((32, 128, 64, 64), np.float16)
    n = math.prod(half.shape)
    return {
        "NHWC to C float16": Case(lambda: total(half, (0, 2, 3)), n, 2 * n),
        "NHWC to C float32": Case(lambda: total(single, (0, 2, 3)), n, 4 * n),
        "NHWC to NC float16": Case(lambda: total(half, (2, 3)), n, 2 * n),
        "NCHW to C float16": Case(lambda: total(first, (0, 2, 3)), n, 2 * n),
        "all float32": Case(lambda: total(single, (0, 1, 2, 3)), n, 4 * n),
    }
