"""What the GANs share: limits of settings, real batches, noise, samples, and what a diagnosis may look at.

How a GAN trains is in its own file. Noise is drawn on the host in float64 and rounded to the networks' dtype,
so that one seed means the same noise on every device.

Conditional GANs name what their samples are conditioned on, `Sampler.conditioned_on`: "labels", numbers of
classes, int64 (N,), or "images" (N, C, h, w). `given` stands for either.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from scratchgan import nn, optim
from scratchgan.backend import Streams, to_host
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.recording import no_grad
from scratchgan.tape import fed, reported
from scratchgan.tensor import Tensor


def check_limits(config: Any, **limits: tuple[float, float]) -> None:
    """Raise UserError unless each named setting, or each member of a tuple, lies in its [low, high)."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        members = value if isinstance(value, tuple) else (value,)
        if not members or not all(low <= v < high for v in members):
            below = "" if math.isinf(high) else f" and below {high:g}"
            raise UserError(f"{name}={value}: expected {'numbers' if value is members else 'a number'} "
                            f"of at least {low:g}{below}")


def constant(array: np.ndarray, network: nn.Module) -> Tensor:
    """A host array as a Tensor without gradient, in the dtype and on the device of the network's weights."""
    return drawn(lambda: array, network)


def drawn(draw: Callable[[], np.ndarray], network: nn.Module) -> Tensor:
    """What `draw` draws, as `constant` has it: anew in every step (see `tape.fed`)."""
    return Tensor(fed(draw, next(network.parameters())._array))


def normal_plane(stream: np.random.Generator, n: int, edge: int, network: nn.Module) -> Tensor:
    """n draws of N(0, 1) for each pixel, (n, 1, edge, edge)."""
    return drawn(lambda: stream.standard_normal((n, 1, edge, edge)), network)


def real(batches: Iterator[tuple[np.ndarray, np.ndarray | None]], network: nn.Module) -> Tensor:
    """The samples of the next batch; its labels are left aside."""
    return drawn(lambda: next(batches)[0], network)


def real_labelled(batches: Iterator[tuple[np.ndarray, np.ndarray | None]], classes: int,
                  network: nn.Module) -> tuple[Tensor, Tensor]:
    """(samples, one-hot labels) of the next batch."""
    labels = None

    def samples():
        nonlocal labels
        x, labels = next(batches)
        return x

    x = drawn(samples, network)
    return x, drawn(lambda: one_hot(labels, classes), network)


