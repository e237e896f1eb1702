"""Gradient checks: does the derivative that backward computes agree with difference quotients?

Let f take R^n to R^m, with Jacobian J at x. For a direction v in R^n and a cotangent u in R^m

    <J^T u, v>  =  <u, J v>  =  phi'(0),    phi(t) = <u, f(x + t v)>.

Backward answers the left side, and a central difference of phi the right side; f may have any number of
inputs and outputs, the check costs four evaluations, not one per element. The difference quotient

    phi'(0) = (phi(-2h) - 8 phi(-h) + 8 phi(h) - phi(2h)) / 12h + O(h^4)

is off by h^4 |phi'''''| / 30 from cutting the series and by about 1.5 eps |phi| / h from rounding: with h =
1e-3 in float64 about 3e-14 and 3e-13 on functions of moderate size, far under the tolerance of 1e-8.

What can one random projection miss? If backward computes a wrong matrix A in place of J^T, the check compares
<A u, v> with <J^T u, v>. Their difference is the polynomial sum_ij (A - J^T)_ij v_i u_j in u and v, and a
polynomial that is not identically zero vanishes on a set of measure zero. u and v are drawn from a density,
so an error goes unseen with probability zero, apart from errors so small, relative to everything that is
summed, that they lie under the tolerance. What stays unseen is what does not happen at x: branches not taken
there, other shapes, other layouts. Check at several points for those.

x must keep clear of kinks (of |x| at 0, of max at ties) by more than 2h, since no entry of v exceeds 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchgan.autograd import grad
from scratchgan.backend import xp
from scratchgan.recording import enable_grad
from scratchgan.tensor import Leaf, Tensor

TOLERANCE = 1e-8
STEP = 1e-3
STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))  # (t / h, h times the weight of phi(t))


class GradcheckError(AssertionError):
    """Backward and difference quotient disagree; the message carries the figures."""


@dataclass(frozen=True)
class Agreement:
    """The two sides of one check: `analytic` = <J^T u, v> from backward, `numeric` = phi'(0) from
    differences.

    `scale` = 1 + sum |(J^T u)_i v_i| + sum |u_j f_j| is the size of what was summed on the way, to which
    rounding is relative.
    """

    analytic: float
    numeric: float
    scale: float
    tolerance: float = TOLERANCE

    @property
    def error(self) -> float:
        """|analytic - numeric| / scale."""
        return abs(self.analytic - self.numeric) / self.scale

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; NaN and infinity never are."""
        return math.isfinite(self.scale) and self.error <= self.tolerance

    def __str__(self) -> str:
        return (
            f"backward gives {self.analytic:.12g}, difference quotient {self.numeric:.12g}: "
            f"error {self.error:.2g}, tolerance {self.tolerance:.2g}"
        )


def gradcheck(
    fn: Callable,
    inputs: Any,
    *,
    tolerance: float = TOLERANCE,
    step: float = STEP,
    seed: int = 0,
    raise_exception: bool = True,
) -> Agreement:
    """Compare the gradient of `fn(*inputs)` that backward computes with a difference quotient, both along
    random directions.

    fn: deterministic; takes Tensors, returns a Tensor or a sequence of them (what is not a floating-point
    Tensor is ignored). inputs: float64 arrays and Tensors that require gradients are varied; anything else is
    handed to fn as it is. Raises GradcheckError, with the figures of every input of its own, unless
    `raise_exception` is False; TypeError for inputs in a lower precision, which would drown the comparison.
    """
    inputs = _as_sequence(inputs)
    varied = _varied(inputs)
    rng = np.random.default_rng(seed)
    directions = {i: _like(_array(inputs[i]), rng) for i in varied}
    outputs = _outputs(fn, _leaves(inputs, varied))
    cotangents = [_like(y._array, rng) for y in outputs]
    gradients = _pull_back(fn, inputs, varied, cotangents)

    def compare(moved: Sequence[int]) -> Agreement:
        analytic = [_dot(gradients[i], directions[i]) for i in moved if gradients[i] is not None]
        sizes = [_dot(abs(gradients[i]), abs(directions[i])) for i in moved if gradients[i] is not None]
        numeric, size = _difference(fn, inputs, varied, {i: directions[i] for i in moved}, cotangents, step)
        return Agreement(sum(analytic), numeric, 1 + sum(sizes) + size, tolerance)

    result = compare(varied)
    if raise_exception and not result.ok:
        each = "; ".join(f"input {i}: {compare([i])}" for i in varied)
        raise GradcheckError(f"gradcheck of {_name(fn)}: {result} ({each})")
    return result


