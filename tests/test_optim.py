"""Optimisers against PyTorch's over a hundred steps, their state both ways, and the average of weights."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from scratchgan import backend, nn, optim
from scratchgan.errors import UserError
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor
from tests import double

SETTINGS = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"momentum": 0.5, "weight_decay": 0.1, "maximize": True},
    ],
    "RMSprop": [
        {},
        {"centered": True},
        {"momentum": 0.9},
        {"alpha": 0.9, "centered": True, "momentum": 0.5, "weight_decay": 0.1},
        # A smaller eps would magnify what cancels in v - mean^2.
        {"alpha": 0.3, "centered": True, "maximize": True, "eps": 0.1},
    ],
    "Adam": [
        {},
        {"betas": (0.5, 0.999)},
        {"betas": (0.0, 0.9)},
        {"weight_decay": 0.1},
        {"amsgrad": True},
        {"maximize": True, "eps": 1e-3},
    ],
}
CASES = [(name, settings) for name, several in SETTINGS.items() for settings in several]
SHAPES = [(3,), (), (2, 0), (5, 4), (40, 30)]  # the last is cut into pieces


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Sizes at which small arrays already take the ways of large ones."""
    monkeypatch.setattr(optim, "PIECE", 512)
    monkeypatch.setattr(optim, "WORTH_THREADS", 1000)


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *(f"{k}={v}" for k, v in case[1].items())]))
def case(request):
    return request.param


def pair(case, dtype, seed=0, lr=0.01):
    """The same parameters with our optimiser and with PyTorch's."""
    name, settings = case
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in SHAPES]
    ours, theirs = (
        [nn.Parameter(a.copy()) for a in arrays],
        [torch.nn.Parameter(torch.tensor(a)) for a in arrays],
    )
    groups = [[{"params": p[:2], "lr": 0.003}, {"params": p[2:]}] for p in (ours, theirs)]
    return (
        ours,
        theirs,
        getattr(optim, name)(groups[0], lr=lr, **settings),
        getattr(torch.optim, name)(groups[1], lr=lr, **settings),
    )


def steps(ours, theirs, optimizers, count, rng):
    """Steps with the same gradients; at every third one the second parameter has none."""
    for i in range(count):
        for j, (p, q) in enumerate(zip(ours, theirs)):
            if i % 3 == 0 and j == 1:
                p.grad = q.grad = None
                continue
            g = np.asarray(rng.standard_normal(p.shape)).astype(p.dtype)
            p.grad, q.grad = Tensor(g), torch.tensor(g)
        for optimizer in optimizers:
            optimizer.step()


def assert_close(ours, theirs, ulps):
    for p, q in zip(ours, theirs):
        p, q = np.asarray(p._array), q.detach().numpy()
        scale = np.maximum(
            np.abs(q), 1
        )  # the parameters are of order 1; where they pass zero, that is what cancels
        assert np.all(np.abs(p - q) <= ulps * np.finfo(p.dtype).eps * scale), np.max(np.abs(p - q) / scale)


def test_hundred_steps_equal_pytorch(case):
    ours, theirs, optimizer, reference = pair(case, np.float64)
    memory = [p._array for p in ours]
    steps(ours, theirs, (optimizer, reference), 100, np.random.default_rng(1))
    assert_close(ours, theirs, 10)
    assert all(p._array is a for p, a in zip(ours, memory))


def test_one_step_in_float32_is_within_an_ulp_or_two(case):
    ours, theirs, optimizer, reference = pair(case, np.float32)
    steps(ours, theirs, (optimizer, reference), 1, np.random.default_rng(1))
    assert_close(ours, theirs, 2)


def test_settings_may_change_between_steps():
    ours, theirs, optimizer, reference = pair(("Adam", {}), np.float64)
    rng = np.random.default_rng(2)
    for lr in (0.1, np.float64(0.01), 0.0):
        for o in (optimizer, reference):
            for group in o.param_groups:
                group["lr"] = lr
        steps(ours, theirs, (optimizer, reference), 3, rng)
    assert_close(ours, theirs, 10)


