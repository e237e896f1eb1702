"""Modes of mixtures, histograms, and groups: figures of hand-made samples."""
from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scratchgan.data import Dataset, Modes, Spec, load
from scratchgan.errors import UserError
from scratchgan.metrics import Metric, Setting, get
from scratchgan.metrics.groups import Groups, PerClass, amplification
from scratchgan.metrics.histograms import frequencies, kl_divergence, total_variation
from scratchgan.metrics.mixture import ModeCoverage, nearest_modes

CORNERS = Modes(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]), 0.5)


def around(*counts, offset=(0.0, 0.0)):
    """So many points at each corner, displaced by `offset`."""
    return np.repeat(CORNERS.means, counts, axis=0) + np.array(offset)


def coverage(fake, real=around(5, 5, 5, 5)):
    metric = ModeCoverage(CORNERS)
    metric.update(real, "real")
    metric.update(fake, "fake")
    return metric.compute()


# Histograms

def test_kl_and_total_variation_by_hand():
    assert kl_divergence([1, 1], [1, 1]) == 0
    assert kl_divergence([3, 1], [2, 2]) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert kl_divergence([4, 0], [1, 1]) == pytest.approx(np.log(2))
    assert kl_divergence([1, 1], [4, 0]) == np.inf
    assert total_variation([3, 1], [2, 2]) == 0.25 and total_variation([1, 0], [0, 7]) == 1


def test_kl_is_that_of_scipy():
    q, p = np.random.default_rng(0).integers(1, 99, (2, 30))
    assert kl_divergence(q, p) == pytest.approx(stats.entropy(q, p), rel=1e-12)


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [[1, 2]], [1, np.nan], []])
def test_bad_counts_are_refused(counts):
    with pytest.raises(ValueError, match="expected"):
        frequencies("f", counts)


def test_histograms_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 and 3 bins"):
        kl_divergence([1, 1], [1, 1, 1])


# Mixtures, by PacGAN's protocol

def test_modes_of_hand_made_samples():
    fake = np.concatenate([around(6, 2, 0, 0), around(0, 0, 1, 0, offset=(1.4, 0.0)),     # 2.8 sigma
                           around(0, 0, 0, 1, offset=(1.2, 1.2))])                        # 3.4 sigma
    figures = coverage(fake)
    assert figures["modes"] == 3 and figures["high_quality"] == 0.9
    assert figures["reverse_kl"] == pytest.approx(stats.entropy([6, 2, 1, 1], [1, 1, 1, 1]))


def test_reverse_kl_is_of_generated_against_real():
    """The forward direction would be infinite here: generated samples lack two modes."""
    assert coverage(around(1, 1, 0, 0), real=around(3, 1, 2, 2))["reverse_kl"] == pytest.approx(
        0.5 * np.log(0.5 / 0.375) + 0.5 * np.log(0.5 / 0.125))


def test_low_quality_samples_count_in_the_histogram_but_capture_nothing():
    figures = coverage(around(4, 4, 0, 0, offset=(2.0, 0.0)))
    assert figures == {"modes": 0, "high_quality": 0, "reverse_kl": pytest.approx(np.log(2))}


@pytest.mark.parametrize("name, modes", [("ring", 8), ("grid", 25)])
def test_data_captures_its_own_modes(name, modes):
    data = load(name, seed=1)
    metric = get("modes").create(Setting(data, data))
    metric.update(data.get(range(50_000)), "real")
    metric.update(data.get(range(50_000, 50_000 + metric.samples)), "fake")
    figures = metric.compute()
    share = 1 - np.exp(-9 / 2)
    assert metric.samples == 2500 and figures["modes"] == modes
    assert abs(figures["high_quality"] - share) < 4 * np.sqrt(share * (1 - share) / 2500)
    assert figures["reverse_kl"] < 4 * (modes - 1) / (2 * 2500)


def test_modes_stream_in_any_order():
    random = np.random.default_rng(0)
    fake = around(7, 3, 5, 1) + random.normal(0, 0.7, (16, 2))
    metric = ModeCoverage(CORNERS)
    for part in np.array_split(around(5, 5, 5, 5), 3):
        metric.update(part, "real")
    for part in np.array_split(random.permutation(fake), 5):
        metric.update(part, "fake")
    assert metric.compute() == coverage(fake)
    metric.reset("fake")
    metric.update(around(1, 1, 1, 1), "fake")
    assert metric.compute() == {"modes": 4, "high_quality": 1, "reverse_kl": 0}


def test_modes_of_degenerate_input():
    with pytest.raises(ValueError, match="NaN"):
        coverage(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="2 coordinates"):
        nearest_modes(np.zeros((3, 5)), CORNERS)
    with pytest.raises(UserError, match="0 fake samples were read"):
        metric = ModeCoverage(CORNERS)
        metric.update(around(1, 1, 1, 1), "real")
        metric.compute()
    with pytest.raises(UserError, match="none of the 4 real samples is of mode 3"):
        coverage(around(1, 1, 1, 1), real=around(2, 1, 1, 0))
    with pytest.raises(UserError, match="no known modes"):
        roll = load("swissroll")
        get("modes").create(Setting(roll, roll))
    assert coverage(around(1, 0, 0, 0))["modes"] == 1


# Groups

