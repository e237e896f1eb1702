"""Means in Triton: the sum of what programs have left in a workspace, and the store of scaled gradients.

Programs store one number each, and one program adds these in a second launch, always in the same order: no
program waits for another and nothing is added atomically, so that equal inputs give equal bits.

    programs    |  0  |  1  |  2  | ...        each stores the sum of its own numbers
    one program |<------ BLOCK ----->| ...     adds them, BLOCK at a time
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.gpu.launch import accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import empty
from scratchgan.kernels.means import accumulated

DEFAULT = {"BLOCK": 1024, "num_warps": 4}
CONFIGURATIONS = [{"BLOCK": block, "num_warps": warps} for block in (512, 1024, 2048) for warps in (4, 8)]


@triton.jit
def total_of_parts(PARTS, TOTAL, n, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of n numbers."""
    total = tl.zeros((BLOCK,), ACC)
    for start in range(0, n, BLOCK):
        offset = start + tl.arange(0, BLOCK)
        total += tl.load(PARTS + offset, mask=offset < n, other=0.0)
    tl.store(TOTAL, tl.sum(total))


@triton.jit
def store_gradient(DX, offset, inside, gradient, SCALE):
    """Store a tile of gradients, times the number at SCALE if there is one."""
    if SCALE is not None:
        gradient *= tl.load(SCALE).to(gradient.dtype)
    tl.store(DX + offset, gradient.to(DX.dtype.element_ty), mask=inside)


def workspace(like, size: int, block: int):
    """Memory for the sums of programs that share `size` numbers, `block` each, in the dtype of like's sums.

    Its shape is the grid; of no numbers, too, there is a program, which stores that sum.
    """
    return empty(like, (max(1, triton.cdiv(size, block)),), accumulated(like.dtype))


def total(parts):
    """The sum of a workspace, a number without axes. Where one program did all, it is there already."""
    if parts.size == 1:
        return parts.reshape(())
    out, tiles = empty(parts, ()), configuration("total_of_parts", "", DEFAULT)
    launch(total_of_parts, (1,), parts, out, parts.size, ACC=accumulator(parts.dtype), **tiles)
    return out