def as_tensors(tree):
    """Arrays in a tree of dicts and lists as PyTorch tensors."""
    if isinstance(tree, dict):
        return {k: as_tensors(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [as_tensors(v) for v in tree]
    return torch.tensor(tree) if isinstance(tree, np.ndarray) else tree


def test_state_goes_to_pytorch_and_back(case):
    ours, theirs, optimizer, reference = pair(case, np.float64)
    rng = np.random.default_rng(3)
    steps(ours, theirs, (optimizer, reference), 4, rng)
    state = optimizer.state_dict()
    other = reference.state_dict()
    assert {i: set(s) for i, s in state["state"].items()} == {i: set(s) for i, s in other["state"].items()}
    assert [g["params"] for g in state["param_groups"]] == [g["params"] for g in other["param_groups"]]

    new_ours, new_theirs, new_optimizer, new_reference = pair(case, np.float64, lr=0.5)
    for p, q, new_p, new_q in zip(ours, theirs, new_ours, new_theirs):
        new_p._array[...] = q.detach().numpy()
        new_q.data = torch.tensor(p._array)
    new_optimizer.load_state_dict(copy.deepcopy(other))
    new_reference.load_state_dict(as_tensors(state))
    for pair_of in (
        (ours, theirs, (optimizer, reference)),
        (new_ours, new_theirs, (new_optimizer, new_reference)),
    ):
        steps(*pair_of, 5, np.random.default_rng(4))
    assert_close(new_ours, theirs, 10)
    assert_close(ours, new_theirs, 10)


def test_saved_and_loaded_state_continues_to_the_same_bits(case):
    ours, _, optimizer, _ = pair(case, np.float32)
    torch_like = [torch.nn.Parameter(torch.zeros(s)) for s in SHAPES]
    steps(ours, torch_like, (optimizer,), 4, np.random.default_rng(5))
    twins, _, twin, _ = pair(case, np.float32, seed=9)
    for p, q in zip(ours, twins):
        q._array[...] = p._array
    twin.load_state_dict(optimizer.state_dict())
    for params, o in ((ours, optimizer), (twins, twin)):
        steps(params, torch_like, (o,), 4, np.random.default_rng(6))
    assert all(np.array_equal(p._array, q._array) for p, q in zip(ours, twins))


def test_on_the_device_double(case):
    ours, _, optimizer, _ = pair(case, np.float32)
    torch_like = [torch.nn.Parameter(torch.zeros(s)) for s in SHAPES]
    twins = [nn.Parameter(double.device(p._array.copy())) for p in ours]
    twin = type(optimizer)(
        [{**g, "params": twins[s]} for g, s in zip(optimizer.param_groups, (slice(2), slice(2, None)))]
    )
    twin.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        steps(ours, torch_like, (optimizer,), 1, np.random.default_rng(6))
        for p, q in zip(ours, twins):
            q.grad = None if p.grad is None else Tensor(double.device(p.grad._array))
        twin.step()
    assert all(np.array_equal(p._array, backend.to_host(q._array)) for p, q in zip(ours, twins))


def test_layouts_and_several_threads_change_no_bit(monkeypatch):
    results = []
    for workers, transposed in ((1, False), (2, False), (2, True)):
        monkeypatch.setattr("scratchgan.backend.workers", workers)
        rng = np.random.default_rng(0)
        array, gradient = rng.standard_normal((2, 70, 30)).astype(np.float32)
        if transposed:
            array, gradient = np.asfortranarray(array), np.asfortranarray(gradient)
        p = nn.Parameter(array)
        optimizer = optim.Adam([p])
        for _ in range(3):
            p.grad = Tensor(gradient)
            optimizer.step()
        results.append(p._array)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_a_gradient_in_another_layout():
    rng = np.random.default_rng(0)
    array, gradient = rng.standard_normal((2, 30, 40))
    params = [nn.Parameter(array.copy()) for _ in range(2)]
    for p, g in zip(params, (gradient, np.asfortranarray(gradient))):
        p.grad = Tensor(g)
        before = g.copy()
        optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True).step()
        assert np.array_equal(g, before)
    assert np.array_equal(params[0]._array, params[1]._array)


def test_stepping_between_forward_and_backward_raises():
    p = nn.Parameter(np.ones(3))
    y = (p * p).sum()
    p.grad = Tensor(np.ones(3))
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_closure_computes_the_gradients():
    p = nn.Parameter(np.array([3.0]))
    optimiser = optim.SGD([p], lr=0.25)

    def loss():
        optimiser.zero_grad()
        value = (p * p).sum()
        value.backward()
        return value

    with no_grad():
        assert optimiser.step(loss).item() == 9 and p.item() == 1.5


def test_zero_grad():
    p = nn.Parameter(np.ones(3))
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = Tensor(np.ones(3))
    optimizer.zero_grad(set_to_none=False)
    assert np.array_equal(p.grad._array, np.zeros(3))
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: optim.Adam([]), "params is empty"),
        (lambda p: optim.Adam([p, p]), "occurs twice"),
        (lambda p: optim.Adam([{"params": [p]}, {"params": [p]}]), "occurs twice"),
        (lambda p: optim.Adam([p * 2]), "only leaf tensors"),
        (lambda p: optim.Adam([p], lr=-1), "lr is -1, expected a number >= 0"),
        (lambda p: optim.Adam([p], lr=float("nan")), "lr is nan"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), "betas"),
        (lambda p: optim.Adam([{"params": [p], "beta": 1}]), "unknown settings beta"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov needs a momentum"),
        (lambda p: optim.EMA(nn.Linear(2, 2), 1.1), "decay is 1.1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter(np.ones(3)))


def test_params_must_be_tensors():
    with pytest.raises(TypeError, match="expected tensors in params, found ndarray"):
        optim.SGD([np.ones(3)], lr=0.1)


def test_a_state_that_does_not_fit_changes_nothing():
    def stepped(kind, *shapes):
        params = [nn.Parameter(np.ones(s)) for s in shapes]
        optimizer = kind(params, lr=0.1)
        for p in params:
            p.grad = Tensor(np.ones(p.shape))
        optimizer.step()
        return optimizer

    adam = stepped(optim.Adam, 3, 4)
    before = copy.deepcopy(adam.state_dict())
    for other, message in (
        (stepped(optim.Adam, 3), "groups of"),
        (stepped(optim.Adam, 3, 5), "parameter 1 has shape \\(4,\\), its exp_avg \\(5,\\)"),
        (stepped(optim.RMSprop, 3, 4), "parameter 0 has square_avg, step"),
    ):
        with pytest.raises(UserError, match=message):
            adam.load_state_dict(other.state_dict())
    with pytest.raises(UserError, match="expected state and param_groups"):
        adam.load_state_dict({"weight": 1})
    np.testing.assert_equal(adam.state_dict(), before)


def test_ema_follows_its_formula_and_copies_buffers():
    module = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40))
    weight = module[0].weight._array
    ema = optim.EMA(module, 0.9)
    expected, memory = weight.astype(np.float64), ema.module[0].weight._array
    assert np.array_equal(memory, weight) and memory is not weight
    rng = np.random.default_rng(0)
    for i in range(5):
        weight += rng.standard_normal(weight.shape).astype(np.float32)
        module[1].running_mean._array[...] = i
        ema.update()
        expected += (1 - 0.9) * (weight - expected)
        np.testing.assert_allclose(memory, expected, rtol=1e-5, atol=1e-5)
        assert np.all(ema.module[1].running_mean._array == i)
    assert ema.module[0].weight._array is memory and not ema.module[0].weight.requires_grad
    assert not ema.module.training and module.training


def test_ema_warm_up_and_state():
    module = nn.Linear(2, 2)
    ema = optim.EMA(module, 0.5, warmup=True)
    begin = ema.module.weight._array.copy()
    module.weight._array[...] += 1
    ema.update()
    np.testing.assert_allclose(ema.module.weight._array, begin + 0.9, rtol=1e-5)
    twin = optim.EMA(nn.Linear(2, 2), 0.5, warmup=True)
    twin.load_state_dict(ema.state_dict())
    assert twin.updates == 1 and np.array_equal(twin.module.weight._array, ema.module.weight._array)
    with pytest.raises(UserError, match="expected updates and module"):
        twin.load_state_dict(module.state_dict())
