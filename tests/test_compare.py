"""Runs side by side: what the table holds, the curves, and what is refused."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from scratchgan import cli, report

RING = "train gan --data ring --batch-size 16 --log-every 2 --set g_widths=8,8 --set d_widths=8".split()
WGAN = "train wgan-gp --data ring --batch-size 16 --log-every 2 --set g_width=4 --set d_width=4".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three short runs, to be copied."""
    folder = tmp_path_factory.mktemp("runs")
    for name, command in (("a", [*RING, "--steps", "4"]), ("b", [*RING, "--steps", "6", "--lr", "0.5"]),
                          ("w", [*WGAN, "--steps", "2"])):
        assert cli.main([*command, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def compared(capsys, *folders: str, out: str = "c.html") -> dict[str, list[str]]:
    """The printed table: cells of a row by its name."""
    capsys.readouterr()
    assert cli.main(["compare", *folders, "--out", out]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    starts = [lines[0].index(name) for name in lines[0].split()]
    cells = [[line[a:b].strip() for a, b in zip([0, *starts], [*starts, None])] for line in lines]
    return {row[0]: row[1:] for row in cells}


def refused(capsys, *arguments: str) -> str:
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert cli.main(["compare", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and sorted(Path().rglob("*")) == before
    return lines[0]


def test_the_table_holds_what_differs_and_the_last_scalars(runs, capsys):
    table = compared(capsys, "a", "b", out="c.png")
    assert table["lr"] == ["0.001", "0.5"] and table["steps"] == ["4", "6"] and table["step"] == ["4", "6"]
    assert "batch_size" not in table and "gan" not in table
    for column, folder in enumerate("ab"):
        last = report.read_metrics(Path(folder, "metrics.jsonl"))[-1]
        assert float(table["last loss_d"][column]) == pytest.approx(last["loss_d"], rel=1e-3)
    with Image.open("c.png") as picture:
        assert picture.width > 1000


def test_runs_of_different_gans(runs, capsys):
    table = compared(capsys, "a", "w", "b")
    assert table["gan"] == ["gan", "wgan_gp", "gan"] and table["n_critic"] == ["-", "5", "-"]
    assert table["last penalty"][::2] == ["-", "-"] and float(table["last penalty"][1]) > 0
    page = Path("c.html").read_text("utf-8")
    assert page.count("<path class=\"curve c2") >= 1 and "n_critic" in page and "<th" in page


PROTOCOL = {"data": "ring", "draws": 3, "draws_are": "each with new noise", "features": "pixels", "seed": 0}


def test_figures_of_evaluations_stand_beside_their_floors(runs, capsys):
    figure = {"metric": "fid", "figure": "fid", "better": "lower", "value": 3.25, "deviation": 0.5,
              "floor": 1.5, "floor_deviation": 0.25, "n": 100, "reference": 900}
    for folder, n in (("a", 100), ("b", 200)):
        Path(folder, "evaluation.json").write_text(json.dumps({**PROTOCOL, "figures": [{**figure, "n": n}]}))
    table = compared(capsys, "a", "b", "w")
    assert table["fid (n=100)"] == ["3.25 ± 0.5 (floor 1.5)", "-", "-"]
    assert table["fid (n=200)"] == ["-", "3.25 ± 0.5 (floor 1.5)", "-"]


def test_figures_of_a_class_name_it_and_their_count_beside_the_floor(runs, capsys):
    figure = {"metric": "kid", "figure": "kid_se", "better": "lower", "value": 3.25, "deviation": 0.5,
              "floor": 1.5, "floor_deviation": 0.25, "n": 100, "reference": 900, "class": "7", "reason": None}
    lacking = {"value": None, "deviation": None, "floor": None, "n": 0, "reason": "kid: too few"}
    for folder, own in (("a", {"n": 12}), ("b", lacking)):
        Path(folder, "evaluation.json").write_text(json.dumps({**PROTOCOL, "figures": [{**figure, **own}]}))
    table = compared(capsys, "a", "b")
    assert table["kid kid_se, class 7"] == ["3.25 ± 0.5 (floor 1.5, n=12)", "- (floor -, n=0)"]


def test_runs_of_one_name_are_told_apart_by_their_paths(runs, capsys):
    shutil.copytree("a", "other/a")
    assert compared(capsys, "a", "other/a")[""] == ["a", "other/a"]


def test_a_run_that_has_no_step_yet(runs, capsys):
    shutil.copytree("a", "fresh")
    Path("fresh/metrics.jsonl").unlink()
    table = compared(capsys, "a", "fresh")
    assert table["step"] == ["4", "0"] and table["last loss_d"][1] == "-"
    Path("a/metrics.jsonl").unlink()
    assert compared(capsys, "a", "fresh")["step"] == ["0", "0"]


def test_bad_input_is_one_line(runs, capsys):
    assert "two run folders or more" in refused(capsys, "a")
    assert "nowhere: is no run folder" in refused(capsys, "a", "nowhere")
    assert "is named twice" in refused(capsys, "a", "b", "./a")
    assert "ends in .png or .html" in refused(capsys, "a", "b", "--out", "c.svg")
    assert "there is no folder" in refused(capsys, "a", "b", "--out", "no/c.png")
    Path("b/evaluation.json").write_text('{"figures": 3}')
    assert "b/evaluation.json: expected" in refused(capsys, "a", "b")
    Path("b/config.json").write_text("{")
    assert "b/config.json: is no JSON" in refused(capsys, "a", "b")
