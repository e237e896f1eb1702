"""StyleGAN: sizes of the paper, layers against their plain forms, R1, growing, styles, sampling, resuming."""
from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from torch.nn import functional as TF

import scratchgan
from scratchgan import checkpoint, gans
from scratchgan import functional as F
from scratchgan.backend import Streams
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import stylegan
from scratchgan.recording import no_grad
from tests.reference import stylegan as reference

SMALL = {"width": 3, "max_width": 6, "latent": 5, "mapping_layers": 2, "start": 4, "batch_size": 6,
         "noise_from": 4}
PAPER = {"size": 1024, "width": 16, "max_width": 512, "latent": 512, "mapping_layers": 8, "r1": 10.0, "noise_from": 4,
         "stable_images": 600_000, "fade_images": 600_000, "tanh": False}


def build(edge: int = 16, seed: int = 0, colours: int = 1, double: bool = False, **given) -> stylegan.StyleGAN:
    config = stylegan.Config(**{**SMALL, **given})
    model = stylegan.StyleGAN(Spec((colours, edge, edge), -1.0, 1.0), config, Streams(seed))
    if double:
        for network in (model.generator, model.discriminator, model.ema.module):
            network.double()
    return model


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def pictures(model, seed: int = 0):
    """Endless batches of noise in the range of images."""
    rng, shape = np.random.default_rng(seed), (model.config.batch_size, 1, *[4 << model.growth.last] * 2)
    while True:
        yield np.tanh(rng.standard_normal(shape)).astype(np.float32), None


def at_level(model, level: float):
    """The model, grown so far."""
    growth = model.growth
    growth.stable, growth.fade, growth.first, growth.shown = 0, 1000, 0, round(1000 * level)
    assert growth.level == pytest.approx(min(level, growth.last))
    return model


# Networks

def test_the_papers_networks_have_the_authors_numbers_of_weights():
    """26,219,627 in G and 23,087,249 in D, as the authors' code prints for 1024 pixels (README of
    NVlabs/stylegan; the paper's section 2 says 26.2 M for G)."""
    shape = (3, 1024, 1024)
    config = stylegan.Config(**PAPER)
    channels = stylegan.widths(stylegan.levels("stylegan", shape), config.width, config.max_width)
    assert channels == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    model = stylegan.StyleGAN(Spec(shape, -1.0, 1.0), config, Streams(0))
    counts = [sum(p._array.size for p in network.parameters())
              for network in (model.generator, model.discriminator)]
    assert counts == [26_219_627, 23_087_249]
    assert model.layers == 18 and model.growth.level == 1.0
    shapes = {name: p.shape for name, p in model.generator.named_parameters()}
    assert shapes["synthesis.blocks.7.up.weight"] == (16, 32, 3, 3)
    assert shapes["synthesis.to_rgb.8.weight"] == (3, 16, 1, 1)
    assert sum(name.startswith("mapping") for name in shapes) == 16


@pytest.mark.parametrize("level", [0, 0.5, 1, 2.75, 4])
def test_shapes_at_64_pixels(level):
    model = at_level(build(64, colours=3), level)
    with no_grad():
        image = model.fake(5, level)
        edge = 4 * 2 ** int(np.ceil(level))
        assert image.shape == (5, 3, edge, edge)
        assert model.discriminator(image, level).shape == (5,)
    assert model.sample(2).shape == (2, 3, 64, 64) and model.logits(model.sample(3)).shape == (3,)


def test_the_beginning_is_the_papers():
    """Appendix C: weights of N(0, 1), of N(0, 1 / 0.01^2) in the mapping network; biases and strengths of the
    noise 0, but the biases of y_s are 1."""
    model = build(8, width=64, max_width=64, latent=64)
    for network in (model.generator, model.discriminator):
        for name, p in network.named_parameters():
            values = p.detach().numpy()
            if name.endswith("scale.bias"):
                assert (values == 1).all(), name
            elif name.endswith(("bias", "strength")):
                assert not values.any(), name
            elif values.size > 500:
                std = 100 if name.startswith("mapping") else 1
                assert values.std() == pytest.approx(std, rel=0.1), name


