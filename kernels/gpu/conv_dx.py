"""Convolution's adjoint in x, which is transposed convolution, in Triton: the formulas of `kernels/conv.py`.

With x cut into s x s phases, j = s u + b along each axis, only the taps with d r = b + p (mod s) reach phase
b. They are r = r0 + t s/e with e = gcd(s, d), t = 0, 1, ..., and

    dx[n, s u + b, c] = f(bias[c] + sum over t, k of g[n, u + (b + p - d r0)/s - t d/e, k] w[k, c, r0 + t s/e])

so that every phase is a dense convolution of g at stride 1: k4 s2 has 2 x 2 taps in each of 4 phases, and no
product with a zero of a stretched g is ever taken. A phase that no tap reaches, and what lies beyond the last
window, adds up nothing: the same program writes f(bias). f is one of `kernels/bias_act.py`, fused.

Layout: g (N, P, Q, K) and dx (N, H, W, C) contiguous, weights as (C, R, S, K): k is innermost in both.

Tiling: a matrix product for each phase, rows its pixels (n, u, v), columns c, reduced over (tap, k).

               (tap, k) -->              c -->
         pixels| g, gathered  x  (tap, k)| w  =  pixels| dx, stored s pixels apart

Programs run over c first, then over phases, then over pixels: those that read the same rows of g, and those
that write neighbours in memory, run together. Two kernels:

    conv_dx_kernel         any geometry; rows of g by pointers, masked where their window leaves g. A step lies within
                           one tap, or runs over to the next taps (FLAT) where no power of two from 16 on divides K.
    conv_dx_boxes_kernel   Hopper's copy engine fetches boxes of images x rows x columns of g, and puts the zeros
                           beyond its borders itself. Pixels are across, so that a box is the second factor, which
                           tensor cores read from shared memory as it came.

Where g has one window in all, taps never meet: they become the phases, one product each, and none is with
zeros.

Bytes: g, w and dx once where the cache holds g's windows. FLOPs: 2 N P Q K C R S, of which tensor cores do
those of 16-bit types (and of float32 where TF32 is allowed); k4 s2 at 64 channels and more is bound by these.

History, by the static report of float16 k4 s2, 256 to 128 channels, on sm_90:
1. Pointers, 128 x 128 x 64 in 8 warps and three stages, masks for pixels, taps, k and c: 117 registers.
2. Tiles that reach beyond the last pixel or channel repeat it, and steps within one tap need no mask for k:
   no mask is left on w, one a row on g. Triton 3.6 must be told that a step starts at a multiple of its
   length, else it copies number by number and spills 200 bytes.
3. Boxes: no address and no mask for a row of g; 106 registers, but w, a box (C, 1, K) reshaped, went through
   registers in the loop. With w as a matrix (C, R S K) nothing does: 90 registers.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.activation import activate
from scratchgan.kernels.gpu.axis import PROCESSORS, axes, fetched, key, products, side, whole, within
from scratchgan.kernels.gpu.launch import (
    Case,
    accumulator,
    capability,
    configuration,
    descriptor,
    dot_precision,
    launch,
)
from scratchgan.kernels.gpu.memory import demand, demand_alike, empty
from scratchgan.kernels.gpu.prepack import crsk

DEFAULTS = {  # by how products are taken
    "half": {"BLOCK_M": 128, "BLOCK_C": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    "tf32": {"BLOCK_M": 128, "BLOCK_C": 128, "BLOCK_K": 32, "num_warps": 8, "num_stages": 3},
    "ieee": {"BLOCK_M": 128, "BLOCK_C": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 3},
    "double": {"BLOCK_M": 32, "BLOCK_C": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2},
}
CONFIGURATIONS = [
    {"BLOCK_M": m, "BLOCK_C": c, "BLOCK_K": k, "num_warps": warps, "num_stages": stages}
    for m, c, warps in ((128, 128, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (128, 256, 8), (256, 64, 8))
    for k in (32, 64)
    for stages in (3, 4)
] + [  # of boxes, too
    {"BLOCK_C": c, "num_warps": warps, "num_stages": stages}
    for c, warps in ((64, 4), (128, 4), (128, 8), (256, 8))
    for stages in (3, 4, 5)
]


@triton.jit
def taps_of_phase(b, AXIS: tl.constexpr):
    """Of one axis and its phase b: the first tap r0, how many follow, and (b + p - d r0)/s."""
    common: tl.constexpr = AXIS.stride // AXIS.step
    first = (b + AXIS.padding) % AXIS.stride // common * AXIS.inverse % AXIS.step
    shift = (b + AXIS.padding - AXIS.dilation * first) // AXIS.stride  # no remainder where there are taps
    if common == 1 and AXIS.taps % AXIS.step == 0:
        return first, AXIS.taps // AXIS.step, shift
    else:
        count = tl.where(
            (b + AXIS.padding) % common == 0, (AXIS.taps - first + AXIS.step - 1) // AXIS.step, 0
        )
        return first, count, shift


@triton.jit
def finish(acc, BIAS, c, inside, SLOPE: tl.constexpr, ACTIVATION: tl.constexpr):
    """f(acc + bias[c]), for c of any shape that fits acc's."""
    if BIAS is not None:
        acc += tl.load(BIAS + c, mask=inside, other=0.0).to(acc.dtype)
    return activate(acc, SLOPE, ACTIVATION)


