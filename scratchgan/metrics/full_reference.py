"""How near a picture is to the one that it should be: PSNR and SSIM, on luminance where there is colour.

Ledig et al. 2017 (arXiv 1609.04802, section 3.1) measure super-resolution by both "on the y-channel of
center-cropped, removal of a 4-pixel wide strip from each border", for r = 4; `luminance` and `cropped` are
these. Both figures favour the blurred mean of all pictures that might be there over any one of them.
"""
from __future__ import annotations

import numpy as np

from scratchgan import backend
from scratchgan.metrics.checks import check_images
from scratchgan.metrics.ms_ssim import WINDOW, one_scale

# Rec. ITU-R BT.601: Y = 16 + 65.481 R + 128.553 G + 24.966 B, of R, G, B in [0, 1]; Y in [16, 235].
LUMA = np.array([65.481, 128.553, 24.966])
FOOTROOM = 16.0
PEAK = 255.0


def luminance(x: np.ndarray) -> np.ndarray:
    """Y of YCbCr, in units of 1 / 255 of the range, of pictures (N, 1 or 3, H, W) in [-1, 1]: (N, H, W),
    float64.

    From 16 for black to 235 for white in colour, as Matlab's rgb2ycbcr has it; a single channel is luminance
    already, from 0 to 255.
    """
    x = (check_images("luminance", "x", x).astype(np.float64) + 1) / 2
    if x.shape[1] == 1:
        return PEAK * x[:, 0]
    if x.shape[1] != 3:
        raise ValueError(f"luminance: x has shape {x.shape}, expected 1 or 3 channels")
    return FOOTROOM + np.einsum("nchw,c->nhw", x, LUMA)


def cropped(x: np.ndarray, border: int) -> np.ndarray:
    """Pictures (..., H, W) less a strip of `border` pixels all around. ValueError where nothing remains."""
    if border < 0 or 2 * border >= min(x.shape[-2:]):
        raise ValueError(f"cropped: border is {border} and x has shape {x.shape}: nothing remains")
    return x[..., border:x.shape[-2] - border, border:x.shape[-1] - border]


def psnr(x: np.ndarray, y: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture of x (N, H, W) against that of y, (N,), in decibels:

        PSNR = 10 log10(peak^2 / MSE)

    with the mean squared error over the picture; infinite for equal ones. Raises ValueError for other shapes.
    """
    x, y = _pair("psnr", x, y)
    error = ((x - y) ** 2).mean(axis=(1, 2))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(x: np.ndarray, y: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Structural similarity of each picture of x (N, H, W) with that of y, (N,), at most 1; 1 for equal ones.

        SSIM = mean (2 mu_x mu_y + C1)(2 sigma_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(sigma_x^2 + sigma_y^2 + C2))

    Means, variances and covariance are under a Gaussian window of 11 pixels, standard deviation 1.5, over all
    places where it lies within the picture; C1 = (0.01 peak)^2, C2 = (0.03 peak)^2 (Wang et al. 2004, "Image
    quality assessment: from error visibility to structural similarity", section III).
    Raises ValueError for other shapes and edges below 11 pixels.
    """
    x, y = _pair("ssim", x, y)
    if min(x.shape[1:]) < WINDOW:
        raise ValueError(f"ssim: pictures of shape {x.shape[1:]}, expected edges of at least {WINDOW} pixels")
    values = np.empty(len(x))

    def compare(part: slice) -> None:
        for i in range(part.start, part.stop):
            one = slice(i, i + 1)
            values[one], _ = one_scale(x[one, None], y[one, None], peak)

    backend.parallel(len(x), compare)
    return values


def _pair(function: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 3 or x.shape != y.shape or 0 in x.shape:
        raise ValueError(f"{function}: x has shape {x.shape} and y {y.shape}, expected the same (N, H, W)")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{function}: x or y holds NaN or infinity, expected finite values")
    return x, y
