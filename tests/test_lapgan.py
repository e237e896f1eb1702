"""LAPGAN: the pyramid is inverted, levels learn by themselves, samples come from coarse to fine, and the
paper's networks can be had."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import scratchgan
from scratchgan import gans
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import lapgan

SMALL = {"g_width": 4, "g_kernels": (3, 3, 3), "d_width": 4, "latent": 6, "coarse_g_widths": (16, 16),
         "coarse_d_widths": (16, 16), "edges": (10, 4), "batch_size": 8, "size": 20, "updates": (1,)}
SPEC = Spec((1, 20, 20), -1.0, 1.0, classes=3)


def build(spec: Spec = SPEC, seed: int = 0, **given) -> lapgan.LAPGAN:
    return lapgan.LAPGAN(spec, gans.configure("lapgan", **{**SMALL, **given}), Streams(seed))


def batches(spec: Spec = SPEC, n: int = 8):
    rng = np.random.default_rng(0)
    while True:
        yield rng.uniform(-1, 1, (n, *spec.shape)).astype(np.float32), rng.integers(3, size=n)


# The pyramid

@pytest.mark.parametrize("shape, edges", [
    ((2, 1, 32, 32), (16, 8)), ((3, 3, 28, 28), (14, 8)), ((1, 3, 96, 96), (64, 32, 16, 8)),
    ((2, 2, 17, 17), (9, 4, 1)), ((1, 1, 64, 64), (32, 16, 8, 4))])
def test_the_pyramid_is_inverted_to_rounding(shape, edges):
    """(I - u) + u loses what one subtraction and one addition round off: 1 unit in the last place of each."""
    image = np.random.default_rng(0).uniform(-1, 1, shape)
    bands = lapgan.laplacian(scratchgan.tensor(image), edges)
    assert [b.shape[-1] for b in bands] == [shape[-1], *edges]
    found = lapgan.collapse(bands).numpy()
    np.testing.assert_allclose(found, image, rtol=0, atol=2 * np.finfo(float).eps * len(edges))
    assert abs(bands[0].numpy()).max() > 0.1, "there was something to invert"


def test_pictures_of_whole_numbers_are_inverted_to_the_bit():
    """Of 8 bits and edges that are halved, with weights of eighths in d inside: nothing rounds in float64."""
    image = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32)).astype(float)
    bands = lapgan.laplacian(scratchgan.tensor(image), (16, 8))
    assert (lapgan.collapse(bands).numpy().round() == image).all()
    whole = scratchgan.tensor(image)
    low = scratchgan.tensor(np.round(lapgan.up(lapgan.down(whole, 16), 32).numpy()))
    assert ((low + (whole - low)).numpy() == image).all()


def test_bands_by_loops():
    """Equation (3) for one level: d is a mean under a triangle of width 4, u interpolates between neighbours
    a quarter of a pixel away."""
    n, image = 8, np.random.default_rng(2).standard_normal((8, 8))

    def along(values, weights):
        inside = [(j, w) for j, w in weights if 0 <= j < len(values)]
        return sum(w * values[j] for j, w in inside) / sum(w for _, w in inside)

    def d(values):
        taps = ((-1, 1), (0, 3), (1, 3), (2, 1))
        return [along(values, [(2 * i + j, w) for j, w in taps]) for i in range(n // 2)]

    def u(values):
        return [along(values, [(i // 2, 3), (i // 2 + (1 if i % 2 else -1), 1)]) for i in range(n)]

    def both(one, image):
        rows = [one(row) for row in image]
        return np.array([one(column) for column in zip(*rows)]).T

    coarse = both(d, image)
    low = both(u, coarse)
    images = lapgan.gaussian(scratchgan.tensor(image[None, None]), (4,))
    found, given = lapgan.band(images, 0)
    for array, expected in ((images[1], coarse), (given[0], low), (found, image - low)):
        np.testing.assert_allclose(array.numpy()[0, 0], expected, rtol=0, atol=1e-14)
    assert lapgan.band(images, 1) == (images[1], ())


def test_flat_images_have_no_bands():
    bands = lapgan.laplacian(scratchgan.tensor(np.full((1, 1, 28, 28), -1.0)), (14, 8))
    assert all(abs(b.numpy()).max() < 1e-15 for b in bands[:-1])
    assert abs(bands[-1].numpy() + 1).max() < 1e-15


# The game

def test_the_losses_are_equation_2_at_every_level_by_loops():
    """Of the first step: log D(h, l) and log(1 - D(G(z, l), l)) summed sample by sample, by the networks one
    by one."""
    model, twin = build(d_dropout=0.0), build(d_dropout=0.0)
    x, _ = next(batches())
    found = model.step(iter([(x, None)]))
    images, total = lapgan.gaussian(scratchgan.tensor(x), twin.config.edges), 0.0
    for k, edge in enumerate((20, 10, 4)):
        G, (h, on) = twin.generator.levels[k], lapgan.band(images, k)
        z = twin.streams["noise"].uniform(-1, 1, (len(x), (400, 100, 6)[k])).astype(np.float32)
        fake = G(scratchgan.tensor(z), *on)
        D = twin.discriminator.levels[k]
        logits = [D(side, *on).detach().numpy().tolist() for side in (h, fake)]
        loss = -sum(math.log(1 / (1 + math.exp(-r))) + math.log(1 - 1 / (1 + math.exp(-f)))
                    for r, f in zip(*logits)) / len(x)
        assert found[f"loss_d_{edge}"] == pytest.approx(loss, rel=1e-5)
        total += loss
    assert found["loss_d"] == pytest.approx(total, rel=1e-5)


def test_levels_learn_by_themselves():
    """G_k and D_k move as they would if the other levels' were others."""
    def trained(seed_of_coarse: int) -> dict[str, np.ndarray]:
        model = build(d_dropout=0.0)
        other = build(seed=seed_of_coarse, d_dropout=0.0)
        for side in ("generator", "discriminator"):
            mine, theirs = getattr(model, side).levels, getattr(other, side).levels
            mine[2].load_state_dict(theirs[2].state_dict())
            mine[1].load_state_dict(theirs[1].state_dict())
        it = batches()
        for _ in range(3):
            model.step(it)
        return {f"{side} {key}": value.numpy() for side in ("generator", "discriminator")
                for key, value in getattr(model, side).state_dict().items() if key.startswith("levels.0.")}

    np.testing.assert_equal(trained(5), trained(6))


