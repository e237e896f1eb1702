"""Metrics over several draws of samples, each figure beside its floor: what real data get in their place.

The protocol. In each draw the training side of the data is shuffled; n of its samples are put aside, the
others, at most REFERENCE of them, are the reference. The metrics compare n generated samples with it, then
the n real ones. A figure's value is its mean over the draws, its uncertainty their standard deviation (n - 1
in the denominator), so it holds the noise of the samples and that of the reference. Many metrics are biased
in n: value and floor are so alike, since both come from n samples against the same reference. A metric that
compares the data trained on with held-out data gets all of the former, and the held-out ones are halved anew
in each draw: one half is shown to the metric as held out, the other stands for the samples in the floor;
generated samples are then no more than that half, too.

Class by class, samples are first drawn as above and then divided; figures.py says how many of a class count.

Batches go through each extractor once, whatever the number of metrics. Of the data, features are kept for the
draws to come; of the generated samples, nothing.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from scratchgan import metrics
from scratchgan.backend import Streams
from scratchgan.classes import Classes
from scratchgan.data import Dataset, Spec
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError
from scratchgan.figures import Collected, CollectedByClass, Figure, Views
from scratchgan.metrics import Setting
from scratchgan.metrics.fitting import own_streams

BATCH = 250         # samples at a time through the generator and the extractors
DRAWS = 3
REFERENCE = 10_000  # real samples compared with: radii about each of them take time quadratic in their number
MOST = 2500         # samples in a draw, unless asked for more: PacGAN's count for its mixtures

Batch = tuple[Views, "np.ndarray | None"]


class Source(Protocol):
    """Where generated samples come from. `draws`: in words, how those of different draws are related.
    `labels`: the Spec of the labels that come with them, None for none."""
    draws: str
    labels: Spec | None

    def batches(self, draw: int, n: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """The `n` samples of a draw in batches, (samples, labels or None)."""


class Generated:
    """Samples of a GAN's averaged generator; the noise of a draw follows from `seed` and its number. Of a
    GAN that is conditioned on labels all classes are asked for alike, and come with the samples."""
    draws = "each with new noise"

    def __init__(self, gan: Any, seed: int = 0):
        self.gan, self.seed = gan, seed
        asked = gan.conditioned_on == "labels"
        self.labels = Spec((), -np.inf, np.inf, gan.classes) if asked else None

    def batches(self, draw: int, n: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """`n` samples and the classes that they were asked to be of, or None; UserError where a sample holds
        NaN or infinity."""
        noise = Streams(self.seed)[f"evaluation {draw}"]
        for start in range(0, n, BATCH):
            size = min(BATCH, n - start)
            asked = None if self.labels is None else noise.integers(self.gan.classes, size=size)
            samples = self.gan.sample(size, noise, **({} if asked is None else {"given": asked}))
            if not np.isfinite(samples).all():
                raise UserError("the generator's samples hold NaN or infinity: there is nothing to measure")
            yield samples, asked


class Stored:
    """Samples that are there, `n` a draw: disjoint parts where they suffice for `count` draws, else parts
    that overlap."""

    def __init__(self, dataset: Dataset, n: int, count: int = DRAWS, seed: int = 0):
        if n > len(dataset):
            raise UserError(f"{dataset.name}: holds {len(dataset)} samples, fewer than the {n} of a draw")
        self.dataset, self.n, self.seed, self.disjoint = dataset, n, seed, n * count <= len(dataset)
        self.labels = None if dataset.labels is None else dataset.spec
        self.draws = (f"disjoint parts of {len(dataset)} samples" if self.disjoint else
                      f"random parts of {len(dataset)} samples that overlap, so the deviation is too small")

    def batches(self, draw: int, n: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """`n` samples without repetition, at most those of a draw."""
        if n > self.n:
            raise ValueError(f"Stored.batches: n={n}, expected at most the {self.n} of a draw")
        order, first = (0, draw * self.n) if self.disjoint else (draw, 0)
        chosen = generator(self.seed, "samples", order).permutation(len(self.dataset))[first:first + n]
        for start in range(0, n, BATCH):
            part = self.dataset.subset(chosen[start:start + BATCH])
            yield part.get(np.arange(len(part))), part.labels


def default_count(available: int) -> int:
    """Samples in a draw unless asked otherwise: half of the data, so that as many remain, at most MOST."""
    return min(MOST, available // 2)


def measure(source: Source, setting: Setting, names: Sequence[str], n: int | None = None, draws: int = DRAWS,
            extractor: Callable[[np.ndarray], np.ndarray] | None = None, floors: bool = True,
            progress: bool = True, classes: Classes | None = None) -> list[Figure]:
    """The figures of the metrics `names` on `draws` times `n` samples of `source`, by the protocol above.

    n: `default_count` of the training side if None. extractor: arrays (N, *shape) to features (N, D); the
    data's usual one if None. floors: whether to compute them, too. progress: a bar on stderr where that is a
    terminal. classes: compute each figure class by class, too, for those metrics of which that is a question;
    each figure is followed by those of its classes. The default random streams are those of `setting.seed`
    meanwhile, so a training that goes on afterwards is not moved by a bit.
    Raises UserError for an unknown metric, one that this data cannot have, and an `n` that leaves no
    reference as large.
    """
    most = len(setting.train) // 2
    n = default_count(len(setting.train)) if n is None else n
    if not 2 <= n <= most:
        raise UserError(f"n={n}: expected from 2 to {most} samples in a draw, half of the "
                        f"{len(setting.train)} of {setting.train.name}, so that the reference is as large")
    if draws < 1:
        raise UserError(f"draws={draws}: expected at least 1")
    with own_streams(setting.seed):
        reader = _Reader(setting.train, {name: metrics.get(name).reads for name in names}, extractor,
                         classes is not None and classes.seen)
        # Made before anything long begins: a metric that this data cannot have is refused at once.
        whole = [Collected(name, setting) for name in names]
        by_class = [] if classes is None else [
            CollectedByClass(name, setting, classes) for name in names if is_divided(name)]
        collected = [*whole, *by_class]
        sides = _Sides(setting, reader, collected, n, draws, progress, classes)
        with sides.bar:
            for draw in range(draws):
                _one_draw(draw, source, setting, collected, sides)
                if floors:
                    _floor_of_draw(collected, sides)
    return [*_in_order(whole, by_class, sides)]


def is_divided(name: str) -> bool:
    """Whether the metric is a question of the samples of one class alone."""
    kind = metrics.get(name)
    return kind.of_one_class and "fake" in kind.sources


def _in_order(whole: list[Collected], by_class: list[CollectedByClass], sides: _Sides) -> Iterator[Figure]:
    divided = {c.name: [*c.figures(0, 0)] for c in by_class}
    for collected in whole:
        counts = sides.count(collected.held_out), sides.reference(collected.held_out)
        for figure in collected.figures(*counts):
            yield figure
            yield from (f for f in divided.get(collected.name, []) if f.name == figure.name)


# A draw

def _one_draw(draw: int, source: Source, setting: Setting, collected: list[Collected], sides: _Sides) -> None:
    sides.shuffle(draw)
    for figures in collected:
        figures.begin(dataclasses.replace(setting, seed=setting.seed + draw),
                      sides.classes_in_place(figures.held_out))
    against_held_out = [f for f in collected if f.held_out]
    plain = [f for f in collected if not f.held_out]
    _feed(plain, "real", sides.real_reference())
    if against_held_out:
        _feed(against_held_out, "real", sides.trained_on())
        _feed(against_held_out, "held_out", sides.shown_held_out())
    _feed(collected, "fake", sides.generated(source, draw), sides)
    for figures in collected:
        figures.note()


def _floor_of_draw(collected: list[Collected], sides: _Sides) -> None:
    """The same with real data in the samples' place; the metrics have the reference already."""
    of_samples = [figures for figures in collected if figures.of_samples]
    against_held_out = [f for f in of_samples if f.held_out]
    _feed([f for f in of_samples if not f.held_out], "fake", sides.real_in_place())
    if against_held_out:
        _feed(against_held_out, "fake", sides.held_out_in_place())
    for figures in of_samples:
        figures.note_floor()


