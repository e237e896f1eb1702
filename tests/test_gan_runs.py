"""Runs of the Wasserstein GAN and of LAPGAN: interrupted and resumed to the bit, and samples from a checkpoint
are those from before it was saved."""
from __future__ import annotations

import numpy as np
import pytest

from scratchgan import gans
from scratchgan.checkpoint import load
from scratchgan.run import Plan, Run, open_run, resume, start
from scratchgan.train import train

PYRAMID = {"data": "digits", "g_width": 3, "g_kernels": (3, 3), "d_width": 3, "coarse_g_widths": (8,),
           "coarse_d_widths": (8,), "updates": (1, 2), "latent": 5, "d_dropout": 0.2}
RUNS = {
    "wgan, digits": ("wgan", {"data": "digits", "size": 8, "g_width": 3, "d_width": 3, "n_critic": 2}),
    "wgan, ring": ("wgan", {"data": "ring", "g_width": 6, "d_width": 6, "n_critic": 2}),
    "lapgan": ("lapgan", PYRAMID),
    "lapgan, told the class": ("lapgan", {**PYRAMID, "class_conditional": True}),
}


def plan(name: str, steps: int) -> Plan:
    gan, settings = RUNS[name]
    config = gans.configure(gan, steps=steps, batch_size=8, **settings)
    return Plan(gan=gan, seed=3, device="cpu", epochs=None, checkpoint_every=0, config=config, log_every=2)


def arrays(run: Run) -> dict[str, np.ndarray]:
    """Every array of the run's checkpoint, by its place."""
    found = {}

    def collect(place: str, state) -> None:
        if isinstance(state, dict):
            for key, value in state.items():
                collect(f"{place}/{key}", value)
        elif hasattr(state, "dtype"):
            found[place] = np.asarray(state)
        else:
            found[place] = state

    collect("", load(run.folder / "checkpoint").state)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_resumed_to_the_bit(name, tmp_path):
    whole = start(plan(name, 5), tmp_path / "whole")
    train(whole)
    train(start(plan(name, 2), tmp_path / "parts"))
    rest = resume(tmp_path / "parts", {}, {"steps": 5})
    assert rest.step == 2
    train(rest)
    expected, found = arrays(whole), arrays(rest)
    assert expected.keys() == found.keys() and len(expected) > 20
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("name", RUNS)
def test_samples_of_a_checkpoint(name, tmp_path):
    run = start(plan(name, 2), tmp_path / "run")
    train(run)
    expected = run.sample(12, seed=5)
    np.testing.assert_array_equal(open_run(tmp_path / "run").sample(12, seed=5), expected)


def test_a_class_is_asked_for(tmp_path):
    """In pictures the columns are classes; a class asked for alone is that of the column."""
    run = start(plan("lapgan, told the class", 1), tmp_path / "run")
    assert run.gan.conditioned_on == "labels" and run.columns == 10
    z = run.gan.prior(np.random.default_rng(0), 3)
    seven = run.gan.generate(z, given=np.full(3, 7))
    assert np.abs(seven - run.gan.generate(z, given=np.full(3, 1))).max() > 1e-4
