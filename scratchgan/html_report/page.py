"""What the report says of a run, section by section. Whatever text comes from files passes through
`escape`."""
from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import numpy as np

from scratchgan import evaluate, report, snapshots
from scratchgan.diagnosis.alarms import Alarms, spans
from scratchgan.html_report import figures, pictures
from scratchgan.html_report.mathml import math
from scratchgan.html_report.pictures import Picture
from scratchgan.run import Plan, Run, versions


class Section(NamedTuple):
    """A part of the page; one without a body is left out."""
    id: str
    title: str
    body: str


def page(run: Run) -> str:
    """The whole page. Raises UserError where a file of the run is damaged."""
    flat = len(run.dataset.spec.shape) == 1
    sections = [Section("objective", "Objective", _objective(run)),
                Section("curves", "Training", _curves(run)),
                Section("samples", "Samples and D over time" if flat else "Samples over time",
                        _plane(run) if flat else _frames(run)),
                Section("interpolation", "Between latents", _walks_in_plane(run) if flat else _walks(run)),
                Section("neighbours", "Nearest training samples", "" if flat else _neighbours(run)),
                Section("metrics", "Metrics", _metrics(run)),
                Section("settings", "Settings", _settings(run))]
    title = f"{run.plan.gan} on {run.plan.config.data}, seed {run.plan.seed}"
    return assembled(title, _summary(run), sections)


def assembled(title: str, summary: str, sections: Sequence[Section]) -> str:
    """A page with those of the sections that have a body; `summary` is HTML, `title` is text."""
    sections = [section for section in sections if section.body]
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return Template(_resource("page.html")).substitute(
        title=escape(title), summary=summary, style=_resource("page.css"), script=_resource("page.js"),
        contents="".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections),
        sections="\n".join(f'<section id="{s.id}"><h2>{escape(s.title)}</h2>\n{s.body}</section>'
                           for s in sections),
        footer=escape(f"Made by scratchgan report; {made_by}."))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


# What was trained

def _summary(run: Run) -> str:
    paper = inspect.getdoc(inspect.getmodule(type(run.gan))).split("\n\n")[0]
    rows = report.read_metrics(run.folder / "metrics.jsonl")
    seconds = rows[-1]["seconds"] if rows else 0
    held_out = 0 if run.held_out_data is None else len(run.held_out_data)
    return (f"<p>{escape(' '.join(paper.split()))}</p>"
            + _note(f"{run.step:,} steps in {duration(seconds)}, on {len(run.train_data):,} samples of "
                    f"{run.dataset.name}; {held_out:,} more were held out."))


