"""Diagnosis while training: the held-out side, what is measured, which alarms fail when."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scratchgan import gans, nn, report, tensor
from scratchgan import train as training
from scratchgan.checkpoint import Diverged
from scratchgan.data import Dataset, Spec, load
from scratchgan.diagnosis import measures as measures_file
from scratchgan.diagnosis.alarms import Alarms, detrended, periodicity, spans
from scratchgan.diagnosis.measures import Measures
from scratchgan.errors import UserError
from scratchgan.gans import gan as gan_file
from scratchgan.gans.sampling import Player
from scratchgan.run import Plan, Run, open_run, read_plan, resume, start
from scratchgan.train import train

SMALL = {"g_widths": (8, 8), "d_widths": (8,)}


def plan(gan: str = "gan", data: str = "ring", **given) -> Plan:
    own = {k: given.pop(k) for k in [f.name for f in dataclasses.fields(Plan)] if k in given}
    config = gans.configure(gan, data=data, **{**SMALL, **given} if gan == "gan" else given)
    return Plan(**{"gan": gan, "seed": 0, "device": "cpu", "epochs": None, "checkpoint_every": 0, **own}, config=config)


# The held-out side


def test_a_run_trains_on_one_side_of_the_data_only(tmp_path):
    run = Run(plan(held_out=0.2, batch_size=16), tmp_path / "a")
    assert len(run.train_data) == 80_000 and len(run.held_out_data) == 20_000
    held_out = {x.tobytes() for x in run.held_out_data.get(np.arange(20_000))}
    seen = {x.tobytes() for _, (batch, _) in zip(range(run.batches.steps_per_epoch), run.batches) for x in batch}
    assert len(seen) == 80_000 and not seen & held_out


def test_nothing_held_out_means_everything_is_trained_on(tmp_path):
    run = Run(plan(held_out=0.0), tmp_path / "a")
    assert len(run.train_data) == 100_000 and run.held_out_data is None


@pytest.mark.parametrize("held_out", [-0.1, 1.0])
def test_a_share_is_a_share(held_out):
    with pytest.raises(UserError, match=f"held_out={held_out}: expected a number of at least 0 and below 1"):
        plan(held_out=held_out)


def test_too_little_data_to_hold_any_out_says_what_to_do(tmp_path):
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32))
    few = plan(data=str(tmp_path / "few.npz"), batch_size=2)
    with pytest.raises(UserError, match="one side empty.*--held-out 0 trains on everything"):
        start(few, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    start(dataclasses.replace(few, held_out=0.0), tmp_path / "a")


def test_older_run_folders_trained_on_everything(tmp_path):
    folder = start(plan(held_out=0.0, batch_size=16), tmp_path / "a").folder
    document = json.loads((folder / "config.json").read_text())
    for name in ("held_out", "log_every", "eval_every", "eval_metrics", "tensorboard"):
        del document[name]
    (folder / "config.json").write_text(json.dumps(document))
    assert read_plan(folder).held_out == 0.0


# What is measured


class Recorded:
    """A GAN whose weights, samples and logits are given."""
    conditioned_on = None

    def __init__(self, fake):
        self.network, self.fake = nn.Linear(2, 1), fake

    def players(self):
        return {"g": Player(self.network, None)}

    def logits(self, x):
        return x[:, 0] + 2 * x[:, 1]

    def sample(self, n, noise, averaged):
        return self.fake[:n]


def points(n: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((n, 2))).astype(np.float32)


def dataset(x: np.ndarray) -> Dataset:
    return Dataset("points", Spec((2,), -np.inf, np.inf), x)


def test_measures_have_their_definitions():
    real, held_out, fake = points(100, seed=1), points(90, seed=2) + 1, points(200, 0.5, seed=3)
    gan = Recorded(fake)
    measures = Measures(gan, dataset(real), dataset(held_out), 0)
    measures.before_step()
    w, b = (p.detach().numpy().copy() for p in gan.network.parameters())
    for p, change in zip(gan.network.parameters(), (0.5, 0.25)):
        p._array += change
        p.grad = tensor(np.full(p.shape, 3.0, np.float32))
    found = measures.after_step()
    value = lambda x: x @ np.array([1.0, 2.0])  # noqa: E731
    everything = np.concatenate([value(real), value(held_out), value(fake[:128])])
    size = np.sqrt((w**2).sum() + (b**2).sum())
    expected = {
        "logit_real": value(real).mean(),
        "logit_held_out": value(held_out).mean(),
        "logit_gap": value(real).mean() - value(held_out).mean(),
        "logit_fake": value(fake[:128]).mean(),
        "logit_std": everything.std(),
        "grad_norm_g": np.sqrt(3 * 3.0**2),
        "update_ratio_g": np.sqrt(2 * 0.5**2 + 0.25**2) / size,
        "diversity": distance(fake[:64]) / distance(measures.examples["real"][:64]),
    }
    assert found == {name: pytest.approx(v, rel=1e-5) for name, v in expected.items()}


def distance(x: np.ndarray) -> float:
    return float(np.mean([np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]]))


def test_fewer_samples_are_shown_where_images_are_made_from_images():
    x = points(200)
    gan = Recorded(points(200, seed=1))
    gan.conditioned_on = "images"
    asked = []
    gan.sample = lambda n, noise, averaged: asked.append(n) or gan.fake[:n]
    measures = Measures(gan, dataset(x), dataset(x), 0)
    measures.before_step()
    measures.after_step()
    assert asked == [16, 16] and [len(side) for side in measures.examples.values()] == [16, 16]


def test_what_cannot_be_measured_is_left_out():
    found = Measures(Recorded(points(128)), dataset(np.ones((50, 2), np.float32)), None, 0)
    found.gan.network = nn.Sequential()
    found.before_step()
    assert set(found.after_step()) == {"logit_real", "logit_fake", "logit_std", "grad_norm_g"}


def test_samples_that_are_not_finite_are_not_hidden():
    measures = Measures(Recorded(np.full((128, 2), np.nan, np.float32)), dataset(points(80)), None, 0)
    measures.before_step()
    assert np.isnan(measures.after_step()["diversity"])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 18, 25)])
def test_diversity_of_images(shape):
    x = np.random.default_rng(0).uniform(-1, 1, (70, *shape)).astype(np.float32)
    gan = Recorded(x[::-1].copy())
    gan.logits = lambda x: x.mean(axis=(1, 2, 3))
    measures = Measures(gan, Dataset("images", Spec(shape, -1.0, 1.0), x), None, 0)
    measures.before_step()
    assert 0.9 < measures.after_step()["diversity"] < 1.1
    gan.fake[:] = gan.fake[0]
    assert measures.after_step()["diversity"] < 1e-3


RUNS = {
    "gan": {"data": "digits", "g_widths": (16,), "d_widths": (16,)},
    "dcgan": {"data": "digits", "size": 8, "g_width": 4, "d_width": 4},
    "wgan_gp": {"data": "ring", "g_width": 8, "d_width": 8},
}


def trained(folder, gan: str, **own):
    run = start(plan(gan, batch_size=8, steps=6, **RUNS[gan], **own), folder)
    train(run)
    return run


def rows(folder) -> list[dict]:
    """Of metrics.jsonl, without what the clock says."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "steps_per_s")}
        for row in report.read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize("gan", RUNS)
