"""What the engine adds to NumPy: the chains of `bench.engine` beside the same arithmetic written out by hand.

By hand is a loop that applies the function and keeps the values, and a loop back that multiplies by the
derivative: NumPy's calls and little else. The difference of the two columns is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bench import engine
from bench.timing import Budget, Row, check_close, compare

# name of the chain -> (y, c) -> next value; (g, y, c, next value) -> gradient in y
BY_HAND: dict[str, tuple[Callable, Callable]] = {
    "add": (lambda y, c: y + c, lambda g, y, c, out: g),
    "sub": (lambda y, c: y - c, lambda g, y, c, out: g),
    "mul": (lambda y, c: y * c, lambda g, y, c, out: g * c),
    "div": (lambda y, c: y / c, lambda g, y, c, out: g / c),
    "mul by a number": (lambda y, c: y * 0.999, lambda g, y, c, out: g * 0.999),
    "neg": (lambda y, c: -y, lambda g, y, c, out: -g),
    "exp and neg": (lambda y, c: np.exp(-y), lambda g, y, c, out: -(g * out)),
    "tanh": (lambda y, c: np.tanh(y), lambda g, y, c, out: g * (1 - out * out)),
    "sigmoid": (lambda y, c: _sigmoid(y), lambda g, y, c, out: g * (out * (1 - out))),
    "relu": (lambda y, c: np.maximum(y, 0), lambda g, y, c, out: g * (out > 0)),
    "matmul 4x4": (lambda y, c: y @ c, lambda g, y, c, out: g @ c.T),
    "reshape": (lambda y, c: y.reshape(4, 4), lambda g, y, c, out: g.reshape(y.shape)),
    "mul and add": (lambda y, c: y * c + c, lambda g, y, c, out: g * c),
}


def _sigmoid(y: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (np.exp(-y) + 1)


def by_hand(name: str, length: int = engine.LENGTH) -> np.ndarray:
    """The gradient of the chain's sum in its first input."""
    forward, backward = BY_HAND[name]
    x, c = engine.inputs(name)
    values = [x]
    for _ in range(length):
        values.append(forward(values[-1], c))
    g = np.ones_like(x)
    for k in range(length, 0, -1):
        g = backward(g, values[k - 1], c, values[k])
    return g


def check(chain: engine.Chain) -> None:
    """Short chains have the same gradient."""
    ours, theirs = chain.ours(engine.CHECKED).numpy(), by_hand(chain.name, engine.CHECKED)
    check_close(chain.name, [ours], [theirs], 1e-5)


def measure(budget: Budget, only: str = "") -> list[Row]:
    """Milliseconds per op, forward plus backward."""
    rows = []
    for chain in engine.chains():
        if only in chain.name:
            check(chain)
            row = compare(chain.name, chain.ours, partial(by_hand, chain.name), budget)
            rows.append(replace(row, ours=row.ours / chain.ops, torch=row.torch / chain.ops))
    return rows
