"""Runs: the loop that trains, shows, saves and stops, and going on to the same bits."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scratchgan import checkpoint, report, storage
from scratchgan import run as runs
from scratchgan import train as training
from scratchgan.errors import UserError
from scratchgan.run import Plan, open_run, read_plan, resume, start
from scratchgan.train import train

# A GAN as far as a run can tell: its state depends on the data, their order and the noise.


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    data: str = "ring"
    steps: int = 12
    batch_size: int = 8
    lr: float = 0.1
    size: int | None = None
    sample_every: int = 5
    nan_at: int | None = None


class Weights:
    def __init__(self, w):
        self.w = w

    def state_dict(self):
        return {"w": self.w}

    def load_state_dict(self, state):
        self.w = state["w"].copy()


class Toy:
    config_class, conditioned_on = ToyConfig, None
    on_step = staticmethod(lambda number: None)

    def __init__(self, spec, config, streams, device):
        self.config, self.noise = config, streams["noise"]
        self.weights, self.count = (
            Weights(streams["init"].standard_normal(spec.shape)),
            Weights(np.zeros((), np.int64)),
        )

    def step(self, batches):
        x, _ = next(batches)
        self.count.w = self.count.w + 1
        Toy.on_step(int(self.count.w))
        self.weights.w = (
            0.9 * self.weights.w + self.config.lr * x.mean(axis=0) + 0.01 * self.noise.standard_normal(2)
        )
        return {
            "loss_d": float("nan")
            if self.count.w == self.config.nan_at
            else float(abs(self.weights.w).sum()),
            "d_real": 0.5,
        }

    def sample(self, n, stream):
        return (self.weights.w + stream.standard_normal((n, 2))).astype(np.float32)

    def logits(self, x):
        return (x * self.weights.w).sum(axis=1)

    def parts(self):
        return {"weights": self.weights, "count": self.count}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(runs, "gans", SimpleNamespace(get=lambda name: Toy))
    # Drawing is slow: the points' bits stand for their picture.
    monkeypatch.setattr(
        report, "save_samples", lambda path, points, *more: storage.write_atomically(path, points.tobytes())
    )
    monkeypatch.setattr(
        training, "_plot", lambda run: storage.write_atomically(run.folder / "losses.png", b"")
    )
    monkeypatch.setattr(Toy, "on_step", staticmethod(lambda number: None))


def plan(**changes) -> Plan:
    own = {k: changes.pop(k) for k in ("seed", "epochs", "checkpoint_every") if k in changes}
    return Plan(
        **{"gan": "toy", "seed": 3, "device": "cpu", "epochs": None, "checkpoint_every": 0, **own},
        config=ToyConfig(**changes),
    )


def state_files(folder: Path) -> dict[str, bytes]:
    """Everything that has to be equal to the bit: checkpoint and pictures."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.suffix in (".safetensors", ".png", ".npz") and p.name != "losses.png" or p.name == checkpoint.NAME
    }


def scalars(folder: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in report.read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize(
    "every, expected", [(100, [1, 2, 5, 10, 20, 50, 100, 200]), (3, [1, 2, 3, 6, 9, 12]), (1, [1, 2, 3])]
)
def test_pictures_come_soon_then_more_rarely(every, expected):
    assert [s for s in range(1, expected[-1] + 1) if training.picture_due(s, every)] == expected


# The run folder


def test_a_run_leaves_everything_that_it_says(tmp_path):
    run = start(plan(), tmp_path / "runs" / "a")
    assert train(run) is None
    folder = run.folder
    assert storage.entries(folder) == [
        "alarms.jsonl",
        "checkpoint",
        "config.json",
        "losses.png",
        "metrics.jsonl",
        "samples",
        "samples.png",
    ]
    steps = (0, 1, 2, 5, 10, 12)
    assert storage.entries(folder / "samples") == [f"step_{s:06d}.{e}" for s in steps for e in ("npz", "png")]
    assert (folder / "samples.png").read_bytes() == (folder / "samples" / "step_000012.png").read_bytes()
    assert [row["step"] for row in scalars(folder)] == list(range(1, 13))
    assert checkpoint.load(folder / "checkpoint").step == 12
    assert read_plan(folder) == plan()


def test_epochs_end_the_run_when_the_data_was_gone_through(tmp_path):
    run = start(
        plan(epochs=2, batch_size=40_000), tmp_path / "a"
    )  # two batches of the 100,000 points an epoch
    train(run)
    assert run.step == 4 and run.batches.epoch == 2


def test_no_steps_are_no_mistake(tmp_path):
    run = start(plan(steps=0), tmp_path / "a")
    assert train(run) is None and run.step == 0
    assert open_run(run.folder).finished


@pytest.mark.parametrize("content", ["file", "folder"])
def test_an_existing_run_is_not_overwritten(tmp_path, content):
    folder = tmp_path / "a"
    if content == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    with pytest.raises(
        UserError, match="exists already; continue it with --resume, or choose another folder with --out"
    ):
        start(plan(), folder)


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / ".config.json.tmp").write_text("left by a killed process")
    assert start(plan(), tmp_path).step == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": -1}, "steps=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": -1.0}, "lr=-1.0: expected a number above 0"),
        ({"sample_every": 0}, "sample_every=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"checkpoint_every": -1}, "checkpoint_every=-1"),
        ({"seed": -1}, "^seed=-1: expected an integer of at least 0$"),
        ({"batch_size": 100_001}, "batch_size=100001"),
        ({"data": "rign"}, "did you mean ring"),
        ({"size": 32}, "size=32"),
    ],
)
def test_bad_settings_leave_nothing_behind(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        start(plan(**change), tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.pop("seed"), "expected an object with gan, seed"),
        (lambda d: d["config"].pop("lr"), "'lr' is missing"),
        (lambda d: d["config"].update(more=1), "'more' is no setting"),
        (lambda d: d["config"].update(steps=1.5), "steps is 1.5, expected an integer"),
        (lambda d: d["config"].update(steps=True), "steps is True, expected an integer"),
        (lambda d: d.update(seed="x"), "seed is 'x', expected an integer"),
        (lambda d: d.update(config=[]), "expected an object"),
        (lambda d: d.update(gan=3), "gan is 3, expected a name"),
    ],
)
def test_a_damaged_config_is_named(tmp_path, change, message):
    folder = start(plan(), tmp_path / "a").folder
    document = json.loads((folder / "config.json").read_text())
    change(document)
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"config.json: .*{message}"):
        open_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder: it has no config.json"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: is no JSON"):
        open_run(tmp_path)