def test_levels_are_updated_as_often_as_asked():
    model, updates = build(updates=(1, 3)), []
    assert [len(r) for r in model.rounds()] == [2, 2, 3]
    for side in (model.generator, model.discriminator):
        for k, level in enumerate(side.levels):
            weight = next(iter(level.parameters()))
            updates.append((k, weight))
    model.step(batches())
    states = {**model.optimizer_g.state, **model.optimizer_d.state}
    assert [states[weight]["step"] for _, weight in updates] == [1, 3, 3, 1, 3, 3]


def test_d_adds_the_low_pass_image_to_the_band():
    """What D_k says depends on h + l alone; what D_K says, on the image."""
    model = build(d_dropout=0.0)
    rng = np.random.default_rng(0)
    h, low, moved = (scratchgan.tensor(rng.standard_normal((2, 1, 20, 20)).astype(np.float32))
                     for _ in range(3))
    D = model.discriminator.levels[0]
    same = D(h - moved, low + moved).detach().numpy()
    np.testing.assert_allclose(D(h, low).detach().numpy(), same, atol=1e-5)


def test_d_joined_tells_the_band_from_the_low_pass_image():
    """With d_joined, what one of both says counts apart from the other."""
    D = build(d_dropout=0.0, d_joined=True).discriminator.levels[0]
    rng = np.random.default_rng(0)
    h, low, moved = (scratchgan.tensor(rng.standard_normal((2, 1, 20, 20)).astype(np.float32))
                     for _ in range(3))
    assert abs(D(h, low) - D(h - moved, low + moved)).detach().numpy().max() > 1e-2


