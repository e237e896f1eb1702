"""Projection into W: what is made by the generator is found again; schedules and noise are the paper's."""
from __future__ import annotations

from math import cos, pi, sqrt

import numpy as np
import pytest
from PIL import Image

import scratchgan
from scratchgan import cli, gans, project, report
from scratchgan.backend import Streams
from scratchgan.check import gradcheck
from scratchgan.data import Spec
from scratchgan.gans import stylegan2
from scratchgan.metrics.perceptual import feature_distance

SMALL = ["--set", "latent=4", "--set", "g_width=4", "--set", "d_width=2", "--set", "max_width=8",
         "--set", "mapping_layers=2", "--set", "size=16", "--batch-size", "4", "--log-every", "0"]


@pytest.fixture(scope="module")
def gan() -> stylegan2.StyleGAN2:
    """An untrained one, whose layers are steered by w all the more: there is something to find."""
    config = gans.configure("stylegan2", latent=4, g_width=4, d_width=2, max_width=8, mapping_layers=2)
    return stylegan2.StyleGAN2(Spec((1, 16, 16), -1.0, 1.0), config, Streams(0))


def test_a_picture_of_the_generators_own_is_found_again(gan):
    target = gan.generate(np.random.default_rng(1).standard_normal((1, 4)), truncation=0.5)[0]
    weights = {k: v.numpy().copy() for k, v in gan.ema.module.state_dict().items()}
    found = project.project(gan, target, steps=150)
    mean = gan.synthesise(gan.map(gan.prior(np.random.default_rng(0), 1000)).mean(axis=0, keepdims=True))[0]

    def error(image: np.ndarray) -> float:
        return float(np.square(image - target).mean())

    assert error(found.image) < 0.2 * error(mean)
    assert found.distance < 0.2 * feature_distance(mean[None], target[None])[0]
    assert found.distance == pytest.approx(feature_distance(found.image[None], target[None])[0], rel=1e-3)
    for noise, edge in zip(found.noise, gan.edges(), strict=True):
        assert noise.shape == (edge, edge)
        assert abs(noise.mean()) < 1e-5 and noise.std() == pytest.approx(1, rel=1e-4)
    np.testing.assert_equal({k: v.numpy() for k, v in gan.ema.module.state_dict().items()}, weights)


def test_one_seed_one_projection(gan):
    target = np.zeros((1, 16, 16), np.float32)
    one, same, other = (project.project(gan, target, steps=3, seed=seed).w for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


# The paper's formulas

@pytest.mark.parametrize("t, expected", [
    (0.0, 0.0), (0.025, 0.5), (0.05, 1.0), (0.75, 1.0), (0.875, 0.5), (0.95, 0.5 - 0.5 * cos(pi * 0.2))])
def test_learning_rate(t, expected):
    assert project.pace(t) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("t, expected", [(0.0, 0.05), (0.375, 0.05 / 4), (0.75, 0.0), (0.9, 0.0)])
def test_exploration_of_w(t, expected):
    assert project.exploration(t) == pytest.approx(expected, abs=1e-12)


def test_deviation_of_w():
    w = np.array([[1.0, 0.0], [3.0, 4.0]])
    mean, sigma = project.deviation(w)
    np.testing.assert_array_equal(mean, [2.0, 2.0])
    assert sigma == pytest.approx(sqrt(((1 + 4) + (1 + 4)) / 2), rel=1e-12)


def test_autocorrelation_in_loops():
    rng, total = np.random.default_rng(2), 0.0
    maps = [rng.standard_normal((r, r)) for r in (4, 16)]
    for n in maps:
        while True:
            r = len(n)
            for dx, dy in ((1, 0), (0, 1)):
                products = sum(n[x, y] * n[x - dx, y - dy] for x in range(r) for y in range(r))
                total += (products / r**2) ** 2
            if r <= 8:
                break
            n = np.array([[n[2 * x:2 * x + 2, 2 * y:2 * y + 2].mean() * 2 for y in range(r // 2)]
                          for x in range(r // 2)])
    tensors = [scratchgan.tensor(n[None, None]) for n in maps]
    assert project.autocorrelation(tensors).item() == pytest.approx(total, rel=1e-12)


def test_derivative_of_the_autocorrelation():
    rng = np.random.default_rng(3)
    maps = [rng.standard_normal((1, 1, r, r)) for r in (4, 16)]
    gradcheck(lambda *maps: project.autocorrelation(maps), maps)


def test_large_pictures_are_compared_by_means():
    images = np.random.default_rng(4).standard_normal((1, 1, 512, 512)).astype(np.float32)
    expected = images.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    found = project.perceived(scratchgan.tensor(images)).numpy()
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


# Files and the command line

def test_pictures_are_read_as_the_data_are(tmp_path):
    digit = np.random.default_rng(5).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    read = project.read(tmp_path / "digit.png", Spec((1, 32, 32), -1.0, 1.0))
    np.testing.assert_allclose(read[0], np.pad(digit, 2) / 127.5 - 1, atol=1e-6)
    Image.fromarray(np.full((40, 30, 3), (255, 0, 0), np.uint8)).save(tmp_path / "red.png")
    grey = project.read(tmp_path / "red.png", Spec((1, 16, 16), -1.0, 1.0))
    assert grey.shape == (1, 16, 16) and np.unique(grey) == pytest.approx([76 / 127.5 - 1], abs=1e-6)
    assert project.read(tmp_path / "red.png", Spec((3, 16, 16), -1.0, 1.0)).shape == (3, 16, 16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, and a picture."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", "stylegan2", "--steps", "2", "--out", str(folder / "run"), *SMALL]) == 0
    report.save_samples(folder / "target.png", np.zeros((1, 1, 16, 16), np.float32))
    return folder


def test_command(run, capsys):
    picture, arrays = run / "p.png", run / "p.npz"
    for out in (picture, arrays):
        assert cli.main(["project", str(run / "run"), str(run / "target.png"), "--steps", "2", "--out",
                         str(out)]) == 0
    assert "projected to a feature distance of " in capsys.readouterr().out
    with Image.open(picture) as image:
        assert image.width == 2 * image.height or image.width > image.height
    with np.load(arrays) as found:
        assert found["w"].shape == (4,) and found["image"].shape == found["target"].shape == (1, 16, 16)
        assert [found[f"noise_{i}"].shape for i in range(5)] == [(4, 4), *[(8, 8)] * 2, *[(16, 16)] * 2]


@pytest.mark.parametrize("wrong, message", [
    (["--out", "p.txt"], r"--out p.txt: expected a file that ends in .png or .npz"),
    (["--steps", "0"], r"--steps 0 --seed 0: expected at least 1 step"),
    (["--seed", "-1"], r"expected at least 1 step and a seed of at least 0")])
def test_mistakes(run, capsys, wrong, message):
    assert cli.main(["project", str(run / "run"), str(run / "target.png"), *wrong]) == 2
    assert message in capsys.readouterr().err


def test_other_gans_and_other_files_are_refused(run, tmp_path, capsys):
    assert cli.main(["train", "gan", "--steps", "0", "--out", str(tmp_path / "gan")]) == 0
    assert cli.main(["project", str(tmp_path / "gan"), str(run / "target.png")]) == 2
    assert "is a run of gan, which has no W" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "none.png"):
        assert cli.main(["project", str(run / "run"), str(tmp_path / name)]) == 2
        assert f"{name}: not a readable image" in capsys.readouterr().err
