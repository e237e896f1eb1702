"""What published packages answer where a metric of scratchgan has a counterpart: prdc (the reference
implementation of Naeem et al.) and torchmetrics, on features instead of images."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import torch
from prdc import compute_prdc
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Means and covariances in float64 whatever the features are; the distance rounded to their precision."""
    identity = torch.nn.Identity()
    identity.num_features = real.shape[1]
    metric = FrechetInceptionDistance(feature=identity)
    if real.dtype == np.float64:
        metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return float(metric.compute())


def kid(real: np.ndarray, fake: np.ndarray, subsets: int, size: int) -> float:
    """Mean over random subsets, in the precision of the features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # "will save all extracted features"
        metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=subsets, subset_size=size)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return float(metric.compute()[0])


def inception_score(logits: np.ndarray, splits: int, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) over splits of the rows in the order `shuffled(n, seed)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=torch.nn.Identity(), splits=splits)
    metric.update(torch.from_numpy(logits))
    torch.manual_seed(seed)
    mean, deviation = metric.compute()
    return float(mean), float(deviation)


def shuffled(n: int, seed: int = 0) -> np.ndarray:
    """The order into which the package's inception score brings n rows."""
    torch.manual_seed(seed)
    return torch.randperm(n).numpy()


def prdc(real: np.ndarray, fake: np.ndarray, k: int) -> list[float]:
    """Precision, recall, density, coverage."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(real, fake, nearest_k=k)
    return [float(found[key]) for key in ("precision", "recall", "density", "coverage")]


def ms_ssim(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """The package's own MS-SSIM, mean over images, which at the coarsest scale counts windows that reach
    beyond the image, too; Wang et al. do not."""
    return float(multiscale_structural_similarity_index_measure(
        torch.from_numpy(x), torch.from_numpy(y), data_range=2.0, betas=tuple(weights)))


def ms_ssim_within(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """MS-SSIM of each image from the package's SSIM and contrast, of windows within the image alone."""
    product = np.ones(len(x))
    for scale, weight in enumerate(weights):
        a, b = (torch.nn.functional.avg_pool2d(torch.from_numpy(z), 2**scale) for z in (x, y))
        values = _similarity(a, b) if scale == len(weights) - 1 else _contrast(a, b)
        product *= np.maximum(values.numpy(), 0) ** weight
    return product


def _similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    places = structural_similarity_index_measure(
        a, b, data_range=2.0, reduction="none", return_full_image=True)[1]
    return places[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))


def _contrast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return structural_similarity_index_measure(
        a, b, data_range=2.0, reduction="none", return_contrast_sensitivity=True)[1]
