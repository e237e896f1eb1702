"""A whole training step of each GAN against PyTorch eager: same networks, batches, threads and process.

A step is everything that `step` does: noise, the updates of D and G, the average of G's weights, the scalars
that it reports. PyTorch's side is tests/reference, the loop as it is usually written; the rows "D frozen"
give PyTorch the advantage of switching D's gradients off while G learns, which scratchgan's
`backward(inputs=...)` amounts to.

Steps of StyleGAN2 are not alike: some have a penalty, which is worth its interval. There a call is as many steps as
it takes until all have been, and the table has their mean.

With `--device cuda` ours runs on CuPy and Triton, as CUDA graphs (`scratchgan/graph.py`), and PyTorch's rows come
four times: eager and with its networks under torch.compile, each as it is and as a CUDA graph of the whole step
(`bench/graphed_steps.py`). Both sides read their losses at the end of a step, which waits for the GPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial

import numpy as np
import torch

from bench.graphed_steps import graphed
from bench.timing import Budget, Row, compare, in_turn, milliseconds
from scratchgan import gans
from scratchgan.data import Spec
from scratchgan.graph import StepGraphs
from tests.reference import Parts
from tests.twins import IMAGE, POINT, Twins, batches, for_torch, twins

BATCH = 64
ROUNDS = 9  # at most: some steps take seconds
WARM_PERIODS = 2  # of steps that are not alike: one to record each, one to capture it
STEPS, TOLERANCE = 2, 1e-2  # Adam's first updates have the size of lr, rounding or not; a critic's loss is a small difference


@dataclass(frozen=True)
class Workload:
    """One GAN on data of one shape."""

    name: str
    gan: str
    spec: Spec
    settings: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)  # of the reference
    period: int = 1  # steps after which their courses repeat

    def twins(self, device: str = "cpu", **more) -> Twins:
        return twins(
            self.gan,
            self.spec,
            dtype=np.float32,
            device=device,
            options=self.options,
            **{"batch_size": BATCH, **self.settings, **more},
        )

    def data(self) -> list[tuple]:
        """A few batches that are used over and over."""
        return list(
            itertools.islice(batches(self.spec, self.settings.get("batch_size", BATCH), np.float32), 4)
        )


WIDE = {"g_width": 64, "d_width": 64}
PENALTIES = math.lcm(*(getattr(gans.configure("stylegan2"), name) for name in ("r1_every", "path_every")))
GREY, COLOUR = Spec((1, 32, 32), *IMAGE), Spec((3, 64, 64), *IMAGE)
DIGITS = Spec((1, 32, 32), *IMAGE, classes=10)
WORKLOADS = [
    Workload("gan MLP 28x28x1", "gan", Spec((1, 28, 28), *IMAGE)),
    Workload("gan MLP points", "gan", Spec((2,), *POINT), {"data": "ring", "batch_size": 256}),
    Workload("dcgan 32x32x1", "dcgan", GREY, WIDE),
    Workload("dcgan 32x32x1, D frozen", "dcgan", GREY, WIDE, {"freeze": True}),
    Workload("dcgan 64x64x3", "dcgan", COLOUR, WIDE),
    Workload("dcgan 64x64x3, D frozen", "dcgan", COLOUR, WIDE, {"freeze": True}),
    Workload("wgan_gp 32x32x1", "wgan_gp", GREY, WIDE),
    Workload("wgan 32x32x1", "wgan", GREY),
    Workload("cgan 32x32x1", "cgan", DIGITS),
    Workload("lapgan 28x28x1", "lapgan", Spec((1, 28, 28), *IMAGE)),
    Workload("srgan 4x to 64x64x3", "srgan", COLOUR, {"batch_size": 8, "pretrain_steps": 0}),
    Workload("stylegan 32x32x1", "stylegan", GREY, {"stable_images": 0, "fade_images": 0}),
    Workload("stylegan2 32x32x1", "stylegan2", GREY, period=PENALTIES),
    Workload("wgan_gp MLP points", "wgan_gp", Spec((2,), *POINT), {"data": "ring", "batch_size": 256}),
]
PAPER = {"g_width": 64, "d_width": 64, "max_width": 512, "latent": 512, "mapping_layers": 8, "batch_size": 8}
ON_GPU = [  # at sizes of the papers
    Workload("gan MLP 28x28x1", "gan", Spec((1, 28, 28), *IMAGE), {"batch_size": 128}),
    Workload("dcgan 64x64x3", "dcgan", COLOUR, {**WIDE, "batch_size": 128}),
    Workload("wgan_gp 32x32x1", "wgan_gp", GREY, WIDE),
    Workload("srgan 4x to 96x96x3", "srgan", Spec((3, 96, 96), *IMAGE), {"batch_size": 16, "pretrain_steps": 0}),
    Workload("stylegan2 256x256x3", "stylegan2", Spec((3, 256, 256), *IMAGE), {"size": 256, **PAPER}, period=PENALTIES),
]


def stepping(workload: Workload, pair: Twins, device: str = "cpu") -> tuple:
    """Two functions that take a training step, ours (on a GPU as a CUDA graph where it can be) and PyTorch's."""
    ours = itertools.cycle(workload.data())
    theirs = itertools.cycle(map(for_torch, workload.data()))
    gan = pair.ours if device == "cpu" else StepGraphs(pair.ours)
    return (lambda: gan.step(ours)), (lambda: pair.theirs.step(theirs))


