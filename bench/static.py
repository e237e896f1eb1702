"""What the compiler makes of every Triton kernel for a GPU that need not be there.

Each call in `static_cases()` of `kernels/gpu/*.py` is compiled instead of run, and the machine code is read:
registers and spills, shared memory, how many instructions multiply matrices (HGMMA, HMMA, DMMA), copy tiles (UTMALDG)
or rows (LDGSTS) without threads waiting, or touch local memory (LDL, STL: spills). The roofline's prediction is the
time that the case's bytes or FLOPs need at the least on an H200 (4.8 TB/s; 67 TFLOP/s of float32, 989 of float16
with tensor cores: the vendor's figures), where the case says how many these are.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import triton

from scratchgan.kernels.gpu import launch
from scratchgan.kernels.gpu.axis import PROCESSORS

BASELINES = Path(__file__).with_name("results")
GPU = Path(launch.__file__).parent
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
INSTRUCTIONS = ("HGMMA", "HMMA", "DMMA", "UTMALDG", "UTMASTG", "LDGSTS", "LDL", "STL")
CAPABILITIES = (90, 80)
BANDWIDTH, VECTOR, TENSOR = 4.8e12, 67e12, 989e12  # its bytes, float32 FLOPs, dense float16 FLOPs a second
MAY_GROW = 1.05  # registers and shared memory may exceed the baseline by this factor


def families() -> list[str]:
    """The files of kernels/gpu that have cases."""
    names = sorted(path.stem for path in GPU.glob("*.py"))
    return [n for n in names if "\ndef static_cases()" in (GPU / f"{n}.py").read_text(encoding="utf-8")]


def report(capability: int, only: str = "") -> dict[str, dict[str, int]]:
    """{"FILE: CASE: KERNEL": figures} of every launch that the cases make."""
    found: dict[str, dict[str, int]] = {}
    for family in families():
        module = importlib.import_module(f"scratchgan.kernels.gpu.{family}")
        for name, case in module.static_cases().items():
            if only not in f"{family}: {name}":
                continue
            with launch.compiling(capability) as launches:
                case.call()
            for number, one in enumerate(launches):
                suffix = f" ({number})" if sum(o.name == one.name for o in launches) > 1 else ""
                found[f"{family}: {name}: {one.name}{suffix}"] = figures(one)
    return found


def roofline(only: str = "") -> list[tuple[str, float, float]]:
    """(FILE: CASE, FLOPs, bytes) of every case."""
    modules = {family: importlib.import_module(f"scratchgan.kernels.gpu.{family}") for family in families()}
    cases = ((f"{family}: {name}", case) for family, m in modules.items() for name, case in m.static_cases().items())
    return [(name, case.flops, case.bytes) for name, case in cases if only in name]


def figures(one: launch.Launch) -> dict[str, int]:
    """Of one compiled launch: programs, registers, stack, shared memory, counted instructions."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(one.compiled.asm["cubin"])
        file.flush()
        code = _tool("nvdisasm", "-c", file.name)
        usage = _tool("cuobjdump", "-res-usage", file.name)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    counts = Counter(re.findall(rf"\b({'|'.join(INSTRUCTIONS)})\b", code))
    threads, shared = 32 * one.compiled.metadata.num_warps, one.compiled.metadata.shared
    programs, resident = math.prod(one.grid), _resident(int(registers), threads, shared)
    loop = one.compiled.asm["ttgir"].rpartition("scf.for")[2]
    return {
        "programs": programs,
        "waves": round(programs / (PROCESSORS * resident), 2),
        "registers": int(registers),
        "stack": int(stack),
        "shared": shared,
        **{name: counts[name] for name in INSTRUCTIONS},
        "local_loads_in_loop": loop.count("ttg.local_load "),
    }


