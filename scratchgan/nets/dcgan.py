"""The convolutional backbone of Radford et al. 2016 (arXiv 1511.06434), for square images of several sizes.

The paper draws it for 64x64: four strided convolutions between the image and a base of 4x4. Here the size is
halved until it is at most 7, so 8, 32 and 64 pixels have a base of 4x4, and 28 pixels one of 7x7.
"""
from __future__ import annotations

from itertools import pairwise

from scratchgan import nn
from scratchgan.errors import UserError
from scratchgan.tensor import Tensor

MAX_BASE = 7


def geometry(shape: tuple[int, ...]) -> tuple[int, int]:
    """(base, halvings) of images (C, H, W): H = W = base * 2**halvings, base <= 7. Raises UserError for
    shapes that have none."""
    if len(shape) != 3 or shape[1] != shape[2]:
        raise UserError(f"dcgan networks: data of shape {tuple(shape)}, expected square images (C, H, W)")
    base, halvings = shape[1], 0
    while base > MAX_BASE and base % 2 == 0:
        base, halvings = base // 2, halvings + 1
    if base > MAX_BASE or halvings == 0:
        raise UserError(f"dcgan networks: images of {shape[1]} pixels cannot be halved down to at most "
                        f"{MAX_BASE}, expected a size such as 8, 28, 32 or 64")
    return base, halvings


class Generator(nn.Module):
    """z (N, latent) -> images (N, *shape) in [-1, 1].

    z is projected to base x base with width * 2**(halvings - 1) channels; each transposed convolution then
    doubles the size and halves the channels, down to `width` before the last. Batch normalisation and ReLU
    follow each but the last, which ends in tanh.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], width: int):
        super().__init__()
        base, halvings = geometry(shape)
        channels = [width * 2**i for i in reversed(range(halvings))]
        layers = [nn.ConvTranspose2d(latent, channels[0], base, bias=False),
                  nn.BatchNorm2d(channels[0]), nn.ReLU()]
        for above, below in pairwise(channels):
            layers += [nn.ConvTranspose2d(above, below, 4, stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(below), nn.ReLU()]
        layers += [nn.ConvTranspose2d(width, shape[0], 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z.reshape(*z.shape, 1, 1))


class Discriminator(nn.Module):
    """Images (N, *shape) -> one logit each (N,): the generator's mirror image, with LeakyReLU(0.2).

    `norm` puts batch normalisation after each convolution but the first and the last; the layers it
    follows have no bias then.
    """

    def __init__(self, shape: tuple[int, ...], width: int, *, norm: bool):
        super().__init__()
        base, halvings = geometry(shape)
        channels = [width * 2**i for i in range(halvings)]
        layers = [nn.Conv2d(shape[0], width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for above, below in pairwise(channels):
            layers += [nn.Conv2d(above, below, 4, stride=2, padding=1, bias=not norm),
                       *([nn.BatchNorm2d(below)] if norm else []), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, base))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(-1)
