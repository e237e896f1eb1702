"""What a run shows: its log of scalars, grids of images, clouds of points, the plot of the scalars.

metrics.jsonl holds one JSON object a line: step, seconds of training so far, and the scalars that the step
returned; every so many steps also the diagnosis (see diagnosis/measures.py) and evaluations ("eval/NAME").
"""
from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scratchgan import storage
from scratchgan.data.images import to_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 64       # pixels: smaller images are enlarged by a whole factor, to be looked at
GAP = 2         # pixels between images
POINTS_SHOWN = 2000
PLOT_POINTS = 2000


# The log

class Metrics:
    """The run's metrics.jsonl, open for appending."""

    def __init__(self, path: Path, last_step: int):
        """Cut whatever goes beyond `last_step`, the step of the checkpoint that the run goes on from, then
        append."""
        self.path = path
        rows = [row for row in read_metrics(path) if row["step"] <= last_step]
        storage.write_atomically(path, "".join(map(_line, rows)).encode())
        self.seconds = rows[-1]["seconds"] if rows else 0.0
        with storage.disk_errors(path, "opened"):
            self._file = open(path, "a", encoding="utf-8", buffering=1)

    def append(self, step: int, seconds: float, scalars: Mapping[str, float]) -> dict[str, float]:
        """Add a line, and return its row; `seconds` since training began, earlier sessions included."""
        row = {"step": step, "seconds": round(seconds, 3), **scalars}
        with storage.disk_errors(self.path, "written"):
            self._file.write(_line(row))
        return row

    def sync(self) -> None:
        """Put every line on the disk: a checkpoint must not know of steps that the log lost."""
        with storage.disk_errors(self.path, "written"):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; `append` must not follow."""
        with storage.disk_errors(self.path, "written"):
            self._file.close()


def _line(row: Mapping) -> str:
    return json.dumps(row) + "\n"


def read_metrics(path: Path) -> list[dict]:
    """The rows of a metrics.jsonl up to the first broken line, which is what a killed process leaves at the
    end."""
    rows: list[dict] = []
    if not path.exists():
        return rows
    with storage.disk_errors(path, "read"):
        lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(row, dict) or not {"step", "seconds"} <= row.keys():
            break
        rows.append(row)
    return rows


# Pictures of samples

def save_samples(path: Path, samples: np.ndarray, real: np.ndarray | None = None,
                 columns: int | None = None) -> None:
    """A PNG of samples: images (N, C, H, W) in [-1, 1] as a grid of `columns`, as `image_grid` has it, points
    (N, 2) as a cloud beside the `real` ones."""
    if samples.ndim == 4:
        save_image_grid(path, samples, columns)
    elif samples.ndim == 2 and samples.shape[1] == 2:
        save_points(path, samples, real)
    else:
        raise ValueError(f"save_samples: samples have shape {samples.shape}, "
                         "expected images (N, C, H, W) or points (N, 2)")


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1], C = 1 or 3, as one uint8 picture (height, width, C), row by row, nearly
    square unless `columns` are given.

    -1 becomes 0 and 1 becomes 255; values outside are clipped. Missing images at the end are left black.
    """
    n, c, h, w = images.shape
    if n < 1 or c not in (1, 3):
        raise ValueError(f"image_grid: images have shape {images.shape}, "
                         "expected (N, 1 or 3, H, W) with N >= 1")
    pixels = to_bytes(images)
    scale = max(1, CELL // max(h, w))
    pixels = pixels.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    columns = int(np.ceil(np.sqrt(n))) if columns is None else columns
    rows = -(-n // columns)
    cell_h, cell_w = h * scale + GAP, w * scale + GAP
    picture = np.zeros((rows * cell_h + GAP, columns * cell_w + GAP, c), np.uint8)
    for i, image in enumerate(pixels):
        top, left = GAP + i // columns * cell_h, GAP + i % columns * cell_w
        picture[top:top + h * scale, left:left + w * scale] = image
    return picture


def save_image_grid(path: Path, images: np.ndarray, columns: int | None = None) -> None:
    """Write `image_grid(images, columns)` as a PNG."""
    from PIL import Image
    picture = image_grid(images, columns)
    file = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "PNG")
    storage.write_atomically(path, file.getvalue())


def save_points(path: Path, samples: np.ndarray, real: np.ndarray | None) -> None:
    """A PNG of points (N, 2); with real points on the left, on the same axes. At most POINTS_SHOWN of each
    are drawn."""
    clouds = [("samples", samples)] if real is None else [("real", real), ("samples", samples)]
    reference = samples if real is None else real
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = 0.25 * (high - low) + 1e-3
    figure = new_figure(5 * len(clouds), 5)
    for i, (title, points) in enumerate(clouds):
        axes = figure.add_subplot(1, len(clouds), i + 1, title=title, aspect="equal")
        axes.plot(*points[:POINTS_SHOWN].T, ".", markersize=2, alpha=0.6)
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    save_figure(figure, path)


# The plot of the scalars

# Title and whether the axis is logarithmic, by what names begin with; the first that fits counts.
PANELS = {"loss": ("losses", False), "logit": ("D's logits", False), "grad_norm": ("gradient norms", True),
          "update_ratio": ("||update|| / ||weights||", True),
          "diversity": ("distance of samples / of examples", False),
          "steps_per_s": ("steps per second", False)}
OTHERS = ("of each step", False)
EVALUATED = "eval/"                 # each has an axis of its own
ALARM_COLOURS = "tab:red", "tab:purple", "tab:orange", "tab:brown", "tab:pink", "tab:olive"


def save_losses(path: Path, rows: list[dict], alarms: Sequence[tuple[str, int, int | None]] = ()) -> None:
    """A PNG of everything that `rows` (of metrics.jsonl) hold over steps, what belongs together in one panel,
    with `alarms`, each (name, first step, last step or None), as coloured stretches in all of them.

    A scalar is drawn at the rows that have it. Long histories are drawn as means over equal stretches,
    PLOT_POINTS at most.
    """
    grouped = panels(rows)
    if not grouped:
        return
    columns = 1 if len(grouped) <= 2 else 2
    lines = -(-len(grouped) // columns)
    figure = new_figure(8 * columns, 3.5 * lines)
    for i, ((title, logarithmic), names) in enumerate(grouped.items()):
        axes = figure.add_subplot(lines, columns, i + 1, xlabel="step", title=title)
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            steps, values = (thinned([p[k] for p in points]) for k in (0, 1))
            axes.plot(steps, values, label=name, linewidth=0.8, marker="." if len(steps) < 20 else None)
        if logarithmic:
            axes.set_yscale("log", nonpositive="clip")
        _mark(axes, alarms, rows[-1]["step"])
        axes.legend(loc="upper left" if alarms else "upper right", fontsize="small")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def panels(rows: list[dict]) -> dict[tuple[str, bool], list[str]]:
    """The names of the scalars in `rows` by (title, logarithmic) of their panel, losses first."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "seconds"))
    grouped: dict[tuple[str, bool], list[str]] = {}
    for name in sorted(names, key=lambda name: not name.startswith("loss")):
        prefix = next((p for p in PANELS if name.startswith(p)), None)
        panel = (name, False) if name.startswith(EVALUATED) else PANELS.get(prefix, OTHERS)
        grouped.setdefault(panel, []).append(name)
    return grouped


def _mark(axes: Axes, alarms: Sequence[tuple[str, int, int | None]], last_step: int) -> None:
    """Colour the stretch of each alarm, with a line where it begins, so that short ones are seen too."""
    colours = dict(zip(dict.fromkeys(name for name, _, _ in alarms), cycle(ALARM_COLOURS)))
    for k, (name, first, last) in enumerate(alarms):
        new = name not in [n for n, _, _ in alarms[:k]]
        axes.axvspan(first, last_step if last is None else last, color=colours[name], alpha=0.12, linewidth=0)
        axes.axvline(first, color=colours[name], linewidth=1, linestyle="--",
                     label=f"alarm: {name}" if new else None)


def thinned(values: list[float]) -> np.ndarray:
    """Means over stretches of equal length, so that at most PLOT_POINTS remain; a shorter last stretch is
    left out."""
    stretch = -(-len(values) // PLOT_POINTS)
    whole = len(values) // stretch * stretch
    return np.asarray(values[:whole], dtype=float).reshape(-1, stretch).mean(axis=1)


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches that needs no display and touches no global state of matplotlib's pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="tight")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    storage.write_atomically(path, file.getvalue())
