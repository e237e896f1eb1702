"""DCGAN: Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional
generative adversarial networks" (arXiv 1511.06434).

The contribution is the networks (`nets/dcgan.py`), by the paper's guidelines: strided convolutions instead of
pooling, batch normalisation in both networks but at G's output and D's input, no fully connected hidden
layers, ReLU in G with tanh at the output, LeakyReLU(0.2) in D. Section 4: images in [-1, 1], z uniform with
100 dimensions, minibatches of 128, weights drawn from N(0, 0.02^2), Adam with learning rate 0.0002 and beta1
= 0.5. The game is that of Goodfellow et al. 2014 with the non-saturating loss:

    D descends -E[log D(x)] - E[log(1 - D(G(z)))],    G descends -E[log D(G(z))]

As in the authors' code, examples and samples go through D in batches of their own, so each is normalised by
its own statistics, and D stays in training mode while G learns. One minibatch of samples serves both updates,
D's and then G's through the D just updated, which saves a pass through G.

Departures. Scales of batch normalisation begin at N(1, 0.02^2), as in the authors' code; biases begin at 0.
Smaller minibatches, fewer channels and a larger learning rate, for small images and processors. Images of 28x28
train as 32x32: they are halved once more on the way to the logit, so that D's features span most of the image; at
28, all that D knows of a digit as a whole is linear in features of 10x10 pixels, and strokes come out well, digits
do not. Samples come from an exponential moving average of G's weights, which takes no part in the game.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scratchgan import functional as F
from scratchgan import nn, optim
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, Sampler, check_limits, logits, real, scalars
from scratchgan.nets import dcgan

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "D descends": r"-\mathbb{E}_{x \sim p_{\text{data}}}[\log D(x)]"
                  r" - \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]",
    "G descends": r"-\mathbb{E}_{z \sim p_z}[\log D(G(z))]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters; in brackets those of the paper for 64 pixels."""
    data: str = "mnist5k"
    size: int | None = 32                   # edge in pixels: 8, 16, 28, 32, 64 ...; None: the data's own
    steps: int = 4000                       # updates of D and of G
    batch_size: int = 32                    # [128]
    lr: float = 8e-4                        # Adam, for both players [2e-4]
    betas: tuple[float, float] = (0.5, 0.999)
    latent: int = 32                        # size of z ~ U(-1, 1) [100]
    g_width: int = 24                       # channels before G's last layer, doubling towards z [128]
    d_width: int = 20                       # channels after D's first layer, doubling towards the logit [128]
    ema_decay: float = 0.995                # of the generator that samples are drawn from
    sample_every: int = 250

    def __post_init__(self) -> None:
        check_limits(self, latent=(1, math.inf), g_width=(1, math.inf), d_width=(1, math.inf),
                     betas=(0, 1), ema_decay=(0, 1))


class DCGAN(Sampler):
    """Both players, their optimisers, and the training of section 4. `streams` become the default ones, from
    which layers draw."""
    config_class = Config
    # Digits of 8 x 8 would leave D one hidden layer; points are refused for their shape, not for a size.
    presets: ClassVar = {"digits": {"size": 16}, "points": {"size": None}}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        self.generator = dcgan.Generator(config.latent, spec.shape, config.g_width).to(device)
        self.discriminator = dcgan.Discriminator(spec.shape, config.d_width, norm=True).to(device)
        for network in (self.generator, self.discriminator):
            network.apply(initialise)
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """n draws of z ~ U(-1, 1)."""
        return stream.uniform(-1, 1, (n, self.config.latent))

    def step(self, batches: Iterator) -> dict[str, float]:
        """One update of D, then one of G, on the same samples."""
        G, D = self.generator, self.discriminator
        x = real(batches, D)
        fake = G(self.noise(len(x)))

        real_logits, fake_logits = D(x), D(fake.detach())
        loss_d = -value(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=list(D.parameters()))
        self.optimizer_d.step()

        loss_g = non_saturating_loss(D(fake))
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


def initialise(layer: nn.Module) -> None:
    """Weights from N(0, 0.02^2), scales of batch normalisation from N(1, 0.02^2), biases 0."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.bias)
