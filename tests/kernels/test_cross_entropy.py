"""Cross entropy: Triton against the reference, both against PyTorch and against the engine's op."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan import Tensor, functional
from scratchgan.errors import UserError
from scratchgan.kernels.cross_entropy import cross_entropy
from scratchgan.kernels.dispatch import implementation
from scratchgan.kernels.gpu import cross_entropy as gpu
from scratchgan.kernels.gpu.launch import trying
from tests.kernels.harness import CHANNELS_LAST, ON, check, compare, draw, run

TYPES = [np.float16, np.float32, np.float64]
SHAPES = [(5, 10), (3, 7, 2, 3), (1, 1), (4, 2), (2, 33), (0, 5), (2, 3, 0)]
SETTINGS = [{}, {"ignore_index": 1}, {"label_smoothing": 0.1}, {"ignore_index": 0, "label_smoothing": 1.0}]


def entries(shape, dtype=np.float32, seed: int = 0, scale: float = 3.0) -> list:
    """Logits, classes and a weight for each class, one of them 0."""
    x = (scale * draw(shape, np.float64, seed)).astype(dtype)
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    weight[1 % shape[1] :: 4] = 0
    return [x, rng.integers(0, shape[1], (shape[0], *shape[2:])), weight]


def by_torch(x, target, weight=None, **settings) -> list:
    """Value and gradient, in float64."""
    leaf = torch.tensor(x.astype(np.float64), requires_grad=True)
    weight = None if weight is None else torch.tensor(weight.astype(np.float64))
    value = torch.nn.functional.cross_entropy(leaf, torch.tensor(target.astype(np.int64)), weight, **settings)
    value.backward()
    return [value.detach().numpy(), leaf.grad.numpy()]


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_is_the_reference(on, shape, dtype, settings):
    x, target, weight = entries(shape, dtype)
    check(on, cross_entropy, x, target, **settings)
    with trying(BLOCK=8, BLOCK_C=4):
        check(on, cross_entropy, x, target, weight, scale=np.array([3.5], np.float32), **settings)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("weighed", [False, True])
def test_many_entries_are_counted_before(on, monkeypatch, settings, weighed):
    monkeypatch.setattr(gpu, "FEW", 5)
    monkeypatch.setitem(gpu.DEFAULT, "BLOCK", 8)
    x, target, weight = entries((5, 3, 4), np.float64)
    check(on, cross_entropy, x, target, weight if weighed else None, **settings)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("order", [CHANNELS_LAST, (1, 0, 3, 2), (0, 2, 1, 3)])
def test_any_memory_order_and_gaps(on, order):
    x = draw((3, 4, 5, 6), np.float32, 0, order)
    target = np.random.default_rng(0).integers(0, 4, (3, 5, 6)).astype(np.int32)
    check(on, cross_entropy, x, target)
    check(on, cross_entropy, x[::2, :, ::-1], target[::2, ::-1])
    check(on, cross_entropy, x[:, ::-1], np.asfortranarray(target))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", gpu.INTEGERS)
def test_integers_of_any_width(on, dtype):
    x, target, _ = entries((6, 5))
    check(on, cross_entropy, x, target.astype(dtype))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(5, 10), (3, 7, 2, 3), (1, 1)])
def test_reference_is_torch_s_and_the_engine_s(shape, settings):
    x, target, weight = entries(shape, np.float64)
    for w in (None, weight):
        found = cross_entropy(x, target, w, **settings)
        if np.isfinite(found[0]):  # where the only class has weight 0, 0 / 0
            compare(found, by_torch(x, target, w, **settings), np.float64)
            leaf = Tensor(x).requires_grad_()
            loss = functional.cross_entropy(leaf, target, w, **settings)
            loss.backward()
            compare(found, [loss._array, leaf.grad._array], np.float64)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("block", [{}, {"BLOCK": 4, "BLOCK_C": 2}])
def test_extreme_logits_are_torch_s(on, settings, block):
    """Each row alone, so that none hides another; digits are kept at 1e4, where log sum exp has few."""
    inf, nan = np.inf, np.nan
    rows = [(1e4, 1e4 + 1, -1e4), (-1e4, -1e4 - 2, -1e4), (0, 1e4, -1e4), (-inf, 0, 1), (0, -inf, -inf),
            (0, 0, -inf), (-inf, -inf, 0), (inf, 0, 0), (0, inf, inf), (-inf, -inf, -inf), (nan, 0, 0),
            (0, 0, nan)]  # fmt: skip
    target = np.array([0])
    for row in rows:
        x = np.array([row], np.float32)
        with trying(**block):
            found = run(on, cross_entropy, x, target, **settings)
        compare(found, by_torch(x, target, **settings), np.float32)
        np.testing.assert_allclose(found[0], by_torch(x, target, **settings)[0], rtol=1e-6)


@pytest.mark.parametrize("on", ON)
def test_all_ignored_and_no_class(on):
    x, target, _ = entries((4, 3))
    for value, dx in (run(on, cross_entropy, x, target * 0 - 100), cross_entropy(x, target * 0 - 100)):
        assert np.isnan(value)
        assert not dx.any()
    for wrong in (3, -1, 2**33):
        target[1] = wrong
        for value, _ in (run(on, cross_entropy, x, target), cross_entropy(x, target)):
            assert np.isnan(value)


def test_what_is_not_covered_is_said():
    x, target, weight = entries((4, 3))
    with implementation("triton"), pytest.raises(UserError, match="cross_entropy in Triton: dtype float32"):
        cross_entropy(x, target.astype(np.float32))
    with pytest.raises(ValueError, match=r"target has shape \(3,\), expected \(4,\)"):
        cross_entropy(x, target[:3])
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), expected \(3,\)"):
        cross_entropy(x, target, weight[:2])
