"""A run and its folder: what config.json, the checkpoint and the pictures of one training hold, and how to go
on from them.

    config.json     the plan: GAN, its hyperparameters, seed, device, versions; all that is needed to build
                    the run again
    checkpoint/     weights, buffers, optimisers, weight averages, random streams, data order (see
                    checkpoint.py)
    metrics.jsonl   one line a step
    alarms.jsonl    one line where an alarm begins or ends; follows from metrics.jsonl
    samples/        step_000100.png and so on: the same noise through the averaged generator over time;
                    samples.png is the latest; in the plane also .npz with D on a grid (see snapshots.py)
    losses.png      the plot of metrics.jsonl, alarms marked
    tensorboard/    event files, where asked for
"""
from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import scratchgan
from scratchgan import checkpoint, data, gans, precision, report, settings, snapshots, storage
from scratchgan.backend import Streams, module_of, use_streams
from scratchgan.errors import UserError
from scratchgan.graph import StepGraphs
from scratchgan.kernels.dispatch import set_float32_matmul_precision

MAX_COUNT = 10**9
PICTURED = {"images": 64, "points": report.POINTS_SHOWN}
LEAST_COLUMNS, MOST_COLUMNS = 8, 32     # of a picture whose columns are classes
SHOWN = 256     # images of the data that samples of a GAN conditioned on images are made of
LEAST = {"steps": 0, "batch_size": 1, "sample_every": 1, "epochs": 0, "checkpoint_every": 0, "log_every": 0,
         "eval_every": 0}
# Of runs whose config.json is older than the setting: they trained on everything, in float32.
OLDER = {"held_out": 0.0, "log_every": 50, "eval_every": 0, "eval_metrics": [], "tensorboard": False,
         "precision": "float32", "graph": None}
PRECISIONS = {"float32": "highest", "tf32": "high",      # as `set_float32_matmul_precision` names them
              "float16": "high", "bfloat16": "high"}    # of what stays float32
CHUNK = 250     # samples per pass through the generator, to bound the memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """What config.json holds. `config` is the GAN's own Config; `epochs`, where given, replaces its `steps`
    as the end.

    A checkpoint is written every `checkpoint_every` steps (0: never by steps) besides those by time. The
    share `held_out` of the data takes no part in the training. Every `log_every` steps the training is
    diagnosed, every `eval_every` steps `eval_metrics` are computed, or the usual ones of the data where none
    are named (0: never). `tensorboard` writes event files too. `precision`, of the products of convolutions
    on a GPU, is one of PRECISIONS. `graph`: whether steps on a GPU are CUDA graphs, None where that works.
    """

    gan: str
    seed: int
    device: str
    epochs: int | None
    checkpoint_every: int
    config: Any
    held_out: float = 0.1
    log_every: int = 50
    eval_every: int = 0
    eval_metrics: tuple[str, ...] = ()
    tensorboard: bool = False
    precision: str = "float32"
    graph: bool | None = None

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self if hasattr(self, name) else self.config, name)
            if value is not None and not least <= value <= MAX_COUNT:
                raise UserError(f"{name}={value}: expected an integer from {least} to {MAX_COUNT}")
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: expected an integer of at least 0")
        if self.config.lr <= 0:
            raise UserError(f"lr={self.config.lr}: expected a number above 0")
        if not 0 <= self.held_out < 1:
            raise UserError(f"held_out={self.held_out}: expected a number of at least 0 and below 1")
        if self.eval_metrics and not self.eval_every:
            raise UserError(f"--eval-metrics {','.join(self.eval_metrics)}: say how often with --eval-every")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision={self.precision!r}: expected one of {', '.join(PRECISIONS)}")
        if self.precision != "float32" and self.device == "cpu":
            raise UserError(f"precision={self.precision} is a GPU's: expected --device cuda beside it")
        if self.graph and self.device == "cpu":
            raise UserError("--graph is a GPU's: expected --device cuda beside it")

    def to_json(self) -> bytes:
        """The bytes of config.json."""
        document = {**dataclasses.asdict(self), "versions": versions()}
        return (json.dumps(document, indent=2) + "\n").encode()

    def default_folder(self) -> Path:
        """runs/GAN-DATA-seedS; of a path to data only the last part, without suffixes."""
        name = Path(self.config.data).name.partition(".")[0] or "data"
        return Path("runs", f"{self.gan}-{name}-seed{self.seed}")


def versions() -> dict[str, str]:
    """Versions of what the bits of a run depend on."""
    return {"python": platform.python_version(), "numpy": np.__version__, "scratchgan": scratchgan.__version__}


def read_plan(folder: Path) -> Plan:
    """The plan in the run folder `folder`. Raises UserError where there is none or it is damaged."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: is no run folder: it has no config.json")
    document = storage.read_json(path)
    expected = [f.name for f in dataclasses.fields(Plan)]
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict) \
            or not set(expected) <= document.keys() | OLDER.keys():
        raise UserError(f"{path}: expected an object with {', '.join(expected)}")
    document = {**OLDER, **document}
    if not isinstance(document["gan"], str):
        raise UserError(f"{path}: gan is {document['gan']!r}, expected a name")
    config = settings.from_json(gans.get(document["gan"]).config_class, document["config"], str(path))
    values = {k: document[k] for k in expected if k != "config"}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    settings.check_types(Plan, values, str(path))
    return Plan(**values, config=config)


