"""Losses under PyTorch's names and argument forms; `reduction` is "mean", "sum" or "none"."""

from __future__ import annotations

from scratchgan.backend import on_host
from scratchgan.ops import loss as ops
from scratchgan.ops import reduce
from scratchgan.ops.shape import reshape
from scratchgan.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


def mse_loss(input, target, *, reduction: str = "mean", weight=None):
    """(input - target)^2, reduced; with `weight` a weighted sum or mean."""
    _check_reduction("mse_loss", reduction)
    if weight is not None:
        return _weighted("mse_loss", ops.squared_error(input, target), weight, reduction)
    return _fast(ops.mse_loss, input, target)(input, target, reduction=reduction)


def l1_loss(input, target, *, reduction: str = "mean", weight=None):
    """|input - target|, reduced; with `weight` a weighted sum or mean."""
    _check_reduction("l1_loss", reduction)
    if weight is not None:
        return _weighted("l1_loss", ops.absolute_error(input, target), weight, reduction)
    return _fast(ops.l1_loss, input, target)(input, target, reduction=reduction)


def smooth_l1_loss(input, target, *, reduction: str = "mean", beta: float = 1.0):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, d = input - target; |d| where beta is 0."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}, expected a number >= 0")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    _check_reduction("smooth_l1_loss", reduction)
    return _fast(ops.smooth_l1_loss, input, target)(input, target, reduction=reduction, beta=beta)


def binary_cross_entropy(input, target, weight=None, *, reduction: str = "mean"):
    """-(t log x + (1 - t) log(1 - x)) for probabilities x, the logarithms no less than -100."""
    _check_reduction("binary_cross_entropy", reduction)
    _check_same("binary_cross_entropy", input, target)
    x = _array(input)
    if on_host(x) and not ((x >= 0) & (x <= 1)).all():
        raise ValueError(
            "binary_cross_entropy: input must lie between 0 and 1 (for logits there is ..._with_logits)"
        )
    loss = ops.binary_cross_entropy(input, target)
    return ops.reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, *, reduction: str = "mean", pos_weight=None):
    """Binary cross entropy of sigmoid(input), finite for any finite input.

    `weight` multiplies each element's loss, `pos_weight` its part for the target 1; both broadcast.
    """
    _check_reduction("binary_cross_entropy_with_logits", reduction)
    _check_same("binary_cross_entropy_with_logits", input, target)
    others = (target, weight, pos_weight)
    simple = all(o is None or not getattr(o, "requires_grad", False) for o in others)
    fits = all(o is None or _broadcasts_to(o.shape, input.shape) for o in (weight, pos_weight))
    function = (
        ops.binary_cross_entropy_with_logits if simple and fits else ops.binary_cross_entropy_with_logits.spec
    )
    return function(input, *others, reduction=reduction)


def cross_entropy(
    input,
    target,
    weight=None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
):
    """-log softmax(input)[target] over the classes on axis 1 of input (N, C, ...), or the only axis of input
    (C,).

    target holds class indices (N, ...), or probabilities of input's shape. `weight` (C,) weighs classes; the
    mean over indices is a weighted one, without those equal to `ignore_index`. `label_smoothing` s mixes the
    target with the uniform distribution: (1 - s) target + s / C.
    """
    name = "cross_entropy"
    _check_reduction(name, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing is {label_smoothing}, expected a number from 0 to 1")
    x, labels, alone = _classes(name, input, target)
    _check_weight(name, weight, x)
    if labels.shape == x.shape:
        loss = _soft_cross_entropy(x, labels, weight, reduction, label_smoothing)
    else:
        labels, kept, counted = _labels(name, x, _array(labels), weight, ignore_index)
        if label_smoothing == 0:
            loss = ops.cross_entropy(x, target=labels, counted=counted, reduction=reduction)
        else:
            loss = _smoothed(x, labels, counted, kept, weight, reduction, label_smoothing)
    return reshape(loss, shape=()) if alone and reduction == "none" else loss


def nll_loss(input, target, weight=None, *, ignore_index: int = -100, reduction: str = "mean"):
    """-input[target] for log probabilities input (N, C, ...) or (C,) and indices: see `cross_entropy`."""
    _check_reduction("nll_loss", reduction)
    x, labels, alone = _classes("nll_loss", input, target)
    _check_weight("nll_loss", weight, x)
    labels, _, counted = _labels("nll_loss", x, _array(labels), weight, ignore_index)
    loss = ops.negative_log_likelihood(x, target=labels, counted=counted, reduction=reduction)
    return reshape(loss, shape=()) if alone and reduction == "none" else loss


def _array(x):
    return x._array if isinstance(x, Tensor) else x


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


def _check_same(name: str, input, target) -> None:
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"{name}: target has shape {tuple(target.shape)}, expected the input's, {tuple(input.shape)}"
        )