def votes(counts):
    """Probabilities (N, K) with so many rows whose largest is class k."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return 0.5 * np.eye(len(counts))[labels] + 0.5 / len(counts)


def groups(generated, real):
    metric = Groups(len(real))
    metric.update(votes(real), "real")
    metric.update(votes(generated), "fake")
    return metric.compute()


def test_groups_of_hand_made_counts():
    figures = groups([4, 5, 1], [4, 4, 2])
    assert figures["groups_tv"] == pytest.approx(0.1)
    assert figures["groups_kl"] == pytest.approx(stats.entropy([4, 5, 1], [4, 4, 2]))
    assert [figures[f"ratio_{k}"] for k in range(3)] == pytest.approx([1, 1.25, 0.5])
    assert figures["ratio_smallest"] == figures["ratio_min"] == pytest.approx(0.5)
    assert figures["ratio_max"] == pytest.approx(1.25)


def test_the_smallest_class_is_that_of_the_real_samples():
    assert groups([1, 1, 6], [5, 4, 1])["ratio_smallest"] == pytest.approx(7.5)


def test_equal_shares_of_different_counts_are_no_difference():
    figures = groups([20, 10, 10], [2, 1, 1])
    assert figures["groups_tv"] == 0 and figures["groups_kl"] == 0 and figures["ratio_max"] == 1


def test_a_lost_class_has_ratio_0():
    assert groups([5, 5, 0], [4, 4, 2])["ratio_min"] == 0


def test_amplification_refuses_classes_without_real_samples():
    with pytest.raises(ValueError, match="1 of 2 classes have real samples"):
        amplification([1, 1], [2, 0])


def test_groups_stream_in_any_order_and_forget():
    metric, fake = Groups(3), votes([4, 5, 1])
    metric.update(votes([9, 0, 0]), "fake")
    metric.reset()
    for part in np.array_split(np.random.default_rng(0).permutation(fake), 4):
        metric.update(part, "fake")
    metric.update(votes([4, 4, 2]), "real")
    assert metric.compute() == groups([4, 5, 1], [4, 4, 2])


def test_groups_of_degenerate_input():
    with pytest.raises(UserError, match="none of the 4 real samples is of class 2"):
        groups([1, 1, 1], [2, 2, 0])
    with pytest.raises(UserError, match="0 fake samples were read"):
        Groups(3).compute()
    with pytest.raises(ValueError, match="3 classes"):
        Groups(3).update(np.ones((2, 4)), "real")
    with pytest.raises(ValueError, match="NaN"):
        Groups(3).update(np.full((2, 3), np.nan), "real")
    with pytest.raises(UserError, match="greyscale"):
        ring = load("ring")
        get("groups").create(Setting(ring, ring))


def test_figures_of_groups_are_those_announced():
    assert groups([1] * 10, [1] * 10).keys() == Groups.figures.keys()


# Any metric, class by class

class Mean(Metric):
    """The mean of the generated samples less that of the real ones."""
    name, reads, figures = "mean", "samples", {"mean": "0"}

    def __init__(self):
        self.seen = {"real": [], "fake": []}

    def update(self, batch, source, labels=None):
        self.seen[source].extend(batch)

    def compute(self):
        if not self.seen["fake"]:
            raise UserError("mean: got no samples")
        return {"mean": float(np.mean(self.seen["fake"]) - np.mean(self.seen["real"]))}

    def reset(self, source="fake"):
        self.seen[source].clear()


def test_per_class_is_the_metric_of_each_class():
    metric = PerClass(Mean, 2)
    metric.update(np.array([0.0, 10.0, 2.0]), "real", np.array([0, 1, 0]))
    metric.update(np.array([13.0, 4.0]), "fake", np.array([1, 0]))
    assert metric.compute() == {"mean_0": 3, "mean_1": 3}
    assert metric.figures == {"mean_0": "0", "mean_1": "0"} and metric.name == "mean per class"
    metric.reset()
    metric.update(np.array([1.0]), "fake", np.array([0]))
    with pytest.raises(UserError, match="class 1: mean: got no samples"):
        metric.compute()


@pytest.mark.parametrize("labels, message", [(None, "3 integers"), (np.array([0, 1]), "3 integers"),
                                             (np.array([0.0, 1, 1]), "3 integers"),
                                             (np.array([0, 2, 1]), "label 2, expected 0 to 1")])
def test_per_class_wants_a_label_of_each_sample(labels, message):
    with pytest.raises(ValueError, match=message):
        PerClass(Mean, 2).update(np.zeros(3), "real", labels)


def test_per_class_finds_the_mode_that_one_class_lost():
    """Modes captured, for the points on the left and on the right of the plane."""
    metric = PerClass(lambda: ModeCoverage(CORNERS), 2)
    real, fake = around(5, 5, 5, 5), around(4, 4, 4, 0)
    for points, source in ((real, "real"), (fake, "fake")):
        metric.update(points, source, (points[:, 0] > 5).astype(int))
    figures = metric.compute()
    assert (figures["modes_0"], figures["modes_1"]) == (2, 1)


def test_create_takes_the_data_s_modes():
    data = Dataset("toy", Spec((2,), -np.inf, np.inf), np.zeros((4, 2), np.float32), modes=CORNERS)
    assert get("modes").create(Setting(data, data)).modes is CORNERS