def _feed(receivers: list[Collected], kind: str, batches: Iterator[Batch],
          sides: _Sides | None = None) -> None:
    """Show `batches` to the metrics that read `kind`; with `sides`, each no more than its count."""
    receivers = [f for f in receivers if kind in f.metric.sources]
    if not receivers:
        return
    seen = 0
    for views, labels in batches:
        size = len(next(iter(views.values())))
        for figures in receivers:
            room = size if sides is None else min(size, max(0, sides.count(figures.held_out) - seen))
            if room:
                figures.read({name: view[:room] for name, view in views.items()}, kind,
                             None if labels is None else labels[:room])
        seen += size


# What the metrics see

class _Reader:
    """A batch as the metrics read it, through each extractor that one of them needs, once."""

    def __init__(self, dataset: Dataset, readings: dict[str, str], extractor: Callable | None,
                 see_classes: bool = False):
        for name, reading in readings.items():
            if len(dataset.spec.shape) != 3 and reading in ("images", "probabilities"):
                raise UserError(f"{name}: is a metric of images, but {dataset.name} holds points")
        self.shows_samples = bool({"samples", "images"} & set(readings.values()))
        self.extractors: dict[str, Callable] = {}
        if "features" in readings.values():
            self.extractors["features"] = extractor or _usual_extractor(dataset)
        if see_classes or "probabilities" in readings.values():
            from scratchgan.metrics import features
            self.extractors["probabilities"] = features.classifier().probabilities

    def __call__(self, samples: np.ndarray) -> Views:
        return {**self.plain(samples), **{name: f(samples) for name, f in self.extractors.items()}}

    def plain(self, samples: np.ndarray) -> Views:
        """What no extractor has to see."""
        return {"samples": samples, "images": samples} if self.shows_samples else {}


