"""The benchmarks cover what the tests cover, and refuse to time what is wrong."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import critic, engine, graphed_steps, kernels, ops, overhead, readme, steps, timing
from bench.cuda import WARM_UP, Times
from scratchgan.data import Spec
from tests.twins import POINT, batches, for_torch

ROOT = Path(__file__).parents[1]


def test_a_table_of_old_results_names_where_they_were_made(tmp_path):
    for i, commit in enumerate(("b", "a", "b")):
        environment = {"cpu": "one", "commit": commit}
        (tmp_path / f"{i}.json").write_text(json.dumps({"environment": environment}), encoding="utf-8")
    assert timing.made_in(tmp_path.glob("*.json")) == {"cpu": "one", "commit": "a; b"}


def test_every_op_of_the_table_has_a_workload():
    assert ops.missing() == []


def test_a_cotangent_lies_in_memory_as_the_result_does():
    y = np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    numbers = np.arange(120.0).reshape(y.shape)
    g = ops.in_layout_of(y, numbers)
    assert g.strides == y.strides and g.dtype == np.float32 and (g == numbers).all()


def test_every_workload_has_a_name_of_its_own():
    for names in (
        [ops.name_of(case) for case in ops.WORKLOADS],
        [chain.name for chain in engine.chains()],
        [workload.name for workload in steps.WORKLOADS],
    ):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("chain", engine.chains(), ids=lambda chain: chain.name)
def test_chains_have_pytorchs_gradients(chain):
    engine.check(chain)


@pytest.mark.parametrize("chain", engine.chains(), ids=lambda chain: chain.name)
def test_chains_by_hand_have_the_same_gradients(chain):
    overhead.check(chain)


@pytest.mark.parametrize("wrong", [[np.ones(3)], [np.ones((3, 1)) * 2], [np.full(3, np.nan)]])
def test_wrong_results_are_not_timed(wrong):
    with pytest.raises(AssertionError, match="mul"):
        timing.check_close("mul", wrong, [np.ones(3) * 2], 1e-3)


def test_more_or_fewer_results_are_not_timed():
    with pytest.raises(ValueError):
        timing.check_close("mul", [np.ones(3)], [np.ones(3), np.ones(3)], 1e-3)


def test_medians_are_milliseconds_per_call():
    row = timing.compare(
        "sleep", lambda: time.sleep(0.004), lambda: time.sleep(0.002), timing.Budget(rounds=5, seconds=0.004)
    )
    assert row.ours > 3.9 and row.torch > 1.9 and row.low <= row.high


def test_a_ratio_is_one_round_by_round():
    """Both sides take as long as each other but for one round; the quotient of the medians is 2."""
    row = timing.row_of("drift", [4, 4, 4, 1, 1], [4, 4, 2, 1, 1])
    assert (row.ours, row.torch, row.ratio) == (4, 2, 1)


def test_results_say_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    path = timing.save_rows("engine", [timing.Row("add", 1.0, 2.0, 0.5, 0.4, 0.6)])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split(":")[0] for line in lines[:6]] == [
        "# cpu",
        "# threads",
        "# commit",
        "# python",
        "# numpy",
        "# torch",
    ]
    assert list(csv.DictReader(lines[6:]))[0]["ratio"] == "0.5"


def test_tables_of_the_readme_stand_between_their_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    monkeypatch.setattr(readme, "PATH", tmp_path / "README.md")
    text = "before\n<!-- steps: written by python -m bench steps memory -->\nold\n<!-- end of steps -->\nafter\n"
    readme.PATH.write_text(text, encoding="utf-8")
    timing.save_rows("steps", [timing.Row("gan", 30.4, 20.0, 1.512, 1.4, 1.6), timing.Row("new", 1905.0, 2000.0, 0.95, 0.9, 1.0)])
    timing.save("memory", ["name", "ours_mib", "torch_mib", "ratio"], [["gan", "5.0", "10.0", "0.500"]])
    readme.put_steps()
    lines = readme.PATH.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[4:6] == ["| gan | 30 | 1.51 (1.40 to 1.60) | 0.50 |", "| new | 1905 | 0.95 (0.90 to 1.00) |  |"]
    with pytest.raises(ValueError, match="expected the marks <!-- other: written by"):
        readme.put("other", "steps", ["name"], [])


def test_critics_are_followed_on_the_line():
    setup = critic.Setup("small", "wgan", {"g_width": 8, "d_width": 8, "batch_size": 16, "n_critic": 1})
    found = critic.follow(setup, seed=0, steps=critic.WARM + 2 * critic.EVERY)
    assert len(found.estimates) == len(found.distances) == 3 and (found.distances > 0).all()
    again = critic.follow(setup, seed=0, steps=critic.WARM)
    assert (again.estimates[0], again.distances[0]) == (found.estimates[0], found.distances[0])


def test_correlations_of_estimates():
    distances = np.array([3.0, 2.0, 1.0, 0.5])
    scaled = critic.Followed("scaled", 0, 0.2 * distances, distances)
    assert scaled.pearson == pytest.approx(1) and scaled.spearman == pytest.approx(1)
    assert scaled.slope == pytest.approx(0.2)
    bent = critic.Followed("bent", 0, np.exp(distances), distances)
    assert bent.pearson < 0.99 and bent.spearman == pytest.approx(1)
    assert critic.Followed("turned", 0, -distances, distances).pearson == pytest.approx(-1)


def test_kernels_are_checked_and_timed_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    rows = kernels.measure("minimax_d", "cpu")
    kernels.show(rows)
    lines = kernels.save(rows, "cpu").read_text(encoding="utf-8").splitlines()
    (row,) = csv.DictReader(line for line in lines if not line.startswith("#"))
    assert row["dtype"] == "float32" and row["best"] == "eager" and float(row["ours_p50_ms"]) > 0
    assert float(row["ours_p20_ms"]) <= float(row["ours_p50_ms"]) <= float(row["ours_p80_ms"])


def test_a_kernel_with_wrong_results_is_not_timed():
    right = lambda: torch.ones(3)  # noqa: E731
    with pytest.raises(AssertionError, match="some kernel: result 0 is off"):
        kernels.check(kernels.Work("some kernel", lambda: np.full(3, 1.1), {"eager": right}, 1.0, 1.0), "float32")


def test_the_roofline_is_drawn(tmp_path):
    times = Times(0.1, 0.2, 0.3)
    rows = [kernels.Row("conv", dtype, times, "eager", times, 10.0, 100.0, 0.5) for dtype in ("float16", "float32")]
    kernels.plot(rows, {"copy": 4000.0, "float16": 700.0, "float32": 350.0}, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 1000


def test_tables_that_need_a_gpu_say_so():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "kernels", "tune"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "this machine has no CUDA device" in done.stderr.splitlines()[-1]


def test_candidates_of_a_configuration_come_from_its_file():
    from bench import tune

    assert {"BLOCK_M", "BLOCK_K", "BLOCK_C"} <= tune._candidates("conv")[0].keys()
    assert {"BLOCK_M", "BLOCK_Q", "BLOCK_P"} <= tune._candidates("conv_dw")[0].keys()
    assert tune._candidates("nothing") == []


def test_the_gpu_script_is_a_script():
    subprocess.run(["bash", "-n", ROOT / "bench" / "gpu.sh"], check=True)


@pytest.mark.parametrize("name, batches_a_step", [("gan", 1), ("wgan_gp", 5)])
@pytest.mark.parametrize("period", [1, 2])
def test_pytorchs_graphed_steps_are_its_steps_on_new_batches(name, batches_a_step, period):
    """A stand-in for CUDA runs the step again and leaves its report where the graph had it."""

    def made():
        torch.manual_seed(0)
        return steps.Workload(name, name, Spec((2,), *POINT), {"data": "ring", "batch_size": 8}).twins(replay=False).theirs

    def capture(update, warm_up):
        for _ in range(warm_up + 1):
            update()
        reported = dict(reports[-1])

        def launch():
            update()
            for key, value in reports[-1].items():
                reported[key].data.copy_(value)

        return launch

    data = list(itertools.islice(batches(Spec((2,), *POINT), 8, np.float32), 4 * batches_a_step))
    training, reports = made(), []
    update = training.update
    training.update = lambda held: reports.append(update(held)) or reports[-1]
    by_graph = graphed_steps.graphed(training, iter(data), period, capture)
    found = [by_graph() for _ in range(3)]

    training = made()
    before = 1 + -(-WARM_UP // period) * period + period  # to make state, to warm up, to capture
    same = [data[:batches_a_step]] * before
    rest = [data[i : i + batches_a_step] for i in range(batches_a_step, len(data), batches_a_step)]
    expected = [training.step(iter(map(for_torch, batch))) for batch in [*same, *rest]][-3:]
    assert found == expected
