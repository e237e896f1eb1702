"""Metrics whose answers are known: closed forms, formulas written as loops, published packages, and
floors."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy import linalg, signal, stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from scratchgan import metrics
from scratchgan.data import Dataset, Spec
from scratchgan.errors import UserError
from scratchgan.metrics import Setting
from scratchgan.metrics.collected import canonical
from scratchgan.metrics.density_coverage import density_coverage
from scratchgan.metrics.frechet_distance import FrechetDistance, frechet_distance
from scratchgan.metrics.inception_score import inception_score
from scratchgan.metrics.kernel_distance import kernel_distance, squared_mmd
from scratchgan.metrics.moments import Moments
from scratchgan.metrics.ms_ssim import WEIGHTS, MultiScaleSimilarity, count_scales, ms_ssim
from scratchgan.metrics.nearest import count_balls, nearest_distances
from scratchgan.metrics.precision_recall import precision_recall
from scratchgan.metrics.reservoir import Reservoir
from scratchgan.metrics.sliced_wasserstein import (
    SlicedWasserstein,
    laplacian_pyramid,
    normalise,
    sliced_wasserstein,
    sorted_wasserstein,
)
from tests import published


def normal(*shape, seed=0, scale=1.0, mean=0.0, dtype=np.float32):
    return (mean + scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def spd(dimensions, seed, rank=None):
    """A random covariance of the given rank."""
    factor = normal(dimensions, rank or dimensions, seed=seed, dtype=np.float64)
    return factor @ factor.T


def images(count, seed=0, shape=(1, 28, 28), detail=1.0):
    """Smooth random images in [-1, 1], of different contrast and brightness."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, shape[0], -(-shape[1] // 4), -(-shape[2] // 4)))
    enlarged = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :shape[1], :shape[2]]
    return np.tanh(enlarged + detail * 0.2 * random.standard_normal((count, *shape))).astype(np.float32)


def probabilities(count, classes=10, seed=0, sharp=2.0):
    logits = sharp * normal(count, classes, seed=seed, dtype=np.float64)
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True)


# Nearest neighbours and balls


