"""Random generators that depend on a seed and on what they are for, and on nothing else."""
from __future__ import annotations

import operator
import zlib

import numpy as np

from scratchgan.errors import UserError


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator for (seed, purpose, numbers).

    The purpose keeps streams of one seed apart: a model's noise must not repeat that of its training data.
    Raises UserError for a seed that is no integer of at least 0.
    """
    try:
        entropy = operator.index(seed)
    except TypeError:
        entropy = -1
    if entropy < 0:
        raise UserError(f"seed={seed!r}: expected an integer of at least 0")
    return np.random.default_rng([entropy, zlib.crc32(purpose.encode()), *numbers])