def _resident(registers: int, threads: int, shared: int) -> int:
    """How many programs a multiprocessor holds: of 64 Ki registers, 227 KiB shared memory, 2048 threads, at most 32."""
    return max(1, min(65536 // max(1, registers * threads), 232448 // max(1, shared), 2048 // threads, 32))


def _tool(name: str, *words: str) -> str:
    return subprocess.run([TOOLS / name, *words], capture_output=True, text=True, check=True).stdout


def faults(found: dict[str, dict[str, int]], baseline: dict[str, dict[str, int]] | None) -> list[str]:
    """What got worse: any stack or spill, and against the baseline more registers, fewer tensor-core instructions ..."""
    lines = [f"{name}: {key} is {row[key]}, expected 0" for name, row in found.items()
             for key in ("stack", "LDL", "STL") if row[key]]  # fmt: skip
    if baseline is None:
        return lines
    lines += [f"{name}: was in the baseline, is no longer compiled" for name in baseline.keys() - found.keys()]
    for name, row in found.items():
        before = baseline.get(name)
        if before is None:
            lines.append(f"{name}: not in the baseline: run python -m bench static")
            continue
        for key in ("registers", "shared", "local_loads_in_loop"):
            if row[key] > before[key] * MAY_GROW:
                lines.append(f"{name}: {key} rose from {before[key]} to {row[key]}")
        for key in ("HGMMA", "HMMA", "DMMA", "UTMALDG", "UTMASTG", "LDGSTS"):
            if (row[key] == 0) != (before[key] == 0):
                lines.append(f"{name}: {key} went from {before[key]} to {row[key]}")
    return lines


def baseline_path(capability: int) -> Path:
    """The committed figures for this version of Triton."""
    minor = ".".join(triton.__version__.split(".")[:2])
    return BASELINES / f"static_sm{capability}_triton{minor}.json"


def baseline(capability: int) -> dict[str, dict[str, int]] | None:
    """The committed figures, or None for a version of Triton that has none."""
    path = baseline_path(capability)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def show_roofline(rows: list[tuple[str, float, float]]) -> None:
    """Print FLOPs, bytes, their ratio, and the microseconds that an H200 needs at the least for each."""
    width = max((len(name) for name, *_ in rows), default=4)
    print(f"\n{'case':<{width}}  {'GFLOP':>8}  {'MB':>8}  {'FLOP/byte':>9}  {'memory us':>9}  {'vector us':>9}  {'tensor us':>9}")
    for name, flops, moved in rows:
        times = (1e6 * moved / BANDWIDTH, 1e6 * flops / VECTOR, 1e6 * flops / TENSOR)
        print(f"{name:<{width}}  {flops / 1e9:>8.3g}  {moved / 1e6:>8.3g}  {flops / max(1, moved):>9.3g}  "
              + "  ".join(f"{t:>9.3g}" for t in times))  # fmt: skip


def measure(only: str = "") -> dict[int, dict[str, dict[str, int]]]:
    """The report of each capability, of cases whose name contains `only`; prints the roofline."""
    os.environ.pop("TRITON_INTERPRET", None)
    show_roofline(roofline(only))
    return {capability: report(capability, only) for capability in CAPABILITIES}


def show(reports: dict[int, dict[str, dict[str, int]]]) -> None:
    """Print the figures as tables, columns of zeros left out."""
    for capability, found in reports.items():
        print(f"\nTriton {triton.__version__}, sm_{capability}")
        keys = [k for k in next(iter(found.values()), {}) if any(row[k] for row in found.values())]
        width = max(map(len, found), default=4)
        print(f"{'kernel':<{width}}  " + "  ".join(f"{k:>9}" for k in keys))
        for name, row in found.items():
            print(f"{name:<{width}}  " + "  ".join(f"{row[k]:>{max(9, len(k))}}" for k in keys))


def save(reports: dict[int, dict[str, dict[str, int]]]) -> str:
    """Write the baselines that `faults` compares with; returns their paths."""
    for capability, found in reports.items():
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        baseline_path(capability).write_text(text, encoding="utf-8")
    return " and ".join(str(baseline_path(capability)) for capability in reports)


def main(words: list[str]) -> int:
    """With sm_90 or sm_80, print what got worse since its baseline (1 if any did); else the cases that contain a word."""
    os.environ.pop("TRITON_INTERPRET", None)
    for capability in CAPABILITIES:
        if words == [f"sm_{capability}"]:
            lines = faults(report(capability), baseline(capability))
            print("\n".join(lines) or f"as good as the baseline: {len(families())} files of kernels")
            return int(bool(lines))
    show(measure(" ".join(words)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