@pytest.mark.parametrize("n, m, d, k, offset", [(7, 5, 3, 2, 0), (90, 700, 2, 5, 1e3), (60, 1500, 64, 5, 1e4),
                                                (50, 900, 8, 1, 1e5), (1, 1, 1, 1, 0), (40, 33, 5, 33, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_neighbours_are_scikit_learns(n, m, d, k, offset, dtype):
    x, y = normal(n, d, seed=1, mean=offset, dtype=dtype), normal(m, d, seed=2, mean=offset, dtype=dtype)
    distances, indices = nearest_distances(x, y, k)
    expected = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(y.astype(np.float64))
    expected = expected.kneighbors(x.astype(np.float64))[0]
    np.testing.assert_allclose(distances, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(distances, np.take_along_axis(cdist(x, y), indices, axis=1), rtol=1e-14)


def test_neighbours_exclude_the_sample_but_not_its_copies():
    x = np.array([[0.0], [1.0], [1.0], [5.0]])
    distances, indices = nearest_distances(x, x, 2, exclude_self=True)
    assert distances.tolist() == [[1, 1], [0, 1], [0, 1], [4, 4]]
    assert indices[1, 0] == 2 and indices[2, 0] == 1
    assert nearest_distances(x, x, 1)[0].tolist() == [[0], [0], [0], [0]]


def test_neighbours_that_float32_cannot_tell_apart():
    """Distances of 1e-7 beside values of 1, found among 2,000 others: every row needs float64."""
    base = normal(1, 16, dtype=np.float64)
    y = base + 1e-7 * normal(2000, 16, seed=1, dtype=np.float64)
    x = base + 1e-7 * normal(20, 16, seed=2, dtype=np.float64)
    x, y = np.vstack([x, base + 1]), np.vstack([y, base - 1])
    np.testing.assert_allclose(nearest_distances(x, y, 3)[0], np.sort(cdist(x, y), axis=1)[:, :3], rtol=1e-7)


@pytest.mark.parametrize("block", [1, 7, None])
def test_blocks_change_nothing(block):
    x, y, radii = normal(50, 4, seed=1), normal(700, 4, seed=2), np.linspace(0, 3, 700)
    np.testing.assert_array_equal(nearest_distances(x, y, 3, block=block)[0], nearest_distances(x, y, 3)[0])
    np.testing.assert_array_equal(count_balls(x, y, radii, block=block), (cdist(x, y) <= radii).sum(axis=1))


def test_balls_are_closed_and_copies_far_from_the_origin_inside():
    x = normal(300, 16, mean=1e4)
    assert count_balls(x, x, np.zeros(300)).tolist() == [1] * 300
    radii = nearest_distances(x, x, 3, exclude_self=True)[0][:, -1]
    np.testing.assert_array_equal(count_balls(x, x, radii).sum(), 4 * 300)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_neither_overflow_nor_underflow(scale):
    x, y = normal(30, 4, seed=1), normal(900, 4, seed=2)
    expected = nearest_distances(x.astype(np.float64), y.astype(np.float64), 2)[0]
    np.testing.assert_allclose(nearest_distances(x * np.float32(scale), y * np.float32(scale), 2)[0] / scale,
                               expected, rtol=1e-6)


@pytest.mark.parametrize("call, message", [
    (lambda: nearest_distances(normal(3), normal(3, 2), 1), "x has shape"),
    (lambda: nearest_distances(normal(3, 3), normal(3, 2), 1), "x has 3 columns and y has 2"),
    (lambda: nearest_distances(normal(3, 2), normal(3, 2), 4), "k = 4, expected 1 to 3"),
    (lambda: nearest_distances(normal(3, 2), normal(3, 2), 3, exclude_self=True), "expected 1 to 2"),
    (lambda: nearest_distances(normal(3, 2), normal(4, 2), 1, exclude_self=True), "found 3 and 4 rows"),
    (lambda: nearest_distances(normal(3, 2), [[1, np.nan], [0, 0]], 1), "y holds NaN or infinity, first in"),
    (lambda: nearest_distances(normal(3, 2), np.array([["a", "b"]]), 1), "expected real numbers"),
    (lambda: count_balls(normal(3, 2), normal(3, 2), np.ones(2)), r"radii of shape \(2,\), expected 3"),
    (lambda: count_balls(normal(3, 2), normal(3, 2), -np.ones(3)), "at least 0"),
])
def test_neighbours_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Moments and the Frechet distance


def test_moments_are_numpys_whatever_the_batches():
    x = normal(5000, 6, mean=1e3, dtype=np.float64)
    moments = Moments()
    for part in np.split(x, [1, 2, 9, 2100, 4998]):
        moments.update(part)
    assert moments.count == 5000
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("call, message", [
    (lambda m: m.update(np.full((2, 2), np.inf)), "infinity"),
    (lambda m: m.update(normal(2, 3)), "rows have 3 columns, those before them 2"),
    (lambda m: m.covariance, "covariance of 1 rows, expected at least 2"),
])
def test_moments_refuse(call, message):
    moments = Moments()
    moments.update(normal(1, 2))
    with pytest.raises(ValueError, match=message):
        call(moments)


def test_fid_of_gaussians_in_one_dimension():
    """(mu1 - mu2)^2 + (sigma1 - sigma2)^2."""
    found = frechet_distance([1.0], [[4.0]], [3.5], [[0.25]])
    assert found == pytest.approx(2.5**2 + 1.5**2, abs=1e-12)


def test_fid_of_gaussians_that_share_their_axes():
    """|mu1 - mu2|^2 + sum_i (sqrt(a_i) - sqrt(b_i))^2, rotated by any rotation."""
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.standard_normal((20, 20)))[0]
    a, b = random.uniform(0, 5, 20), random.uniform(0, 5, 20)
    mu1, mu2 = random.standard_normal((2, 20))
    found = frechet_distance(mu1, rotation * a @ rotation.T, mu2, rotation * b @ rotation.T)
    assert found == pytest.approx(np.sum((mu1 - mu2)**2) + np.sum((np.sqrt(a) - np.sqrt(b))**2), abs=1e-8)


@pytest.mark.parametrize("dimensions", [1, 5, 64])
def test_fid_is_scipys_square_root(dimensions):
    a, b = spd(dimensions, 1), spd(dimensions, 2)
    mu1, mu2 = normal(2, dimensions, seed=3, dtype=np.float64)
    expected = np.sum((mu1 - mu2)**2) + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(mu1, a, mu2, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_fid_of_equal_gaussians_is_0_singular_or_not(rank):
    sigma = spd(10, 4, rank)
    assert frechet_distance(np.ones(10), sigma, np.ones(10), sigma) < 1e-12 * np.trace(sigma)


def test_fid_of_singular_gaussians():
    """Lines along e1 and along e2 in R^3: no common part, so the traces are all that is left."""
    a, b = np.diag([4.0, 0, 0]), np.diag([0, 9.0, 0])
    assert frechet_distance(np.zeros(3), a, np.zeros(3), b) == pytest.approx(13, abs=1e-12)
    assert frechet_distance(np.zeros(3), np.zeros((3, 3)), np.ones(3), np.zeros((3, 3))) == 3


def test_fid_by_sampling():
    factor = linalg.cholesky(spd(4, 5) + np.eye(4), lower=True)
    x, y = normal(40000, 4, seed=6), normal(40000, 4, seed=7) @ factor.T + 1
    metric = FrechetDistance()
    metric.update(x, "real")
    metric.update(y, "fake")
    expected = frechet_distance(np.zeros(4), np.eye(4), np.ones(4), factor @ factor.T)
    assert metric.compute()["fid"] == pytest.approx(expected, rel=0.02)


def test_fid_is_the_published_packages():
    real, fake = normal(500, 32, seed=1), normal(400, 32, seed=2, scale=1.2, mean=0.1)
    expected = published.fid(real.astype(np.float64), fake.astype(np.float64))
    assert figures("fid", real, fake)["fid"] == pytest.approx(expected, rel=1e-9)


def test_fid_with_fewer_samples_than_dimensions():
    """Both covariances are singular; SciPy's root, with what it leaves imaginary cut off, agrees."""
    real, fake = normal(10, 40, seed=1), normal(12, 40, seed=2)
    a, b = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = linalg.sqrtm(a @ b)
    expected = np.sum((real.mean(0) - fake.mean(0))**2) + np.trace(a + b - 2 * root.real)
    assert figures("fid", real, fake)["fid"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("arguments, message", [
    ((np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)), r"mu1 has shape \(2,\) and sigma1 \(3, 3\)"),
    ((np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)), "mu1 has 2 entries and mu2 has 3"),
    ((np.zeros(2), np.eye(2), [0, np.nan], np.eye(2)), "mu2 or sigma2 holds NaN"),
    ((np.zeros(2), [[1, 0.5], [0, 1]], np.zeros(2), np.eye(2)), "sigma1 is not symmetric"),
    ((np.zeros(2), np.eye(2), np.zeros(2), np.diag([1, -1])), "sigma2 has the eigenvalue -1"),
])
def test_fid_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(*arguments)


# Kernel distance


def test_squared_mmd_is_its_formula():
    x, y = normal(7, 3, seed=1, dtype=np.float64), normal(5, 3, seed=2, mean=0.5, dtype=np.float64)

    def kernel(a, b):
        return (sum(s * t for s, t in zip(a, b)) / 3 + 1) ** 3

    expected = sum(kernel(x[i], x[j]) for i, j in itertools.permutations(range(7), 2)) / (7 * 6)
    expected += sum(kernel(y[i], y[j]) for i, j in itertools.permutations(range(5), 2)) / (5 * 4)
    expected -= 2 * sum(kernel(a, b) for a in x for b in y) / (7 * 5)
    assert squared_mmd(x, y) == pytest.approx(expected, rel=1e-5)


def test_squared_mmd_in_blocks_is_the_published_packages():
    real, fake = normal(700, 16, seed=1), normal(700, 16, seed=2, mean=0.1)
    expected = published.kid(real.astype(np.float64), fake.astype(np.float64), subsets=1, size=700)
    assert squared_mmd(real, fake) == pytest.approx(expected, abs=1e-7)         # where the mean kernel is 1


def test_squared_mmd_far_from_the_origin():
    """The kernel's values are some 1e6, and their differences 100, which is not lost to rounding."""
    x, y = normal(1500, 32, seed=1, mean=10), normal(1200, 32, seed=2, mean=10)
    wide = [(a.astype(np.float64) @ b.T / 32 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    expected = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in wide[:2]) - 2 * wide[2].mean()
    assert squared_mmd(x, y) == pytest.approx(expected, abs=1e-8 * wide[2].mean())


def test_kid_has_mean_0_for_equal_distributions_and_an_honest_standard_error():
    draws = np.array([kernel_distance(normal(200, 5, seed=2 * i), normal(200, 5, seed=2 * i + 1), seed=i)
                      for i in range(300)])
    values, errors = draws.T
    spread = values.std(ddof=1)
    assert abs(values.mean()) < 3 * spread / np.sqrt(len(values))
    assert (values < 0).mean() > 0.3
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.15)


def test_kid_is_unbiased_in_the_size_of_its_subsets():
    x, y = normal(2000, 4, seed=1), normal(2000, 4, seed=2, mean=0.3)
    whole = squared_mmd(x, y)
    for size in (2, 50, 1000):
        value, error = kernel_distance(x, y, size)
        assert abs(value - whole) < 4 * error


def test_kid_with_a_standard_error_over_disjoint_subsets():
    x, y = normal(6, 2, seed=1), normal(6, 2, seed=2)
    x[:] = x[0]
    y[:] = y[0]
    value, error = kernel_distance(x, y, size=3)
    assert value == pytest.approx(squared_mmd(x, y), rel=1e-6) and error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("call, message", [
    (lambda: squared_mmd(normal(1, 2), normal(5, 2)), "1 rows of x and 5 of y, expected at least 2"),
    (lambda: squared_mmd(normal(4, 2), normal(5, 3)), "x has 2 columns and y has 3"),
    (lambda: kernel_distance(normal(3, 2), normal(9, 2)), "expected at least 4 of each"),
    (lambda: kernel_distance(normal(9, 2), normal(9, 2), size=5), "subsets of size 5, expected 2 to 4 for 9"),
    (lambda: kernel_distance(normal(9, 2), np.full((9, 2), np.nan)), "y holds NaN"),
])
def test_kid_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Inception score


def test_inception_score_of_certain_and_of_equal_answers():
    certain = np.eye(10)[np.arange(1000) % 10]
    assert inception_score(certain) == pytest.approx((10, 0), abs=1e-12)
    assert inception_score(np.full((1000, 10), 0.1)) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(certain[np.zeros(1000, int)]) == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_is_its_formula():
    p = probabilities(23, 4)
    scores = []
    for part in (p[0:7], p[7:15], p[15:23]):
        marginal = [sum(row[c] for row in part) / len(part) for c in range(4)]
        kl = [sum(row[c] * np.log(row[c] / marginal[c]) for c in range(4)) for row in part]
        scores.append(np.exp(sum(kl) / len(kl)))
    assert inception_score(p, splits=3) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_inception_score_is_the_published_packages():
    p = probabilities(400)
    mean, deviation = published.inception_score(np.log(p), splits=8)
    found = inception_score(p[published.shuffled(400)], splits=8)
    assert found[0] == pytest.approx(mean, rel=1e-9)
    assert found[1] * np.sqrt(8 / 7) == pytest.approx(deviation, rel=1e-9)


@pytest.mark.parametrize("p, splits, message", [
    (np.full((20, 4), 0.3), 10, "sums from 1.2 to 1.2"),
    (np.array([[1.5, -0.5]] * 20), 10, "from -0.5 to 1.5"),
    (np.full((5, 2), 0.5), 10, "10 splits of 5 rows, expected 1 to 5"),
    (np.full((20, 4), np.nan), 10, "NaN"),
    (np.full(4, 0.25), 1, "shape"),
])
def test_inception_score_refuses(p, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(p, splits)


# Precision, recall, density, coverage


@pytest.mark.parametrize("n, m, k, scale", [(400, 400, 3, 1.0), (300, 500, 5, 0.7), (500, 200, 5, 1.4)])
def test_precision_recall_density_coverage_are_the_published_packages(n, m, k, scale):
    real, fake = normal(n, 8, seed=1), normal(m, 8, seed=2, scale=scale)
    found = precision_recall(real, fake, k) + density_coverage(real, fake, k)
    expected = published.prdc(real.astype(np.float64), fake.astype(np.float64), k)
    assert found == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_are_not_swapped():
    real = normal(1000, 8, seed=1)
    precision, recall = precision_recall(real, normal(1000, 8, seed=2, scale=0.3))
    assert precision > 0.99 and recall < 0.1
    precision, recall = precision_recall(real, normal(1000, 8, seed=3, scale=3.0))
    assert precision < 0.2 and recall > 0.95


def test_density_and_coverage_are_not_swapped():
    """A shrunken generator sits where real samples are densest, and misses most of them."""
    density, coverage = density_coverage(normal(1000, 8, seed=1), normal(1000, 8, seed=2, scale=0.3))
    assert density > 2 and coverage < 0.4


def test_precision_and_recall_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[0.5], [3.5], [30.0], [31.0]])
    # With k = 1 the radii are 1, 1, 1, 8 and 3, 3, 1, 1.
    assert precision_recall(real, fake, k=1) == (0.5, 0.75)
    # 0.5 lies in two balls and 3.5 in that of 10; coverage: 0.5 is in those of 0 and 1, 3.5 in that of 10.
    assert density_coverage(real, fake, k=1) == (3 / 4, 3 / 4)


def test_floors_of_precision_recall_density_coverage():
    """Naeem et al., section 3.4: expected density is 1, expected coverage 1 -
    (N-1)...(N-k)/((2N-1)...(2N-k))."""
    pairs = [(normal(500, 4, seed=2 * i), normal(500, 4, seed=2 * i + 1)) for i in range(20)]
    found = np.array([density_coverage(*pair) for pair in pairs])
    coverage = 1 - np.prod([(500 - i) / (1000 - i) for i in range(1, 6)])
    error = found.std(axis=0, ddof=1) / np.sqrt(20)
    assert (abs(found.mean(axis=0) - (1, coverage)) < 3.5 * error).all() and (error < 0.01).all()


def test_collapsed_generators():
    real = normal(200, 8, seed=1)
    one = np.repeat(real[:1], 200, axis=0)
    assert precision_recall(real, one) == (1, 1 / 200)
    assert precision_recall(one, one) == (1, 1)
    density, coverage = density_coverage(one, one)
    assert (density, coverage) == (200 / 5, 1)
    assert precision_recall(one, one + 1) == density_coverage(one, one + 1) == (0, 0)


@pytest.mark.parametrize("function", [precision_recall, density_coverage])
def test_manifolds_refuse(function):
    for real, fake, message in ((normal(9, 2), normal(9, 3), "x has 2 columns and y has 3"),
                                (normal(2, 2), normal(9, 2), "expected 1 to 1"),
                                (np.full((9, 2), np.inf), normal(9, 2), "real holds NaN or infinity"),
                                (normal(9, 2), normal(9), "fake has shape")):
        with pytest.raises(ValueError, match=message):
            function(real, fake)


# Sliced Wasserstein distance


@pytest.mark.parametrize("n, m", [(50, 50), (7, 5), (1, 9), (12, 18)])
def test_wasserstein_distance_is_scipys(n, m):
    a, b = normal(3, n, seed=1, dtype=np.float64), normal(3, m, seed=2, mean=0.5, dtype=np.float64)
    expected = [stats.wasserstein_distance(*pair) for pair in zip(a, b)]
    np.testing.assert_allclose(sorted_wasserstein(np.sort(a), np.sort(b)), expected, rtol=1e-12)


@pytest.mark.parametrize("n, m", [(40, 40), (70, 45), (1, 9)])
def test_on_a_line_sliced_wasserstein_is_scipys(n, m):
    """All unit vectors are 1 or -1 there."""
    x, y = normal(n, 1, seed=1, dtype=np.float64), normal(m, 1, seed=2, mean=0.5, dtype=np.float64)
    expected = stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, projections=5) == pytest.approx(expected, rel=1e-12)


def test_sliced_wasserstein_of_a_shift():
    """A shift by v moves every projection by u.v, and E |u.v| = |v| Gamma(D/2) / (sqrt(pi)
    Gamma((D+1)/2))."""
    x, v = normal(400, 3, dtype=np.float64), np.array([2.0, -1.0, 2.0])
    assert sliced_wasserstein(x, x + v, projections=20000) == pytest.approx(3 / 2, rel=0.02)
    assert sliced_wasserstein(x, x[::-1]) == pytest.approx(0, abs=1e-15)     # BLAS may round a row by its place


def test_the_pyramid_is_scipys_convolution_and_adds_up():
    x = images(2, shape=(3, 57, 64)).astype(np.float64)
    filter2d = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    levels = laplacian_pyramid(x)
    assert [level.shape[2:] for level in levels] == [(57, 64), (29, 32), (15, 16)]

    def smooth(image):
        padded = np.pad(image, 2, mode="reflect")
        return signal.convolve2d(padded, filter2d, mode="valid")

    smaller = smooth(x[1, 2])[::2, ::2]
    spread = np.zeros((57, 64))
    spread[::2, ::2] = smaller
    np.testing.assert_allclose(levels[0][1, 2], x[1, 2] - 4 * smooth(spread), atol=1e-6)


@pytest.mark.parametrize("shape, edges", [
    ((1, 28, 28), [28, 14]), ((3, 32, 32), [32, 16]), ((1, 64, 64), [64, 32, 16]),
    ((1, 8, 8), [8]), ((1, 7, 20), [7]), ((1, 27, 27), [27]),
])
def test_levels_of_the_pyramid(shape, edges):
    assert [min(level.shape[2:]) for level in laplacian_pyramid(images(2, shape=shape))] == edges


def test_a_constant_image_has_no_details():
    for level in laplacian_pyramid(np.full((1, 1, 31, 64), 0.3, np.float32))[:-1]:
        assert abs(level).max() < 1e-6


def test_patches_are_normalised_by_channel():
    patches = normal(500, 3, 7, 7, mean=3) * np.array([1, 10, 0]).reshape(1, 3, 1, 1).astype(np.float32)
    rows = normalise(patches).reshape(500, 3, 49)
    np.testing.assert_allclose(rows.mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=(0, 2)), [1, 1, 0], atol=1e-5)