def test_diagnosis_and_evaluation_change_no_bit(tmp_path, gan):
    metric = "modes" if gan == "wgan_gp" else "precision_recall"
    watched = trained(tmp_path / "on", gan, log_every=1, eval_every=3, eval_metrics=(metric,), tensorboard=True)
    unwatched = trained(tmp_path / "off", gan, log_every=0)
    assert (tmp_path / "on" / "checkpoint" / "checkpoint.json").read_bytes() == (
        tmp_path / "off" / "checkpoint" / "checkpoint.json"
    ).read_bytes(), "which holds the hash of all arrays and the state of all streams"
    plain = rows(unwatched.folder)
    assert plain == [{k: row[k] for k in plain[0]} for row in rows(watched.folder)]
    assert all("grad_norm_d" in row and "logit_gap" in row for row in rows(watched.folder))


def test_measures_are_logged_where_they_are_due(tmp_path):
    run = trained(tmp_path / "a", "gan", log_every=2, held_out=0.0)
    logged = [row for row in rows(run.folder) if "diversity" in row]
    assert [row["step"] for row in logged] == [2, 4, 6]
    assert all("logit_held_out" not in row and "logit_gap" not in row for row in logged)
    assert all(row["steps_per_s"] > 0 for row in report.read_metrics(run.folder / "metrics.jsonl")[1::2])


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    run = start(plan(log_every=1, batch_size=8), tmp_path / "a")
    monkeypatch.setattr(measures_file, "norm", lambda arrays: float("inf"))
    with pytest.raises(Diverged, match="step 1: grad_norm_d is inf"):
        train(run)


