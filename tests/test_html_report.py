"""The report as text: what it holds, that it stands alone, that nothing of a file gets through unescaped, and
what is refused. How it behaves in a browser is in test_browser.py."""
from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from scratchgan import cli, data, evaluate, gans, html_report, report, snapshots
from scratchgan.errors import UserError
from scratchgan.html_report import figures, pictures
from scratchgan.html_report.mathml import math
from scratchgan.run import open_run

RING = ("train gan --data ring --batch-size 16 --steps 12 --sample-every 5 --log-every 4 "
        "--set g_widths=8,8 --set d_widths=8").split()
DIGITS = ("train dcgan --data digits --size 8 --batch-size 16 --steps 6 --sample-every 3 --log-every 2 "
          "--set g_width=2 --set d_width=2").split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two short runs, to be copied."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.main([*RING, "--out", str(folder / "ring")]) == 0
    assert cli.main([*DIGITS, "--out", str(folder / "digits")]) == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ring", "digits"):
        shutil.copytree(trained / name, tmp_path / name)


class Elements(HTMLParser):
    """All start tags with their attributes, and the text outside of style and script."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += text

    def all(self, tag: str, **wanted) -> list[dict]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def reported(folder: str, *arguments: str) -> Elements:
    assert cli.main(["report", folder, "--out", "r.html", *arguments]) == 0
    elements = Elements(Path("r.html").read_text("utf-8"))
    assert not elements.open, "elements stay open"
    return elements


# What it holds

def test_a_run_on_images(runs):
    page = reported("digits")
    for text in ("Deep convolutional", "Objective", "Nearest training samples", "Between latents", "loss_d",
                 "scratchgan evaluate digits", "g_width"):
        assert text.lower() in page.text.lower()
    assert len(page.all("math")) == 2
    steps = [int(image["data-step"]) for image in page.all("img") if "data-step" in image]
    assert steps == [0, 1, 2, 3, 6]
    assert ["hidden" in image for image in page.all("img") if "data-step" in image] == [True] * 4 + [False]
    slider, = page.all("input", type="range")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "4", "4")
    assert page.all("label", **{"for": slider["id"]})
    assert len(page.all("img")) == 5 + 1 + 2


def test_a_run_in_the_plane(runs):
    page = reported("ring")
    frames = [a for t, a in page.tags if t == "div" and "data-step" in a]
    assert [int(frame["data-step"]) for frame in frames] == [0, 1, 2, 5, 10, 12]
    assert len(page.all("svg", **{"class": "plane"})) == 6 + 1
    for layer in ("gradient", "level l4", "cloud samples"):
        assert len(page.all("path", **{"class": layer})) == 6
    boxes = [box["value"] for box in page.all("input", type="checkbox")]
    assert boxes == ["data", "samples", "level", "gradient"]
    assert "Nearest training" not in page.text


@pytest.mark.parametrize("folder", ["ring", "digits"])
def test_it_stands_alone_and_says_what_pictures_show(runs, folder):
    page = reported(folder)
    text = Path("r.html").read_text("utf-8")
    assert not re.search(r"https?://|src=\"(?!data:)|url\(|@import", text)
    assert not page.all("script", src=None)[1:] and all("src" not in a for a in page.all("script"))
    assert all(link["href"] == "data:," for link in page.all("link"))
    assert all(a["href"].startswith("#") for a in page.all("a"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) and {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(text) < 2_000_000


def test_the_same_run_gives_the_same_report(runs):
    reported("ring")
    first = Path("r.html").read_bytes()
    reported("ring")
    assert Path("r.html").read_bytes() == first


def test_figures_of_the_evaluation_stand_in_it(runs, monkeypatch):
    figure = {"metric": "fid", "figure": "fid", "better": "lower", "value": 3.25, "deviation": 0.5,
              "floor": 1.5, "floor_deviation": 0.25, "n": 100, "reference": 900}
    lacking = {**figure, "class": "seven", "reason": "fid: too few", "value": None, "deviation": None}
    document = {"figures": [figure, lacking], "draws": 3, "draws_are": "each with new noise",
                "data": "digits", "features": "digits", "seed": 0, "classes": ["class: by labels"]}
    asked = []
    monkeypatch.setattr(evaluate, "evaluate", lambda request: asked.append(request.samples) or document)
    for arguments in ((), ("--evaluate",), ()):
        page = reported("digits", *arguments)
        computed = bool(asked)
        assert ("3.25 ± 0.5" in page.text and "1.5 ± 0.25" in page.text) == computed
        assert ("Not computed" in page.text) != computed
        for text in ("no value for class seven: fid: too few", "class: by labels"):
            assert (text in page.text) == computed
    assert asked == [Path("digits")] and evaluate.read(Path("digits/evaluation.json")) == document


def test_alarms_are_shaded_and_told(runs):
    rows = [json.loads(line) for line in Path("ring/metrics.jsonl").read_text().splitlines()]
    measures = {"diversity": 0.01, "grad_norm_d": 1.0, "grad_norm_g": 1.0, "logit_real": 1.0,
                "logit_fake": 0.0}
    rows = [{**rows[i % len(rows)], **measures, "step": i + 1} for i in range(40)]
    Path("ring/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = reported("ring")
    assert "mode collapse" in page.text and page.all("g", **{"class": "alarm"})


def test_what_files_hold_is_escaped(runs):
    evil = '<script>alert("x")</script>'
    rows = [{"step": 1, "seconds": 1.0, evil: 2.0, "loss_d": float("nan"), "text": evil, "on": True},
            {"step": 2, "seconds": 2.0, evil: 3.0, "loss_d": 1e300}]
    Path("digits/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = {"metric": evil, "figure": evil, "better": evil, "value": None, "deviation": None, "floor": None,
              "floor_deviation": None, "n": 0, "reference": 0}
    texts = ("draws", "draws_are", "data", "features", "seed")
    document = {"figures": [figure], **dict.fromkeys(texts, evil)}
    Path("digits/evaluation.json").write_text(json.dumps(document))
    page = reported("digits")
    assert len(page.all("script")) == 1 and evil in page.text


def test_long_runs_keep_the_page_small(runs):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600), np.uint8)     # the worst case
    Image.fromarray(noise).save("noise.png")
    for step in range(100, 300):
        shutil.copy("noise.png", f"digits/samples/step_{step:06d}.png")
    page = reported("digits")
    steps = [int(image["data-step"]) for image in page.all("img") if "data-step" in image]
    assert 10 < len(steps) < pictures.MOST_FRAMES and (steps[0], steps[-1]) == (0, 299)
    assert Path("r.html").stat().st_size < 10e6


# What is refused

def refused(capsys, *arguments: str) -> str:
    before = {p: p.stat().st_mtime_ns for p in Path().rglob("*")}
    assert cli.main(["report", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and {p: p.stat().st_mtime_ns for p in Path().rglob("*")} == before
    return lines[0]


def test_bad_input_is_one_line(runs, capsys):
    Path("empty").mkdir()
    assert "is no run folder" in refused(capsys, "empty")
    assert "is no run folder" in refused(capsys, "nowhere")
    assert "ends in .html" in refused(capsys, "ring", "--out", "r.txt")
    assert "there is no folder" in refused(capsys, "ring", "--out", "no/r.html")
    whole = Path("ring/samples/step_000005.npz").read_bytes()
    Path("ring/samples/step_000005.npz").write_bytes(whole[:300])
    assert "step_000005.npz: not a readable snapshot" in refused(capsys, "ring")
    Path("ring/samples/step_000005.npz").write_bytes(whole)
    Path("digits/samples/step_000002.png").write_bytes(b"\x89PNG\r\n")
    assert "step_000002.png: not a readable picture" in refused(capsys, "digits")
    Path("digits/evaluation.json").write_text("{")
    Path("digits/samples/step_000002.png").unlink()
    assert "evaluation.json: is no JSON" in refused(capsys, "digits")
    for file in Path("digits/checkpoint").iterdir():
        file.unlink()
    assert "checkpoint" in refused(capsys, "digits")


@pytest.mark.parametrize("change", [
    {"samples": np.zeros((4, 3), np.float32)}, {"samples": np.zeros((4, 2))},
    {"logits": np.zeros((3, 3), np.float32)}, {"logits": np.full((64, 64), np.nan, np.float32)},
    {"box": np.zeros((2, 2), np.float32)}, {"box": np.zeros((), np.float32)}])
def test_a_snapshot_of_other_shapes_or_nan_is_refused(tmp_path, change):
    path = tmp_path / "step_000001.npz"
    snapshots.save(path, np.zeros((4, 2)), lambda x: x[:, 0], snapshots.box_around(np.eye(2)))
    arrays = {**snapshots.read(path)._asdict(), **change}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="expected finite float32 arrays"):
        snapshots.read(path)


# Its parts

def test_a_snapshot_holds_d_at_the_points_of_the_grid(tmp_path):
    box = np.array([[-1, 2], [3, 4]], np.float32)
    snapshots.save(tmp_path / "s.npz", np.ones((5, 2)), lambda x: 10 * x[:, 0] + x[:, 1], box)
    snapshot = snapshots.read(tmp_path / "s.npz")
    assert snapshot.logits[0, 0] == -8 and snapshot.logits[0, -1] == 32 and snapshot.logits[-1, 0] == -6
    first = (tmp_path / "s.npz").read_bytes()
    snapshots.save(tmp_path / "s.npz", np.ones((5, 2)), lambda x: 10 * x[:, 0] + x[:, 1], box)
    assert (tmp_path / "s.npz").read_bytes() == first


def test_snapshots_of_a_run_hold_its_samples_and_its_d(runs):
    run = open_run(Path("ring"))
    snapshot = snapshots.read(Path("ring/samples/step_000012.npz"))
    np.testing.assert_array_equal(snapshot.samples, run.sample(report.POINTS_SHOWN, run.plan.seed))
    corner = snapshot.box[0][None]
    np.testing.assert_allclose(snapshot.logits[0, 0], run.gan.logits(corner)[0], rtol=1e-5)


def path_points(path: str) -> np.ndarray:
    return np.array([[float(x) for x in pair.split()] for pair in re.split("[ML]", path) if pair])


def test_level_sets_and_arrows_lie_where_they_should():
    """D(x, y) = x: level sets stand upright, and every arrow points to the right."""
    box = np.array([[0, 0], [1, 1]], np.float32)
    logits = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    snapshot = snapshots.Snapshot(np.zeros((1, 2), np.float32), logits, box)
    plane = figures.Plane(box)
    levels = re.findall(r'class="level l(\d)" d="([^"]+)"', plane.levels(snapshot))
    assert [int(i) for i, _ in levels] == list(range(9))
    middles = [path_points(path)[:, 0] for _, path in levels]
    for level, x in zip(np.linspace(*np.percentile(logits, (2, 98)), 9), middles):
        np.testing.assert_allclose(x, level * figures.PLANE, atol=0.06)
    shafts = re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", plane.gradients(snapshot))
    assert len(shafts) == figures.ARROWS**2
    x0, y0, x1, y1 = np.array(shafts, float).T
    assert (x1 > x0).all() and (y1 == y0).all()


def test_up_is_up_in_the_plane():
    plane = figures.Plane(np.array([[0, 0], [2, 1]], np.float32))
    pixels = plane.pixels(np.array([[0, 0.5], [2, 0.5], [1, 1.5], [1, -0.5]]))
    np.testing.assert_allclose(pixels / figures.PLANE, [[0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]])


def test_curves_are_drawn_to_scale():
    steps, values = np.arange(3.0), np.array([1.0, 3.0, 2.0])
    svg = figures.curves("title", {"a": (steps, values)})
    points = path_points(re.search(r'class="curve c0 dots" d="([^"]+)"', svg)[1])
    height = figures.HEIGHT - figures.TOP - figures.BOTTOM
    np.testing.assert_allclose(np.diff(points[:, 1]), [-height, height / 2], atol=0.11)
    assert not figures.curves("none", {"a": (steps, np.full(3, np.nan))})
    assert not figures.curves("none", {"a": (steps, -values)}, logarithmic=True)
    for values, labels in ((10.0 ** (-3 * steps), ["1e-06", "0.0001", "0.01", "1"]), (steps + 3, ["5"])):
        svg = figures.curves("log", {"a": (steps, values)}, logarithmic=True)
        assert re.findall(r'text-anchor="end">([^<]+)<', svg) == labels


def test_nearest_training_samples_are_found_across_chunks(monkeypatch):
    monkeypatch.setattr(pictures, "CHUNK", 7)
    digits = data.load("digits").subset(np.arange(50))
    wanted = [3, 20, 49]
    near = pictures.nearest_indices(digits.get(wanted), digits, 5)
    flat = digits.get(np.arange(50)).reshape(50, -1).astype(np.float64)
    distances = np.linalg.norm(flat[wanted][:, None] - flat, axis=2)
    assert near[:, 0].tolist() == wanted
    np.testing.assert_array_equal(near, np.argsort(distances, axis=1, kind="stable")[:, :5])


def test_pictures_are_webp_of_limited_size():
    picture = pictures.encoded(Image.new("L", (3000, 30), 200))
    assert (picture.width, picture.height) == (pictures.LONGEST, 11)
    content = base64.b64decode(picture.uri.removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP" and abs(image.getpixel((5, 5))[0] - 200) < 5


@pytest.mark.parametrize("name", gans.names())
def test_every_gan_states_its_objective(name):
    import inspect
    objective = inspect.getmodule(gans.get(name)).OBJECTIVE
    for tex in objective.values():
        ElementTree.fromstring(math(tex).replace("&#x2061;", ""))


def test_mathml_of_scripts_accents_and_words():
    assert math("x^2") .endswith("<mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>")
    assert "<msubsup><mi>a</mi><mi>i</mi><mn>2</mn></msubsup>" in math("a^2_i")
    assert "<munder><mo>min</mo><mi>G</mi></munder>" in math(r"\min_G")
    assert "<mtext>data</mtext>" in math(r"p_{\text{data}}") and "<mo>&lt;</mo>" in math("a<b")
    assert "<mi>a</mi><mo>−</mo><mi>b</mi>" in math("a - b")


@pytest.mark.parametrize("tex", [r"\unknown", "{a", "a}", "a_", "a_1_2", r"\text a", r"\hat"])
def test_other_tex_is_refused(tex):
    with pytest.raises(ValueError, match="math: "):
        math(tex)


def test_what_is_no_html_file_is_refused_before_anything_is_computed(runs, monkeypatch):
    monkeypatch.setattr(html_report, "page", lambda run: pytest.fail("computed"))
    with pytest.raises(UserError, match="ends in .html"):
        html_report.write(Path("ring"), Path("r.pdf"), evaluate_first=True)
