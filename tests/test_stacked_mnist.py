"""Stacked-MNIST: what its images are made of, and the metric that counts their modes."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scratchgan.data import load
from scratchgan.data.stacked_mnist import COUNT
from scratchgan.errors import UserError
from scratchgan.metrics import Setting, get
from scratchgan.metrics.stacked_mnist import StackedModes, triples
from tests.data_files import assert_sound


@pytest.fixture(scope="module")
def stacked():
    return load("stacked_mnist")


class Stub:
    """A classifier that reads the digit that every pixel of an image holds."""
    classes = 10

    def labels(self, images):
        assert images.shape[1] == 1
        return images[:, 0, 0, 0].astype(int)


def pictures(modes):
    """(N, 3, 2, 2) whose channels hold the decimals of `modes`."""
    modes = np.asarray(modes)
    decimals = np.stack([modes // 100, modes // 10 % 10, modes % 10], axis=1)
    return decimals[:, :, None, None] * np.ones((2, 2))


# The data

def test_channels_are_digits_and_the_label_is_their_number(stacked):
    digits = load("mnist5k")
    known = {image.tobytes(): label for image, label in zip(digits.get(range(5000)), digits.labels)}
    chosen = [0, 1, 777, COUNT - 1]
    for image, label in zip(stacked.get(chosen), stacked.labels[chosen]):
        seen = [known[channel[None].tobytes()] for channel in image]
        assert seen == [label // 100, label // 10 % 10, label % 10]


def test_it_is_sound_and_every_mode_is_about_as_frequent(stacked):
    assert len(stacked) == COUNT and stacked.spec.shape == (3, 28, 28) and stacked.spec.classes == 1000
    assert_sound(stacked.subset(range(500)))
    counts = np.bincount(stacked.labels, minlength=1000)
    assert abs(((counts - 128) ** 2 / 128).sum() - 999) < 6 * np.sqrt(2 * 999)      # chi-squared


def test_it_depends_on_the_seed_and_is_put_together_when_asked_for(stacked):
    again, other = load("stacked_mnist"), load("stacked_mnist", seed=1)
    assert np.array_equal(again.labels, stacked.labels) and not np.array_equal(other.labels, stacked.labels)
    assert np.array_equal(again.get([5, 5, 9]), stacked.get([5, 5, 9]))
    assert np.array_equal(stacked.get([9])[0], stacked.get([5, 9])[1])


def test_size_is_that_of_its_digits():
    assert load("stacked_mnist", size=32).get([3]).shape == (1, 3, 32, 32)


def test_it_is_listed():
    shown = subprocess.run([sys.executable, "-m", "scratchgan.cli", "list"], check=True, capture_output=True,
                           text=True).stdout
    assert ["stacked_mnist", "128000", "3x28x28"] in [line.split()[:3] for line in shown.splitlines()]


# The metric

def test_triples_read_red_as_hundreds():
    assert triples(pictures([0, 7, 120, 999]), Stub()).tolist() == [0, 7, 120, 999]


def test_modes_and_kl_of_hand_made_samples():
    metric = StackedModes(Stub())
    metric.update(pictures([1, 1, 1, 500]), "fake")
    figures = metric.compute()
    assert figures["stacked_modes"] == 2
    assert figures["stacked_kl"] == pytest.approx(0.75 * np.log(750) + 0.25 * np.log(250), rel=1e-12)


def test_all_modes_alike_have_no_kl_and_one_mode_has_log_1000():
    metric = StackedModes(Stub())
    metric.update(pictures(np.arange(1000)), "fake")
    assert metric.compute() == {"stacked_modes": 1000, "stacked_kl": 0}
    metric.reset()
    metric.update(pictures([42] * 10), "fake")
    assert metric.compute() == {"stacked_modes": 1, "stacked_kl": pytest.approx(np.log(1000))}


def test_streaming_in_any_order_is_one_piece():
    images = pictures(np.random.default_rng(0).integers(1000, size=300))
    one, parts = StackedModes(Stub()), StackedModes(Stub())
    one.update(images, "fake")
    for part in np.array_split(np.random.default_rng(1).permutation(images), 7):
        parts.update(part, "fake")
    assert one.compute() == parts.compute()


def test_the_shipped_classifier_finds_the_modes_of_the_data(stacked):
    digits = get("stacked_modes").create(Setting(stacked, stacked))._digits
    chosen = stacked.subset(range(400))
    assert np.mean(triples(chosen.get(range(400)), digits) == chosen.labels) > 0.94


def test_other_data_and_no_samples_are_refused():
    digits = load("digits")
    with pytest.raises(UserError, match="digits is not stacked_mnist"):
        get("stacked_modes").create(Setting(digits, digits))
    with pytest.raises(UserError, match="0 fake samples were read"):
        StackedModes(Stub()).compute()
    with pytest.raises(ValueError, match="expected .N, 3, H, W."):
        StackedModes(Stub()).update(np.zeros((2, 1, 28, 28)), "fake")