# Alarms


HEALTHY = {
    "loss_d": 1.3,
    "loss_g": 0.8,
    "d_real": 0.6,
    "d_fake": 0.4,
    "logit_real": 0.5,
    "logit_held_out": 0.45,
    "logit_gap": 0.05,
    "logit_fake": -0.5,
    "logit_std": 1.0,
    "grad_norm_d": 2.0,
    "grad_norm_g": 2.0,
    "diversity": 0.9,
}
ILL = {
    "mode collapse": {"diversity": 0.1},
    "D saturated": {"d_real": 0.999, "d_fake": 0.001},
    "D overfitting": {"logit_real": 3.0, "logit_held_out": -2.0, "logit_gap": 5.0, "logit_fake": -2.0},
    "exploding gradients": {"grad_norm_d": 5e3},
    "vanishing gradients": {"grad_norm_g": 1e-4},
}


def told(*values: tuple[int, dict]) -> list[tuple[int, str, bool]]:
    """(line, alarm, begins) of the events of `count` lines of each."""
    alarms, lines = Alarms(), [{**HEALTHY, **own} for count, own in values for _ in range(count)]
    events = [event for i, row in enumerate(lines) for event in alarms.read({"step": i + 1, **row})]
    return [(event.step, event.alarm, event.begins) for event in events]


def test_health_is_silent():
    assert told((600, {})) == []


def test_a_small_gradient_is_no_alarm_where_there_are_pictures_to_come_near():
    assert told((20, {}), (20, {**ILL["vanishing gradients"], "pixels": 0.01})) == []


def test_a_discriminator_that_is_not_trained_yet_remembers_nothing():
    ill = ILL["D overfitting"]
    assert told((20, {**ill, "update_ratio_d": 0.0}), (20, {"update_ratio_d": 1e-3})) == []
    assert told((20, {**ill, "update_ratio_d": 1e-3}))[0][1:] == ("D overfitting", True)


@pytest.mark.parametrize("alarm", ILL)
def test_an_alarm_begins_and_ends(alarm):
    (began, *first), (ended, *second) = told((20, {}), (20, ILL[alarm]), (30, {}))
    assert first == [alarm, True] and 21 < began <= 31
    assert second == [alarm, False] and 41 < ended <= 51


@pytest.mark.parametrize("alarm", ILL)
def test_one_odd_line_alarms_nobody(alarm):
    assert told((20, {}), (1, ILL[alarm]), (20, {})) == []


@pytest.mark.parametrize("alarm", ILL)
def test_what_is_not_measured_alarms_nobody(alarm):
    names = ILL[alarm].keys() - {"grad_norm_g"}
    alarms = Alarms()
    for i in range(20):
        row = {k: v for k, v in {**HEALTHY, **ILL[alarm]}.items() if k not in names}
        assert {e.alarm for e in alarms.read({"step": i, **row})} <= {"vanishing gradients"}


@pytest.mark.parametrize(
    "name, inside, alarm",
    [
        ("diversity", (0.25, 0.35), "mode collapse"),
        ("d_real", (0.99, 0.96), "D saturated"),
        ("grad_norm_g", (2e3, 500.0), "exploding gradients"),
        ("grad_norm_g", (0.005, 0.02), "vanishing gradients"),
    ],
)
def test_a_level_between_the_thresholds_keeps_an_alarm_and_begins_none(name, inside, alarm):
    severe, between = inside
    own = {"d_fake": 0.0} if name == "d_real" else {}
    events = told((10, {**own, name: severe}), (20, {**own, name: between}))
    assert [event[1:] for event in events] == [(alarm, True)]
    assert told((30, {**own, name: between})) == []


def waves(period: float, noise: float = 0.0, mean: float = 0.0, steps: int = 600) -> list[str]:
    """The alarms of losses that swing about `mean` with amplitude 1."""
    alarms, random, events = Alarms(), np.random.default_rng(0), []
    for step in range(1, steps + 1):
        angle = 2 * np.pi * step / period
        d, g = (mean + f(angle) + noise * random.standard_normal() for f in (np.sin, np.cos))
        row = {"step": step, "loss_d": d, "loss_g": g}
        events += alarms.read({**HEALTHY, **row} if step % 50 == 0 else row)
    return [event.alarm for event in events]