def test_swd_sees_lost_detail_at_the_fine_level_only():
    real, levels = images(200, seed=1), {}
    for detail in (1.0, 0.2):
        metric = SlicedWasserstein()
        metric.update(real, "real")
        metric.update(images(200, seed=2, detail=detail), "fake")
        levels[detail] = metric.by_level()
        assert metric.compute()["swd"] == pytest.approx(np.mean(list(levels[detail].values())))
    assert list(levels[1.0]) == [28, 14]
    assert levels[0.2][28] > 1.5 * levels[1.0][28] and levels[0.2][14] < 1.1 * levels[1.0][14]


def test_swd_by_the_papers_program():
    """One level of few places: its patches are all there are, so the whole of it can be written down."""
    real, fake = images(20, seed=1, shape=(2, 10, 11)), images(30, seed=2, shape=(2, 10, 11))

    def descriptors(x):
        patches = np.array([image[:, r:r + 7, c:c + 7] for image in x for r in range(4) for c in range(5)])
        mean, deviation = (f(patches, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
        return ((patches - mean) / deviation).reshape(len(patches), -1)

    expected = 1e3 * sliced_wasserstein(descriptors(real), descriptors(fake))
    assert figures("swd", real, fake)["swd"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("call, message", [
    (lambda: sliced_wasserstein(normal(3, 2), normal(3, 3)), "x has 2 columns and y has 3"),
    (lambda: sliced_wasserstein(normal(3, 2), normal(3, 2), projections=0), "0 projections"),
    (lambda: sliced_wasserstein(np.zeros((0, 2)), normal(3, 2)), "x has shape"),
    (lambda: SlicedWasserstein().update(images(3, shape=(1, 6, 9)), "fake"), "H and W of at least 7"),
])
def test_swd_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_reservoirs_sample_uniformly_and_the_same_in_any_batches():
    def sample(sizes, seed):
        reservoir, rows = Reservoir(10, np.random.default_rng(seed)), np.arange(100)
        for part in np.split(rows, np.cumsum(sizes)[:-1]):
            chosen, keys = reservoir.choose(len(part))
            reservoir.keep(part[chosen], keys)
        assert reservoir.seen == 100
        return reservoir.rows().tolist()

    assert sample([100], 3) == sample([1, 40, 3, 50, 6], 3) == sample([1] * 100, 3)
    counts = np.bincount(np.concatenate([sample([30, 30, 40], seed) for seed in range(1000)]), minlength=100)
    assert counts.sum() == 10_000 and stats.chisquare(counts).pvalue > 1e-3


# MS-SSIM


@pytest.mark.parametrize("shape, scales", [
    ((1, 28, 28), 2), ((3, 33, 47), 2), ((2, 64, 64), 3), ((1, 13, 21), 1), ((1, 176, 180), 5),
])
def test_ms_ssim_is_the_published_packages(shape, scales):
    x, y = images(4, seed=1, shape=shape), images(4, seed=2, shape=shape)
    y[1] = 0.5 * x[1] + 0.5 * y[1]
    y[2] = -x[2]
    y[3] = x[3]
    assert count_scales(shape[1:]) == scales
    weights = WEIGHTS[:scales] / WEIGHTS[:scales].sum()
    expected = published.ms_ssim_within(x.astype(np.float64), y.astype(np.float64), weights)
    found = ms_ssim(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found[3] == pytest.approx(1, abs=1e-12)


def test_small_images_get_a_small_window():
    x, y = images(3, seed=1, shape=(1, 8, 9)), images(3, seed=2, shape=(1, 8, 9))
    offsets = np.arange(-3, 4)
    weights = np.exp(-0.5 * (offsets / (1.5 * 7 / 11))**2)
    window = np.outer(weights, weights) / weights.sum()**2
    values = []
    for r, c in itertools.product(range(2), range(3)):
        a, b = x[0, 0, r:r + 7, c:c + 7].astype(np.float64), y[0, 0, r:r + 7, c:c + 7].astype(np.float64)
        mu, nu = np.sum(window * a), np.sum(window * b)
        variances = np.sum(window * ((a - mu)**2 + (b - nu)**2))
        contrast = (2 * np.sum(window * (a - mu) * (b - nu)) + 3.6e-3) / (variances + 3.6e-3)
        values.append((2 * mu * nu + 4e-4) / (mu**2 + nu**2 + 4e-4) * contrast)
    assert ms_ssim(x, y)[0] == pytest.approx(max(np.mean(values), 0), rel=1e-9)


def test_constant_images_compare_by_their_brightness():
    x, y = np.zeros((1, 1, 16, 16)), np.full((1, 1, 16, 16), 0.5)
    assert ms_ssim(x, x) == pytest.approx(1)
    assert ms_ssim(x, y) == pytest.approx(4e-4 / (0.25 + 4e-4), rel=1e-9)


def test_a_collapsed_generator_stands_out():
    real = images(300, seed=1)
    few = images(3, seed=2)[np.arange(300) % 3]
    found = figures("ms_ssim", real, few)
    assert found["ms_ssim_gap"] > 0.2 and found["ms_ssim"] > 0.3
    assert figures("ms_ssim", real, np.repeat(few[:1], 300, axis=0))["ms_ssim"] == pytest.approx(1)


def test_ms_ssim_keeps_and_pairs_a_bounded_sample():
    metric = MultiScaleSimilarity()
    for seed in range(5):
        metric.update(images(1000, seed=seed, shape=(1, 11, 11)), "fake")
    kept = metric._images["fake"].rows()
    assert len(kept) == 2000 and len(np.unique(kept.reshape(2000, -1), axis=0)) == 2000


@pytest.mark.parametrize("call, message", [
    (lambda: ms_ssim(images(2), images(3)), r"x has shape \(2, 1, 28, 28\) and y \(3, 1, 28, 28\)"),
    (lambda: ms_ssim(images(2, shape=(1, 6, 9)), images(2, shape=(1, 6, 9))), "H and W of at least 7"),
    (lambda: ms_ssim(images(2), images(2), value_range=0), "value_range = 0"),
    (lambda: ms_ssim(images(2) * np.nan, images(2)), "x holds NaN"),
    (lambda: ms_ssim(normal(2, 4), normal(2, 4)), r"expected images \(N, C, H, W\)"),
])
def test_ms_ssim_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# All of them

SAMPLES = {"features": lambda n, seed: normal(n, 6, seed=seed),
           "probabilities": lambda n, seed: probabilities(n, seed=seed),
           "images": lambda n, seed: images(n, seed=seed, shape=(1, 12, 12))}
# All that an image of 12 x 12 has are 36 patches, so even those of swd do not depend on the order.
NAMES = ["fid", "kid", "is", "precision_recall", "density_coverage", "swd", "ms_ssim"]
FREE_OF_ORDER = ["fid", "kid", "precision_recall", "density_coverage", "swd"]


def make(name):
    shape = {"features": (6,), "probabilities": (6,), "images": (1, 12, 12)}[metrics.get(name).reads]
    data = Dataset("made", Spec(shape, -1, 1), np.zeros((4, *shape), np.float32))
    return metrics.get(name).create(Setting(data, data, seed=3))


def figures(name, real, fake):
    metric = metrics.get(name)()
    for batch, source in ((real, "real"), (fake, "fake")):
        if source in metric.sources:
            metric.update(batch, source)
    return metric.compute()


def sides(name, n=150, m=130):
    draw = SAMPLES[metrics.get(name).reads]
    return draw(n, 1), draw(m, 2)


@pytest.mark.parametrize("name", NAMES)
def test_streaming_in_odd_batches_is_the_same(name):
    real, fake = sides(name)
    metric = make(name)
    for real_part, fake_part in zip(np.split(real, [1, 8, 101]), np.split(fake, [60, 61, 99])):
        for part, source in ((fake_part, "fake"), (real_part, "real")):
            if source in metric.sources:
                metric.update(part, source)
    found, whole = metric.compute(), make(name)
    for batch, source in ((real, "real"), (fake, "fake")):
        if source in whole.sources:
            whole.update(batch, source)
    assert found == pytest.approx(whole.compute(), rel=1e-10)
    assert metric.compute() == found and found.keys() == metric.figures.keys()


@pytest.mark.parametrize("name", FREE_OF_ORDER)
def test_the_order_of_samples_changes_nothing(name):
    real, fake = sides(name)
    order = np.random.default_rng(0).permutation
    found = figures(name, order(real), order(fake))
    assert found == pytest.approx(figures(name, real, fake), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_one_side(name):
    real, fake = sides(name)
    metric = make(name)
    metric.update(fake[::-1], "fake")
    if "real" in metric.sources:
        metric.update(real, "real")
    metric.reset()
    metric.update(fake, "fake")
    assert metric.compute() == pytest.approx(same_seed(name, real, fake))


def same_seed(name, real, fake):
    metric = make(name)
    for batch, source in ((real, "real"), (fake, "fake")):
        if source in metric.sources:
            metric.update(batch, source)
    return metric.compute()


@pytest.mark.parametrize("name", NAMES)
def test_too_few_samples_are_the_users_error(name):
    metric = make(name)
    one = sides(name)[1][:1]
    with pytest.raises(UserError, match=f"^{name}: 0 (real|fake) samples were read, expected at least"):
        metric.compute()
    for source in metric.sources:
        metric.update(one, source)
    if name == "swd":
        assert metric.compute()["swd"] == 0         # one image has 36 patches
    else:
        with pytest.raises(UserError, match=f"^{name}: 1 (real|fake) samples were read, expected at least"):
            metric.compute()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_batches_are_refused(name):
    metric = make(name)
    good = sides(name)[1]
    metric.update(good, "fake")
    bad = good.copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity, first in row 7"):
        metric.update(bad, "fake")
    with pytest.raises(ValueError, match="shape"):
        metric.update(good[0], "fake")
    with pytest.raises(ValueError, match="those before|expected 6"):
        metric.update(np.concatenate([good, good], axis=1) / (2 if name == "is" else 1), "fake")
    with pytest.raises(ValueError, match="source 'held_out' found"):
        metric.update(good, "held_out")
    with pytest.raises(ValueError, match="source 'test' found"):
        metric.reset("test")


@pytest.mark.parametrize("name", NAMES)
def test_constant_samples_have_an_answer(name):
    draw = sides(name)[1]
    constant = np.repeat(draw[:1], 40, axis=0)
    found = figures(name, constant, constant)
    expected = {"fid": 0, "kid": 0, "kid_se": 0, "is": 1, "is_std": 0, "precision": 1, "recall": 1,
                "density": 40 / 5, "coverage": 1, "swd": 0, "ms_ssim": 1, "ms_ssim_gap": 0}
    rounding = {"kid": 1e-5, "is": 1e-7}.get(name, 1e-9)        # of float32 in kernel and probabilities
    assert found == pytest.approx({key: expected[key] for key in found}, abs=rounding)


FLOORS = {"fid": (0, 0.5), "kid": (-0.3, 0.3), "precision": (0.6, 1), "recall": (0.6, 1),
          "density": (0.8, 1.2), "coverage": (0.9, 1), "swd": (0, 100), "ms_ssim_gap": (-0.05, 0.05)}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "is"])
def test_real_against_real_is_at_its_floor_and_noise_is_not(name):
    draw = SAMPLES[metrics.get(name).reads]
    real, more = draw(400, 1), draw(400, 2)
    noise = np.random.default_rng(3).uniform(-1, 1, real.shape).astype(np.float32)
    noise *= 1 if name in ("swd", "ms_ssim") else 5
    floor, far = figures(name, real, more), figures(name, real, noise)
    for key in floor.keys() & FLOORS.keys():
        low, high = FLOORS[key]
        assert low <= floor[key] <= high, key
        if key != "recall":                         # noise five times as wide as the data reaches all of it
            assert abs(far[key] - floor[key]) > (high - low) / 4, key


@pytest.mark.parametrize("name", ["swd", "ms_ssim"])
def test_points_have_no_patches(name):
    points = Dataset("ring", Spec((2,), -np.inf, np.inf), np.zeros((4, 2), np.float32))
    with pytest.raises(UserError, match=rf"^{name}: ring has samples of shape \(2,\), expected images"):
        metrics.get(name).create(Setting(points, points))


def test_the_seed_of_the_setting_is_used():
    for name in ("kid", "swd", "ms_ssim"):
        assert make(name).seed == 3


def test_canonical_order_does_not_depend_on_the_one_before():
    x = normal(200, 3).round(1)
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(canonical(x), canonical(x[order]))
    np.testing.assert_array_equal(np.sort(canonical(x)[:, 2]), np.sort(x[:, 2]))
