"""Every kernel compiles for sm_90 and sm_80 without stack or spills, and no worse than the committed baselines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import static

ROOT = Path(__file__).parents[2]


def test_no_kernel_got_worse():
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.static"]
    runs = {
        capability: subprocess.Popen(
            [*command, f"sm_{capability}"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for capability in static.CAPABILITIES
    }
    said = {capability: run.communicate()[0] for capability, run in runs.items()}
    for capability, run in runs.items():
        assert run.returncode == 0, said[capability]
        assert "as good as the baseline" in said[capability]


def test_this_version_of_triton_has_baselines():
    for capability in static.CAPABILITIES:
        assert static.baseline(capability), f"{static.baseline_path(capability)}: run python -m bench static"


GOOD = {"registers": 100, "stack": 0, "shared": 1000, "HGMMA": 4, "HMMA": 0, "DMMA": 0, "UTMALDG": 2, "UTMASTG": 0,
        "LDGSTS": 0, "LDL": 0, "STL": 0, "local_loads_in_loop": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stack": 8}, "k: stack is 8, expected 0"),
        ({"STL": 1}, "k: STL is 1, expected 0"),
        ({"registers": 120}, "k: registers rose from 100 to 120"),
        ({"shared": 2000}, "k: shared rose from 1000 to 2000"),
        ({"local_loads_in_loop": 1}, "k: local_loads_in_loop rose from 0 to 1"),
        ({"HGMMA": 0, "HMMA": 8}, "k: HGMMA went from 4 to 0"),
        ({"UTMALDG": 0, "LDGSTS": 8}, "k: UTMALDG went from 2 to 0"),
    ],
)
def test_the_number_that_moved_is_named(change, said):
    assert said in static.faults({"k": {**GOOD, **change}}, {"k": GOOD})


def test_what_is_as_before_or_better_is_no_fault():
    assert static.faults({"k": {**GOOD, "registers": 90, "shared": 500}}, {"k": GOOD}) == []


def test_kernels_that_came_or_went_are_named():
    assert static.faults({"new": GOOD}, {"old": GOOD}) == [
        "old: was in the baseline, is no longer compiled",
        "new: not in the baseline: run python -m bench static",
    ]