@triton.jit
def conv_dx_kernel(G, V, BIAS, DX, N, H, W, C, P, Q, SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, K: tl.constexpr,
                   GROUPS: tl.constexpr, FLAT: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
                   ACC: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
                   BLOCK_K: tl.constexpr):  # fmt: skip
    """BLOCK_M pixels of one phase of dx by BLOCK_C channels of one group."""
    group, channels = tl.program_id(1), C // GROUPS
    depth: tl.constexpr = K // GROUPS
    tiles = tl.cdiv(channels, BLOCK_C)
    c = tl.program_id(0) % tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    top = tl.program_id(0) // tiles // COLUMNS.stride % ROWS.stride
    left = tl.program_id(0) // tiles % COLUMNS.stride
    r0, down, shift_h = taps_of_phase(top, ROWS)
    s0, right, shift_w = taps_of_phase(left, COLUMNS)

    m = tl.program_id(0) // (tiles * ROWS.stride * COLUMNS.stride) * BLOCK_M + tl.arange(0, BLOCK_M)
    height, width = tl.cdiv(H - top, ROWS.stride), tl.cdiv(W - left, COLUMNS.stride)
    # Beyond the last pixel and channel a tile repeats them: loads need no mask for that, and the store has one.
    pixel = tl.maximum(tl.minimum(m, N * height * width - 1), 0)
    v = pixel % tl.maximum(width, 1)  # a phase may be empty
    u, n = pixel // tl.maximum(width, 1) % tl.maximum(height, 1), pixel // tl.maximum(height * width, 1)
    i, j = u + shift_h, v + shift_w
    corner = ((n * P + i) * Q + j) * K + group * depth
    of_w = (
        tl.minimum(c, channels - 1) * (ROWS.taps * COLUMNS.taps * K)
        + (r0 * COLUMNS.taps + s0) * K
        + group * depth
    )

    acc = tl.zeros((BLOCK_M, BLOCK_C), ACC)
    for start in range(0, down * right * depth, BLOCK_K):
        k = tl.arange(0, BLOCK_K)
        if FLAT:  # a step runs over from tap to tap
            k += start
            t, z = k // depth // right, k // depth % right
            known = k < down * right * depth
            reached = within(i[:, None] - (t * ROWS.spread)[None, :], P) & known[None, :]
            reached &= within(j[:, None] - (z * COLUMNS.spread)[None, :], Q)
            in_g = k % depth - (t * (ROWS.spread * Q) + z * COLUMNS.spread) * K
            in_w = k % depth + (t * (ROWS.step * COLUMNS.taps) + z * COLUMNS.step) * K
            g = tl.load(G + (corner[:, None] + in_g[None, :]), mask=reached, other=0.0)
            w = tl.load(V + (in_w[:, None] + of_w[None, :]), mask=known[:, None], other=0.0)
        else:  # a step lies within one tap
            t, z = start // depth // right, start // depth % right
            reached = within(i - t * ROWS.spread, P) & within(j - z * COLUMNS.spread, Q)
            first = tl.multiple_of(start % depth, BLOCK_K)
            in_g = first - (t * (ROWS.spread * Q) + z * COLUMNS.spread) * K
            in_w = first + (t * (ROWS.step * COLUMNS.taps) + z * COLUMNS.step) * K
            g = tl.load(G + in_g + (corner[:, None] + k[None, :]), mask=reached[:, None], other=0.0)
            w = tl.load(V + in_w + (k[:, None] + of_w[None, :]))
        acc = tl.dot(g, w, acc, input_precision=PRECISION, out_dtype=ACC)

    channel, inside = (group * channels + c)[None, :], (c < channels)[None, :]
    acc = finish(acc, BIAS, channel, inside, SLOPE, ACTIVATION)
    target = (n * H + u * ROWS.stride + top) * W + v * COLUMNS.stride + left
    tl.store(DX + (target[:, None] * C + channel), acc.to(DX.dtype.element_ty),
             mask=inside & (m < N * height * width)[:, None])  # fmt: skip


