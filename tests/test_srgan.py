"""SRGAN: formulas by loops, ranges, both phases, the paper's sizes."""
from __future__ import annotations

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from PIL import Image

import scratchgan
from scratchgan import gans
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import srgan
from scratchgan.gans.gan import non_saturating_loss
from scratchgan.gans.srgan import SRGAN, Discriminator, SRResNet, content_loss, enlarged, feature_loss, mse, reduced
from scratchgan.metrics.perceptual import Features
from scratchgan.run import Plan, open_run, resume, start
from scratchgan.tensor import Tensor
from scratchgan.train import train

COLOUR = Spec((3, 16, 16), -1.0, 1.0)
SMALL = {"blocks": 1, "g_width": 6, "d_width": 2, "d_dense": 4, "batch_size": 4}


def build(spec: Spec = COLOUR, seed: int = 0, **given) -> SRGAN:
    return SRGAN(spec, gans.configure("srgan", **{**SMALL, **given}), Streams(seed))


def pictures(n: int, seed: int = 0, spec: Spec = COLOUR) -> np.ndarray:
    """Smooth random pictures in [-1, 1]."""
    rough = np.random.default_rng(seed).uniform(-1, 1, (n, spec.shape[0], spec.shape[1] // 2, spec.shape[2] // 2))
    return enlarged(rough, 2).clip(-1, 1).astype(np.float32)


def batches(seed: int = 0, spec: Spec = COLOUR):
    while True:
        yield pictures(4, seed, spec), None
        seed += 1


# Formulas

def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (2, 3, 8, 8)), rng.uniform(-1, 1, (2, 3, 8, 8))


def test_mse_by_loops():
    high, made = arrays()
    expected = sum((a - b) ** 2 for a, b in zip(high.ravel().tolist(), made.ravel().tolist())) / high.size
    assert mse(scratchgan.tensor(high), scratchgan.tensor(made)).item() == pytest.approx(expected, rel=1e-12)


def loops(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3x3 convolution with ReLU of (C, H, W), zeros around it."""
    channels, height, width = x.shape
    y = np.zeros((len(weight), height, width))
    for o, i, j in np.ndindex(y.shape):
        total = bias[o]
        for c, p, q in np.ndindex(channels, 3, 3):
            if 0 <= i + p - 1 < height and 0 <= j + q - 1 < width:
                total += weight[o, c, p, q] * x[c, i + p - 1, j + q - 1]
        y[o, i, j] = max(total, 0.0)
    return y


def test_feature_loss_by_loops():
    high, made = arrays(1)
    high, made = high[:1, :, :5, :4], made[:1, :, :5, :4]
    phi = Features(1).double()
    (w1, b1), (w2, b2) = (tuple(p.detach().numpy() for p in phi.blocks[0][i].parameters()) for i in (0, 2))
    a, b = (loops(loops(x[0], w1, b1), w2, b2) / float(phi.scale.numpy()) for x in (high, made))
    found = feature_loss(phi, scratchgan.tensor(high), scratchgan.tensor(made)).item()
    assert found == pytest.approx(((a - b) ** 2).sum() / a.size, rel=1e-10)


def test_perceptual_loss_is_equation_3():
    """In the game, from D's logits and the two content losses by their weights."""
    model = build(pretrain_steps=0, pixel_weight=2.0, feature_weight=0.3, adversarial_weight=0.01)
    noted = {}
    D = model.discriminator
    forward, calls = D.forward, []

    def watched(x):
        calls.append(forward(x))
        return calls[-1]

    D.forward = watched
    noted = model.step(batches())
    fake = calls[-1].detach().numpy()
    adversarial = sum(-log(1 / (1 + exp(-float(v)))) for v in fake) / len(fake)
    expected = 2.0 * noted["pixels"] + 0.3 * noted["features"] + 0.01 * adversarial
    assert noted["loss_g"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_adversarial_loss_is_pytorchs_at_any_logit(size):
    x = size * np.random.default_rng(0).standard_normal(9)
    ours, theirs = scratchgan.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss, expected = 1e-3 * non_saturating_loss(ours), 1e-3 * torch.nn.functional.softplus(-theirs).mean()
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-300)


def test_content_losses_have_pytorchs_gradients():
    high, made = arrays(2)
    phi = Features(2).double()
    ours, theirs = scratchgan.tensor(made, requires_grad=True), torch.tensor(made, requires_grad=True)
    config = gans.configure("srgan", pixel_weight=0.7, feature_weight=0.2)
    target = scratchgan.tensor(high)
    content_loss(mse(target, ours), feature_loss(phi, target, ours), config).backward()

    def theirs_phi(x):
        for number, block in enumerate(phi.blocks):
            x = torch.nn.functional.max_pool2d(x, 2) if number else x
            for layer in (block[0], block[2]):
                weight, bias = (torch.from_numpy(p.detach().numpy().copy()) for p in layer.parameters())
                x = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
        return x / float(phi.scale.numpy())

    t = torch.from_numpy(high)
    (0.7 * ((theirs - t) ** 2).mean() + 0.2 * ((theirs_phi(theirs) - theirs_phi(t)) ** 2).mean()).backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-9, atol=1e-14)


# Ranges

def test_the_network_reads_0_to_1():
    """Black is 0 behind the first layer: with its bias at 0 nothing of black comes through."""
    network = build().generator
    seen = []
    network.head.forward = lambda x: seen.append(x.numpy().copy()) or Tensor(np.zeros((1, 6, *x.shape[2:]), np.float32))
    for value in (-1.0, 0.0, 1.0):
        network(Tensor(np.full((1, 3, 4, 4), value, np.float32)))
    assert [float(x.min()) for x in seen] == [float(x.max()) for x in seen] == [0.0, 0.5, 1.0]


def test_reducing_and_enlarging_are_pillows():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 24, 40)).astype(np.float32)
    for plane, small, back in zip(x[0], reduced(x, 4)[0], enlarged(reduced(x, 4), 4)[0]):
        expected = np.asarray(Image.fromarray(plane).resize((10, 6), Image.Resampling.BICUBIC)).clip(-1, 1)
        np.testing.assert_allclose(small, expected, rtol=0, atol=1e-6)
        expected = np.asarray(Image.fromarray(small).resize((40, 24), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(back, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_one_brightness_stays_what_it_is(value):
    """Through the reduction, the enlargement, the losses and the generator as it begins."""
    flat = np.full((2, 3, 16, 16), value, np.float32)
    low = reduced(flat, 4)
    np.testing.assert_allclose(low, value, atol=1e-6)
    np.testing.assert_allclose(enlarged(low, 4), value, atol=1e-6)
    phi, target = Features(2), Tensor(flat)
    right = mse(target, Tensor(flat)).item() + feature_loss(phi, target, Tensor(flat)).item()
    assert right == 0
    for shift in (-0.05, 0.05):
        other = Tensor(flat + np.float32(shift))
        assert mse(target, other).item() > 1e-3 and feature_loss(phi, target, other).item() > 1e-6
    np.testing.assert_allclose(build().enlarge(low), value, atol=0.02)


@pytest.mark.parametrize("norm", [False, True])
def test_training_shifts_no_brightness(norm):
    """Of pictures of one colour each, after both phases: what haunts networks whose output, targets or features
    are of another range than they think. With the paper's network too, which has no bicubic enlargement to lean
    on."""
    model = build(pretrain_steps=120, steps=160, g_norm=norm, bicubic=not norm, lr=5e-3, batch_size=4, g_width=8,
                  ema_decay=0.9)
    rng = np.random.default_rng(0)

    def flat():
        while True:
            yield np.broadcast_to(rng.uniform(-0.9, 0.9, (16, 3, 1, 1)), (16, 3, 16, 16)).astype(np.float32), None

    source = flat()
    for _ in range(160):
        model.step(source)
    colours = rng.uniform(-0.9, 0.9, (64, 3, 1, 1)).astype(np.float32)
    made = model.enlarge(np.broadcast_to(colours, (64, 3, 4, 4)))
    errors = (made - colours).mean(axis=(2, 3))
    assert abs(errors.mean()) < 0.02, "a shift, the same for all"
    assert abs(errors).mean() < 0.06
    slope = np.polyfit(colours.ravel(), made.mean(axis=(2, 3)).ravel(), 1)[0]
    assert 0.93 < slope < 1.07, "a change of contrast"


def test_features_have_mean_square_1():
    """Over the pictures they were scaled on, and so nearly over photographs."""
    from scratchgan.data import load
    data = load("photographs", 32)
    x = Tensor(data.get(np.arange(0, len(data), 97)))
    for number in (1, 2, 3):
        assert 0.3 < float((Features(number)(x).numpy() ** 2).mean()) < 3


def test_samples_are_clipped_and_losses_are_not():
    model = build()
    model.generator.tail[-1].bias._array[...] = 5.0
    model.ema.module.tail[-1].bias._array[...] = 5.0
    low = reduced(pictures(2), 4)
    assert model.enlarge(low).max() == 1.0
    assert model.step(batches())["pixels"] > 4


# Phases

def test_phases_follow_each_other():
    model, source = build(pretrain_steps=3, decay_steps=2, lr=0.01, lr_adversarial=0.002), batches()
    D, phi = ({k: p.detach().numpy().copy() for k, p in m.named_parameters()}
              for m in (model.discriminator, model.phi))
    rates = []
    for step in range(7):
        reported = model.step(source)
        rates.append((model.optimizer_g.param_groups[0]["lr"], model.optimizer_d.param_groups[0]["lr"]))
        assert ("loss_d" in reported) == (step >= 3)
        moved = any((p.detach().numpy() != D[k]).any() for k, p in model.discriminator.named_parameters())
        assert moved == (step >= 3)
    assert [g for g, _ in rates] == [0.01] * 3 + [0.002] * 2 + [0.0002] * 2
    assert [d for _, d in rates[3:]] == [0.002] * 2 + [0.0002] * 2
    for key, p in model.phi.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), phi[key])


@pytest.mark.parametrize("after", [2, 3, 5])
def test_a_checkpoint_at_any_step_goes_on_to_the_same_bits(after):
    given = {"pretrain_steps": 3, "decay_steps": 2, "g_norm": True}
    straight, source = build(**given), batches()
    for _ in range(after):
        straight.step(source)
    resumed = build(seed=5, **given)
    for key, part in straight.parts().items():
        resumed.parts()[key].load_state_dict(part.state_dict())
    for model in (straight, resumed):
        later = batches(seed=100)
        scalars = [model.step(later) for _ in range(4)]
        result = {f"{name} {k}": v.numpy().copy() for name in ("generator", "discriminator")
                  for k, v in model.parts()[name].state_dict().items()}
        if model is straight:
            expected = scalars, result
    assert scalars == expected[0]
    for key, value in expected[1].items():
        np.testing.assert_array_equal(result[key], value, err_msg=key)


@pytest.mark.parametrize("state", [{}, {"steps": "3"}, {"steps": 1.0}, {"steps": 1, "more": 2}, None])
def test_a_damaged_count_is_refused(state):
    with pytest.raises(UserError, match="progress of srgan"):
        build().progress.load_state_dict(state)


def test_no_gradient_flows_into_the_photographs_features():
    """And phi itself never learns."""
    model = build(pretrain_steps=0)
    model.step(batches())
    assert all(p.grad is None for p in model.phi.parameters())


# Sizes

def count(network) -> int:
    return sum(p.numpy().size for p in (q.detach() for q in network.parameters()))


def test_the_papers_sizes():
    """SRResNet has about 1.5 million weights (Lim et al. 2017, arXiv 1707.02921, table 1); D's convolutions, read
    off figure 4, 4.7 million, and its dense layers 6 x 6 x 512 x 1024 and 1024."""
    config = gans.configure("srgan", **srgan.PAPER)
    model = SRGAN(Spec((3, 96, 96), -1.0, 1.0), config, Streams(0))
    assert 1.50e6 < count(model.generator) < 1.56e6
    widths = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b for a, b in pairwise(widths))
    extras = 64 + 2 * sum(widths[2:])
    dense = 6 * 6 * 512 * 1024 + 1024 + 1024 + 1
    assert count(model.discriminator) == convolutions + extras + dense
    low = np.zeros((1, 3, 24, 24), np.float32)
    assert model.enlarge(low).shape == (1, 3, 96, 96)
    assert model.logits(np.zeros((2, 3, 96, 96), np.float32)).shape == (2,)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_scales_and_channels(scale, channels):
    spec = Spec((channels, 16, 16), -1.0, 1.0)
    model = build(spec, scale=scale, pretrain_steps=1)
    source = batches(spec=spec)
    assert [("loss_d" in model.step(source)) for _ in range(2)] == [False, True]
    model.show(pictures(5, spec=spec))
    assert model.sample(3).shape == (3, channels, 16, 16)
    assert model.enlarge(np.zeros((1, channels, 5, 3), np.float32)).shape == (1, channels, 5 * scale, 3 * scale)