@pytest.mark.parametrize("edge", [10, 14, 16, 17, 28, 32])
def test_d_sees_every_pixel(edge):
    """Without padding, as the authors' D_k, it never sees the last row and column of an even edge."""
    for padding, seen in ((1, True), (0, edge % 2 == 1)):
        D = lapgan.FineDiscriminator(1, edge, 8, padding, 0, 0.0, False)
        pixels = np.random.default_rng(0).standard_normal((4, 1, edge, edge)).astype(np.float32)
        image = scratchgan.tensor(pixels, requires_grad=True)
        slope, = scratchgan.grad(D(image, scratchgan.zeros(4, 1, edge, edge)).sum(), image)
        reached = np.abs(slope.numpy()).max(axis=(0, 1)) > 0
        assert reached[:-1, :-1].all() and reached[-1].all() == reached[:, -1].all() == seen


def test_logits_are_the_sum_over_levels():
    model, (x, y) = build(class_conditional=True), next(batches())
    c = scratchgan.tensor(np.eye(3, dtype=np.float32)[y])
    expected = 0.0
    with gans.sampling.evaluating(model.discriminator) as D:
        image = scratchgan.tensor(x)
        for k, edge in enumerate((10, 4)):
            below = lapgan.down(image, edge)
            low = lapgan.up(below, image.shape[-1])
            expected = expected + D.levels[k](image - low, low, c).numpy()
            image = below
        expected = expected + D.levels[2](image, c).numpy()
    np.testing.assert_allclose(model.logits(x, y), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model.logits(x, y), model.logits(x, (y + 1) % 3))


# Samples

def test_samples_are_equation_5():
    model = build()
    z = model.prior(np.random.default_rng(3), 5)
    assert z.shape == (5, 400 + 100 + 6) and -1 <= z.min() < -0.9 and 0.9 < z.max() <= 1
    with gans.sampling.evaluating(model.generator) as G:
        z0, z1, z2 = (scratchgan.tensor(part.astype(np.float32)) for part in np.split(z, [400, 500], axis=1))
        low = lapgan.up(G.levels[2](z2), 10)
        low = lapgan.up(low + G.levels[1](z1, low), 20)
        expected = (low + G.levels[0](z0, low)).numpy().clip(-1, 1)
    np.testing.assert_allclose(model.generate(z, averaged=False), expected, rtol=0, atol=1e-6)


def test_noise_of_every_level_changes_the_sample():
    model = build()
    z = model.prior(np.random.default_rng(3), 1)
    for part in (slice(0, 400), slice(400, 500), slice(500, 506)):
        moved = z.copy()
        moved[:, part] *= -1
        assert np.abs(model.generate(moved) - model.generate(z)).max() > 1e-3


def test_samples_stay_in_the_range_of_the_data():
    for bounded in (True, False):
        model = build(g_bounded=bounded)
        with scratchgan.no_grad():
            model.ema.module.levels[0].layers[-1].bias.fill_(5.0)
        x = model.sample(3, np.random.default_rng(0))
        assert x.max() == 1 and x.min() > 1 - 1e-6


def test_bounded_bands_stay_within_what_the_data_have_left():
    for bounded in (True, False):
        G = build(g_bounded=bounded).generator.levels[0]
        rng = np.random.default_rng(0)
        z, low = rng.uniform(-1, 1, (4, 400)), rng.uniform(-1, 1, (4, 1, 20, 20))
        with scratchgan.no_grad():
            G.layers[-1].bias.fill_(0.9)
            image = low + G(*(scratchgan.tensor(a.astype(np.float32)) for a in (z, low))).numpy()
        assert (image.max() <= 1 + 1e-6) == bounded and image.min() >= -1 - 1e-6


def test_the_class_reaches_every_level_and_both_players():
    model, (x, y) = build(class_conditional=True), next(batches())
    model.step(iter([(x, y)]))
    for side in (model.generator, model.discriminator):
        for k in (0, 1):
            assert np.abs(side.levels[k].plane.linear.weight.grad.numpy()).max() > 0
    assert model.conditioned_on == "labels" and build().conditioned_on is None
    z = model.prior(np.random.default_rng(0), 4)
    zeros, ones = (model.generate(z, given=np.full(4, label)) for label in (0, 1))
    assert np.abs(zeros - ones).max() > 1e-3
    with pytest.raises(UserError, match="class 3, expected 0 to 2"):
        model.generate(z, given=np.full(4, 3))
    with pytest.raises(UserError, match="not conditional"):
        build().sample(4, given=np.zeros(4, int))


# The paper's networks. Numbers of weights without biases, as the authors' scripts print them, worked out from
# the layers in these: train_cifar.lua with 1200 and 600 units, train_cifar_coarse_to_fine.lua at its default
# of 128.

