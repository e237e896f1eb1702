"""What the engine costs per op: chains of ops on 16 elements, forward and backward, where arithmetic costs
next to nothing.

A chain applies an op `LENGTH` times to its own result and asks for the gradient in the first input; time per
op is the time of the whole divided by LENGTH.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

import scratchgan
import scratchgan.functional as F
from bench.timing import Budget, Row, check_close, compare

LENGTH, CHECKED = 200, 5
Body = Callable[
    [object, object, object], object
]  # (functions' module, running value, constant operand) -> next value

BODIES: dict[str, Body] = {
    "add": lambda f, y, c: y + c,
    "sub": lambda f, y, c: y - c,
    "mul": lambda f, y, c: y * c,
    "div": lambda f, y, c: y / c,
    "mul by a number": lambda f, y, c: y * 0.999,
    "neg": lambda f, y, c: -y,
    "exp and neg": lambda f, y, c: f.exp(-y),
    "tanh": lambda f, y, c: f.tanh(y),
    "sigmoid": lambda f, y, c: f.sigmoid(y),
    "relu": lambda f, y, c: f.relu(y),
    "matmul 4x4": lambda f, y, c: y @ c,
    "reshape": lambda f, y, c: y.reshape(4, 4),
    "mul and add": lambda f, y, c: y * c + c,
}
OPS_IN_BODY = {"exp and neg": 2, "mul and add": 2}


@dataclass(frozen=True)
class Chain:
    """One chain in both libraries: calls that return the gradient of the chain's sum in its first input.

    Both take the number of ops in a row, `LENGTH` by default.
    """

    name: str
    ours: Callable[..., object]
    theirs: Callable[..., object]
    ops: int


def chains() -> list[Chain]:
    return [_chain(name, body, *inputs(name)) for name, body in BODIES.items()]


def inputs(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The first value of a chain and its constant operand, which keeps a product of 200 matrices finite."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.1, 0.1, (4, 4)).astype(np.float32)
    c = rng.uniform(0.9, 1.1, (4, 4)).astype(np.float32)
    return x, np.linalg.qr(c)[0].astype(np.float32) if "matmul" in name else c


def _chain(name: str, body: Body, x: np.ndarray, c: np.ndarray) -> Chain:
    ours_x, ours_c = scratchgan.tensor(x, requires_grad=True), scratchgan.tensor(c, requires_grad=True)
    torch_x, torch_c = torch.tensor(x, requires_grad=True), torch.tensor(c, requires_grad=True)

    def run(f, grad, x, c, length):
        y = x
        for _ in range(length):
            y = body(f, y, c)
        return grad(y.sum(), [x])[0]

    return Chain(
        name,
        lambda length=LENGTH: run(F, scratchgan.grad, ours_x, ours_c, length),
        lambda length=LENGTH: run(torch, torch.autograd.grad, torch_x, torch_c, length),
        LENGTH * OPS_IN_BODY.get(name, 1),
    )


def check(chain: Chain) -> None:
    """Short chains have the same gradient (that of a long one may be too small for float32)."""
    check_close(chain.name, [chain.ours(CHECKED).numpy()], [chain.theirs(CHECKED).numpy()], 1e-4)


def measure(budget: Budget, only: str = "") -> list[Row]:
    """Milliseconds per op, forward plus backward."""
    rows = []
    for chain in chains():
        if only in chain.name:
            check(chain)
            row = compare(chain.name, chain.ours, chain.theirs, budget)
            rows.append(replace(row, ours=row.ours / chain.ops, torch=row.torch / chain.ops))
    return rows
