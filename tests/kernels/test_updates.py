"""Optimisers over arenas: Triton against the reference, both against `scratchgan.optim` over some steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan import nn, optim
from scratchgan.errors import UserError
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu.launch import trying
from scratchgan.kernels.updates import adam, advance, nonfinite, rescale, rmsprop, sgd
from scratchgan.tensor import Tensor
from tests.kernels.harness import ON, compare, draw, run

# update, how many averages it takes, which of them it can do without, settings of optim's class
CASES = [
    ("SGD", sgd, [], {}),
    ("SGD", sgd, [0], {"momentum": 0.9}),
    ("SGD", sgd, [0], {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", sgd, [0], {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("RMSprop", rmsprop, [0], {}),
    ("RMSprop", rmsprop, [0, 1], {"centered": True, "eps": 0.1}),
    ("RMSprop", rmsprop, [0, 2], {"momentum": 0.9, "alpha": 0.3}),
    ("RMSprop", rmsprop, [0, 1, 2], {"centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    ("Adam", adam, [0, 1], {}),
    ("Adam", adam, [0, 1], {"betas": (0.0, 0.99), "eps": 1e-3}),
    ("Adam", adam, [0, 1, 2], {"betas": (0.5, 0.9), "weight_decay": 0.1, "maximize": True}),
]
EVERY_UPDATE = pytest.mark.parametrize("name, update, kept, settings", CASES)
AVERAGES = {sgd: 1, rmsprop: 3, adam: 3}


def given(settings: dict) -> dict:
    """The settings under the kernels' names."""
    settings = {k: v for k, v in settings.items() if k not in ("centered", "amsgrad", "betas")}
    return settings


def betas(name: str, settings: dict) -> dict:
    if name != "Adam":
        return {}
    return dict(zip(("beta1", "beta2"), settings.get("betas", (0.9, 0.999))))


def arenas(update, kept, size, dtype, gradients=None, seed: int = 0) -> list:
    """p, g and the averages at some point of a run: squares are no less than the squares of means."""
    p, g, mean = (draw((size,), dtype, seed + i) for i in range(3))
    square = mean * mean + abs(draw((size,), dtype, seed + 3))
    first = {sgd: [mean], rmsprop: [square, mean, p * 2], adam: [mean, square, square * dtype(1.1)]}[update]
    return [p, g.astype(gradients or dtype), *(a if i in kept else None for i, a in enumerate(first))]


def number(value: float, dtype=np.float64):
    return np.array([value], dtype)


def clock_at(t: int, beta1: float = 0.9, beta2: float = 0.999):
    return np.array([t, 1 - beta1**t, (1 - beta2**t) ** 0.5])


def step(on: str, update, *args, tolerance=None, **settings) -> None:
    """Triton's results are the reference's in float64, arrays of half precision to their own rounding."""
    found = run(on, update, *args, **settings)

    def exact(a):
        return a.astype(np.float64) if isinstance(a, np.ndarray) else a

    with implementation("ref"):
        expected = update(*map(exact, args), **{k: exact(a) for k, a in settings.items()})
    assert [a is None for a in found] == [a is None for a in expected]
    for a, b in zip(found, expected):
        if a is not None:
            compare(a, b, tolerance or a.dtype)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [1, 5])
@EVERY_UPDATE
def test_is_the_reference(on, name, update, kept, settings, dtype, t):
    factors = betas(name, settings)
    for size in (0, 1, 37):
        more = {**given(settings), **factors}
        args = [*arenas(update, kept, size, dtype), clock_at(t, **factors), number(0.01)]
        with trying(BLOCK=16):
            step(on, update, *args, **more)
            more |= {"ema": draw((size,), dtype, 9), "half": draw((size,), np.float16, 8), "decay": 0.9}
            step(on, update, *args, **more)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("gradients", [np.float16, np.float32])
@EVERY_UPDATE
def test_loss_scaling(on, name, update, kept, settings, gradients):
    """Scaled float16 gradients; a step that does not take place leaves everything but the gradients."""
    more = {**given(settings), **betas(name, settings), "ema": draw((21,), np.float32, 9),
            "half": draw((21,), np.float16, 8), "scale": number(128, np.float32), "warmup": True}  # fmt: skip
    args = [*arenas(update, kept, 21, np.float32, gradients), clock_at(3), number(0.01, np.float32)]
    step(on, update, *args, found=number(0, np.float32), **more)
    step(on, update, *args, zero=False, **more)
    before = [*args[:-2], more["ema"], more["half"]]
    more["found"] = number(3, np.float32)
    copies = [a if a is None else a.copy() for a in args]
    for result in (run(on, update, *args, **more), update(*copies, **more)):
        assert not result[1].any()
        for i, (a, b) in enumerate(zip(result, before)):
            if i != 1 and b is not None:
                np.testing.assert_array_equal(a, b)


class Weights(nn.Module):
    """Parameters that lie one after the other in an arena."""

    def __init__(self, dtype):
        super().__init__()
        self.a, self.b = (nn.Parameter(draw(shape, dtype, seed)) for seed, shape in enumerate([(5, 4), (3,)]))

    def flat(self) -> np.ndarray:
        return np.concatenate([p._array.reshape(-1) for p in self.parameters()])