def _check_weight(name: str, weight, x) -> None:
    if weight is not None and tuple(weight.shape) != (x.shape[1],):
        raise ValueError(
            f"{name}: weight has shape {tuple(weight.shape)}, expected ({x.shape[1]},), one per class"
        )


def _broadcasts_to(shape, full) -> bool:
    return len(shape) <= len(full) and all(n in (1, m) for n, m in zip(shape[::-1], full[::-1]))


def _fast(op, input, target):
    """The fused op, whose fast path is for arrays of one shape and dtype, or else its specification."""
    return op if input.shape == target.shape and input.dtype == target.dtype else op.spec


def _weighted(name: str, loss, weight, reduction: str):
    _check_same(name, loss, weight)
    loss = loss * weight
    return (
        ops.reduced(loss, "sum") / ops.reduced(weight, "sum")
        if reduction == "mean"
        else ops.reduced(loss, reduction)
    )


def _classes(name: str, input, target) -> tuple:
    """Input (N, C, ...) and target, both with a batch axis, and whether they came without."""
    if input.ndim == 0:
        raise ValueError(f"{name}: input has no axes, expected (C,) or (N, C, ...)")
    alone = input.ndim == 1
    if alone:
        input, target = reshape(input, shape=(1, *input.shape)), reshape(target, shape=(1, *target.shape))
    soft = name == "cross_entropy" and target.dtype.kind == "f"
    expected = tuple(input.shape) if soft else (input.shape[0], *input.shape[2:])
    if tuple(target.shape) != expected or not (soft or target.dtype.kind in "iu"):
        raise ValueError(
            f"{name}: target is {target.dtype} of shape {tuple(target.shape)}, expected integers of shape "
            f"{(input.shape[0], *input.shape[2:])}"
            + (f" or probabilities of shape {tuple(input.shape)}" if name == "cross_entropy" else "")
        )
    return input, target, alone


def _labels(name: str, x, target, weight, ignore_index: int) -> tuple:
    """Class indices with ignored ones set to 0, 1 for each that is not ignored, and how much each counts."""
    kept = target != ignore_index
    labels, kept = target * kept, kept.astype(x.dtype)
    if on_host(labels) and labels.size and not (0 <= labels.min() and labels.max() < x.shape[1]):
        raise IndexError(
            f"{name}: target holds {labels.min()} ... {labels.max()}, the classes are 0 ... {x.shape[1] - 1}"
        )
    if weight is None:
        return labels, kept, kept
    return labels, kept, _array(weight).astype(x.dtype)[labels] * kept


def _over_classes(weight, x):
    """(C,) as it broadcasts against x (N, C, ...)."""
    return reshape(weight, shape=(1, x.shape[1], *[1] * (x.ndim - 2)))


def _soft_cross_entropy(x, target, weight, reduction: str, label_smoothing: float):
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[1]
    terms = reduce.log_softmax(x, axis=(1,)) * target
    if weight is not None:
        terms = terms * _over_classes(weight, x)
    loss = -reduce.sum(terms, axis=(1,), keepdims=False)
    return ops.reduced(loss, reduction)  # the mean is over N and places, as in PyTorch


def _smoothed(x, labels, counted, kept, weight, reduction: str, label_smoothing: float):
    """(1 - s) times the loss of the labels + s times the mean loss of all classes, each class weighed."""
    logp = reduce.log_softmax(x, axis=(1,))
    hard = ops.negative_log_likelihood(logp, target=labels, counted=counted, reduction="none")
    every = (
        reduce.mean(logp if weight is None else logp * _over_classes(weight, x), axis=(1,), keepdims=False)
        * -kept
    )
    loss = hard * (1 - label_smoothing) + every * label_smoothing
    return ops.reduced(loss, "sum") / counted.sum() if reduction == "mean" else ops.reduced(loss, reduction)
