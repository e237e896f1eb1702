"""PSNR, SSIM and luminance against scikit-image, and the distance in features."""
from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.data import chelsea
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from scratchgan.metrics.full_reference import cropped, luminance, psnr, ssim
from scratchgan.metrics.perceptual import feature_distance

CAT = chelsea()[40:131, 100:213]


def noisy(x: np.ndarray, seed: int, by: float = 12.0) -> np.ndarray:
    return (x + by * np.random.default_rng(seed).standard_normal(x.shape)).clip(0, 255)


def unit(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) in 0..255 as (1, 3, H, W) in [-1, 1]."""
    return pixels.transpose(2, 0, 1)[None] / 127.5 - 1


def test_luminance_is_y():
    found = luminance(unit(CAT))
    np.testing.assert_allclose(found[0], rgb2ycbcr(CAT)[..., 0], rtol=0, atol=1e-9)
    ends = luminance(np.stack([np.full((3, 1, 1), -1.0), np.full((3, 1, 1), 1.0)]))
    np.testing.assert_allclose(ends.ravel(), [16, 235], rtol=0, atol=1e-9)
    np.testing.assert_allclose(luminance(np.array([[[[-1.0, 0.0, 1.0]]]]))[0, 0], [0, 127.5, 255])


@pytest.mark.parametrize("peak", [255, 1.0])
def test_psnr_is_scikit_images(peak):
    x = CAT[..., 0] / 255 * peak
    pairs = [noisy(CAT[..., 0], seed) / 255 * peak for seed in range(3)]
    found = psnr(np.stack([x] * 3), np.stack(pairs), peak)
    expected = [peak_signal_noise_ratio(x, y, data_range=peak) for y in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_psnr_by_hand():
    """An error of 1 everywhere is 20 log10(255); of equal pictures it has no end."""
    x = np.zeros((2, 4, 5))
    y = np.stack([np.ones((4, 5)), np.zeros((4, 5))])
    assert psnr(x, y).tolist() == [pytest.approx(20 * np.log10(255)), np.inf]


@pytest.mark.parametrize("peak", [255, 1.0])
@pytest.mark.parametrize("shape", [(91, 113), (11, 11), (12, 40)])
def test_ssim_is_scikit_images(peak, shape):
    """Which means over the places whose window lies within the picture, if it is told to crop."""
    x = CAT[:shape[0], :shape[1], 1] / 255 * peak
    pairs = [noisy(x * 255 / peak, seed, by) / 255 * peak for seed, by in enumerate((3, 12, 40))]
    expected = []
    for y in pairs:
        _, whole = structural_similarity(x, y, data_range=peak, gaussian_weights=True, sigma=1.5,
                                         use_sample_covariance=False, full=True)
        expected.append(cropped(whole, 5).mean())
    np.testing.assert_allclose(ssim(np.stack([x] * 3), np.stack(pairs), peak), expected, rtol=1e-9)


def test_ssim_knows_equal_pictures_and_negatives():
    x = CAT[..., 0].astype(float)[None]
    assert ssim(x, x)[0] == pytest.approx(1, abs=1e-12)
    assert ssim(x, 255 - x)[0] < 0


def test_cropped():
    x = np.arange(30).reshape(1, 5, 6)
    np.testing.assert_array_equal(cropped(x, 2), [[[14, 15]]])
    np.testing.assert_array_equal(cropped(x, 0), x)


@pytest.mark.parametrize("call, message", [
    (lambda: psnr(np.zeros((1, 4, 4)), np.zeros((1, 4, 5))), r"psnr: x has shape \(1, 4, 4\) and y \(1, 4, 5\)"),
    (lambda: psnr(np.zeros((4, 4)), np.zeros((4, 4))), "psnr: .* expected the same"),
    (lambda: psnr(np.full((1, 2, 2), np.nan), np.zeros((1, 2, 2))), "psnr: .* NaN"),
    (lambda: ssim(np.zeros((1, 10, 20)), np.zeros((1, 10, 20))), "at least 11 pixels"),
    (lambda: luminance(np.zeros((1, 2, 4, 4))), "expected 1 or 3 channels"),
    (lambda: cropped(np.zeros((1, 8, 8)), 4), "nothing remains"),
    (lambda: feature_distance(np.zeros((1, 3, 8, 8)), np.zeros((1, 3, 8, 9))), "expected the same"),
    (lambda: feature_distance(np.zeros((1, 3, 3, 8)), np.zeros((1, 3, 3, 8))), "at least 4"),
    (lambda: feature_distance(np.zeros((1, 3, 8, 8)), np.zeros((1, 3, 8, 8)), "vgg"), "'textures' or 'random'")])
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Features

@pytest.mark.parametrize("network", ["textures", "random"])
def test_feature_distance_grows_with_what_is_done(network):
    x = unit(CAT[:64, :64])
    distances = [feature_distance(x, unit(noisy(CAT[:64, :64], 0, by)), network)[0] for by in (0, 5, 20, 60)]
    assert distances[0] == 0 and np.all(np.diff(distances) > 0) and distances[-1] <= 12


def test_feature_distance_by_loops():
    """Of vectors of length 1 it is 2 - 2 cos of the angle between them, place by place."""
    from scratchgan.metrics.perceptual import pretrained
    from scratchgan.nets.textures import maps
    from scratchgan.tensor import Tensor
    x, y = (unit(a)[:, :, :16, :16].astype(np.float32) for a in (CAT, noisy(CAT, 1)))
    blocks, expected = pretrained()[0].blocks, 0.0
    for a, b in zip(maps(blocks, Tensor(x)), maps(blocks, Tensor(y))):
        a, b = a.detach().numpy()[0].astype(float), b.detach().numpy()[0].astype(float)
        places = [(i, j) for i in range(a.shape[1]) for j in range(a.shape[2])]
        for i, j in places:
            u, v = a[:, i, j], b[:, i, j]
            expected += (2 - 2 * u @ v / np.sqrt((u @ u) * (v @ v))) / len(places)
    assert feature_distance(x, y)[0] == pytest.approx(expected, rel=1e-3)


def test_a_grey_picture_is_three_equal_channels():
    grey = unit(CAT[:32, :32])[:, :1]
    other = -grey
    np.testing.assert_allclose(feature_distance(grey, other),
                               feature_distance(grey.repeat(3, 1), other.repeat(3, 1)), rtol=1e-5)
