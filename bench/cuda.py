"""Timing on a GPU: each function captured once as a CUDA graph, replayed on a cold cache, timed by events.

A graph keeps the host's launches, 5 to 16 us each, out of both sides' times; that is also how a training step runs. Before
each replay 256 MiB are overwritten, so that nothing of the inputs is left in the L2 cache. Functions are timed in turn,
round by round, so that a change of the clock meets them all alike.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from scratchgan import backend

WARM_UP, ROUNDS = 3, 60
CACHE = 256 << 20  # bytes overwritten between runs, several times the L2 cache


@dataclass(frozen=True)
class Times:
    """Milliseconds: the quantiles 0.2, 0.5 and 0.8 over the rounds."""

    p20: float
    p50: float
    p80: float


def graphed(function: Callable[[], object], warm_up: int = WARM_UP, pool=None) -> Callable[[], None]:
    """A replay of `function`, which works on CuPy's or torch's arrays. Graphs that are replayed in the order of their
    captures may share a `pool` of memory (torch.cuda.graph_pool_handle).

    It warms up on the stream that is captured then, since CuPy keeps freed memory by stream, and none may be taken from
    the driver during a capture.
    """
    stream, cupy = torch.cuda.Stream(), backend.module_of("cuda")
    with torch.cuda.stream(stream), cupy.cuda.ExternalStream(stream.cuda_stream):
        for _ in range(warm_up):
            function()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            function()
    torch.cuda.synchronize()
    return graph.replay


def compare(functions: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, Times]:
    """Times of each function, by its name; a function that can't be captured runs as it is."""
    replays = {name: _replay(function) for name, function in functions.items()}
    flush = torch.empty(CACHE, dtype=torch.int8, device="cuda")
    found: dict[str, list[float]] = {name: [] for name in replays}
    for _ in range(rounds):
        for name, replay in replays.items():
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            replay()
            end.record()
            torch.cuda.synchronize()
            found[name].append(begin.elapsed_time(end))
    del replays, flush
    gc.collect()
    return {name: Times(*map(float, np.quantile(times, (0.2, 0.5, 0.8)))) for name, times in found.items()}


def _replay(function: Callable[[], object]) -> Callable[[], object]:
    try:
        return graphed(function)
    except RuntimeError:
        torch.cuda.synchronize()
        return function


@functools.cache
def ceilings() -> dict[str, float]:
    """What this GPU does at its best, measured: TFLOP/s of a large float16 and TF32 product, GB/s of a copy; once in a run."""
    n = 8192
    found = {}
    for name, dtype in (("float16", torch.float16), ("float32", torch.float32)):
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        times = compare({"mm": lambda a=a, b=b, out=out: torch.mm(a, b, out=out)}, 20)["mm"]
        found[name] = 2 * n**3 / times.p20 / 1e9
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    found["copy"] = 2 * source.nbytes / compare({"copy": lambda: target.copy_(source)}, 20)["copy"].p20 / 1e6
    return found


def environment() -> dict[str, str]:
    """The GPU, its driver and clocks, and the versions that a number means nothing without."""
    import triton

    cupy = backend.module_of("cuda")
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "gpu": properties["name"].decode(),
        "clock": f"{properties['clockRate'] // 1000} MHz at most",
        "driver": str(cupy.cuda.runtime.driverGetVersion()),
        "runtime": str(cupy.cuda.runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
        "triton": triton.__version__,
    }
