"""`scratchgan sample`: samples of a trained GAN as a picture or as an .npz; by class, truncated, interpolated,
with mixed styles."""
from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchgan import report, storage
from scratchgan.errors import UserError
from scratchgan.run import MAX_COUNT, Run, read_plan

SAMPLES = 64                # unless asked; with a class in each column, as many as fill whole rows
STOPS = 9                   # samples in a row of an interpolation
ROWS, SOURCES = 8, 6        # of interpolations, and of latents each way whose styles are mixed, unless asked
MOST = {".png": 10_000, ".npz": MAX_COUNT}      # samples


@dataclass(frozen=True)
class Request:
    """What the command line asks for; None for what it leaves open.

    n: samples; with `interpolate`, rows; with `mix`, latents each way. class_number: the class of all
    samples. truncation: psi of a StyleGAN.
    """

    folder: Path
    out: Path
    seed: int = 0
    n: int | None = None
    class_number: int | None = None
    truncation: float | None = None
    interpolate: bool = False
    mix: bool = False

    def __post_init__(self) -> None:
        if self.suffix not in MOST:
            raise UserError(f"--out {self.out}: expected a file that ends in .png or .npz")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: expected an integer of at least 0")
        if self.n is not None:
            self.check_count(self.n)

    def check_count(self, n: int) -> None:
        """UserError for a count that the file cannot hold, of whatever `n` counts."""
        samples = n * STOPS if self.interpolate else (n + 1) ** 2 if self.mix else n
        if n < 1 or samples > MOST[self.suffix]:
            raise UserError(f"--n {n}: expected an integer from 1 to {MOST[self.suffix]} for {self.suffix}"
                            + (f", which would hold {samples} samples" if samples != n else ""))

    @property
    def suffix(self) -> str:
        """Of the file, in small letters."""
        return self.out.suffix.lower()


class Samples(NamedTuple):
    """Samples (N, *shape), how many make a row of the picture (None: nearly a square), and the classes that
    were asked for, int64 (N,), None without."""
    samples: np.ndarray
    columns: int | None
    labels: np.ndarray | None


def write(request: Request) -> int:
    """Write what is asked for; returns the number of samples. Raises UserError for a run without a
    checkpoint, for a `truncation`, `mix` or class that its GAN does not have, and for a file that cannot be
    written."""
    run = Run(read_plan(request.folder), request.folder)
    run.restore()
    samples, columns, labels = _drawn(run, request, _how(run, request))
    if request.suffix == ".png":
        report.save_samples(request.out, samples, run.real_points(), columns)
    else:
        storage.write_npz(request.out, samples=samples, **({} if labels is None else {"labels": labels}))
    return len(samples)


def _how(run: Run, request: Request) -> dict[str, Any]:
    """What the GAN's `generate` is told; UserError for what it does not know."""
    name, gan = run.plan.gan, run.gan
    if request.mix and not hasattr(gan, "mix"):
        raise UserError(f"--mix: {name} has no styles to mix")
    if request.interpolate and gan.noiseless:
        raise UserError(f"--interpolate: {name} has no latent: a sample follows from the image it is made of")
    if request.class_number is not None:
        if gan.conditioned_on != "labels":
            raise UserError(f"--class {request.class_number}: {name} is not conditioned on classes")
        if not 0 <= request.class_number < gan.classes:
            raise UserError(f"--class {request.class_number}: expected an integer from 0 to "
                            f"{gan.classes - 1}")
    if request.truncation is None:
        return {}
    if "truncation" not in inspect.signature(gan.generate).parameters:
        raise UserError(f"--truncation {request.truncation:g}: {name} has no mean latent to truncate towards")
    return {"truncation": request.truncation}


def _drawn(run: Run, request: Request, how: dict[str, Any]) -> Samples:
    if request.mix:
        grid = run.mixed(request.n or SOURCES, request.seed, **how)
        return Samples(_flat(grid), grid.shape[1], None)
    if request.interpolate:
        rows = request.n or ROWS
        given = _given(run, request, rows)
        strips = run.interpolations(rows, STOPS, request.seed, given, **how)
        return Samples(_flat(strips), STOPS, _labels(run, given, STOPS))
    columns = run.columns if request.class_number is None else None
    n = request.n or (SAMPLES if columns is None else run.pictured)
    given = _given(run, request, n)
    return Samples(run.sample(n, request.seed, given, **how), columns, _labels(run, given))


def _given(run: Run, request: Request, n: int) -> np.ndarray | None:
    return run.in_turn(n) if request.class_number is None else np.full(n, request.class_number)


def _labels(run: Run, given: np.ndarray | None, times: int = 1) -> np.ndarray | None:
    return given.repeat(times) if run.gan.conditioned_on == "labels" else None


def _flat(grid: np.ndarray) -> np.ndarray:
    """(rows, columns, *shape) as (rows * columns, *shape)."""
    return grid.reshape(-1, *grid.shape[2:])
