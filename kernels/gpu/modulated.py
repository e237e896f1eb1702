"""Modulated convolution in Triton: `scaled_conv` and `demodulation` of `kernels/modulated.py`.

Layout: x (N, H, W, C) and y (N, P, Q, K) contiguous, w packed as (K, R, S, C), scales (N, C) and (N, K).

`gather_kernel` multiplies matrices without making the columns: output channels o across, pixels down, and the
sum runs over taps and, inside of these, over the input channels i.

                 i ->        o ->                    o ->
    pixels  [ x A[n, i] ] x [ w ]   added up to   [ acc ]  then B[n, o], noise, bias, activation
       |    gathered at a tap        i |             |

Pixels belong to IMAGES images of PIXELS each: of large pictures one program takes a part of one, of small
ones several, so that a row of scales serves all pixels of an image, and sums over the pixels of an image are
sums over rows of the tile. Output pixel p = step m + phase of an axis reads input stride m + base + tap_step
t for its tap t; both adjoints are of this form, `modulated_dx.py` says how.

Bytes: x and y once and w once from memory, if the caches hold what neighbouring programs share. FLOPs: 2 N P
Q K C R S. A layer of 512 channels at 32 x 32 has 590 FLOPs a byte at batch 32 in float16, so the tensor cores
decide. The scales cost one multiplication for each number of x that is read: 1 for 2 BLOCK_O of the product.
Weights for every image of their own, as in the authors' code, would be 2.4 million numbers each: 151 MB to
write and read at batch 32.

History:
1. One style for each row of the tile: in the loop as many loads of A as of x.
2. Tiles that keep to one image: A is one row of BLOCK_I numbers. Small pictures still load it row by row.
3. Pictures of 4 x 4 at batch 32 make 16 tiles of 128 x 128 for 132 processors: tiles of 64 x 32 where there
   are few.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import triton
import triton.language as tl

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.activation import activate
from scratchgan.kernels.gpu.axis import products
from scratchgan.kernels.gpu.launch import Case, accumulator, configuration, dot_precision, launch
from scratchgan.kernels.gpu.memory import demand, empty
from scratchgan.kernels.gpu.prepack import krsc
from scratchgan.kernels.means import accumulated
from scratchgan.kernels.modulated import ACTIVATIONS, EPSILON, NOTHING, Finish

DEFAULT = {"BLOCK_P": 128, "BLOCK_O": 128, "BLOCK_I": 64, "num_warps": 8, "num_stages": 3}
DEFAULT_TF32 = {**DEFAULT, "BLOCK_I": 32}  # numbers twice as long
DEFAULT_FEW = {"BLOCK_P": 64, "BLOCK_O": 32, "BLOCK_I": 64, "num_warps": 4, "num_stages": 3}  # small pictures
DEFAULT_EXACT = {"BLOCK_P": 64, "BLOCK_O": 32, "BLOCK_I": 16, "num_warps": 4, "num_stages": 2}  # see `exact`
DEFAULT_SQUARES = {"BLOCK": 256, "num_warps": 4}
DEFAULT_DEMODULATION = {"BLOCK_N": 16, "BLOCK_K": 16, "BLOCK_C": 64, "num_warps": 2}
DEFAULT_SUMS = {"BLOCK": 256, "num_warps": 4}
FEW = 128  # tiles: with fewer than a GPU has processors, smaller ones
CONFIGURATIONS = [
    {"BLOCK_P": p, "BLOCK_O": o, "BLOCK_I": i, "num_warps": warps, "num_stages": stages}
    for p, o, warps in ((128, 128, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (128, 256, 8), (32, 64, 4))
    for i in (32, 64)
    for stages in (2, 3, 4)
]


@triton.jit
def gather_kernel(X, W, A, B, Y, NOISE, STRENGTH, BIAS, DOT, SUMS, N, HEIGHT, WIDTH, I, P, Q, O, noise_step,
                  tiles, image_tiles, SLOPE: tl.constexpr, R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr,
                  STRIDE_W: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr, PAD_H: tl.constexpr,
                  PAD_W: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
                  ADJOINT: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
                  ACC: tl.constexpr, IMAGES: tl.constexpr,
                  PIXELS: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr):  # fmt: skip
    """y = B (A x gathered) w, and what follows: a tile of IMAGES x PIXELS pixels and BLOCK_O channels."""
    tile, image_tile = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    phase = tl.program_id(2)
    a, b = phase // STEP_W, phase % STEP_W
    base_h, taps_h, first_r = axis(a, R, STEP_H, PAD_H, ADJOINT)
    base_w, taps_w, first_s = axis(b, S, STEP_W, PAD_W, ADJOINT)
    columns = (Q - b + STEP_W - 1) // STEP_W
    pixels, columns = (P - a + STEP_H - 1) // STEP_H * columns, tl.maximum(columns, 1)

    row = tl.arange(0, IMAGES * PIXELS)
    n, pixel = image_tile * IMAGES + row // PIXELS, tile * PIXELS + row % PIXELS
    real = (n < N) & (pixel < pixels)
    down, right = pixel // columns, pixel % columns
    top, left = down * STRIDE_H + base_h, right * STRIDE_W + base_w

    acc = tl.zeros((IMAGES * PIXELS, BLOCK_O), ACC)
    blocks = tl.cdiv(I, BLOCK_I)
    for step in range(taps_h * taps_w * blocks):
        tap = step // blocks
        t, u = tap // taps_w, tap % taps_w
        i = step % blocks * BLOCK_I + tl.arange(0, BLOCK_I)
        y0 = top + t * (-DILATION_H if ADJOINT else DILATION_H)
        x0 = left + u * (-DILATION_W if ADJOINT else DILATION_W)
        inside = real & (y0 >= 0) & (y0 < HEIGHT) & (x0 >= 0) & (x0 < WIDTH)
        x = tl.load(X + (((n * HEIGHT + y0) * WIDTH + x0) * I)[:, None] + i[None, :],
                    mask=inside[:, None] & (i < I)[None, :], other=0.0)  # fmt: skip
        if A is not None:
            x *= scales(A, n, i, image_tile, real, I, IMAGES).to(x.dtype)
        r, s = first_r + t * STEP_H, first_s + u * STEP_W
        w = tl.load(W + ((o * R + r) * S + s)[None, :] * I + i[:, None],
                    mask=(o < O)[None, :] & (i < I)[:, None], other=0.0)  # fmt: skip
        acc = tl.dot(x, w, acc, input_precision=PRECISION, out_dtype=ACC)

    place = ((n * P + down * STEP_H + a) * Q + right * STEP_W + b) * O
    target, written = place[:, None] + o[None, :], real[:, None] & (o < O)[None, :]
    if DOT is not None:
        product = tl.load(DOT + target, mask=written, other=0.0).to(ACC) * acc
        image = image_tile * IMAGES + tl.arange(0, IMAGES)
        sums = tl.sum(product.reshape(IMAGES, PIXELS, BLOCK_O), 1)
        tl.store(SUMS + (((phase * tiles + tile) * N + image) * O)[:, None] + o[None, :], sums,
                 mask=(image < N)[:, None] & (o < O)[None, :])  # fmt: skip
    if B is not None:
        acc *= scales(B, n, o, image_tile, real, O, IMAGES).to(ACC)
    if NOISE is not None:
        noise = tl.load(NOISE + n * noise_step + pixel, mask=real, other=0.0).to(ACC)
        acc += tl.load(STRENGTH).to(ACC) * noise[:, None]
    if BIAS is not None:
        acc += tl.load(BIAS + o, mask=o < O, other=0.0).to(ACC)[None, :]
    tl.store(Y + target, activate(acc, SLOPE, ACTIVATION).to(Y.dtype.element_ty), mask=written)


@triton.jit
def scales(SCALES, n, channel, image, real, CHANNELS, IMAGES: tl.constexpr):
    """Scales (1, channels) of the one image of a tile, or (pixels, channels) of several."""
    inside = channel < CHANNELS
    if IMAGES == 1:
        found = tl.load(SCALES + image * CHANNELS + channel, mask=inside, other=0.0)[None, :]
    else:
        place = (n * CHANNELS)[:, None] + channel[None, :]
        found = tl.load(SCALES + place, mask=real[:, None] & inside[None, :], other=0.0)
    return found


@triton.jit
def axis(phase, TAPS: tl.constexpr, STEP: tl.constexpr, PAD: tl.constexpr, ADJOINT: tl.constexpr):
    """(base, how many taps, the first of them) along one axis for the outputs STEP m + phase."""
    first = (phase + PAD) % STEP
    return (phase + PAD) // STEP if ADJOINT else phase - PAD, (TAPS - first + STEP - 1) // STEP, first


@triton.jit
def squares_kernel(W, SQUARES, size, C, step_k, step_c, step_r, step_s, R: tl.constexpr, S: tl.constexpr,
                   ACC: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Sums over the taps of w^2, for BLOCK of the K C kernels."""
    one = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start = one // C * step_k + one % C * step_c
    total = tl.zeros((BLOCK,), ACC)
    for r in range(R):
        for s in range(S):
            w = tl.load(W + start + r * step_r + s * step_s, mask=one < size, other=0.0).to(ACC)
            total += w * w
    tl.store(SQUARES + one, total, mask=one < size)