def check(workload: Workload, device: str = "cpu") -> None:
    """The first steps on the same noise report the same losses (tests/test_training_steps.py compares every
    weight, in float64).
    """
    names = [f.name for f in fields(gans.get(workload.gan).config_class)]
    off = {name: 0.0 for name in names if name.endswith("dropout")}
    ours, theirs = stepping(workload, workload.twins(device, replay=True, **off), device)
    for _ in range(STEPS):
        found, expected = ours(), theirs()
        for key in expected:
            if not abs(found[key] - expected[key]) <= TOLERANCE * (1 + abs(expected[key])):
                raise AssertionError(f"{workload.name}: {key} is {found[key]}, PyTorch's {expected[key]}")


def measure(budget: Budget, only: str = "", device: str = "cpu") -> list[Row]:
    """Milliseconds of a step."""
    with torch.device(device):
        budget = replace(budget, rounds=min(budget.rounds, ROUNDS))
        return [row for workload in (WORKLOADS if device == "cpu" else ON_GPU) if only in workload.name
                for row in rows_of(workload, budget, device)]  # fmt: skip


def rows_of(workload: Workload, budget: Budget, device: str) -> list[Row]:
    """One workload against PyTorch eager; on a GPU also compiled, and each of them as a graph."""
    check(workload, device)
    rows = []
    for title in ("",) if device == "cpu" else ("", ", torch.compile"):
        name, pair = workload.name + title, workload.twins(device, replay=False)
        if title:
            _compile(pair.theirs)
        ours, theirs = stepping(workload, pair, device)
        rows.append(_compare(workload, name, ours, theirs, budget))
        if device != "cpu":
            try:
                theirs = graphed(pair.theirs, itertools.cycle(workload.data()), workload.period)
            except RuntimeError as error:
                print(f"{name}: PyTorch's step is not captured: {error}")
                continue
            rows.append(_compare(workload, f"{name}, graphed", ours, theirs, budget))
    return rows


def _compile(training: Parts) -> None:
    for part in training.parts().values():
        if isinstance(part, torch.nn.Module):
            part.compile()


def _compare(workload: Workload, name: str, ours: Callable, theirs: Callable, budget: Budget) -> Row:
    """Milliseconds of a step; where steps are not alike, the mean of a period's."""
    if workload.period == 1:
        return compare(name, ours, theirs, budget)
    periods = [partial(milliseconds, function, workload.period) for function in (ours, theirs)]
    for warm_up in periods * WARM_PERIODS:
        warm_up()
    return in_turn(name, *periods, max(2, budget.rounds // 3))
