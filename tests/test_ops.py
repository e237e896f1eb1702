"""Every function of scratchgan.functional over the table of cases.

Against PyTorch in float64: value, gradient, gradient of the gradient. Against finite differences: gradient
and gradient of the gradient. Then float32, the slow specification of fused ops against their fast path, and
the strict double of a device.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import scratchgan as sg
from scratchgan import backend, ops
from scratchgan import functional as F
from scratchgan.autograd import Fused
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.tensor import Op, Tensor
from tests import double
from tests.cases import CASES, Case, make_inputs

TOLERANCE = 1e-10
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
DIFFERENTIABLE = pytest.mark.parametrize(
    "case", [c for c in CASES if c.derivatives >= 1], ids=lambda case: case.id
)
SMOOTH = pytest.mark.parametrize(
    "case", [c for c in CASES if c.derivatives >= 1 and c.differences], ids=lambda case: case.id
)
TWICE_SMOOTH = pytest.mark.parametrize(
    "case", [c for c in CASES if c.derivatives >= 2 and c.differences], ids=lambda case: case.id
)


def derivatives(
    case: Case, order: int, dtype=np.float64, move=lambda a: a, create_graph=None
) -> list[np.ndarray]:
    """Value, then gradients, then gradients of the gradients of our function, each projected by the same
    random cotangents as PyTorch's.

    `move` brings an input to another device; a gradient that doesn't exist is zeros.
    """
    xs = [
        Tensor(move(a)).requires_grad_(spec.differentiable)
        for a, spec in zip(make_inputs(case, dtype), case.inputs)
    ]
    y = case.run(F, *xs)
    result, wanted = [y], [x for x in xs if x.requires_grad]
    for n in range(order):
        targets = result[-1:] if n == 0 else result[-len(wanted) :]
        us = [Tensor(move(cotangent(n, i, t.shape).astype(t.dtype))) for i, t in enumerate(targets)]
        pairs = [(t, u) for t, u in zip(targets, us) if t.requires_grad]
        keep = create_graph if create_graph is not None else n + 1 < order
        found = (
            sg.grad([t for t, _ in pairs], wanted, [u for _, u in pairs], create_graph=keep)
            if pairs
            else [None] * len(wanted)
        )
        result += [x.detach() * 0 if g is None else g for x, g in zip(wanted, found)]
    return [backend.to_host(t.detach()._array) for t in result]


def torch_derivatives(case: Case, order: int) -> list[np.ndarray]:
    """What `derivatives` computes, by PyTorch."""
    xs = [
        torch.from_numpy(a).requires_grad_(spec.differentiable)
        for a, spec in zip(make_inputs(case), case.inputs)
    ]
    function = case.torch or _torch_function(case)
    y = function(*xs)
    result, wanted = [y], [x for x in xs if x.requires_grad]
    for n in range(order):
        targets = result[-1:] if n == 0 else result[-len(wanted) :]
        us = [torch.from_numpy(cotangent(n, i, tuple(t.shape))).to(t.dtype) for i, t in enumerate(targets)]
        pairs = [(t, u) for t, u in zip(targets, us) if t.requires_grad]
        found = _torch_grad(pairs, wanted)
        result += [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found)]
    return [t.detach().numpy(force=True) for t in result]


def _torch_grad(pairs: list, wanted: list) -> list:
    if not pairs:
        return [None] * len(wanted)
    targets, us = zip(*pairs)
    return torch.autograd.grad(targets, wanted, us, create_graph=True, allow_unused=True)


def _torch_function(case: Case):
    function = getattr(TF, case.op, None) or getattr(torch, case.op)
    return lambda *xs: function(*xs, **case.kwargs)


def cotangent(order: int, i: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.random.default_rng([17, order, i]).standard_normal(shape))


def assert_equal(ours: list, theirs: list, case: Case, tolerance: float = TOLERANCE) -> None:
    names = ["value", *[f"gradient {i}" for i in range(len(ours) - 1)]]
    assert len(ours) == len(theirs)
    for name, a, b in zip(names, ours, theirs):
        assert a.shape == b.shape, f"{case.id}: {name} has shape {a.shape}, expected {b.shape}"
        within = max(tolerance, 1e-6) if a.dtype == np.float32 else tolerance  # integers become float32
        np.testing.assert_allclose(a, b, rtol=within, atol=within, err_msg=f"{case.id}: {name}")


@EVERY_CASE
def test_values_and_derivatives_are_pytorchs(case: Case):
    ours, theirs = derivatives(case, case.derivatives), torch_derivatives(case, case.derivatives)
    assert_equal(ours, theirs, case)
    assert ours[0].dtype == theirs[0].dtype


@SMOOTH
def test_gradient_is_the_limit_of_differences(case: Case):
    gradcheck(lambda *xs: case.run(F, *xs), _leaves(case))


@TWICE_SMOOTH
def test_second_derivative_is_the_limit_of_differences(case: Case):
    gradgradcheck(lambda *xs: case.run(F, *xs), _leaves(case))


def _leaves(case: Case) -> list[Tensor]:
    return [Tensor(a).requires_grad_(spec.differentiable) for a, spec in zip(make_inputs(case), case.inputs)]


@EVERY_CASE
def test_float32_stays_float32(case: Case):
    order = min(case.derivatives, 1)
    narrow, wide = derivatives(case, order, np.float32), derivatives(case, order)
    assert_equal(narrow, wide, case, tolerance=1e-3)
    if "dtype" not in case.kwargs:
        assert all(a.dtype != np.float64 for a in narrow)


@DIFFERENTIABLE
def test_raw_sweep_and_recorded_sweep_agree(case: Case):
    """VJPs on arrays (fast paths of fused ops among them) against the same VJPs on Tensors (specifications of
    fused ops).
    """
    assert_equal(derivatives(case, 1, create_graph=False), derivatives(case, 1, create_graph=True), case)


@EVERY_CASE
def test_fused_forward_is_its_specification(case: Case, monkeypatch):
    fast = derivatives(case, 0)
    for op in OPS:
        if isinstance(op, Fused) and op.fast_vjp:
            monkeypatch.setattr(op, "forward", lambda *arrays, op=op, **kw: (op.spec(*arrays, **kw), None))
    assert_equal(derivatives(case, 0), fast, case)


@EVERY_CASE
def test_on_the_device_double(case: Case):
    """Every order, and the first once more in a raw sweep, where fused ops take their fast path."""
    order = min(case.derivatives, 2)
    assert_equal(derivatives(case, order, move=double.device), derivatives(case, order), case)
    order = min(case.derivatives, 1)
    assert_equal(derivatives(case, order, move=double.device), derivatives(case, order), case)


# The registry


def _modules(package):
    return [import_module(f"{package.__name__}.{m.name}") for m in iter_modules(package.__path__)]


OPS = list(
    {
        id(value): value
        for module in _modules(ops)
        for value in vars(module).values()
        if isinstance(value, Op)
    }.values()
)


def test_every_public_function_has_cases():
    public = {
        name
        for name, value in vars(F).items()
        if callable(value) and not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - {case.op for case in CASES} == set()


def test_every_op_is_exercised(monkeypatch):
    """Some case calls every op, or backward through the case does."""
    called = set()

    def noted(self, *args, **kw):
        called.add(id(self))
        return original(self, *args, **kw)

    original = Op.__call__
    monkeypatch.setattr(Op, "__call__", noted)
    for case in CASES:
        derivatives(case, case.derivatives)
    assert [op.name for op in OPS if id(op) not in called] == []
