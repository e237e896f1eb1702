"""Goodfellow et al. 2014 (arXiv 1406.2661), Algorithm 1, with MLPs and Adam, in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.reference import Average, Draws, Noise, Parts, Report


class Generator(nn.Module):
    """z -> x: ReLU layers, with batch normalisation or without, then a linear layer and, for data in [-1, 1],
    tanh.
    """

    def __init__(self, latent: int, shape, widths, bounded: bool, norm: bool):
        super().__init__()
        self.shape, self.layers, fan_in = tuple(shape), nn.Sequential(), latent
        for width in widths:
            self.layers.append(nn.Linear(fan_in, width, bias=not norm))
            if norm:
                self.layers.append(nn.BatchNorm1d(width))
            self.layers.append(nn.ReLU())
            fan_in = width
        self.layers.append(nn.Linear(fan_in, math.prod(self.shape)))
        if bounded:
            self.layers.append(nn.Tanh())

    def forward(self, z):
        return self.layers(z).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """x -> one logit: LeakyReLU(0.2) layers with dropout, then a linear layer."""

    def __init__(self, shape, widths, dropout: float = 0.0):
        super().__init__()
        self.layers, fan_in = nn.Sequential(), math.prod(shape)
        for width in widths:
            self.layers.append(nn.Linear(fan_in, width))
            self.layers.append(nn.LeakyReLU(0.2))
            if dropout > 0:
                self.layers.append(nn.Dropout(dropout))
            fan_in = width
        self.layers.append(nn.Linear(fan_in, 1))

    def forward(self, x):
        return self.layers(x.flatten(1)).squeeze(1)


def on_real(logits: torch.Tensor) -> torch.Tensor:
    """-mean log D(x)."""
    return binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def on_fake(logits: torch.Tensor) -> torch.Tensor:
    """-mean log(1 - D(G(z)))."""
    return binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))


class Training(Parts):
    """Algorithm 1. `noise(n)` draws n samples of the prior."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        noise: Noise,
        *,
        lr: float,
        betas,
        k: int,
        saturating: bool,
        ema_decay: float,
    ):
        self.generator, self.discriminator, self.noise, self.k, self.saturating = (
            generator,
            discriminator,
            noise,
            k,
            saturating,
        )
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
        self.ema = Average(generator, ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        for _ in range(self.k):
            x, _ = next(batches)
            fake = self.generator(self.noise(len(x))).detach()
            self.optimizer_d.zero_grad()
            real_logits, fake_logits = self.discriminator(x), self.discriminator(fake)
            loss_d = on_real(real_logits) + on_fake(fake_logits)
            loss_d.backward()
            self.optimizer_d.step()
        fake_logits_g = self.discriminator(self.generator(self.noise(len(x))))
        loss_g = -on_fake(fake_logits_g) if self.saturating else on_real(fake_logits_g)
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
        }


def make(spec, config, draws: Draws) -> Training:
    """For images in [-1, 1] or points without bounds, by the settings of `config`."""
    generator = Generator(config.latent, spec.shape, config.g_widths, math.isfinite(spec.high), config.g_norm)
    discriminator = Discriminator(spec.shape, config.d_widths, config.d_dropout)
    return Training(
        generator,
        discriminator,
        lambda n: draws.normal("noise", n, config.latent),
        lr=config.lr,
        betas=config.betas,
        k=config.k,
        saturating=config.saturating,
        ema_decay=config.ema_decay,
    )
