"""Figures as inline SVG, whose colours are the page's: curves over steps, and the plane with D in it.

Every number that comes from a file passes through a format here, every name through `escape`.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from contourpy import contour_generator

from scratchgan.snapshots import Snapshot

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 10, 26       # pixels around the axes
TICKS = 5
SHOWN = 400         # points of a curve
COLOURS = 6         # classes c0 ... c5 of the style sheet
PLANE = 560         # edge of the plane in pixels
LEVELS = 9          # level sets of D, classes l0 ... l8
ARROWS = 20         # arrows of the gradient along an edge
CLOUD = 1000        # points of the data and of the samples

Alarm = tuple[str, int, "int | None"]           # name, first step, last step or None
Curve = tuple[np.ndarray, np.ndarray]           # steps and values


# Curves

def curves(title: str, series: dict[str, Curve], alarms: Sequence[Alarm] = (),
           logarithmic: bool = False) -> str:
    """A <figure> of the series over steps, `alarms` as shaded stretches; empty where nothing can be drawn."""
    whole = {name: _drawable(*curve, logarithmic) for name, curve in series.items()}
    whole = {name: curve for name, curve in whole.items() if len(curve[0])}
    if not whole:
        return ""
    series = {name: _thinned(*curve) for name, curve in whole.items()}
    steps, values = (np.concatenate(part) for part in zip(*series.values()))
    across, up = _Scale(steps, LEFT, WIDTH - RIGHT), _Scale(values, HEIGHT - BOTTOM, TOP, logarithmic)
    parts = [*_grid(across, up), *(_stretch(alarm, across) for alarm in alarms)]
    for i, (xs, ys) in enumerate(series.values()):
        dots = " dots" if len(xs) < 20 else ""
        parts.append(f'<path class="curve c{i % COLOURS}{dots}" d="{_path(across(xs), up(ys))}"/>')
    legend = "".join(f'<li><span class="swatch c{i % COLOURS}"></span>{escape(name)}: {ys[-1]:.4g}</li>'
                     for i, (name, (_, ys)) in enumerate(whole.items()))
    label = escape(f"{title} over training steps: {', '.join(series)}")
    scale = ", logarithmic" if logarithmic else ""
    return (f'<figure><figcaption>{escape(title)}{scale}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
            f'<ul class="legend" aria-label="last values">{legend}</ul></figure>')


def _drawable(steps: np.ndarray, values: np.ndarray, logarithmic: bool) -> Curve:
    fits = np.isfinite(steps) & np.isfinite(values) & ((values > 0) | (not logarithmic))
    return steps[fits], values[fits]


def _thinned(steps: np.ndarray, values: np.ndarray) -> Curve:
    """Means over stretches of equal length, at most SHOWN of them, and what is left over at the end."""
    stretch = max(1, math.ceil(len(steps) / SHOWN))
    starts = np.arange(0, len(steps), stretch)
    counts = np.diff(np.append(starts, len(steps)))
    if not len(starts):
        return steps, values
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


class _Scale:
    """From values to pixels between `start` and `end`, and ticks at round values."""

    def __init__(self, values: np.ndarray, start: float, end: float, logarithmic: bool = False):
        self.start, self.end, self.logarithmic = start, end, logarithmic
        self.low, self.high = (float(f(self._own(values))) for f in (np.min, np.max))
        if self.high - self.low <= 1e-9 * max(abs(self.low), abs(self.high)):
            room = 0.5 * (abs(self.low) or 1)
            self.low, self.high = self.low - room, self.high + room

    def _own(self, values: np.ndarray | float) -> np.ndarray:
        return np.log10(values) if self.logarithmic else np.asarray(values, float)

    def __call__(self, values: np.ndarray | float) -> np.ndarray:
        return self.start + (self._own(values) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, label) of round values."""
        marks = self._marks()
        labels = [f"{10.0 ** mark:.3g}" if self.logarithmic else f"{mark + 0.0:.6g}" for mark in marks]
        pixels = self.start + (marks - self.low) / (self.high - self.low) * (self.end - self.start)
        return list(zip(pixels.tolist(), labels))

    def _marks(self) -> np.ndarray:
        """Multiples of a round step. In logarithms: powers of ten, over less than two decades also 2 and 5
        times such."""
        step = _round_step((self.high - self.low) / TICKS)
        if self.logarithmic and self.high - self.low < 2:
            powers = np.arange(math.floor(self.low), math.ceil(self.high))
            marks = (powers[:, None] + np.log10([1, 2, 5])).ravel()
            return marks[(marks >= self.low) & (marks <= self.high)]
        step = max(1.0, round(step)) if self.logarithmic else step
        return np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1) * step


