"""The photographs of scikit-image as patches, and splits that keep the patches of a scene together."""
from __future__ import annotations

import importlib.util
import socket

import numpy as np
import pytest

from scratchgan.data import Batches, Dataset, Spec, load
from scratchgan.data.photographs import SCENES, photograph
from scratchgan.errors import UserError

EXTENTS = [(512, 512), (300, 451), (400, 600), (500, 741), (500, 741), (427, 640)]


@pytest.mark.parametrize("size", [None, 32, 8, 96, 300])
def test_patches_have_their_size_and_number(size):
    dataset = load("photographs", size)
    edge = size or 32
    step = max(edge // 2, 8)
    count = sum(((h - edge) // step + 1) * ((w - edge) // step + 1) for h, w in EXTENTS)
    assert dataset.spec == Spec((3, edge, edge), -1.0, 1.0) and len(dataset) == count
    assert dataset.get([0, count - 1]).shape == (2, 3, edge, edge)


def test_patches_are_windows_of_the_photographs():
    """Every patch of the cat is found where its photograph says, on a grid that leaves equal margins."""
    skimage_data = pytest.importorskip("skimage.data")
    picture = skimage_data.chelsea().astype(np.float64) / 127.5 - 1
    dataset = load("photographs")
    cat = np.flatnonzero(dataset.groups == list(SCENES).index("chelsea"))
    top, left = (300 - 32) % 16 // 2, (451 - 32) % 16 // 2
    corners = [(y, x) for y in range(top, 300 - 31, 16) for x in range(left, 451 - 31, 16)]
    assert len(cat) == len(corners)
    for index, (y, x) in zip(cat, corners):
        window = picture[y:y + 32, x:x + 32].transpose(2, 0, 1)
        np.testing.assert_allclose(dataset.get([index])[0], window, rtol=0, atol=1e-6)


def test_nothing_is_fetched(monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(load("photographs").get(range(3))) == 3


@pytest.mark.parametrize("size", [301, 1024])
def test_patches_larger_than_a_photograph_are_refused(size):
    with pytest.raises(UserError, match=f"size={size}, expected at most the 300 pixels"):
        load("photographs", size)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="scikit-image is not installed: pip install"):
        load("photographs")


def test_a_missing_file_is_one_line():
    with pytest.raises(UserError, match="nobody.png: not a readable photograph"):
        photograph("nobody.png")


# Groups

@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("held_out", [0.01, 0.1, 0.5, 0.99])
def test_a_split_holds_out_whole_scenes(held_out, seed):
    dataset = load("photographs")
    train, held = dataset.split(held_out, seed)
    assert not set(train.groups) & set(held.groups) and len(train) + len(held) == len(dataset)
    for side in (train, held):
        assert len(side) > 0 and side.group_names == tuple(SCENES)
        for group in np.unique(side.groups):
            assert (side.groups == group).sum() == (dataset.groups == group).sum()
    first = train.get([0])[0]
    assert any(np.array_equal(first, dataset.get([i])[0]) for i in np.flatnonzero(dataset.groups == train.groups[0]))


def test_which_scenes_are_held_out_follows_from_the_seed():
    dataset = load("photographs")
    chosen = [tuple(np.unique(dataset.split(0.1, seed)[1].groups)) for seed in range(20)]
    assert chosen == [tuple(np.unique(dataset.split(0.1, seed)[1].groups)) for seed in range(20)]
    assert {scene for scenes in chosen for scene in scenes} == set(range(len(SCENES)))


def grouped(groups, **more) -> Dataset:
    groups = np.asarray(groups)
    return Dataset("points", Spec((1,), -np.inf, np.inf), np.arange(len(groups), dtype=np.float32)[:, None],
                   groups=groups, **more)


def test_as_many_groups_as_come_nearest():
    """Ten groups of ten: a share of 0.26 is three of them, 0.24 two, 0.001 one, 0.999 nine."""
    dataset = grouped(np.repeat(np.arange(10), 10))
    for share, expected in ((0.26, 3), (0.24, 2), (0.001, 1), (0.999, 9)):
        assert len(np.unique(dataset.split(share)[1].groups)) == expected


def test_batches_know_nothing_of_groups():
    x, y = next(Batches(grouped([0, 0, 1, 1]), 4))
    assert sorted(x[:, 0]) == [0, 1, 2, 3] and y is None


def test_one_group_cannot_be_split():
    with pytest.raises(UserError, match="points: all 3 samples are of one group"):
        grouped([4, 4, 4]).split(0.5)


@pytest.mark.parametrize("groups, more, message", [
    ([0.0, 1.0], {}, "groups have dtype float64, expected integers"),
    ([0, -1], {}, r"groups have shape \(2,\) and span \[-1, 0\]"),
    ([0, 2], {"group_names": ("a", "b")}, "expected a number for each of 2 samples, below 2"),
    ([[0], [1]], {}, r"groups have shape \(2, 1\)")])
def test_groups_are_numbers_of_groups(groups, more, message):
    with pytest.raises(UserError, match=message):
        grouped(groups, **more)
