"""Bias and activation in Triton: the formulas of `kernels/bias_act.py`.

Layout: memory without gaps, in any order of the axes; results take x's order. The channel of the number at offset o
is (o / inner) mod C, where `inner` counts the numbers from one channel to the next: 1 in channels-last memory.

Tiling: BLOCK numbers in a row for each program.

    memory   |........|........|........|....    |
    program      0        1        2        3       (masked beyond the end)

Bytes: bias_act reads x and writes y, two numbers for each of x (b stays in the cache); bias_act_dx moves three,
bias_act_ddx four. FLOPs: some 4 for each number, so memory decides: the goal is the rate of a copy.

History:
1. 1024 numbers for each program of 4 warps: two loads of 16 bytes for each thread.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.gpu.activation import activate, derivative
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, launch
from scratchgan.kernels.gpu.memory import demand, empty_like, gapless, inner

DEFAULT = {"BLOCK": 1024, "num_warps": 4}


@triton.jit
def bias_act_kernel(X, B, Y, size, inner, C, SLOPE: tl.constexpr, GAIN: tl.constexpr,
                    ACTIVATION: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """y = gain f(x + b), one row of BLOCK numbers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    u = tl.load(X + offset, mask=inside, other=0.0).to(ACC)
    if B is not None:
        u += tl.load(B + offset // inner % C, mask=inside, other=0.0).to(ACC)
    y = activate(u, SLOPE, ACTIVATION) * GAIN
    tl.store(Y + offset, y.to(Y.dtype.element_ty), mask=inside)


@triton.jit
def bias_act_dx_kernel(G, Y, DX, size, SLOPE: tl.constexpr, GAIN: tl.constexpr,
                       ACTIVATION: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """dx = g gain f'(u), one row of BLOCK numbers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    g = tl.load(G + offset, mask=inside, other=0.0).to(ACC)
    v = tl.load(Y + offset, mask=inside, other=0.0).to(ACC) / GAIN
    tl.store(DX + offset, (g * GAIN * derivative(v, SLOPE, ACTIVATION)).to(DX.dtype.element_ty), mask=inside)


@triton.jit
def bias_act_ddx_kernel(G, H, Y, DX, size, GAIN: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """h g gain f''(u) for f = tanh, f'' = -2 v (1 - v^2), one row of BLOCK numbers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < size
    g = tl.load(G + offset, mask=inside, other=0.0).to(ACC)
    h = tl.load(H + offset, mask=inside, other=0.0).to(ACC)
    v = tl.load(Y + offset, mask=inside, other=0.0).to(ACC) / GAIN
    tl.store(DX + offset, (g * h * (-2 * GAIN * v * (1 - v * v))).to(DX.dtype.element_ty), mask=inside)


def bias_act(x, b, axis: int, activation: str, slope: float, gain: float):
    """See `scratchgan.kernels.bias_act.bias_act`."""
    _covered(activation, x)
    (x,) = gapless(x)
    y = empty_like(x)
    _rows("bias_act", bias_act_kernel, x.size, x, b, y, x.size, inner(x, axis), x.shape[axis],
          SLOPE=slope, GAIN=gain, ACTIVATION=activation, ACC=accumulator(x.dtype))  # fmt: skip
    return y


def bias_act_dx(g, y, activation: str, slope: float, gain: float):
    """See `scratchgan.kernels.bias_act.bias_act_dx`."""
    _covered(activation, g, y)
    g, y = gapless(g, y)
    dx = empty_like(g)
    _rows("bias_act_dx", bias_act_dx_kernel, g.size, g, y, dx, g.size, SLOPE=slope, GAIN=gain,
          ACTIVATION=activation, ACC=accumulator(g.dtype))  # fmt: skip
    return dx


def bias_act_ddx(g, h, y, activation: str, gain: float):
    """See `scratchgan.kernels.bias_act.bias_act_ddx`."""
    _covered(activation, g, h, y)
    if activation != "tanh":
        raise NotCovered(f"the second derivative of {activation} is zero: nothing to launch")
    g, h, y = gapless(g, h, y)
    dx = empty_like(g)
    _rows("bias_act_ddx", bias_act_ddx_kernel, g.size, g, h, y, dx, g.size, GAIN=gain, ACC=accumulator(g.dtype))
    return dx


def _covered(activation: str, *arrays) -> None:
    demand(*arrays)
    if activation not in ACTIVATIONS:
        raise NotCovered(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")


def _rows(name: str, kernel, size: int, *arguments, **constants) -> None:
    """Launch `kernel` on rows of BLOCK numbers."""
    tiles = configuration(name, "", DEFAULT)
    launch(kernel, (triton.cdiv(size, tiles["BLOCK"]),), *arguments, **constants, **tiles)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import numpy as np

    def images(dtype):
        return np.empty((32, 64, 64, 128), dtype).transpose(0, 3, 1, 2)

    half, single, bias = images(np.float16), images(np.float32), np.empty(128, np.float32)
    n = half.size
    return {
        "y float16": Case(lambda: bias_act(half, bias, 1, "leaky_relu", 0.2, 1.4), 4 * n, 4 * n),
        "y float32 tanh": Case(lambda: bias_act(single, bias, 1, "tanh", 0.0, 1.0), 20 * n, 8 * n),
        "dx float16": Case(lambda: bias_act_dx(half, half, "leaky_relu", 0.2, 1.4), 4 * n, 6 * n),
        "dx float32 tanh": Case(lambda: bias_act_dx(single, single, "tanh", 0.0, 1.0), 5 * n, 12 * n),
        "ddx float32 tanh": Case(lambda: bias_act_ddx(single, single, single, "tanh", 1.0), 7 * n, 16 * n),
    }
