"""Tensors as PyTorch's: making them, dtypes that mix, methods, changes in place, misuse."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import scratchgan as sg
from scratchgan import functional as F
from tests import double


def pair(*shape: int, requires_grad: bool = False):
    """The same numbers as our tensor and as PyTorch's."""
    a = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    return sg.tensor(a, requires_grad=requires_grad), torch.tensor(a, requires_grad=requires_grad)


# Making tensors


@pytest.mark.parametrize("data", [1, 2.5, True, [1, 2], [1.0, 2], [[1.5], [2.0]], [], [True, False]])
def test_python_data_gets_pytorchs_dtype(data):
    ours, theirs = sg.tensor(data), torch.tensor(data).numpy()
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_arrays_keep_their_dtype_and_are_copied(dtype):
    a = np.ones(3, dtype)
    t = sg.tensor(a)
    a[0] = 0
    assert t.dtype == dtype and t.tolist() == [1, 1, 1]


def test_text_is_no_data():
    with pytest.raises(TypeError, match="holds no numbers"):
        sg.tensor(["a"])


def test_from_numpy_shares_memory():
    a = np.zeros(3)
    t = sg.from_numpy(a)
    a[1] = 5
    assert t.tolist() == [0, 5, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.zeros(2, 3),
        lambda m: m.zeros((2, 3)),
        lambda m: m.ones(()),
        lambda m: m.full((2,), 3),
        lambda m: m.full((2,), 3.5),
        lambda m: m.full((2,), True),
        lambda m: m.arange(5),
        lambda m: m.arange(1, 6, 2),
        lambda m: m.arange(0.5, 2),
        lambda m: m.linspace(-1, 1, 5),
        lambda m: m.eye(3),
        lambda m: m.eye(2, 3),
        lambda m: m.zeros_like(m.ones(2)),
        lambda m: m.ones_like(m.arange(2)),
        lambda m: m.full_like(m.ones(2), 4),
    ],
)
def test_filled_tensors_are_pytorchs(call):
    ours, theirs = call(sg), call(torch).numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)


def test_random_numbers_follow_the_seed():
    sg.manual_seed(7)
    first = sg.randn(4), sg.rand(2, 3), sg.randint(0, 9, (5,))
    sg.manual_seed(7)
    again = sg.randn(4), sg.rand((2, 3)), sg.randint(0, 9, (5,))
    assert [t.tolist() for t in first] == [t.tolist() for t in again]
    assert [t.dtype for t in first] == [np.float32, np.float32, np.int64]
    own = sg.randn(3, generator=np.random.default_rng(0)).numpy()
    np.testing.assert_array_equal(own, np.random.default_rng(0).standard_normal(3).astype(np.float32))


# Dtypes that mix


OPERANDS = [
    True,
    2,
    2.5,
    *[(dtype, shape) for dtype in ("bool", "uint8", "int64", "float32", "float64") for shape in ((2,), ())],
]


PAIRS = [(a, b) for a in OPERANDS for b in OPERANDS if isinstance(a, tuple) or isinstance(b, tuple)]


def operand(module, spec):
    if not isinstance(spec, tuple):
        return spec
    dtype, shape = spec
    return module.ones(shape, dtype=getattr(torch, dtype) if module is torch else np.dtype(dtype))


FUNCTIONS = {
    "add": lambda m, a, b: a + b,
    "mul": lambda m, a, b: m.mul(a, b),
    "div": lambda m, a, b: a / b,
    "maximum": lambda m, a, b: m.maximum(a, b),
    "where": lambda m, a, b: m.where(a == a, a, b),
}


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("a, b", PAIRS, ids=str)
def test_result_has_pytorchs_dtype(op, a, b):
    """Wherever PyTorch takes the pair: it wants a tensor first in some functions, and two in others."""
    try:
        theirs = FUNCTIONS[op](torch, operand(torch, a), operand(torch, b))
    except TypeError:
        theirs = None
    if isinstance(theirs, torch.Tensor):
        assert FUNCTIONS[op](F, operand(sg, a), operand(sg, b)).dtype == theirs.numpy().dtype


def test_numpy_numbers_are_weak():
    assert (sg.ones(2) * np.float64(2)).dtype == np.float32
    assert (np.float64(2) * sg.ones(2)).dtype == np.float32


def test_casts_hand_back_gradients_of_their_arguments_dtype():
    x = sg.ones(2, requires_grad=True)
    (x.double() * sg.ones(2, dtype=sg.float64)).sum().backward()
    assert x.grad.dtype == np.float32


