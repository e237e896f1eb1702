"""GAN: Goodfellow et al. 2014, "Generative adversarial nets" (arXiv 1406.2661).

The two-player minimax game, the paper's equation (1):

    min_G max_D V(D, G) = E_{x ~ p_data}[log D(x)] + E_{z ~ p_z}[log(1 - D(G(z)))]

played by Algorithm 1: k times, ascend V in the discriminator's weights on m noise samples and m examples;
then, on m new noise samples, descend in the generator's. Early on D rejects every sample with confidence and
log(1 - D(G(z))) saturates; the paper then trains G "to maximize log D(G(z))" instead (section 3), and so does
`Config.saturating = False`.

Here D returns logits: the paper's D(x) is sigmoid(D(x)).

Departures. The paper's networks mix rectifiers and sigmoids in G, and are maxout with dropout in D, trained
by SGD with momentum; here G has rectifiers, with batch normalisation and tanh for images, D has leaky
rectifiers with dropout for images, and the optimiser is Adam, for images without momentum (beta1 = 0):
with it, digits end further from the data. Samples come from an exponential moving average of G's weights, which
smooths out the oscillation of the game; it never takes part in it.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scratchgan import functional as F
from scratchgan import optim
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.sampling import Player, Sampler, check_limits, logits, real, scalars
from scratchgan.nets import mlp
from scratchgan.ops import adversarial
from scratchgan.precision import full
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "the game": r"\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_{\text{data}}}[\log D(x)]"
                r" + \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]",
    "G, unless it saturates by choice, descends": r"-\mathbb{E}_{z \sim p_z}[\log D(G(z))]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are for images, `POINTS` holds those for the plane."""
    data: str = "mnist5k"
    size: int | None = None                 # edge of images in pixels; None: the data's own
    steps: int = 12000                      # iterations of Algorithm 1
    batch_size: int = 64                    # m
    k: int = 1                              # steps of D per step of G
    saturating: bool = False                # G descends log(1 - D(G(z))), as (1) says
    lr: float = 1e-3                        # Adam, for both players
    betas: tuple[float, float] = (0.0, 0.999)
    latent: int = 100                       # size of z ~ N(0, I)
    g_widths: tuple[int, ...] = (256, 512)  # hidden layers of G
    d_widths: tuple[int, ...] = (512, 256)  # hidden layers of D
    g_norm: bool = True                     # batch normalisation in G
    d_dropout: float = 0.1                  # after each hidden layer of D
    ema_decay: float = 0.999                # of the generator that samples are drawn from
    sample_every: int = 500

    def __post_init__(self) -> None:
        check_limits(self, k=(1, math.inf), latent=(1, math.inf), g_widths=(1, math.inf),
                     d_widths=(1, math.inf), d_dropout=(0, 1), betas=(0, 1), ema_decay=(0, 1))
        if self.g_norm and self.batch_size == 1:
            raise UserError("batch_size=1: batch normalisation in G needs at least 2; or set g_norm=false")


# Modes a hundred times narrower than the ring ask for larger batches. Batch normalisation would tie a point
# to the others of its batch, and dropout would blur the density ratio that D estimates.
POINTS = {"steps": 15000, "batch_size": 256, "lr": 1e-3, "betas": (0.5, 0.999), "latent": 2,
          "g_widths": (128, 128, 128), "d_widths": (128, 128, 128), "g_norm": False, "d_dropout": 0.0,
          "sample_every": 1000}


def value(real: Tensor, fake: Tensor) -> Tensor:
    """V(D, G) = mean log sigmoid(real) + mean log(1 - sigmoid(fake)), of logits (N,): the paper's (1). D
    ascends it."""
    return -adversarial.minimax_d(full(real), full(fake))


def saturating_loss(fake: Tensor) -> Tensor:
    """mean log(1 - sigmoid(fake)): the part of V that G can move."""
    return adversarial.minimax_g(full(fake))


def non_saturating_loss(fake: Tensor) -> Tensor:
    """-mean log sigmoid(fake): the same fixed point, but strong gradients where D rejects the samples."""
    return adversarial.non_saturating_g(full(fake))


class GAN(Sampler):
    """Both players, their optimisers, and Algorithm 1. `streams` become the default ones, from which layers
    draw."""
    config_class = Config
    presets: ClassVar = {"points": POINTS}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        generator = mlp.Generator(config.latent, spec.shape, config.g_widths,
                                  bounded=bool(np.isfinite(spec.high)), norm=config.g_norm)
        discriminator = mlp.Discriminator(spec.shape, config.d_widths, dropout=config.d_dropout)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.generator_loss = saturating_loss if config.saturating else non_saturating_loss
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One iteration of Algorithm 1: k minibatches (x, z) for D, then one of z for G. Probabilities and
        losses are of the last ones."""
        G, D = self.generator, self.discriminator
        for _ in range(self.config.k):
            x = real(batches, D)
            with no_grad():
                fake = G(self.noise(len(x)))
            real_logits, fake_logits = D(x), D(fake)
            loss_d = -value(real_logits, fake_logits)
            self.optimizer_d.zero_grad()
            loss_d.backward(inputs=list(D.parameters()))
            self.optimizer_d.step()

        loss_g = self.generator_loss(D(G(self.noise(self.config.batch_size))))
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

    def logits(self, x: np.ndarray) -> np.ndarray:
        """D's logits (N,) of host samples (N, *shape), in evaluation mode."""
        return logits(self.discriminator, x)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema}