@triton.jit
def demodulation_kernel(STYLE, SQUARES, D, N, C, K, EPS: tl.constexpr, GAIN: tl.constexpr, ACC: tl.constexpr,
                        BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """gain (sum over c of style[n, c]^2 squares[k, c] + epsilon)^(-1/2), a tile of n and k."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_N, BLOCK_K), ACC)
    for first in range(0, C, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        read, squared = (n < N)[:, None] & (c < C)[None, :], (k < K)[None, :] & (c < C)[:, None]
        s = tl.load(STYLE + n[:, None] * C + c[None, :], mask=read, other=0.0)
        w = tl.load(SQUARES + k[None, :] * C + c[:, None], mask=squared, other=0.0)
        s = s.to(ACC)
        total = tl.dot(s * s, w, total, input_precision="ieee", out_dtype=ACC)
    d = GAIN / tl.sqrt(total + EPS)
    tl.store(D + n[:, None] * K + k[None, :], d, mask=(n < N)[:, None] & (k < K)[None, :])


@triton.jit
def add_parts_kernel(PARTS, SUMS, parts, size, BLOCK: tl.constexpr):
    """Sums over the first axis of PARTS (parts, size), always in the same order."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), PARTS.dtype.element_ty)
    for part in range(parts):
        total += tl.load(PARTS + part * size + place, mask=place < size, other=0.0)
    tl.store(SUMS + place, total.to(SUMS.dtype.element_ty), mask=place < size)


class Gather(NamedTuple):
    """One call of `gather_kernel`: input (N, H, W, I), w (O, R, S, I), scales, size, and how axes map."""

    x: object
    w: object
    before: object
    after: object
    out: tuple[int, int]
    stride: tuple[int, int]  # from one output of a phase to the next, in the input
    steps: tuple[int, int]  # phases of each axis
    padding: tuple[int, int]
    dilation: tuple[int, int]
    adjoint: bool


def gather(call: Gather, finish: Finish, dot):
    """The output (N, *out, O), or (output, sums) with `dot`. Raises NotCovered before any launch."""
    (N, H, W, I), (O, R, S, _) = call.x.shape, call.w.shape
    P, Q = call.out
    strength = None if finish.strength is None else finish.strength.reshape(1)
    small = [None if a is None else contiguous(a)
             for a in (call.before, call.after, finish.noise, strength, finish.bias, dot)]  # fmt: skip
    before, after, noise, strength, bias, dot = small
    demand(call.x, call.w, *(a for a in small if a is not None))
    y = empty(call.x, (N, P, Q, O))
    demand(y)
    constants, precision = _tiles(call)
    largest = -(-P // call.steps[0]) * -(-Q // call.steps[1])
    block = constants.pop("BLOCK_P")
    pixels = min(block, triton.next_power_of_2(max(1, largest)))
    tiles, images = triton.cdiv(largest, pixels), block // pixels
    image_tiles, phases = triton.cdiv(N, images), prod(call.steps)
    parts = None if dot is None else empty(call.x, (phases * tiles, N, O), accumulated(call.x.dtype))
    launch(gather_kernel, (tiles * image_tiles, triton.cdiv(O, constants["BLOCK_O"]), phases),
           call.x, call.w, before, after, y, noise, strength, bias, dot, parts, N, H, W, I, P, Q, O,
           0 if noise is None or len(noise) == 1 else P * Q, tiles, image_tiles, SLOPE=finish.slope,
           R=R, S=S, STRIDE_H=call.stride[0], STRIDE_W=call.stride[1], STEP_H=call.steps[0],
           STEP_W=call.steps[1], PAD_H=call.padding[0], PAD_W=call.padding[1],
           DILATION_H=call.dilation[0], DILATION_W=call.dilation[1], ADJOINT=call.adjoint,
           ACTIVATION=finish.activation, PRECISION=precision, ACC=accumulator(call.x.dtype),
           IMAGES=images, PIXELS=pixels, **constants)  # fmt: skip
    return y if dot is None else (y, add_parts(parts))


def _tiles(call: Gather) -> tuple[dict, str]:
    """Tile sizes and tl.dot's precision; tiles no wider than the channels, but 16, tl.dot's least."""
    dtype, name = call.x.dtype, "modulated_dx" if call.adjoint else "modulated"
    few = len(call.x) * prod(call.out) * call.w.shape[0] < FEW * DEFAULT["BLOCK_P"] * DEFAULT["BLOCK_O"]
    large = DEFAULT if dtype.itemsize == 2 else DEFAULT_TF32
    key = f"{dtype.name} {call.x.shape[:3]} {call.w.shape} {call.stride} {call.steps}"
    default = DEFAULT_EXACT if exact(dtype) else DEFAULT_FEW if few else large
    constants = dict(configuration(name, key, default))
    for name, size in (("BLOCK_O", call.w.shape[0]), ("BLOCK_I", call.w.shape[3])):
        constants[name] = min(constants[name], max(16, triton.next_power_of_2(size)))
    return constants, dot_precision()


def exact(dtype) -> bool:
    """Whether products are of float64, or of float32 to the last digit: far slower, so tiles are small."""
    return products(dtype) in ("ieee", "double")


def add_parts(parts, dtype=None):
    """The sums over the first axis of a workspace, in its dtype or another."""
    sums = empty(parts, parts.shape[1:], dtype)
    constants = configuration("modulated add_parts", "", DEFAULT_SUMS)
    launch(add_parts_kernel, (triton.cdiv(sums.size, constants["BLOCK"]),),
           parts, sums, len(parts), sums.size, **constants)  # fmt: skip
    return sums


def scaled_conv(x, w, before, after, geometry: Geometry, finish: Finish = NOTHING, dot=None):
    """See `scratchgan.kernels.modulated.scaled_conv`."""
    one_group(geometry)
    known(finish.activation)
    call = Gather(contiguous(x), krsc(w, x.dtype), before, after, geometry.out, geometry.stride, (1, 1),
                  geometry.padding, geometry.dilation, adjoint=False)  # fmt: skip
    return gather(call, finish, dot)


def one_group(geometry: Geometry) -> None:
    """Raise NotCovered for grouped convolutions."""
    if geometry.groups != 1:
        raise NotCovered(f"{geometry.groups} groups: expected 1")


def known(activation: str) -> None:
    """Raise NotCovered for activations that can't be undone."""
    if activation not in ACTIVATIONS:
        raise NotCovered(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")


def demodulation(w, style, gain: float = 1.0):
    """See `scratchgan.kernels.modulated.demodulation`."""
    demand(w, style)
    style, (K, C, R, S), dtype = contiguous(style), w.shape, accumulated(w.dtype)
    squares, d = empty(w, (K, C), dtype), empty(w, (len(style), K), dtype)
    tiles = configuration("modulated squares", "", DEFAULT_SQUARES)
    launch(squares_kernel, (triton.cdiv(K * C, tiles["BLOCK"]),), w, squares, K * C, C,
           *(step // w.itemsize for step in w.strides),
           R=R, S=S, ACC=accumulator(w.dtype), **tiles)  # fmt: skip
    tiles = configuration("modulated demodulation", "", DEFAULT_DEMODULATION)
    launch(demodulation_kernel, (triton.cdiv(len(style), tiles["BLOCK_N"]), triton.cdiv(K, tiles["BLOCK_K"])),
           style, squares, d, len(style), C, K, EPS=EPSILON, GAIN=gain, ACC=accumulator(w.dtype), **tiles)  # fmt: skip
    return d


def layer(dtype, n: int, edge: int, channels: int, colours: int = 0):
    """x, w, style, factors and geometry of a 3 x 3 layer, or of ToRGB's 1 x 1, for the static report."""
    import numpy as np

    K, r = colours or channels, 1 if colours else 3
    geometry = Geometry((edge, edge), (r, r), (edge, edge), (1, 1), (r // 2, r // 2), (1, 1), 1)
    x, w = np.empty((n, edge, edge, channels), dtype), np.empty((K, channels, r, r), np.float32)
    return x, w, np.empty((n, channels), np.float32), np.empty((n, K), np.float32), geometry


def work(x, w, geometry: Geometry) -> tuple[float, float]:
    """FLOPs and bytes of one of the three products."""
    out = len(x) * prod(geometry.out) * w.shape[0]
    return 2 * out * prod(w.shape[1:]), x.itemsize * (x.size + out + w.size)


def static_cases() -> dict[str, Case]:
    """Calls that cover every kernel of this file at StyleGAN2's layers, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def case(dtype, *sizes, noisy=True):
        x, w, style, after, geometry = layer(dtype, *sizes)
        noise = np.empty((len(x), *geometry.out), np.float32)
        finish = Finish(noise, np.empty((), np.float32), np.empty(len(w), np.float32), "leaky_relu", 0.2)
        finish = finish if noisy else NOTHING
        return Case(lambda: scaled_conv(x, w, style, after, geometry, finish), *work(x, w, geometry))

    _, w, style, _, _ = layer(np.float32, 32, 4, 512)
    return {
        "32 px float16": case(np.float16, 32, 32, 512),
        "4 px float16": case(np.float16, 32, 4, 512),
        "128 px bfloat16": case(ml_dtypes.bfloat16, 32, 128, 128),
        "32 px float32": case(np.float32, 32, 32, 512),
        "RGB float16": case(np.float16, 32, 64, 256, 3, noisy=False),
        "demodulation": Case(lambda: demodulation(w, style), 2 * w.size + 2 * 32 * 512 * 512, 4 * w.size),
    }