def test_layers_below_noise_from_have_none():
    names = [name for name, _ in build(32, noise_from=16).generator.named_parameters() if "strength" in name]
    assert names == [f"synthesis.blocks.{i}.style{j}.strength" for i in (1, 2) for j in (0, 1)]
    assert sum("strength" in name for name, _ in build(32).generator.named_parameters()) == 8


def test_adain_by_loops():
    x, scale, shift = normal(2, 3, 2, 4), normal(2, 3, seed=1), normal(2, 3, seed=2)
    found = stylegan.adain(*map(scratchgan.tensor, (x, scale, shift))).numpy()
    for n, c in np.ndindex(2, 3):
        pixels = [float(v) for v in x[n, c].ravel()]
        mu = sum(pixels) / 8
        sigma = sqrt(sum((v - mu) ** 2 for v in pixels) / 8 + 1e-8)
        expected = [scale[n, c] * (v - mu) / sigma + shift[n, c] for v in pixels]
        np.testing.assert_allclose(found[n, c].ravel(), expected, rtol=1e-10)


def test_derivatives_of_adain_to_second_order():
    arrays = [normal(2, 2, 3, 2), normal(2, 2, seed=1), normal(2, 2, seed=2)]
    assert gradcheck(stylegan.adain, arrays).ok
    assert gradgradcheck(stylegan.adain, arrays).ok


def plain_up(x, w):
    return reference.bilinear(TF.conv2d(TF.interpolate(x, scale_factor=2), w, padding=1))


def plain_down(x, w):
    return TF.avg_pool2d(TF.conv2d(reference.bilinear(x), w, padding=1), 2)