def gradgradcheck(
    fn: Callable,
    inputs: Any,
    *,
    tolerance: float = TOLERANCE,
    step: float = STEP,
    seed: int = 0,
    raise_exception: bool = True,
) -> Agreement:
    """`gradcheck` of the gradient: of (x, u) -> J(x)^T u, as backward under `create_graph=True` computes it.

    Varying u as well checks the derivative of the gradient in its cotangent, which a gradient penalty reads.
    It says whether the second derivative belongs to the first; that the first belongs to fn is for
    `gradcheck` to say.
    """
    return gradcheck(
        *pullback(fn, inputs, seed),
        tolerance=tolerance,
        step=step,
        seed=seed,
        raise_exception=raise_exception,
    )


def pullback(fn: Callable, inputs: Any, seed: int = 0) -> tuple[Callable, list]:
    """The function (x, u) -> J(x)^T u of a function `fn`, and a point (x, u) to check it at; u is random.

    Applied repeatedly it gives every order: `gradcheck(*pullback(*pullback(fn, inputs)))` checks third
    derivatives.
    """
    inputs = _as_sequence(inputs)
    varied = _varied(inputs)
    outputs = _outputs(fn, _leaves(inputs, varied))
    rng = np.random.default_rng(seed + 1)
    cotangents = [_like(y._array, rng) for y in outputs]

    def pulled_back(*arguments):
        xs, us = arguments[: len(inputs)], arguments[len(inputs) :]
        wanted = [xs[i] for i in varied]
        with enable_grad():
            pairs = [(y, u) for y, u in zip(_outputs(fn, xs), us) if y.requires_grad]
            found = (
                grad([y for y, _ in pairs], wanted, [u for _, u in pairs], create_graph=True) if pairs else ()
            )
        return [g for g in found if g is not None]

    pulled_back.__name__ = f"gradient of {_name(fn)}"
    return pulled_back, [*inputs, *cotangents]


def _as_sequence(inputs) -> list:
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _array(x):
    return x._array if isinstance(x, Tensor) else x


def _varied(inputs: list) -> list[int]:
    """Positions of the inputs that the check moves."""
    found = []
    for i, x in enumerate(inputs):
        dtype = getattr(_array(x), "dtype", None)
        if dtype is None or dtype.kind != "f" or (isinstance(x, Tensor) and not x.requires_grad):
            continue
        if dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} is {dtype}; a difference quotient needs float64")
        found.append(i)
    if not found:
        raise ValueError(
            "gradcheck: no input to vary: expected a float64 array or a Tensor that requires gradients"
        )
    return found


def _leaves(inputs: list, varied: Sequence[int]) -> list:
    """The inputs with a fresh leaf for each varied one, so that nothing of the caller's graph takes part."""
    return [Tensor(_array(x), Leaf(_array(x))) if i in varied else x for i, x in enumerate(inputs)]


def _outputs(fn: Callable, arguments) -> list[Tensor]:
    with enable_grad():
        return [y for y in _as_sequence(fn(*arguments)) if isinstance(y, Tensor) and y.dtype.kind == "f"]


def _like(array, rng: np.random.Generator):
    """A random array beside `array`, its entries in +-[1/2, 1]: none is lost to smallness, none carries x
    across a kink.
    """
    values = rng.uniform(0.5, 1.0, array.shape) * rng.choice((-1.0, 1.0), array.shape)
    return xp(array).asarray(values)


def _dot(a, b) -> float:
    return float((a * b).sum())


def _pull_back(fn: Callable, inputs: list, varied: Sequence[int], cotangents: list) -> dict[int, Any]:
    """J^T u by input, as the first-order sweep computes it; None where no output depends on the input."""
    leaves = _leaves(inputs, varied)
    pairs = [(y, u) for y, u in zip(_outputs(fn, leaves), cotangents) if y.requires_grad]
    if not pairs:
        return dict.fromkeys(varied)
    found = grad([y for y, _ in pairs], [leaves[i] for i in varied], [u for _, u in pairs])
    return {i: None if g is None else g._array for i, g in zip(varied, found)}


def _difference(
    fn, inputs: list, varied: Sequence[int], directions: dict[int, Any], cotangents: list, step: float
) -> tuple[float, float]:
    """phi'(0) by the stencil, and the largest sum |u_j f_j| that was met, to which its rounding is
    relative.
    """
    total, size = 0.0, 0.0
    for place, weight in STENCIL:
        moved = [
            _array(x) + place * step * directions[i] if i in directions else x for i, x in enumerate(inputs)
        ]
        outputs = _outputs(fn, _leaves(moved, varied))
        total += weight / step * sum(_dot(u, y._array) for u, y in zip(cotangents, outputs))
        size = max(size, sum(_dot(abs(u), abs(y._array)) for u, y in zip(cotangents, outputs)))
    return total, size


def _name(fn: Callable) -> str:
    return getattr(fn, "__name__", None) or getattr(fn, "name", None) or type(fn).__name__
