"""Karras, Laine and Aila 2019 (arXiv 1812.04948) in PyTorch: networks and training, as the paper and its
predecessor on progressive growing (arXiv 1710.10196) describe them.

Nothing is folded together here: images are doubled, convolved and blurred one after the other, and AdaIN is
written out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from tests.reference import Average, Draws, Parts, Report
from tests.reference.gan import on_fake, on_real

ROOT = math.sqrt(2)


class Scaled(nn.Module):
    """A weight that begins at N(0, 1) / multiplier, times He's constant and the multiplier at run time."""

    def __init__(self, *shape: int, bias: bool = True, gain: float = 1.0, multiplier: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / multiplier)
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.factor, self.multiplier = gain / math.sqrt(self.weight[0].numel()) * multiplier, multiplier

    def w(self):
        return self.weight * self.factor

    def b(self):
        return None if self.bias is None else self.bias * self.multiplier


class Dense(Scaled):
    def forward(self, x):
        return F.linear(x, self.w(), self.b())


class Conv(Scaled):
    def forward(self, x):
        return F.conv2d(x, self.w(), self.b(), padding=self.weight.shape[2] // 2)


def act(x):
    return F.leaky_relu(x, 0.2)


def bilinear(x):
    """Every channel convolved with the binomial filter of 3 x 3 taps."""
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
    kernel = (taps[:, None] * taps / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def twice(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


def half(x):
    return F.avg_pool2d(x, 2)


def normed(z):
    return z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()


class Up(Conv):
    def forward(self, x):
        return bilinear(super().forward(twice(x)))


class Down(Conv):
    def forward(self, x):
        y = F.conv2d(bilinear(x), self.w(), padding=1)
        return half(y) + self.bias[:, None, None]


class Mapping(nn.Module):
    def __init__(self, latent: int, layers: int, multiplier: float):
        super().__init__()
        self.layers = nn.ModuleList(
            [Dense(latent, latent, gain=ROOT, multiplier=multiplier) for _ in range(layers)]
        )

    def forward(self, z):
        x = normed(z)
        for layer in self.layers:
            x = act(layer(x))
        return x


class Styled(nn.Module):
    """Noise, bias, activation, adaptive instance normalisation."""

    def __init__(self, channels: int, latent: int, noisy: bool):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1, 1)) if noisy else None
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale, self.shift = Dense(channels, latent), Dense(channels, latent)

    def forward(self, x, w, noise):
        if self.strength is not None:
            x = x + noise * self.strength[:, 0]
        x = act(x + self.bias[:, None, None])
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x.var((2, 3), unbiased=False, keepdim=True) + 1e-8).sqrt()
        x = (x - mean) / deviation
        return x * self.scale(w)[:, :, None, None] + self.shift(w)[:, :, None, None]


class Block(nn.Module):
    def __init__(self, above: int, below: int, latent: int, noisy: bool):
        super().__init__()
        self.up = Up(below, above, 3, 3, bias=False, gain=ROOT)
        self.style0 = Styled(below, latent, noisy)
        self.conv = Conv(below, below, 3, 3, bias=False, gain=ROOT)
        self.style1 = Styled(below, latent, noisy)


class Synthesis(nn.Module):
    def __init__(self, colours: int, widths, latent: int, noise_from: int, tanh: bool):
        super().__init__()
        self.tanh = tanh
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.style0 = Styled(widths[0], latent, noise_from <= 4)
        self.conv = Conv(widths[0], widths[0], 3, 3, bias=False, gain=ROOT)
        self.style1 = Styled(widths[0], latent, noise_from <= 4)
        self.blocks = nn.ModuleList(
            [Block(a, b, latent, noise_from <= 8 << i) for i, (a, b) in enumerate(pairwise(widths))]
        )
        self.to_rgb = nn.ModuleList([Conv(colours, c, 1, 1) for c in widths])

    def forward(self, w, noise, level: float):
        """w: (N, layers, latent); noise: one (N, 1, H, W) per layer, or None."""
        x = self.constant.repeat(w.shape[0], 1, 1, 1)
        x = self.style0(x, w[:, 0], noise[0])
        x = self.style1(self.conv(x), w[:, 1], noise[1])
        image = self.to_rgb[0](x)
        for i, block in enumerate(self.blocks):
            weight = level - i  # of the new pictures
            if weight <= 0:
                break
            x = block.style0(block.up(x), w[:, 2 * i + 2], noise[2 * i + 2])
            x = block.style1(block.conv(x), w[:, 2 * i + 3], noise[2 * i + 3])
            new = self.to_rgb[i + 1](x)
            image = new if weight >= 1 else (1 - weight) * twice(image) + weight * new
        return image.tanh() if self.tanh else image


class Generator(nn.Module):
    def __init__(self, colours: int, widths, config):
        super().__init__()
        self.mapping = Mapping(config.latent, config.mapping_layers, config.mapping_lr)
        self.synthesis = Synthesis(colours, widths, config.latent, config.noise_from, config.tanh)
        self.register_buffer("w_mean", torch.zeros(config.latent))


class DownBlock(nn.Module):
    def __init__(self, above: int, below: int):
        super().__init__()
        self.conv, self.down = Conv(above, above, 3, 3, gain=ROOT), Down(below, above, 3, 3, gain=ROOT)

    def forward(self, x):
        return act(self.down(act(self.conv(x))))