@pytest.mark.parametrize("choice", ["ref", "triton"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("warmup", [False, True])
@EVERY_UPDATE
def test_is_optim_s(name, update, kept, settings, dtype, warmup, choice):
    """Five steps, the learning rate falling: weights and their average are the optimiser's and EMA's."""
    amsgrad = {"amsgrad": 2 in kept} if name == "Adam" else {}
    weights = Weights(dtype)
    optimizer = getattr(optim, name)(weights.parameters(), lr=0.1, **settings, **amsgrad)
    average = optim.EMA(weights, 0.9, warmup)
    p, ema, g = weights.flat(), weights.flat(), np.empty(23, dtype)
    half = np.empty(23, np.float16)
    averages = [np.zeros_like(p) if i in kept else None for i in range(AVERAGES[update])]
    clock, lr, factors = np.zeros(3), number(0.1), betas(name, settings)
    for t in range(1, 6):
        g[:] = draw((23,), dtype, 10 + t)
        for parameter, part in zip(weights.parameters(), (g[:20].reshape(5, 4), g[20:])):
            parameter.grad = Tensor(part.copy())
        optimizer.param_groups[0]["lr"] = lr[0] = 0.1 / t
        optimizer.step()
        average.update()
        with implementation(choice):
            advance(clock, **factors)
            result = update(p, g, *averages, clock, lr, ema=ema, half=half, decay=0.9, warmup=warmup,
                            **given(settings), **factors)  # fmt: skip
        assert result[0] is p
        assert not g.any()
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(p, weights.flat(), rtol=tolerance, atol=tolerance)
    exact = np.concatenate([e._array.reshape(-1) for e in average.module.parameters()])
    np.testing.assert_allclose(ema, exact, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(half, p.astype(np.float16))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("factors", [(0.9, 0.999), (0.0, 0.99), (0.5, 0.0)])
def test_clock(on, factors):
    clock = np.zeros(3)
    for t in range(1, 4):
        clock = run(on, advance, clock, *factors)
        np.testing.assert_allclose(clock, clock_at(t, *factors), rtol=1e-13)
    np.testing.assert_array_equal(run(on, advance, clock, *factors, number(1)), clock)
    late = np.array([999999.0, 0, 0])
    for found in (run(on, advance, late, *factors, number(0)), advance(late, *factors)):
        np.testing.assert_allclose(found, clock_at(1000000, *factors), rtol=1e-13)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nonfinite(on, dtype):
    for size in (0, 1, 21, 40):
        g = draw((size,), dtype)
        with trying(BLOCK=16):
            assert run(on, nonfinite, g) == 0 == nonfinite(g)
        g[size // 2 : size // 2 + 1] = np.inf
        g[size // 3 : size // 3 + 1] = -np.inf
        g[size - 1 :] = np.nan
        with trying(BLOCK=16):
            assert run(on, nonfinite, g) == nonfinite(g) == np.sum(~np.isfinite(g))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_scale_is_grad_scaler_s(on, dtype):
    """Also where growing would end in infinity."""
    founds = [0, 0, 0, 2, 0, 0, 1, 1, 0, 0, 0, 0]
    for start in (1024, np.finfo(dtype).max / 2.5):
        numbers = {name: [number(start, dtype), number(0, dtype)] for name in ("triton", "ref")}
        theirs, steps = torch.tensor(start, dtype=torch.float32), torch.zeros((), dtype=torch.int32)
        for found in founds:
            flag = number(found, np.float32)
            numbers["triton"] = run(on, rescale, *numbers["triton"], flag, 1.5, 0.25, 2)
            rescale(*numbers["ref"], flag, 1.5, 0.25, 2)
            compare(list(numbers["triton"]), numbers["ref"], dtype)
            if dtype == np.float32:
                torch._amp_update_scale_(theirs, steps, torch.tensor(float(found)), 1.5, 0.25, 2)
                compare(numbers["ref"], [number(theirs.item()), number(steps.item())], dtype)


@pytest.mark.parametrize("on", ON)
def test_extreme_gradients(on):
    """Squares that are 0 or near the end of float32, and a gradient that stays 0."""
    g = np.array([0.0, 1e-30, 1e-8, 1e4, 1e18, -1e18], np.float32)
    args = [draw((6,)), g, *np.zeros((2, 6), np.float32), None]
    step(on, adam, *args, clock_at(1), number(0.1))
    step(on, rmsprop, args[0], g, np.zeros(6, np.float32), None, None, clock_at(1), number(0.1))


def test_what_is_not_covered_is_said():
    p, clock, lr = np.ones(6, np.float32), np.zeros(3), number(0.1)
    for choice in ("ref", "triton"):
        with implementation(choice):
            with pytest.raises(ValueError, match=r"arenas of shapes \(6,\) and \(3,\)"):
                sgd(p, p[:3], None, clock, lr)
            with pytest.raises(ValueError, match=r"arenas of shapes \(2, 3\) and \(2, 3\)"):
                sgd(p.reshape(2, 3), p.reshape(2, 3), None, clock, lr)
            with pytest.raises(ValueError, match="float32 parameters, averages of float64"):
                sgd(p, p, p.astype(np.float64), clock, lr)
    with implementation("triton"):
        with pytest.raises(UserError, match="no gaps"):
            sgd(p[::2], p[::2], None, clock, lr)
        with pytest.raises(UserError, match="expected one number"):
            sgd(p, p, None, clock, p)
        with pytest.raises(UserError, match="dtype float16: expected one of float32, float64"):
            sgd(p.astype(np.float16), p, None, clock, lr)
        with pytest.raises(UserError, match="dtype float32: expected one of float64"):
            advance(p[:3])
