"""What each GAN reaches within five minutes on one thread: figures of `scratchgan evaluate`.

Every run is `scratchgan train GAN --data DATA --steps N --seed S`, with settings where `TABLES` names some, on
one thread, two side by side; N is three to five minutes on the machine named in the results; then `scratchgan
evaluate`. Both commands, the seconds of the training and the figures are written to
results/training/RUN-seedS.json, a strip of samples beside it; runs whose file is there are not made again, so a
stopped bench goes on where it was (remove a file to make its run anew). A table has means over the seeds, with
their standard deviation, and is written to a CSV file, to one picture of all its samples, and between its marks
in README.md. There is one for the 5,000 digits; one of a single seed and three times as long, for the
GANs that five minutes leave far from done; and one that asks on colour photographs what the pyramid of LAPGAN is
worth: the sliced Wasserstein distance to the patches trained on, beside that of a DCGAN after equal time.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench import readme, timing
from scratchgan import report
from scratchgan.run import open_run


@dataclass(frozen=True)
class Training:
    """One row of a table: a GAN, how many steps it takes, and what differs from its settings."""

    title: str
    gan: str
    steps: int
    settings: tuple[str, ...] = ()
    asks: bool = False  # whether samples are asked for by class


@dataclass(frozen=True)
class Table:
    """Trainings on the same data, and the columns: (metric, figure in evaluation.json) by title."""

    data: str
    trainings: tuple[Training, ...]
    columns: dict[str, tuple[str, str]]
    seeds: tuple[int, ...] = (0, 1, 2)


OF_DIGITS = {
    "fid": ("fid", "fid"), "kid": ("kid", "kid"), "precision": ("precision_recall", "precision"),
    "recall": ("precision_recall", "recall"), "coverage": ("density_coverage", "coverage"),
    "copies": ("memorisation", "copy_rate"), "asked class": ("asked_class", "asked_class"),
}
TABLES = {
    "mnist5k": Table(
        "mnist5k",
        (
            Training("gan", "gan", 6500),
            Training("cgan", "cgan", 2850, asks=True),
            Training("lapgan", "lapgan", 620),
            Training("lapgan by class", "lapgan", 500, ("class_conditional=true",), asks=True),
            Training("dcgan", "dcgan", 2500),
            Training("wgan", "wgan", 1900),
            Training("wgan_gp", "wgan_gp", 1150),
            Training("stylegan", "stylegan", 2700),
            Training("stylegan2", "stylegan2", 2500),
        ),
        OF_DIGITS,
    ),
    "longer": Table(
        "mnist5k",
        (Training("wgan", "wgan", 5700), Training("wgan_gp", "wgan_gp", 3450)),
        {title: key for title, key in OF_DIGITS.items() if title != "asked class"},
        seeds=(0,),
    ),
    "photographs": Table(
        "photographs",
        (Training("lapgan", "lapgan", 400), Training("dcgan", "dcgan", 2500)),
        {"sliced Wasserstein": ("swd", "swd")},
    ),
}
SIDE_BY_SIDE = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "SCRATCHGAN_NUM_THREADS": "1"}
FOLDER = timing.RESULTS / "training"


@dataclass(frozen=True)
class Run:
    """A training of a table from one seed."""

    table: str
    training: Training
    seed: int

    @property
    def name(self) -> str:
        return f"{self.training.title.replace(' ', '-')}-{self.table}-seed{self.seed}"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    @property
    def metrics(self) -> list[str]:
        """Those of the table's columns; that of the asked class only where one is asked for."""
        wanted = {metric for metric, _ in TABLES[self.table].columns.values()}
        return sorted(wanted - (set() if self.training.asks else {"asked_class"}))

    def result(self) -> dict:
        return json.loads(self.path.read_text(encoding="utf-8"))


def runs(only: str = "") -> list[Run]:
    """Of every table, seed by seed, those whose name contains `only`."""
    found = (Run(name, training, seed) for name, table in TABLES.items() for seed in table.seeds
             for training in table.trainings)
    return [run for run in found if only in run.name]


