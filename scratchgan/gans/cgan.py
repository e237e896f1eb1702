"""Conditional GAN: Mirza and Osindero 2014, "Conditional generative adversarial nets" (arXiv 1411.1784).

Generator and discriminator are both told what the sample shows, by y as an additional input. The paper's
equation (2):

    min_G max_D V(D, G) = E_{x ~ p_data}[log D(x|y)] + E_{z ~ p_z}[log(1 - D(G(z|y)))]

y is a class here, one-hot. The paper's networks are MLPs (section 4.1): z and y, like x and y, have a hidden
layer each before they meet in a joint one. G has rectifiers, D maxout units: each is the largest of several
linear functions. Both networks have dropout. `PAPER` holds their sizes.

The convolutional form puts y into the networks of the DCGAN (Radford et al. 2016): G begins with (z, y), and D
reads y as constant feature maps, one a class, beside those of the image.

Departures. z is uniform on [-1, 1]^latent, as the DCGAN's, not on the unit cube: where z has a mean, what a
layer makes of it has one that moves with every update, and the running means of batch normalisation then do
not fit the averaged weights that samples come from (seen: all samples of a class alike for 900 steps). G
descends -E[log D(G(z|y))], and samples are made of the labels of the minibatch; the paper leaves both open. As
in `dcgan`, they serve both updates. The optimiser is Adam instead of SGD with momentum; the output is tanh for
images in [-1, 1] where the paper has a sigmoid. Networks are smaller than the paper's, for small processors,
and convolutional by default; these have batch normalisation instead of dropout, DCGAN's initial weights, and
images of 32x32, for the reason given there. Samples come from an exponential moving average of G's weights,
which takes no part in the game.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scratchgan import functional as F
from scratchgan import nn, optim
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.dcgan import initialise
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, Sampler, check_limits, class_count, logits, real_labelled, scalars
from scratchgan.nets import dcgan
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "the game": r"\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_{\text{data}}}[\log D(x | y)]"
                r" + \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z | y)))]",
    "G descends": r"-\mathbb{E}_{z \sim p_z}[\log D(G(z | y))]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are for images, `POINTS` holds those for the plane."""
    data: str = "mnist5k"
    size: int | None = 32                   # edge of images in pixels; None: the data's own
    form: str = "convolutional"             # of both networks: convolutional or mlp
    steps: int = 3000                       # updates of D and of G
    batch_size: int = 32
    lr: float = 8e-4                        # Adam, for both players
    betas: tuple[float, float] = (0.5, 0.999)
    latent: int = 32                        # size of z ~ U(-1, 1) (the paper: 100)
    g_width: int = 24                       # convolutional: channels before G's last layer, doubling towards z
    d_width: int = 20                       # convolutional: channels after D's first layer, doubling
    g_widths: tuple[int, int, int] = (128, 128, 512)    # mlp: rectifiers of z, of y and of both
    d_widths: tuple[int, int, int] = (128, 32, 128)     # mlp: maxout units of x, of y and of both
    d_pieces: tuple[int, int] = (5, 4)      # mlp: linear functions in a maxout unit of x or y, and of both
    dropout: float = 0.3                    # mlp: after each hidden layer of G and of D
    ema_decay: float = 0.995                # of the generator that samples are drawn from
    sample_every: int = 250

    def __post_init__(self) -> None:
        check_limits(self, latent=(1, math.inf), g_width=(1, math.inf), d_width=(1, math.inf),
                     g_widths=(1, math.inf), d_widths=(1, math.inf), d_pieces=(1, math.inf), dropout=(0, 1),
                     betas=(0, 1), ema_decay=(0, 1))
        if self.form not in FORMS:
            raise UserError(f"form={self.form}: expected {' or '.join(FORMS)}")


# The networks of the paper's section 4.1, for images of 28x28.
PAPER = {"form": "mlp", "size": None, "batch_size": 100, "latent": 100, "g_widths": (200, 1000, 1200),
         "d_widths": (240, 50, 240), "d_pieces": (5, 4), "dropout": 0.5}
POINTS = {"form": "mlp", "size": None, "steps": 8000, "batch_size": 256, "lr": 1e-3, "latent": 2,
          "g_widths": (64, 64, 128), "d_widths": (64, 16, 64), "dropout": 0.0, "sample_every": 1000}


