"""What every GAN promises: all weights learn, nobody learns in the other's turn, samples in range, one seed
one result."""
from __future__ import annotations

import numpy as np
import pytest

import scratchgan
from scratchgan import gans, nn
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans import gan as gan_file
from scratchgan.gans import wgan_gp

IMAGES, POINTS = Spec((1, 8, 8), -1.0, 1.0, classes=5), Spec((2,), -np.inf, np.inf, classes=8)
SMALL = {"gan": {"g_widths": (16, 16), "d_widths": (16, 16), "latent": 6},
         "cgan": {"g_width": 4, "d_width": 4, "g_widths": (8, 8, 16), "d_widths": (8, 8, 8), "latent": 6},
         "lapgan": {"g_width": 4, "g_kernels": (3, 3), "d_width": 4, "latent": 6, "coarse_g_widths": (16,),
                    "coarse_d_widths": (16,), "edges": (4,), "updates": (1,)},
         "dcgan": {"g_width": 4, "d_width": 4, "latent": 6},
         "srgan": {"blocks": 1, "g_width": 4, "d_width": 2, "d_dense": 4, "pretrain_steps": 0},
         "wgan": {"g_width": 16, "d_width": 16, "latent": 6, "clip": 0.1},
         "wgan_gp": {"g_width": 16, "d_width": 16, "latent": 6},
         "stylegan": {"width": 4, "max_width": 8, "latent": 6, "mapping_layers": 2, "start": 4,
                      "noise_from": 4, "stable_images": 0, "fade_images": 40},
         "stylegan2": {"g_width": 4, "d_width": 4, "max_width": 8, "latent": 6, "mapping_layers": 2}}
RUNS = [("gan", "mnist5k"), ("gan", "ring"), ("cgan", "mnist5k"), ("cgan", "ring"),
        ("lapgan", "mnist5k"), ("dcgan", "mnist5k"), ("srgan", "mnist5k"),
        ("wgan", "mnist5k"), ("wgan", "ring"), ("wgan_gp", "mnist5k"), ("wgan_gp", "ring"),
        ("stylegan", "mnist5k"), ("stylegan2", "mnist5k")]


class Batches:
    """Endless random batches of a Spec, counted; points spread wide enough to cross the rectifiers' kinks."""

    def __init__(self, spec: Spec, size: int):
        self.spec, self.size, self.drawn, self.rng = spec, size, 0, np.random.default_rng(0)

    def __iter__(self):
        return self

    def __next__(self):
        self.drawn += 1
        x = 4 * self.rng.standard_normal((self.size, *self.spec.shape))
        labels = np.arange(self.drawn, self.drawn + self.size) % self.spec.classes
        return x.clip(self.spec.low, self.spec.high).astype(np.float32), labels


def build(name: str, data: str, seed: int = 0, **given):
    """A small GAN and batches for it."""
    spec = POINTS if data == "ring" else IMAGES
    config = gans.configure(name, data=data, batch_size=10, **{**SMALL[name], **given})
    model, batches = gans.get(name)(spec, config, Streams(seed)), Batches(spec, config.batch_size)
    if model.conditioned_on == "images":
        model.show(next(Batches(spec, 9))[0])
    return model, batches


def other(model) -> nn.Module:
    """The discriminator or critic."""
    return model.critic if hasattr(model, "critic") else model.discriminator


def snapshot(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in module.named_parameters()}


def gradients_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name, data", RUNS)
def test_every_weight_gets_a_gradient_and_moves(name, data):
    model, batches = build(name, data)
    is_critic = name.startswith("wgan")
    constant_of_the_critic = list(other(model).named_parameters())[-1][0] if is_critic else None
    before = {id(m): snapshot(m) for m in (model.generator, other(model))}
    model.step(batches)
    for module in (model.generator, other(model)):
        for key, p in module.named_parameters():
            learns = module is model.generator or key != constant_of_the_critic
            assert (p.grad is not None and np.abs(p.grad.numpy()).max() > 1e-12) == learns, key
            moved = (p.detach().numpy() != before[id(module)][key]).any()
            assert moved if learns else not moved or name == "wgan", f"{key}: clipping may move a constant"


@pytest.mark.parametrize("name, data", RUNS)
def test_each_player_learns_in_its_own_turn_only(name, data):
    model, batches = build(name, data)
    d_before_g, g_before_d = [], []
    step_d = model.optimizer_d.step

    def watched_d():
        g_before_d.append(snapshot(model.generator))
        step_d()
        d_before_g.append((snapshot(other(model)), gradients_of(other(model))))

    model.optimizer_d.step = watched_d
    start = snapshot(model.generator)
    model.step(batches)
    weights, gradients = d_before_g[-1]
    if name == "wgan":
        weights = {key: w.clip(-model.config.clip, model.config.clip) for key, w in weights.items()}
    np.testing.assert_equal(snapshot(other(model)), weights)
    np.testing.assert_equal(gradients_of(other(model)), gradients, "G's loss adds nothing to D's gradients")
    np.testing.assert_equal(g_before_d[-1], start)