# Methods


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.view(3, 8),
        lambda t: t.view(-1),
        lambda t: t.reshape((4, 6)),
        lambda t: t.permute(2, 0, 1),
        lambda t: t.mT,
        lambda t: t.transpose(0, 2),
        lambda t: t.flatten(1),
        lambda t: t.unsqueeze(0).squeeze(0),
        lambda t: t.expand(2, -1, -1, -1),
        lambda t: t.flip(0),
        lambda t: t.flip((0, 1)),
        lambda t: t.view_as(t),
        lambda t: t.split(2, 1)[1],
        lambda t: t.chunk(2, 2)[1],
        lambda t: t.mean((0, 1)),
        lambda t: t.sum(-1, keepdim=True),
        lambda t: t.var(0, False),
        lambda t: t.std(1, correction=0),
        lambda t: t.max(1)[0],
        lambda t: t.max(1)[1],
        lambda t: t.min(),
        lambda t: t.amax((0, 2)),
        lambda t: t.norm(dim=1),
        lambda t: t.softmax(1),
        lambda t: t.log_softmax(-1),
        lambda t: t.logsumexp(2),
        lambda t: t.clamp(-0.5, 0.5),
        lambda t: t.clamp(min=0),
        lambda t: t.abs().log1p().exp().sqrt().rsqrt(),
        lambda t: t.sigmoid().tanh().relu(),
        lambda t: t.sin() + t.cos(),
        lambda t: -t,
        lambda t: abs(t),
        lambda t: 1 / (t * t + 1),
        lambda t: 2 - t,
        lambda t: (t > 0).float(),
        lambda t: (t == t).all(),
        lambda t: (t != t).any(),
        lambda t: t.argmax(),
        lambda t: t.argmin(1),
        lambda t: t.long(),
        lambda t: t.double(),
        lambda t: t.half(),
        lambda t: t[0] @ t[1].mT,
        lambda t: t[1:, ..., 0],
        lambda t: t[t > 0],
        lambda t: t // 0.3,
        lambda t: t % 0.3,
        lambda t: 2.5 // t,
        lambda t: 2.5 % t,
        lambda t: (t * 10).long() // 3,
        lambda t: (t * 10).long() % 3,
        lambda t: (t * 10).long().div(3, rounding_mode="trunc"),
        lambda t: 10**9 // ((t * 10).long() * 0 + 3),
        lambda t: t.expand_as(t[None]),
        lambda t: t.where(t > 0, 2 * t),
        lambda t: t.masked_fill(t > 0, -1.0),
        lambda t: t.square() + t.reciprocal() + t.erf(),
        lambda t: t.double().type_as(t),
        lambda t: ~(t > 0),
        lambda t: t.matmul(t.mT),
        lambda t: t.isnan(),
        lambda t: t.clone().contiguous(),
        lambda t: t.pow(2),
        lambda t: 2**t,
        lambda t: (t < 0) | (t > 1) & (t <= 2),
        lambda t: t.unbind(1)[2],
        lambda t: t.narrow(1, 1, 2),
        lambda t: t.add(t, alpha=2),
    ],
)
def test_methods_are_pytorchs(call):
    ours, theirs = map(call, pair(2, 3, 4))
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_what_a_tensor_says_of_itself():
    t = sg.zeros(2, 3)
    assert (t.ndim, t.dim(), t.numel(), t.size(), t.size(-1), len(t), t.device) == (
        2,
        2,
        6,
        (2, 3),
        3,
        2,
        "cpu",
    )
    assert t.T.shape == (3, 2) and t.is_floating_point() and not t.long().is_floating_point()
    assert [row.shape for row in t] == [(3,), (3,)]
    assert len({t, t, sg.zeros(2, 3)}) == 2


def test_numbers_leave():
    assert sg.tensor(2.5).item() == 2.5 and float(sg.tensor([2.5])) == 2.5 and int(sg.tensor(3)) == 3
    assert [10, 20, 30][sg.tensor(1)] == 20 and bool(sg.tensor(1)) and f"{sg.tensor(0.25):.1%}" == "25.0%"
    assert sg.tensor([[1, 2]]).tolist() == [[1, 2]]


