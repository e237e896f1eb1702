"""Losses as modules; the formulas are those of the functions in `scratchgan.functional`."""
from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from scratchgan import functional as F
from scratchgan.nn.module import BUFFER
from scratchgan.nn.stateless import Stateless
from scratchgan.tensor import Tensor


class _Loss(Stateless):
    """A function of (input, target). Weights are buffers, so that they follow the module to its device."""

    def __post_init__(self):
        for name in ("weight", "pos_weight"):
            if name in self.settings:
                self._kinds[name] = BUFFER

    def extra_repr(self) -> str:
        return ""


@dataclass(eq=False, repr=False)
class BCELoss(_Loss):
    """-(y log x + (1 - y) log(1 - x)) for probabilities x, each logarithm at least -100."""
    function = staticmethod(F.binary_cross_entropy)
    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"


@dataclass(eq=False, repr=False)
class BCEWithLogitsLoss(_Loss):
    """-(w y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))) for logits x; w is `pos_weight`."""
    function = staticmethod(F.binary_cross_entropy_with_logits)
    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"
    pos_weight: Tensor | None = None


@dataclass(eq=False, repr=False)
class CrossEntropyLoss(_Loss):
    """-log softmax(x)[y] for logits (N, C, ...) and class indices or class probabilities."""
    function = staticmethod(F.cross_entropy)
    weight: Tensor | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0


@dataclass(eq=False, repr=False)
class NLLLoss(_Loss):
    """-x[y] for log-probabilities (N, C, ...) and class indices."""
    function = staticmethod(F.nll_loss)
    weight: Tensor | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"


@dataclass(eq=False, repr=False)
class MSELoss(_Loss):
    """(x - y)^2."""
    function = staticmethod(F.mse_loss)
    _: KW_ONLY
    reduction: str = "mean"


@dataclass(eq=False, repr=False)
class L1Loss(_Loss):
    """|x - y|."""
    function = staticmethod(F.l1_loss)
    _: KW_ONLY
    reduction: str = "mean"


@dataclass(eq=False, repr=False)
class SmoothL1Loss(_Loss):
    """(x - y)^2 / (2 beta) where |x - y| < beta, |x - y| - beta / 2 elsewhere."""
    function = staticmethod(F.smooth_l1_loss)
    _: KW_ONLY
    reduction: str = "mean"
    beta: float = 1.0
