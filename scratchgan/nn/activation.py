"""Non-linearities as layers; the formulas are those of the functions of the same names."""
from __future__ import annotations

from dataclasses import dataclass

from scratchgan import functional as F
from scratchgan.nn.init import constant_
from scratchgan.nn.module import Module
from scratchgan.nn.parameter import empty_parameter
from scratchgan.nn.stateless import Stateless
from scratchgan.tensor import Tensor


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


class PReLU(Module):
    """x where x > 0, w x elsewhere, with w to be learned: one for all (num_parameters = 1) or one for each
    channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: str | None = None, dtype=None):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = empty_parameter((num_parameters,), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        constant_(self.weight, self.init)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


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
