"""The standard deviation over minibatches (Karras et al. 2018, arXiv 1710.10196, section 3) and its gradient,
on arrays.

Of a group of G samples, for each feature f at each place,

    sigma_f = (mean over the group of (x - mu_f)^2 + epsilon)^(1/2),        s = mean over f of sigma_f,

and s becomes one more channel, constant on each sample of the group. With g' the sum of the gradient over
that channel, on all samples of the group, F features and g the gradient at x's own channels,

    dx = g + g' (x - mu_f) / (F G sigma_f).

As in the authors' code N = M G samples are M groups, numbers i, i + M, ... in group i; fewer than G are one
group, and what is left over of a batch that G does not divide is one of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import wide

EPSILON = 1e-8


class Groups(NamedTuple):
    """`count` groups of `size` samples: first + i + j count, j < size, in group i."""

    first: int
    size: int
    count: int

    @property
    def samples(self) -> slice:
        return slice(self.first, self.first + self.size * self.count)


def groups(n: int, group: int) -> list[Groups]:
    """Those of n samples: equal ones, and one of what is left over."""
    if n <= group:
        return [Groups(0, n, 1)] if n else []
    rest = n % group
    whole = Groups(0, group, n // group)
    return [whole, Groups(n - rest, rest, 1)] if rest else [whole]


@kernel
def minibatch_std(x, group: int = 4):
    """x (N, C, H, W) with one more channel: (N, C + 1, H, W) in x's dtype."""
    m, (N, C, H, W) = xp(x), x.shape
    y = m.empty((N, C + 1, H, W), dtype=x.dtype)
    y[:, :C] = x
    for part in groups(N, group):
        _, sigma = _deviations(x, part)
        s = sigma.mean(axis=(1, 2, 3))
        y[part.samples, C] = m.tile(s, part.size)[:, None, None]
    return y


@kernel
def minibatch_std_dx(g, x, group: int = 4):
    """dx (N, C, H, W) from the gradient g (N, C + 1, H, W) and x."""
    m, C = xp(x), x.shape[1]
    dx = m.empty(x.shape, dtype=x.dtype)
    for part in groups(len(x), group):
        centred, sigma = _deviations(x, part)
        own = wide(g[part.samples]).reshape(part.size, part.count, C + 1, *x.shape[2:])
        slope = own[:, :, C].sum(axis=(0, 2, 3)) / (part.size * sigma[0].size)
        d = own[:, :, :C] + slope[:, None, None, None] * centred / sigma
        dx[part.samples] = d.reshape(-1, *x.shape[1:])
    return dx


def _deviations(x, part: Groups) -> tuple:
    """x - mu (size, count, C, H, W) and sigma (count, C, H, W) of some groups."""
    v = wide(x[part.samples]).reshape(part.size, part.count, *x.shape[1:])
    centred = v - v.mean(axis=0)
    return centred, (xp(x).square(centred).mean(axis=0) + EPSILON) ** 0.5
