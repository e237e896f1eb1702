"""Super-resolution of photographs that the network has not seen: bicubic, MSE pre-training alone, SRGAN, at
r = 4.

For each seed a run of `scratchgan train srgan` with its default settings; the seed also says which scene is
held out. The run is looked at twice: at the end of its pre-training, and at the end. Low-resolution
photographs are made as in training and rounded to bytes, as files have them; the photographs are cut to a
multiple of 4 first. Results are rounded to bytes, too, before they are measured: PSNR and SSIM on luminance
with 4 pixels cropped on each side, as the paper does, the distance in features of the network that the
training used ("textures") and of one of random weights that nothing was trained on ("random"), and the mean
of all pixels less that of the photograph, in 1/255: a shift in brightness would show there. Seconds are of
the training up to then, pictures and diagnosis included.

A seed's figures and pictures are kept in results/upscaling; seeds that are there are not made again (remove
their file to make them anew).
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench import readme, timing
from scratchgan import gans
from scratchgan.data.images import to_bytes, to_unit
from scratchgan.data.photographs import SCENES, photograph
from scratchgan.gans.srgan import enlarged, reduced
from scratchgan.metrics.full_reference import cropped, luminance, psnr, ssim
from scratchgan.metrics.perceptual import feature_distance
from scratchgan.report import read_metrics
from scratchgan.run import Plan, Run, resume, start
from scratchgan.train import train
from scratchgan.upscale import Picture, enlarge

SEEDS = (0, 1, 3)          # the first three that hold out three different scenes
FOLDER = timing.RESULTS / "upscaling"
DETAIL = 112                    # pixels of the edge of what the picture shows of each photograph
# Where there is most to see, the upper left corner, in each photograph whose author lets anyone show it.
DETAILS = {"astronaut": (40, 170), "chelsea": (80, 130), "coffee": (130, 300), "rocket": (280, 40)}
FIGURES = ("psnr", "ssim", "textures", "random", "shift")


@dataclass(frozen=True)
class Result:
    """A method's figures on one photograph; `seconds` of training."""

    seed: int
    photograph: str
    method: str
    steps: int
    seconds: float
    figures: dict[str, float]


def measure(only: str = "") -> list[Result]:
    """Every seed that contains `only`, trained where its file is missing."""
    results: list[Result] = []
    for seed in SEEDS:
        if only in str(seed):
            path = FOLDER / f"seed{seed}.json"
            if not path.exists():
                make(seed, path)
            results += [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]
    return results


def make(seed: int, path: Path) -> None:
    """Train one seed, and write its results, and beside them the details of its photographs."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(one_seed(seed, Path(folder) / "run"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [row for _, rows in found for row in rows]
    if rows:
        picture(rows).save(path.with_suffix(".png"), optimize=True)
    results = [dataclasses.asdict(result) for results, _ in found for result in results]
    document = {"environment": timing.environment(), "results": results}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def one_seed(seed: int, folder: Path) -> Iterator[tuple[list[Result], list[np.ndarray]]]:
    """For each photograph of the scene that the seed holds out: results, and a row of details where there are
    some."""
    config = gans.configure("srgan")
    first = dataclasses.replace(config, steps=config.pretrain_steps)
    plan = Plan(gan="srgan", seed=seed, device="cpu", epochs=None, checkpoint_every=0, config=first)
    run = start(plan, folder)
    train(run)
    files = held_out(run)
    pairs = {file: pair(photograph(file), config.scale) for _, file in files}
    pretrained = {file: through(run, low) for file, (low, _) in pairs.items()}
    before = run.step, elapsed(run)
    run = resume(folder, {}, {"steps": config.steps})
    train(run)
    after = run.step, elapsed(run)
    for scene, file in files:
        low, high = pairs[file]
        made = {
            "bicubic": (to_bytes(enlarged(to_unit(low)[None], config.scale)[0]), (0, 0.0)),
            "MSE pre-training": (pretrained[file], before),
            "SRGAN": (through(run, low), after),
        }
        results = [Result(seed, file, name, *at, figures(x, high)) for name, (x, at) in made.items()]
        pictures = [x for x, _ in made.values()]
        yield results, [details(scene, low, pictures, high, config.scale)] if scene in DETAILS else []


def held_out(run: Run) -> list[tuple[str, str]]:
    """(scene, file) of the photographs that the run does not train on."""
    names = [run.held_out_data.group_names[i] for i in np.unique(run.held_out_data.groups)]
    return [(scene, file) for scene in names for file in SCENES[scene]]


def pair(high: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """(I^LR, I^HR) of a photograph (3, H, W), uint8."""
    high = high[:, : high.shape[1] // scale * scale, : high.shape[2] // scale * scale]
    return to_bytes(reduced(to_unit(high)[None], scale)[0]), high


def through(run: Run, low: np.ndarray) -> np.ndarray:
    """By the run's averaged generator, in tiles, as `scratchgan upscale` does it."""
    return enlarge(run.gan, Picture(low, None, 255, None)).colours


