"""Memorisation: a generator that replays its training set is caught, one that replays new data is not."""
from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from scratchgan.errors import UserError
from scratchgan.metrics import Setting, get
from scratchgan.metrics.birthday import BirthdayParadox, batch_with_duplicate, duplicate_pairs, duplicate_threshold, support_size
from scratchgan.metrics.collected import canonical
from scratchgan.metrics.kmeans import cells, inertia, kmeans
from scratchgan.metrics.memorisation import Memorisation, copy_rate, copy_threshold, equal_parts, nearest_ratio
from scratchgan.metrics.three_sample import ThreeSample, copying_scores, mann_whitney_u, z_score

DIMENSIONS = 8


def normal(count, seed, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


TRAIN, HELD_OUT = normal(2000, 1), normal(400, 2)


def figures(metric, fake, train=TRAIN, held_out=HELD_OUT):
    for rows, source in ((train, "real"), (held_out, "held_out"), (fake, "fake")):
        if source in metric.sources:
            metric.update(rows, source)
    return metric.compute()


def clusters(count, seed, spread=0.3):
    """Points around five well separated centres."""
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(DIMENSIONS)[random.integers(5, size=count)]
    return centres + random.normal(0, spread, centres.shape)


# Distances to training and held-out samples

def test_new_samples_of_the_data_are_no_copies():
    found = figures(Memorisation(), normal(500, 3))
    assert abs(found["nn_ratio"] - 1) < 0.02 and abs(found["nearer_train"] - 0.5) < 0.05
    assert found["copy_rate"] < 0.03


def test_a_replay_of_the_training_set_is_caught():
    found = figures(Memorisation(), TRAIN[::4])
    assert found["copy_rate"] == 1
    assert found["nn_ratio"] < 0.93 and found["nearer_train"] > 0.57    # one part of five holds the original


def test_a_replay_of_held_out_data_is_not():
    found = figures(Memorisation(), HELD_OUT)
    assert found["copy_rate"] == pytest.approx(0.01)
    assert found["nn_ratio"] > 1.9 and found["nearer_train"] < 0.01


def test_with_equal_counts_a_replay_is_at_0():
    found = figures(Memorisation(), TRAIN[:400], train=TRAIN[:400])
    assert found == {"nn_ratio": 0, "nearer_train": 1, "copy_rate": 1}


def test_blurred_copies_are_caught_too():
    found = figures(Memorisation(), TRAIN[:500] + normal(500, 5, scale=0.05))
    assert found["copy_rate"] == 1


def test_a_poor_generator_is_no_copier():
    found = figures(Memorisation(), normal(500, 6, scale=3.0))
    assert found["copy_rate"] < 0.01 and abs(found["nn_ratio"] - 1) < 0.02


def test_copy_rate_by_hand():
    train = np.array([[0.0], [10.0]])
    threshold = copy_threshold(np.array([[1.0], [3.0], [12.0], [5.0]]), train, quantile=1 / 3)
    assert threshold == 2
    assert copy_rate(np.array([[0.5], [2.0], [9.0], [20.0]]), train, threshold) == 0.5


def test_nearest_ratio_by_hand():
    """Distances to training samples are 1 and 2, to held-out ones 3 and 2."""
    ratio, nearer = nearest_ratio(np.array([[1.0], [2.0]]), np.array([[0.0]]), np.array([[4.0]]))
    assert ratio == pytest.approx(2 * 1.5 / (1.5 + 2.5)) and nearer == 0.75


def test_parts_are_disjoint_and_of_equal_size():
    parts = equal_parts(np.arange(11.0)[:, None], 3, seed=0)
    assert [len(p) for p in parts] == [3, 3, 3] and len(np.unique(np.concatenate(parts))) == 9


# Mann-Whitney, k-means and their like, against SciPy and scikit-learn

@pytest.mark.parametrize("levels", [1000000, 6])
def test_u_is_that_of_scipy(levels):
    random = np.random.default_rng(0)
    x, y = random.integers(levels, size=40), random.integers(levels, size=25)
    assert mann_whitney_u(x, y) == stats.mannwhitneyu(x, y).statistic


def test_z_gives_the_p_value_of_scipy():
    x, y = np.random.default_rng(1).random(30), np.random.default_rng(2).random(50)
    expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False, alternative="less").pvalue
    assert stats.norm.cdf(z_score(mann_whitney_u(x, y), 30, 50)) == pytest.approx(expected, rel=1e-12)


def test_u_of_degenerate_input():
    with pytest.raises(ValueError, match="m, n >= 1"):
        mann_whitney_u([], [1.0])
    with pytest.raises(ValueError, match="without NaN"):
        mann_whitney_u([np.nan], [1.0])


