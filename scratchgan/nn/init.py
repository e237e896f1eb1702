"""Initial weights: each function overwrites a tensor in place, with the distributions of `torch.nn.init`.

Numbers are drawn on the host in float64, from `generator` or else from the stream "init" of
`backend.default_streams()`, and then rounded to the tensor's dtype: one seed means the same weights on every
device, and the same to rounding in every dtype.
"""
from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from scratchgan import backend
from scratchgan.nn.module import overwrite
from scratchgan.tensor import Tensor

_GAINS = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
_LINEAR = ("linear", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a non-linearity; `param` is the slope of leaky_relu."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS and nonlinearity not in _LINEAR:
        known = ", ".join([*_LINEAR, *_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: nonlinearity {nonlinearity!r} is unknown: expected one of {known}")
    return _GAINS.get(nonlinearity, 1.0)


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel): how many inputs feed an output, and the reverse."""
    if len(tensor.shape) < 2:
        raise ValueError(f"init: fans need a weight of at least 2 dimensions, found shape {tensor.shape}")
    out_channels, in_channels, *kernel = tensor.shape
    return in_channels * math.prod(kernel), out_channels * math.prod(kernel)


def _stream(generator: Generator | None) -> Generator:
    return backend.default_streams()["init"] if generator is None else generator


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U(a, b)."""
    overwrite(tensor, _stream(generator).uniform(a, b, tensor.shape))
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0,
            generator: Generator | None = None) -> Tensor:
    """N(mean, std^2)."""
    overwrite(tensor, _stream(generator).normal(mean, std, tensor.shape))
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    overwrite(tensor, val)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def xavier_std(tensor: Tensor, gain: float = 1.0) -> float:
    """gain sqrt(2 / (fan_in + fan_out)): Glorot & Bengio 2010, eq. 12."""
    return gain * math.sqrt(2 / sum(fans(tensor)))


def kaiming_std(tensor: Tensor, a: float = 0.0, mode: str = "fan_in",
                nonlinearity: str = "leaky_relu") -> float:
    """gain / sqrt(fan): He et al. 2015 (arXiv 1502.01852), eq. 10, 14; `a` is the slope of a leaky ReLU."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode {mode!r} is unknown: expected 'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U(-b, b) with the standard deviation `xavier_std`."""
    return _centred_uniform(tensor, xavier_std(tensor, gain), generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, xavier_std^2)."""
    return normal_(tensor, 0.0, xavier_std(tensor, gain), generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """U(-b, b) with the standard deviation `kaiming_std`."""
    return _centred_uniform(tensor, kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """N(0, kaiming_std^2)."""
    return normal_(tensor, 0.0, kaiming_std(tensor, a, mode, nonlinearity), generator)


def _centred_uniform(tensor: Tensor, std: float, generator: Generator | None) -> Tensor:
    bound = math.sqrt(3) * std          # U(-b, b) has the variance b^2 / 3
    return uniform_(tensor, -bound, bound, generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Flattened to (out, rest), a random matrix with orthonormal rows or columns, whichever are fewer, times
    `gain`.

    The Q of a Gaussian matrix, its signs fixed by R's diagonal, is uniform over the orthogonal group: Saxe et
    al. 2014 (arXiv 1312.6120), Mezzadri 2007 (math-ph/0609050).
    """
    if len(tensor.shape) < 2:
        raise ValueError(f"orthogonal_: expected at least 2 dimensions, found shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(_stream(generator).standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    overwrite(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))
    return tensor
