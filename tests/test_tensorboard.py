"""TensorBoard event files, read back by TensorBoard itself."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scratchgan import report, tensorboard
from scratchgan.errors import UserError
from scratchgan.tensorboard import EventFile


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def series(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_checksum_is_that_of_the_standard():
    assert tensorboard.crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**40 + 5])
def test_a_number_comes_back(value):
    total = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(tensorboard.varint(value)))
    assert total == value


def test_tensorboard_reads_scalars_and_pictures(tmp_path):
    report.save_image_grid(tmp_path / "a.png", np.zeros((4, 1, 8, 8), np.float32))
    file = EventFile(tmp_path / "tb", 0)
    file.scalars({"step": 1, "seconds": 0.5, "loss_d": 1.25})
    file.scalars({"step": 300, "seconds": 0.5, "loss_d": -2.5, "eval/fid": 1e6})
    file.picture(tmp_path / "a.png", 300)
    file.close()
    events = read(tmp_path / "tb")
    assert sorted(events.Tags()["scalars"]) == ["eval/fid", "loss_d"]
    assert series(events, "loss_d") == [(1, 1.25), (300, -2.5)]
    assert series(events, "eval/fid") == [(300, 1e6)]
    (image,) = events.Images("samples")
    assert image.step == 300
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert picture.size == (image.width, image.height)


def test_a_resumed_run_replaces_what_goes_beyond_its_checkpoint(tmp_path):
    first = EventFile(tmp_path, 0)
    for step in (1, 2, 3, 4):
        first.scalars({"step": step, "loss": float(step)})
    first.sync()
    second = EventFile(tmp_path, 2)
    for step in (3, 4, 5):
        second.scalars({"step": step, "loss": 10.0 * step})
    second.close()
    first.close()
    assert series(read(tmp_path), "loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file.*cannot be made"):
        EventFile(tmp_path / "file" / "tb", 0)
