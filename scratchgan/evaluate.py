"""`scratchgan evaluate`: the figures of a run's samples, or of samples that another program made, as a table
and as JSON.

What is measured and how is in measure.py; here, what the command's arguments mean. The JSON of a run lies in
its folder, as evaluation.json, where `compare` and `report` find it.
"""
from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratchgan import data, metrics, storage
from scratchgan.classes import Classes, classes_of
from scratchgan.data import Dataset, Spec
from scratchgan.errors import UserError
from scratchgan.figures import Figure, deviation
from scratchgan.measure import DRAWS, Generated, Source, Stored, default_count, is_divided, measure
from scratchgan.metrics import Setting, features
from scratchgan.run import Run, divided, read_plan, versions

FILE = "evaluation.json"
HELD_OUT = 0.1              # share of the data that is put aside where none was held out from training
PROTOCOL = {"data", "draws", "draws_are", "features", "seed"}     # how the figures of a document came about
LEAST_DRAWS = 3             # fewer say little of the uncertainty
COLOURLESS = 0.1            # how far the channels of a grey JPEG may lie apart, of a range of 2

OF_IMAGES = ("fid", "kid", "precision_recall", "density_coverage")
OF_GREY_IMAGES = ("fid", "kid", "is", "precision_recall", "density_coverage")
OF_MIXTURES = ("modes", "precision_recall", "density_coverage")
OF_POINTS = ("kid", "precision_recall", "density_coverage")
OF_HELD_OUT = ("memorisation",)         # besides, where it is known what was held out
OF_ASKED_DIGITS = ("asked_class",)      # besides, of a class-conditional GAN of these:
DIGITS = ("mnist5k", "digits")


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for; None, or no metrics, for what it leaves open.

    samples: a run folder, an .npz or a folder of pictures. data: what to compare them with, as `data.load`
    takes it; a run's own if None. held_out: data that the GAN behind samples from elsewhere never saw.
    features: an extractor's name. per_class: also class by class.
    """

    samples: Path
    data: str | None = None
    metrics: tuple[str, ...] = ()
    n: int | None = None
    draws: int = DRAWS
    seed: int = 0
    features: str | None = None
    size: int | None = None
    held_out: str | None = None
    per_class: bool = False

    def __post_init__(self) -> None:
        for name, least in {"draws": LEAST_DRAWS, "n": 2, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value}: expected an integer of at least {least}")
        for name in self.metrics:
            metrics.get(name)


def default_metrics(dataset: Dataset, held_out: bool, asked: bool = False) -> tuple[str, ...]:
    """Names of the metrics for such data, with data held out from training or without, where none are asked
    for; `asked`: of a GAN that is conditioned on labels."""
    if len(dataset.spec.shape) == 3:
        names = OF_GREY_IMAGES if dataset.spec.shape[0] == 1 else OF_IMAGES
    else:
        names = OF_POINTS if dataset.modes is None else OF_MIXTURES
    return (*names, *(OF_HELD_OUT if held_out else ()),
            *(OF_ASKED_DIGITS if asked and dataset.name in DIGITS else ()))


def evaluate(request: Request) -> dict[str, Any]:
    """What evaluation.json holds: how the request was carried out, and the figures. Raises UserError."""
    if (request.samples / "config.json").is_file():
        return _of_run(request)
    if not request.samples.exists():
        raise UserError(f"{request.samples}: no such run folder, .npz or folder of pictures")
    return _of_files(request)


def _of_run(request: Request) -> dict[str, Any]:
    if request.held_out is not None:
        raise UserError(f"--held-out {request.held_out}: {request.samples} is a run, "
                        "which held out a part of its own data")
    run = Run(read_plan(request.samples), request.samples)
    run.restore()
    train, held_out = run.train_data, run.held_out_data
    if request.data is not None or request.size is not None:
        size = run.plan.config.size if request.size is None else request.size
        train, held_out = data.load(request.data or run.plan.config.data, size, run.plan.seed), None
    _check_shape(request.samples, run.dataset.spec, train)
    facts = {"gan": run.plan.gan, "step": run.step, "training_seed": run.plan.seed}
    return _evaluated(request, lambda n: Generated(run.gan, request.seed), train, held_out, run.gan, facts)


def _of_files(request: Request) -> dict[str, Any]:
    if request.data is None:
        raise UserError(f"{request.samples}: --data is missing: the real samples to compare these with")
    train = data.load(request.data, request.size)
    samples = _like(train.spec, request.samples, request.size)
    held_out = None if request.held_out is None else _like(train.spec, request.held_out, request.size)
    for path, dataset in ((request.samples, samples), (request.held_out, held_out)):
        if dataset is not None:
            _check_shape(path, dataset.spec, train)
    for_disjoint_draws = max(2, len(samples) // request.draws)
    return _evaluated(request, lambda n: Stored(samples, n, request.draws, request.seed), train, held_out,
                      None, {"count": len(samples)}, for_disjoint_draws)


def _like(spec: Spec, path: str | Path, size: int | None) -> Dataset:
    """The samples at `path`; pictures of a folder in the size of `spec`, and grey where its images are."""
    of_images = len(spec.shape) == 3
    if of_images and size is None and Path(path).is_dir():
        size = spec.shape[-1]
    samples = data.load(path, size)
    if of_images and spec.shape[0] == 1 and samples.spec.shape[0] == 3 and len(samples.spec.shape) == 3:
        grey_spec = dataclasses.replace(samples.spec, shape=(1, *samples.spec.shape[1:]))
        return Dataset(samples.name, grey_spec, _Grey(samples), samples.labels)
    return samples


class _Grey:
    """Pictures (N, 3, H, W) whose channels are alike, as (N, 1, H, W)."""

    def __init__(self, pictures: Dataset):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = self.pictures.get(indices)
        spread = (images.max(axis=1) - images.min(axis=1)).reshape(len(images), -1).max(axis=1, initial=0)
        if (spread > COLOURLESS).any():
            raise UserError(f"{self.pictures.name}: sample {indices[spread.argmax()]} has colours, "
                            "but the data are grey")
        return images.mean(axis=1, keepdims=True)


def _check_shape(path: str | Path, spec: Spec, real: Dataset) -> None:
    if spec.shape != real.spec.shape:
        raise UserError(f"{path}: samples have shape {spec.shape}, but those of {real.name} "
                        f"{real.spec.shape}; --size brings square images to one size")


def _evaluated(request: Request, source_of: Callable[[int], Source], train: Dataset, held_out: Dataset | None,
               gan: Any, facts: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    """Measure `source_of(n)`; n, where it is left open, is at most `most`."""
    asked = gan is not None and gan.conditioned_on == "labels"
    names = request.metrics or default_metrics(train, held_out is not None, asked)
    if held_out is None:
        for name in names:
            if "held_out" in metrics.get(name).sources:
                raise UserError(f"{name}: compares the data trained on with data held out from the training, "
                                f"and for {request.samples} none are known: name some with --held-out")
        train, held_out = divided(train, HELD_OUT, request.seed)
    usual = default_count(len(train)) if most is None else min(most, default_count(len(train)))
    n = usual if request.n is None else request.n
    source = source_of(n)
    extractor = _extractor(request.features, train.spec)
    classes = _classes(source, train, held_out, names, request.seed) if request.per_class else None
    figures = measure(source, Setting(train, held_out, gan, request.seed), names, n, request.draws, extractor,
                      classes=classes)
    return {"samples": str(request.samples), **facts, "data": train.name, "shape": list(train.spec.shape),
            "n": n, "draws": request.draws, "draws_are": source.draws, "seed": request.seed,
            "features": extractor.name,
            "classes": [] if classes is None else _said_of_classes(classes, train.name, names),
            "figures": [_entry(figure) for figure in figures], "versions": versions()}


def _classes(source: Source, train: Dataset, held_out: Dataset, names: Sequence[str], seed: int) -> Classes:
    divided_names = [name for name in names if is_divided(name)]
    if not divided_names:
        raise UserError(f"--per-class: no question of a single class is asked by {', '.join(names)}")
    against_held_out = any("held_out" in metrics.get(name).sources for name in divided_names)
    return classes_of(source, train, held_out if against_held_out else None, seed)


def _said_of_classes(classes: Classes, data_name: str, names: Sequence[str]) -> list[str]:
    lines = [classes.described(data_name),
             "samples and reference of a class: means over the draws; value and floor are of as many samples"]
    whole = [name for name in names if not is_divided(name)]
    return [*lines, f"of all classes together only: {', '.join(whole)}"] if whole else lines


def _extractor(name: str | None, spec: Spec) -> features.Extractor:
    return features.default_extractor(spec) if name is None else features.get(name)


# As a document and as a table

def _entry(figure: Figure) -> dict[str, Any]:
    """A figure as JSON has it: null for what is no finite number."""
    floor = figure.floor
    return {"metric": figure.metric, "figure": figure.name, "better": figure.better,
            "value": _plain(figure.mean), "deviation": _plain(figure.deviation),
            "values": [*map(_plain, figure.values)], "floor": _plain(np.mean(floor)) if floor else None,
            "floor_deviation": _plain(deviation(floor)), "floor_values": [*map(_plain, floor)],
            "n": figure.n, "reference": figure.reference, "class": figure.class_name,
            "reason": figure.reason}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def destination(request: Request, out: Path | None) -> Path | None:
    """Where to write: `out`, else into the run's folder; None for samples from elsewhere. Raises UserError
    for what cannot be written, before anything is computed."""
    if out is None:
        is_run = (request.samples / "config.json").is_file()
        return request.samples / FILE if is_run else None
    if out.suffix.lower() != ".json":
        raise UserError(f"--out {out}: expected a file that ends in .json")
    storage.check_parent(out)
    return out


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the document as JSON, whole or not at all."""
    storage.write_atomically(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def read(path: Path) -> dict[str, Any]:
    """The document at `path`. Raises UserError where it is damaged."""
    document = storage.read_json(path)
    if (not isinstance(document, dict) or not _is_list_of_figures(document.get("figures"))
            or not _is_list_of_texts(document.get("classes", [])) or not PROTOCOL <= document.keys()):
        raise UserError(f"{path}: expected what scratchgan evaluate writes: an object with figures and "
                        f"{', '.join(sorted(PROTOCOL))}")
    return document


def _is_list_of_figures(figures: Any) -> bool:
    texts, counts, optional = ("metric", "figure", "better"), ("n", "reference"), ("class", "reason")
    numbers = ("value", "deviation", "floor", "floor_deviation")
    return isinstance(figures, list) and all(
        isinstance(f, dict) and all(isinstance(f.get(k), str) for k in texts)
        and all(type(f.get(k)) is int for k in counts)
        and all(isinstance(f.get(k), (str, type(None))) for k in optional)
        and all(k in f and (f[k] is None or type(f[k]) in (int, float)) for k in numbers) for f in figures)


def _is_list_of_texts(lines: Any) -> bool:
    return isinstance(lines, list) and all(isinstance(line, str) for line in lines)


def table(document: dict[str, Any]) -> list[str]:
    """Lines with every figure, its uncertainty, its floor and its number of samples, and what these are."""
    return [*aligned(rows(document)), "", *protocol(document)]


def rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table's rows as text, the names of the columns first; one of classes only where there are some."""
    shown = document["figures"]
    columns = {"metric": [f["metric"] for f in shown],
               "figure": [f["figure"] for f in shown],
               "class": [f.get("class") or "all" for f in shown],
               "value": [with_deviation(f["value"], f["deviation"]) for f in shown],
               "floor": [with_deviation(f["floor"], f["floor_deviation"]) for f in shown],
               "samples": [_count(f, "n") for f in shown],
               "reference": [_count(f, "reference") for f in shown],
               "better": [f["better"] for f in shown]}
    if not any(f.get("class") for f in shown):
        del columns["class"]
    return [tuple(columns), *zip(*columns.values())]


def _count(figure: dict[str, Any], key: str) -> str:
    """A class may lack samples; a metric of all of them that has none does not read any."""
    return str(figure[key] if figure.get("class") else figure[key] or "-")


def protocol(document: dict[str, Any]) -> list[str]:
    """What value, floor and uncertainty mean in `document`, in words, and why a class has no value."""
    draws = f"{document['draws']} draws of samples, {document['draws_are']}"
    reasons = {f"no value for class {f['class']}: {f['reason']}": None
               for f in document["figures"] if f.get("class") and f.get("reason")}
    return [*reasons,
            f"value: mean and standard deviation over {draws}",
            "floor: the same for as many real samples in their place, disjoint from those of the reference",
            *document.get("classes", []),
            f"data: {document['data']}; features: {document['features']}; seed {document['seed']}"]


def with_deviation(value: float | None, spread: float | None) -> str:
    """"3.21 ± 0.05"; "-" for no value."""
    if value is None:
        return "-"
    return f"{value:.4g}" if spread is None else f"{value:.4g} ± {spread:.2g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines with columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
