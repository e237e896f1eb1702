"""Train the digit classifier whose weights this package ships: python -m scratchgan.metrics.train_classifier

It learns the digits that `Dataset.split(0.1, seed=0)` leaves for training: the 4,500 of mnist5k, the same once
more from 16x16 and from 8x8 pixels, and the 1,617 of digits, another hand that fills its pictures, from 8x8 and
16x16; all moved, turned, sheared, scaled and bent a little anew each time. The held-out ones judge it once.
Weights are rounded to float16 before they are judged, as they are shipped. The file's metadata hold the command
and its accuracies.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors

from scratchgan import data, storage
from scratchgan.backend import to_host
from scratchgan.metrics.features import WEIGHTS, framed
from scratchgan.metrics.fitting import accuracy, fit, own_streams
from scratchgan.nets.classifier import Classifier

COMMAND = "python -m scratchgan.metrics.train_classifier"

SOURCES = (("mnist5k", 28), ("mnist5k", 16), ("mnist5k", 8), ("digits", 8), ("digits", 16))

# Bounds of the random transformations, uniform within.
SHIFT = 2.0                 # pixels
TURN = np.deg2rad(12)
SHEAR = 0.15
SCALE = 1.15                # from 1 / 1.15 to 1.15, in each direction by itself
BEND = 0.7                  # pixels: standard deviation of what each knot of a grid moves
KNOTS = 5                   # of that grid, along each edge


def warped(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images (N, 1, H, W), each read at A p + b + e(p) for every pixel p, bilinearly, with A, b and e of its
    own; outside lies the background -1.

    A is a rotation, a shear and two scalings about the centre, b a shift, and e a smooth field: an elastic
    distortion, as in Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks".
    """
    n, _, height, width = images.shape
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    grid = np.stack([y.ravel(), x.ravel()]) - centre[:, None]
    places = np.einsum("nij,jp->nip", _matrices(n, random), grid)
    places += centre[:, None] + random.uniform(-SHIFT, SHIFT, (n, 2, 1))
    places += _field(n, height, width, random)
    return _read(images[:, 0], places).reshape(images.shape)


def _field(n: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """(n, 2, height * width): knots moved by N(0, BEND^2), and in between Gaussian weights of the knots."""
    knots = random.normal(0, BEND, (n, 2, KNOTS, KNOTS))
    field = np.einsum("yi,ncij,xj->ncyx", _weights(height), knots, _weights(width), optimize=True)
    return field.reshape(n, 2, -1)


def _weights(pixels: int) -> np.ndarray:
    """(pixels, KNOTS), rows that sum to 1."""
    distances = np.linspace(0, KNOTS - 1, pixels)[:, None] - np.arange(KNOTS)
    weights = np.exp(-2 * distances**2)
    return weights / weights.sum(axis=1, keepdims=True)


def _matrices(n: int, random: np.random.Generator) -> np.ndarray:
    """(n, 2, 2): rotation, times shear, times scaling."""
    angle, shear = random.uniform(-TURN, TURN, n), random.uniform(-SHEAR, SHEAR, n)
    scale = np.exp(random.uniform(-np.log(SCALE), np.log(SCALE), (n, 1, 2)))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(n, 2, 2)
    slant = np.zeros((n, 2, 2)) + np.eye(2)
    slant[:, 1, 0] = shear
    return turn @ slant * scale


def _read(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (N, P) of images (N, H, W) at places (N, 2, P) = (row, column), bilinear between pixels."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    row = np.clip(places[:, 0] + 1, 0, height + 1 - 1e-6)
    column = np.clip(places[:, 1] + 1, 0, width + 1 - 1e-6)
    i, j, image = row.astype(int), column.astype(int), np.arange(n)[:, None]
    down, right = row - i, column - j
    above = padded[image, i, j] * (1 - right) + padded[image, i, j + 1] * right
    below = padded[image, i + 1, j] * (1 - right) + padded[image, i + 1, j + 1] * right
    return (above * (1 - down) + below * down).astype(np.float32)


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int, seed: int, progress: bool) -> Classifier:
    """A classifier of images (N, 1, 32, 32), its weights rounded to float16."""
    with own_streams(seed):
        network = Classifier()
        network = fit(network, images, labels, epochs=epochs, seed=seed, augment=warped, progress=progress)
    return network.to(dtype=np.float16).to(dtype=np.float32)


def _framed_sides(source: tuple[str, int]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """((images (N, 1, 32, 32), labels (N,)) to learn, the same held out) of data at a size."""
    sides = data.load(source[0], source[1]).split(0.1, seed=0)
    return tuple((framed(side.get(np.arange(len(side)))), side.labels) for side in sides)


def accuracy_key(name: str, size: int) -> str:
    """Under which the metadata hold the accuracy on the held-out side of data at a size."""
    return f"held_out_accuracy/{name}/{size}"


def main(argv: list[str] | None = None) -> int:
    """Train, print the accuracies on held-out digits and write the weights."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the file of weights to write")
    arguments = parser.parse_args(argv)
    learnt, held_out = zip(*map(_framed_sides, SOURCES))
    images, labels = (np.concatenate(parts) for parts in zip(*learnt))
    network = train(images, labels, epochs=arguments.epochs, seed=arguments.seed, progress=True)
    scores = {source: accuracy(network, *test) for source, test in zip(SOURCES, held_out)}
    arrays = {key: to_host(tensor._array) for key, tensor in network.state_dict().items()}
    arrays = {key: a.astype(np.float16) if a.dtype.kind == "f" else a for key, a in arrays.items()}
    metadata = {"command": f"{COMMAND} --epochs {arguments.epochs} --seed {arguments.seed}",
                **{accuracy_key(*source): f"{score:.4f}" for source, score in scores.items()}}
    storage.write_atomically(arguments.out, safetensors.save(arrays, metadata))
    for (name, size), score in scores.items():
        print(f"{score:.2%} of the held-out digits of {name} at {size}x{size}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
