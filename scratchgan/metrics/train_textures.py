"""Train the feature network whose weights this package ships: python -m scratchgan.metrics.train_textures

It learns to say of 32x32 windows which of scikit-image's pictures of textures and the like they are from,
and whether they are sharp, blurred (shrunk by 4 and enlarged again, bicubically) or noisy. None of these
pictures is among the data `photographs`, so features of a photograph held out there are those of something
unseen. A fifth of each picture, its right edge, judges the network once. Windows are mirrored and turned;
grey ones are tinted, coloured ones exchange channels; contrast and brightness vary. Weights are rounded to
float16, as they are shipped. The file's metadata hold the command and the accuracy.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors

from scratchgan import functional as F
from scratchgan import storage
from scratchgan.backend import to_host
from scratchgan.data.images import to_unit
from scratchgan.data.photographs import photograph
from scratchgan.data.seeds import generator
from scratchgan.metrics.fitting import accuracy, answers, fit, own_streams
from scratchgan.metrics.perceptual import MAPS, WEIGHTS
from scratchgan.nets.textures import Textures, maps

COMMAND = "python -m scratchgan.metrics.train_textures"
PICTURES = ("brick.png", "camera.png", "cell.png", "coins.png", "grass.png", "gravel.png",
            "hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg", "text.png")
KINDS = 3                   # of each picture: sharp, blurred, noisy
EDGE, WINDOWS, JUDGED = 32, 600, 99       # pixels; windows of a picture to learn from and to judge by
HELD_OUT = 0.2              # share of each picture's width
NOISE = 0.15                # standard deviation, in [-1, 1]
CONTRAST, TINT, SHIFT = (0.6, 1.0), 0.3, 0.2


def windows(random: np.random.Generator, count: int, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 3, 32, 32) in [-1, 1], labels (N,)): `count` windows of each picture, a third of each
    kind."""
    images, labels = [], []
    for number, file in enumerate(PICTURES):
        picture = photograph(file)
        height, width = picture.shape[1:]
        cut = int(width * (1 - HELD_OUT))
        low, high = (cut, width - EDGE) if held_out else (0, cut - EDGE)
        rows, columns = random.integers(0, height - EDGE + 1, count), random.integers(low, high + 1, count)
        patches = to_unit(np.stack([picture[:, y:y + EDGE, x:x + EDGE] for y, x in zip(rows, columns)]))
        kinds = np.arange(count) % KINDS
        images.append(_of_kinds(_coloured(patches, random), kinds, random))
        labels.append(KINDS * number + kinds)
    return np.concatenate(images).astype(np.float32), np.concatenate(labels)


def _coloured(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each image with channels exchanged, tinted, and of other contrast and brightness."""
    n = len(x)
    order = random.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    x = np.take_along_axis(x, order[:, :, None, None], axis=1)
    gain = random.uniform(*CONTRAST, (n, 1, 1, 1)) * random.uniform(1 - TINT, 1, (n, 3, 1, 1))
    return (gain * x + random.uniform(-SHIFT, SHIFT, (n, 3, 1, 1))).clip(-1, 1)


def _of_kinds(x: np.ndarray, kinds: np.ndarray, random: np.random.Generator) -> np.ndarray:
    blurred, noisy = kinds == 1, kinds == 2
    small = F.interpolate(x[blurred], scale_factor=0.25, mode="bicubic", antialias=True)
    x[blurred] = F.interpolate(small, scale_factor=4, mode="bicubic", antialias=True)
    x[noisy] += random.normal(0, NOISE, x[noisy].shape)
    return x.clip(-1, 1)


def turned(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A batch mirrored or not, and turned by one of the four quarters."""
    x = np.rot90(x, random.integers(4), axes=(2, 3))
    return np.ascontiguousarray(x[..., ::-1] if random.random() < 0.5 else x)


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int, seed: int, progress: bool) -> Textures:
    """The network, its weights rounded to float16."""
    with own_streams(seed):
        network = Textures(KINDS * len(PICTURES))
        network = fit(network, images, labels, epochs=epochs, seed=seed, augment=turned, progress=progress)
    return network.to(dtype=np.float16).to(dtype=np.float32)


def main(argv: list[str] | None = None) -> int:
    """Train, print the accuracy on held-out windows and write the weights."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the file of weights to write")
    arguments = parser.parse_args(argv)
    images, labels = windows(generator(arguments.seed, "windows"), WINDOWS, held_out=False)
    network = train(images, labels, epochs=arguments.epochs, seed=arguments.seed, progress=True)
    score = accuracy(network, *windows(generator(arguments.seed, "judged"), JUDGED, held_out=True))
    arrays = {key: to_host(tensor._array).astype(np.float16) for key, tensor in network.state_dict().items()}
    # The root mean square of each map over the sharp windows: what features are divided by.
    sharp = images[labels % KINDS == 0]
    for i in range(MAPS):
        values = answers(lambda x, i=i: (maps(network.blocks, x)[i] ** 2).mean((1, 2, 3)), sharp)
        arrays[f"scale.{i}"] = np.array(np.sqrt(values.mean(dtype=np.float64)), np.float32)
    metadata = {"command": f"{COMMAND} --epochs {arguments.epochs} --seed {arguments.seed}",
                "held_out_accuracy": f"{score:.4f}", "classes": str(KINDS * len(PICTURES))}
    storage.write_atomically(arguments.out, safetensors.save(arrays, metadata))
    print(f"{score:.2%} of the held-out windows of {len(PICTURES)} pictures, {KINDS} kinds each")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
