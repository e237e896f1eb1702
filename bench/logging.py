"""What the default diagnosis costs: the time of its measures and alarms as a share of the steps between them.

Each GAN has its default settings and data. A step and a diagnosis are timed in turn, medians over the rounds;
the share is diagnosis / (log_every * step).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import timing
from scratchgan import gans
from scratchgan.diagnosis.alarms import SWING_STEPS, Alarms
from scratchgan.diagnosis.watch import Watch
from scratchgan.run import Plan, Run

SECONDS = 12.0  # of each GAN
LEAST_ROUNDS = 5
STEPS = 3  # in a round


@dataclass(frozen=True)
class Overhead:
    """Milliseconds of a step and of a diagnosis, and how many steps lie between two of them."""

    name: str
    step: float
    diagnosis: float
    every: int

    @property
    def percent(self) -> float:
        """Of the time that steps take."""
        return 100 * self.diagnosis / (self.every * self.step)


def measure(only: str = "") -> list[Overhead]:
    """Every GAN whose name contains `only`."""
    return [overhead(name) for name in gans.names() if only in name]


def overhead(name: str) -> Overhead:
    """Of the GAN `name` as `scratchgan train` runs it."""
    plan = Plan(
        gan=name, seed=0, device="cpu", epochs=None, checkpoint_every=0, config=gans.configure(name)
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(plan, Path(folder))
        watch, alarms = Watch(run), Alarms()
        full = {"step": 0, "seconds": 0.0, **run.gan.step(run.batches)}
        for _ in range(SWING_STEPS):  # as late in a run, when there are losses to search for a period
            alarms.read(full)
        steps, diagnoses = [], []
        end = time.perf_counter() + SECONDS
        while len(steps) < LEAST_ROUNDS or time.perf_counter() < end:
            began = time.perf_counter()
            for _ in range(STEPS):
                scalars = run.gan.step(run.batches)
            stepped = time.perf_counter()
            watch.measures.before_step()
            row = {"step": run.step, "seconds": 0.0, **scalars, **watch.measures.after_step()}
            alarms.read(row)
            diagnosed = time.perf_counter()
            steps.append((stepped - began) / STEPS * 1e3)
            diagnoses.append((diagnosed - stepped) * 1e3)
    return Overhead(name, statistics.median(steps[1:]), statistics.median(diagnoses[1:]), plan.log_every)


def show(rows: list[Overhead]) -> None:
    title = "diagnosis"
    width = max([len(title), *(len(r.name) for r in rows)])
    print(f"\n{title:<{width}}  {'step ms':>10}  {'diagnosis ms':>12}  {'every':>6}  {'overhead':>9}")
    for r in rows:
        print(f"{r.name:<{width}}  {r.step:>10.4g}  {r.diagnosis:>12.4g}  {r.every:>6}  {r.percent:>8.2f}%")


def save(rows: list[Overhead]) -> Path:
    lines = [[r.name, f"{r.step:.6g}", f"{r.diagnosis:.6g}", r.every, f"{r.percent:.3f}"] for r in rows]
    header = ["name", "step_ms", "diagnosis_ms", "log_every", "overhead_percent"]
    return timing.save("logging", header, lines)
