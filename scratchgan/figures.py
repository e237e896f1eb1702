"""Figures of a metric over several draws, of all samples or class by class, as they are put together."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scratchgan import metrics
from scratchgan.classes import Classes
from scratchgan.errors import UserError
from scratchgan.metrics import Metric, Setting
from scratchgan.metrics.groups import PerClass

Views = dict[str, np.ndarray]       # a batch as metrics read it: Reading -> array
Found = dict[str, float]            # by the figure's name


@dataclass(frozen=True)
class Figure:
    """A figure of a metric: one value a draw, and what real data get (`floor`, empty for a metric of the
    generator itself).

    better: "lower", "higher", "1" or "". n: samples in a draw, 0 for a metric of the generator itself.
    reference: real samples that they are compared with, 0 for none. class_name: the class whose samples
    alone are meant, n and reference being means over the draws; None: all. reason: why there is no value.
    """

    metric: str
    name: str
    better: str
    values: list[float]
    floor: list[float]
    n: int
    reference: int
    class_name: str | None = None
    reason: str | None = None

    @property
    def mean(self) -> float:
        """Over the draws."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over the draws; NaN for a single one."""
        return deviation(self.values)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation with n - 1 in the denominator; NaN for fewer than two values, or where one is not
    finite."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else math.nan


def _figure(name: str, metric: Metric | type[Metric], figure_name: str, values: Sequence[Found],
            floors: Sequence[Found], n: int, reference: int) -> Figure:
    """The figure of this name from what was found in each draw; NaN where it was not."""
    return Figure(name, figure_name, metric.figures.get(figure_name, ""),
                  [found.get(figure_name, math.nan) for found in values],
                  [found.get(figure_name, math.nan) for found in floors], n, reference)


def made(name: str, setting: Setting) -> Metric:
    """The metric of a name; UserError, which begins with it, where this data cannot have it."""
    try:
        return metrics.get(name).create(setting)
    except UserError as error:
        raise UserError(message(name, error)) from error


def message(name: str, error: ValueError) -> str:
    """What `error` says with the metric's name in front, unless it begins with it."""
    return str(error) if str(error).startswith(name) else f"{name}: {error}"


class Collected:
    """A metric of all samples and what it has computed so far."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.metric = name, made(name, setting)
        self.values: list[Found] = []
        self.floors: list[Found] = []

    @property
    def held_out(self) -> bool:
        return "held_out" in self.metric.sources

    @property
    def of_samples(self) -> bool:
        return "fake" in self.metric.sources

    def begin(self, setting: Setting, in_place: np.ndarray | None) -> None:
        """A new draw. in_place: classes of the real samples that will stand for the generated ones."""
        self.metric = made(self.name, setting)

    def read(self, views: Views, kind: str, labels: np.ndarray | None) -> None:
        self.metric.update(views[self.metric.reads], kind, labels)

    def note(self) -> None:
        """Samples have been read: compute, and forget them."""
        self.values.append(self._computed())
        if self.of_samples:
            self.metric.reset("fake")

    def note_floor(self) -> None:
        """Real samples in their place have been read."""
        self.floors.append(self._computed())

    def _computed(self) -> Found:
        try:
            return {key: float(value) for key, value in self.metric.compute().items()}
        except ValueError as error:         # UserError is one
            raise UserError(message(self.name, error)) from error

    def figures(self, n: int, reference: int) -> Iterator[Figure]:
        """Everything computed, of `n` samples in a draw compared with `reference` real ones."""
        for name in self.values[0]:
            yield _figure(self.name, self.metric, name, self.values, self.floors, n if self.of_samples else 0,
                         reference if "real" in self.metric.sources else 0)


class CollectedByClass(Collected):
    """The same for each class.

    Value and floor of a class are of equally many samples, the fewer of those generated and of the real ones
    in their place, since many metrics are biased in the number. What comes beyond it is left aside, so is the
    figure of a class that has too few.
    """

    def __init__(self, name: str, setting: Setting, classes: Classes) -> None:
        self.classes = classes
        super().__init__(name, setting)
        self._found: list[list[Found | ValueError]] = []        # by draw and class
        self._found_floors: list[list[Found | ValueError]] = []
        self._counts: list[tuple[np.ndarray, np.ndarray]] = []  # of samples and reference, by draw

    def begin(self, setting: Setting, in_place: np.ndarray | None) -> None:
        count = len(self.classes.names)
        self.metric = PerClass(lambda: made(self.name, setting), count)
        self._room = np.bincount(in_place, minlength=count)
        self._samples, self._reference = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def read(self, views: Views, kind: str, labels: np.ndarray | None) -> None:
        batch = views[self.metric.reads]
        if kind != "fake":
            if kind == "real":
                self._reference += np.bincount(labels, minlength=len(self._reference))
            self.metric.update(batch, kind, labels)
            return
        seen = self.classes.of_samples(views, labels)
        rows = _first(seen, self._room - self._samples)
        self._samples += np.bincount(seen[rows], minlength=len(self._samples))
        if len(rows):
            self.metric.update(batch[rows], kind, seen[rows])

    def note(self) -> None:
        self._found.append(self.metric.by_class())
        self._counts.append((self._samples, self._reference))
        self.metric.reset("fake")
        self._room, self._samples = self._samples, np.zeros_like(self._samples)

    def note_floor(self) -> None:
        self._found_floors.append(self.metric.by_class())

    def figures(self, n: int, reference: int) -> Iterator[Figure]:
        one = metrics.get(self.name)
        counts = np.round(np.mean(self._counts, axis=0)).astype(int)
        for k, class_name in enumerate(self.classes.names):
            values, floors = ([draw[k] for draw in found] for found in (self._found, self._found_floors))
            errors = [message(self.name, e) for e in (*values, *floors) if isinstance(e, ValueError)]
            values, floors = ([{} if isinstance(f, ValueError) else f for f in found]
                              for found in (values, floors))
            size, compared = counts[0, k], counts[1, k] if "real" in one.sources else 0
            for name in dict.fromkeys([*(name for found in values for name in found), *one.figures]):
                yield dataclasses.replace(
                    _figure(self.name, one, name, values, floors, int(size), int(compared)),
                    class_name=class_name, reason=errors[0] if errors else None)


def _first(classes: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Ascending indices of the first room[k] samples of each class k."""
    return np.sort(np.concatenate([np.flatnonzero(classes == k)[:room[k]] for k in range(len(room))]))
