"""A small network in the manner of VGG, whose features tell textures apart and sharp ones from blurred
ones."""
from __future__ import annotations

from itertools import pairwise

from scratchgan import functional as F
from scratchgan import nn
from scratchgan.tensor import Tensor

WIDTHS = (16, 32, 64)


def maps(blocks: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """The maps (N, widths[i], H / 2^i, W / 2^i) at the end of each block, none below 0, of pictures (N, 1 or
    3, H, W)."""
    x = F.expand(x, -1, 3, -1, -1) if x.shape[1] == 1 else x
    found: list[Tensor] = []
    for block in blocks:
        found.append(block(F.max_pool2d(found[-1], 2) if found else x))
    return found


class Textures(nn.Module):
    """Images (N, 1 or 3, H, W) in [-1, 1] -> logits (N, classes).

    Blocks of two 3x3 convolutions with ReLU, with the maximum over 2x2 pixels between blocks; then the mean
    over the image and a linear layer. A grey image is read as three equal channels.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.blocks = nn.ModuleList()
        for fan_in, fan_out in pairwise([3, *widths]):
            self.blocks.append(nn.Sequential(nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(),
                                             nn.Conv2d(fan_out, fan_out, 3, padding=1), nn.ReLU()))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(maps(self.blocks, x)[-1].mean((2, 3)))
