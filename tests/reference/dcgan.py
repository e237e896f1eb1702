"""Radford, Metz and Chintala 2016 (arXiv 1511.06434) in PyTorch: networks and training.

The paper's guidelines: strided convolutions, batch normalisation except at G's output and D's input, ReLU in
G with tanh at the end, LeakyReLU(0.2) in D; Adam with beta1 = 0.5. As in the authors' code real and generated
images pass D in separate batches, and the images that D has just learned from serve G's update too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tests.reference import Average, Draws, Noise, Parts, Report
from tests.reference.gan import on_fake, on_real


def halvings(size: int) -> tuple[int, int]:
    """How often an edge is halved until it is at most 7, and what it is then."""
    count = 0
    while size > 7:
        size, count = size // 2, count + 1
    return count, size


class Generator(nn.Module):
    """z -> images; `width` channels before the last layer, twice as many with each layer towards z."""

    def __init__(self, latent: int, channels: int, size: int, width: int):
        super().__init__()
        count, base = halvings(size)
        wide = width * 2 ** (count - 1)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(latent, wide, base, bias=False), nn.BatchNorm2d(wide), nn.ReLU()
        )
        while wide > width:
            self.layers.extend(
                [
                    nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False),
                    nn.BatchNorm2d(wide // 2),
                    nn.ReLU(),
                ]
            )
            wide //= 2
        self.layers.extend([nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()])

    def forward(self, z):
        return self.layers(z[:, :, None, None])


class Discriminator(nn.Module):
    """Images -> one logit; without `norm` the critic of a Wasserstein GAN."""

    def __init__(self, channels: int, size: int, width: int, norm: bool = True):
        super().__init__()
        count, base = halvings(size)
        self.layers = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2))
        for _ in range(count - 1):
            self.layers.append(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=not norm))
            if norm:
                self.layers.append(nn.BatchNorm2d(2 * width))
            self.layers.append(nn.LeakyReLU(0.2))
            width *= 2
        self.layers.append(nn.Conv2d(width, 1, base))

    def forward(self, x):
        return self.layers(x).flatten()


class Training(Parts):
    """One update of D, one of G. `freeze` turns D's gradients off in G's update, which the usual loop
    doesn't.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        noise: Noise,
        *,
        lr: float,
        betas,
        ema_decay: float,
        freeze: bool = False,
    ):
        self.generator, self.discriminator, self.noise, self.freeze = generator, discriminator, noise, freeze
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
        self.ema = Average(generator, ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        x, _ = next(batches)
        fake = self.generator(self.noise(len(x)))
        self.optimizer_d.zero_grad()
        real_logits, fake_logits = self.discriminator(x), self.discriminator(fake.detach())
        loss_d = on_real(real_logits) + on_fake(fake_logits)
        loss_d.backward()
        self.optimizer_d.step()

        self.discriminator.requires_grad_(not self.freeze)
        loss_g = on_real(self.discriminator(fake))
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
        }


def make(spec, config, draws: Draws, freeze: bool = False) -> Training:
    """For square images in [-1, 1], by the settings of `config`."""
    channels, size = spec.shape[:2]
    return Training(
        Generator(config.latent, channels, size, config.g_width),
        Discriminator(channels, size, config.d_width),
        lambda n: draws.uniform("noise", n, config.latent, low=-1.0),
        lr=config.lr,
        betas=config.betas,
        ema_decay=config.ema_decay,
        freeze=freeze,
    )
