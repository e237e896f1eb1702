"""The weights of a convolution in the two orders in which its kernels read them.

w (K, C, R, S), C counted within a group, is kept in PyTorch's order; the kernels want the axis that they sum
over innermost:

    W[k, r, s, c] = w[k, c, r, s]        conv sums over (r, s, c)
    V[c, r, s, k] = w[k, c, r, s]        conv_dx sums over k for every tap (r, s)

Both are made at once, in the type in which products are taken (float16 of float32 master weights, say), since
a training step needs each weight in both orders once.
"""

from __future__ import annotations

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel


@kernel
def prepack(w, dtype):
    """w (K, C, R, S) of any strides as (K, R, S, C) and (C, R, S, K), contiguous, in `dtype`."""
    m = xp(w)
    return tuple(m.ascontiguousarray(w.transpose(axes), dtype=dtype) for axes in ((0, 2, 3, 1), (1, 2, 3, 0)))
