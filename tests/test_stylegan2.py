"""StyleGAN2: modulated convolutions against per-image weights, path lengths against Jacobians, laziness, the
authors' numbers of parameters, sampling by way of w."""
from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

import scratchgan
from scratchgan import functional as F
from scratchgan import gans, nn
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import stylegan2
from scratchgan.gans.stylegan import r1_penalty, widths
from scratchgan.ops.modulated import modulated_conv, modulated_conv_up
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

SPEC = Spec((1, 8, 8), -1.0, 1.0)
SMALL = {"g_width": 3, "d_width": 3, "max_width": 5, "latent": 4, "mapping_layers": 2, "batch_size": 6}


def build(spec: Spec = SPEC, seed: int = 0, **given) -> stylegan2.StyleGAN2:
    """A small StyleGAN2 in float64, its noise switched on and its biases away from 0."""
    config = gans.configure("stylegan2", **{**SMALL, **given})
    gan = stylegan2.StyleGAN2(spec, config, Streams(seed))
    rng = np.random.default_rng(seed)
    for network in (gan.generator, gan.discriminator, gan.ema.module):
        network.double()
        for key, p in network.named_parameters():
            if key.endswith(("strength", "bias")) and "affine" not in key:
                p._array[...] = 0.3 * rng.standard_normal(p.shape)
    return gan


def batches(n: int, spec: Spec = SPEC):
    rng = np.random.default_rng(3)
    while True:
        yield np.tanh(rng.standard_normal((n, *spec.shape))), None


# Modulated convolution