def measure(only: str = "") -> list[Run]:
    """The runs whose name contains `only`, made where they are not there."""
    wanted = runs(only)
    missing = [run for run in wanted if not run.path.exists()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool, tqdm(total=len(missing), unit="run") as bar:
        for done in pool.map(make, missing):
            bar.set_postfix_str(done)
            bar.update()
    return wanted


def make(run: Run) -> str:
    """Train, evaluate and write down one run; returns its name."""
    training = run.training
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, run.name)
        settings = [word for pair in training.settings for word in ("--set", pair)]
        train = ["train", training.gan, "--data", TABLES[run.table].data, "--steps", str(training.steps), "--seed",
                 str(run.seed), *settings]
        evaluate = ["evaluate", str(out), "--metrics", ",".join(run.metrics)]
        begin = time.perf_counter()
        scratchgan(*train, "--out", str(out))
        seconds = time.perf_counter() - begin
        scratchgan(*evaluate)
        evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
        alarms = [json.loads(line) for line in (out / "alarms.jsonl").read_text(encoding="utf-8").splitlines()]
        strip(out, run.path.with_suffix(".png"))
    shown = [" ".join(["scratchgan", *words]).replace(str(out), f"runs/{out.name}") for words in (train, evaluate)]
    document = {
        "gan": training.gan, "seed": run.seed, "commands": shown, "training_seconds": round(seconds, 1),
        "alarms": alarms, "environment": {**timing.environment(), "threads": "1"},
        "evaluation": {**evaluation, "samples": f"runs/{out.name}"},
    }
    run.path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return run.name


def scratchgan(*words: str) -> None:
    """Run a command on one thread. Raises RuntimeError with what it said on stderr where it fails."""
    done = subprocess.run([sys.executable, "-m", "scratchgan.cli", *words], check=False, env={**os.environ, **ONE_THREAD},
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"scratchgan {' '.join(words)}: {done.stderr.strip()}")


def strip(folder: Path, out: Path, count: int = 20) -> None:
    """A row of samples of the run."""
    grid = report.image_grid(open_run(folder).sample(count, 0), columns=count)
    Image.fromarray(grid.squeeze()).save(out)


# The tables

def figures_of(result: dict, columns: dict[str, tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """(value, floor) by column."""
    found = {(f["metric"], f["figure"]): f for f in result["evaluation"]["figures"] if f["class"] is None}
    return {title: (found[key]["value"], found[key]["floor"]) for title, key in columns.items() if key in found}


def lines_of(table: str, rows: list[Run]) -> list[list[str]]:
    """A table as cells: titles, one line a training, one for real data in the samples' place."""
    columns, floors = TABLES[table].columns, {}
    lines = [["GAN", "steps", "seeds", "minutes", *columns]]
    for training in TABLES[table].trainings:
        results = [run.result() for run in rows if (run.table, run.training) == (table, training)]
        if not results:
            continue
        by_seed = [figures_of(result, columns) for result in results]
        for figures in by_seed:
            for title, (_, floor) in figures.items():
                floors.setdefault(title, floor)
        minutes = statistics.mean(result["training_seconds"] for result in results) / 60
        lines.append([training.title, str(results[0]["evaluation"]["step"]), str(len(results)), f"{minutes:.1f}",
                      *(spread([f[title][0] for f in by_seed if title in f]) for title in columns)])
    real = [floors.get(title) for title in columns]
    return [*lines, ["real data", "", "", "", *("" if floor is None else spread([floor]) for floor in real)]]


def spread(values: list[float]) -> str:
    """Mean and standard deviation, with as many digits as the latter bears."""
    if not values:
        return ""
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    if not deviation:
        return f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.3g}"
    decimals = max(0, -math.floor(math.log10(deviation)))
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def show(rows: list[Run]) -> None:
    for table in dict.fromkeys(run.table for run in rows):
        lines = lines_of(table, rows)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        print(f"\n{table}")
        for line in lines:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)))


def save(rows: list[Run]) -> Path:
    """training_TABLE.csv, training_TABLE.png and README's tables."""
    for table in TABLES:
        picture([run for run in rows if run.table == table])
        header, *lines = lines_of(table, rows)
        readme.put(table, "training", header, lines)
        made = timing.made_in(run.path for run in rows if run.table == table)
        path = timing.save(f"training_{table}", header, lines, made)
    return path.parent


def picture(rows: list[Run]) -> None:
    """The first seed's strips of samples of a table, one below the other."""
    strips = [Image.open(run.path.with_suffix(".png")) for run in rows if run.seed == rows[0].seed]
    width = max(strip.width for strip in strips)
    alike = [strip.resize((width, strip.height * width // strip.width), Image.Resampling.NEAREST) for strip in strips]
    Image.fromarray(np.concatenate(alike)).save(timing.RESULTS / f"training_{rows[0].table}.png")
