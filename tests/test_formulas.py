"""The formulas in the docstrings of `gans/`, each against scalar loops over Python floats."""
from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
import pytest
import torch

import scratchgan
from scratchgan import nn
from scratchgan.gans import gan, wgan, wgan_gp
from scratchgan.nets import dcgan, mlp

N = 7


def sigmoid(v: float) -> float:
    return 1 / (1 + exp(-v))


def logits(seed: int) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal(N)


def test_value_is_equation_1():
    real, fake = logits(0), logits(1)
    expected = sum(log(sigmoid(r)) for r in real) / N + sum(log(1 - sigmoid(f)) for f in fake) / N
    found = gan.value(scratchgan.tensor(real), scratchgan.tensor(fake))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_generator_losses_of_the_gan():
    fake = logits(2)
    saturating = sum(log(1 - sigmoid(f)) for f in fake) / N
    non_saturating = -sum(log(sigmoid(f)) for f in fake) / N
    assert gan.saturating_loss(scratchgan.tensor(fake)).item() == pytest.approx(saturating, rel=1e-12)
    assert gan.non_saturating_loss(scratchgan.tensor(fake)).item() == pytest.approx(non_saturating, rel=1e-12)


def test_the_two_generator_losses_pull_the_same_way_but_not_equally_hard():
    """d/df log(1 - sigmoid(f)) = -sigmoid(f) and d/df -log sigmoid(f) = sigmoid(f) - 1, for a sample that D
    rejects."""
    fake = scratchgan.tensor(np.array([-5.0]), requires_grad=True)
    weak, = scratchgan.grad(gan.saturating_loss(fake), fake)
    strong, = scratchgan.grad(gan.non_saturating_loss(fake), fake)
    assert weak.item() == pytest.approx(-sigmoid(-5.0), rel=1e-12)
    assert strong.item() == pytest.approx(sigmoid(-5.0) - 1, rel=1e-12)


@pytest.mark.parametrize("loss", [gan.saturating_loss, gan.non_saturating_loss, lambda f: gan.value(-f, f)])
def test_losses_stay_finite_for_extreme_logits(loss):
    fake = scratchgan.tensor(np.array([-1e4, 1e4], np.float32), requires_grad=True)
    value = loss(fake)
    slope, = scratchgan.grad(value, fake)
    assert np.isfinite(value.item()) and np.isfinite(slope.numpy()).all()


def test_wasserstein_losses_of_extreme_values_are_pytorchs():
    values = np.array([-1e4, 3.0, 1e4, 1e4])
    real, fake = (scratchgan.tensor(v, requires_grad=True) for v in (values, values[::-1] * 0.5))
    twins = [torch.tensor(t.detach().numpy().copy(), requires_grad=True) for t in (real, fake)]
    for loss, expected in ((wgan.critic_loss(real, fake), twins[1].mean() - twins[0].mean()),
                           (wgan.generator_loss(fake), -twins[1].mean())):
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
        for t in (real, fake, *twins):
            t.grad = None
        loss.backward()
        expected.backward()
        for found, twin in zip((real, fake), twins):
            assert (found.grad is None) == (twin.grad is None)
            if twin.grad is not None:
                np.testing.assert_allclose(found.grad.numpy(), twin.grad.numpy(), rtol=1e-12)


def test_wasserstein_losses():
    real, fake = logits(3), logits(4)
    assert wgan.critic_loss(scratchgan.tensor(real), scratchgan.tensor(fake)).item() == pytest.approx(
        sum(fake) / N - sum(real) / N, rel=1e-12)
    assert wgan.generator_loss(scratchgan.tensor(fake)).item() == pytest.approx(-sum(fake) / N, rel=1e-12)


