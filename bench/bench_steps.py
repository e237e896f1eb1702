"""pytest-benchmark: whole training steps; `pytest bench/bench_steps.py
--benchmark-group-by=param:workload`.
"""

import pytest

from bench import steps, timing


@pytest.mark.parametrize("side", ["scratchgan", "torch"])
@pytest.mark.parametrize("workload", steps.WORKLOADS, ids=lambda w: w.name)
def test_step(benchmark, workload, side):
    timing.same_threads()
    steps.check(workload)
    step = steps.stepping(workload, workload.twins(replay=False))[side == "torch"]
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
