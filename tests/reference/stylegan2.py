"""Karras, Laine, Aittala, Hellsten, Lehtinen and Aila 2020 (arXiv 1912.04958) in PyTorch: networks and training.

Every image is convolved with weights of its own, which are modulated and demodulated as equations (1) and (3)
say, by a convolution with as many groups as images; `grouped=False` scales inputs and outputs instead, for
comparisons of speed. Filters are 4 x 4 convolutions of each channel by itself. Mapping network, equalised
layers and minibatch deviation are those of StyleGAN.
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
from tests.reference.stylegan import ROOT, Conv, Dense, Mapping, Scaled, act, deviation_map


def filtered(x, gain: float = 1.0):
    """Every channel with the filter of 4 x 4 taps, as far as it fits."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = (gain * taps[:, None] * taps / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, groups=x.shape[1])


def twice(x):
    """Zeros after each pixel, then the filter, which makes up for them."""
    n, c, h, w = x.shape
    sparse = torch.zeros(n, c, h, 2, w, 2, dtype=x.dtype)
    sparse[:, :, :, 0, :, 0] = x
    return filtered(F.pad(sparse.reshape(n, c, 2 * h, 2 * w), (2, 1, 2, 1)), 4.0)


class Modulated(Scaled):
    """Weights of its own for each image; `up` inserts zeros before the convolution and filters after it."""

    def __init__(self, above: int, below: int, kernel: int, latent: int, demodulate: bool, up: bool = False):
        super().__init__(below, above, kernel, kernel, bias=False)
        self.demodulate, self.up, self.grouped = demodulate, up, True
        self.affine = Dense(above, latent)
        nn.init.ones_(self.affine.bias)

    def forward(self, x, w):
        style = self.affine(w)
        return self.with_own_weights(x, style) if self.grouped else self.with_scaled_images(x, style)

    def with_own_weights(self, x, style):
        n, c = x.shape[:2]
        weights = self.w()[None] * style[:, None, :, None, None]  # (1)
        if self.demodulate:
            weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()  # (3)
        k = weights.shape[1]
        weights = (weights.transpose(1, 2) if self.up else weights).flatten(0, 1)
        x = self.convolved(x.reshape(1, n * c, *x.shape[2:]), weights, n)
        return x.reshape(n, k, *x.shape[2:])

    def with_scaled_images(self, x, style):
        weights = self.w()
        x = x * style[:, :, None, None]
        x = self.convolved(x, weights.transpose(0, 1) if self.up else weights, 1)
        if not self.demodulate:
            return x
        squares = style.square() @ weights.square().sum((2, 3)).T
        return x / (squares + 1e-8).sqrt()[:, :, None, None]

    def convolved(self, x, weights, groups: int):
        if not self.up:
            return F.conv2d(x, weights, padding=weights.shape[2] // 2, groups=groups)
        x = F.conv_transpose2d(x, weights, stride=2, groups=groups)
        return filtered(F.pad(x, (1, 1, 1, 1)), 4.0)


class Layer(nn.Module):
    def __init__(self, above: int, below: int, latent: int, up: bool = False):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(below))
        self.conv = Modulated(above, below, 3, latent, demodulate=True, up=up)

    def forward(self, x, w, noise):
        return act(ROOT * self.conv(x, w) + self.strength * noise + self.bias[:, None, None])


class ToRGB(nn.Module):
    def __init__(self, channels: int, colours: int, latent: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(colours))
        self.conv = Modulated(channels, colours, 1, latent, demodulate=False)

    def forward(self, x, w):
        return self.conv(x, w) + self.bias[:, None, None]