def batch(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real, fake and epsilon of a batch of images."""
    rng = np.random.default_rng(5)
    epsilon = rng.random((shape[0], *[1] * (len(shape) - 1)))
    return rng.standard_normal(shape), rng.standard_normal(shape), epsilon


def penalty(critic, arrays) -> float:
    return wgan_gp.gradient_penalty(critic, *map(scratchgan.tensor, arrays)).item()


def test_gradient_penalty_of_an_mlp_by_loops():
    """D(x) = sum_j v_j leaky(w_j . x + b_j) + c has dD/dx_i = sum_j v_j leaky'(w_j . x + b_j) w_ji."""
    critic = mlp.Discriminator((2, 3), [4]).double()
    w, b, v, _ = [p.detach().numpy() for p in critic.parameters()]
    real, fake, epsilon = batch((5, 2, 3))
    expected = 0.0
    for x, y, (e,) in zip(real.reshape(5, 6), fake.reshape(5, 6), epsilon.reshape(5, 1)):
        point = [e * p + (1 - e) * q for p, q in zip(x, y)]
        slopes = [1.0 if sum(w[j, i] * point[i] for i in range(6)) + b[j] > 0 else 0.2 for j in range(4)]
        squares = [sum(v[0, j] * slopes[j] * w[j, i] for j in range(4)) ** 2 for i in range(6)]
        expected += (sqrt(sum(squares)) - 1) ** 2 / 5
    assert penalty(critic, (real, fake, epsilon)) == pytest.approx(expected, rel=1e-12)


def test_gradient_penalty_of_a_conv_critic_by_differences():
    """The norm runs over channels, height and width of one sample: each of them moves a pixel, and D's
    difference is the slope."""
    critic = dcgan.Discriminator((2, 8, 8), 2, norm=False).double()
    real, fake, epsilon = batch((3, 2, 8, 8))
    x_hat, h, expected = epsilon * real + (1 - epsilon) * fake, 1e-6, 0.0
    for point in x_hat:
        square = 0.0
        for place in np.ndindex(point.shape):
            moved = np.stack([point, point])
            moved[0][place] += h
            moved[1][place] -= h
            above, below = critic(scratchgan.tensor(moved)).detach().numpy()
            square += ((above - below) / (2 * h)) ** 2
        expected += (sqrt(square) - 1) ** 2 / 3
    assert penalty(critic, (real, fake, epsilon)) == pytest.approx(expected, rel=1e-6)


CRITICS = {"mlp": lambda: mlp.Discriminator((2, 8, 8), [5, 4]),
           "conv": lambda: dcgan.Discriminator((2, 8, 8), 2, norm=False)}


@pytest.mark.parametrize("kind", CRITICS)
def test_derivative_of_the_penalty_in_the_critics_weights(kind):
    """Double backward against a difference quotient along one direction in the space of all weights."""
    critic = CRITICS[kind]().double()
    arrays = batch((3, 2, 8, 8))
    parameters = list(critic.parameters())
    found = scratchgan.grad(wgan_gp.gradient_penalty(critic, *map(scratchgan.tensor, arrays)), parameters)
    rng, h = np.random.default_rng(6), 1e-6
    directions = [rng.standard_normal(p.shape) for p in parameters]
    slope = sum(float((g.numpy() * d).sum()) for g, d in zip(found, directions) if g is not None)
    weights = [p.detach().numpy().copy() for p in parameters]

    def moved_penalty(step: float) -> float:
        moved = [w + step * d for w, d in zip(weights, directions)]
        critic.load_state_dict(dict(zip(dict(critic.named_parameters()), moved)))
        return penalty(critic, arrays)

    assert slope == pytest.approx((moved_penalty(h) - moved_penalty(-h)) / (2 * h), rel=1e-5)


def test_a_critic_of_slope_one_has_no_penalty():
    """D(x) = (x_1 + ... + x_d) / sqrt(d), whatever the batch and epsilon."""
    critic = nn.Linear(16, 1, bias=False).double()
    critic.load_state_dict({"weight": np.full((1, 16), 0.25)})
    assert penalty(critic, batch((4, 16))) == pytest.approx(0.0, abs=1e-15)
