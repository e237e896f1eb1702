"""Weights in the orders of the convolution kernels, in Triton: the formulas of `kernels/prepack.py`.

Layout: w is a box (K, C, T) of T = R S taps with a step in memory for each axis, whichever is the shortest; W
is (K, T, C) and V is (C, T, K) without gaps.

Tiling: a program takes a box of BLOCK_K x BLOCK_C x BLOCK_T, reads it along w's shortest step and writes it
along c, then along k: the compiler turns it in shared memory in between.

            w (K, C, T)             W (K, T, C)          V (C, T, K)
            k| t -->                k| c -->             c| k -->
             | [====]       ->       | [====]      and    | [====]

Bytes: w is read once, W and V are written once. No FLOPs. Memory decides, and for the few MB of a GAN's
weights that is the second-level cache.

History:
1. Boxes of 4096 numbers, 16 along each axis of kernels with more than 8 taps: runs of one sector (32 bytes)
   in float16. 4 warps.
2. 1 x 1 kernels in boxes of 1024: 256 programs for 512 x 512, where 64 left half of the GPU idle.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.gpu.launch import Case, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty

SIDES = {1: 32, 2: 32, 4: 32, 8: 16, 16: 16}  # of a box's k and c, by its taps
CONFIGURATIONS = [
    {"BLOCK_K": k, "BLOCK_C": c, "num_warps": n} for k in (16, 32) for c in (16, 32) for n in (4, 8)
]


@triton.jit
def prepack_kernel(W, KRSC, CRSK, K, C, T, step_k, step_c, step_t,
                   BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr):  # fmt: skip
    """One box of w, written to KRSC (K, T, C) and to CRSK (C, T, K); None is left out."""
    k = (tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K))[:, None, None]
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C))[None, :, None]
    t = (tl.program_id(2) * BLOCK_T + tl.arange(0, BLOCK_T))[None, None, :]
    inside = (k < K) & (c < C) & (t < T)
    w = tl.load(W + k * step_k + c * step_c + t * step_t, mask=inside, other=0.0)
    if KRSC is not None:
        tl.store(KRSC + (k * T + t) * C + c, w.to(KRSC.dtype.element_ty), mask=inside)
    if CRSK is not None:
        tl.store(CRSK + (c * T + t) * K + k, w.to(CRSK.dtype.element_ty), mask=inside)


def prepack(w, dtype):
    """See `scratchgan.kernels.prepack.prepack`."""
    K, C, R, S = w.shape
    packed = empty(w, (K, R, S, C), dtype), empty(w, (C, R, S, K), dtype)
    _pack(w, *packed)
    return packed


def krsc(w, dtype):
    """w (K, C, R, S) as (K, R, S, C), contiguous, in `dtype`: its own memory where that is it already."""
    own = w.transpose(0, 2, 3, 1)
    if own.flags.c_contiguous and own.dtype == dtype:
        return own
    packed = empty(w, own.shape, dtype)
    _pack(w, packed, None)
    return packed


def crsk(w, dtype):
    """w (K, C, R, S) as (C, R, S, K), contiguous, in `dtype`: its own memory where that is it already."""
    own = w.transpose(1, 2, 3, 0)
    if own.flags.c_contiguous and own.dtype == dtype:
        return own
    packed = empty(w, own.shape, dtype)
    _pack(w, None, packed)
    return packed


def _pack(w, to_krsc, to_crsk) -> None:
    """One launch for the targets that are not None."""
    targets = [a for a in (to_krsc, to_crsk) if a is not None]
    demand(w, *targets)
    K, C, R, S = w.shape
    w = w.reshape(K, C, R * S)  # a view wherever taps are equally far apart
    taps = min(16, triton.next_power_of_2(max(1, R * S)))
    side = SIDES[taps]
    tiles = configuration("prepack", f"taps {taps}", {"BLOCK_K": side, "BLOCK_C": side, "num_warps": 4})
    grid = (triton.cdiv(K, tiles["BLOCK_K"]), triton.cdiv(C, tiles["BLOCK_C"]), triton.cdiv(R * S, taps))
    steps = (step // w.itemsize for step in w.strides)
    launch(prepack_kernel, grid, w, to_krsc, to_crsk, K, C, R * S, *steps, BLOCK_T=taps, **tiles)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    big, wide, flat = (
        np.empty(s, np.float32) for s in ((512, 256, 4, 4), (512, 512, 3, 3), (512, 512, 1, 1))
    )
    half = np.empty((64, 3, 4, 4), np.float16)
    return {
        "float32 to float16, 4x4": Case(lambda: prepack(big, np.float16), 0, 8 * big.size),
        "float32, 3x3": Case(lambda: prepack(wide, np.float32), 0, 12 * wide.size),
        "float32 to bfloat16, 1x1": Case(lambda: prepack(flat, ml_dtypes.bfloat16), 0, 8 * flat.size),
        "float16, KRSC alone": Case(lambda: krsc(half, np.dtype(np.float16)), 0, 4 * half.size),
    }
