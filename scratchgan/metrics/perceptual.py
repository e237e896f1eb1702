"""How far two pictures are apart in features: a network of ours in the place of VGG.

The network (nets/textures.py) has learnt textures; train_textures.py, which made the weights, says from
what. Of its three maps each is divided by its root mean square over sharp pictures, so a mean squared
feature is about 1, and a difference of 1 as large as the features themselves.
"""
from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from scratchgan import functional as F
from scratchgan import nn
from scratchgan.metrics.checks import check_images
from scratchgan.metrics.features import RANDOM_SEED, read_weights
from scratchgan.metrics.fitting import answers, own_streams
from scratchgan.nets.textures import WIDTHS, Textures, maps
from scratchgan.tensor import Tensor

WEIGHTS = Path(__file__).parent / "weights" / "textures.safetensors"
MAPS = len(WIDTHS)
EPSILON = 1e-10             # beside the squared length of a feature vector
LEAST = 1 << (MAPS - 1)     # pixels of an edge, of which the last map has one


class Features(nn.Module):
    """Images (N, 1 or 3, H, W) in [-1, 1] -> one of the maps, of mean square about 1 over sharp pictures.

    `number`, 1 to 3, counts the blocks before it: VGG's phi_{number,2}. The weights are the package's,
    without gradients.
    """

    def __init__(self, number: int):
        super().__init__()
        network, scales = pretrained()
        self.blocks = nn.ModuleList(network.blocks[:number])
        self.register_buffer("scale", Tensor(np.array(scales[number - 1], np.float32)))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        return maps(self.blocks, x)[-1] / self.scale


def pretrained() -> tuple[Textures, list[float]]:
    """The network with the package's weights, and what each map is divided by. UserError where they are
    missing or damaged."""
    arrays, metadata = read_weights(WEIGHTS)
    scales = [float(arrays.pop(f"scale.{i}")) for i in range(MAPS)]
    with own_streams(0):
        network = Textures(int(metadata["classes"]))
    network.load_state_dict(arrays)
    return network, scales


@lru_cache(maxsize=2)
def _network(name: str) -> Textures:
    if name == "textures":
        return pretrained()[0].requires_grad_(False).eval()
    with own_streams(RANDOM_SEED):
        network = Textures(1)
        for layer in network.blocks.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
                nn.init.zeros_(layer.bias)
    return network.requires_grad_(False).eval()


def feature_distance(x: np.ndarray, y: np.ndarray, network: str = "textures") -> np.ndarray:
    """The distance of each image of x from that of y, (N,), at least 0, at most 12; 0 for equal images.

        d = sum over maps l of the mean over places of ||u_l(x) - u_l(y)||^2

    with u_l the vector of a place's channels, divided by its length: the form of Zhang et al. 2018 ("The
    unreasonable effectiveness of deep features as a perceptual metric", arXiv 1801.03924, equation 1) without
    their weights, which they learned from people's answers.
    x, y: (N, 1 or 3, H, W) in [-1, 1]. network: "textures", or "random" for convolutions of the same shape
    with orthogonal random weights, which no training has seen.
    Raises ValueError for other shapes, edges below 4 pixels, NaN, infinity and another network.
    """
    x, y = (check_images("feature_distance", name, a, LEAST) for name, a in (("x", x), ("y", y)))
    if x.shape != y.shape:
        raise ValueError(f"feature_distance: x has shape {x.shape} and y {y.shape}, expected the same")
    if network not in ("textures", "random"):
        raise ValueError(f"feature_distance: network is {network!r}, expected 'textures' or 'random'")

    def of_pairs(pair: Tensor) -> Tensor:
        return distance(pair[:, 0], pair[:, 1], network)

    return answers(of_pairs, np.stack([x, y], axis=1).astype(np.float32, copy=False)).astype(np.float64)


def distance(x: Tensor, y: Tensor, network: str = "textures") -> Tensor:
    """`feature_distance` as a differentiable function of images (N, 1 or 3, H, W), unchecked: (N,)."""
    blocks = _network(network).blocks
    total = 0.0
    for one, other in zip(maps(blocks, x), maps(blocks, y)):
        total = total + ((_unit(one) - _unit(other)) ** 2).sum(1).mean((1, 2))
    return total


def _unit(x: Tensor) -> Tensor:
    """Each place's vector of channels (N, C, H, W) at length 1, those of length 0 left at 0."""
    return x * F.rsqrt((x * x).sum(1, keepdim=True) + EPSILON)