@pytest.mark.parametrize("period", [12, 40, 130, 300])
def test_losses_that_swing_are_told_at_any_period(period):
    assert waves(period, noise=0.3) == ["oscillation"]


def test_what_does_not_swing_is_no_oscillation():
    assert waves(1e9, noise=1.0) == [], "noise"
    assert waves(1e4, noise=0.1) == [], "a drift"
    assert waves(40, mean=100.0) == [], "a ripple on a large loss"


def test_correlation_of_sines_and_constants():
    t = np.arange(100)
    assert periodicity(np.sin(2 * np.pi * t / 25)) > 0.95
    assert periodicity(np.zeros(100)) == 0.0 and periodicity(np.ones(100)) == 0.0
    assert periodicity(np.random.default_rng(0).standard_normal(100)) < 0.2
    np.testing.assert_allclose(detrended(3.0 * t - 7), 0, atol=1e-9)


def test_spans_follow_from_the_rows():
    lines = [{"step": i + 1, **HEALTHY, **(ILL["mode collapse"] if 10 <= i < 30 else {})} for i in range(40)]
    lines += [{"step": i + 1, **HEALTHY, **ILL["vanishing gradients"]} for i in range(40, 60)]
    assert spans(lines) == [("mode collapse", 13, 33), ("vanishing gradients", 43, None)]


# Alarms of real runs


def alarms_of(folder, gan: str, data: str, **given) -> list[str]:
    """The alarms of a run, as alarms.jsonl has them."""
    run = start(plan(gan, data, sample_every=10**6, **given), folder)
    train(run)
    events = [json.loads(line) for line in (folder / "alarms.jsonl").read_text().splitlines()]
    assert [tuple(e[k] for k in ("step", "alarm")) for e in events if e["begins"]] == [
        span[1::-1] for span in spans(report.read_metrics(folder / "metrics.jsonl"))
    ]
    return [event["alarm"] for event in events if event["begins"]]


@pytest.fixture
def without_pictures(monkeypatch):
    """Drawing takes longer than these runs."""
    monkeypatch.setattr(Run, "picture", lambda run: run.folder / "none.png")
    monkeypatch.setattr(training, "_plot", lambda run: None)


WIDE = {"g_widths": (64, 64), "d_widths": (64, 64)}
WEAK = {"g_widths": (1,), "d_widths": (64, 64), "k": 5, "lr": 1e-3, "batch_size": 64}
FAILING = {
    "mode collapse": ("gan", "ring", {**WIDE, "lr": 0.05, "batch_size": 64, "steps": 300}),
    "D saturated": ("gan", "ring", {**WEAK, "steps": 250}),
    "vanishing gradients": ("gan", "ring", {**WEAK, "saturating": True, "steps": 250}),
    "exploding gradients": (
        "wgan_gp",
        "ring",
        {"penalty": 0.0, "g_width": 32, "d_width": 32, "lr": 5e-3, "batch_size": 64, "steps": 250},
    ),
    "oscillation": (
        "gan",
        "ring",
        {**WIDE, "betas": (0.95, 0.999), "lr": 2e-3, "batch_size": 64, "steps": 700},
    ),
}


@pytest.mark.parametrize("alarm", FAILING)
def test_a_run_that_fails_is_told(tmp_path, without_pictures, alarm, capsys):
    gan, data, settings = FAILING[alarm]
    assert alarm in alarms_of(tmp_path / "a", gan, data, **settings)
    assert capsys.readouterr().err.count(f"alarm begins: {alarm}: ") >= 1


def test_a_discriminator_that_learns_64_images_by_heart_is_told(tmp_path, without_pictures):
    digits = load("digits")
    some = digits.subset(np.random.default_rng(0).permutation(len(digits))[:128])
    np.savez(tmp_path / "few.npz", x=some.get(np.arange(128)))
    settings = {"d_dropout": 0.0, "lr": 5e-4, "batch_size": 64, "steps": 600, "held_out": 0.5, "log_every": 25}
    widths = {"g_widths": (128, 256), "d_widths": (256, 128)}
    assert "D overfitting" in alarms_of(tmp_path / "a", "gan", str(tmp_path / "few.npz"), **settings, **widths)