def _usual_extractor(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    from scratchgan.metrics import features
    return features.default_extractor(dataset.spec)


class _Side:
    """One side of the data, with the features of all of it."""

    def __init__(self, dataset: Dataset, reader: _Reader, bar: tqdm):
        self.dataset, self.reader, self.kept = dataset, reader, {name: [] for name in reader.extractors}
        for start in range(0, len(dataset) if self.kept else 0, BATCH):
            indices = np.arange(start, min(start + BATCH, len(dataset)))
            views = reader(dataset.get(indices))
            for name, parts in self.kept.items():
                parts.append(views[name])
            bar.update(len(indices))
        self.kept = {name: np.concatenate(parts) for name, parts in self.kept.items()}

    def batches(self, indices: np.ndarray) -> Iterator[Batch]:
        """The samples at `indices`, their features and labels; read anew only where one wants samples."""
        for start in range(0, len(indices), BATCH):
            part = indices[start:start + BATCH]
            plain = self.reader.plain(self.dataset.get(part)) if self.reader.shows_samples else {}
            labels = None if self.dataset.labels is None else self.dataset.labels[part]
            yield {**plain, **{name: values[part] for name, values in self.kept.items()}}, labels


class _Sides:
    """Both sides of the data as a draw divides them, and the generated samples."""

    def __init__(self, setting: Setting, reader: _Reader, collected: list[Collected], n: int, draws: int,
                 progress: bool, classes: Classes | None):
        self.reader, self.n, self.seed, self.classes = reader, n, setting.seed, classes
        train, held_out = len(setting.train), 0 if setting.held_out is None else len(setting.held_out)
        use_held_out = any(f.held_out for f in collected)
        self.n_held_out = min(n, held_out // 2)
        if use_held_out and self.n_held_out < 1:
            raise UserError(f"{setting.train.name}: {held_out} samples are held out from the training, "
                            "expected at least 2 for a metric that compares with them")
        extracted = (train + use_held_out * held_out) if reader.extractors else 0
        self.bar = tqdm(total=extracted + draws * n, desc="evaluate", unit="sample", dynamic_ncols=True,
                        disable=None if progress else True, leave=False)
        self.train = _Side(setting.train, reader, self.bar)
        self.held_out = _Side(setting.held_out, reader, self.bar) if use_held_out else None

    def count(self, held_out: bool) -> int:
        """Samples that a metric, of held-out data or not, reads in a draw."""
        return self.n_held_out if held_out else self.n

    def reference(self, held_out: bool) -> int:
        """Real samples that they are compared with."""
        count = len(self.train.dataset)
        return count if held_out else min(REFERENCE, count - self.n)

    def shuffle(self, draw: int) -> None:
        """Divide both sides for the draw of this number."""
        self.order = generator(self.seed, "reference", draw).permutation(len(self.train.dataset))
        if self.held_out is not None:
            self.held_order = generator(self.seed, "held out", draw).permutation(len(self.held_out.dataset))

    def classes_in_place(self, held_out: bool) -> np.ndarray | None:
        """Of the real samples that stand for the generated ones in the floor."""
        if self.classes is None:
            return None
        batches = self.held_out_in_place() if held_out else self.real_in_place()
        return np.concatenate([self.classes.of_samples(views, labels) for views, labels in batches])

    def real_reference(self) -> Iterator[Batch]:
        return self.train.batches(self.order[self.n:self.n + self.reference(False)])

    def real_in_place(self) -> Iterator[Batch]:
        return self.train.batches(self.order[:self.n])

    def trained_on(self) -> Iterator[Batch]:
        return self.train.batches(np.arange(len(self.train.dataset)))

    def shown_held_out(self) -> Iterator[Batch]:
        return self.held_out.batches(self.held_order[self.n_held_out:])

    def held_out_in_place(self) -> Iterator[Batch]:
        return self.held_out.batches(self.held_order[:self.n_held_out])

    def generated(self, source: Source, draw: int) -> Iterator[Batch]:
        for samples, labels in source.batches(draw, self.n):
            yield self.reader(samples), labels
            self.bar.update(len(samples))
