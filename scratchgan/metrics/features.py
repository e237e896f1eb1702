"""What metrics see of samples: extractors, arrays (N, *shape) in and features (N, D) out, a digit classifier.

    get("digits")       the classifier's penultimate layer: greyscale pictures
    get("random")       random convolutions: any pictures
    get("pixels")       the values themselves: anything
    Extractor("mine", function)                  any function of arrays

Samples are in the range of the data: images (N, C, H, W) in [-1, 1], points (N, D). An extractor knows
nothing of a batch but its single samples, in evaluation mode: the features of a sample do not depend on the
others. Networks run on the host.

Weights of the classifier come with the package (`WEIGHTS`), whose metadata say what made them.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from scratchgan import functional as F
from scratchgan import nn
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.metrics.fitting import answers, own_streams
from scratchgan.nets.classifier import EDGE, Classifier
from scratchgan.recording import no_grad
from scratchgan.settings import nearest
from scratchgan.tensor import Tensor

WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
GREY = 4 / 127.5            # how far apart channels of a grey picture may be, in [-1, 1]: JPEG's rounding
RANDOM_SEED = 20140605
RANDOM_WIDTHS = (32, 64, 64)


class Extractor:
    """A named function of samples (N, *shape) that answers features (N, D), float32.

    Calling it raises ValueError for no samples, samples with NaN or infinity, and where `function` returns
    anything but one finite row of numbers for each sample.
    """

    def __init__(self, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.name, self._function = name, function

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        samples = _checked(self.name, samples)
        features = np.asarray(self._function(samples))
        if features.ndim != 2 or len(features) != len(samples) or features.dtype.kind not in "fiu":
            raise ValueError(f"{self.name}: features have dtype {features.dtype} and shape {features.shape}, "
                             f"expected numbers of shape ({len(samples)}, D)")
        if not np.isfinite(features).all():
            raise ValueError(f"{self.name}: features hold NaN or infinity, expected finite numbers")
        return features.astype(np.float32, copy=False)

    def __repr__(self) -> str:
        return f"Extractor({self.name!r})"


def _checked(name: str, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim < 2 or samples.size == 0 or samples.dtype.kind not in "fiu":
        raise ValueError(f"{name}: samples have dtype {samples.dtype} and shape {samples.shape}, "
                         "expected numbers of shape (N, *shape), none of it 0")
    samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: samples hold NaN or infinity, expected finite numbers")
    return samples


def get(name: str) -> Extractor:
    """The extractor of a name. Raises UserError, with the nearest name, for an unknown one."""
    extractors = {"digits": _digits, "random": random_features, "pixels": pixels}
    if name not in extractors:
        raise UserError(f"{name!r} is no feature extractor{nearest(name, extractors)} "
                        f"(extractors: {', '.join(extractors)})")
    return Extractor(name, extractors[name])


def default_extractor(spec: Spec) -> Extractor:
    """Digits for pictures of one channel, random convolutions for others, the values themselves for
    points."""
    if len(spec.shape) != 3:
        return get("pixels")
    return get("digits" if spec.shape[0] == 1 else "random")


# Values

def pixels(samples: np.ndarray) -> np.ndarray:
    """The values of a sample in a row: (N, *shape) -> (N, D)."""
    return samples.reshape(len(samples), -1)


# Random convolutions

class RandomFeatures(nn.Module):
    """Images (N, C, H, W) -> (N, 256): three times a 3x3 convolution that keeps the size, to 32, 64 and 64
    channels, ReLU, and means over 2x2 pixels while there are two; then means over the four quarters.

    Weights are orthogonal with gain sqrt(2), which keeps the variance through ReLU, there are no biases.
    Random weights keep enough of a picture to tell distributions apart (Saxe et al. 2011, "On random weights
    and unsupervised feature learning"), without the bias of any training data.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.ModuleList()
        for width in RANDOM_WIDTHS:
            layer = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
            self.layers.append(layer)
            channels = width

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
            if min(x.shape[2:]) > 1:
                x = F.avg_pool2d(x, 2)
        return F.adaptive_avg_pool2d(x, 2).reshape(len(x), -1)


@lru_cache(maxsize=8)
def _random_network(channels: int) -> RandomFeatures:
    with own_streams(RANDOM_SEED):
        return RandomFeatures(channels).requires_grad_(False).eval()


def random_features(images: np.ndarray) -> np.ndarray:
    """`RandomFeatures` with weights of one fixed seed. Raises UserError for samples that are no images."""
    if images.ndim != 4:
        raise UserError(f"random: samples have shape {images.shape[1:]}, expected images (C, H, W)")
    return answers(_random_network(images.shape[1]), images)


# Digits

def framed(images: np.ndarray) -> np.ndarray:
    """Digits (N, 1, H, W) or (N, 3, H, W) as the classifier reads them: (N, 1, 32, 32), float32.

    32x32 is left as it is; any other size is resized to 28x28, bilinearly (when it shrinks, by means over the
    larger area), and framed by 2 pixels of background, as the data's own 28x28 are. Three channels have to
    be equal, as those of a grey picture in a file are.
    Raises UserError for samples that are no images, or coloured ones.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(f"digits: samples have shape {images.shape[1:]}, "
                        "expected greyscale images (1, H, W), or (3, H, W) with equal channels")
    if images.shape[1] == 3:
        if np.ptp(images, axis=1).max() > GREY:
            raise UserError("digits: images are coloured, expected greyscale ones")
        images = images.mean(axis=1, keepdims=True)
    if images.shape[2:] == (EDGE, EDGE):
        return np.asarray(images, np.float32)
    x = Tensor(np.ascontiguousarray(images, np.float32))
    inner = EDGE - 4
    with no_grad():
        if x.shape[2:] != (inner, inner):
            x = F.interpolate(x, (inner, inner), mode="bilinear", antialias=True)
        return F.pad(x, (2, 2, 2, 2), value=-1.0)._array


class DigitClassifier:
    """The digits 0..9 in pictures: `probabilities` and `features` of images as `framed` takes them.

    It has learnt the training sides of mnist5k and of digits. Of held-out digits of mnist5k it knows 99 % at
    16x16 and above, 97 % at 8x8; of those of digits, another hand's, which fill their 8x8 pixels, 99 %.
    """
    name = "digits"
    classes = 10

    def __init__(self, network: Classifier) -> None:
        self._network = network.requires_grad_(False).eval()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(N, 10), float32, each row a distribution."""
        logits = self._answers(self._network, images)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def features(self, images: np.ndarray) -> np.ndarray:
        """(N, 64), float32, at least 0."""
        return self._answers(self._network.features, images)

    def labels(self, images: np.ndarray) -> np.ndarray:
        """(N,) int64: the most probable digit."""
        return self._answers(self._network, images).argmax(axis=1)

    def _answers(self, function: Callable[[Tensor], Tensor], images: np.ndarray) -> np.ndarray:
        return answers(function, framed(_checked(self.name, images)))


@lru_cache(maxsize=1)
def classifier() -> DigitClassifier:
    """The classifier whose weights come with the package. Raises UserError where they are missing or
    damaged."""
    with own_streams(0):
        network = Classifier()
    network.load_state_dict(read_weights(WEIGHTS)[0])
    return DigitClassifier(network)


def default_classifier(spec: Spec) -> DigitClassifier:
    """`classifier()` for pictures of one channel; UserError for other data."""
    if len(spec.shape) != 3 or spec.shape[0] != 1:
        raise UserError(f"digits: samples have shape {spec.shape}, expected greyscale images (1, H, W)")
    return classifier()


def _digits(images: np.ndarray) -> np.ndarray:
    return classifier().features(images)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a safetensors file, float16 as float32. Raises UserError for one that cannot be
    read."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: weights of the digit classifier cannot be read: {error}") from error
    return {k: a.astype(np.float32) if a.dtype == np.float16 else a for k, a in arrays.items()}, metadata
