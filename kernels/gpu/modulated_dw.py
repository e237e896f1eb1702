"""What reaches the weights of a modulated convolution, in Triton: `scaled_conv_dw` and `activation_sums` of
`kernels/modulated.py`.

Layout: x (N, H, W, C) and g (N, P, Q, K) contiguous, scales (N, C) and (N, K); dw is made as (K, R, S, C).

Tiling: a program has one tap and a tile of dw, BLOCK_K x BLOCK_C; the sum runs over pixels, IMAGES x PIXELS
of them at a time as in `modulated.py`. So that all processors have work, pixels are shared out to `splits`
programs, each with its place in a workspace; a second launch adds these up, always in the same order.

                 pixels ->         c ->             c ->
            k [ B[n, k] g^T ] x [ A[n, c] x ]  =  [ acc ]      workspace [ | | | ] -> dw
            |                                   k |                        splits

`activation_sums` reads g and y once: a program has BLOCK_K channels of one image and a share of its pixels.

Bytes: x and g once from memory for each pass of the tiles of K and C over them, which the second-level cache
serves in part; the workspace is splits times dw in float32, written and read. FLOPs: 2 N P Q K C R S.
`activation_sums` reads two numbers and writes one for each of y, with some 8 FLOPs: memory decides.

History:
1. Splits until there are some 512 programs.
2. Small pictures, whose scales are loaded row by row, spilled on sm_80 with tiles of 128 x 128: 64 x 64 for
   them.
"""

from __future__ import annotations

from math import prod

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.activation import derivative
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, dot_precision, launch
from scratchgan.kernels.gpu.memory import demand, empty
from scratchgan.kernels.gpu.modulated import add_parts, exact, known, layer, one_group, scales, work
from scratchgan.kernels.means import accumulated

PROGRAMS = 512  # wanted: some three for each processor
DEFAULT = {"BLOCK_P": 64, "BLOCK_K": 128, "BLOCK_C": 128, "num_warps": 8, "num_stages": 3}
DEFAULT_TF32 = {**DEFAULT, "BLOCK_P": 32}  # numbers twice as long
DEFAULT_SMALL = {"BLOCK_P": 32, "BLOCK_K": 64, "BLOCK_C": 64, "num_warps": 4, "num_stages": 3}  # pictures
DEFAULT_EXACT = {"BLOCK_P": 16, "BLOCK_K": 64, "BLOCK_C": 32, "num_warps": 4, "num_stages": 2}  # see `exact`
DEFAULT_SUMS = {"BLOCK_P": 32, "BLOCK_K": 64, "num_warps": 4}
CONFIGURATIONS = [
    {"BLOCK_P": p, "BLOCK_K": k, "BLOCK_C": c, "num_warps": warps, "num_stages": stages}
    for k, c, warps in ((128, 128, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4))
    for p in (32, 64)
    for stages in (2, 3, 4)
]