def test_repr_says_what_matters():
    assert repr(sg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert (
        repr(sg.tensor([1.0], dtype=np.float64, requires_grad=True))
        == "tensor([1.], dtype=float64, requires_grad=True)"
    )
    assert "made by mul" in repr(sg.ones(1, requires_grad=True) * 2)


def test_to():
    t = sg.ones(2)
    assert t.to(np.float32) is t and t.to("cpu") is t and t.to(None) is t
    assert (
        t.to("cpu", sg.float64).dtype
        == t.to(sg.ones(1, dtype=sg.float64)).dtype
        == t.to(dtype=np.float64).dtype
        == np.float64
    )


def test_moving_between_devices_is_differentiable():
    x = sg.ones(2, requires_grad=True)
    there = x.to("double") * 3
    assert type(there._array) is double.DoubleArray and there.device == "double"
    (there.to("cpu") * 2).sum().backward()
    assert x.grad.tolist() == [6, 6]


def test_deepcopy_is_a_leaf_of_its_own():
    x = sg.ones(2, requires_grad=True)
    y = copy.deepcopy(x)
    (y * 2).sum().backward()
    assert y.grad.tolist() == [2, 2] and x.grad is None
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(x * 2)


# Changes in place


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_(2),
        lambda t: t.sub_(t, alpha=0.5),
        lambda t: t.mul_(3.0),
        lambda t: t.div_(2),
        lambda t: t.clamp_(0, 1),
        lambda t: t.zero_(),
        lambda t: t.fill_(4),
        lambda t: t.copy_(t[:1] * 2),
        lambda t: t.pow_(2),
        lambda t: t.neg_(),
        lambda t: t.relu_(),
        lambda t: t.__iadd__(1),
        lambda t: t.__imul__(t.detach() + 1),
        lambda t: t.__itruediv__(3),
        lambda t: t.__setitem__(0, 5),
        lambda t: t.__setitem__((slice(None), 1), t[:, 0] * 1),
        lambda t: t.__setitem__(t > 0, 0.0),
        lambda t: t.__setitem__(1, t[0] * 2),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_changes_in_place_are_pytorchs(change, recorded):
    leaves = pair(3, 4, requires_grad=recorded)
    results = []
    for leaf in leaves:
        t = leaf * 1 if recorded else leaf
        change(t)
        if recorded and t.requires_grad:
            (t * t).sum().backward()
            results.append((t.detach().numpy(), leaf.grad.numpy()))
        else:
            results.append((t.detach().numpy(),))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_change_in_place_reaches_views():
    t = sg.zeros(2, 3)
    t[0].add_(1)
    assert t.tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("change", [lambda t: t.add_(1), lambda t: t.__setitem__(0, 5), lambda t: t.zero_()])
def test_leaves_change_only_outside_the_graph(change):
    t = sg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        change(t)
    with sg.no_grad():
        change(t)
    assert t.requires_grad and t.tolist() != [1, 1]


def test_a_saved_array_that_changes_makes_backward_raise():
    x, w = sg.ones(2), sg.ones(2, requires_grad=True)
    y = (x * w).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# Misuse


@pytest.mark.parametrize(
    "misuse, kind, words",
    [
        (lambda: sg.ones(2) + sg.ones(3), ValueError, r"add\(\(2,\) float32, \(3,\) float32\)"),
        (lambda: sg.ones(2, 3) @ sg.ones(2, 3), ValueError, "matmul"),
        (lambda: F.matmul(sg.ones(()), sg.ones(2)), ValueError, "matmul"),
        (lambda: sg.ones(2).sum(3), IndexError, "dim 3"),
        (lambda: sg.ones(2, 2).sum((0, -2)), ValueError, "twice"),
        (lambda: sg.ones(2).reshape(3), ValueError, "reshape"),
        (lambda: sg.ones(2, 2).permute(0), ValueError, "permute"),
        (lambda: sg.ones(2, 3).expand(3, 3), ValueError, "expand"),
        (lambda: sg.ones(2)[5], IndexError, "getitem"),
        (lambda: F.cat([]), ValueError, "cat"),
        (lambda: F.pad(sg.ones(3), (1,)), ValueError, "pad"),
        (lambda: F.pad(sg.ones(3), (3, 0), mode="reflect"), ValueError, "longer"),
        (lambda: F.pad(sg.ones(3), (1, 1), mode="mirror"), ValueError, "mirror"),
        (lambda: F.gelu(sg.ones(1), approximate="erf"), ValueError, "approximate"),
        (lambda: F.div(sg.ones(1), 2, rounding_mode="up"), ValueError, "rounding_mode"),
        (lambda: F.clamp(sg.ones(1)), ValueError, "clamp"),
        (lambda: F.norm(sg.ones(1), p="nuc"), ValueError, "nuc"),
        (lambda: F.einsum("ij,jk->ik", sg.ones(2, 2)), ValueError, "2 operands, found 1"),
        (lambda: F.einsum("ij->k", sg.ones(2, 2)), ValueError, "einsum"),
        (lambda: F.einsum("ij,jk", sg.ones(2, 3), sg.ones(2, 2)), ValueError, "sizes 3 and 2"),
        (lambda: F.einsum("i1", sg.ones(2, 3)), ValueError, "letters"),
        (lambda: F.gather(sg.ones(2, 2), 0, sg.ones(2, 2)), TypeError, "integers"),
        (lambda: F.index_select(sg.ones(2), 0, sg.tensor([[0]])), ValueError, "index_select"),
        (lambda: sg.ones(2, requires_grad=True).numpy(), RuntimeError, "detach"),
        (lambda: np.asarray(sg.ones(2, requires_grad=True)), RuntimeError, "detach"),
        (lambda: sg.ones(2).item(), RuntimeError, "one element"),
        (lambda: bool(sg.ones(2)), RuntimeError, "neither"),
        (lambda: len(sg.ones(())), TypeError, "length"),
        (lambda: iter(sg.ones(())), TypeError, "iterated"),
        (lambda: sg.ones(2).to("double").numpy(), TypeError, "cpu"),
        (lambda: sg.ones(2).to("double") + sg.ones(2), TypeError, "add"),
        (lambda: sg.ones(2).to("tpu"), ValueError, "tpu"),
        (lambda: sg.ones(2).add_(sg.ones(3, 2)), ValueError, "in place"),
        (lambda: sg.arange(2).add_(0.5), TypeError, "in place"),
        (lambda: sg.tensor([1, 2], requires_grad=True), RuntimeError, "floating-point"),
    ],
)
def test_misuse_is_loud(misuse, kind, words):
    with pytest.raises(kind, match=words):
        misuse()


# Numbers of every size, arrays of every size


@pytest.mark.parametrize(
    "name", ["sigmoid", "logsigmoid", "softplus", "tanh", "relu", "leaky_relu", "elu", "silu", "gelu"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_finite_and_silent_at_1e4(name, dtype):
    x = sg.tensor(np.array([-1e4, -100, -1, 0, 1, 100, 1e4], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(F, name)(x)
        (g,) = sg.grad(y.sum(), x, create_graph=True)
        (h,) = sg.grad((g + 0 * x).sum(), x)
    assert all(np.isfinite(t.detach().numpy()).all() for t in (y, g, h))


@pytest.mark.parametrize(
    "name",
    [
        *("sigmoid", "logsigmoid", "softplus", "tanh", "relu", "leaky_relu", "elu", "silu", "gelu", "erf"),
        "rsqrt",
    ],
)
@pytest.mark.parametrize("layout", ["C", "channels_last", "strided"])
def test_large_arrays_go_in_blocks_to_the_same_result(name, layout):
    a = np.random.default_rng(0).uniform(0.5, 3, (4, 32, 80, 33))
    a = a if layout == "C" else a.transpose(0, 3, 1, 2) if layout == "channels_last" else a[:, :, ::2]
    function = getattr(F, name)
    x = sg.from_numpy(a).requires_grad_()
    y = function(x)
    (g,) = sg.grad(y, x, y.detach())
    for i in range(len(a)):
        part = sg.tensor(a[i, :, :3], requires_grad=True)
        out = function(part)
        np.testing.assert_array_equal(out.detach().numpy(), y.detach().numpy()[i, :, :3])
        np.testing.assert_array_equal(sg.grad(out, part, out.detach())[0].numpy(), g.numpy()[i, :, :3])
    if layout == "channels_last":
        assert y._array.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-15), (np.float32, 5e-7)])
def test_erf_is_accurate(dtype, tolerance):
    x = np.linspace(-7, 7, 20001).astype(dtype)
    exact = np.array([math.erf(v) for v in x.tolist()])
    np.testing.assert_allclose(F.erf(sg.Tensor(x)).numpy(), exact, rtol=0, atol=tolerance)
    assert F.erf(sg.tensor([np.inf, -np.inf, np.nan], dtype=dtype)).isnan().tolist() == [False, False, True]


@pytest.mark.parametrize(
    "places, rows, length", [(10, 500, 3), (999, 500, 3), (7, 0, 3), (70000, 90, 1), (3, 500, 2)]
)
def test_gradients_of_repeated_rows_add_up(places, rows, length):
    """Rows few, many, repeated rarely and often, indexed from either end."""
    rng = np.random.default_rng(0)
    index, g = rng.integers(-places, places, rows), rng.standard_normal((rows, length))
    expected = np.zeros((places, length))
    np.add.at(expected, (index,), g)
    x = sg.zeros(places, length, dtype=np.float64, requires_grad=True)
    (found,) = sg.grad(x[index], x, sg.Tensor(g))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-13)


def test_import_is_cheap():
    """Neither plotting nor image libraries, nor torch, come with `import scratchgan`."""
    large = ("torch", "scipy", "matplotlib", "PIL", "cupy")
    code = f"import sys, scratchgan; print([m for m in {large} if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