def elapsed(run: Run) -> float:
    return read_metrics(run.folder / "metrics.jsonl")[-1]["seconds"]


def figures(made: np.ndarray, high: np.ndarray) -> dict[str, float]:
    x, y = to_unit(made)[None], to_unit(high)[None]
    brightness = [cropped(luminance(a), 4) for a in (x, y)]
    return {
        "psnr": float(psnr(*brightness)[0]),
        "ssim": float(ssim(*brightness)[0]),
        "textures": float(feature_distance(x, y)[0]),
        "random": float(feature_distance(x, y, "random")[0]),
        "shift": float(made.mean() - high.mean()),
    }


def details(scene: str, low: np.ndarray, made: list[np.ndarray], high: np.ndarray, scale: int) -> np.ndarray:
    """Part of I^LR in large pixels, of each result and of the photograph, side by side:
    (3, DETAIL, 5 DETAIL)."""
    top, left = (n // scale * scale for n in DETAILS[scene])
    large = low.repeat(scale, axis=1).repeat(scale, axis=2)
    part = (slice(None), slice(top, top + DETAIL), slice(left, left + DETAIL))
    return np.concatenate([x[part] for x in (large, *made, high)], axis=2)


def picture(rows: list[np.ndarray]) -> Image.Image:
    """Rows of: low resolution, bicubic, MSE pre-training, SRGAN, photograph; twice as large."""
    image = Image.fromarray(np.concatenate(rows, axis=1).transpose(1, 2, 0))
    return image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)


def show(rows: list[Result]) -> None:
    names = "".join(f"{name:>10}" for name in FIGURES)
    print(f"\n{'photograph':<22}{'seed':>5}  {'method':<18}{names}    s")
    for r in rows:
        values = "".join(f"{r.figures[name]:>10.4g}" for name in FIGURES)
        print(f"{r.photograph:<22}{r.seed:>5}  {r.method:<18}{values}{r.seconds:>5.0f}")
    for method in ("MSE pre-training", "SRGAN"):
        gains = [gain(rows, r) for r in rows if r.method == method]
        print(f"{method} less bicubic: " + ", ".join(
            f"{name} {np.mean([g[name] for g in gains]):+.4g} +- {spread([g[name] for g in gains]):.2g}"
            for name in FIGURES[:-1]))


def gain(rows: list[Result], of: Result) -> dict[str, float]:
    """Its figures less those of bicubic enlargement on the same photograph."""
    base = next(r for r in rows if (r.photograph, r.seed, r.method) == (of.photograph, of.seed, "bicubic"))
    return {name: of.figures[name] - base.figures[name] for name in FIGURES}


def spread(values: list[float]) -> float:
    """Standard deviation; NaN of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def table(rows: list[Result]) -> list[list[str]]:
    """What each training gains over bicubic enlargement: mean and standard deviation over all photographs."""
    lines = []
    for method in ("MSE pre-training", "SRGAN"):
        of = [r for r in rows if r.method == method]
        gains = [[gain(rows, r)[name] for r in of] for name in FIGURES]
        minutes = np.mean([r.seconds for r in of]) / 60
        gained = [f"{np.mean(g):+.3f} ± {spread(g):.3f}" for g in gains]
        lines.append([method, str(of[0].steps), f"{minutes:.1f}", *gained])
    return lines


def save(rows: list[Result]) -> Path:
    readme.put("upscaling", "upscaling", ["less bicubic", "steps", "minutes", *FIGURES], table(rows))
    header = ["seed", "photograph", "method", "steps", "seconds", *FIGURES]
    lines = [[r.seed, r.photograph, r.method, r.steps, f"{r.seconds:.0f}",
              *(f"{r.figures[name]:.5g}" for name in FIGURES)] for r in rows]
    made = timing.made_in(FOLDER / f"seed{seed}.json" for seed in {r.seed for r in rows})
    return timing.save("upscaling", header, lines, made)
