"""What the forward convolution kernels share: the problem, and what ends a tile (`kernels/conv_epilogue.py`).

A tile of the accumulator has pixels m = (n P + p) Q + q down and channels k across:

                  k ->
            m  [ acc  ]  + b[k], sums over m, activation, + residual[m, k], store
            |

Sums are deterministic: every tile of pixels writes its own row of a workspace (tiles, 2 K), and a second
launch adds the rows up, always in the same order.

With a shuffle by r, neighbours in k are stored far apart, so tiles take the channels of a group in another
order: k = (t mod k') r^2 + t // k' for t = 0, 1, ... and k' = K / r^2, where neighbours are side by side.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import triton
import triton.language as tl

from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.conv_epilogue import Epilogue
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.activation import activate
from scratchgan.kernels.gpu.launch import Case
from scratchgan.kernels.gpu.memory import LARGEST, demand, demand_alike, empty
from scratchgan.kernels.gpu.sums import sums
from scratchgan.kernels.means import accumulated


@triton.jit
def channels(t, KG, RUN: tl.constexpr):
    """The channel of a group's KG that stands at place t of the walk described above, r^2 = RUN."""
    if RUN > 1:
        t = t % (KG // RUN) * RUN + t // (KG // RUN)
    return t


@triton.jit
def finish(acc, Y, BIAS, RESIDUAL, SUMS, tile, m, inside_m, k, inside_k, K, P, Q,
           ACTIVATION: tl.constexpr, SLOPE: tl.constexpr, GAIN: tl.constexpr,
           SHUFFLE: tl.constexpr):  # fmt: skip
    """Everything from the accumulator (pixels m, channels k) of the tile-th tile of pixels to memory."""
    if BIAS is not None:
        acc += tl.load(BIAS + k, mask=inside_k, other=0.0).to(acc.dtype)[None, :]
    if SUMS is not None:
        z = tl.where(inside_m[:, None], acc, 0.0)
        tl.store(SUMS + tile * 2 * K + k, tl.sum(z, 0), mask=inside_k)
        tl.store(SUMS + tile * 2 * K + K + k, tl.sum(z * z, 0), mask=inside_k)
    y = activate(acc, SLOPE, ACTIVATION) * GAIN
    inside = inside_m[:, None] & inside_k[None, :]
    if RESIDUAL is not None:
        y += tl.load(RESIDUAL + m[:, None] * K + k[None, :], mask=inside, other=0.0).to(acc.dtype)
    if SHUFFLE == 1:
        target = m[:, None] * K + k[None, :]
    else:
        r: tl.constexpr = SHUFFLE
        row, phase = m // Q * r, k % (r * r)  # row: (n P + p) r
        pixel, across = (row * Q + m % Q) * r, phase // r * Q * r + phase % r
        target = pixel[:, None] * (K // (r * r)) + (across * (K // (r * r)) + k // (r * r))[None, :]
    tl.store(Y + target, y.to(Y.dtype.element_ty), mask=inside)


class Problem(NamedTuple):
    """One call of the forward convolution, with x contiguous and w (K, C / groups, R, S) as it came."""

    x: Any
    w: Any
    geometry: Geometry
    epilogue: Epilogue

    @property
    def pixels(self) -> int:
        """N P Q, the height of the matrix product."""
        return self.x.shape[0] * math.prod(self.geometry.out)

    @property
    def K(self) -> int:
        return self.w.shape[0]

    @property
    def C(self) -> int:
        return self.x.shape[3]

    @property
    def CG(self) -> int:
        """Channels of x in each group."""
        return self.w.shape[1]

    @property
    def KG(self) -> int:
        """Channels of y in each group."""
        return self.K // self.geometry.groups

    @property
    def length(self) -> int:
        """How many products a result adds up: R S C."""
        return math.prod(self.w.shape[1:])

    @property
    def padded(self) -> bool:
        """Whether any window reaches beyond x."""
        return self.geometry.extent != self.geometry.inside

    @property
    def run(self) -> int:
        """RUN of `channels`: r^2, or 1 to leave channels in order, as groups that no r^2 divides are."""
        square = self.epilogue.shuffle**2
        return square if self.KG % square == 0 else 1

    @property
    def key(self) -> str:
        """Under which tuned configurations are filed."""
        g = self.geometry
        numbers = (self.x.shape[0], self.C, self.K, *g.size, *g.out, *g.kernel, *g.stride, *g.dilation)
        names = ("N", "C", "K", "H", "W", "P", "Q", "R", "S", "down ", "right ", "dilated ", "by ")
        words = (f"{name}{number}" for name, number in zip(names, numbers))
        return " ".join([self.x.dtype.name, *words, f"groups {g.groups}"])


def problem(x, w, geometry: Geometry, epilogue: Epilogue) -> Problem:
    """The call as a Problem; raises NotCovered before any launch."""
    extra = {"bias": epilogue.bias, "residual": epilogue.residual}
    arrays = {name: array for name, array in extra.items() if array is not None}
    demand(x, w, *arrays.values())
    demand_alike(x, w)
    if x.shape[0] * math.prod(geometry.out) * w.shape[0] > LARGEST:
        raise NotCovered(f"more than {LARGEST} results")
    if epilogue.activation not in ACTIVATIONS:
        raise NotCovered(f"activation {epilogue.activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    epilogue = epilogue._replace(**{name: contiguous(a) for name, a in arrays.items()})
    return Problem(contiguous(x), w, geometry, epilogue)


class Output:
    """The arrays that `finish` writes, for kernels whose grid has `tiles` tiles of pixels."""

    def __init__(self, p: Problem, tiles: int):
        (N, P, Q), r, K = (p.x.shape[0], *p.geometry.out), p.epilogue.shuffle, p.K
        self.epilogue = p.epilogue
        self.y = empty(p.x, (N, P * r, Q * r, K // (r * r)))
        self.parts = empty(p.x, (tiles, 2 * K), accumulated(p.x.dtype)) if p.epilogue.sums else None

    @property
    def pointers(self) -> tuple:
        """Y, BIAS, RESIDUAL, SUMS."""
        return self.y, self.epilogue.bias, self.epilogue.residual, self.parts

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of `finish`."""
        e = self.epilogue
        return {"ACTIVATION": e.activation, "SLOPE": e.slope, "GAIN": e.gain, "SHUFFLE": e.shuffle}

    def results(self):
        """What the launcher returns."""
        if self.parts is None:
            return self.y
        both = sums(self.parts, [False, True], key="chunks")[0]
        K = len(both) // 2
        return self.y, both[:K], both[K:]


def static_case(dtype, N, C, K, size, taps, stride, padding, groups=1, precision="highest", **epilogue):
    """A call for the static report: x (N, size, size, C) and a kernel of taps x taps."""
    import numpy as np

    from scratchgan.kernels.dispatch import float32_matmul
    from scratchgan.kernels.gpu.conv import conv_fused_nhwc

    out = (size + 2 * padding - taps) // stride + 1
    geometry = Geometry((size,) * 2, (taps,) * 2, (out,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), groups)
    x = np.empty((N, size, size, C), dtype)
    w = np.empty((K, taps, taps, C // groups), dtype).transpose(0, 3, 1, 2)

    def call():
        with float32_matmul(precision):
            conv_fused_nhwc(x, w, geometry, Epilogue(bias=np.empty(K, np.float32), **epilogue))

    results = N * out * out * K
    return Case(call, 2 * results * w[0].size, (x.size + w.size + results) * x.itemsize)
