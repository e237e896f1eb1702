"""pytest-benchmark: every op on larger arrays; `pytest bench/bench_ops.py
--benchmark-group-by=param:case`.
"""

import pytest

from bench import ops, timing


@pytest.mark.parametrize("side", ["scratchgan", "torch"])
@pytest.mark.parametrize("case", ops.WORKLOADS, ids=ops.name_of)
def test_op(benchmark, case, side):
    timing.same_threads()
    pair = ops.pair(case)
    ops.check(pair)
    benchmark(pair.ours if side == "scratchgan" else pair.theirs)


def test_table_is_complete():
    assert ops.missing() == []
