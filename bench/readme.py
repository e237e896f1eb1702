"""The tables of README.md that come from results: each stands between two marks, and is written anew there."""

from __future__ import annotations

import csv
import re

from bench import timing

PATH = timing.RESULTS.parent.parent / "README.md"


def put(name: str, tables: str, header: list[str], lines: list[list[str]]) -> None:
    """Write the table `name`, which `python -m bench TABLES` makes, between its marks. Raises ValueError where
    there are none.
    """
    begin, end = f"<!-- {name}: written by python -m bench {tables} -->", f"<!-- end of {name} -->"
    text = PATH.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{PATH.name}: expected the marks {begin} and {end}")
    marked = "\n".join([begin, *markdown(header, lines), end])
    text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: marked, text, flags=re.DOTALL)
    PATH.write_text(text, encoding="utf-8")


def markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]


def put_steps() -> None:
    """Time and peak memory of training steps against PyTorch's, from steps.csv and memory.csv."""
    memory = {row["name"]: float(row["ratio"]) for row in _rows("memory")}
    lines = []
    for row in _rows("steps"):
        name, ours, _, *ratios = row.values()
        ratio, low, high = (f"{float(r):.2f}" for r in ratios)
        peak = f"{memory[name]:.2f}" if name in memory else ""
        lines.append([name, f"{float(ours):.0f}", f"{ratio} ({low} to {high})", peak])
    put("steps", "steps memory", ["training step", "ms", "time / PyTorch's", "memory / PyTorch's"], lines)


def _rows(kind: str) -> list[dict[str, str]]:
    """Of results/KIND.csv; none where it does not exist."""
    path = timing.RESULTS / f"{kind}.csv"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("# ")))