def deviation_map(x):
    """One channel more: the mean deviation within groups of four, sample i with i + N / 4, i + N / 2, ...;
    what four does not divide is a group of its own.
    """
    if len(x) > 4 and len(x) % 4:
        whole = len(x) // 4 * 4
        return torch.cat([deviation_map(x[:whole]), deviation_map(x[whole:])])
    groups = x.unflatten(0, (min(len(x), 4), -1))
    variance = groups.var(0, unbiased=False)
    means = (variance + 1e-8).sqrt().flatten(1).mean(1).repeat(groups.shape[0])
    return torch.cat([x, means[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


class Discriminator(nn.Module):
    def __init__(self, colours: int, widths):
        super().__init__()
        self.from_rgb = nn.ModuleList([Conv(c, colours, 1, 1, gain=ROOT) for c in widths])
        self.blocks = nn.ModuleList([DownBlock(a, b) for b, a in pairwise(widths)])
        first = widths[0]
        self.conv = Conv(first, first + 1, 3, 3, gain=ROOT)
        self.dense = Dense(first, 16 * first, gain=ROOT)
        self.out = Dense(1, first)

    def forward(self, image, level: float):
        i = math.ceil(level)
        x = act(self.from_rgb[i](image))
        while i > 0:
            x = self.blocks[i - 1](x)
            weight = level - (i - 1)
            if weight < 1:
                x = weight * x + (1 - weight) * act(self.from_rgb[i - 1](half(image)))
            i -= 1
        x = act(self.conv(deviation_map(x)))
        return self.out(act(self.dense(x.flatten(1)))).flatten()


class Growth:
    """How many images were shown, and the level that follows."""

    def __init__(self, first: int, last: int, stable: int, fade: int):
        self.first, self.last, self.stable, self.fade, self.shown = first, last, stable, fade, 0

    def level(self) -> float:
        level, left = float(self.first), self.shown
        while level < self.last:
            left -= self.stable
            if left < 0:
                break
            level += min(left / self.fade, 1.0) if self.fade else 1.0
            left -= self.fade
            if left < 0:
                break
        return level


class Training(Parts):
    """One update of D with R1, one of G, at the level of the batch."""

    PARTS = ("generator", "discriminator", "optimizer_g", "optimizer_d", "ema", "growth")

    def __init__(self, generator, discriminator, growth: Growth, draws: Draws, config):
        self.generator, self.discriminator, self.growth = generator, discriminator, growth
        self.draws, self.config = draws, config
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=config.lr, betas=config.betas)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=config.lr, betas=config.betas)
        self.ema = Average(generator, config.ema_decay)

    def made(self, n: int, level: float):
        G, layers = self.generator, 2 * (math.ceil(level) + 1)
        edges = [4 << i // 2 for i in range(layers)]
        noise = [
            self.draws.normal("layers", n, 1, edge, edge) if edge >= self.config.noise_from else None
            for edge in edges
        ]
        w = G.mapping(self.draws.normal("noise", 2 * n, self.config.latent))
        first, second = w[:n], w[n:]
        with torch.no_grad():
            G.w_mean += (1 - self.config.mean_decay) * (first.mean(0) - G.w_mean)
        mixed = self.draws.uniform("mixing", n) < self.config.mixing
        cut = torch.where(mixed, 1 + self.draws.integers("mixing", layers - 1, n), layers)
        early = torch.arange(layers) < cut[:, None]
        styles = torch.where(early[:, :, None], first[:, None], second[:, None])
        return G.synthesis(styles, noise, level)

    def shown(self, x, level: float):
        for _ in range(self.growth.last - math.ceil(level)):
            x = half(x)
        weight = level - math.floor(level)
        return weight * x + (1 - weight) * twice(half(x)) if weight else x

    def update(self, batches: Iterator[tuple]) -> Report:
        D, smaller = self.discriminator, self.growth.last - math.ceil(self.growth.level())
        x = torch.cat([next(batches)[0] for _ in range(2**smaller)])
        self.growth.shown += len(x)
        level = self.growth.level()
        x = self.shown(x, level).requires_grad_(True)
        with torch.no_grad():
            fake = self.made(len(x), level)
        real_logits, fake_logits = D(x, level), D(fake, level)
        (slopes,) = torch.autograd.grad(real_logits.sum(), x, create_graph=True)
        penalty = slopes.square().sum((1, 2, 3)).mean()
        loss_d = on_real(real_logits) + on_fake(fake_logits) + self.config.r1 / 2 * penalty
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()

        loss_g = on_real(D(self.made(len(x), level), level))
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "penalty": penalty,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
            "level": level,
        }


def make(spec, config, draws: Draws) -> Training:
    """For square images in [-1, 1] with an edge of 8, 16, ..., by the settings of `config`."""
    colours, size = spec.shape[:2]
    edges = [4]
    while edges[-1] < size:
        edges.append(2 * edges[-1])
    widths = [min(config.width * size // edge, config.max_width) for edge in edges]
    growth = Growth(edges.index(config.start), len(edges) - 1, config.stable_images, config.fade_images)
    return Training(
        Generator(colours, widths, config), Discriminator(colours, widths), growth, draws, config
    )
