"""LAPGAN: Denton, Chintala, Szlam and Fergus 2015, "Deep generative image models using a Laplacian pyramid of
adversarial networks" (arXiv 1506.05751).

With d(.), which blurs and decimates, and u(.), which smooths and expands, I_0 = I and I_{k+1} = d(I_k), the
Laplacian pyramid of an image is h_0, ..., h_{K-1}, I_K, by the paper's equations (3) and back by (4):

    h_k = I_k - u(I_{k+1}),    I_k = u(I_{k+1}) + h_k

which invert each other whatever d and u are. Each level has a G_k and a D_k of its own, conditioned on the
low-pass image l_k = u(I_{k+1}); the last one has none. They play the game of (2), each level by itself:

    min_G max_D E_{h, l ~ p_data(h, l)}[log D(h, l)] + E_{z ~ p_z, l ~ p_l(l)}[log(1 - D(G(z, l), l))]

Samples are drawn from coarse to fine, with noise at every level, by (5):

    I~_k = u(I~_{k+1}) + G_k(z_k, u(I~_{k+1})),    I~_K = G_K(z_K)

D_k adds l to h or h~ before its first convolution (section 2.3). The joint density of the pyramid is the
product of those of h_k given l_k, so the log-ratio of data and samples, which `logits` estimates, is the sum
over levels of what the D_k say.

Networks (section 3.1 and the authors' code): G_K and D_K are fully connected, with two hidden layers of 1200
and of 600 units, and z_K has 100 dimensions; other G_k have three convolutions that keep the size, z_k is one
more plane beside l; other D_k have two convolutions of 5x5, the second of stride 2, and one linear layer;
ReLU in both, dropout in D. In the class-conditional version the class goes through a linear layer to become
one more plane, in G_k and in D_k, and is joined to the inputs of G_K and D_K. z is uniform in [-1, 1]. G
descends -E[log D(G(z, l), l)], as in the authors' code.

Departures. The paper trains each level in a run of its own, for as long as it needs. Here one step updates
all of them, coarse ones several times (`updates`): they are cheap, and what a sample shows is decided there.
Both players learn from the same z and l in turn. Adam in SGD's place, without momentum (beta1 = 0): with
0.5, digits drawn from I~_K have three quarters of the deviation of those drawn from I_K, in features of a
classifier; with 0, nine tenths. D_K has leaky rectifiers, G batch normalisation, and D no dropout by
default: with it, no D tells more than chance within minutes. The authors' D_k never see the last row and
column of an even edge, which 5x5 with stride 2 leaves over, and G_k draws lines there; one pixel of padding
mends that (`d_padding`). Most pixels of digits are at the bounds of the data to the bit, as l + h~ cannot be
that is a sum of convolutions, and fog remains around strokes; so G_K ends in tanh, and the other G_k give
clip(l + g) - l for an output g of their layers (`g_bounded`). In photographs h is a seventh of l and
lost in the sum of both, so that D_0 tells no more than chance and what G_0 adds is worse than nothing;
there D_k sees the two apart (`d_joined`), which on digits is worse: D_0's loss falls to 0.1 to 0.7, G's
gradient is a hundred times as large, and strokes break up (620 steps, seed 0: FID 89 for 53). G_K has no
batch normalisation in photographs (`coarse_g_norm`), with which it stays three times as far from real I_K,
or jumps by a factor of six within fifty steps. Images are in [-1, 1], not standardised. d and u, which the
paper leaves open, are a triangle filter and bilinear interpolation; the authors' code scales bilinearly, too.
Samples come from an exponential moving average of the G_k, which takes no part in the game; it is short,
since it moves once a step, in which G_K learns twelve times.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from scratchgan import functional as F
from scratchgan import nn, optim
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, Sampler, check_limits, class_count, drawn, logits, real, real_labelled, scalars
from scratchgan.nets import mlp
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "the pyramid": r"h_k = I_k - u(I_{k + 1}), \quad I_k = u(I_{k + 1}) + h_k",
    "at each level": r"\min_G \max_D \mathbb{E}_{h, l \sim p_{\text{data}}(h, l)}[\log D(h, l)]"
                     r" + \mathbb{E}_{z \sim p_z, l \sim p_l(l)}[\log(1 - D(G(z, l), l))]",
    "G descends": r"-\mathbb{E}_{z, l}[\log D(G(z, l), l)]",
    "samples": r"\tilde{I}_k = u(\tilde{I}_{k + 1}) + G_k(z_k, u(\tilde{I}_{k + 1})), \quad"
               r" \tilde{I}_K = G_K(z_K)",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters."""
    data: str = "mnist5k"
    size: int | None = None                 # edge of I_0 in pixels; None: the data's own
    edges: tuple[int, ...] = (14, 7)        # of I_1, ..., I_K
    class_conditional: bool = False         # G_k and D_k are told the class
    steps: int = 600                        # iterations
    updates: tuple[int, ...] = (1, 4, 12)   # of G_k and D_k in a step; k beyond have the last
    batch_size: int = 32
    lr: float = 1e-3                        # Adam, for all players
    betas: tuple[float, float] = (0.0, 0.999)
    latent: int = 100                       # size of z_K ~ U(-1, 1)
    coarse_g_widths: tuple[int, ...] = (256, 512)   # hidden layers of G_K
    coarse_d_widths: tuple[int, ...] = (512, 256)   # hidden layers of D_K
    g_width: int = 24                       # channels of the hidden layers of the other G_k
    g_kernels: tuple[int, ...] = (5, 3, 3)  # edges of their convolutions' kernels, odd
    g_bounded: bool = True                  # l + h~ is cut off at the bounds of the data
    d_width: int = 24                       # channels of both convolutions of the other D_k
    g_norm: bool = True                     # batch normalisation in the other G_k
    coarse_g_norm: bool = True              # and in G_K
    d_joined: bool = False                  # the other D_k see h beside l; else their sum, as in the paper
    d_padding: int = 1                      # of the second convolution of those D_k (the authors: 0)
    d_dropout: float = 0.0                  # before the last layer of D_k, after each hidden one of D_K
    ema_decay: float = 0.99                 # of the generator that samples are drawn from
    sample_every: int = 200

    def __post_init__(self) -> None:
        whole, share = (1, math.inf), (0, 1)
        check_limits(self, edges=(2, math.inf), updates=whole, latent=whole, coarse_g_widths=whole,
                     coarse_d_widths=whole, g_width=whole, g_kernels=whole, d_width=whole, d_padding=(0, 5),
                     d_dropout=share, betas=share, ema_decay=share)
        if not all(k % 2 for k in self.g_kernels):
            raise UserError(f"g_kernels={self.g_kernels}: expected odd numbers, so that convolutions keep "
                            "the size")
        if (self.g_norm or self.coarse_g_norm) and self.batch_size == 1:
            raise UserError("batch_size=1: batch normalisation in G needs at least 2; or set g_norm=false and "
                            "coarse_g_norm=false")