@pytest.mark.parametrize("layer, plain", [(stylegan.ConvUp, plain_up), (stylegan.ConvDown, plain_down)])
@pytest.mark.parametrize("edge", [2, 6])
def test_folded_convolutions_equal_the_plain_ones(layer, plain, edge):
    """Resampling, convolution and blur one after another, by PyTorch."""
    conv, x = layer(3, 2, 3, bias=False, gain=sqrt(2)).double(), normal(2, 3, edge, edge)
    w = sqrt(2 / 27) * conv.weight.detach().numpy()
    found = conv(scratchgan.tensor(x)).detach().numpy()
    expected = plain(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_blur_by_loops():
    x, taps = normal(1, 1, 3, 4), [0.25, 0.5, 0.25]
    padded = np.pad(x[0, 0], 1)
    expected = [[sum(taps[r] * taps[s] * padded[i + r, j + s] for r in range(3) for s in range(3))
                 for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(stylegan.blur(scratchgan.tensor(x)).numpy()[0, 0], expected, rtol=1e-12)


# The R1 penalty

def discriminator(level: float):
    """A float64 D as a function of images of that level."""
    model = build(16, double=True, colours=2)
    return model.discriminator, lambda x: model.discriminator(x, level)


def penalty(critic, x: np.ndarray) -> scratchgan.Tensor:
    x = scratchgan.tensor(x).requires_grad_()
    return stylegan.r1_penalty(critic(x), x)


@pytest.mark.parametrize("level", [1, 1.5])
def test_r1_by_differences(level):
    """The norm is over channels and pixels of one sample; the mean over samples."""
    _, critic = discriminator(level)
    edge = 4 * 2 ** int(np.ceil(level))
    x, h, square = normal(2, 2, edge, edge), 1e-6, 0.0
    for place in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][place] += h
        moved[1][place] -= h
        above, below = (critic(scratchgan.tensor(m)).sum().item() for m in moved)
        square += ((above - below) / (2 * h)) ** 2
    assert penalty(critic, x).item() == pytest.approx(square / 2, rel=1e-6)


@pytest.mark.parametrize("level", [0, 1.25, 2])
def test_derivative_of_r1_in_the_weights_of_d(level):
    """Double backward through convolutions, resampling and the minibatch's deviation against a difference
    quotient, over a way so short that it meets no kink of a rectifier."""
    network, critic = discriminator(level)
    edge = 4 * 2 ** int(np.ceil(level))
    x = normal(5, 2, edge, edge)
    parameters = list(network.parameters())
    found = scratchgan.grad(penalty(critic, x), parameters)
    rng, h = np.random.default_rng(6), 1e-8
    directions = [rng.standard_normal(p.shape) for p in parameters]
    slope = sum(float((g.numpy() * d).sum()) for g, d in zip(found, directions) if g is not None)
    weights = [p.detach().numpy().copy() for p in parameters]

    def moved(step: float) -> float:
        arrays = [w + step * d for w, d in zip(weights, directions)]
        network.load_state_dict(dict(zip(dict(network.named_parameters()), arrays)))
        return penalty(critic, x).item()

    assert slope == pytest.approx((moved(h) - moved(-h)) / (2 * h), rel=1e-5) and abs(slope) > 1e-6


def test_r1_of_a_linear_critic_is_the_square_of_its_weights():
    w = scratchgan.tensor(normal(6), requires_grad=True)
    x = scratchgan.tensor(normal(3, 6, seed=1), requires_grad=True)
    found = stylegan.r1_penalty(x @ w, x)
    assert found.item() == pytest.approx((normal(6) ** 2).sum(), rel=1e-12)
    np.testing.assert_allclose(scratchgan.grad(found, w)[0].numpy(), 2 * normal(6), rtol=1e-12)


# Growing

@pytest.mark.parametrize("shown, level", [
    (0, 1), (100, 1), (101, 1 + 1 / 50), (125, 1.5), (150, 2), (250, 2), (275, 2.5), (300, 3), (9999, 3)])
def test_the_level_follows_from_the_images_shown(shown, level):
    ours, theirs = stylegan.Growth(1, 3, 100, 50), reference.Growth(1, 3, 100, 50)
    ours.load_state_dict({"shown": shown})
    theirs.shown = shown
    assert ours.level == pytest.approx(level) == pytest.approx(theirs.level())
    assert ours.state_dict() == {"shown": shown}


@pytest.mark.parametrize("stable, fade, shown, level", [
    (0, 0, 0, 3), (10, 0, 0, 0), (10, 0, 9, 0), (10, 0, 10, 1), (10, 0, 25, 2), (0, 10, 0, 0), (0, 10, 15, 1.5)])
def test_growth_without_stages(stable, fade, shown, level):
    ours, theirs = stylegan.Growth(0, 3, stable, fade), reference.Growth(0, 3, stable, fade)
    ours.shown = theirs.shown = shown
    assert ours.level == theirs.level() == level


def test_fading_in_begins_and_ends_smoothly():
    model, tiny = build(16, double=True, mixing=0.0), 1e-9
    with no_grad():
        def image(level):
            model.streams = Streams(5)
            return model.fake(4, level).numpy()

        def verdict(x, level):
            return model.discriminator(scratchgan.tensor(x), level).numpy()

        before, begun, ended, after = (image(level) for level in (1, 1 + tiny, 2 - tiny, 2))
        np.testing.assert_allclose(begun, before.repeat(2, 2).repeat(2, 3), atol=1e-6)
        np.testing.assert_allclose(ended, after, atol=1e-6)
        np.testing.assert_allclose(verdict(begun, 1 + tiny), verdict(before, 1), atol=1e-6)
        np.testing.assert_allclose(verdict(after, 2 - tiny), verdict(after, 2), atol=1e-6)


def test_real_images_are_shrunk_to_the_level():
    x = scratchgan.tensor(normal(1, 1, 8, 8))
    halves = x.numpy().reshape(1, 1, 4, 2, 4, 2).mean((3, 5))
    quarters = halves.reshape(1, 1, 2, 2, 2, 2).mean((3, 5))
    assert stylegan.shrunk(x, 1.0, 1) is x
    np.testing.assert_allclose(stylegan.shrunk(x, 0.0, 1).numpy(), halves)
    np.testing.assert_allclose(stylegan.shrunk(x, 0.25, 2).numpy(),
                               0.25 * halves + 0.75 * quarters.repeat(2, 2).repeat(2, 3))


def test_samples_on_the_way_are_enlarged_pictures():
    model = at_level(build(16), 1.0)
    x = model.sample(3)
    assert x.shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(x, x[:, :, ::2, ::2].repeat(2, 2).repeat(2, 3))
    small = x[:, :, ::2, ::2]
    assert not np.array_equal(small, small[:, :, ::2, ::2].repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize("level, without", [
    (0.5, {"to_rgb.2", "from_rgb.2", "blocks.1"}), (1, {"to_rgb.0", "to_rgb.2", "from_rgb.0", "from_rgb.2",
                                                       "blocks.1"}),
    (2, {"to_rgb.0", "to_rgb.1", "from_rgb.0", "from_rgb.1"}), (1.5, {"to_rgb.0", "from_rgb.0"})])
def test_what_has_no_gradient_is_what_other_levels_use(level, without):
    model = at_level(build(16), level)
    model.growth.shown -= 6 * model.growth.batches
    model.step(pictures(model))
    for network in (model.generator.synthesis, model.discriminator):
        for name, p in network.named_parameters():
            expected = not any(name.startswith(f"{prefix}.") for prefix in without)
            found = p.grad is not None and bool(np.abs(p.grad.numpy()).max() > 0)
            assert found == expected, name
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in model.generator.mapping.parameters())


def test_minibatches_double_with_each_halving():
    model = at_level(build(16), 0.0)
    found = [at_level(model, level).growth.batches for level in (0, 0.4, 1, 1.5, 2)]
    assert found == [4, 2, 2, 1, 1]
    at_level(model, 0.0).step(pictures(model))
    assert model.growth.shown == 4 * model.config.batch_size


# Styles

def test_mixed_styles_change_latent_at_one_layer():
    model = build(16, mixing=1.0)
    z = model.streams.state_dict()
    w = np.stack([a.detach().numpy() for a in model.styles(50, 6)])             # (layers, n, latent)
    model.streams.load_state_dict(z)
    first, second = (a.detach().numpy() for a in F.chunk(model.generator.mapping(model.noise(100)), 2))
    changes = set()
    for i in range(50):
        of_first = [np.array_equal(w[layer, i], first[i]) for layer in range(6)]
        crossover = sum(of_first)
        assert of_first == [layer < crossover for layer in range(6)]
        np.testing.assert_array_equal(w[crossover:, i], second[[i] * (6 - crossover)])
        changes.add(crossover)
    assert changes == {1, 2, 3, 4, 5}


def test_share_of_mixed_images():
    model = build(16, mixing=0.25)
    w = np.stack([a.detach().numpy() for a in model.styles(2000, 6)])
    assert (w[0] != w[-1]).any(axis=1).mean() == pytest.approx(0.25, abs=0.04)
    w = np.stack([a.detach().numpy() for a in build(16, mixing=0.0).styles(20, 6)])
    assert (w == w[0]).all()


def test_the_mean_of_w_is_tracked():
    model = build(16, mixing=0.0, mean_decay=0.9)
    expected = np.zeros(5)
    for _ in range(3):
        w = model.styles(4, 6)[0].detach().numpy()
        expected = 0.9 * expected + 0.1 * w.mean(axis=0)
    np.testing.assert_allclose(model.generator.w_mean.numpy(), expected, rtol=1e-5)
    model.ema.update()
    np.testing.assert_array_equal(model.ema.module.w_mean.numpy(), model.generator.w_mean.numpy())


# Sampling

@pytest.fixture(scope="module")
def trained():
    model = build(16, stable_images=6, fade_images=12, lr=0.01)     # from 4 pixels on: minibatches of 24, 12, 6
    batches = pictures(model)
    for _ in range(8):
        model.step(batches)
    assert model.growth.level == 2
    return model


def test_one_latent_one_picture(trained):
    z, state = normal(5, 5), trained.streams.state_dict()
    x = trained.generate(z)
    np.testing.assert_array_equal(trained.generate(z), x)
    np.testing.assert_allclose(trained.generate(z[3:4]), x[3:4], atol=1e-5)
    np.testing.assert_array_equal(trained.synthesise(trained.map(z)), x)
    assert trained.streams.state_dict() == state and abs(x).max() <= 1
    assert not np.array_equal(trained.generate(z, averaged=False), x)
    with pytest.raises(UserError, match="not conditional"):
        trained.generate(z, np.zeros(5, int))


def test_truncation_draws_w_towards_its_mean(trained):
    z, mean = normal(4, 5), trained.generator.w_mean.numpy()
    full = trained.map(z)
    np.testing.assert_allclose(trained.map(z, truncation=0.7), mean + 0.7 * (full - mean), rtol=1e-4, atol=1e-6)
    x = trained.generate(z, truncation=0.0)
    np.testing.assert_allclose(x, x[[0] * 4], atol=1e-6)
    assert not np.allclose(trained.generate(z), x, atol=1e-3)
    np.testing.assert_array_equal(trained.sample(4, np.random.default_rng(0), truncation=0.0), x)


def test_mixing_takes_coarse_styles_from_one_and_fine_ones_from_the_other(trained):
    a, b = normal(3, 5), normal(3, 5, seed=1)
    w = np.repeat(trained.map(a)[:, None], 6, axis=1)
    w[:, 2:] = trained.map(b)[:, None]
    np.testing.assert_array_equal(trained.mix(a, b, at=2), trained.synthesise(w))
    np.testing.assert_allclose(trained.mix(a, a), trained.generate(a), atol=1e-5)
    assert not np.allclose(trained.mix(a, b), trained.generate(a), atol=1e-3)
    for at in (0, 6):
        with pytest.raises(UserError, match=f"layer {at}, expected a number from 1 to 5"):
            trained.mix(a, b, at=at)


def test_interpolation_is_a_line_in_w(trained):
    a, b = normal(3, 5), normal(3, 5, seed=1)
    t = np.array([0.0, 0.3, 1.0])
    w = (1 - t)[:, None] * trained.map(a) + t[:, None] * trained.map(b)
    x = trained.interpolate(a, b, t)
    np.testing.assert_allclose(x, trained.synthesise(w.astype(np.float32)), atol=1e-4)
    np.testing.assert_allclose(x[0], trained.generate(a)[0], atol=1e-5)
    np.testing.assert_allclose(x[2], trained.generate(b)[2], atol=1e-4)


# Stopping and going on

def arrays(model) -> dict[str, np.ndarray]:
    return {f"{part} {key}": value.numpy().copy() for part in ("generator", "discriminator")
            for key, value in model.parts()[part].state_dict().items()}


def test_resumed_bit_for_bit_while_it_grows(tmp_path):
    """Eight steps, the 16 pixels being reached on the way, stopped and restored after three."""
    given = {"stable_images": 6, "fade_images": 36, "lr": 0.01}
    whole = build(16, **given)
    batches = pictures(whole)
    expected = [whole.step(batches) for _ in range(8)]
    first = build(16, **given)
    batches = pictures(first)
    found = [first.step(batches) for _ in range(3)]
    state = {"parts": {name: part.state_dict() for name, part in first.parts().items()}}
    checkpoint.save(tmp_path / "checkpoint", 3, state)
    streams, x = first.streams.state_dict(), first.sample(4, np.random.default_rng(1))
    second = build(16, seed=7, **given)
    saved = checkpoint.load(tmp_path / "checkpoint")
    checkpoint.restore(second.parts(), saved.state["parts"], saved.path)
    second.streams.load_state_dict(streams)
    np.testing.assert_array_equal(second.sample(4, np.random.default_rng(1)), x)
    found += [second.step(batches) for _ in range(5)]
    assert found == expected and expected[2]["level"] < expected[-1]["level"] == 2
    for name, value in arrays(whole).items():
        np.testing.assert_array_equal(arrays(second)[name], value, err_msg=name)


# Settings and data

@pytest.mark.parametrize("shape", [(2,), (1, 4, 4), (1, 28, 28), (1, 16, 8), (3, 48, 48)])
def test_data_of_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="stylegan: data of shape .* expected square images"):
        gans.get("stylegan")(Spec(shape, -1.0, 1.0), stylegan.Config(), Streams(0))


@pytest.mark.parametrize("start", [0, 2, 6, 32])
def test_first_pictures_of_other_sizes_are_refused(start):
    with pytest.raises(UserError, match=f"start={start}: expected 4, 8, 16 ... up to the data's 16 pixels"):
        build(16, start=start)


@pytest.mark.parametrize("wrong", [{"mixing": 1.1}, {"r1": -1.0}, {"width": 0}, {"mapping_lr": 0.0},
                                   {"fade_images": -1}, {"betas": (0.0, 1.0)}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
        stylegan.Config(**wrong)