class Run:
    """A GAN with its data, random streams and place in the training, tied to a folder. Making one writes
    nothing.

    It trains on `train_data`; `held_out_data` it never sees (None where nothing is held out).
    """

    def __init__(self, plan: Plan, folder: Path):
        self.plan, self.folder, self.step = plan, folder, 0
        module_of(plan.device)      # before data is loaded: a device that is not there is found out at once
        set_float32_matmul_precision(PRECISIONS[plan.precision])
        self.dataset = data.load(plan.config.data, size=plan.config.size, seed=plan.seed)
        self.train_data, self.held_out_data = divided(self.dataset, plan.held_out, plan.seed)
        self.half = precision.half_dtype(plan.precision) if plan.precision.endswith("16") else None
        self.loss_scale = precision.LossScale() if plan.precision == "float16" else None
        self.streams = use_streams(Streams(plan.seed))
        self.batches = data.Batches(self.train_data, plan.config.batch_size, plan.seed)
        try:
            self.gan = gans.get(plan.gan)(self.dataset.spec, plan.config, self.streams, plan.device)
        except UserError:
            raise
        except (ValueError, MemoryError) as error:
            raise UserError(f"{plan.gan} cannot be built with these settings: {error}") from error
        wanted = plan.device.startswith("cuda") and plan.graph is not False
        self.graphs = StepGraphs(self.gan) if wanted else None
        if self.gan.conditioned_on == "images":
            unseen = self.held_out_data or self.train_data
            count = min(SHOWN, len(unseen))
            self.gan.show(unseen.get(np.arange(count) * len(unseen) // count))      # from all over the data

    @property
    def finished(self) -> bool:
        """Whether the planned steps are done or, where epochs are planned, the data was gone through that
        often."""
        if self.plan.epochs is not None:
            return self.batches.epoch >= self.plan.epochs
        return self.step >= self.plan.config.steps

    def advance(self) -> dict[str, float]:
        """One step of the training; returns the GAN's scalars."""
        with precision.half_products(self.half, self.loss_scale):
            scalars = (self.graphs or self.gan).step(self.batches)
        self.step += 1
        return scalars

    def save(self) -> None:
        """Write the checkpoint of this step."""
        state = {"parts": {name: part.state_dict() for name, part in self.gan.parts().items()},
                 "streams": self.streams.state_dict(), "batches": self.batches.state_dict()}
        if self.loss_scale is not None:
            state["loss_scale"] = self.loss_scale.state_dict()
        checkpoint.save(self.folder / "checkpoint", self.step, state)

    def restore(self) -> None:
        """Go back to the checkpoint in the folder. Raises UserError where it is damaged or another
        model's."""
        saved = checkpoint.load(self.folder / "checkpoint")
        checkpoint.restore(self.gan.parts(), saved.state.get("parts"), saved.path)
        checkpoint.restore({"streams": self.streams, "batches": self.batches},
                           {k: saved.state.get(k) for k in ("streams", "batches")}, saved.path)
        if self.loss_scale is not None and "loss_scale" in saved.state:     # --precision may change with --resume
            checkpoint.restore({"loss_scale": self.loss_scale}, {"loss_scale": saved.state["loss_scale"]}, saved.path)
        self.step = saved.step

    def sample(self, n: int, seed: int, given: np.ndarray | None = None, **how: Any) -> np.ndarray:
        """`n` samples of the averaged generator, float32 in the data's range; the noise follows from `seed`
        alone. A conditional GAN is `given` labels or images, or takes its own in turn; `how` as in the GAN's
        `generate`."""
        stream, samples = Streams(seed)["pictures"], []
        given = self.in_turn(n) if given is None else given
        for i in range(0, n, CHUNK):
            part = {} if given is None else {"given": given[i:i + CHUNK]}
            samples.append(self.gan.sample(min(CHUNK, n - i), stream, **part, **how))
        return np.concatenate(samples)

    def interpolations(self, rows: int, stops: int, seed: int, given: np.ndarray | None = None,
                       **how: Any) -> np.ndarray:
        """(rows, stops, *shape): each row goes from one latent to another under one condition; the noise
        follows from `seed` alone, the rest is as in `sample`."""
        stream = Streams(seed)["walks"]
        starts, ends = self.gan.prior(stream, rows), self.gan.prior(stream, rows)
        given = self.in_turn(rows) if given is None else given
        how = how if given is None else {"given": given, **how}
        samples = [self.gan.interpolate(starts, ends, np.full(rows, t), **how)
                   for t in np.linspace(0, 1, stops)]
        return np.stack(samples, axis=1)

    def mixed(self, count: int, seed: int, **how: Any) -> np.ndarray:
        """(count + 1, count + 1, *shape): where a row and a column meet, the row's latent gives the coarse
        styles and the column's the fine ones. The first column and the first row show these latents alone;
        their corner is dark. For a GAN that has `mix`."""
        stream = Streams(seed)["mixing"]
        coarse, fine = self.gan.prior(stream, count), self.gan.prior(stream, count)
        first = self.gan.generate(fine, **how)
        rows = [np.stack([alone, *self.gan.mix(np.repeat(z[None], count, axis=0), fine, **how)])
                for z, alone in zip(coarse, self.gan.generate(coarse, **how))]
        return np.stack([np.stack([np.full_like(first[0], -1), *first]), *rows])

    def in_turn(self, n: int) -> np.ndarray | None:
        """What n samples in a picture are made of, as the GAN's `in_turn`; None unless it is conditional."""
        return None if self.gan.conditioned_on is None else self.gan.in_turn(n)

    @property
    def columns(self) -> int | None:
        """Of a picture with a class in each column: a multiple of their number. None where images are not
        conditioned on classes, or on too many."""
        if self.gan.conditioned_on != "labels" or self.gan.classes > MOST_COLUMNS:
            return None
        return self.gan.classes * -(-LEAST_COLUMNS // self.gan.classes)

    @property
    def pictured(self) -> int:
        """Samples in a picture; whole rows where columns are classes."""
        if len(self.dataset.spec.shape) == 1:
            return PICTURED["points"]
        count, columns = PICTURED["images"], self.columns
        return count if columns is None else max(1, count // columns) * columns

    def picture(self) -> Path:
        """Write samples/step_N.png and samples.png, always from the same noise; returns the former's path."""
        flat = len(self.dataset.spec.shape) == 1
        samples = self.sample(self.pictured, self.plan.seed)
        if not np.isfinite(samples).all():
            raise checkpoint.Diverged(f"step {self.step}: a sample holds NaN or infinity; "
                                      "the last checkpoint is kept")
        storage.make_folder(self.folder / "samples")
        path = self.folder / "samples" / f"step_{self.step:06d}.png"
        report.save_samples(path, samples, self.real_points(), self.columns)
        if flat:
            box = snapshots.box_around(self.real_points())
            snapshots.save(path.with_suffix(".npz"), samples, self.gan.logits, box)
        storage.write_atomically(self.folder / "samples.png", path.read_bytes())
        return path

    def real_points(self) -> np.ndarray | None:
        """The first points of the data, to show beside samples; None for images."""
        if len(self.dataset.spec.shape) != 1:
            return None
        return self.dataset.get(np.arange(min(report.POINTS_SHOWN, len(self.dataset))))


def divided(dataset: data.Dataset, held_out: float, seed: int) -> tuple[data.Dataset, data.Dataset | None]:
    """(train, held-out) sides by `Dataset.split`, or everything and None for a share of 0."""
    if held_out == 0:
        return dataset, None
    try:
        return dataset.split(held_out, seed)
    except UserError as error:
        raise UserError(f"{error}; --held-out 0 trains on everything") from error


def start(plan: Plan, folder: Path) -> Run:
    """A new run: build it, then make its folder with config.json and the checkpoint of step 0.

    Raises UserError, with nothing written, for bad settings or data and for a folder that holds anything
    already.
    """
    if folder.exists() and (not folder.is_dir() or storage.entries(folder)):
        raise UserError(f"{folder}: exists already; continue it with --resume, "
                        "or choose another folder with --out")
    run = _evaluable(Run(plan, folder))
    storage.make_folder(folder)
    try:
        storage.write_atomically(folder / "config.json", plan.to_json())
    except UserError:
        with suppress(OSError):
            folder.rmdir()
        raise
    run.save()
    return run


def open_run(folder: Path) -> Run:
    """The run in `folder`, at its checkpoint, or at step 0 where it was stopped before it had one."""
    run = Run(read_plan(folder), folder)
    if checkpoint.exists(folder / "checkpoint"):
        run.restore()
    return run


def resume(folder: Path, changes: Mapping[str, Any], config_changes: Mapping[str, Any]) -> Run:
    """`open_run` under the folder's plan with `changes` made to it and `config_changes` to its config;
    config.json follows."""
    plan = read_plan(folder)
    config = dataclasses.replace(plan.config, **config_changes)
    run = _evaluable(Run(dataclasses.replace(plan, config=config, **changes), folder))
    if checkpoint.exists(folder / "checkpoint"):
        run.restore()
    if run.plan != plan:
        storage.write_atomically(folder / "config.json", run.plan.to_json())
    return run


def _evaluable(run: Run) -> Run:
    """`run`, once the metrics that it is to be evaluated with are found to suit it."""
    if run.plan.eval_every:
        from scratchgan.diagnosis import evaluation  # metrics are many files: only where they are asked for
        evaluation.check(run)
    return run


def absolute_data(name: str) -> str:
    """Named data as they are, paths made absolute, so that a run can be continued from any folder."""
    named = name in data.IMAGES or name in data.POINTS
    return name if named or not os.path.exists(name) else os.path.abspath(name)
