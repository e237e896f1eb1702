"""A given picture in the latent space of a trained StyleGAN2: `scratchgan project RUN image.png --out p.png`.

Karras et al. 2020 (arXiv 1912.04958), appendix D. Sought are w, one for all layers, and the noise maps n of
the layers, from which the averaged generator makes a picture like the target: Adam descends

    d(g(w + eps, n), target) + alpha sum over n and its pyramid of the squared autocorrelations,

from the mean of f(z) and from normal noise, with a learning rate that rises to 0.1 and falls to 0 by a
cosine. eps ~ N(0, (0.05 sigma_w t^2)^2), t from 1 to 0 in the first three quarters, explores W; sigma_w^2 =
E||f(z) - mu_w||^2. The autocorrelations, with one pixel's shift in either direction, of each map and of its
halves down to 8 x 8, keep the picture from hiding in the noise; after each step the maps are brought back to
mean 0 and variance 1.

Departure: d is the feature distance of `metrics/perceptual.py`, in the place of LPIPS, whose network and
weights are not ours.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from scratchgan import functional as F
from scratchgan import optim, report, storage
from scratchgan.backend import Streams, to_host
from scratchgan.data import Spec
from scratchgan.data.files import reading
from scratchgan.data.images import FORMATS, decode, resized, to_unit
from scratchgan.errors import UserError
from scratchgan.gans.sampling import constant, evaluating
from scratchgan.metrics.perceptual import distance
from scratchgan.nn import Module, Parameter
from scratchgan.nn.module import overwrite
from scratchgan.run import Run, read_plan
from scratchgan.tensor import Tensor

STEPS = 1000
LATENTS = 10_000                        # for the mean and the deviation of w
LR, RISE, FALL = 0.1, 0.05, 0.25        # shares of the steps in which the learning rate rises and falls
NOISE, NOISY = 0.05, 0.75               # of sigma_w, and for which share of the steps
ALPHA = 1e5                             # weight of the autocorrelations
SMALLEST = 8                            # edge of the last map of a pyramid
SEEN = 256                              # edge of the pictures that are compared, at most
SUFFIXES = (".png", ".npz")


class Projection(NamedTuple):
    """w (latent,), the layers' noise maps (edge, edge), the picture (C, H, W) in [-1, 1] that they make, and
    its feature distance from the target."""
    w: np.ndarray
    noise: list[np.ndarray]
    image: np.ndarray
    distance: float


def write(folder: Path, image: Path, out: Path, steps: int = STEPS, seed: int = 0) -> Projection:
    """Project the picture `image` into the run's latent space. A `.png` shows it beside its projection, an
    `.npz` holds w, noise_0 ..., image and target.

    Raises UserError for a run of another GAN or without a checkpoint, a picture that cannot be read, and an
    `out` that cannot be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: expected a file that ends in {' or '.join(SUFFIXES)}")
    if steps < 1 or seed < 0:
        raise UserError(f"--steps {steps} --seed {seed}: expected at least 1 step and a seed of at least 0")
    plan = read_plan(folder)
    if plan.gan != "stylegan2":
        raise UserError(f"{folder}: is a run of {plan.gan}, which has no W to project into; "
                        "expected one of stylegan2")
    run = Run(plan, folder)
    run.restore()
    target = read(image, run.dataset.spec)
    found = project(run.gan, target, steps, seed)
    if out.suffix.lower() == ".png":
        report.save_samples(out, np.stack([target, found.image]), columns=2)
    else:
        storage.write_npz(out, w=found.w, image=found.image, target=target,
                          **{f"noise_{i}": map_ for i, map_ in enumerate(found.noise)})
    return found


def read(path: Path, spec: Spec) -> np.ndarray:
    """The picture in a file as the run's data are: (C, H, W) in [-1, 1], the centre cropped and resized, in
    grey where C = 1."""
    channels, size, _ = spec.shape
    with reading(str(path), "image"), Image.open(path, formats=FORMATS) as file:
        framed = (channels, *file.size, size) == (1, 28, 28, 32)        # MNIST's, which `resized` pads
    pixels = decode(str(path), 28 if framed else size)
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
    return to_unit(resized(pixels[None], size)[0])


