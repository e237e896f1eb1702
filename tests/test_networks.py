"""The networks in `nets/` against twins made of torch.nn, through one state_dict: outputs, running statistics
and all gradients."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import scratchgan
from scratchgan.errors import UserError
from scratchgan.nets import dcgan, mlp


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def up(above: int, below: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(above, below, 4, 2, 1, bias=False), nn.BatchNorm2d(below), nn.ReLU()]


def down(above: int, below: int) -> nn.Conv2d:
    return nn.Conv2d(above, below, 4, 2, 1)


def first(latent: int, channels: int, base: int) -> list[nn.Module]:
    return [nn.Unflatten(1, (latent, 1, 1)), nn.ConvTranspose2d(latent, channels, base, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU()]


def last(width: int, colours: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(width, colours, 4, 2, 1), nn.Tanh()]


# name: the network, its twin layer by layer, the shape of an input
TWINS = {
    "mlp generator": (
        lambda: mlp.Generator(5, (1, 3, 4), [8, 6], bounded=True, norm=True),
        [nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(),
         nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(),
         nn.Linear(6, 12), nn.Tanh(), nn.Unflatten(1, (1, 3, 4))],
        (7, 5)),
    "mlp generator of points": (
        lambda: mlp.Generator(2, (2,), [8, 6], bounded=False, norm=False),
        [nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)],
        (7, 2)),
    "mlp discriminator": (
        lambda: mlp.Discriminator((1, 3, 4), [8, 6]),
        [nn.Flatten(), nn.Linear(12, 8), leaky(), nn.Linear(8, 6), leaky(), nn.Linear(6, 1), nn.Flatten(0)],
        (7, 1, 3, 4)),
    "generator 8": (
        lambda: dcgan.Generator(5, (1, 8, 8), 3),
        [*first(5, 3, 4), *last(3, 1)],
        (6, 5)),
    "generator 28": (
        lambda: dcgan.Generator(5, (1, 28, 28), 3),
        [*first(5, 6, 7), *up(6, 3), *last(3, 1)],
        (6, 5)),
    "generator 64": (
        lambda: dcgan.Generator(5, (3, 64, 64), 2),
        [*first(5, 16, 4), *up(16, 8), *up(8, 4), *up(4, 2), *last(2, 3)],
        (3, 5)),
    "discriminator 8": (
        lambda: dcgan.Discriminator((1, 8, 8), 3, norm=True),
        [down(1, 3), leaky(), nn.Conv2d(3, 1, 4), nn.Flatten(0)],
        (6, 1, 8, 8)),
    "discriminator 28": (
        lambda: dcgan.Discriminator((1, 28, 28), 3, norm=True),
        [down(1, 3), leaky(), nn.Conv2d(3, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), leaky(),
         nn.Conv2d(6, 1, 7), nn.Flatten(0)],
        (6, 1, 28, 28)),
    "critic 32": (
        lambda: dcgan.Discriminator((3, 32, 32), 2, norm=False),
        [down(3, 2), leaky(), down(2, 4), leaky(), down(4, 8), leaky(), nn.Conv2d(8, 1, 4), nn.Flatten(0)],
        (3, 3, 32, 32)),
}


def twins(name: str):
    """A network, its twin with the same weights, and an input."""
    make, layers, shape = TWINS[name]
    network, twin = make().double(), nn.Sequential(*layers).double()
    with_state = [layer for layer in twin if layer.state_dict()]
    places = sorted({int(key.split(".")[1]) for key in network.state_dict()})
    for place, layer in zip(places, with_state, strict=True):
        prefix = f"layers.{place}."
        layer.load_state_dict({key.removeprefix(prefix): torch.from_numpy(value.numpy().copy())
                               for key, value in network.state_dict().items() if key.startswith(prefix)})
    return network, twin, np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("name", TWINS)
def test_outputs_and_gradients(name):
    network, twin, x = twins(name)
    ours, theirs = scratchgan.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = network(ours), twin(theirs)
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=0, atol=1e-12)
    weights = np.random.default_rng(1).standard_normal(y.shape)
    (y * scratchgan.tensor(weights)).sum().backward()
    (expected * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=0, atol=1e-10)
    for p, q in zip(network.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in TWINS if "generator" in n])
def test_evaluation_uses_the_running_statistics(name):
    network, twin, x = twins(name)
    network(scratchgan.tensor(x)), twin(torch.from_numpy(x))
    network.eval(), twin.eval()
    with torch.no_grad():
        expected = twin(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(network(scratchgan.tensor(x)).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_dropout_stands_after_each_hidden_layer():
    kinds = [type(layer).__name__ for layer in mlp.Discriminator((2,), [4, 3], dropout=0.3).layers]
    assert kinds == ["Linear", "LeakyReLU", "Dropout", "Linear", "LeakyReLU", "Dropout", "Linear"]


@pytest.mark.parametrize("size, expected", [
    (8, (4, 1)), (14, (7, 1)), (28, (7, 2)), (32, (4, 3)), (64, (4, 4)), (20, (5, 2))])
def test_geometry(size, expected):
    assert dcgan.geometry((3, size, size)) == expected


@pytest.mark.parametrize("shape", [(1, 30, 30), (1, 7, 7), (1, 25, 25), (3, 32, 28), (2,)])
def test_geometry_refuses(shape):
    with pytest.raises(UserError, match="dcgan networks: .* expected"):
        dcgan.geometry(shape)
