"""Mirza and Osindero 2014 (arXiv 1411.1784) in PyTorch, with the class as the condition: the MLPs of section
4.1, and the networks of `dcgan` with the class beside their inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import one_hot

from tests.reference import Average, Draws, Noise, Parts, Report, dcgan
from tests.reference.gan import on_fake, on_real


class Generator(nn.Module):
    """z and y each through a ReLU layer, both through another, then a linear layer and, for data in [-1, 1],
    tanh; dropout after each ReLU.
    """

    def __init__(self, latent: int, classes: int, shape, widths, dropout: float, bounded: bool):
        super().__init__()
        self.shape = tuple(shape)
        self.of_z = nn.Linear(latent, widths[0])
        self.of_y = nn.Linear(classes, widths[1])
        self.joint = nn.Linear(widths[0] + widths[1], widths[2])
        self.last = nn.Linear(widths[2], math.prod(shape))
        self.hidden = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
        self.squash = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z, y):
        both = torch.cat([self.hidden(self.of_z(z)), self.hidden(self.of_y(y))], dim=1)
        return self.squash(self.last(self.hidden(self.joint(both)))).unflatten(1, self.shape)


class Maxout(nn.Module):
    """The largest of each `pieces` outputs of a linear layer that lie together."""

    def __init__(self, fan_in: int, units: int, pieces: int):
        super().__init__()
        self.linear, self.units = nn.Linear(fan_in, units * pieces), units

    def forward(self, x):
        return self.linear(x).unflatten(1, (self.units, -1)).max(dim=2).values


class Discriminator(nn.Module):
    """x and y each through maxout units, both through others, then one logit."""

    def __init__(self, shape, classes: int, widths, pieces, dropout: float):
        super().__init__()
        self.of_x = Maxout(math.prod(shape), widths[0], pieces[0])
        self.of_y = Maxout(classes, widths[1], pieces[0])
        self.joint = Maxout(widths[0] + widths[1], widths[2], pieces[1])
        self.last = nn.Linear(widths[2], 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, y):
        both = torch.cat([self.drop(self.of_x(x.flatten(1))), self.drop(self.of_y(y))], dim=1)
        return self.last(self.drop(self.joint(both))).squeeze(1)


class ConvGenerator(nn.Module):
    """The DCGAN's, of z and y end to end."""

    def __init__(self, latent: int, classes: int, channels: int, size: int, width: int):
        super().__init__()
        self.network = dcgan.Generator(latent + classes, channels, size, width)

    def forward(self, z, y):
        return self.network(torch.hstack([z, y]))


class ConvDiscriminator(nn.Module):
    """The DCGAN's, of images with a further channel for each class, all ones for the image's and else zeros."""

    def __init__(self, channels: int, classes: int, size: int, width: int):
        super().__init__()
        self.network = dcgan.Discriminator(channels + classes, size, width)

    def forward(self, x, y):
        channels = torch.ones_like(x[:, :1]) * y[:, :, None, None]
        return self.network(torch.cat([x, channels], dim=1))


class Training(Parts):
    """One update of D, one of G, on samples of the same classes as the examples."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        classes: int,
        noise: Noise,
        *,
        lr: float,
        betas,
        ema_decay: float,
    ):
        self.generator, self.discriminator, self.noise = generator, discriminator, noise
        self.classes = classes
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
        self.ema = Average(generator, ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        x, labels = next(batches)
        y = one_hot(labels, self.classes).to(x)
        fake = self.generator(self.noise(len(x)), y)
        self.optimizer_d.zero_grad()
        real_logits, fake_logits = self.discriminator(x, y), self.discriminator(fake.detach(), y)
        loss_d = on_real(real_logits) + on_fake(fake_logits)
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        loss_g = on_real(self.discriminator(fake, y))
        loss_g.backward()
        self.optimizer_g.step()
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
        }


def networks(spec, config) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of the form in `config`."""
    if config.form == "mlp":
        bounded = math.isfinite(spec.high)
        return (
            Generator(config.latent, spec.classes, spec.shape, config.g_widths, config.dropout, bounded),
            Discriminator(spec.shape, spec.classes, config.d_widths, config.d_pieces, config.dropout),
        )
    channels, size = spec.shape[:2]
    return (
        ConvGenerator(config.latent, spec.classes, channels, size, config.g_width),
        ConvDiscriminator(channels, spec.classes, size, config.d_width),
    )


def make(spec, config, draws: Draws) -> Training:
    """By the settings of `config`, for labelled data."""
    return Training(
        *networks(spec, config),
        spec.classes,
        lambda n: draws.uniform("noise", n, config.latent, low=-1.0),
        lr=config.lr,
        betas=config.betas,
        ema_decay=config.ema_decay,
    )
