"""What a run shows: the log that is cut where a run goes on, grids, clouds of points, the plot of the
losses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from scratchgan import report

# The log


def test_metrics_append_and_cut_at_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = report.Metrics(path, 0)
    for step in (1, 2, 3, 4):
        metrics.append(step, step / 2, {"loss": 1.5 * step})
    metrics.close()
    with open(path, "ab") as file:
        file.write(b'{"step": 5, "sec')  # a killed process stopped here
    metrics = report.Metrics(path, 3)
    assert metrics.seconds == 1.5
    metrics.append(4, 2.5, {"loss": 0.25})
    metrics.sync()
    metrics.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "seconds": 0.5, "loss": 1.5},
        {"step": 2, "seconds": 1.0, "loss": 3.0},
        {"step": 3, "seconds": 1.5, "loss": 4.5},
        {"step": 4, "seconds": 2.5, "loss": 0.25},
    ]


@pytest.mark.parametrize(
    "tail", [b"", b"\n", b"nonsense\n", b"[1]\n", b'{"step": 2}\n', b'{"step": 2, "seconds": 1}', b"\xff\n"]
)
def test_a_broken_end_of_the_log_is_left_out(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "seconds": 0.5}\n' + tail)
    assert report.read_metrics(path) == [{"step": 1, "seconds": 0.5}]


# Pictures


def test_a_grid_shows_every_image_in_its_place():
    images = np.full((5, 1, 28, 28), -1.0, np.float32)
    images[3] = 1.0
    images[4] = 0.0
    picture = report.image_grid(images)
    assert picture.shape == (2 * 58 + 2, 3 * 58 + 2, 1) and picture.dtype == np.uint8
    centres = picture[2 + 28 :: 58, 2 + 28 :: 58, 0]
    assert centres.tolist() == [[0, 0, 0], [255, 128, 0]]


def test_values_outside_the_range_are_clipped_and_colours_kept(tmp_path):
    images = np.stack([np.full((64, 64), 7.0), np.full((64, 64), -7.0), np.zeros((64, 64))])[None].astype(
        np.float32
    )
    report.save_samples(tmp_path / "a.png", images)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB" and picture.getpixel((30, 30)) == (255, 0, 128)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 2, 8, 8), (4, 3), (4,)])
def test_what_is_no_picture_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="expected"):
        report.save_samples(tmp_path / "a.png", np.zeros(shape, np.float32))
    assert not list(tmp_path.iterdir())


def test_points_are_drawn_beside_real_ones(tmp_path):
    points = np.random.default_rng(0).standard_normal((50, 2))
    report.save_points(tmp_path / "one.png", points, None)
    report.save_points(tmp_path / "two.png", points, points)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.width == 2 * one.width


def test_long_histories_are_plotted_as_means():
    values = list(range(2 * report.PLOT_POINTS + 1))
    thinned = report.thinned(values)
    assert len(thinned) <= report.PLOT_POINTS and thinned[0] == 1.0 and thinned[1] == 4.0


def test_losses_are_plotted_and_nothing_for_no_rows(tmp_path):
    report.save_losses(tmp_path / "none.png", [])
    assert not list(tmp_path.iterdir())
    report.save_losses(
        tmp_path / "losses.png",
        [
            {"step": 1, "seconds": 0.1, "loss_d": 1.0, "d_real": 0.5},
            {"step": 2, "seconds": 0.2, "loss_d": 0.5},
        ],
    )
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size == (800, 700)