class Synthesis(nn.Module):
    def __init__(self, colours: int, widths, latent: int, tanh: bool):
        super().__init__()
        self.tanh = tanh
        pairs = list(pairwise(widths))
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = Layer(widths[0], widths[0], latent)
        self.up = nn.ModuleList([Layer(a, b, latent, up=True) for a, b in pairs])
        self.layers = nn.ModuleList([Layer(b, b, latent) for _, b in pairs])
        self.to_rgb = nn.ModuleList([ToRGB(c, colours, latent) for c in widths])

    def forward(self, w, noise):
        """w: a list of (N, latent), one per layer; noise: likewise, one less."""
        w, noise = iter(w), iter(noise)
        x = self.constant.repeat(len(noise_of := next(noise)), 1, 1, 1)
        x = self.first(x, next(w), noise_of)
        style = next(w)
        image = self.to_rgb[0](x, style)
        for up, layer, to_rgb in zip(self.up, self.layers, self.to_rgb[1:]):
            x = up(x, style, next(noise))
            x = layer(x, next(w), next(noise))
            style = next(w)
            image = twice(image) + to_rgb(x, style)
        return image.tanh() if self.tanh else image


class Generator(nn.Module):
    def __init__(self, colours: int, widths, config):
        super().__init__()
        self.mapping = Mapping(config.latent, config.mapping_layers, config.mapping_lr)
        self.synthesis = Synthesis(colours, widths, config.latent, config.tanh)
        self.register_buffer("w_mean", torch.zeros(config.latent))


class Block(nn.Module):
    """Residual: the sum of two paths over sqrt(2). The gain of the rectifier is in the weights."""

    def __init__(self, above: int, below: int):
        super().__init__()
        self.conv = Conv(above, above, 3, 3, gain=ROOT)
        self.down = Conv(below, above, 3, 3)
        self.skip = Conv(below, above, 1, 1, bias=False, gain=1 / ROOT)

    def forward(self, x):
        y = filtered(F.pad(act(self.conv(x)), (2, 2, 2, 2)))
        y = act(F.conv2d(y, self.down.w(), self.down.b(), stride=2))
        return y + self.skip(filtered(F.pad(x, (1, 1, 1, 1)))[:, :, ::2, ::2])


class Discriminator(nn.Module):
    def __init__(self, colours: int, widths):
        super().__init__()
        first, turned = widths[0], widths[::-1]
        self.from_rgb = Conv(turned[0], colours, 1, 1, gain=ROOT)
        self.blocks = nn.ModuleList([Block(a, b) for a, b in pairwise(turned)])
        self.conv = Conv(first, first + 1, 3, 3, gain=ROOT)
        self.dense = Dense(first, 16 * first, gain=ROOT)
        self.out = Dense(1, first)

    def forward(self, image):
        x = act(self.from_rgb(image))
        for block in self.blocks:
            x = block(x)
        x = act(self.conv(deviation_map(x)))
        return self.out(act(self.dense(x.flatten(1)))).flatten()


class State:
    """Steps so far, the average path length, the last R1."""

    def __init__(self):
        self.steps, self.length, self.penalty = 0, 0.0, 0.0

    def follow(self, length: torch.Tensor, decay: float) -> None:
        """Move the average, in its own memory, so that a CUDA graph goes on from where it was."""
        if not isinstance(self.length, torch.Tensor):
            self.length = torch.zeros_like(length)
        self.length.lerp_(length, 1 - decay)


def adam(network: nn.Module, lr: float, betas, interval: int) -> torch.optim.Adam:
    """Appendix B: c = k / (k + 1), c lr, beta to the power c."""
    c = interval / (interval + 1)
    return torch.optim.Adam(network.parameters(), lr=lr * c, betas=(betas[0] ** c, betas[1] ** c))


