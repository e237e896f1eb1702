"""Peak memory of a training step, each library in a process of its own.

Measured is the largest resident set during the first three steps, minus the resident set before them: after
the imports, after networks, optimisers and data were made, and after freed memory was handed back. It holds
activations, gradients, the optimisers' moments (both libraries make them in the first step) and each
library's scratch memory. PyTorch runs with the system's allocator settings (SCRATCHGAN_MALLOC=system), so
that scratchgan's choice to keep freed memory counts against scratchgan alone. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = 3
MIB = 1 << 10  # /proc gives KiB


@dataclass(frozen=True)
class Peak:
    """MiB above the level before the first step, of each side."""

    name: str
    ours: float
    torch: float

    @property
    def ratio(self) -> float:
        return self.ours / self.torch


def resident(field: str) -> int:
    """KiB: "VmRSS" now, "VmHWM" the largest since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def peak_of(name: str, side: str) -> float:
    """MiB that three steps of one side take at most; for a process of its own."""
    from bench import steps, timing

    timing.same_threads()
    workload = next(w for w in steps.WORKLOADS if w.name == name)
    step = steps.stepping(workload, workload.twins(replay=False))[side == "torch"]
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # largest := now
    for _ in range(STEPS):
        step()
    return (resident("VmHWM") - before) / MIB


def _in_process(name: str, side: str) -> float:
    allocator = {"SCRATCHGAN_MALLOC": "system"} if side == "torch" else {}
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", name, side],
        cwd=ROOT,
        env={**os.environ, **allocator},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"memory of {name}, {side}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def measure(only: str = "") -> list[Peak]:
    from bench.steps import WORKLOADS

    names = [w.name for w in WORKLOADS if only in w.name]
    return [Peak(n, _in_process(n, "ours"), _in_process(n, "torch")) for n in names]


def show(peaks: list[Peak]) -> None:
    title = "peak memory of a step"
    width = max([len(title), *(len(p.name) for p in peaks)])
    print(f"\n{title:<{width}}  {'ours MiB':>10}  {'torch MiB':>10}  {'ratio':>6}")
    for p in peaks:
        print(f"{p.name:<{width}}  {p.ours:>10.1f}  {p.torch:>10.1f}  {p.ratio:>6.2f}")


def save(peaks: list[Peak]) -> Path:
    from bench import readme, timing

    path = timing.save(
        "memory",
        ["name", "ours_mib", "torch_mib", "ratio"],
        [[p.name, f"{p.ours:.1f}", f"{p.torch:.1f}", f"{p.ratio:.3f}"] for p in peaks],
    )
    readme.put_steps()
    return path


if __name__ == "__main__":
    print(json.dumps(peak_of(*sys.argv[1:])))
