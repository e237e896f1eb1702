"""The GANs, one file per paper. `get("wgan-gp")` is the class, `configure("gan", data="ring")` its settings
for that data.

A GAN is made from a `data.Spec`, its `Config` and random streams. `step(batches)` is one iteration of the
paper's algorithm, `sample(n)` draws from the averaged generator, and `parts()` names everything whose state a
checkpoint must hold. For diagnosis, `players()` names each network that learns with its optimiser, and
`logits(x)` is what D says of samples.
"""
from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from scratchgan.data import holds_points
from scratchgan.errors import UserError

CLASSES = {                                                         # file: the class in it
    "gan": "GAN", "cgan": "CGAN", "lapgan": "LAPGAN", "dcgan": "DCGAN", "srgan": "SRGAN", "wgan": "WGAN",
    "wgan_gp": "WGANGP", "stylegan": "StyleGAN", "stylegan2": "StyleGAN2"}


def names() -> list[str]:
    """The names of the GANs, in the order of their papers."""
    return list(CLASSES)


def canonical(name: str) -> str:
    """`name` as in `names()`: hyphens and case make no difference. Raises UserError, with the nearest name,
    for an unknown GAN."""
    wanted = name.lower().replace("-", "_")
    if wanted not in CLASSES:
        near = difflib.get_close_matches(wanted, CLASSES, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name!r} is no GAN{hint} (GANs: {', '.join(CLASSES)})")
    return wanted


def get(name: str) -> type:
    """The class of a GAN; `name` as in `canonical`."""
    module = canonical(name)
    return getattr(import_module(f"{__name__}.{module}"), CLASSES[module])


def configure(name: str, **given: Any) -> Any:
    """The Config of a GAN for the data in `given` or else its own: the GAN's `presets` for that data by name,
    or else for "points", under what is given."""
    gan = get(name)
    wanted = given.get("data", gan.config_class.data)
    general = gan.presets.get("points", {}) if holds_points(wanted) else {}
    preset = gan.presets.get(wanted, general)
    return gan.config_class(**{**preset, **given})