PAPER = {"coarse_g_widths": (1200, 1200), "coarse_d_widths": (600, 600), "g_width": 128, "d_width": 128,
         "g_kernels": (7, 7, 5), "g_bounded": False, "d_padding": 0, "g_norm": False,
         "coarse_g_norm": False, "edges": (16, 8),
         "batch_size": 2}
COLOURS = Spec((3, 32, 32), -1.0, 1.0, classes=10)


def weights(module) -> int:
    return sum(p.numel() for key, p in module.named_parameters() if key.endswith("weight"))


def test_the_papers_networks_have_the_authors_numbers_of_weights():
    model = build(COLOURS, **PAPER, latent=100, size=32)
    G, D = model.generator.levels, model.discriminator.levels
    assert [weights(g) for g in G] == [837_504, 837_504, 1_790_400]
    assert [weights(d) for d in D] == [437_632, 9_600 + 409_600 + 128 * 4 * 4, 475_800]
    biases = sum(p.numel() for p in model.generator.parameters()) - sum(weights(g) for g in G)
    assert biases == 2 * (128 + 128 + 3) + 1200 + 1200 + 192


def test_the_papers_class_conditional_networks():
    model = build(COLOURS, **PAPER, latent=100, size=32, class_conditional=True)
    G, D = model.generator.levels, model.discriminator.levels
    plane = 10 * 32 * 32
    assert weights(G[0]) == plane + 5 * 128 * 49 + 128 * 128 * 49 + 128 * 3 * 25
    assert weights(D[0]) == plane + 4 * 128 * 25 + 128 * 128 * 25 + 128 * 12 * 12
    assert weights(G[2]) == 1_790_400 + 10 * 1200 and weights(D[2]) == 475_800 + 10 * 600


@pytest.mark.parametrize("size, edges", [(28, (14, 8)), (96, (64, 32, 16, 8)), (64, (32, 16, 8, 4))],
                         ids=["CIFAR-10", "STL-10", "LSUN"])
def test_the_papers_pyramids(size, edges):
    spec = Spec((3, size, size), -1.0, 1.0)
    model = build(spec, **{**PAPER, "edges": edges, "g_width": 4, "d_width": 4, "d_padding": 1}, latent=100,
                  size=size)
    assert model.sample(2, np.random.default_rng(0)).shape == (2, 3, size, size)
    assert model.logits(np.zeros((2, 3, size, size), np.float32)).shape == (2,)


@pytest.mark.parametrize("spec, given, message", [
    (Spec((2,), -np.inf, np.inf), {}, "expected square images"),
    (Spec((1, 20, 16), -1.0, 1.0), {}, "expected square images"),
    (Spec((1, 8, 8), -1.0, 1.0), {}, r"edges=\(10, 4\) of images of 8 pixels: expected ever smaller"),
    (SPEC, {"edges": (8, 4), "d_padding": 0}, "all but the last at least 9"),
    (SPEC, {"edges": (10, 10)}, "ever smaller"),
    (Spec((1, 20, 20), -1.0, 1.0), {"class_conditional": True}, "has no labels|no classes|labels")])
def test_data_that_it_cannot_do(spec, given, message):
    with pytest.raises(UserError, match=message) as error:
        build(spec, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong, message", [
    ({"g_kernels": (4, 3)}, "expected odd"), ({"edges": ()}, "edges="), ({"d_dropout": 1.0}, "d_dropout=1.0"),
    ({"batch_size": 1}, "batch_size=1: batch normalisation")])
def test_settings_out_of_range(wrong, message):
    with pytest.raises(UserError, match=message):
        gans.configure("lapgan", **wrong)


def test_down_and_up_are_pytorchs():
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 17))
    kw = {"mode": "bilinear", "align_corners": False}
    smaller = torch.nn.functional.interpolate(torch.from_numpy(x), (8, 8), antialias=True, **kw)
    larger = torch.nn.functional.interpolate(torch.from_numpy(x), (30, 30), **kw)
    for found, expected in ((lapgan.down(scratchgan.tensor(x), 8), smaller),
                            (lapgan.up(scratchgan.tensor(x), 30), larger)):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-12)