def _round_step(step: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is no less than `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def _grid(across: _Scale, up: _Scale) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    lines = [f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
             f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
             for y, label in up.ticks()]
    return lines + [f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
                    f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>'
                    for x, label in across.ticks()]


def _stretch(alarm: Alarm, across: _Scale) -> str:
    name, first, last = alarm
    begin = min(max(float(across(first)), LEFT), WIDTH - RIGHT)
    end = WIDTH - RIGHT if last is None else min(max(float(across(last)), begin), WIDTH - RIGHT)
    until, bottom = "" if last is None else f" to {last}", HEIGHT - BOTTOM
    return (f'<g class="alarm"><title>alarm: {escape(name)}, from step {first}{until}</title>'
            f'<rect x="{begin:.1f}" y="{TOP}" width="{max(end - begin, 1):.1f}" height="{bottom - TOP}"/>'
            f'<line x1="{begin:.1f}" x2="{begin:.1f}" y1="{TOP}" y2="{bottom}"/></g>')


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist()))


# The plane

class Plane:
    """SVG of the square around `box`, [[least x, least y], [greatest x, greatest y]]."""

    def __init__(self, box: np.ndarray):
        centre, half = box.mean(axis=0), float((box[1] - box[0]).max()) / 2
        self.low, self.scale = centre - half, PLANE / (2 * half)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) in pixels; y grows downwards."""
        x, y = ((points - self.low) * self.scale).T
        return np.stack([x, PLANE - y], axis=1)

    def figure(self, label: str, *layers: str) -> str:
        """The layers as one <svg>."""
        return (f'<svg class="plane" viewBox="0 0 {PLANE} {PLANE}" role="img" aria-label="{escape(label)}">'
                f'{"".join(layers)}</svg>')

    def cloud(self, kind: str, points: np.ndarray) -> str:
        """The first CLOUD points as dots; those far outside are left out."""
        pixels = self.pixels(points[:CLOUD])
        inside = ((pixels > -50) & (pixels < PLANE + 50)).all(axis=1)
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in pixels[inside].tolist())
        return f'<path class="cloud {kind}" d="{dots or "M0 0"}"/>'

    def lines(self, kind: str, lines: Sequence[np.ndarray]) -> str:
        """Polylines, each (N, 2)."""
        paths = "".join(_path(*self.pixels(line.clip(-1e6, 1e6)).T) for line in lines)
        return f'<path class="{kind}" d="{paths or "M0 0"}"/>'

    def levels(self, snapshot: Snapshot) -> str:
        """LEVELS level sets of D, evenly between its 2nd and 98th percentile on the grid, least first."""
        low, high = np.percentile(snapshot.logits, (2, 98))
        x, y = _ticks(snapshot)
        contours = contour_generator(x, y, snapshot.logits)
        return "".join(self.lines(f"level l{i}", contours.lines(level))
                       for i, level in enumerate(np.linspace(low, high, LEVELS)))

    def gradients(self, snapshot: Snapshot) -> str:
        """Arrows along the gradient of D, by central differences on the grid; the 95th percentile of their
        lengths, and what is above it, is as long as the arrows are apart."""
        x, y = _ticks(snapshot)
        by_y, by_x = np.gradient(snapshot.logits, y, x)
        some = np.linspace(1, len(x) - 2, ARROWS).round().astype(int)
        slopes = np.stack([by_x, by_y], axis=-1)[np.ix_(some, some)].reshape(-1, 2)
        places = np.stack(np.meshgrid(x[some], y[some]), axis=-1).reshape(-1, 2)
        lengths = np.linalg.norm(slopes, axis=1)
        full = np.percentile(lengths, 95)
        if full <= 0:
            return ""
        spacing = PLANE / ARROWS
        arrows = slopes / full * np.minimum(1, full / np.maximum(lengths, full * 1e-9))[:, None] * spacing
        return f'<path class="gradient" d="{"".join(map(_arrow, self.pixels(places), arrows * (1, -1)))}"/>'


def _ticks(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    (left, low), (right, high) = snapshot.box.astype(float)
    rows, columns = snapshot.logits.shape
    return np.linspace(left, right, columns), np.linspace(low, high, rows)


def _arrow(tail: np.ndarray, by: np.ndarray) -> str:
    """A line from `tail` with a head of two strokes; a dot where it is shorter than a pixel."""
    if math.hypot(*by) < 1:
        return ""
    tip, back = tail + by, -0.3 * by
    side = np.array([-back[1], back[0]]) * 0.6
    (x0, y0), (x1, y1) = tail, tip
    wings = "".join(f"M{x1:.1f} {y1:.1f}l{w[0]:.1f} {w[1]:.1f}" for w in (back + side, back - side))
    return f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}{wings}"