@pytest.mark.parametrize("name, given, expected", [
    ("gan", {}, 1), ("gan", {"k": 3}, 3), ("cgan", {}, 1),
    ("lapgan", {}, 1), ("lapgan", {"updates": (1, 3)}, 3), ("dcgan", {}, 1), ("srgan", {}, 1),
    ("wgan", {}, 5), ("wgan", {"n_critic": 2}, 2),
    ("wgan_gp", {}, 5), ("wgan_gp", {"n_critic": 2}, 2), ("stylegan2", {}, 1)])
def test_batches_per_step(name, given, expected):
    model, batches = build(name, "mnist5k", **given)
    model.step(batches)
    model.step(batches)
    assert batches.drawn == 2 * expected


@pytest.mark.parametrize("name, data", RUNS)
def test_one_seed_one_result(name, data):
    results = []
    for seed in (3, 3, 4):
        model, batches = build(name, data, seed)
        scalars = [model.step(batches) for _ in range(3)]
        results.append((scalars, model.sample(5)))
    assert results[0][0] == results[1][0] and np.array_equal(results[0][1], results[1][1])
    assert results[0][0] != results[2][0] and not np.array_equal(results[0][1], results[2][1])


@pytest.mark.parametrize("name, data", RUNS)
def test_samples(name, data):
    model, batches = build(name, data)
    model.step(batches)
    model.ema.update()
    state = model.streams.state_dict()
    x = model.sample(9, np.random.default_rng(1))
    assert x.shape == (9, *batches.spec.shape) and x.dtype == np.float32 and np.isfinite(x).all()
    assert batches.spec.low <= x.min() and x.max() <= batches.spec.high
    np.testing.assert_array_equal(x, model.sample(9, np.random.default_rng(1)))
    assert model.streams.state_dict() == state, "noise from elsewhere moves no stream of the run"
    assert model.generator.training and other(model).training
    if model.conditioned_on != "images":
        assert not np.array_equal(model.sample(4), model.sample(4))


@pytest.mark.parametrize("name, data", RUNS)
def test_samples_follow_the_average(name, data):
    """With decay 0 the average is the generator itself, running statistics included."""
    model, batches = build(name, data, ema_decay=0.0)
    for _ in range(2):
        model.step(batches)
    mean, latest = model.ema.module.state_dict(), model.generator.state_dict()
    assert mean.keys() == latest.keys()
    for key in mean:
        np.testing.assert_allclose(mean[key].numpy(), latest[key].numpy(), rtol=1e-6)


@pytest.mark.parametrize("name, data", RUNS)
def test_parts_hold_the_whole_state(name, data):
    """A fresh model that loads every part and the streams takes the same next steps."""
    model, batches = build(name, data)
    model.step(batches)
    twin, _ = build(name, data, seed=9)
    for key, part in model.parts().items():
        twin.parts()[key].load_state_dict(part.state_dict())
    twin.streams.load_state_dict(model.streams.state_dict())
    batch, results = next(batches), []
    for m in (twin, model):
        use_streams(m.streams)                # which layers draw dropout masks from
        results.append((m.step(iter([batch] * 5)), m.sample(3)))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_scalars_of_the_gans():
    assert set(build("gan", "ring")[0].step(Batches(POINTS, 10))) == {"loss_d", "loss_g", "d_real", "d_fake"}
    model, batches = build("wgan_gp", "ring")
    scalars = model.step(batches)
    assert scalars["loss_d"] == pytest.approx(
        model.config.penalty * scalars["penalty"] - scalars["distance"], rel=1e-5)


def test_saturating_is_the_minimax_game():
    assert build("gan", "ring", saturating=True)[0].generator_loss is gan_file.saturating_loss
    assert build("gan", "ring")[0].generator_loss is gan_file.non_saturating_loss


def test_epsilon_is_one_number_per_sample():
    model, batches = build("wgan_gp", "mnist5k")
    x = gans.sampling.real(batches, model.critic)
    epsilon = model.epsilon(x).numpy()
    assert epsilon.shape == (10, 1, 1, 1) and len(np.unique(epsilon)) == 10
    assert 0 <= epsilon.min() and epsilon.max() < 1


def test_all_of_wgans_critic_lies_in_the_box():
    model, batches = build("wgan", "ring", clip=0.05)
    assert max(np.abs(p.detach().numpy()).max() for p in model.critic.parameters()) > 0.05
    for _ in range(3):
        model.step(batches)
        values = np.concatenate([p.detach().numpy().ravel() for p in model.critic.parameters()])
        assert np.abs(values).max() == np.float32(0.05) and np.unique(values).size > 100


def test_clipping_of_the_generator_is_none():
    model, batches = build("wgan", "mnist5k", clip=1e-3)
    model.step(batches)
    assert max(np.abs(p.detach().numpy()).max() for p in model.generator.parameters()) > 0.1


