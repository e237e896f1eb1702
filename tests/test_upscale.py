"""`scratchgan upscale`: pictures of every size and kind, tiles without seams, mistakes in one line."""
from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import upscaling
from scratchgan import gans
from scratchgan.cli import main
from scratchgan.data.images import to_unit
from scratchgan.data.photographs import SCENES, photograph
from scratchgan.gans.srgan import enlarged
from scratchgan.run import Plan, start
from scratchgan.train import train
from scratchgan.upscale import Picture, enlarge, read, upscale

SETTINGS = {"steps": 3, "pretrain_steps": 2, "blocks": 1, "g_width": 6, "d_width": 2, "d_dense": 4, "batch_size": 4,
            "size": 16}


def trained(folder: Path, gan: str = "srgan", **settings):
    plan = Plan(gan=gan, seed=0, device="cpu", epochs=None, checkpoint_every=0, log_every=0,
                config=gans.configure(gan, **settings))
    run = start(plan, folder)
    train(run)
    return run


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "colour", **SETTINGS)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "grey", data="mnist5k", **SETTINGS)


def smooth(height: int, width: int, channels: int, top: int = 255) -> np.ndarray:
    """(H, W, channels) that changes slowly, whole numbers of 0..top."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / (5 + c) + c) * np.cos(y / (7 + c)) for c in range(channels)]
    return np.rint((np.stack(planes, -1) + 1) / 2 * top).astype(np.uint8 if top < 256 else np.uint16)


def image(mode: str, height: int = 13, width: int = 18) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(smooth(height, width, 1, 65535)[..., 0])
    channels = {"1": 1, "L": 1, "LA": 2, "P": 3, "PA": 4, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    array = smooth(height, width, channels)
    base = Image.fromarray(array[..., 0] if channels == 1 else array, mode={"CMYK": "CMYK"}.get(mode))
    return base.quantize(16) if mode in ("P", "PA") else base.convert(mode)


KINDS = [("1", "png", "L"), ("L", "png", "L"), ("LA", "png", "LA"), ("P", "png", "RGB"), ("PA", "png", "RGBA"),
         ("RGB", "png", "RGB"), ("RGBA", "png", "RGBA"), ("I;16", "png", "I;16"), ("L", "jpg", "L"),
         ("RGB", "jpg", "RGB"), ("CMYK", "jpg", "RGB")]


@pytest.mark.parametrize("run", ["colour", "grey"])
@pytest.mark.parametrize("mode, suffix, expected", KINDS)
def test_every_kind_of_picture(mode, suffix, expected, run, request, tmp_path):
    """It comes out in its kind, 4 times as large, and of the brightness that it had, alpha too."""
    run, source, out = request.getfixturevalue(run), tmp_path / f"in.{suffix}", tmp_path / "up.png"
    image(mode).save(source, **({"quality": 95} if suffix == "jpg" else {}))
    assert main(["upscale", str(run.folder), str(source), "--out", str(out)]) == 0
    with Image.open(out) as up, Image.open(source) as original:
        assert up.size == (72, 52) and up.mode.replace("I", "I;16", up.mode == "I") == expected
        wanted = original if expected.startswith("I") else original.convert(expected)
        small = np.asarray(up, float).reshape(13, 4, 18, 4, -1).mean(axis=(1, 3))
        top = 65535 if expected.startswith("I") else 255
        difference = abs(small - np.asarray(wanted, float).reshape(13, 18, -1)) / top
    assert difference.mean() < (0.2 if mode == "1" else 0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 70), (64, 64), (65, 3), (130, 67)])
def test_every_size(colour, size, tmp_path):
    source, out = tmp_path / "in.png", tmp_path / "up.png"
    image("RGB", *size).save(source)
    assert upscale(colour.folder, source, out) == ((size[1], size[0]), (4 * size[1], 4 * size[0]))
    with Image.open(out) as up:
        assert up.size == (4 * size[1], 4 * size[0])


@pytest.mark.parametrize("tile", [1, 5, 16, 33])
def test_tiles_meet_without_a_seam(colour, tile):
    """Any tiles give what the whole picture gives, to the rounding of a byte."""
    pixels = smooth(33, 41, 4).transpose(2, 0, 1)
    picture = Picture(pixels[:3], pixels[3:], 255, None)
    whole, tiled = enlarge(colour.gan, picture, tile=64), enlarge(colour.gan, picture, tile=tile)
    for a, b in ((whole.colours, tiled.colours), (whole.alpha, tiled.alpha)):
        difference = abs(a.astype(int) - b)
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    direct = colour.gan.enlarge(pixels[None, :3].astype(np.float32) / 127.5 - 1)[0]
    assert abs((direct + 1) * 127.5 - whole.colours).max() <= 0.51


def test_alpha_is_enlarged_bicubically(colour):
    pixels = smooth(20, 30, 4).transpose(2, 0, 1)
    found = enlarge(colour.gan, Picture(pixels[:3], pixels[3:], 255, None), tile=8).alpha
    expected = (enlarged(pixels[None, 3:] / 127.5 - 1, 4)[0].clip(-1, 1) + 1) * 127.5
    assert abs(found - expected).max() <= 0.51


def test_memory_does_not_grow_with_the_picture(colour):
    """But for the two pictures themselves."""
    peaks = []
    for edge in (160, 320):
        picture = Picture(smooth(edge, edge, 3).transpose(2, 0, 1), None, 255, None)
        tracemalloc.start()
        enlarge(colour.gan, picture, tile=32)
        peaks.append(tracemalloc.get_traced_memory()[1] - 3 * 16 * edge * edge)
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_grey_goes_in_as_equal_channels(colour):
    plane = smooth(12, 15, 1).transpose(2, 0, 1)
    one = enlarge(colour.gan, Picture(plane, None, 255, None)).colours
    three = enlarge(colour.gan, Picture(plane.repeat(3, 0), None, 255, None)).colours
    assert abs(one[0] - three.mean(axis=0)).max() <= 1


def test_orientation_and_profile_are_kept(colour, tmp_path):
    source, out = tmp_path / "in.jpg", tmp_path / "up.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    image("RGB").save(source, exif=exif, icc_profile=b"a profile")
    assert upscale(colour.folder, source, out)[1] == (52, 72)
    with Image.open(out) as up:
        assert up.info["icc_profile"] == b"a profile" and up.getexif().get(0x0112, 1) == 1


def test_a_transparent_colour_becomes_alpha(colour, tmp_path):
    source, out = tmp_path / "in.png", tmp_path / "up.png"
    array = smooth(8, 8, 3)
    array[:4] = (1, 2, 3)
    Image.fromarray(array).save(source, transparency=(1, 2, 3))
    upscale(colour.folder, source, out)
    with Image.open(out) as up:
        assert up.mode == "RGBA" and up.getpixel((16, 2))[3] < 10 and up.getpixel((16, 30))[3] > 245


def test_jpeg_out(colour, tmp_path):
    source, out = tmp_path / "in.png", tmp_path / "up.jpg"
    image("RGB").save(source)
    upscale(colour.folder, source, out)
    with Image.open(out) as up:
        assert up.format == "JPEG" and up.size == (72, 52)


def refused(capsys, *arguments) -> str:
    """The one line on stderr."""
    assert main(["upscale", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("scratchgan: error: ")
    return lines[0]


def test_mistakes_are_one_line(colour, tmp_path, capsys):
    good, out = tmp_path / "in.png", tmp_path / "up.png"
    image("RGBA").save(good)
    data = good.read_bytes()
    for name, content in (("empty.png", b""), ("text.png", b"no picture"), ("cut.png", data[:len(data) // 2])):
        (tmp_path / name).write_bytes(content)
        assert f"{name}: not a readable image" in refused(capsys, colour.folder, tmp_path / name, "--out", out)
    assert "none.png: not a readable image" in refused(capsys, colour.folder, tmp_path / "none.png", "--out", out)
    assert "expected a file that ends in .png" in refused(capsys, colour.folder, good, "--out", tmp_path / "a.tiff")
    assert "JPEG cannot hold an alpha channel" in refused(capsys, colour.folder, good, "--out", tmp_path / "a.jpg")
    image("I;16").save(good)
    assert "JPEG cannot hold 16 bits" in refused(capsys, colour.folder, good, "--out", tmp_path / "a.jpg")
    assert "is no run folder" in refused(capsys, tmp_path, good, "--out", out)
    assert "no/up.png" in refused(capsys, colour.folder, good, "--out", tmp_path / "no" / "up.png")
    assert not out.exists()


def test_a_header_that_lies(colour, tmp_path, capsys):
    """A million pixels square in a hundred bytes."""
    source = tmp_path / "in.png"
    image("L").save(source)
    data = bytearray(source.read_bytes())
    data[16:24] = (12000).to_bytes(4, "big") * 2
    source.write_bytes(data)
    assert "in.png: " in refused(capsys, colour.folder, source, "--out", tmp_path / "up.png")


def test_runs_of_other_gans(tmp_path, capsys):
    run = trained(tmp_path / "run", "gan", steps=1, data="digits")
    source = tmp_path / "in.png"
    image("L").save(source)
    assert "is a run of gan, which enlarges no pictures" in refused(capsys, run.folder, source)


def test_reading_keeps_values(tmp_path):
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        path = tmp_path / "in.png"
        image(mode).save(path)
        picture = read(path)
        planes = picture.colours if picture.alpha is None else np.concatenate([picture.colours, picture.alpha])
        expected = np.asarray(image(mode)).reshape(13, 18, -1).transpose(2, 0, 1)
        np.testing.assert_array_equal(planes, expected)
        assert picture.top == (65535 if mode == "I;16" else 255)


# The benchmark

def test_the_benchmarks_pairs_and_figures():
    """An image against itself, and against what is lost by shrinking it; scenes that were trained on are none
    of those measured."""
    high = photograph("chelsea.png")
    low, high = upscaling.pair(high, 4)
    assert low.shape == (3, 75, 112) and high.shape == (3, 300, 448)
    same = upscaling.figures(high, high)
    assert same["psnr"] == np.inf and same["ssim"] == pytest.approx(1) and same["textures"] == same["shift"] == 0
    bicubic = upscaling.figures(upscaling.to_bytes(enlarged(to_unit(low)[None], 4)[0]), high)
    assert 25 < bicubic["psnr"] < 35 and 0.6 < bicubic["ssim"] < 0.9 and abs(bicubic["shift"]) < 0.2
    assert bicubic["textures"] > 0.1 and bicubic["random"] > 0


def test_the_benchmark_measures_scenes_that_were_held_out(colour):
    scenes = {scene for scene, _ in upscaling.held_out(colour)}
    trained_on = {colour.train_data.group_names[i] for i in np.unique(colour.train_data.groups)}
    assert scenes and not scenes & trained_on
    assert set(SCENES) == {"motorcycle", *upscaling.DETAILS} == scenes | trained_on
