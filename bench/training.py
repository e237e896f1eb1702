"""What each GAN reaches on the 5,000 digits: figures of `scratchgan evaluate` after trainings of five minutes.

Every run is `scratchgan train GAN --data mnist5k --steps N --seed S` on one thread, two side by side, with N of
`STEPS`, which is about five minutes on the machine named in the results; then `scratchgan evaluate`. Both
commands, the seconds of the training and the figures are written to results/training/GAN-seedS.json, a strip of
samples beside it; runs whose file is there are not made again, so a stopped bench goes on where it was (remove
a file to make its run anew). The table has means over the seeds, with their standard deviation, and is written
to training.csv, to one picture of all GANs' samples, and between the marks in README.md.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench import timing
from scratchgan import gans, report
from scratchgan.run import open_run

SEEDS = (0, 1, 2)
STEPS = {  # of each run
    "gan": 5000, "cgan": 2900, "lapgan": 450, "dcgan": 2600, "wgan": 1000, "wgan_gp": 650, "stylegan": 2800,
    "stylegan2": 2300,
}
FIGURES = {  # of the table: (metric, figure in evaluation.json), and the column's title
    "fid": ("fid", "fid"), "kid": ("kid", "kid"), "precision": ("precision_recall", "precision"),
    "recall": ("precision_recall", "recall"), "coverage": ("density_coverage", "coverage"),
    "copies": ("memorisation", "copy_rate"), "asked class": ("asked_class", "asked_class"),
}
SIDE_BY_SIDE = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "SCRATCHGAN_NUM_THREADS": "1"}
FOLDER = timing.RESULTS / "training"
README = timing.RESULTS.parent.parent / "README.md"
BEGIN, END = "<!-- training: written by python -m bench training -->", "<!-- end of training -->"


def measure(only: str = "") -> list[dict]:
    """The results of every run of the GANs whose name contains `only`, made where they are not there."""
    wanted = [(name, seed) for seed in SEEDS for name in STEPS if only in name]
    missing = [run for run in wanted if not path_of(*run).exists()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool, tqdm(total=len(missing), unit="run") as bar:
        for done in pool.map(lambda run: make(*run), missing):
            bar.set_postfix_str(done)
            bar.update()
    return [json.loads(path_of(*run).read_text(encoding="utf-8")) for run in wanted]


def path_of(name: str, seed: int) -> Path:
    return FOLDER / f"{name}-seed{seed}.json"


def make(name: str, seed: int) -> str:
    """Train, evaluate and write down one run; returns its name."""
    asks = gans.get(name).conditioned_on == "labels"
    metrics = {metric for metric, _ in FIGURES.values() if metric != "asked_class" or asks}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, f"{name}-mnist5k-seed{seed}")
        train = ["train", name, "--data", "mnist5k", "--steps", str(STEPS[name]), "--seed", str(seed)]
        evaluate = ["evaluate", str(run), "--metrics", ",".join(sorted(metrics))]
        begin = time.perf_counter()
        scratchgan(*train, "--out", str(run))
        seconds = time.perf_counter() - begin
        scratchgan(*evaluate)
        evaluation = {**json.loads((run / "evaluation.json").read_text(encoding="utf-8")), "samples": f"runs/{run.name}"}
        alarms = [json.loads(line) for line in (run / "alarms.jsonl").read_text(encoding="utf-8").splitlines()]
        strip(run, path_of(name, seed).with_suffix(".png"))
    shown = [" ".join(["scratchgan", *words]).replace(str(run), f"runs/{run.name}") for words in (train, evaluate)]
    document = {"gan": name, "seed": seed, "commands": shown, "training_seconds": round(seconds, 1),
                "alarms": alarms, "environment": {**timing.environment(), "threads": "1"}, "evaluation": evaluation}
    path_of(name, seed).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return f"{name}, seed {seed}"


def scratchgan(*words: str) -> None:
    """Run a command on one thread. Raises RuntimeError with what it said on stderr where it fails."""
    done = subprocess.run([sys.executable, "-m", "scratchgan.cli", *words], env={**os.environ, **ONE_THREAD},
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"scratchgan {' '.join(words)}: {done.stderr.strip()}")


def strip(folder: Path, out: Path, count: int = 20) -> None:
    """A row of samples of the run."""
    Image.fromarray(report.image_grid(open_run(folder).sample(count, 0), columns=count).squeeze()).save(out)


# The table

def figures_of(document: dict) -> dict[str, tuple[float, float]]:
    """(value, floor) by column."""
    found = {(f["metric"], f["figure"]): f for f in document["evaluation"]["figures"] if f["class"] is None}
    return {column: (found[key]["value"], found[key]["floor"]) for column, key in FIGURES.items() if key in found}


def table(rows: list[dict]) -> list[list[str]]:
    """Lines of cells: a title, one line a GAN, one for real data in the samples' place."""
    names = [name for name in STEPS if any(row["gan"] == name for row in rows)]
    lines, floors = [["GAN", "steps", "seeds", "minutes", *FIGURES]], {column: [] for column in FIGURES}
    for name in names:
        own = [row for row in rows if row["gan"] == name]
        by_seed = [figures_of(row) for row in own]
        cells = []
        for column in FIGURES:
            values = [figures[column][0] for figures in by_seed if column in figures]
            floors[column] += [f[column][1] for f in by_seed if column in f and f[column][1] is not None]
            cells.append(spread(values))
        minutes = statistics.mean(row["training_seconds"] for row in own) / 60
        lines.append([name, str(own[0]["evaluation"]["step"]), str(len(own)), f"{minutes:.1f}", *cells])
    lines.append(["real data", "", "", "", *(spread(values[:1]) for values in floors.values())])
    return lines


def spread(values: list[float]) -> str:
    """Mean and standard deviation, with as many digits as the latter bears."""
    if not values:
        return ""
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    if not deviation:
        return f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.3g}"
    decimals = max(0, -math.floor(math.log10(deviation)))
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def show(rows: list[dict]) -> None:
    lines = table(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)))


def save(rows: list[dict]) -> Path:
    """training.csv, training.png and README's table."""
    header, *lines = table(rows)
    strips = [Image.open(path_of(name, SEEDS[0]).with_suffix(".png")) for name in STEPS]
    width = max(strip.width for strip in strips)
    alike = [strip.resize((width, strip.height * width // strip.width), Image.Resampling.NEAREST) for strip in strips]
    Image.fromarray(np.concatenate(alike)).save(timing.RESULTS / "training.png")
    text = README.read_text(encoding="utf-8")
    marked = "\n".join([BEGIN, *markdown(header, lines), END])
    README.write_text(re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: marked, text, flags=re.DOTALL),
                      encoding="utf-8")
    return timing.save("training", header, lines)


def markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
