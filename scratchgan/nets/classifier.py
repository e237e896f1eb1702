"""A small convolutional classifier of greyscale pictures; metrics read digits with it."""
from __future__ import annotations

from itertools import pairwise

from scratchgan import nn
from scratchgan.tensor import Tensor

EDGE = 32               # of the images it reads, in pixels


class Classifier(nn.Module):
    """Images (N, 1, 32, 32) in [-1, 1] -> logits (N, classes).

    Three times a 3x3 convolution, the maximum over 2x2 pixels, batch normalisation and ReLU, down to 4x4;
    then a linear layer with ReLU, whose outputs are the `features`, and another for the logits.
    """

    def __init__(self, classes: int = 10, widths: tuple[int, ...] = (16, 32, 64), features: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([1, *widths]):
            layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.MaxPool2d(2),
                       nn.BatchNorm2d(fan_out), nn.ReLU()]
        edge = EDGE >> len(widths)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * edge * edge, features),
                                  nn.ReLU())
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer: (N, features), none below 0."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