def test_distance_is_the_critics_estimate():
    """Of its last batch: what D ascends, before the update; D's own loss is minus it."""
    model, batches = build("wgan", "ring", n_critic=1)
    batch, twin = next(batches), build("wgan", "ring", n_critic=1)[0]
    with scratchgan.no_grad():
        fake = twin.generator(twin.noise(10))
        expected = twin.critic(gans.sampling.constant(batch[0], twin.critic)).mean() - twin.critic(fake).mean()
    found = model.step(iter([batch]))
    assert found["distance"] == pytest.approx(expected.item(), rel=1e-5) == -found["loss_d"]


def test_wgan_refuses_batch_normalisation_of_points():
    with pytest.raises(UserError, match="d_norm=true"):
        build("wgan", "ring", d_norm=True)


def test_the_critic_has_no_batch_normalisation():
    model, _ = build("wgan_gp", "mnist5k")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.critic.modules())


def test_scaled_samples_are_those_of_the_networks_times_the_scale():
    """And the critic sees them divided by it: the grid's points come as the authors' toys have them."""
    plain, scaled = build("wgan_gp", "ring")[0], build("wgan_gp", "ring", scale=4.0)[0]
    rng = np.random.default_rng(0)
    z, x = plain.prior(rng, 5), rng.standard_normal((5, 2))
    np.testing.assert_allclose(scaled.generate(z), 4 * plain.generate(z), rtol=1e-6)
    np.testing.assert_allclose(scaled.logits(4 * x), plain.logits(x), rtol=1e-5)
    assert gans.configure("wgan_gp", data="grid").scale == 2.83


def test_dcgan_starts_as_the_paper_says():
    model, _ = build("dcgan", "mnist5k", g_width=64, d_width=64)
    for module in (model.generator, model.discriminator):
        for key, p in module.named_parameters():
            values = p.detach().numpy()
            if key.endswith("bias"):
                assert not values.any()
            elif values.ndim == 4:
                assert abs(values.mean()) < 0.004 and 0.017 < values.std() < 0.023
            else:
                assert abs(values.mean() - 1) < 0.01


# Names and settings

def test_names():
    assert gans.names() == ["gan", "cgan", "lapgan", "dcgan", "srgan", "wgan", "wgan_gp", "stylegan", "stylegan2"]
    assert gans.get("WGAN-GP") is gans.get("wgan_gp") is wgan_gp.WGANGP
    assert gans.canonical("wgan-gp") == "wgan_gp"


@pytest.mark.parametrize("wrong, hint", [
    ("dcgn", "did you mean dcgan?"), ("wgangp", "did you mean wgan_gp?"), ("completely else", "GANs: gan")])
def test_unknown_names(wrong, hint):
    with pytest.raises(UserError, match=f"'{wrong}' is no GAN.*") as error:
        gans.get(wrong)
    assert hint in str(error.value)


def test_presets_suit_the_data_and_yield_to_what_is_given():
    assert gans.configure("gan") == gan_file.Config()
    assert gans.configure("gan", data="ring").batch_size == gan_file.POINTS["batch_size"]
    assert gans.configure("gan", data="ring", batch_size=7).batch_size == 7
    assert gans.configure("dcgan", data="digits").data == "digits"


def test_presets_of_points_hold_for_an_npz_of_points(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, samples=np.zeros((5, 2), np.float32))
    assert gans.configure("wgan_gp", data=str(path)).size is None
    np.savez(path, samples=np.zeros((5, 8, 8), np.float32))
    assert gans.configure("wgan_gp", data=str(path)).size == 32
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="mine.npz"):
        gans.configure("wgan_gp", data=str(path))


@pytest.mark.parametrize("name, wrong, message", [
    ("gan", {"k": 0}, "k=0: expected a number of at least 1"),
    ("gan", {"g_widths": (8, 0)}, r"g_widths=\(8, 0\): expected numbers of at least 1"),
    ("gan", {"d_widths": ()}, r"d_widths=\(\): expected numbers"),
    ("gan", {"d_dropout": 1.0}, "d_dropout=1.0: expected a number of at least 0 and below 1"),
    ("gan", {"batch_size": 1}, "batch_size=1: batch normalisation"),
    ("dcgan", {"betas": (0.5, 1.0)}, r"betas=\(0.5, 1.0\): expected numbers"),
    ("dcgan", {"ema_decay": -0.1}, "ema_decay=-0.1: expected"),
    ("wgan", {"clip": 0.0}, "clip=0.0: expected a number above 0"),
    ("wgan", {"n_critic": 0}, "n_critic=0: expected"),
    ("wgan_gp", {"n_critic": 0}, "n_critic=0: expected"),
    ("wgan_gp", {"penalty": -1.0}, "penalty=-1.0: expected")])
def test_settings_out_of_range(name, wrong, message):
    with pytest.raises(UserError, match=message):
        gans.configure(name, **wrong)


@pytest.mark.parametrize("data", [POINTS, Spec((3, 30, 30), -1.0, 1.0)])
def test_dcgan_refuses_data_without_the_right_shape(data):
    with pytest.raises(UserError, match="dcgan networks"):
        gans.get("dcgan")(data, gans.configure("dcgan"), Streams(0))
