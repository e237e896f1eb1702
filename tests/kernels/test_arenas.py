"""Optimisers and averages of weights in one launch over arenas: the same numbers as parameter by parameter."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan import nn, optim
from scratchgan.arena import Arena
from scratchgan.backend import to_host, xp
from scratchgan.kernels import dispatch
from scratchgan.precision import HALF, LossScale, half_products
from scratchgan.tensor import Tensor

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop, centered, momentum": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adam": (optim.Adam, {"lr": 0.01, "betas": (0.5, 0.99)}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
}


def network(device: str) -> nn.Module:
    rng = np.random.default_rng(0)
    layers = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    for p in layers.parameters():
        p._array[...] = rng.standard_normal(p.shape)
    return layers.to(device)


def give_gradients(module: nn.Module, step: int, without: int | None = None) -> None:
    rng = np.random.default_rng(step)
    for i, p in enumerate(module.parameters()):
        g = rng.standard_normal(p.shape).astype(np.float32)
        p.grad = None if i == without else Tensor(xp(p._array).asarray(g))


def train(device: str, name: str, steps: range, optimizer=None, module=None, without=None):
    kind, settings = OPTIMIZERS[name]
    module = network(device) if module is None else module
    optimizer = kind(module.parameters(), **settings) if optimizer is None else optimizer
    for step in steps:
        give_gradients(module, step, without)
        optimizer.step()
    return module, optimizer


def references(name: str, steps: range, **given):
    with dispatch.implementation("ref"):
        return train("cpu", name, steps, **given)


def assert_alike(found, expected) -> None:
    for p, q in zip(found[0].parameters(), expected[0].parameters(), strict=True):
        np.testing.assert_allclose(to_host(p._array), q._array, rtol=2e-5, atol=2e-6)
    ours, theirs = found[1].state_dict()["state"], expected[1].state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for number in theirs:
        for key, value in theirs[number].items():
            np.testing.assert_allclose(to_host(ours[number][key]), value, rtol=2e-5, atol=2e-6, err_msg=key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_launch_is_many(by_triton, name):
    found = train(by_triton, name, range(3))
    assert_alike(found, references(name, range(3)))
    assert found[1]._arenas[0, 0]["p"].holds([p._array for p in found[0].parameters()])


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_parameter_without_gradient_stays_and_falls_behind(by_triton, name):
    """Then it is updated by a launch of its own."""
    found = train(by_triton, name, range(2), without=1)
    expected = references(name, range(2), without=1)
    for begin in (2, 3):
        found = train(by_triton, name, range(begin, begin + 1), found[1], found[0])
        expected = references(name, range(begin, begin + 1), optimizer=expected[1], module=expected[0])
        assert_alike(found, expected)
    first, behind, *others = (p._array for p in found[0].parameters())
    arenas = found[1]._arenas
    assert arenas[0, 0]["p"].holds([first, *others]) and arenas[0, 1]["p"].holds([behind])


@pytest.mark.parametrize("name", ["rmsprop, centered, momentum", "adam"])
def test_loaded_state_and_new_memory_are_taken_over(by_triton, name):
    module, optimizer = train(by_triton, name, range(2))
    other, fresh = train(by_triton, name, range(7, 8))  # which has arenas already
    other.load_state_dict(module.state_dict())
    fresh.load_state_dict(optimizer.state_dict())
    for p in other.parameters():  # the arrays are others than those of an arena made before
        p.data = p._array.copy()
    assert_alike(train(by_triton, name, range(2, 4), fresh, other), references(name, range(4)))


def test_an_average_of_weights_follows_in_one_launch(by_triton):
    module, expected = network(by_triton), network("cpu")
    ema = optim.EMA(module, 0.9, warmup=True)
    with dispatch.implementation("ref"):
        reference = optim.EMA(expected, 0.9, warmup=True)
    for step in range(3):
        for p, q in zip(module.parameters(), expected.parameters()):
            p._array[...] = p._array + step
            q._array[...] = q._array + step
        ema.update()
        with dispatch.implementation("ref"):
            reference.update()
    for e, f in zip(ema.module.parameters(), reference.module.parameters()):
        np.testing.assert_allclose(to_host(e._array), f._array, rtol=1e-6)
    assert ema._arenas[0].holds([e._array for e in ema.module.parameters()])


def test_infinite_gradients_are_seen_before_anything_moves(by_triton):
    module, optimizer = train(by_triton, "adam", range(1))
    before = [to_host(p._array).copy() for p in module.parameters()]
    give_gradients(module, 1)
    list(module.parameters())[2].grad._array[0] = np.inf
    scale = LossScale(8.0)
    with half_products(HALF, scale):
        optimizer.step()
    assert scale.factor == 4.0
    for p, old in zip(module.parameters(), before):
        np.testing.assert_array_equal(to_host(p._array), old)


def test_an_arena_ends_with_zeros_and_notices_other_arrays():
    arrays = [np.ones((2, 3), np.float32), np.full(4, 2, np.float32)]
    arena = Arena(arrays)
    assert arena.flat.tolist() == [1.0] * 6 + [2.0] * 4 + [0.0] * 6
    assert arena.holds(arena.views) and not arena.holds(arrays) and not arena.holds(arena.views[:1])
