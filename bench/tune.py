"""Search for the tile sizes of this GPU: `python -m bench tune`.

Every operation of `bench kernels` is run once to learn which configurations it asks for; then candidates from its
file's CONFIGURATIONS are timed against the default, results checked, until the seconds of BUDGET are spent (float16
before float32). What is faster by MARGIN is kept in kernels/gpu/tuned/NAME_OF_THE_GPU.json, which `launch` reads.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from bench import cuda, kernels, static
from scratchgan.kernels.gpu import launch

BUDGET = float(os.environ.get("SCRATCHGAN_TUNE_SECONDS", "150"))
CANDIDATES, ROUNDS = 5, 15  # tried for each key, times each
MARGIN = 0.97  # of the default's time

Found = tuple[str, str, dict[str, Any], float, float]


def measure(only: str = "") -> list[Found]:
    """(kernel, key, constants, default's milliseconds, theirs) of every configuration that beats the default."""
    end, chooser, done, rows = time.monotonic() + BUDGET, random.Random(0), set(), []
    with kernels.tf32("cuda"), tqdm(total=round(BUDGET), unit="s", desc="tuning") as bar:
        for dtype in ("float16", "float32"):
            for family in kernels.FAMILIES:
                for work in family(kernels.Bench("cuda", dtype)):
                    if time.monotonic() > end or only not in work.name:
                        continue
                    bar.set_postfix_str(work.name[:40])
                    rows += _tuned(work, dtype, chooser, done)
                    bar.update(round(BUDGET - max(0, end - time.monotonic())) - bar.n)
    return rows


def _tuned(work: kernels.Work, dtype: str, chooser: random.Random, done: set) -> list[Found]:
    """The best configuration of each key that `work` asks for and that isn't done yet."""
    with launch.asked() as asked:
        work.ours()
    rows = []
    for (name, key), default in asked.items():
        candidates = [c for c in _candidates(name) if c.keys() <= default.keys()]
        if (name, key) in done or not candidates:
            continue
        done.add((name, key))
        best = (cuda.compare({"ours": work.ours}, ROUNDS)["ours"].p50, {})
        start = best[0]
        for constants in chooser.sample(candidates, min(CANDIDATES, len(candidates))):
            best = min(best, (_time(work, dtype, constants), constants), key=lambda pair: pair[0])
        if best[0] < MARGIN * start:
            rows.append((name, key, best[1], start, best[0]))
    return rows


def _time(work: kernels.Work, dtype: str, constants: dict[str, Any]) -> float:
    """Milliseconds with these constants; infinity where they do not fit this GPU or give other numbers."""
    with launch.trying(**constants):
        try:
            kernels.check(work, dtype)
            return cuda.compare({"ours": work.ours}, ROUNDS)["ours"].p50
        except (OutOfResources, PTXASError, CompilationError, AssertionError):
            return float("inf")


def _candidates(name: str) -> list[dict[str, Any]]:
    """Those of the file of kernels/gpu whose name begins kernel's; none where it lists none."""
    owners = [family for family in static.families() if name.startswith(family)]
    if not owners:
        return []
    module = importlib.import_module(f"scratchgan.kernels.gpu.{max(owners, key=len)}")
    return getattr(module, "CONFIGURATIONS", [])


def show(rows: list[Found]) -> None:
    for name, key, constants, before, after in rows:
        print(f"{name} {key}: {before:.4g} -> {after:.4g} ms with {constants}")


def save(rows: list[Found]) -> Path:
    """Add what was found to the GPU's file."""
    path = launch.tuned_path()
    path.parent.mkdir(exist_ok=True)
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, key, constants, *_ in rows:
        table.setdefault(name, {})[key] = constants
    path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path
