"""The adjoint in x of a convolution between scales in Triton: `scaled_conv_dx` of `kernels/modulated.py`.

It is both the gradient of a modulated convolution by x (and, on the way, by the style) and the transposed one
that StyleGAN2 doubles the size with. `gather_kernel` of `modulated.py` does it with g as input, w packed as
(C, R, S, K):

    dx[p] = sum over taps r and pixels i with stride i + dilation r - padding = p of  g[i] w[r]

At stride s, p = s m + a of phase a meets the taps r = (a + padding) mod s + s t, t = 0, 1, ..., and reads g
at i = m + (a + padding) // s - t: each phase is a convolution with its own taps, and no product with a zero
is made.

Tiling: as in `modulated.py`, the s^2 phases along the grid's third axis.

        s = 2:  a b a b         a | b         one program makes pixels of one phase,
                c d c d   =   ----+----       which are neighbours in g
                a b a b         c | d

Bytes and FLOPs: those of the convolution, 2 N P Q K C R S at its P x Q.

History:
1. The kernel of the forward, by phases.
2. The sums for the style's gradient are made from the accumulator, so dx need not be read again, nor divided
   by s.
"""

from __future__ import annotations

from scratchgan.kernels.blocks import contiguous
from scratchgan.kernels.dispatch import NotCovered
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu.launch import Case
from scratchgan.kernels.gpu.modulated import CONFIGURATIONS, Gather, gather, layer, one_group, work
from scratchgan.kernels.gpu.prepack import crsk
from scratchgan.kernels.modulated import NOTHING

__all__ = ["CONFIGURATIONS", "scaled_conv_dx", "static_cases"]  # candidates are those of the kernel


def scaled_conv_dx(g, w, before, after, geometry: Geometry, dot=None):
    """See `scratchgan.kernels.modulated.scaled_conv_dx`."""
    one_group(geometry)
    if any(s > 1 and d > 1 for s, d in zip(geometry.stride, geometry.dilation)):
        raise NotCovered("stride and dilation along one axis")
    call = Gather(contiguous(g), crsk(w, g.dtype), before, after, geometry.size, (1, 1), geometry.stride,
                  geometry.padding, geometry.dilation, adjoint=True)  # fmt: skip
    return gather(call, NOTHING, dot)


def static_cases() -> dict[str, Case]:
    """Calls that cover the kernel at StyleGAN2's layers, for `python -m bench static`."""
    import ml_dtypes
    import numpy as np

    def case(dtype, *sizes):
        x, w, style, after, geometry = layer(dtype, *sizes)
        return Case(lambda: scaled_conv_dx(x, w, after, style, geometry, x), *work(x, w, geometry))

    def twice(dtype, n, edge, channels):
        x, w, style, after, geometry = layer(dtype, n, edge, channels)
        size = 2 * edge + 1
        geometry = geometry._replace(size=(size, size), stride=(2, 2), padding=(0, 0))
        return Case(lambda: scaled_conv_dx(x, w, style, after, geometry), *work(x, w, geometry))

    return {
        "32 px float16": case(np.float16, 32, 32, 512),
        "4 px float16": case(np.float16, 32, 4, 512),
        "32 px float32": case(np.float32, 32, 32, 512),
        "twice 16 px float16": twice(np.float16, 32, 16, 512),
        "twice 64 px bfloat16": twice(ml_dtypes.bfloat16, 32, 64, 128),
    }
