"""Non-linearities as layers; the formulas are those of the functions of the same names."""
from __future__ import annotations

from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.stateless import Stateless


@dataclass(eq=False, repr=False)
class ReLU(Stateless):
    """max(x, 0)."""
    function = staticmethod(F.relu)
    inplace: bool = False


@dataclass(eq=False, repr=False)
class LeakyReLU(Stateless):
    """x where x >= 0, negative_slope x below."""
    function = staticmethod(F.leaky_relu)
    negative_slope: float = 0.01
    inplace: bool = False


@dataclass(eq=False, repr=False)
class ELU(Stateless):
    """x where x >= 0, alpha (exp(x) - 1) below."""
    function = staticmethod(F.elu)
    alpha: float = 1.0
    inplace: bool = False


@dataclass(eq=False, repr=False)
class SiLU(Stateless):
    """x sigmoid(x)."""
    function = staticmethod(F.silu)
    inplace: bool = False


@dataclass(eq=False, repr=False)
class GELU(Stateless):
    """x Phi(x), with the normal distribution function exact ("none") or by the formula with "tanh"."""
    function = staticmethod(F.gelu)
    approximate: str = "none"


@dataclass(eq=False, repr=False)
class Softplus(Stateless):
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    function = staticmethod(F.softplus)
    beta: float = 1.0
    threshold: float = 20.0


@dataclass(eq=False, repr=False)
class LogSigmoid(Stateless):
    """log(sigmoid(x))."""
    function = staticmethod(F.logsigmoid)


@dataclass(eq=False, repr=False)
class Sigmoid(Stateless):
    """1 / (1 + exp(-x))."""
    function = staticmethod(F.sigmoid)


@dataclass(eq=False, repr=False)
class Tanh(Stateless):
    """tanh(x)."""
    function = staticmethod(F.tanh)


@dataclass(eq=False, repr=False)
class Softmax(Stateless):
    """exp(x) / sum(exp(x)) along `dim`."""
    function = staticmethod(F.softmax)
    dim: int | None = None


@dataclass(eq=False, repr=False)
class LogSoftmax(Stateless):
    """x - logsumexp(x) along `dim`."""
    function = staticmethod(F.log_softmax)
    dim: int | None = None