# Interrupting and going on


def interrupt_at(step: int, number: int):
    return staticmethod(lambda now: os.kill(os.getpid(), number) if now == step else None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, number):
    whole = start(plan(), tmp_path / "whole")
    train(whole)
    before = signal.getsignal(number)
    monkeypatch.setattr(Toy, "on_step", interrupt_at(7, number))
    stopped = start(plan(), tmp_path / "stopped")
    assert train(stopped) == number and stopped.step == 7
    assert signal.getsignal(number) is before
    assert checkpoint.load(stopped.folder / "checkpoint").step == 7
    monkeypatch.setattr(Toy, "on_step", staticmethod(lambda number: None))
    assert train(open_run(stopped.folder)) is None
    assert state_files(whole.folder) == state_files(stopped.folder)
    assert scalars(whole.folder) == scalars(stopped.folder)


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.parametrize("step", [1, 3, 4, 5, 12])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, step):
    whole = start(plan(), tmp_path / "whole")
    train(whole)

    def kill(now):
        if now == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "on_step", staticmethod(kill))
        killed = start(plan(checkpoint_every=3), tmp_path / "killed")
        with pytest.raises(Killed):
            train(killed)
    run = open_run(killed.folder)
    assert run.step == (step - 1) // 3 * 3
    train(run)
    assert state_files(whole.folder) == state_files(killed.folder)
    assert scalars(whole.folder) == scalars(killed.folder)


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    run = start(plan(), tmp_path / "a")
    for file in (run.folder / "checkpoint").iterdir():
        file.unlink()
    assert open_run(run.folder).step == 0


def test_a_resumed_run_can_go_further(tmp_path):
    whole = start(plan(steps=20), tmp_path / "whole")
    train(whole)
    short = start(plan(), tmp_path / "short")
    train(short)
    longer = resume(short.folder, {}, {"steps": 20})
    train(longer)
    assert read_plan(short.folder).config.steps == 20
    whole_state, longer_state = (
        checkpoint.load(r.folder / "checkpoint").path.read_bytes() for r in (whole, longer)
    )
    assert whole_state == longer_state


def test_another_models_checkpoint_is_refused(tmp_path, monkeypatch):
    run = start(plan(), tmp_path / "a")
    monkeypatch.setattr(Toy, "parts", lambda self: {"others": self.weights})
    with pytest.raises(UserError, match="is of another model: holds weights, count, expected others"):
        open_run(run.folder)


def test_time_alone_brings_checkpoints_and_plots_too(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    steps, save = [], runs.Run.save
    monkeypatch.setattr(runs.Run, "save", lambda self: (steps.append(self.step), save(self)))
    train(start(plan(steps=3), tmp_path / "a"))
    assert steps == [0, 1, 2, 3, 3]


def test_timer_is_due_once_an_interval(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    timer, due = training.Timer(10), []
    for now[0] in (5.0, 10.0, 15.0, 19.0, 25.0):
        due.append(timer.due())
    assert due == [False, True, False, False, True]


# What goes wrong on the way


def test_a_loss_that_is_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    run = start(plan(nan_at=8, checkpoint_every=3), tmp_path / "a")
    with pytest.raises(checkpoint.Diverged, match="step 8: loss_d is nan; the last checkpoint"):
        train(run)
    assert checkpoint.load(run.folder / "checkpoint").step == 6
    assert [row["step"] for row in scalars(run.folder)] == list(range(1, 8))


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    run = start(plan(checkpoint_every=3, sample_every=1000), tmp_path / "a")
    monkeypatch.setattr(
        Toy, "on_step", staticmethod(lambda now: run.gan.noise_to_inf() if now == 6 else None)
    )
    monkeypatch.setattr(
        Toy, "noise_to_inf", lambda self: setattr(self.count, "w", np.array(np.inf)), raising=False
    )
    with pytest.raises(checkpoint.Diverged, match="step 6: parts/count/w holds NaN or infinity"):
        train(run)
    assert checkpoint.load(run.folder / "checkpoint").step == 3


def test_samples_that_are_not_finite_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "sample", lambda self, n, stream: np.full((n, 2), np.nan, np.float32))
    with pytest.raises(checkpoint.Diverged, match="step 0: a sample holds NaN"):
        train(start(plan(), tmp_path / "a"))


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    run = start(plan(checkpoint_every=3), tmp_path / "a")

    def full(now):
        if now == 6:
            monkeypatch.setattr(os, "fsync", refuse)

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context():
        monkeypatch.setattr(Toy, "on_step", staticmethod(full))
        with pytest.raises(UserError, match="No space left on device"):
            train(run)
    monkeypatch.undo()
    assert checkpoint.load(run.folder / "checkpoint").step == 3
    assert not list(run.folder.rglob(".*.tmp"))