def with_own_weights(x, weight, style, demodulate: bool, up: bool):
    """Equations (1) and (3) as they stand: every image has a weight of its own, in a grouped convolution."""
    n, channels, *size = x.shape
    w = weight[None] * style[:, None, :, None, None]
    if demodulate:
        w = w / F.sqrt((w * w).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x, out, kernel = x.reshape(1, n * channels, *size), w.shape[1], tuple(w.shape[3:])
    if not up:
        y = F.conv2d(x, w.reshape(n * out, channels, *kernel), padding=kernel[0] // 2, groups=n)
    else:
        w = w.transpose(1, 2).reshape(n * channels, out, *kernel)
        y = F.upfirdn2d(F.conv_transpose2d(x, w, stride=2, groups=n), stylegan2.FILTER, padding=1, gain=4)
    return y.reshape(n, out, *y.shape[2:])


def modulated(x, weight, style, demodulate: bool, up: bool):
    """The same with the ops of ours, which scale inputs and outputs, and the filter behind."""
    if up:
        return F.upfirdn2d(modulated_conv_up(x, weight, style, demodulate=demodulate), stylegan2.FILTER, padding=1, gain=4)
    padding = (weight.shape[2] // 2,) * 2
    return modulated_conv(x, weight, style, None, None, None, padding=padding, demodulate=demodulate)


@pytest.mark.parametrize("kernel, demodulate, up", [(3, True, False), (3, True, True), (1, False, False),
                                                    (3, False, True), (1, True, False)])
def test_modulation_equals_weights_of_its_own_for_each_image_to_second_order(kernel, demodulate, up):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((3, 4, 5, 6), (2, 4, kernel, kernel), (3, 4))]
    results = []
    for convolve in (modulated, with_own_weights):
        inputs = [scratchgan.tensor(a, requires_grad=True) for a in arrays]
        y = convolve(*inputs, demodulate, up)
        seed = np.random.default_rng(1)
        first = scratchgan.grad((y * y * Tensor(seed.standard_normal(y.shape))).sum(), inputs,
                                create_graph=True)
        projected = sum((g * Tensor(seed.standard_normal(g.shape))).sum() for g in first)
        results.append([y, *first, *scratchgan.grad(projected, inputs)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_modulation_in_loops():
    """Equations (1) and (3) over Python floats, for a 1x1 kernel on 1x1 pixels."""
    rng = np.random.default_rng(2)
    x, weight, style = rng.standard_normal((2, 3)), rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
    found = modulated(*map(scratchgan.tensor, (x[:, :, None, None], weight[:, :, None, None], style)),
                      True, False).numpy()
    for n in range(2):
        for j in range(4):
            scaled = [style[n, i] * weight[j, i] for i in range(3)]                              # (1)
            deviation = sqrt(sum(v * v for v in scaled) + 1e-8)
            expected = sum(v / deviation * x[n, i] for i, v in enumerate(scaled))                # (3)
            assert found[n, j, 0, 0] == pytest.approx(expected, rel=1e-12)


def test_demodulation_keeps_unit_variance():
    """Its purpose: inputs of variance 1 give outputs of variance 1, whatever the styles."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((64, 8, 16, 16)), rng.standard_normal((5, 8, 3, 3))
    style = np.exp(2 * rng.standard_normal((64, 8)))
    y = modulated(*map(scratchgan.tensor, (x, weight, style)), True, False).numpy()[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=0.1)


@pytest.mark.parametrize("up", [False, True])
def test_only_the_ratios_of_a_style_matter(up):
    rng = np.random.default_rng(3)
    x, weight, style = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((5, 3, 3, 3)), np.ones((2, 3))
    y, doubled = (modulated(*map(scratchgan.tensor, (x, weight, s)), True, up).numpy()
                  for s in (style, 2 * style))
    np.testing.assert_allclose(y, doubled, rtol=1e-6, atol=1e-9)


def test_upsampling_and_its_filter_keep_a_constant():
    flat = scratchgan.tensor(np.full((1, 1, 6, 6), 0.7))
    np.testing.assert_allclose(stylegan2.upsampled(flat).numpy()[:, :, 2:-2, 2:-2], 0.7, rtol=1e-12)
    assert stylegan2.upsampled(flat).shape == (1, 1, 12, 12)


# Path lengths

def test_path_lengths_are_those_of_the_jacobian():
    """J^T y of every image from differences along each coordinate of each layer's w; its length is the root
    of the layers' mean of squares, over the latent axis and for each image by itself."""
    gan, n = build(), 3
    G, rng = gan.generator, np.random.default_rng(4)
    w = [rng.standard_normal((n, 4)) for _ in range(gan.layers)]
    noise = [Tensor(rng.standard_normal((n, 1, edge, edge))) for edge in gan.edges()]
    y, h = rng.standard_normal((n, 1, 8, 8)) / 8, 1e-6

    def products(w) -> np.ndarray:
        with no_grad():
            images = G.synthesis([Tensor(a) for a in w], noise).numpy()
        return (images * y).sum(axis=(1, 2, 3))

    squares = np.zeros(n)
    for layer in range(gan.layers):
        for i in range(4):
            step = np.zeros((n, 4))
            step[:, i] = h
            ahead, behind = ([a + s * step if k == layer else a for k, a in enumerate(w)] for s in (1, -1))
            squares += ((products(ahead) - products(behind)) / (2 * h)) ** 2
    expected = np.sqrt(squares / gan.layers)

    tensors = [scratchgan.tensor(a, requires_grad=True) for a in w]
    images = G.synthesis(tensors, noise)
    found = stylegan2.path_lengths(images, tensors, Tensor(y)).detach().numpy()
    assert found.shape == (n,)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 1e-3, "lengths that are all alike prove nothing"


def test_path_penalty_in_loops():
    lengths = [0.3, 1.7, 0.9]
    expected = sum((v - 0.8) ** 2 for v in lengths) / 3
    assert stylegan2.path_penalty(scratchgan.tensor(np.array(lengths)), 0.8).item() == pytest.approx(
        expected, rel=1e-12)


def test_penalties_stay_finite_for_extreme_lengths():
    for lengths in ([-1e4, 1e4], [0.0, 1e4]):
        ours = scratchgan.tensor(np.array(lengths, np.float32), requires_grad=True)
        theirs = torch.tensor(lengths, requires_grad=True)
        value, expected = stylegan2.path_penalty(ours, 3.0), (theirs - 3.0).square().mean()
        value.backward(), expected.backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-6)


def directional(network: nn.Module, penalty) -> tuple[float, float]:
    """The derivative of `penalty()` along one direction in the space of all weights: by double backward, and
    by differences of the penalty, which holds first-order gradients only."""
    parameters = list(network.parameters())
    found = scratchgan.grad(penalty(), parameters)
    rng, h = np.random.default_rng(6), 1e-5
    directions = [rng.standard_normal(p.shape) for p in parameters]
    slope = sum(float((g.numpy() * d).sum()) for g, d in zip(found, directions) if g is not None)
    start = [p.detach().numpy().copy() for p in parameters]
    values = []
    for step in (h, -h):
        network.load_state_dict({**network.state_dict(), **{
            key: p + step * d for (key, _), p, d in zip(network.named_parameters(), start, directions)}})
        values.append(penalty().item())
    return slope, (values[0] - values[1]) / (2 * h)


def test_derivative_of_the_path_penalty_in_the_weights_of_g():
    """Through the mapping network, modulation and demodulation, transposed convolutions and filters."""
    gan, n = build(mapping_lr=1.0), 3
    rng = np.random.default_rng(5)
    z, y = rng.standard_normal((n, 4)), rng.standard_normal((n, 1, 8, 8)) / 8
    noise = [Tensor(rng.standard_normal((n, 1, edge, edge))) for edge in gan.edges()]

    def penalty() -> Tensor:
        w = F.unbind(F.stack([gan.generator.mapping(Tensor(z))] * gan.layers, dim=0), 0)
        lengths = stylegan2.path_lengths(gan.generator.synthesis(w, noise), w, Tensor(y))
        return stylegan2.path_penalty(lengths, 0.1)

    found, expected = directional(gan.generator, penalty)
    assert found == pytest.approx(expected, rel=1e-5) and abs(expected) > 1e-4


def test_derivative_of_r1_in_the_weights_of_d():
    """Through residual blocks, filters and the deviation over the minibatch."""
    gan = build()
    x, _ = next(batches(6))

    def penalty() -> Tensor:
        real = scratchgan.tensor(x, requires_grad=True)
        return r1_penalty(gan.discriminator(real), real)

    found, expected = directional(gan.discriminator, penalty)
    assert found == pytest.approx(expected, rel=1e-5) and abs(expected) > 1e-4


# Laziness

def test_optimisers_are_corrected_for_their_additional_steps():
    gan = build(lr=0.01, betas=(0.5, 0.9), r1_every=3, path_every=4)
    for optimizer, c in ((gan.optimizer_d, 3 / 4), (gan.optimizer_g, 4 / 5)):
        group, = optimizer.param_groups
        assert group["lr"] == pytest.approx(c * 0.01, rel=1e-12)
        assert group["betas"] == pytest.approx((0.5**c, 0.9**c), rel=1e-12)


def test_every_kth_update_is_followed_by_one_on_the_penalty_k_times_as_large():
    gan = build(r1_every=3, path_every=2, r1=5.0, path=7.0)
    losses = {"d": [], "g": []}
    update = gan.update_lazily

    def noted(optimizer, network, loss):
        losses["d" if network is gan.discriminator else "g"].append((gan.lazy.steps, loss.item()))
        update(optimizer, network, loss)

    gan.update_lazily = noted
    source, reported = batches(6), []
    for _ in range(7):
        reported.append(gan.step(source))
    assert [step for step, _ in losses["d"]] == [3, 6] and [step for step, _ in losses["g"]] == [2, 4, 6]
    for step, loss in losses["d"]:
        assert loss == pytest.approx(3 * 5.0 / 2 * reported[step - 1]["penalty"], rel=1e-6)
    counts = [{int(s["step"]) for s in o.state_dict()["state"].values()} for o in
              (gan.optimizer_d, gan.optimizer_g)]
    assert counts == [{7 + 2}, {7 + 3}], "every weight takes part in every step"
    assert reported[0]["length"] == 0 < reported[1]["length"] == reported[2]["length"]


def test_the_running_mean_of_lengths_leaves_zero_at_once_and_then_follows():
    lazy, config = stylegan2.Lazy(np.zeros(0)), gans.configure("stylegan2", path_every=2, path_decay=0.5)
    lazy.steps, expected = 2, 0.0
    for t, length in enumerate([3.0, 1.0, 2.0] * 10, start=1):
        decay = min(0.5, t / (t + 9))
        expected = decay * expected + (1 - decay) * length
        assert lazy.follow(Tensor(np.array(length)), config).item() == pytest.approx(expected, rel=1e-12)
        lazy.steps += 2
    other = stylegan2.Lazy(np.zeros(0))
    other.load_state_dict(lazy.state_dict())
    assert (other.steps, other.length.item(), other.penalty.item()) == (lazy.steps, lazy.length.item(), 0.0)


def test_lazy_state_goes_on_where_it_was():
    """A fresh model with the parts and streams of one that stands between two penalties does as that one."""
    gan, source = build(r1_every=3, path_every=2), batches(6)
    for _ in range(2):
        gan.step(source)
    twin = build(seed=1, r1_every=3, path_every=2)
    for key, part in gan.parts().items():
        twin.parts()[key].load_state_dict(part.state_dict())
    twin.streams.load_state_dict(gan.streams.state_dict())
    following = [next(source) for _ in range(2)]
    expected = [gan.step(iter([batch])) for batch in following]
    assert [twin.step(iter([batch])) for batch in following] == expected
    assert expected[0]["penalty"] > 0 and expected[1]["length"] != expected[0]["length"] > 0
    np.testing.assert_array_equal(twin.generate(latents(2)), gan.generate(latents(2)))


def test_where_training_begins():
    """Styles around 1, no noise, no biases; equalised weights of variance 1."""
    config = gans.configure("stylegan2", **{**SMALL, "latent": 64, "g_width": 16, "max_width": 64})
    network = stylegan2.Generator(1, [64, 32], config).synthesis
    for layer in [network.first.conv, network.up[0].conv, network.to_rgb[1].conv]:
        style = layer.affine(Tensor(np.zeros((1, 64), np.float32)))
        np.testing.assert_array_equal(style.detach().numpy(), 1)
        assert layer.weight.detach().numpy().std() == pytest.approx(1, abs=0.2)
    for layer in [network.first, *network.up, *network.layers]:
        assert layer.strength.item() == 0 and not layer.bias.detach().numpy().any()


# The paper's configurations

def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Sums of the authors' tables of layers (configuration F; printed by their code, and in
# https://github.com/lucidrains/stylegan2-pytorch/issues/124 for 1024 pixels); 512 channels at most.
@pytest.mark.parametrize("size, width, of_g, of_d", [(1024, 32, 30_370_060, 29_012_513),
                                                     (256, 128, 30_034_338, 28_864_129)])
def test_the_papers_configuration_has_the_authors_parameters(size, width, of_g, of_d):
    config = stylegan2.Config(size=size, latent=512, mapping_layers=8, g_width=width, d_width=width,
                              max_width=512)
    channels = widths(int(np.log2(size)) - 2, width, 512)
    assert parameters(stylegan2.Generator(3, channels, config)) == of_g
    assert parameters(stylegan2.Discriminator(3, channels)) == of_d


def test_a_step_at_256_pixels():
    """An eighth of the paper's channels, all of its layers, a batch of 1. With all of the paper's channels:
    `python -m tests.test_stylegan2`."""
    one_step_at_256_pixels(16)


def one_step_at_256_pixels(width: int) -> None:
    spec = Spec((3, 256, 256), -1.0, 1.0)
    config = gans.configure("stylegan2", size=256, latent=4 * width, mapping_layers=8, g_width=width,
                            d_width=width, max_width=4 * width, batch_size=1)
    gan = stylegan2.StyleGAN2(spec, config, Streams(0))
    scalars = gan.step((x.astype(np.float32), y) for x, y in batches(1, spec))
    assert np.isfinite(list(scalars.values())).all()
    assert gan.sample(1).shape == (1, 3, 256, 256)
    for network in (gan.generator, gan.discriminator):
        assert all(np.isfinite(p.grad.numpy()).all() for p in network.parameters())


# Sampling

@pytest.fixture(scope="module")
def trained() -> stylegan2.StyleGAN2:
    gan, source = build(ema_decay=0.5, lr=0.01, path_every=2, r1_every=3), batches(6)
    for _ in range(4):
        gan.step(source)
    return gan


def latents(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 4))


def test_truncation(trained):
    z = latents(5)
    whole, none = trained.generate(z), trained.generate(z, truncation=0.0)
    np.testing.assert_allclose(none, none[:1].repeat(5, axis=0), atol=1e-12)
    assert np.ptp(whole, axis=0).max() > 0.01
    half = trained.map(z, truncation=0.5)
    mean = trained.ema.module.w_mean.numpy()
    np.testing.assert_allclose(half - mean, 0.5 * (trained.map(z) - mean), rtol=1e-12)
    np.testing.assert_array_equal(trained.generate(z, truncation=0.5), trained.synthesise(half))


def test_styles_are_mixed_layer_by_layer(trained):
    a, b = latents(2, 1), latents(2, 2)
    w = [trained.map(z) for z in (a, b)]
    for at in (1, 2, 3):
        each = np.stack([w[0]] * at + [w[1]] * (trained.layers - at), axis=1)
        np.testing.assert_array_equal(trained.mix(a, b, at=at), trained.synthesise(each))
    assert not np.array_equal(trained.mix(a, b, at=1), trained.mix(a, b, at=3))
    with pytest.raises(UserError, match="layer 4, expected a number from 1 to 3"):
        trained.mix(a, b, at=4)


def test_interpolation_is_a_line_in_w(trained):
    a, b = latents(2, 1), latents(2, 2)
    ends = trained.interpolate(a, b, np.array([0.0, 1.0]))
    np.testing.assert_allclose(ends[0], trained.generate(a)[0], atol=1e-12)
    np.testing.assert_allclose(ends[1], trained.generate(b)[1], atol=1e-12)
    middle = trained.synthesise((trained.map(a) + trained.map(b)) / 2)
    np.testing.assert_allclose(trained.interpolate(a, b, np.array([0.5, 0.5])), middle, atol=1e-12)


def test_a_latent_gives_one_picture_whatever_is_beside_it(trained):
    z = latents(6)
    np.testing.assert_allclose(trained.generate(z)[4:5], trained.generate(z[4:5]), atol=1e-12)


def test_training_makes_noise_and_styles_anew(trained):
    """Two calls differ; within one, the share `mixing` of the images has styles of two latents."""
    with no_grad():
        one, other = (trained.fake(3).numpy() for _ in range(2))
        assert not np.allclose(one, other)
        w = np.stack([a.numpy() for a in trained.styles(2000, trained.layers)], axis=1)
    mixed = (w[:, 0] != w[:, -1]).any(axis=1)
    assert mixed.mean() == pytest.approx(trained.config.mixing, abs=0.03)
    changes = (w[:, 1:] != w[:, :-1]).any(axis=2).sum(axis=1)
    np.testing.assert_array_equal(changes, mixed)


# Mistakes

@pytest.mark.parametrize("wrong, message", [
    ({"r1_every": 0}, "r1_every=0: expected a number of at least 1"),
    ({"path": -1.0}, "path=-1.0: expected a number of at least 0"),
    ({"mixing": 1.5}, "mixing=1.5: expected"), ({"max_width": 0}, "max_width=0: expected")])
def test_settings_out_of_range(wrong, message):
    with pytest.raises(UserError, match=message):
        gans.configure("stylegan2", **wrong)


@pytest.mark.parametrize("shape", [(2,), (1, 28, 28), (3, 8, 16), (1, 4, 4)])
def test_data_of_other_shapes(shape):
    with pytest.raises(UserError, match="stylegan2: data of shape .* expected square images"):
        build(Spec(shape, -1.0, 1.0))


if __name__ == "__main__":
    one_step_at_256_pixels(128)
