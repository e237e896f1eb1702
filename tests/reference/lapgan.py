"""Denton, Chintala, Szlam and Fergus 2015 (arXiv 1506.05751) in PyTorch: one conditional GAN for each level
of a Laplacian pyramid, trained on the pyramids of the examples.

Section 2.3 and 3.1: D_k sees the low-pass image added to the band; noise is one more plane beside it; at the
coarsest level, a GAN of dense layers. The class, where it is told, becomes a plane by a linear layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import interpolate, one_hot

from tests.reference import Average, Draws, Parts, Report
from tests.reference.gan import on_fake, on_real


def coarser(image: torch.Tensor, edge: int) -> torch.Tensor:
    return interpolate(image, (edge, edge), mode="bilinear", antialias=True)


def smoother(image: torch.Tensor, edge: int) -> torch.Tensor:
    return interpolate(image, (edge, edge), mode="bilinear")


class Plane(nn.Module):
    """The class as a map."""

    def __init__(self, classes: int, edge: int):
        super().__init__()
        self.linear, self.edge = nn.Linear(classes, edge**2), edge

    def forward(self, c):
        return self.linear(c).relu().unflatten(1, (1, self.edge, self.edge))


class BandGenerator(nn.Module):
    """(z, l, c) -> band."""

    def __init__(self, colours: int, edge: int, width: int, kernels, classes: int, norm: bool, clamped: bool):
        super().__init__()
        self.edge, self.clamped = edge, clamped
        self.plane = Plane(classes, edge) if classes else None
        self.layers = nn.Sequential()
        fan_in = colours + 1 + (1 if classes else 0)
        for kernel in kernels[:-1]:
            self.layers.append(nn.Conv2d(fan_in, width, kernel, padding="same", bias=not norm))
            if norm:
                self.layers.append(nn.BatchNorm2d(width))
            self.layers.append(nn.ReLU())
            fan_in = width
        self.layers.append(nn.Conv2d(fan_in, colours, kernels[-1], padding="same"))

    def forward(self, z, low, c):
        planes = [low, z.unflatten(1, (1, self.edge, self.edge))]
        if c is not None:
            planes.append(self.plane(c))
        band = self.layers(torch.cat(planes, 1))
        return (low + band).clamp(-1, 1) - low if self.clamped else band


class BandDiscriminator(nn.Module):
    """(band, l, c) -> logit."""

    def __init__(self, colours, edge: int, width: int, padding: int, classes: int, dropout: float, apart: bool):
        super().__init__()
        self.plane, self.apart = Plane(classes, edge) if classes else None, apart
        fan_in = colours * (2 if apart else 1) + (1 if classes else 0)
        after = (edge - 4 + 2 * padding - 3) // 2
        self.layers = nn.Sequential(
            nn.Conv2d(fan_in, width, 5),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, 2, padding),
            nn.ReLU(),
            nn.Flatten(),
        )
        if dropout:
            self.layers.append(nn.Dropout(dropout))
        self.layers.append(nn.Linear(width * after**2, 1))

    def forward(self, band, low, c):
        seen = torch.cat([band, low], 1) if self.apart else band + low
        if c is not None:
            seen = torch.cat([seen, self.plane(c)], 1)
        return self.layers(seen).flatten()


def dense(fan_in: int, widths, fan_out: int, activation, norm: bool, dropout: float) -> nn.Module:
    """Hidden layers with normalisation, activation and dropout, then a linear layer; its keys are
    body.layers.N.
    """
    layers = nn.Sequential()
    for width in widths:
        layers.append(nn.Linear(fan_in, width, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(activation())
        if dropout:
            layers.append(nn.Dropout(dropout))
        fan_in = width
    layers.append(nn.Linear(fan_in, fan_out))
    return nn.ModuleDict({"body": nn.ModuleDict({"layers": layers})})


class Levels(nn.Module):
    """One player of each level, finest first."""

    def __init__(self, levels):
        super().__init__()
        self.levels = nn.ModuleList(levels)


class Training(Parts):
    """All levels in turn, each on its own part of the same pyramids."""

    def __init__(self, spec, config, draws: Draws):
        colours, edge, _ = spec.shape
        self.edges, self.draws, self.latent = (edge, *config.edges), draws, config.latent
        self.often = [config.updates[min(k, len(config.updates) - 1)] for k in range(len(self.edges))]
        self.classes = spec.classes if config.class_conditional else 0
        *fine, last = self.edges
        pixels = colours * last**2
        self.generator = Levels(
            [
                *(
                    BandGenerator(
                        colours,
                        e,
                        config.g_width,
                        config.g_kernels,
                        self.classes,
                        config.g_norm,
                        config.g_bounded,
                    )
                    for e in fine
                ),
                dense(
                    config.latent + self.classes, config.coarse_g_widths, pixels, nn.ReLU, config.coarse_g_norm, 0
                ),
            ]
        )
        self.discriminator = Levels(
            [
                *(
                    BandDiscriminator(
                        colours, e, config.d_width, config.d_padding, self.classes, config.d_dropout,
                        config.d_joined,
                    )
                    for e in fine
                ),
                dense(
                    pixels + self.classes,
                    config.coarse_d_widths,
                    1,
                    lambda: nn.LeakyReLU(0.2),
                    False,
                    config.d_dropout,
                ),
            ]
        )
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=config.lr, betas=config.betas)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=config.lr, betas=config.betas)
        self.ema = Average(self.generator, config.ema_decay)

    def make(self, k: int, z, low, c):
        """The band of level k, or the image of the last one."""
        level = self.generator.levels[k]
        if low is not None:
            return level(z, low, c)
        image = level["body"]["layers"](z if c is None else torch.cat([z, c], 1)).tanh()
        return image.unflatten(1, (-1, self.edges[-1], self.edges[-1]))

    def judge(self, k: int, band, low, c):
        level = self.discriminator.levels[k]
        if low is not None:
            return level(band, low, c)
        flat = band.flatten(1)
        return level["body"]["layers"](flat if c is None else torch.cat([flat, c], 1)).flatten()

    def update(self, batches: Iterator[tuple]) -> Report:
        """Level k is updated `often[k]` times; before the last time it does so along with coarser ones
        alone.
        """
        for left in reversed(range(max(self.often))):
            report = self.round([k for k, often in enumerate(self.often) if often > left], batches)
        self.ema.update()
        return report

    def round(self, trained: list[int], batches: Iterator[tuple]) -> Report:
        x, y = next(batches)
        c = one_hot(y, self.classes).to(x) if self.classes else None
        sizes = [*(e * e for e in self.edges[:-1]), self.latent]
        report, logits, total_d, total_g = {}, ([], []), 0.0, 0.0
        self.optimizer_d.zero_grad()
        made, image = [], x
        for k, edge in enumerate(self.edges):
            if edge == self.edges[-1]:
                low, band = None, image
            else:
                image_below = coarser(image, self.edges[k + 1])
                low = smoother(image_below, edge)
                band, image = image - low, image_below
            if k not in trained:
                continue
            z = self.draws.uniform("noise", len(x), sizes[k], low=-1.0)
            fake = self.make(k, z, low, c)
            real_logits, fake_logits = self.judge(k, band, low, c), self.judge(k, fake.detach(), low, c)
            loss = on_real(real_logits) + on_fake(fake_logits)
            loss.backward()
            report[f"loss_d_{edge}"] = loss.detach()
            total_d += loss.detach()
            logits[0].append(real_logits)
            logits[1].append(fake_logits)
            made.append((k, fake, low))
        self.optimizer_d.step()
        self.optimizer_g.zero_grad()
        for k, fake, low in made:
            loss = on_real(self.judge(k, fake, low, c))
            loss.backward()
            total_g += loss.detach()
        self.optimizer_g.step()
        means = [torch.cat(side).sigmoid().mean() for side in logits]
        return {"loss_d": total_d, "loss_g": total_g, "d_real": means[0], "d_fake": means[1], **report}


def make(spec, config, draws: Draws) -> Training:
    """For square images in [-1, 1], by the settings of `config`."""
    return Training(spec, config, draws)