def class_count(spec: Spec, gan: str) -> int:
    """Classes of the data. UserError, which begins with the GAN's name, where they have no labels."""
    if spec.classes is None:
        raise UserError(f"{gan}: the data have no labels, which a class-conditional GAN learns from")
    return spec.classes


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels (N,) as rows of the unit matrix, bool (N, classes)."""
    return labels[:, None] == np.arange(classes)


def scalars(**values: Tensor | Callable[[], float]) -> dict[str, float]:
    """What `step` reports, as numbers: of Tensors of one number, and of functions of what the host keeps."""
    return reported({name: value._array if isinstance(value, Tensor) else value for name, value in values.items()})


class Player(NamedTuple):
    """One side of the game: a network and what updates it."""
    network: nn.Module
    optimizer: optim.Optimizer


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode and without graphs; afterwards each layer is in the mode that it was
    in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with no_grad():
            yield network
    finally:
        for module in training:
            module.training = True


def logits(network: nn.Module, x: np.ndarray, *conditions: Tensor) -> np.ndarray:
    """What D says of host samples x (N, *shape), (N,), in evaluation mode: neither random streams nor running
    statistics move."""
    with evaluating(network) as D:
        return to_host(D(constant(x, D), *conditions)._array)


# Between two latents

def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """(sin((1 - t) w) a + sin(t w) b) / sin w with w the angle between a and b: (N, L) from (N, L), (N, L), t
    (N,) or a number. The straight line where a and b are parallel or one is 0."""
    t = np.broadcast_to(t, len(a))[:, None]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(axis=1), lengths, out=np.ones(len(a)), where=lengths > 0)
    w = np.arccos(cosine.clip(-1, 1))[:, None]
    bent = np.sin(w) > 1e-9
    sine = np.where(bent, np.sin(w), 1.0)
    return np.where(bent, (np.sin((1 - t) * w) * a + np.sin(t * w) * b) / sine, lerp(a, b, t[:, 0]))


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """(1 - t) a + t b, row by row."""
    t = np.broadcast_to(t, len(a))[:, None]
    return (1 - t) * a + t * b


class Sampler:
    """Drawing z and G(z), for GANs with a `config.latent`, a `generator`, its moving average `ema`, and
    `streams`; G(z, y) where they are conditional, with `classes` (labels) or `shown` (images).

    What a GAN's `generate` has as further keyword arguments, such as `truncation`, `sample` and `interpolate`
    hand on. A GAN that mixes the styles of two latents has `mix(coarse, fine, at=None, averaged=True,
    **how)`: samples with the styles of the latents `coarse` in layers before `at`, of `fine` from there on.
    """
    config: Any
    streams: Streams
    generator: nn.Module
    ema: optim.EMA
    conditioned_on: ClassVar[Literal["labels", "images"] | None] = None
    classes: int
    shown: np.ndarray

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """n draws of z, (n, latent): N(0, I), unless the paper has another. All latent noise of a sample is
        in its row."""
        return stream.standard_normal((n, self.config.latent))

    @property
    def noiseless(self) -> bool:
        """Whether samples follow from what is given alone: z has no entries."""
        return self.prior(np.random.default_rng(0), 1).shape[1] == 0

    def noise(self, n: int) -> Tensor:
        """n draws of z for training, from the stream "noise"."""
        return drawn(lambda: self.prior(self.streams["noise"], n), self.generator)

    @property
    def course(self) -> Hashable:
        """What decides how the coming step goes, besides what it draws: steps of equal courses do the same to
        other numbers, so one CUDA graph serves them all (`graph.py`)."""
        return ()

    def generate(self, z: np.ndarray, given: np.ndarray | None = None, averaged: bool = True) -> np.ndarray:
        """G(z), or G(z, y) of what is `given` for each z: (n, latent) -> (n, *shape), on the host and in the
        range of the data, of the averaged generator, or of the present one, in evaluation mode. The same z
        gives the same sample."""
        with evaluating(self.ema.module if averaged else self.generator) as G:
            return to_host(G(constant(z, G), *self.conditions(given, len(z), G))._array)

    def sample(self, n: int, noise: np.random.Generator | None = None, averaged: bool = True,
               given: np.ndarray | None = None, **how: Any) -> np.ndarray:
        """n samples (n, *shape) by `generate`; `noise` draws z, or else the stream "sample". Where nothing is
        `given`, a conditional GAN takes what `drawn` answers."""
        stream = self.streams["sample"] if noise is None else noise
        z = self.prior(stream, n)
        return self.generate(z, self.drawn(stream, n) if given is None else given, averaged, **how)

    def between(self, a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
        """The latents at t in [0, 1] on the way from a to b, each (n, latent): on the arc that keeps the
        length of normal ones (Shoemake 1985), on the straight line for others."""
        return (slerp if type(self).prior is Sampler.prior else lerp)(a, b, t)

    def interpolate(self, start: np.ndarray, end: np.ndarray, t: np.ndarray, averaged: bool = True,
                    given: np.ndarray | None = None, **how: Any) -> np.ndarray:
        """Samples at t (n,) on the way from latents `start` to `end`; here the way is that of `between`."""
        return self.generate(self.between(start, end, t), given, averaged, **how)

    # Conditions

    def conditions(self, given: np.ndarray | None, n: int, network: nn.Module) -> tuple[Tensor, ...]:
        """What the networks take besides z or x: nothing, one-hot labels, or images. UserError for labels and
        images that are not what this GAN asks for."""
        name = type(self).__name__
        if self.conditioned_on is None:
            if given is not None:
                raise UserError(f"{name}: takes no labels or images, since it is not conditional")
            return ()
        if given is None or len(given) != n:
            raise UserError(f"{name}: expected {self.conditioned_on} for {n} samples, "
                            f"found {'none' if given is None else len(given)}")
        if self.conditioned_on == "images":
            return constant(given, network),
        return constant(one_hot(self.labels(given), self.classes), network),

    def labels(self, given: np.ndarray) -> np.ndarray:
        """`given`, once they are found to be numbers of classes. TypeError for other arrays, UserError for a
        number that is no class."""
        name, given = type(self).__name__, np.asarray(given)
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise TypeError(f"{name}: labels are {given.dtype} {given.shape}, expected integers (N,)")
        wrong = given[(given < 0) | (given >= self.classes)]
        if wrong.size:
            raise UserError(f"{name}: class {wrong[0]}, expected 0 to {self.classes - 1}")
        return given

    def show(self, images: np.ndarray) -> None:
        """For a GAN conditioned on images: the host images of the data that samples are made of where none
        are given."""
        self.shown = images

    def in_turn(self, n: int) -> np.ndarray | None:
        """What a picture of n samples asks for: classes 0, 1, ... again and again, or the images shown; None
        for a GAN that is not conditional."""
        if self.conditioned_on is None:
            return None
        if self.conditioned_on == "labels":
            return np.arange(n) % self.classes
        return self.shown[np.arange(n) % len(self.shown)]

    def drawn(self, stream: np.random.Generator, n: int) -> np.ndarray | None:
        """What n samples are made of where nothing is given: classes drawn alike from `stream`, or the images
        shown in turn."""
        return stream.integers(self.classes, size=n) if self.conditioned_on == "labels" else self.in_turn(n)