def duration(seconds: float) -> str:
    """Seconds in minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _objective(run: Run) -> str:
    formulas = getattr(inspect.getmodule(type(run.gan)), "OBJECTIVE", {})
    if not formulas:
        return ""
    items = "".join(f"<dt>{escape(label)}</dt><dd>{math(tex)}</dd>" for label, tex in formulas.items())
    return f'<dl class="objective">{items}</dl>'


def _settings(run: Run) -> str:
    items = "".join(f"<li><span>{escape(name)}</span><span>{escape(value)}</span></li>"
                    for name, value in settings_of(run.plan).items())
    return f'<ul class="settings">{items}</ul>'


def settings_of(plan: Plan) -> dict[str, str]:
    """Every setting of a run, those of its GAN last, as text."""
    own = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    config = dataclasses.asdict(own.pop("config"))
    return {name: shown(value) for name, value in {**own, **config}.items()}


def shown(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


# Curves

def _curves(run: Run) -> str:
    rows = report.read_metrics(run.folder / "metrics.jsonl")
    marks = spans(rows)
    panels = [figures.curves(title, {name: curve(rows, name) for name in names}, marks, logarithmic)
              for (title, logarithmic), names in report.panels(rows).items()]
    if not any(panels):
        return _note("No step has been logged yet.")
    return f'<div class="panels">{"".join(panels)}</div>{_alarm_list(rows)}'


def curve(rows: Sequence[dict], name: str) -> figures.Curve:
    """Steps and values of a scalar, where `rows` have it as a number."""
    points = [(row["step"], row[name]) for row in rows
              if all(type(row.get(key)) in (int, float) for key in ("step", name))]
    steps, values = np.array(points, float).reshape(-1, 2).T
    return steps, values


def _alarm_list(rows: Sequence[dict]) -> str:
    alarms = Alarms()
    events = [event for row in rows for event in alarms.read(row)]
    if not events:
        return _note("No alarm was raised.")
    items = "".join(f"<li>{escape(event.message)}</li>" for event in events)
    return f'<p>Alarms, shaded in the curves:</p><ul class="alarms">{items}</ul>'


# Samples

def _player(frames: dict[int, str], what: str, boxes: str = "") -> str:
    """Frames by step, of which a slider shows one; the last one to begin with. Each frame has the attribute
    data-step."""
    last = len(frames) - 1
    slider = (f'<div class="controls"><label for="{what}-time">Training step</label>'
              f'<input type="range" id="{what}-time" min="0" max="{last}" step="1" value="{last}">'
              f'<output for="{what}-time">{[*frames][-1]}</output></div>') if last else ""
    return f'<div class="player">{"".join(frames.values())}{slider}{boxes}</div>'


def _hidden(step: int, steps: Sequence[int]) -> str:
    return f'data-step="{step}"' + ("" if step == steps[-1] else " hidden")


def _image(picture: Picture, alt: str, attributes: str = "") -> str:
    return (f'<img src="{picture.uri}" width="{picture.width}" height="{picture.height}" alt="{escape(alt)}" '
            f"{attributes}>")


def _frames(run: Run) -> str:
    seen = pictures.frames(run.folder)
    if not seen:
        return _note("The run has no pictures of samples.")
    frames = {step: _image(picture, f"samples after step {step}", _hidden(step, [*seen]))
              for step, picture in seen.items()}
    return _note("The averaged generator on the same noise throughout.") + _player(frames, "samples")


def _walks(run: Run) -> str:
    if run.gan.noiseless:
        return _note("The generator has no latent: a sample follows from the image that it is made of.")
    images = pictures.walks(run)
    picture = pictures.grid(images.reshape(-1, *images.shape[2:]), images.shape[1])
    return (_note("In each row z moves from one latent to another, through the averaged generator; of a "
                  "conditional one, each row with a class, or an image, of its own.")
            + _image(picture, f"{len(images)} rows of samples that change from one into another"))


def _neighbours(run: Run) -> str:
    samples, near = pictures.with_neighbours(run)
    ours = pictures.grid(samples, 1)
    theirs = pictures.grid(near.reshape(-1, *near.shape[2:]), near.shape[1])
    return (_note("Left, samples; in the same row their nearest training images in Euclidean distance of the "
                  "pixels, nearest first. A copy of the left image on the right is a memorised one.")
            + f'<div class="pair">{_captioned(ours, "samples", "samples, one a row")}'
            + _captioned(theirs, "training images", "the training images nearest to each sample, a row each")
            + "</div>")


def _captioned(picture: Picture, caption: str, alt: str) -> str:
    return f"<figure>{_image(picture, alt)}<figcaption>{escape(caption)}</figcaption></figure>"


# The plane

LAYERS = {"data": "data", "samples": "samples", "level": "level sets of D", "gradient": "gradient of D"}


def _plane(run: Run) -> str:
    paths = pictures.steps(run.folder, ".npz")
    if not paths:
        return _note("The run has no snapshots of samples and D.")
    real = run.real_points()
    frames = {}
    for step, path in paths.items():
        snapshot = snapshots.read(path)
        plane = figures.Plane(snapshot.box)
        svg = plane.figure(f"data, samples, level sets and gradient field of D after step {step}",
                           plane.cloud("data", real), plane.levels(snapshot), plane.gradients(snapshot),
                           plane.cloud("samples", snapshot.samples))
        frames[step] = f"<div {_hidden(step, [*paths])}>{svg}</div>"
    boxes = "".join(f'<label><input type="checkbox" value="{layer}" checked> {name}</label>'
                    for layer, name in LAYERS.items())
    return (_note("The averaged generator on the same noise throughout, the data, and D of the same step: "
                  "level sets of its logit from low (blue) to high (orange), and arrows along its gradient.")
            + _player(frames, "samples", f'<div class="controls">{boxes}</div>'))


def _walks_in_plane(run: Run) -> str:
    real = run.real_points()
    plane = figures.Plane(snapshots.box_around(real))
    paths = pictures.walks(run, stops=33)
    svg = plane.figure(f"{len(paths)} paths of samples through the data", plane.cloud("data", real),
                       plane.lines("walk", paths))
    return (_note("Where samples go while z moves from one latent to another, and the data.")
            + f'<div class="player">{svg}</div>')


# Metrics

def _metrics(run: Run) -> str:
    path = run.folder / evaluate.FILE
    if not path.exists():
        return (f"<p>Not computed yet: <code>scratchgan evaluate {escape(str(run.folder))}</code>, or this "
                "report with <code>--evaluate</code>.</p>")
    document = evaluate.read(path)
    notes = "".join(f"<li>{escape(line)}</li>" for line in evaluate.protocol(document))
    return table(evaluate.rows(document)) + f'<ul class="note">{notes}</ul>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first of which names the columns."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