@triton.jit
def scaled_dw_kernel(X, G, A, B, PARTS, N, HEIGHT, WIDTH, C, P, Q, K, tiles, all_tiles, share, k_tiles,
                     S: tl.constexpr,
                     STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
                     DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, PRECISION: tl.constexpr,
                     ACC: tl.constexpr, IMAGES: tl.constexpr, PIXELS: tl.constexpr,
                     BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """One split's part of dw (K, R, S, C) at one tap: `share` tiles of pixels."""
    k = tl.program_id(0) % k_tiles * BLOCK_K + tl.arange(0, BLOCK_K)
    c = tl.program_id(0) // k_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    tap, split = tl.program_id(1), tl.program_id(2)
    row = tl.arange(0, IMAGES * PIXELS)
    acc = tl.zeros((BLOCK_K, BLOCK_C), ACC)
    for part in range(split * share, tl.minimum(split * share + share, all_tiles)):
        n, pixel = part // tiles * IMAGES + row // PIXELS, part % tiles * PIXELS + row % PIXELS
        real = (n < N) & (pixel < P * Q)
        i = pixel // Q * STRIDE_H + tap // S * DILATION_H - PAD_H
        j = pixel % Q * STRIDE_W + tap % S * DILATION_W - PAD_W
        inside = real & (i >= 0) & (i < HEIGHT) & (j >= 0) & (j < WIDTH)
        g = tl.load(G + ((n * P * Q + pixel) * K)[:, None] + k[None, :],
                    mask=real[:, None] & (k < K)[None, :], other=0.0)  # fmt: skip
        x = tl.load(X + (((n * HEIGHT + i) * WIDTH + j) * C)[:, None] + c[None, :],
                    mask=inside[:, None] & (c < C)[None, :], other=0.0)  # fmt: skip
        if B is not None:
            g *= scales(B, n, k, part // tiles, real, K, IMAGES).to(g.dtype)
        if A is not None:
            x *= scales(A, n, c, part // tiles, real, C, IMAGES).to(x.dtype)
        acc = tl.dot(tl.trans(g), x, acc, input_precision=PRECISION, out_dtype=ACC)
    target = ((split * K + k)[:, None] * tl.num_programs(1) + tap) * C + c[None, :]
    tl.store(PARTS + target, acc.to(PARTS.dtype.element_ty), mask=(k < K)[:, None] & (c < C)[None, :])


@triton.jit
def activation_sums_kernel(G, Y, NOISE, DV, PARTS, pixels, K, noise_step, share, slope: tl.float64,
                           ACTIVATION: tl.constexpr, ACC: tl.constexpr,
                           BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """dv, and its sums with v, noise and 1 over `share` pixels of one image, for BLOCK_K channels."""
    part, k, n = tl.program_id(0), tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K), tl.program_id(2)
    by_v, by_noise, by_one = (tl.zeros((BLOCK_K,), ACC),) * 3
    for first in range(part * share, tl.minimum(part * share + share, pixels), BLOCK_P):
        pixel = first + tl.arange(0, BLOCK_P)
        here = pixel < tl.minimum(part * share + share, pixels)
        place = (n * pixels + pixel)[:, None] * K + k[None, :]
        inside = here[:, None] & (k < K)[None, :]
        y = tl.load(Y + place, mask=inside, other=0.0).to(ACC)
        dv = tl.load(G + place, mask=inside, other=0.0).to(ACC) * derivative(y, tl.full((), slope, ACC), ACTIVATION)
        tl.store(DV + place, dv.to(DV.dtype.element_ty), mask=inside)
        v = y
        if ACTIVATION == "leaky_relu":
            v = tl.where(y > 0, y, y / tl.full((), slope, ACC))
        by_v += tl.sum(dv * v, 0)
        by_one += tl.sum(dv, 0)
        if NOISE is not None:
            noise = tl.load(NOISE + n * noise_step + pixel, mask=here, other=0.0).to(ACC)
            by_noise += tl.sum(dv * noise[:, None], 0)
    size = tl.num_programs(2) * K
    target = PARTS + part * 3 * size + n * K + k
    tl.store(target, by_v, mask=k < K)
    tl.store(target + size, by_noise, mask=k < K)
    tl.store(target + 2 * size, by_one, mask=k < K)


def scaled_conv_dw(x, g, before, after, geometry: Geometry):
    """See `scratchgan.kernels.modulated.scaled_conv_dw`."""
    one_group(geometry)
    x, g = contiguous(x), contiguous(g)
    before, after = (None if a is None else contiguous(a) for a in (before, after))
    demand(x, g, *(a for a in (before, after) if a is not None))
    (N, H, W, C), (P, Q), (R, S), K = x.shape, geometry.out, geometry.kernel, g.shape[3]
    constants, precision = _tiles(x, K, geometry)
    block = constants.pop("BLOCK_P")
    pixels = min(block, triton.next_power_of_2(max(1, P * Q)))
    images, tiles = block // pixels, triton.cdiv(P * Q, pixels)
    all_tiles, k_tiles = tiles * triton.cdiv(N, images), triton.cdiv(K, constants["BLOCK_K"])
    kc_tiles = k_tiles * triton.cdiv(C, constants["BLOCK_C"])
    splits = max(1, min(all_tiles, triton.cdiv(PROGRAMS, max(1, kc_tiles * R * S))))
    share = triton.cdiv(all_tiles, splits)
    parts = empty(x, (splits, K, R, S, C), x.dtype if splits == 1 else accumulated(x.dtype))
    launch(scaled_dw_kernel, (kc_tiles, R * S, splits),
           x, g, before, after, parts, N, H, W, C, P, Q, K, tiles, all_tiles, share, k_tiles,
           S=S, STRIDE_H=geometry.stride[0], STRIDE_W=geometry.stride[1], PAD_H=geometry.padding[0],
           PAD_W=geometry.padding[1], DILATION_H=geometry.dilation[0], DILATION_W=geometry.dilation[1],
           PRECISION=precision, ACC=accumulator(x.dtype), IMAGES=images, PIXELS=pixels,
           **constants)  # fmt: skip
    dw = parts[0] if splits == 1 else add_parts(parts, x.dtype)
    return dw.transpose(0, 3, 1, 2)


def _tiles(x, K: int, geometry: Geometry) -> tuple[dict, str]:
    """Tile sizes and tl.dot's precision; tiles no wider than the channels, but 16, tl.dot's least."""
    small = prod(geometry.out) < DEFAULT["BLOCK_P"]  # which load their scales row by row
    large = DEFAULT if x.dtype.itemsize == 2 else DEFAULT_TF32
    key = f"{x.dtype.name} {x.shape} {K} {geometry.kernel} {geometry.stride}"
    default = DEFAULT_EXACT if exact(x.dtype) else DEFAULT_SMALL if small else large
    constants = dict(configuration("modulated_dw", key, default))
    for name, size in (("BLOCK_K", K), ("BLOCK_C", x.shape[3])):
        constants[name] = min(constants[name], max(16, triton.next_power_of_2(size)))
    return constants, dot_precision()


def activation_sums(g, y, noise, activation: str, slope: float):
    """See `scratchgan.kernels.modulated.activation_sums`."""
    known(activation)
    activation = "relu" if slope == 0 and activation == "leaky_relu" else activation
    g, y, noise = contiguous(g), contiguous(y), None if noise is None else contiguous(noise)
    demand(g, y, *(() if noise is None else (noise,)))
    N, P, Q, K = y.shape
    tiles = configuration("modulated_dw sums", "", DEFAULT_SUMS)
    k_tiles = triton.cdiv(K, tiles["BLOCK_K"])
    count = max(1, min(triton.cdiv(P * Q, 4 * tiles["BLOCK_P"]), triton.cdiv(PROGRAMS, max(1, N * k_tiles))))
    dv, parts = empty(g, g.shape), empty(g, (count, 3, N, K), accumulated(g.dtype))
    launch(activation_sums_kernel, (count, k_tiles, N), g, y, noise, dv, parts, P * Q, K,
           0 if noise is None or len(noise) == 1 else P * Q, triton.cdiv(P * Q, count), slope,
           ACTIVATION=activation, ACC=accumulator(g.dtype), **tiles)  # fmt: skip
    return dv, parts[0] if count == 1 else add_parts(parts)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file at StyleGAN2's layers, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def case(dtype, *sizes):
        x, w, style, after, geometry = layer(dtype, *sizes)
        g = np.empty((len(x), *geometry.out, len(w)), dtype)
        return Case(lambda: scaled_conv_dw(x, g, style, after, geometry), *work(x, w, geometry))

    def sums(dtype, *sizes):
        y, *_ = layer(dtype, *sizes)
        noise = np.empty(y.shape[:3], np.float32)
        moved = 3 * y.itemsize * y.size
        return Case(lambda: activation_sums(y, y, noise, "leaky_relu", 0.2), 8 * y.size, moved)

    return {
        "32 px float16": case(np.float16, 32, 32, 512),
        "4 px float16": case(np.float16, 32, 4, 512),
        "128 px bfloat16": case(ml_dtypes.bfloat16, 32, 128, 128),
        "32 px float32": case(np.float32, 32, 32, 512),
        "RGB float16": case(np.float16, 32, 64, 256, 3),
        "sums float16": sums(np.float16, 32, 64, 256),
        "sums float32": sums(np.float32, 32, 64, 256),
    }