class CGAN(Sampler):
    """Both players, their optimisers, and the game of equation (2). `streams` become the default ones, from
    which layers draw."""
    config_class = Config
    presets: ClassVar = {"digits": {"size": 16}, "points": POINTS}
    conditioned_on = "labels"

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        self.classes = class_count(spec, "cgan")
        generator, discriminator = FORMS[config.form](spec, self.classes, config)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """n draws of z ~ U(-1, 1)."""
        return stream.uniform(-1, 1, (n, self.config.latent))

    def step(self, batches: Iterator) -> dict[str, float]:
        """One update of D, then one of G, on the same samples, which are made of the examples' labels."""
        G, D = self.generator, self.discriminator
        x, y = real_labelled(batches, self.classes, D)
        fake = G(self.noise(len(x)), y)

        real_logits, fake_logits = D(x, y), D(fake.detach(), y)
        loss_d = -value(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=list(D.parameters()))
        self.optimizer_d.step()

        loss_g = non_saturating_loss(D(fake, y))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        self.ema.update()
        probabilities = F.sigmoid(real_logits).mean(), F.sigmoid(fake_logits).mean()
        return scalars(loss_d=loss_d, loss_g=loss_g, d_real=probabilities[0], d_fake=probabilities[1])

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.discriminator, self.optimizer_d),
                "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """D's logits (N,) of host samples (N, *shape) as those of the `given` classes (N,), or else their
        mean over all classes, in evaluation mode."""
        D = self.discriminator
        asked = [np.full(len(x), k) for k in range(self.classes)] if given is None else [given]
        return np.mean([logits(D, x, *self.conditions(y, len(x), D)) for y in asked], axis=0)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema}


# Networks: fully connected

class Generator(nn.Module):
    """z (N, latent), y (N, classes) -> x (N, *shape): rectifiers of z and of y, then of both together, each
    with dropout; then one linear layer, with tanh where the data are `bounded` by [-1, 1]."""

    def __init__(self, latent: int, classes: int, shape: tuple[int, ...], widths: tuple[int, int, int],
                 dropout: float, *, bounded: bool):
        super().__init__()
        of_z, of_y, joint = widths
        self.shape, self.bounded = tuple(shape), bounded
        self.of_z, self.of_y = nn.Linear(latent, of_z), nn.Linear(classes, of_y)
        self.joint = nn.Linear(of_z + of_y, joint)
        self.last = nn.Linear(joint, math.prod(shape))
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(F.cat((self.of_z(z), self.of_y(y)), dim=1)))
        x = self.last(self.dropout(F.relu(self.joint(hidden)))).reshape(-1, *self.shape)
        return F.tanh(x) if self.bounded else x


class Discriminator(nn.Module):
    """x (N, *shape), y (N, classes) -> logits (N,): maxout units of x and of y, then of both together, each
    with dropout; then one linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int, widths: tuple[int, int, int],
                 pieces: tuple[int, int], dropout: float):
        super().__init__()
        of_x, of_y, joint = widths
        self.of_x, self.of_y = Maxout(math.prod(shape), of_x, pieces[0]), Maxout(classes, of_y, pieces[0])
        self.joint = Maxout(of_x + of_y, joint, pieces[1])
        self.last = nn.Linear(joint, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        hidden = self.dropout(F.cat((self.of_x(x.reshape(len(x), -1)), self.of_y(y)), dim=1))
        return self.last(self.dropout(self.joint(hidden))).reshape(-1)


class Maxout(nn.Module):
    """x (N, fan_in) -> (N, units): unit i is max_j (w_ij . x + b_ij) over its `pieces` (Goodfellow et al.
    2013, arXiv 1302.4389)."""

    def __init__(self, fan_in: int, units: int, pieces: int):
        super().__init__()
        self.pieces, self.linear = pieces, nn.Linear(fan_in, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return F.amax(self.linear(x).reshape(len(x), -1, self.pieces), dim=2)


def mlp_networks(spec: Spec, classes: int, config: Config) -> tuple[nn.Module, nn.Module]:
    """The paper's, in the widths of `config`."""
    bounded = bool(np.isfinite(spec.high))
    return (Generator(config.latent, classes, spec.shape, config.g_widths, config.dropout, bounded=bounded),
            Discriminator(spec.shape, classes, config.d_widths, config.d_pieces, config.dropout))


# Networks: convolutional

class ConvGenerator(nn.Module):
    """z (N, latent), y (N, classes) -> images (N, *shape): the DCGAN's generator of (z, y)."""

    def __init__(self, latent: int, classes: int, shape: tuple[int, ...], width: int):
        super().__init__()
        self.network = dcgan.Generator(latent + classes, shape, width)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.network(F.cat((z, y), dim=1))


class ConvDiscriminator(nn.Module):
    """Images x (N, C, H, W), y (N, classes) -> logits (N,): the DCGAN's discriminator of C + classes feature
    maps, of which those of y are constant."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int):
        super().__init__()
        dcgan.geometry(shape)               # refuses points before their channels are counted
        self.network = dcgan.Discriminator((shape[0] + classes, *shape[1:]), width, norm=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        maps = F.expand(y.reshape(*y.shape, 1, 1), (*y.shape, *x.shape[2:]))
        return self.network(F.cat((x, maps), dim=1))


def convolutional_networks(spec: Spec, classes: int, config: Config) -> tuple[nn.Module, nn.Module]:
    """Those of the DCGAN with y beside their inputs, and with its initial weights."""
    networks = (ConvGenerator(config.latent, classes, spec.shape, config.g_width),
                ConvDiscriminator(spec.shape, classes, config.d_width))
    for network in networks:
        network.apply(initialise)
    return networks


FORMS: dict[str, Any] = {"convolutional": convolutional_networks, "mlp": mlp_networks}
