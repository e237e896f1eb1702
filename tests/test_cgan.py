"""The conditional GAN: the paper's networks, its formulas by scalar loops, and what it refuses."""
from __future__ import annotations

from math import exp, log, tanh

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import scratchgan
from scratchgan import gans
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import cgan
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import constant, one_hot

MNIST = Spec((1, 28, 28), -1.0, 1.0, 10)
N, LATENT, CLASSES = 5, 3, 4


def count(network) -> int:
    return sum(p.detach().numpy().size for p in network.parameters())


def test_the_papers_networks():
    """Section 4.1: z -> 200 and y -> 1000 rectifiers, 1200 joint ones, 784 pixels; x -> 240 maxout units and
    y -> 50 of 5 pieces, 240 joint ones of 4, one logit."""
    model = gans.get("cgan")(MNIST, cgan.Config(**cgan.PAPER), Streams(0))
    assert count(model.generator) == 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784 == 2_413_984
    assert count(model.discriminator) == (
        785 * 240 * 5 + 11 * 50 * 5 + 291 * 240 * 4 + 241) == 1_224_351
    x, labels = model.sample(3), np.array([0, 9, 4])
    assert x.shape == (3, 1, 28, 28) and model.logits(x, labels).shape == (3,)


def test_the_convolutional_form_is_the_dcgan_with_y_beside_its_inputs():
    """A weight of G's first layer and of D's more for each class, channel and place in the kernel."""
    spec = Spec((1, 32, 32), -1.0, 1.0, 10)
    config = {"g_width": 8, "d_width": 8, "latent": 20}
    with_y = gans.get("cgan")(spec, cgan.Config(**config), Streams(0))
    without = gans.get("dcgan")(spec, gans.configure("dcgan", **config), Streams(0))
    assert count(with_y.generator) - count(without.generator) == 10 * (4 * 8) * 4 * 4
    assert count(with_y.discriminator) - count(without.discriminator) == 10 * 8 * 4 * 4


def arrays():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 2, 3)), rng.uniform(-1, 1, (N, LATENT)), rng.integers(CLASSES, size=N)


def weights(layer) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def affine(layer, x: list[float]) -> list[float]:
    w, b = weights(layer)
    return [sum(w[i, j] * x[j] for j in range(len(x))) + b[i] for i in range(len(b))]


def maxout(layer, x: list[float]) -> list[float]:
    values, k = affine(layer.linear, x), layer.pieces
    return [max(values[i * k + j] for j in range(k)) for i in range(len(values) // k)]


def unit(label: int) -> list[float]:
    return [1.0 if k == label else 0.0 for k in range(CLASSES)]


def test_equation_2_of_the_mlps_by_loops():
    """E log D(x|y) + E log(1 - D(G(z|y))), each product and rectifier by itself."""
    G = cgan.Generator(LATENT, CLASSES, (2, 3), (4, 3, 5), 0.0, bounded=True).double()
    D = cgan.Discriminator((2, 3), CLASSES, (3, 2, 4), (3, 2), 0.0).double()
    x, z, labels = arrays()

    def logit(sample, label):
        joint = maxout(D.of_x, sample) + maxout(D.of_y, unit(label))
        return affine(D.last, maxout(D.joint, joint))[0]

    def made(noise, label):
        hidden = [max(v, 0) for v in affine(G.of_z, noise) + affine(G.of_y, unit(label))]
        return [tanh(v) for v in affine(G.last, [max(v, 0) for v in affine(G.joint, hidden)])]

    expected = sum(log(1 / (1 + exp(-logit(s.ravel(), label)))) for s, label in zip(x, labels)) / N
    expected += sum(log(1 - 1 / (1 + exp(-logit(made(v, label), label)))) for v, label in zip(z, labels)) / N
    y = constant(one_hot(labels, CLASSES), G)
    found = value(D(scratchgan.tensor(x), y), D(G(scratchgan.tensor(z), y), y))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_convolutional_d_sees_constant_maps_of_the_class():
    D = cgan.ConvDiscriminator((1, 8, 8), 3, 2).double().eval()
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8))
    maps = np.zeros((2, 4, 8, 8))
    maps[:, 0], maps[0, 1 + 2], maps[1, 1 + 0] = x[:, 0], 1, 1
    found = D(scratchgan.tensor(x), constant(one_hot(np.array([2, 0]), 3), D)).detach().numpy()
    np.testing.assert_array_equal(found, D.network(scratchgan.tensor(maps)).detach().numpy())


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_and_their_gradients_at_any_logits_are_pytorchs(scale):
    real, fake = (scale * np.random.default_rng(k).uniform(-1, 1, N) for k in (0, 1))
    ours = [scratchgan.tensor(a, requires_grad=True) for a in (real, fake)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (real, fake)]
    one, zero = torch.ones(N).double(), torch.zeros(N).double()
    pairs = [(-value(*ours), cross_entropy(theirs[0], one) + cross_entropy(theirs[1], zero), 2),
             (non_saturating_loss(ours[1]), cross_entropy(theirs[1], one), 1)]
    for loss, expected, inputs in pairs:
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
        found = scratchgan.grad(loss, ours[-inputs:])
        for a, b in zip(found, torch.autograd.grad(expected, theirs[-inputs:]), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-16)


def test_logits_without_a_class_are_their_mean_over_all():
    model = gans.get("cgan")(Spec((2,), -np.inf, np.inf, 8), gans.configure("cgan", data="ring"), Streams(0))
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    each = [model.logits(x, np.full(6, k)) for k in range(8)]
    assert np.ptp(each, axis=0).min() > 1e-4, "D tells classes apart"
    np.testing.assert_allclose(model.logits(x), np.mean(each, axis=0), rtol=1e-6)


@pytest.mark.parametrize("form", cgan.FORMS)
def test_samples_depend_on_the_class_and_on_z(form):
    model = gans.get("cgan")(Spec((1, 8, 8), -1.0, 1.0, 3), cgan.Config(form=form, g_width=4, d_width=4),
                             Streams(0))
    z = model.prior(np.random.default_rng(0), 2)
    x = model.generate(z[[0, 0, 1]], np.array([1, 2, 1]))
    assert np.abs(z).max() <= 1 and min(abs(x[0] - x[1]).max(), abs(x[0] - x[2]).max()) > 1e-4
    np.testing.assert_allclose(model.generate(z[:1], np.array([1])), x[:1], rtol=1e-5, atol=1e-6)


def test_data_without_labels_and_unknown_forms_are_refused():
    with pytest.raises(UserError, match="cgan: the data have no labels"):
        gans.get("cgan")(Spec((1, 8, 8), -1.0, 1.0), cgan.Config(), Streams(0))
    with pytest.raises(UserError, match="dcgan networks: .* expected square images"):
        gans.get("cgan")(Spec((2,), -np.inf, np.inf, 8), cgan.Config(), Streams(0))
    for wrong, message in (({"form": "conv"}, "form=conv: expected convolutional or mlp"),
                           ({"d_pieces": (0, 4)}, r"d_pieces=\(0, 4\): expected numbers of at least 1"),
                           ({"dropout": 1.0}, "dropout=1.0: expected a number")):
        with pytest.raises(UserError, match=message):
            gans.configure("cgan", **wrong)