@pytest.mark.parametrize("scale, blocks", [(2, 1), (4, 1), (4, 3), (8, 2)])
@pytest.mark.parametrize("bicubic, kernel", [(True, 9), (False, 9), (False, 3)])
def test_reach_is_how_far_a_pixel_acts(scale, blocks, bicubic, kernel):
    network = SRResNet(1, scale, blocks, 3, kernel, norm=True, bicubic=bicubic).double().eval()
    edge = 2 * network.reach + 7
    middle = edge // 2
    x = np.random.default_rng(0).uniform(-1, 1, (1, 1, edge, edge))
    y = x.copy()
    y[0, 0, middle, middle] += 1
    changed = np.argwhere(network(Tensor(x)).detach().numpy() != network(Tensor(y)).detach().numpy())[:, 2] // scale
    assert 0 < abs(changed - middle).max() <= network.reach
    if not bicubic:
        assert abs(changed - middle).max() >= network.reach - 2, "more than is needed costs time"


def test_samples_go_through_what_is_shown():
    model = build()
    x = pictures(3)
    model.show(x)
    made = model.sample(5)
    np.testing.assert_allclose(made[:3], model.enlarge(reduced(x, 4)), atol=1e-6)
    np.testing.assert_array_equal(made[3:], made[:2])


@pytest.mark.parametrize("spec, given, message", [
    (Spec((2,), -np.inf, np.inf), {}, "expected square images"),
    (Spec((3, 16, 12), -1.0, 1.0), {}, "expected square images"),
    (Spec((3, 18, 18), -1.0, 1.0), {}, "that scale=4 divides"),
    (Spec((2, 16, 16), -1.0, 1.0), {}, "expected 1 or 3 channels")])
