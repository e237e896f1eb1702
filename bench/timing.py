"""How things are timed and written down.

Two functions are timed in turn, round by round, the order swapped in every round, so that whatever disturbs
the machine disturbs both. A round calls a function as often as fits into some milliseconds; times and ratios
are medians over the rounds. A ratio is that of one round: a machine whose speed drifts from round to round
moves the quotient of two medians, but hardly that.

Both sides run in one process with the same number of threads. `backend.keep_freed_memory` therefore serves
PyTorch's allocations too, which speeds PyTorch up: the stricter comparison. After an operation PyTorch's
worker threads wait for the next one at full speed, for 10 ms of processor time: beside them our threads have
half a processor, and up to 20 ms after PyTorch's turn two of ours take as long as one. So every turn begins
with a pause that outlasts them, and a call that is not timed.
"""

from __future__ import annotations

import csv
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scratchgan import backend, blas

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Budget:
    """How long to measure: rounds of at least `seconds` each."""

    rounds: int
    seconds: float


FULL = Budget(rounds=15, seconds=0.05)
PAUSE = 0.025  # seconds
QUICK = Budget(rounds=5, seconds=0.02)


@dataclass(frozen=True)
class Row:
    """One line of a table: milliseconds of each side; ours over PyTorch's round by round, median and quartiles.
    """

    name: str
    ours: float
    torch: float
    ratio: float
    low: float
    high: float


def same_threads() -> None:
    """Give PyTorch as many threads as scratchgan uses."""
    if torch.get_num_threads() != backend.workers:
        torch.set_num_threads(backend.workers)


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], budget: Budget) -> Row:
    """Median milliseconds of a call of each, timed in turn."""
    counts = [_calls_in(f, budget.seconds) for f in (ours, theirs)]
    return in_turn(name, *(partial(_warm, f, n) for f, n in zip((ours, theirs), counts)), budget.rounds)


def in_turn(name: str, ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> Row:
    """Of two functions that return milliseconds, one after the other in each round, now this first, now that."""
    functions, times = (ours, theirs), ([], [])
    for k in range(rounds):
        for i in (0, 1) if k % 2 else (1, 0):
            time.sleep(PAUSE)
            times[i].append(functions[i]())
    return row_of(name, *times)


def row_of(name: str, ours: list[float], theirs: list[float]) -> Row:
    """From milliseconds, a pair for each round."""
    low, middle, high = np.quantile(np.divide(ours, theirs), (0.25, 0.5, 0.75)).tolist()
    return Row(name, statistics.median(ours), statistics.median(theirs), middle, low, high)


def milliseconds(function: Callable[[], object], count: int = 1) -> float:
    """The mean of `count` calls."""
    begin = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - begin) / count * 1e3


def _warm(function: Callable[[], object], count: int) -> float:
    """Milliseconds of a call after another one."""
    function()
    return milliseconds(function, count)


def _calls_in(function: Callable[[], object], seconds: float) -> int:
    """How many calls fit into `seconds`, at least one; the first calls also warm everything up."""
    function()
    one = min(_warm(function, 1) for _ in range(2)) / 1e3
    return max(1, int(seconds / max(one, 1e-7)))


def check_close(
    name: str, ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray], tolerance: float
) -> None:
    """Refuse to time what is wrong: the largest difference, relative to the largest entry, must be within the
    tolerance.
    """
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            raise AssertionError(f"{name}: result {i} has shape {a.shape}, PyTorch's {b.shape}")
        error = abs(a - b).max(initial=0.0) / max(abs(b).max(initial=0.0), 1e-3)
        if not error <= tolerance:
            raise AssertionError(
                f"{name}: result {i} is off by {error:.2g} of its largest entry, more than {tolerance:.2g}"
            )


def environment() -> dict[str, str]:
    """What a number means nothing without."""
    return {
        "cpu": _cpu(),
        "threads": str(backend.workers),
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": f"{np.__version__}, BLAS kernels for {blas.kernels() or 'unknown'}",
        "torch": torch.__version__,
    }


def made_in(results: Iterable[Path]) -> dict[str, str]:
    """The `environment` that these JSON files name, which may be of long ago: all values of each key."""
    each = [json.loads(path.read_text(encoding="utf-8"))["environment"] for path in results]
    return {key: "; ".join(sorted({one[key] for one in each})) for key in each[0]}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    field = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return " ".join(
        [
            field.get("model name", platform.machine()),
            *(f"{k} {field[k]}" for k in ("model", "stepping") if k in field),
        ]
    )


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../scratchgan", "../kernels")
        return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def show(title: str, rows: list[Row], other: str = "torch") -> None:
    """Print the table that a reader wants: name, ours, PyTorch's (or that of `other`), ratio."""
    width = max([len(title), *(len(r.name) for r in rows)])
    print(f"\n{title:<{width}}  {'ours ms':>10}  {other + ' ms':>12}  {'ratio':>6}  (quartiles)")
    for r in rows:
        print(
            f"{r.name:<{width}}  {r.ours:>10.4g}  {r.torch:>12.4g}  {r.ratio:>6.2f}  ({r.low:.2f} to {r.high:.2f})"
        )


def save(kind: str, header: list[str], lines: list[list], facts: dict[str, str] | None = None) -> Path:
    """Write results/KIND.csv: the environment and other `facts` as comment lines, then the table."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind}.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in {**environment(), **(facts or {})}.items())
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return path


def save_rows(kind: str, rows: list[Row], other: str = "torch", facts: dict[str, str] | None = None) -> Path:
    lines = [[r.name, *(f"{v:.6g}" for v in (r.ours, r.torch, r.ratio, r.low, r.high))] for r in rows]
    return save(
        kind, ["name", "ours_ms", f"{other.replace(' ', '_')}_ms", "ratio", "ratio_low_quartile", "ratio_high_quartile"], lines, facts
    )
