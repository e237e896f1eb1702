"""Half precision: layers multiply in float16, gradients are those of float32 within its digits, however small, to
second order; loss scales; runs."""
from __future__ import annotations

import sys

import numpy as np
import pytest

import scratchgan
from scratchgan import functional as F
from scratchgan import gans, nn, optim, precision
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.wgan_gp import gradient_penalty
from scratchgan.precision import HALF, LossScale, factors, full, half_products
from scratchgan.run import Plan, Run
from scratchgan.tensor import Tensor

SPEC = Spec((1, 16, 16), -1.0, 1.0, classes=10)
SMALL = {"size": 16, "batch_size": 8}
GANS = {
    "gan": {**SMALL, "g_widths": (16, 16, 16), "d_widths": (16, 16, 16)},
    "cgan": {**SMALL, "g_width": 4, "d_width": 4}, "dcgan": {**SMALL, "g_width": 4, "d_width": 4},
    "wgan": {**SMALL, "g_width": 4, "d_width": 4}, "wgan_gp": {**SMALL, "g_width": 4, "d_width": 4},
    "stylegan": {**SMALL, "width": 4, "max_width": 8, "latent": 8},
    "stylegan2": {**SMALL, "g_width": 4, "d_width": 4, "max_width": 8, "latent": 8},
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_layers_multiply_in_half_and_nothing_else_does():
    x, image = scratchgan.tensor(draw(3, 4)), scratchgan.tensor(draw(2, 4, 5, 5))
    weight, kernel = scratchgan.tensor(draw(5, 4)), scratchgan.tensor(draw(4, 4, 3, 3))
    with half_products(HALF):
        made = [F.linear(x, weight), x @ weight.T, F.conv2d(image, kernel), F.conv_transpose2d(image, kernel)]
        kept = [x * 2, F.sigmoid(x), x.sum(), F.linear(Tensor(x._array.astype(np.float64)), Tensor(weight._array.astype(np.float64)))]
    assert [t.dtype for t in made] == [HALF] * 4
    assert HALF not in [t.dtype for t in kept]
    assert F.linear(x, weight).dtype == np.float32
    assert factors(x)[0] is x
    assert full(made[0]).dtype == np.float32 and full(x) is x


@pytest.mark.parametrize("name", GANS)
def test_first_steps_are_those_of_float32_within_the_digits_of_half(name):
    def steps(half):
        gan = gans.get(name)(SPEC, gans.configure(name, **GANS[name]), Streams(0))
        stream = np.random.default_rng(1)
        batches = iter([(stream.uniform(-1, 1, (8, 1, 16, 16)).astype(np.float32), np.arange(8)) for _ in range(20)])
        scale = LossScale(2.0**6) if half else None       # so that none of these overflows
        with half_products(HALF if half else None, scale):
            return gan.step(batches), gan

    (found, ours), (expected, theirs) = steps(True), steps(False)
    assert any(abs(found[key] - expected[key]) > 0 for key in expected)         # it was not float32 all along
    for key in expected:
        assert found[key] == pytest.approx(expected[key], rel=0.05, abs=0.05), key
    for role, player in ours.players().items():
        a, b = (gradients_of(p.network) for p in (player, theirs.players()[role]))
        assert a.dtype == np.float32
        assert a @ b > 0.95 * np.linalg.norm(a) * np.linalg.norm(b), role       # after five critic steps of wgan


def gradients_of(network):
    return np.concatenate([p.grad.numpy().ravel() for p in network.parameters() if p.grad is not None])


def small_gradients(scale):
    """Of a loss so small that float16 holds no gradient of its middle."""
    x, w, v = (scratchgan.tensor(draw(6, 6, seed=i), requires_grad=True) for i in range(3))
    with half_products(HALF, scale):
        loss = (full(F.linear(F.relu(F.linear(x, w)), v)) * 1e-9).sum()
        loss.backward()
    return [t.grad.numpy() for t in (x, w, v)]


def test_gradients_below_the_range_of_float16_arrive_when_they_are_scaled():
    lost, found = small_gradients(None), small_gradients(LossScale(2.0**20))
    x, w, v = (scratchgan.tensor(draw(6, 6, seed=i), requires_grad=True) for i in range(3))
    (F.linear(F.relu(F.linear(x, w)), v) * 1e-9).sum().backward()
    expected = [t.grad.numpy() for t in (x, w, v)]
    for none, some, right in zip(lost, found, expected):
        assert not none.any()
        np.testing.assert_allclose(some, right, rtol=0.02, atol=0.01 * abs(right).max())


@pytest.mark.parametrize("scale", [1.0, 2.0**8])
def test_a_penalty_on_gradients_is_scaled_once(scale):
    """Second order: the penalty's own gradient is a backward through a backward."""
    def slopes(half):
        x, fake = scratchgan.tensor(draw(4, 6)), scratchgan.tensor(draw(4, 6, seed=1))
        layers = [scratchgan.tensor(draw(6, 6, seed=i) / 2, requires_grad=True) for i in (2, 3)]
        with half_products(HALF if half else None, LossScale(scale) if half else None):
            penalty = gradient_penalty(lambda a: F.linear(F.tanh(F.linear(a, layers[0])), layers[1]).sum(dim=1),
                                       x, fake, scratchgan.tensor(np.full((4, 1), 0.3, np.float32)))
            penalty.backward()
        return [penalty.item(), *(w.grad.numpy() for w in layers)]

    for found, expected in zip(slopes(True), slopes(False)):
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1.0, 2.0**10])
def test_half_roots_and_half_leaves_have_their_own_gradients(scale):
    x = scratchgan.tensor(draw(3).astype(np.float16), requires_grad=True)
    with half_products(None, LossScale(scale)):
        (x * x).sum().backward()
        slope, = scratchgan.grad((x * x * x).sum(), x)
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy(), rtol=1e-2)
    np.testing.assert_allclose(slope.numpy(), 3 * x.detach().numpy() ** 2, rtol=1e-2)