def project(gan, target: np.ndarray, steps: int = STEPS, seed: int = 0) -> Projection:
    """The projection of a picture (C, H, W) in [-1, 1] by a StyleGAN2; `seed` draws z, eps and the noise."""
    stream = Streams(seed)["projection"]
    w_mean, sigma = deviation(gan.map(gan.prior(stream, LATENTS)))
    with evaluating(gan.ema.module) as G:
        goal = perceived(constant(target[None], G))
        w = learned(w_mean[None], G)
        noise = [learned(stream.standard_normal((1, 1, edge, edge)), G) for edge in gan.edges()]
    optimizer = optim.Adam([w, *noise], LR)
    for i in tqdm(range(steps), desc="project", unit="step", disable=not sys.stderr.isatty()):
        t = i / steps
        epsilon = constant(exploration(t) * sigma * stream.standard_normal(w.shape), G)
        images = G.synthesis([w + epsilon] * gan.layers, noise)
        loss = distance(perceived(images), goal).sum() + ALPHA * autocorrelation(noise)
        optimizer.param_groups[0]["lr"] = LR * pace(t)
        optimizer.zero_grad()
        loss.backward(inputs=[w, *noise])
        optimizer.step()
        for n in noise:
            overwrite(n, (n._array - n._array.mean()) / n._array.std())
    with evaluating(gan.ema.module) as G:
        image = F.clamp(G.synthesis([w] * gan.layers, noise), -1, 1)
        error = distance(perceived(image), goal).item()
    return Projection(to_host(w._array)[0], [to_host(n._array)[0, 0] for n in noise],
                      to_host(image._array)[0], error)


def learned(array: np.ndarray, network: Module) -> Parameter:
    """A host array as something to optimise, like the network's weights."""
    return Parameter(constant(array, network))


def deviation(w: np.ndarray) -> tuple[np.ndarray, float]:
    """mu_w, and sigma_w = sqrt(E||w - mu_w||^2), of samples (N, latent)."""
    mean = w.mean(axis=0)
    return mean, math.sqrt(((w - mean) ** 2).sum(axis=1).mean())


def pace(t: float) -> float:
    """The share of the learning rate at t in [0, 1): a linear rise and, at the end, half a cosine's fall."""
    fall = min(1.0, (1 - t) / FALL)
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * min(1.0, t / RISE)


def exploration(t: float) -> float:
    """The deviation of eps at t in [0, 1), in units of sigma_w."""
    return NOISE * max(0.0, 1 - t / NOISY) ** 2


def autocorrelation(noise: Sequence[Tensor]) -> Tensor:
    """The sum over maps (1, 1, r, r) and their halves, down to 8 x 8, of the squares of mean(n(x, y) n(x - 1,
    y)) and mean(n(x, y) n(x, y - 1)). Halves are means of four pixels times 2, which keeps the variance."""
    total = Tensor(np.zeros((), noise[0].dtype))
    for n in noise:
        while True:
            total = total + sum((n * shifted(n, axis)).mean() ** 2 for axis in (2, 3))
            if n.shape[2] <= SMALLEST:
                break
            n = F.avg_pool2d(n, 2) * 2
    return total


def shifted(x: Tensor, axis: int) -> Tensor:
    """x one pixel further along an axis, the last one first."""
    last = x.shape[axis] - 1
    return F.cat([F.narrow(x, axis, last, 1), F.narrow(x, axis, 0, last)], dim=axis)


def perceived(images: Tensor) -> Tensor:
    """Images as they are compared: means over squares of pixels above 256 x 256, as in the authors' code."""
    factor = images.shape[2] // SEEN
    return F.avg_pool2d(images, factor) if factor > 1 else images
