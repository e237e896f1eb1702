"""Whole training steps by Triton's kernels: they report what the same step reports by the references."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan import gans
from scratchgan.backend import Streams
from scratchgan.data import Spec
from scratchgan.kernels import dispatch
from scratchgan.precision import LossScale, half_dtype, half_products

SMALL = {"size": 8, "batch_size": 4}
SETTINGS = {
    "gan": {"g_widths": (8, 8, 8), "d_widths": (8, 8, 8), "d_dropout": 0.0},
    "dcgan": {"size": 16, "g_width": 4, "d_width": 4},
    "wgan_gp": {"size": 16, "g_width": 4, "d_width": 4, "n_critic": 1},
    "stylegan": {"width": 4, "max_width": 4, "latent": 4, "mapping_layers": 1, "start": 4},
    "stylegan2": {"g_width": 4, "d_width": 4, "max_width": 4, "latent": 4, "mapping_layers": 1},
}


def first_step(name: str, device: str, half: str | None = None) -> dict[str, float]:
    settings = {**SMALL, **SETTINGS[name]}
    gan = gans.get(name)(Spec((1, settings["size"], settings["size"]), -1.0, 1.0), gans.configure(name, **settings), Streams(0), device)
    stream = np.random.default_rng(1)
    shape = (settings["batch_size"], 1, settings["size"], settings["size"])
    batches = iter([(stream.uniform(-1, 1, shape).astype(np.float32), None) for _ in range(10)])
    with half_products(half and half_dtype(half), LossScale(64.0) if half == "float16" else None):
        return gan.step(batches)


@pytest.mark.parametrize("on, half", [
    ("interpreter", None), ("interpreter", "float16"),      # which cannot multiply bfloat16
    *(pytest.param("cuda", half, marks=pytest.mark.gpu) for half in (None, "float16", "bfloat16")),
])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_step_is_that_of_the_references(on, name, half, monkeypatch):
    expected = first_step(name, "cpu")
    if on == "interpreter":     # host arrays go where those of a GPU would
        monkeypatch.setattr(dispatch, "on_gpu", lambda array: True)
    found = first_step(name, "cpu" if on == "interpreter" else "cuda", half)
    digits = {None: 1e-3, "float16": 0.03, "bfloat16": 0.1}[half]
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key] == pytest.approx(expected[key], rel=digits, abs=digits), key