def test_a_step_with_infinite_gradients_is_left_out_and_the_scale_halved():
    p = scratchgan.tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer, scale = optim.SGD([p], lr=1.0), LossScale(8.0)
    p.grad = Tensor(np.array([1, np.inf], np.float32))
    with half_products(HALF, scale):
        optimizer.step()
        assert (p.detach().numpy() == 1).all() and (scale.factor, scale.steps) == (4.0, 0)
        p.grad = Tensor(np.ones(2, np.float32))
        optimizer.step()
    assert (p.detach().numpy() == 0).all() and (scale.factor, scale.steps) == (4.0, 1)


def test_the_scale_doubles_after_an_interval_and_keeps_its_bounds(monkeypatch):
    monkeypatch.setattr(precision, "INTERVAL", 2)
    scale, good, bad = LossScale(precision.LARGEST / 2), [np.ones(1)], [np.array([np.nan])]
    factors = []
    for gradients in (good, good, good, good, bad):
        scale.follow(gradients)
        factors.append(scale.factor / precision.LARGEST)
    assert factors == [0.5, 1, 1, 1, 0.5]
    low = LossScale(1.0)
    assert low.follow(bad) == 1 and low.factor == 1.0
    other = LossScale()
    other.load_state_dict(scale.state_dict())
    assert (other.factor, other.steps) == (scale.factor, scale.steps)


def test_a_failure_inside_leaves_no_trace():
    with pytest.raises(ZeroDivisionError), half_products(HALF, LossScale()):
        raise ZeroDivisionError
    assert precision.state.dtype is None and precision.factor(np.ones(1)) is None


def test_bfloat16_is_a_dtype_or_says_what_is_missing(monkeypatch):
    assert precision.half_dtype("bfloat16").name == "bfloat16"
    assert precision.half_dtype("float16") == HALF
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UserError, match="ml_dtypes"):
        precision.half_dtype("bfloat16")


def test_linear_layers_train_in_bfloat16():
    layer, x = nn.Linear(4, 3), scratchgan.tensor(draw(5, 4))
    with half_products(precision.half_dtype("bfloat16")):
        y = layer(x)
        full(y).sum().backward()
    assert y.dtype.name == "bfloat16" and layer.weight.grad.dtype == np.float32
    np.testing.assert_allclose(layer.weight.grad.numpy(), np.tile(x.numpy().sum(0), (3, 1)), rtol=0.02, atol=0.02)


def test_a_run_in_float16_goes_on_with_its_scale(tmp_path):
    """On a GPU it is --precision float16; here the run is told so by hand."""
    plan = Plan(gan="dcgan", seed=0, device="cpu", epochs=None, checkpoint_every=0,
                config=gans.configure("dcgan", data="digits", steps=4, **GANS["dcgan"]))
    runs = [Run(plan, tmp_path), Run(plan, tmp_path)]
    for run in runs:
        run.half, run.loss_scale = HALF, LossScale(2.0**6)
    runs[0].advance()
    runs[0].loss_scale.factor = 32.0
    runs[0].save()
    runs[1].restore()
    assert runs[1].step == 1 and runs[1].loss_scale.state_dict() == {"factor": 32.0, "steps": 2}
    assert runs[0].advance() == runs[1].advance()
    wider = Run(plan, tmp_path)         # with --resume --precision float32
    wider.restore()
    assert wider.loss_scale is None and np.isfinite(list(wider.advance().values())).all()
