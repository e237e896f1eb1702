"""Pixel norm in Triton: the formulas of `kernels/pixel_norm.py`.

Layout: memory without gaps in any order of the axes, seen as (outer, C, inner): inner = 1 for channels-last,
H W for (N, C, H, W). Results take x's order.

Tiling: a program has BLOCK_R pixels and all channels of them, in registers.

              c ->
    pixel  [........]  mean of squares, r     BLOCK_R shrinks as C grows: 2048 numbers for each program
      |    [........]                         of 4 warps

Bytes: two numbers for each of x, three in the gradient. FLOPs: 4 and 8 for each, so memory decides.

History:
1. Numbers are read once and kept in registers between the sum and the result.
2. At least 16 pixels for each program where these lie side by side: 4 floats were half a sector of memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty_like, gapless, inner

WIDEST = 8192  # numbers that a program can hold
RUN = 16  # pixels side by side that make whole sectors of memory
DEFAULT = {"BLOCK": 2048, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (1024, 2048, 4096) for warps in (4, 8)]


@triton.jit
def pixel_norm_kernel(
    X, Y, rows, C, inner, eps, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):
    """y = x (mean x^2 + eps)^(-1/2) of BLOCK_R pixels."""
    place, inside = pixels(rows, C, inner, BLOCK_R, BLOCK_C)
    x = tl.load(X + place, mask=inside, other=0.0).to(ACC)
    y = x / tl.sqrt(tl.sum(x * x, 1) / C + eps)[:, None]
    tl.store(Y + place, y.to(Y.dtype.element_ty), mask=inside)


@triton.jit
def pixel_norm_dx_kernel(G, X, DX, rows, C, inner, eps, ACC: tl.constexpr,
                         BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """dx = r (g - y mean(y g)), y = r x, of BLOCK_R pixels."""
    place, inside = pixels(rows, C, inner, BLOCK_R, BLOCK_C)
    x = tl.load(X + place, mask=inside, other=0.0).to(ACC)
    g = tl.load(G + place, mask=inside, other=0.0).to(ACC)
    r = 1 / tl.sqrt(tl.sum(x * x, 1) / C + eps)[:, None]
    y = x * r
    dx = r * (g - y * (tl.sum(y * g, 1) / C)[:, None])
    tl.store(DX + place, dx.to(DX.dtype.element_ty), mask=inside)


@triton.jit
def pixels(rows, C, inner, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Where the channels of this program's pixels lie, and which of them there are."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.arange(0, BLOCK_C)
    place = (row // inner * C * inner + row % inner)[:, None] + (c * inner)[None, :]
    return place, (row < rows)[:, None] & (c < C)[None, :]


def pixel_norm(x, eps: float = 1e-8):
    """See `scratchgan.kernels.pixel_norm.pixel_norm`."""
    return _launch("pixel_norm", pixel_norm_kernel, eps, x)


def pixel_norm_dx(g, x, eps: float = 1e-8):
    """See `scratchgan.kernels.pixel_norm.pixel_norm_dx`."""
    return _launch("pixel_norm_dx", pixel_norm_dx_kernel, eps, g, x)


def _launch(name: str, kernel, eps: float, *arrays):
    demand(*arrays)
    C = arrays[0].shape[1]
    if C > WIDEST:
        raise NotCovered(f"{C} channels: expected at most {WIDEST}")
    *rest, x = gapless(*arrays[::-1])[::-1]  # in x's order
    y, rows = empty_like(x), x.size // max(1, C)
    constants = dict(configuration(name, f"{C}", DEFAULT))
    block_c = triton.next_power_of_2(max(1, C))
    block_r, step = max(1, constants.pop("BLOCK") // block_c), inner(x, 1)
    if step > 1:  # memory runs along pixels
        block_r = max(block_r, min(RUN, WIDEST // block_c))
        constants["num_warps"] = max(constants["num_warps"], block_r * block_c // 1024)
    launch(kernel, (triton.cdiv(rows, block_r),), *rest, x, y, rows, C, step, eps,
           ACC=accumulator(x.dtype), BLOCK_R=block_r, BLOCK_C=block_c, **constants)  # fmt: skip
    return y


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def images(dtype):
        return np.empty((16, 64, 64, 512), dtype).transpose(0, 3, 1, 2)

    half, single, brain = images(np.float16), images(np.float32), images(ml_dtypes.bfloat16)
    planes, latents, n = np.empty((16, 512, 64, 64), np.float32), np.empty((64, 512), np.float32), half.size
    return {
        "y float16": Case(lambda: pixel_norm(half), 4 * n, 4 * n),
        "y float32": Case(lambda: pixel_norm(single), 4 * n, 8 * n),
        "y bfloat16": Case(lambda: pixel_norm(brain), 4 * n, 4 * n),
        "y float32 NCHW": Case(lambda: pixel_norm(planes), 4 * n, 8 * n),
        "y of latents": Case(lambda: pixel_norm(latents), 4 * latents.size, 8 * latents.size),
        "dx float16": Case(lambda: pixel_norm_dx(half, half), 8 * n, 6 * n),
        "dx float32": Case(lambda: pixel_norm_dx(single, single), 8 * n, 12 * n),
    }
