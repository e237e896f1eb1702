"""What every GAN draws: real batches, noise, and samples of the averaged generator.

Noise is drawn on the host in float64 and rounded to the networks' dtype, so that one seed means the same noise on every device.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scratchgan import nn
from scratchgan.backend import to_host, xp
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor


def constant(array: np.ndarray, network: nn.Module) -> Tensor:
    """A host array as a Tensor without gradient, in the dtype and on the device of the network's weights."""
    weight = next(network.parameters())._array
    return Tensor(xp(weight).asarray(array, dtype=weight.dtype))


def real(batches: Iterator[tuple[np.ndarray, np.ndarray | None]], network: nn.Module) -> Tensor:
    """The samples of the next batch; its labels are left aside."""
    x, _ = next(batches)
    return constant(x, network)


def generate(generator: nn.Module, z: np.ndarray) -> np.ndarray:
    """G(z) on the host, with nothing recorded; the averaged generator is in evaluation mode already."""
    with no_grad():
        return to_host(generator(constant(z, generator))._array)