DEFAULT = {"g_widths": gan_file.Config.g_widths, "d_widths": gan_file.Config.d_widths}
SOUND = {
    "gan, ring": ("gan", "ring", {**gan_file.POINTS, "steps": 600}),
    "gan, digits": ("gan", "digits", {**DEFAULT, "steps": 500}),
    "dcgan, digits": ("dcgan", "digits", {"steps": 300}),
    "wgan_gp, digits": ("wgan_gp", "digits", {"steps": 60, "log_every": 5}),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_run_is_not_accused(tmp_path, without_pictures, name):
    gan, data, settings = SOUND[name]
    settings = {k: v for k, v in settings.items() if k != "sample_every"}
    assert alarms_of(tmp_path / "a", gan, data, **settings) == []


def test_alarms_of_an_interrupted_run_are_those_of_a_whole_one(tmp_path, without_pictures):
    settings = {**WEAK, "steps": 60, "log_every": 5, "checkpoint_every": 20, "sample_every": 10**6}
    whole = start(plan("gan", "ring", **settings), tmp_path / "whole")
    train(whole)
    killed = start(plan("gan", "ring", **settings), tmp_path / "killed")
    step = killed.gan.step

    def dies(batches):
        if killed.step == 47:
            raise KeyboardInterrupt
        return step(batches)

    killed.gan.step = dies
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    assert (tmp_path / "killed" / "alarms.jsonl").read_bytes()
    again = open_run(tmp_path / "killed")
    assert again.step == 40
    train(again)
    assert rows(whole.folder) == rows(killed.folder)
    for name in ("alarms.jsonl", "checkpoint/checkpoint.json"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()


def test_alarms_are_marked_in_the_plot(tmp_path):
    lines = [{"step": s, "seconds": 0.0, **HEALTHY} for s in range(1, 50)]
    report.save_losses(tmp_path / "plain.png", lines)
    report.save_losses(tmp_path / "marked.png", lines, [("mode collapse", 10, 20), ("D saturated", 30, None)])
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "marked.png") as marked:
        assert plain.size == marked.size
        plain, marked = (np.asarray(p.convert("RGB")).astype(int) for p in (plain, marked))
    red = (marked[..., 0] - marked[..., 2]).clip(0) - (plain[..., 0] - plain[..., 2]).clip(0)
    assert (abs(red) > 10).mean() > 0.02


# Evaluation while training


def test_evaluations_are_logged_where_they_are_due(tmp_path):
    run = trained(tmp_path / "a", "wgan_gp", log_every=0, eval_every=3)
    evaluated = {row["step"]: [k for k in row if k.startswith("eval/")] for row in rows(run.folder)}
    assert [step for step, names in evaluated.items() if names] == [3, 6]
    assert "eval/modes" in evaluated[3]


@pytest.mark.parametrize(
    "own, message",
    [
        ({"eval_every": 5, "eval_metrics": ("modse",)}, "did you mean modes"),
        ({"eval_every": 5, "eval_metrics": ("is",)}, "is: is a metric of images, but ring holds points"),
        ({"eval_every": 5, "eval_metrics": ("memorisation",), "held_out": 0.0}, "memorisation: compares with"),
        ({"eval_every": 0, "eval_metrics": ("modes",)}, "say how often with --eval-every"),
        ({"eval_every": -1}, "eval_every=-1"),
        ({"log_every": -1}, "log_every=-1"),
    ],
)
def test_what_cannot_be_evaluated_is_found_before_the_training(tmp_path, own, message):
    with pytest.raises(UserError, match=message):
        start(plan(**own), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_tensorboard_has_the_scalars_and_the_pictures(tmp_path):
    run = trained(tmp_path / "a", "gan", log_every=2, tensorboard=True)
    again = resume(run.folder, {}, {"steps": 8})
    train(again)
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("loss_d")] == list(range(1, 9))
    logged = {row["step"]: row["diversity"] for row in rows(run.folder) if "diversity" in row}
    assert {e.step: e.value for e in events.Scalars("diversity")} == {
        step: pytest.approx(value, rel=1e-6) for step, value in logged.items()
    }
    assert [image.step for image in events.Images("samples")] == [0, 1, 2, 5, 6, 8]