# The pyramid

def down(image: Tensor, edge: int) -> Tensor:
    """d(I): (N, C, H, H) to (N, C, edge, edge), each pixel a mean under a triangle twice as wide as it."""
    return F.interpolate(image, size=edge, mode="bilinear", antialias=True)


def up(image: Tensor, edge: int) -> Tensor:
    """u(I): (N, C, H, H) to (N, C, edge, edge) by bilinear interpolation."""
    return F.interpolate(image, size=edge, mode="bilinear")


def gaussian(image: Tensor, edges: Sequence[int]) -> list[Tensor]:
    """[I_0, ..., I_K] of I_0. `edges` are those of I_1 to I_K."""
    images = [image]
    for edge in edges:
        images.append(down(images[-1], edge))
    return images


def band(images: Sequence[Tensor], k: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the players of level k learn, and what it is conditioned on: h_k and (l_k,) by equation (3), I_K
    and () at the last level."""
    if k == len(images) - 1:
        return images[k], ()
    low = up(images[k + 1], images[k].shape[-1])
    return images[k] - low, (low,)


def laplacian(image: Tensor, edges: Sequence[int]) -> list[Tensor]:
    """[h_0, ..., h_{K-1}, I_K] of I_0."""
    images = gaussian(image, edges)
    return [band(images, k)[0] for k in range(len(images))]


def collapse(bands: Sequence[Tensor]) -> Tensor:
    """I_0 of [h_0, ..., h_{K-1}, I_K]: equation (4) from the last level on."""
    *bands, image = bands
    for h in reversed(bands):
        image = up(image, h.shape[-1]) + h
    return image


# The networks

LEAST_EDGE = 9          # that convolutions of 5x5 and of 5x5 with stride 2 leave one pixel of


class ClassPlane(nn.Module):
    """One-hot labels (N, classes) -> a map (N, 1, edge, edge) through a linear layer and ReLU."""

    def __init__(self, classes: int, edge: int):
        super().__init__()
        self.edge, self.linear = edge, nn.Linear(classes, edge * edge)

    def forward(self, c: Tensor) -> Tensor:
        return F.relu(self.linear(c)).reshape(-1, 1, self.edge, self.edge)


class FineGenerator(nn.Module):
    """G_k, k < K: z (N, edge^2), l (N, C, edge, edge) and one-hot labels c, if `classes`, -> h~ like l.

    One convolution with `width` channels for each of `kernels` but the last, which leads to the image.
    `bounds`, where given, cut off what leaves them in l + h~.
    """

    def __init__(self, colours: int, edge: int, width: int, kernels: Sequence[int], classes: int, norm: bool,
                 bounds: tuple[float, float] | None):
        super().__init__()
        self.edge, self.latent, self.bounds = edge, edge * edge, bounds
        if classes:
            self.plane = ClassPlane(classes, edge)
        channels = [colours + 1 + bool(classes), *[width] * (len(kernels) - 1)]
        layers: list[nn.Module] = []
        for (above, below), kernel in zip(pairwise(channels), kernels):
            layers += [nn.Conv2d(above, below, kernel, padding=kernel // 2, bias=not norm),
                       *([nn.BatchNorm2d(below)] if norm else []), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(channels[-1], colours, kernels[-1], padding=kernels[-1] // 2))

    def forward(self, z: Tensor, low: Tensor, *c: Tensor) -> Tensor:
        planes = [z.reshape(-1, 1, self.edge, self.edge), *(self.plane(one) for one in c)]
        h = self.layers(F.cat([low, *planes], dim=1))
        return h if self.bounds is None else F.clamp(low + h, *self.bounds) - low


class FineDiscriminator(nn.Module):
    """D_k, k < K: h or h~ and l (N, C, edge, edge), and one-hot labels c, if `classes`, -> logits (N,). It sees h + l,
    or if `joined` the channels of both."""

    def __init__(self, colours: int, edge: int, width: int, padding: int, classes: int, dropout: float,
                 joined: bool):
        super().__init__()
        self.joined = joined
        if classes:
            self.plane = ClassPlane(classes, edge)
        seen = 2 * colours if joined else colours
        last = (edge + 2 * padding - LEAST_EDGE) // 2 + 1
        self.layers = nn.Sequential(
            nn.Conv2d(seen + bool(classes), width, 5), nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=padding), nn.ReLU(), nn.Flatten(),
            *([nn.Dropout(dropout)] if dropout else []), nn.Linear(width * last * last, 1))

    def forward(self, h: Tensor, low: Tensor, *c: Tensor) -> Tensor:
        images = [h, low] if self.joined else [h + low]
        return self.layers(F.cat([*images, *(self.plane(one) for one in c)], dim=1)).reshape(-1)


class CoarseGenerator(nn.Module):
    """G_K: z (N, latent) and one-hot labels c, if `classes`, -> I~_K (N, C, edge, edge)."""

    def __init__(self, latent: int, shape: tuple[int, ...], widths: Sequence[int], classes: int, norm: bool):
        super().__init__()
        self.latent = latent
        self.body = mlp.Generator(latent + classes, shape, widths, bounded=True, norm=norm)

    def forward(self, z: Tensor, *c: Tensor) -> Tensor:
        return self.body(F.cat([z, *c], dim=1))


class CoarseDiscriminator(nn.Module):
    """D_K: I_K or I~_K (N, C, edge, edge) and one-hot labels c, if `classes`, -> logits (N,)."""

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int], classes: int, dropout: float):
        super().__init__()
        self.body = mlp.Discriminator((math.prod(shape) + classes,), widths, dropout=dropout)

    def forward(self, image: Tensor, *c: Tensor) -> Tensor:
        return self.body(F.cat([image.reshape(len(image), -1), *c], dim=1))


class Generator(nn.Module):
    """The cascade G_0, ..., G_K: z (N, sum of all z_k), and one-hot labels, -> I~_0, equation (5)."""

    def __init__(self, levels: Sequence[nn.Module]):
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.latent = sum(G.latent for G in self.levels)

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        """z_0, ..., z_K."""
        return F.split(z, [G.latent for G in self.levels], dim=1)

    def forward(self, z: Tensor, *c: Tensor) -> Tensor:
        *fine, coarsest = zip(self.levels, self.split(z))
        image = coarsest[0](coarsest[1], *c)
        for G_k, z_k in reversed(fine):
            low = up(image, G_k.edge)
            image = low + G_k(z_k, low, *c)
        return image


class Discriminator(nn.Module):
    """D_0, ..., D_K. As a function of an image and one-hot labels: the sum of their logits on its pyramid,
    (N,)."""

    def __init__(self, levels: Sequence[nn.Module], edges: Sequence[int]):
        super().__init__()
        self.levels, self.edges = nn.ModuleList(levels), tuple(edges)

    def forward(self, image: Tensor, *c: Tensor) -> Tensor:
        images = gaussian(image, self.edges)
        bands = [band(images, k) for k in range(len(images))]
        return sum(D_k(h, *low, *c) for D_k, (h, low) in zip(self.levels, bands))


def uniform(stream: np.random.Generator, n: int, size: int) -> np.ndarray:
    """n draws of U(-1, 1)^size."""
    return stream.uniform(-1, 1, (n, size))


class Level(NamedTuple):
    """What one update of a level takes: its players, h_k or I_K of the examples, z_k, and what is given to
    both players."""
    G: nn.Module
    D: nn.Module
    h: Tensor
    z: Tensor
    given: tuple[Tensor, ...]


class LAPGAN(Sampler):
    """The players of every level, their optimisers, and their training. `streams` become the default ones,
    from which layers draw."""
    config_class = Config
    presets: ClassVar = {
        "digits": {"size": 16, "edges": (8,)},
        "photographs": {"size": 32, "edges": (16, 8), "coarse_g_norm": False, "d_joined": True},
    }

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        check_edges(spec, config)
        self.config, self.streams, self.bounds = config, use_streams(streams), (spec.low, spec.high)
        self.classes = class_count(spec, "lapgan") if config.class_conditional else 0
        self.conditioned_on = "labels" if config.class_conditional else None
        self.generator = make_generator(spec, config, self.classes).to(device)
        self.discriminator = make_discriminator(spec, config, self.classes).to(device)
        self.optimizer_g, self.optimizer_d = (
            optim.Adam([{"params": level.parameters()} for level in player.levels], config.lr, config.betas)
            for player in (self.generator, self.discriminator))
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """n draws of z_0, ..., z_K ~ U(-1, 1), all of a sample in a row."""
        return uniform(stream, n, self.generator.latent)

    def step(self, batches: Iterator) -> dict[str, float]:
        """`updates` of each level's D_k and G_k. The levels share no weights, and no gradient goes from one
        to another: descending the sum of their losses trains each by itself. In the last round all take part;
        the scalars are those of it."""
        for trained in self.rounds():
            report = self.update(trained, *self.examples(batches))
        self.ema.update()
        return report

    def rounds(self) -> list[list[int]]:
        """The levels that are trained in each round: those whose updates are not yet done if all end
        together."""
        counts = [self.updates(k) for k in range(len(self.generator.levels))]
        return [[k for k, count in enumerate(counts) if count >= left] for left in range(max(counts), 0, -1)]

    def updates(self, k: int) -> int:
        """Of G_k and D_k in a step."""
        return self.config.updates[min(k, len(self.config.updates) - 1)]

    def update(self, trained: list[int], x: Tensor, c: tuple[Tensor, ...]) -> dict[str, float]:
        """One update of the D_k of the levels `trained`, then one of their G_k, on the same samples."""
        images, levels = gaussian(x, self.config.edges), []
        for k in trained:
            G_k, D_k, (h, low) = self.generator.levels[k], self.discriminator.levels[k], band(images, k)
            levels.append(Level(G_k, D_k, h, self.noise_of(G_k, len(x)), (*low, *c)))
        G, D = ([p for level in levels for p in level[side].parameters()] for side in (0, 1))
        fakes = [level.G(level.z, *level.given) for level in levels]

        real_logits = [level.D(level.h, *level.given) for level in levels]
        fake_logits = [level.D(h.detach(), *level.given) for level, h in zip(levels, fakes)]
        losses_d = [-value(*logits) for logits in zip(real_logits, fake_logits)]
        loss_d = sum(losses_d)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=D)
        self.optimizer_d.step()

        loss_g = sum(non_saturating_loss(level.D(h, *level.given)) for level, h in zip(levels, fakes))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=G)
        self.optimizer_g.step()
        by_level = {f"loss_d_{level.h.shape[-1]}": loss for level, loss in zip(levels, losses_d)}
        probabilities = [F.sigmoid(F.cat(logits)).mean() for logits in (real_logits, fake_logits)]
        return scalars(loss_d=loss_d, loss_g=loss_g, d_real=probabilities[0], d_fake=probabilities[1],
                       **by_level)

    def examples(self, batches: Iterator) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next batch: images, and one-hot labels where players are told them."""
        if not self.config.class_conditional:
            return real(batches, self.discriminator), ()
        x, c = real_labelled(batches, self.classes, self.discriminator)
        return x, (c,)

    def noise_of(self, G_k: nn.Module, n: int) -> Tensor:
        """n draws of z_k for training, from the stream "noise"."""
        return drawn(lambda: uniform(self.streams["noise"], n, G_k.latent), G_k)

    def generate(self, z: np.ndarray, given: np.ndarray | None = None, averaged: bool = True) -> np.ndarray:
        """As in Sampler, with I~_0 cut off at the bounds of the data, which the sum of the levels may
        leave."""
        return super().generate(z, given, averaged).clip(*self.bounds)

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.discriminator, self.optimizer_d),
                "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """The sum over levels of the D_k's logits (N,) of host samples (N, *shape), in evaluation mode."""
        return logits(self.discriminator, x, *self.conditions(given, len(x), self.discriminator))

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema}


