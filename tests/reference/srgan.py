"""Ledig et al. 2017 (arXiv 1609.04802) in PyTorch: SRResNet, the discriminator of figure 4, the perceptual
loss and the two phases of training.

Pictures are in [-1, 1]; the generator brings what it reads to [0, 1]. Options of the settings: without
batch normalisation in the generator, and with the bicubic enlargement added to what it makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, mse_loss

from tests.reference import Average, Draws, Parts, Report
from tests.reference.gan import on_fake, on_real


def conv(fan_in: int, fan_out: int, norm: bool, stride: int = 1) -> list[nn.Module]:
    """3x3; batch normalisation takes the bias's place."""
    layers = [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=not norm)]
    return [*layers, nn.BatchNorm2d(fan_out)] if norm else layers


class Residual(nn.Module):
    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.layers = nn.Sequential(*conv(width, width, norm), nn.PReLU(), *conv(width, width, norm))

    def forward(self, x):
        return self.layers(x) + x


class Generator(nn.Module):
    """SRResNet."""

    def __init__(self, channels: int, scale: int, blocks: int, width: int, kernel: int, norm: bool, bicubic: bool):
        super().__init__()
        self.scale, self.bicubic = scale, bicubic
        self.head = nn.Sequential(nn.Conv2d(channels, width, kernel, padding="same"), nn.PReLU())
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            self.blocks.append(Residual(width, norm))
        self.blocks.extend(conv(width, width, norm))
        self.tail = nn.Sequential()
        while scale > 1:
            self.tail.extend([nn.Conv2d(width, width * 4, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()])
            scale //= 2
        self.tail.append(nn.Conv2d(width, channels, kernel, padding="same"))

    def forward(self, low):
        first = self.head(low / 2 + 0.5)
        high = self.tail(self.blocks(first) + first)
        if self.bicubic:
            high = high + interpolate(low, scale_factor=self.scale, mode="bicubic", antialias=True)
        return high


class Discriminator(nn.Module):
    """Figure 4: n64s1 n64s2 n128s1 n128s2 n256s1 n256s2 n512s1 n512s2 for a width of 64."""

    def __init__(self, channels: int, size: int, width: int, dense: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(0.2))
        plan = [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]
        before = width
        for times, stride in plan:
            self.body.extend([*conv(before, times * width, True, stride), nn.LeakyReLU(0.2)])
            before = times * width
        with torch.no_grad():
            units = self.body.eval()(torch.zeros(1, channels, size, size)).numel()
        self.body.train()
        self.head = nn.Sequential(nn.Linear(units, dense), nn.LeakyReLU(0.2), nn.Linear(dense, 1))

    def forward(self, x):
        return self.head(self.body(x).flatten(1)).squeeze(1)


class Phi(nn.Module):
    """A map of a network like VGG, after `number` blocks of two convolutions, divided by its scale."""

    def __init__(self, number: int):
        super().__init__()
        widths = (3, 16, 32, 64)
        self.blocks = nn.ModuleList()
        for a, b in pairwise(widths[: number + 1]):
            self.blocks.append(
                nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())
            )
        self.register_buffer("scale", torch.tensor(1.0))
        self.requires_grad_(False)

    def forward(self, x):
        if x.shape[1] == 1:
            x = x.repeat(1, 3, 1, 1)
        x = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(nn.functional.max_pool2d(x, 2))
        return x / self.scale


class Count:
    def __init__(self):
        self.steps = 0


class Training(Parts):
    """First the mean squared error alone, then the game."""

    PARTS = ("generator", "discriminator", "phi", "optimizer_g", "optimizer_d", "ema", "progress")

    def __init__(self, generator: nn.Module, discriminator: nn.Module, config):
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.phi, self.progress = Phi(config.feature_map), Count()
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=config.lr, betas=config.betas)
        self.optimizer_d = torch.optim.Adam(
            discriminator.parameters(), lr=config.lr_adversarial, betas=config.betas
        )
        self.ema = Average(generator, config.ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        high, _ = next(batches)
        low = interpolate(high, scale_factor=1 / self.config.scale, mode="bicubic", antialias=True).clamp(-1, 1)
        done = self.progress.steps - self.config.pretrain_steps
        for optimizer in (self.optimizer_g, self.optimizer_d):
            rate = self.config.lr_adversarial * (1.0 if done < self.config.decay_steps else 0.1)
            optimizer.param_groups[0]["lr"] = rate
        if done < 0:
            self.optimizer_g.param_groups[0]["lr"] = self.config.lr
        report = self.pretrain(high, low) if done < 0 else self.play(high, low)
        self.progress.steps += 1
        self.ema.update()
        return report

    def pretrain(self, high, low) -> Report:
        loss = mse_loss(self.generator(low), high)
        self.optimizer_g.zero_grad()
        loss.backward()
        self.optimizer_g.step()
        return {"loss_g": loss, "pixels": loss}

    def play(self, high, low) -> Report:
        made = self.generator(low)
        real_logits, fake_logits = self.discriminator(high), self.discriminator(made.detach())
        loss_d = on_real(real_logits) + on_fake(fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()

        pixels = mse_loss(made, high)
        with torch.no_grad():
            wanted = self.phi(high)
        features = mse_loss(self.phi(made), wanted)
        loss_g = (
            self.config.pixel_weight * pixels
            + self.config.feature_weight * features
            + self.config.adversarial_weight * on_real(self.discriminator(made))
        )
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
            "pixels": pixels,
            "features": features,
        }


def make(spec, config, draws: Draws) -> Training:
    """By the settings of `config`; it draws no random numbers."""
    channels, size = spec.shape[:2]
    return Training(
        Generator(
            channels,
            config.scale,
            config.blocks,
            config.g_width,
            config.g_kernel,
            config.g_norm,
            config.bicubic,
        ),
        Discriminator(channels, size, config.d_width, config.d_dense),
        config,
    )