def test_data_it_cannot_enlarge(spec, given, message):
    with pytest.raises(UserError, match=f"srgan: .*{message}"):
        build(spec, **given)


@pytest.mark.parametrize("given, message", [
    ({"scale": 3}, "scale=3: expected 2, 4 or 8"), ({"blocks": 0}, "blocks=0"), ({"g_kernel": 4}, "g_kernel=4: expected an odd"),
     ({"feature_map": 4}, "feature_map=4"),
    ({"lr_adversarial": 0.0}, "lr_adversarial"), ({"adversarial_weight": -1.0}, "adversarial_weight")])
def test_settings_out_of_range(given, message):
    with pytest.raises(UserError, match=message):
        gans.configure("srgan", **given)


def test_discriminator_takes_odd_edges():
    network = Discriminator(1, 20, 2, 3)
    assert network(Tensor(np.zeros((2, 1, 20, 20), np.float32))).shape == (2,)


# Runs

def run_of(folder, steps: int):
    plan = Plan(gan="srgan", seed=0, device="cpu", epochs=None, checkpoint_every=0, log_every=2,
                config=gans.configure("srgan", **{**SMALL, "size": 16, "steps": steps, "pretrain_steps": 3}))
    run = start(plan, folder)
    train(run)
    return run


@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_run_stopped_in_either_phase_ends_as_one_that_was_not(at, tmp_path):
    straight = run_of(tmp_path / "straight", 6)
    run_of(tmp_path / "stopped", at)
    resumed = resume(tmp_path / "stopped", {}, {"steps": 6})
    train(resumed)
    for key, part in straight.gan.parts().items():
        for name, value in getattr(part, "module", part).state_dict().items():
            other = getattr(resumed.gan.parts()[key], "module", resumed.gan.parts()[key]).state_dict()[name]
            if isinstance(value, Tensor):
                np.testing.assert_array_equal(value.numpy(), other.numpy(), err_msg=f"{key} {name}")
    assert (tmp_path / "straight/samples.png").read_bytes() == (tmp_path / "stopped/samples.png").read_bytes()
    assert resumed.gan.progress.steps == 6


def test_samples_of_a_checkpoint_are_those_before_saving(tmp_path):
    run = run_of(tmp_path / "run", 4)
    np.testing.assert_array_equal(open_run(tmp_path / "run").sample(5, 1), run.sample(5, 1))