def check_edges(spec: Spec, config: Config) -> None:
    """UserError unless the data are square images, and every edge is smaller than that before it and leaves
    D_k an output."""
    if len(spec.shape) != 3 or spec.shape[1] != spec.shape[2]:
        raise UserError(f"lapgan: data of shape {tuple(spec.shape)}, expected square images (C, H, W)")
    edges, least = (spec.shape[1], *config.edges), LEAST_EDGE - 2 * config.d_padding
    if any(below >= above for above, below in pairwise(edges)) or edges[-2] < least:
        raise UserError(f"edges={config.edges} of images of {edges[0]} pixels: expected ever smaller "
                        f"numbers, all but the last at least {least}")


def make_generator(spec: Spec, config: Config, classes: int) -> Generator:
    """G_0, ..., G_K for images of `spec`."""
    colours, edge, _ = spec.shape
    *fine, coarsest = edge, *config.edges
    bounds = (spec.low, spec.high) if config.g_bounded else None
    levels = [FineGenerator(colours, edge, config.g_width, config.g_kernels, classes, config.g_norm, bounds)
              for edge in fine]
    return Generator([*levels, CoarseGenerator(config.latent, (colours, coarsest, coarsest),
                                               config.coarse_g_widths, classes, config.coarse_g_norm)])


def make_discriminator(spec: Spec, config: Config, classes: int) -> Discriminator:
    """D_0, ..., D_K for images of `spec`."""
    colours, edge, _ = spec.shape
    *fine, coarsest = edge, *config.edges
    levels = [FineDiscriminator(colours, edge, config.d_width, config.d_padding, classes, config.d_dropout,
                                 config.d_joined)
              for edge in fine]
    return Discriminator([*levels, CoarseDiscriminator((colours, coarsest, coarsest), config.coarse_d_widths,
                                                       classes, config.d_dropout)], config.edges)
