"""Diagnosis while training: the held-out side, what is measured, which alarms fail when."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from scratchgan import gans
from scratchgan.errors import UserError
from scratchgan.run import Plan, Run, read_plan, start

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
