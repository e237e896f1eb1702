"""`scratchgan compare`: runs side by side, as one table and as curves over one another."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scratchgan import evaluate, report, storage
from scratchgan.errors import UserError
from scratchgan.html_report import figures
from scratchgan.html_report.page import Section, assembled, curve, duration, settings_of, table
from scratchgan.run import Plan, read_plan

MISSING = "-"
COLUMNS = 2         # of panels in the picture


class Seen(NamedTuple):
    """What is compared of a run: its plan, the rows of its metrics.jsonl, its evaluation.json or None."""
    name: str
    plan: Plan
    rows: list[dict]
    evaluation: dict[str, Any] | None


def compare(folders: Sequence[Path], out: Path) -> list[str]:
    """Lines of the table of the runs in `folders`; their curves are written to `out`, a .png, or an .html
    with the table. Raises UserError, with nothing written, where that cannot be."""
    suffix = out.suffix.lower()
    if suffix not in (".png", ".html", ".htm"):
        raise UserError(f"--out {out}: expected a file that ends in .png or .html")
    storage.check_parent(out)
    runs = _seen(folders)
    rows = compared(runs)
    if suffix == ".png":
        save_curves(out, runs)
    else:
        storage.write_atomically(out, _page(runs, rows).encode())
    return [*evaluate.aligned(rows), "", f"curves written to {out}"]


def _seen(folders: Sequence[Path]) -> list[Seen]:
    if len(folders) < 2:
        raise UserError(f"compare: expected two run folders or more, found {len(folders)}")
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(folders):
        if resolved[i] in resolved[:i]:
            raise UserError(f"compare: {folder} is named twice")
    short = [folder.name for folder in resolved]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    return [Seen(name, read_plan(folder), report.read_metrics(folder / "metrics.jsonl"), _evaluation(folder))
            for name, folder in zip(names, folders)]


def _evaluation(folder: Path) -> dict[str, Any] | None:
    path = folder / evaluate.FILE
    return evaluate.read(path) if path.exists() else None


def compared(runs: Sequence[Seen]) -> list[list[str]]:
    """The table as rows of text: a column for each run, named in the first row; settings that differ,
    progress, the last scalars, the figures of evaluations."""
    lines: dict[str, list[str]] = {}
    settings = [settings_of(run.plan) for run in runs]
    for name in dict.fromkeys(name for values in settings for name in values):
        cells = [values.get(name, MISSING) for values in settings]
        if len(set(cells)) > 1:
            lines[name] = cells
    lines["step"] = [str(run.rows[-1]["step"]) if run.rows else "0" for run in runs]
    lines["time"] = [duration(run.rows[-1]["seconds"]) if run.rows else MISSING for run in runs]
    for name in scalar_names(runs):
        values = [curve(run.rows, name)[1] for run in runs]
        lines[f"last {name}"] = [f"{v[-1]:.4g}" if len(v) else MISSING for v in values]
    evaluated = [_figures(run.evaluation) for run in runs]
    for name in dict.fromkeys(name for figures_of in evaluated for name in figures_of):
        lines[name] = [figures_of.get(name, MISSING) for figures_of in evaluated]
    return [["", *(run.name for run in runs)], *([name, *cells] for name, cells in lines.items())]


def scalar_names(runs: Sequence[Seen]) -> list[str]:
    """The scalars that some of the runs have logged, losses first."""
    rows = [row for run in runs for row in run.rows]
    return [name for names in report.panels(rows).values() for name in names]


def _figures(document: dict[str, Any] | None) -> dict[str, str]:
    """"metric figure (n=...)": "value ± deviation (floor ...)". Counts are named since figures are biased in
    them. Those of a class differ from run to run, and stand beside the floor."""
    return {} if document is None else dict(map(_line, document["figures"]))


def _line(figure: dict[str, Any]) -> tuple[str, str]:
    name = " ".join(dict.fromkeys((figure["metric"], figure["figure"])))
    value = evaluate.with_deviation(figure["value"], figure["deviation"])
    floor = f"floor {evaluate.with_deviation(figure['floor'], None)}"
    if figure.get("class"):
        return f"{name}, class {figure['class']}", f"{value} ({floor}, n={figure['n']})"
    return f"{name} (n={figure['n'] or MISSING})", f"{value} ({floor})"


# Curves

def save_curves(path: Path, runs: Sequence[Seen]) -> None:
    """A PNG with a panel for each scalar and in it a curve for each run that has logged it."""
    names = scalar_names(runs)
    lines = max(1, -(-len(names) // COLUMNS))
    figure = report.new_figure(8 * COLUMNS, 3.5 * lines)
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, COLUMNS, i + 1, xlabel="step", title=name)
        for run in runs:
            steps, values = curve(run.rows, name)
            if len(steps):
                axes.plot(report.thinned(steps), report.thinned(values), label=run.name, linewidth=0.8)
        axes.legend(loc="upper right", fontsize="small")
        axes.grid(alpha=0.3)
    report.save_figure(figure, path)


def _page(runs: Sequence[Seen], rows: Sequence[Sequence[str]]) -> str:
    panels = "".join(figures.curves(name, {run.name: curve(run.rows, name) for run in runs})
                     for name in scalar_names(runs))
    sections = [Section("table", "Table", table(rows)),
                Section("curves", "Curves", panels and f'<div class="panels">{panels}</div>')]
    return assembled("Runs compared", "", sections)
