"""pytest-benchmark: chains of ops on 16 elements, forward and backward; `pytest bench/bench_engine.py
--benchmark-group-by=param:chain`.
"""

import pytest

from bench import engine, timing

CHAINS = {c.name: c for c in engine.chains()}


@pytest.mark.parametrize("side", ["scratchgan", "torch"])
@pytest.mark.parametrize("chain", CHAINS)
def test_chain(benchmark, chain, side):
    timing.same_threads()
    engine.check(CHAINS[chain])
    benchmark(CHAINS[chain].ours if side == "scratchgan" else CHAINS[chain].theirs)