@pytest.mark.parametrize("x", [clusters(300, 0), normal(400, 7)], ids=["clusters", "one normal"])
def test_kmeans_is_as_tight_as_scikit_learn(x):
    ours = inertia(x, kmeans(x, 5, seed=3))
    theirs = KMeans(5, n_init=3, random_state=0).fit(x).inertia_
    assert ours <= 1.02 * theirs


def test_kmeans_ends_where_scikit_learn_stays():
    x = normal(300, 8).astype(np.float64)
    centres = kmeans(x, 4)
    fitted = KMeans(4, init=centres, n_init=1, max_iter=50, tol=0).fit(x)
    assert np.allclose(fitted.cluster_centers_, centres, atol=1e-10)
    assert inertia(x, centres) == pytest.approx(fitted.inertia_, rel=1e-10)
    assert np.array_equal(cells(x, centres), fitted.labels_)


def test_kmeans_finds_planted_centres():
    centres = kmeans(clusters(500, 1), 5)
    assert sorted(centres.argmax(axis=1)) == [0, 1, 2, 3, 4]
    assert np.allclose(centres.max(axis=1), 10, atol=0.2)


def test_kmeans_of_degenerate_input():
    assert inertia(np.eye(3), kmeans(np.eye(3), 3)) == 0
    assert np.array_equal(kmeans(np.ones((5, 2)), 3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="expected 1 to 3"):
        kmeans(np.eye(3), 4)


def test_copy_threshold_has_the_distances_of_scikit_learn():
    expected = NearestNeighbors(n_neighbors=1).fit(TRAIN).kneighbors(HELD_OUT)[0]
    assert copy_threshold(HELD_OUT, TRAIN) == pytest.approx(np.quantile(expected, 0.01), rel=1e-6)


# The three-sample test

def test_scores_by_the_definition():
    """Every cell by itself, with SciPy and scikit-learn."""
    train, held_out, fake = clusters(300, 2), clusters(120, 3), clusters(200, 4, spread=0.2)
    centres = kmeans(train, 5)
    scores, weights = copying_scores(fake, held_out, train, centres)
    for cell in range(5):
        q, p, t = (rows[cells(rows, centres) == cell] for rows in (fake, held_out, train))
        near = NearestNeighbors(n_neighbors=1).fit(t)
        u = stats.mannwhitneyu(near.kneighbors(q)[0][:, 0], near.kneighbors(p)[0][:, 0]).statistic
        expected = (u - len(p) * len(q) / 2) / np.sqrt(len(p) * len(q) * (len(p) + len(q) + 1) / 12)
        assert scores[cell] == pytest.approx(expected) and weights[cell] == len(p) / 120


def test_under_the_null_the_score_is_standard_normal():
    found = np.array([figures(ThreeSample(), normal(300, 100 + i), train=normal(600, 300 + i),
                              held_out=normal(200, 500 + i))["c_t_score"] for i in range(100)])
    assert abs(found.mean()) < 4 / np.sqrt(100)
    assert 0.75 < found.std() < 1.3         # a standard deviation of 100 is known to 7 %
    assert stats.kstest(found, "norm").pvalue > 1e-3


def test_copies_score_far_below_and_poor_samples_far_above():
    assert figures(ThreeSample(), TRAIN[:500])["c_t_score"] < -10
    assert figures(ThreeSample(), TRAIN[:500] + normal(500, 5, scale=0.2))["c_t_score"] < -3
    assert figures(ThreeSample(), normal(500, 6, scale=1.5))["c_t_score"] > 10
    assert abs(figures(ThreeSample(), HELD_OUT[:200], held_out=HELD_OUT[200:])["c_t_score"]) < 3.5


def test_copies_in_one_region_are_seen_in_its_cell():
    """Meehan et al., figure 1: over all, copies here and poor samples there may cancel."""
    train, held_out, fake = clusters(1000, 2), clusters(500, 3), clusters(600, 4)
    copied = fake.argmax(axis=1) == 0
    fake[copied] = train[train.argmax(axis=1) == 0][:copied.sum()]
    centres = 10 * np.eye(DIMENSIONS)[:5]
    scores, _ = copying_scores(fake, held_out, train, centres)
    assert scores[0] < -8 and (np.abs(scores[1:]) < 4).all()


def test_cells_with_few_samples_are_left_out():
    train, held_out = clusters(500, 2), clusters(250, 3)
    fake = clusters(300, 4)
    fake = np.concatenate([fake[fake.argmax(axis=1) != 0], fake[fake.argmax(axis=1) == 0][:20]])
    scores, _ = copying_scores(fake, held_out, train, 10 * np.eye(DIMENSIONS)[:5])
    assert len(scores) == 4


def test_a_generator_nowhere_near_enough_samples_is_refused():
    with pytest.raises(UserError, match="at least 21"):
        figures(ThreeSample(), normal(20, 1))
    with pytest.raises(UserError, match="more samples are needed"):
        figures(ThreeSample(), clusters(60, 4), clusters(500, 2), clusters(250, 3))


# The birthday paradox

def uniform(support, count, seed):
    """Samples from `support` equally likely points, far apart."""
    random = np.random.default_rng(seed)
    return normal(support, seed, scale=10)[random.integers(support, size=count)]


@pytest.mark.parametrize("support, count", [(100, 200), (1000, 1000), (10000, 3000)])
def test_support_of_a_discrete_uniform(support, count):
    found = np.array([figures(BirthdayParadox(), uniform(support, count, seed))["support"]
                      for seed in range(8)])
    error = np.sqrt(2 * support) / count        # relative, of one: duplicates are about Poisson
    assert abs(found.mean() / support - 1) < 4 * error / np.sqrt(8)


def test_the_threshold_is_that_of_the_real_data():
    expected = NearestNeighbors(n_neighbors=2).fit(TRAIN).kneighbors(TRAIN)[0][:, 1]
    assert duplicate_threshold(TRAIN) == pytest.approx(np.quantile(expected, 0.01), rel=1e-6)


def test_new_samples_of_a_density_are_as_diverse_as_the_real_ones():
    found = figures(BirthdayParadox(), normal(2000, 9))
    assert found["duplicates"] < 60 and found["support"] > 20_000


def test_duplicates_by_hand():
    samples = np.array([[0.0], [0.5], [1.0], [9.0], [9.0]])
    assert duplicate_pairs(samples, 0.6) == 3 and duplicate_pairs(samples, 0.0) == 1
    assert support_size(3, 5) == 20 / 6 and support_size(0, 5) == 10


def test_the_batch_of_arora():
    """In batches of that size from N equally likely ones, a duplicate occurs every other time."""
    random, size = np.random.default_rng(0), round(batch_with_duplicate(1000))
    found = [len(np.unique(random.integers(1000, size=size))) < size for _ in range(2000)]
    assert abs(np.mean(found) - 0.5) < 0.05


def test_one_picture_over_and_over_has_support_1():
    found = figures(BirthdayParadox(), np.ones((50, DIMENSIONS)))
    assert found["support"] == 1 and found["duplicates"] == 50 * 49 / 2


# All three

METRICS = {"memorisation": Memorisation, "three_sample": ThreeSample, "birthday": BirthdayParadox}


@pytest.mark.parametrize("name", METRICS)
def test_any_order_in_any_pieces_gives_the_same(name):
    fake = normal(300, 4)
    expected = figures(METRICS[name](), fake)
    metric, random = METRICS[name](), np.random.default_rng(0)
    metric.update(normal(10, 5), "fake")
    metric.reset()
    for rows, source in ((fake, "fake"), (HELD_OUT, "held_out"), (TRAIN, "real")):
        for part in np.array_split(random.permutation(rows), 7):
            if source in metric.sources:
                metric.update(part, source)
    assert metric.compute() == pytest.approx(expected, rel=1e-12)
    assert expected.keys() == metric.figures.keys()


@pytest.mark.parametrize("name", METRICS)
def test_degenerate_input_is_one_clear_sentence(name):
    metric = METRICS[name]()
    with pytest.raises(ValueError, match="NaN"):
        metric.update(np.full((3, 2), np.nan), "fake")
    with pytest.raises(ValueError, match="shape"):
        metric.update(np.zeros(3), "fake")
    with pytest.raises(UserError, match="expected at least"):
        metric.compute()
    metric.update(np.zeros((3, 2)), "real")
    with pytest.raises(ValueError, match="3 features a sample, expected 2"):
        metric.update(np.zeros((3, 3)), "fake")
    with pytest.raises(ValueError, match="'other'"):
        metric.update(np.zeros((3, 2)), "other")


@pytest.mark.parametrize("name", ["memorisation", "birthday"])
def test_constant_real_data_are_refused(name):
    with pytest.raises(UserError, match="1 %"):
        ones = np.ones((50, DIMENSIONS))
        figures(METRICS[name](), normal(50, 1), train=ones, held_out=ones)


def test_three_samples_of_constants_tell_nothing():
    ones = np.ones((100, DIMENSIONS))
    assert figures(ThreeSample(), ones, train=ones, held_out=ones) == {"c_t": 0, "c_t_score": 0}


@pytest.mark.parametrize("name", METRICS)
def test_they_are_made_by_name(name):
    metric = get(name).create(Setting(None, None, seed=3))
    assert metric.name == name and metric.reads == "features"


def test_canonical_order():
    assert canonical(np.array([[2, 1], [1, 5], [1, 3]])).tolist() == [[1, 3], [1, 5], [2, 1]]
