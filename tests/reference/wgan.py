"""Arjovsky, Chintala and Bottou 2017 (arXiv 1701.07875), Algorithm 1, in PyTorch. The networks are those of
`gan` and `dcgan`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from tests.reference import Average, Draws, Noise, Parts, Report, dcgan, gan


class Training(Parts):
    """n_critic updates of the critic, its weights put back into [-c, c] after each, then one of the
    generator. `noise(n)` draws latents.
    """

    PARTS = ("generator", "critic", "optimizer_g", "optimizer_d", "ema")

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        noise: Noise,
        *,
        lr: float,
        n_critic: int,
        c: float,
        ema_decay: float,
    ):
        self.generator, self.critic, self.noise, self.n_critic, self.c = generator, critic, noise, n_critic, c
        self.optimizer_g = torch.optim.RMSprop(generator.parameters(), lr=lr)
        self.optimizer_d = torch.optim.RMSprop(critic.parameters(), lr=lr)
        self.ema = Average(generator, ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        for _ in range(self.n_critic):
            x, _ = next(batches)
            with torch.no_grad():
                fake = self.generator(self.noise(len(x)))
            distance = self.critic(x).mean() - self.critic(fake).mean()
            self.optimizer_d.zero_grad()
            (-distance).backward()
            self.optimizer_d.step()
            for w in self.critic.parameters():
                w.data.clamp_(min=-self.c, max=self.c)
        loss_g = -self.critic(self.generator(self.noise(len(x)))).mean()
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.ema.update()
        return {"loss_d": -distance, "loss_g": loss_g, "distance": distance}


def networks(spec, config, norm: bool) -> tuple[nn.Module, nn.Module]:
    """Generator and critic: the DCGAN's for images, MLPs for points; `norm` is of the critic of images."""
    if len(spec.shape) == 1:
        bounded = math.isfinite(spec.high)
        return (
            gan.Generator(config.latent, spec.shape, [config.g_width] * 3, bounded, norm=False),
            gan.Discriminator(spec.shape, [config.d_width] * 3),
        )
    channels, size = spec.shape[:2]
    return (
        dcgan.Generator(config.latent, channels, size, config.g_width),
        dcgan.Discriminator(channels, size, config.d_width, norm=norm),
    )


def make(spec, config, draws: Draws) -> Training:
    """By the settings of `config`."""
    return Training(
        *networks(spec, config, config.d_norm),
        lambda n: draws.normal("noise", n, config.latent),
        lr=config.lr,
        n_critic=config.n_critic,
        c=config.clip,
        ema_decay=config.ema_decay,
    )