class Training(Parts):
    """One update of D, one of G, after each k-th one more with the penalty alone, k times as large."""

    PARTS = ("generator", "discriminator", "optimizer_g", "optimizer_d", "ema", "lazy")

    def __init__(self, generator, discriminator, draws: Draws, config):
        self.generator, self.discriminator = generator, discriminator
        self.draws, self.config, self.lazy = draws, config, State()
        self.optimizer_g = adam(generator, config.lr, config.betas, config.path_every)
        self.optimizer_d = adam(discriminator, config.lr, config.betas, config.r1_every)
        self.ema = Average(generator, config.ema_decay)
        self.depth = 2 * len(generator.synthesis.to_rgb)

    def styles(self, n: int) -> list[torch.Tensor]:
        G = self.generator
        w = G.mapping(self.draws.normal("noise", 2 * n, self.config.latent))
        first, second = w[:n], w[n:]
        with torch.no_grad():
            G.w_mean += (1 - self.config.mean_decay) * (first.mean(0) - G.w_mean)
        mixed = self.draws.uniform("mixing", n) < self.config.mixing
        cut = torch.where(mixed, 1 + self.draws.integers("mixing", self.depth - 1, n), self.depth)
        return [torch.where((i < cut)[:, None], first, second) for i in range(self.depth)]

    def noise(self, n: int) -> list[torch.Tensor]:
        edges = [4 * 2 ** ((i + 1) // 2) for i in range(self.depth - 1)]
        return [self.draws.normal("layers", n, 1, edge, edge) for edge in edges]

    def made(self, n: int):
        return self.generator.synthesis(self.styles(n), self.noise(n))

    def path_update(self, n: int) -> None:
        G, config = self.generator, self.config
        w = self.styles(n)
        images = G.synthesis(w, self.noise(n))
        y = self.draws.normal("path", *images.shape) / math.sqrt(images.shape[2] * images.shape[3])
        jacobians = torch.stack(torch.autograd.grad((images * y).sum(), w, create_graph=True), 1)
        lengths = jacobians.square().sum(2).mean(1).sqrt()  # (N, layers, latent) -> (N,)
        count = self.lazy.steps // config.path_every
        decay = min(config.path_decay, count / (count + 9))
        self.lazy.follow(lengths.detach().mean(), decay)
        loss = config.path * (lengths - self.lazy.length).square().mean()
        self.penalised(self.optimizer_g, config.path_every * loss)

    def r1_update(self, x) -> None:
        x = x.clone().requires_grad_(True)
        (slopes,) = torch.autograd.grad(self.discriminator(x).sum(), x, create_graph=True)
        r1 = slopes.square().sum((1, 2, 3)).mean()
        self.lazy.penalty = r1.detach()
        self.penalised(self.optimizer_d, self.config.r1_every * self.config.r1 / 2 * r1)

    @staticmethod
    def penalised(optimizer, loss) -> None:
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    def update(self, batches: Iterator[tuple]) -> Report:
        D, (x, _), lazy = self.discriminator, next(batches), self.lazy
        lazy.steps += 1
        with torch.no_grad():
            fake = self.made(len(x))
        real_logits, fake_logits = D(x), D(fake)
        loss_d = on_real(real_logits) + on_fake(fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward()
        self.optimizer_d.step()
        if lazy.steps % self.config.r1_every == 0:
            self.r1_update(x)

        loss_g = on_real(D(self.made(len(x))))
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        if lazy.steps % self.config.path_every == 0:
            self.path_update(max(1, len(x) // 2))
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "d_real": real_logits.sigmoid().mean(),
            "d_fake": fake_logits.sigmoid().mean(),
            "penalty": lazy.penalty,
            "length": lazy.length,
        }


def make(spec, config, draws: Draws, grouped: bool = True) -> Training:
    """For square images in [-1, 1] with an edge of 8, 16, ..., by the settings of `config`."""
    colours, size = spec.shape[:2]
    edges = [4 * 2**i for i in range(int(math.log2(size)) - 1)]

    def widths(width: int) -> list[int]:
        return [min(width * size // edge, config.max_width) for edge in edges]

    generator = Generator(colours, widths(config.g_width), config)
    for layer in generator.modules():
        if isinstance(layer, Modulated):
            layer.grouped = grouped
    return Training(generator, Discriminator(colours, widths(config.d_width)), draws, config)