@triton.jit
def conv_dx_boxes_kernel(G, V, BIAS, DX, N, H, W, C, SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, K: tl.constexpr,
                         ACTIVATION: tl.constexpr, PRECISION: tl.constexpr, BOX_N: tl.constexpr, BOX_H: tl.constexpr,
                         BOX_W: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """BLOCK_C channels by a box of pixels of one phase of dx; G (N, P, Q, K), V (C, R S K) are descriptors."""
    tiles = tl.cdiv(C, BLOCK_C)
    first_c = tl.program_id(0) % tiles * BLOCK_C
    top = tl.program_id(0) // tiles // COLUMNS.stride % ROWS.stride
    left = tl.program_id(0) // tiles % COLUMNS.stride
    r0, down, shift_h = taps_of_phase(top, ROWS)
    s0, right, shift_w = taps_of_phase(left, COLUMNS)

    box = tl.program_id(0) // (tiles * ROWS.stride * COLUMNS.stride)
    across = tl.cdiv(tl.cdiv(W, COLUMNS.stride), BOX_W)
    above = tl.cdiv(tl.cdiv(H, ROWS.stride), BOX_H)
    first_v, first_u, first_n = (
        box % across * BOX_W,
        box // across % above * BOX_H,
        box // across // above * BOX_N,
    )

    acc = tl.zeros((BLOCK_C, BOX_N * BOX_H * BOX_W), tl.float32)
    steps: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    for step in range(down * right * steps):
        t, z, k = step // steps // right, step // steps % right, step % steps * BLOCK_K
        g = G.load([first_n, first_u + shift_h - t * ROWS.spread, first_v + shift_w - z * COLUMNS.spread, k])
        w = V.load([first_c, ((r0 + t * ROWS.step) * COLUMNS.taps + s0 + z * COLUMNS.step) * K + k])
        acc = tl.dot(w, g.reshape(BOX_N * BOX_H * BOX_W, BLOCK_K).T, acc, input_precision=PRECISION)

    m, c = tl.arange(0, BOX_N * BOX_H * BOX_W), first_c + tl.arange(0, BLOCK_C)
    acc = finish(acc, BIAS, c[:, None], (c < C)[:, None], SLOPE, ACTIVATION)
    n, row = first_n + m // (BOX_H * BOX_W), (first_u + m // BOX_W % BOX_H) * ROWS.stride + top
    column = (first_v + m % BOX_W) * COLUMNS.stride + left
    inside = (n < N) & (row < H) & (column < W)
    tl.store(DX + (((n * H + row) * W + column)[:, None] * C + c[None, :]), acc.T.to(DX.dtype.element_ty),
             mask=inside[:, None] & (c < C)[None, :])  # fmt: skip


def conv_dx_nhwc(g, w, geometry: Geometry):
    """See `scratchgan.kernels.conv.conv_dx_nhwc`."""
    return conv_dx_fused_nhwc(g, w, geometry, None, "linear", 0.0)


def conv_dx_fused_nhwc(g, w, geometry: Geometry, bias, activation: str, slope: float):
    """See `scratchgan.kernels.conv_dx_epilogue.conv_dx_fused_nhwc`."""
    _covered(g, w, bias, activation)
    geometry = _apart(geometry)
    dx = empty(g, (g.shape[0], *geometry.size, w.shape[1] * geometry.groups))
    demand(dx)
    g, v, bias = contiguous(g), crsk(w, w.dtype), None if bias is None else contiguous(bias)
    run = _by_boxes if _suits_boxes(g, v, dx, geometry) else _by_pointers
    run(g, v, bias, dx, geometry, activation, slope)
    return dx


def _covered(g, w, bias, activation: str) -> None:
    demand(*(a for a in (g, w, bias) if a is not None))
    demand_alike(g, w)
    if activation not in ACTIVATIONS:
        raise NotCovered(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")


def _apart(geometry: Geometry) -> Geometry:
    """The same sum with a single window as far from the next as it is long: each phase has one tap then."""
    each = zip(geometry.out, geometry.stride, geometry.kernel, geometry.dilation)
    return geometry._replace(stride=tuple(max(s, d * (r - 1) + 1) if n == 1 else s for n, s, r, d in each))


def _suits_boxes(g, v, dx, geometry: Geometry) -> bool:
    """Whether Hopper's copy engine can fetch g and w in steps within one tap, and tensor cores are filled."""
    filled = geometry.groups == 1 and whole(g.shape[3]) >= 32 and dx.shape[3] >= 32
    return filled and products(g.dtype) in ("half", "tf32") and capability() >= 90 and fetched(g, v)


def _by_boxes(g, v, bias, dx, geometry: Geometry, activation: str, slope: float) -> None:
    rows, columns = axes(geometry)
    (N, H, W, C), K = dx.shape, g.shape[3]
    sizes = N, triton.cdiv(H, rows.stride), triton.cdiv(W, columns.stride)
    tiles = _boxes(*sizes, rows.stride * columns.stride, C, 128 // g.itemsize)
    tiles = configuration("conv_dx_boxes", key(dx, g, rows, columns, 1), tiles)
    tiles["BLOCK_K"] = min(tiles["BLOCK_K"], whole(K))  # a step lies within one tap
    box = tiles["BOX_N"], tiles["BOX_H"], tiles["BOX_W"]
    programs = math.prod(map(triton.cdiv, sizes, box)) * triton.cdiv(C, tiles["BLOCK_C"])
    launch(conv_dx_boxes_kernel, (programs * rows.stride * columns.stride,), descriptor(g, (*box, tiles["BLOCK_K"])),
           descriptor(v.reshape(C, -1), (tiles["BLOCK_C"], tiles["BLOCK_K"])), bias, dx, N, H, W, C, SLOPE=slope,
           ROWS=rows, COLUMNS=columns, K=K, ACTIVATION=activation, PRECISION=dot_precision(), **tiles)  # fmt: skip


def _boxes(N: int, height: int, width: int, phases: int, channels: int, depth: int) -> dict[str, int]:
    """128 pixels in a box, of a row, then of more rows, then of more images; channels so as to fill the GPU."""
    across = min(128, triton.next_power_of_2(width))
    down = min(128 // across, triton.next_power_of_2(height))
    few = N * height * width * phases * channels < PROCESSORS * 128 * 128
    box = {"BOX_N": 128 // across // down, "BOX_H": down, "BOX_W": across}
    if few or channels <= 64:
        return {**box, "BLOCK_C": 64, "BLOCK_K": depth, "num_warps": 4, "num_stages": 3}
    return {**box, "BLOCK_C": 128, "BLOCK_K": depth, "num_warps": 8, "num_stages": 3}


def _by_pointers(g, v, bias, dx, geometry: Geometry, activation: str, slope: float) -> None:
    rows, columns = axes(geometry)
    (N, H, W, C), (_, P, Q, K), groups = dx.shape, g.shape, geometry.groups
    pixels, phases = (
        N * triton.cdiv(H, rows.stride) * triton.cdiv(W, columns.stride),
        rows.stride * columns.stride,
    )
    taps = triton.cdiv(rows.taps, rows.step) * triton.cdiv(columns.taps, columns.step)
    tiles = _tiles(g.dtype, pixels, phases * groups, C // groups, K // groups, taps)
    tiles = configuration("conv_dx", key(dx, g, rows, columns, groups), tiles)
    programs = triton.cdiv(pixels, tiles["BLOCK_M"]) * triton.cdiv(C // groups, tiles["BLOCK_C"]) * phases
    launch(conv_dx_kernel, (programs, groups), g, v, bias, dx, N, H, W, C, P, Q, SLOPE=slope, ROWS=rows, COLUMNS=columns,
           K=K, GROUPS=groups, FLAT=K // groups % tiles["BLOCK_K"] != 0, ACTIVATION=activation,
           PRECISION=dot_precision(), ACC=accumulator(g.dtype), **tiles)  # fmt: skip


def _tiles(dtype, pixels: int, apart: int, channels: int, depth: int, taps: int) -> dict[str, int]:
    """The default, cut to the size of the problem (there are `apart`), and halved while processors are idle.

    Steps lie within one tap where a power of two from 16 on divides `depth`.
    """
    default = DEFAULTS[products(dtype)]
    tiles = {
        **default,
        "BLOCK_M": side(pixels, default["BLOCK_M"]),
        "BLOCK_C": side(channels, default["BLOCK_C"]),
    }
    for name in ("BLOCK_M", "BLOCK_C"):
        area = tiles["BLOCK_M"] * tiles["BLOCK_C"]
        if tiles[name] == 128 and pixels * apart * channels < PROCESSORS * area:
            tiles[name] = 64
    if whole(depth) >= 16:
        tiles["BLOCK_K"] = min(default["BLOCK_K"], whole(depth))
    else:  # every number of a step has its own address: registers for a smaller tile
        tiles |= {"BLOCK_K": side(depth * taps, 32), "BLOCK_M": min(64, tiles["BLOCK_M"])}
    if tiles["BLOCK_M"] * tiles["BLOCK_C"] < default["BLOCK_M"] * default["BLOCK_C"]:
        tiles["num_warps"] = 4
    return tiles


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    from scratchgan.kernels.dispatch import float32_matmul

    def case(dtype, C, K, size, taps, stride, padding, activation="linear", precision="highest"):
        out = (size + 2 * padding - taps) // stride + 1
        geometry = Geometry((size,) * 2, (taps,) * 2, (out,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), 1)
        g, w = np.empty((64, out, out, K), dtype), np.empty((C, taps, taps, K), dtype).transpose(3, 0, 1, 2)
        bias = None if activation == "linear" else np.empty(C, np.float32)

        def call():
            with float32_matmul(precision):
                conv_dx_fused_nhwc(g, w, geometry, bias, activation, 0.2)

        return Case(call, 2 * g.size * w[0].size, (g.size + w.size + 64 * size * size * C) * g.itemsize)

    return {
        "float16 256>128 k4 s2": case(np.float16, 128, 256, 32, 4, 2, 1, "relu"),
        "bfloat16 512>512 k3": case(ml_dtypes.bfloat16, 512, 512, 8, 3, 1, 1),
        "float16 100>512 k4 of one pixel": case(np.float16, 512, 100, 4, 4, 1, 0, "relu"),
        "float16 64>3 k4 s2": case(np.float16, 3, 64, 64, 4, 2, 1, "tanh"),
        "float16 3>64 k3": case(np.float16, 64, 3, 64, 3, 1, 1),
        "float32 256>128 k4 s2": case(np.float32, 128, 256, 32, 4, 2, 1, "relu"),
        "tf32 256>128 k4 s2": case(np.float32, 128, 256, 32, 4, 2, 1, "relu", "high"),
        "float32 3>64 k3": case(np.float32, 64, 3, 64, 3, 1, 1),
        "float64 256>128 k4 s2": case(np.float64, 128, 256, 32, 4, 2, 1),
    }
