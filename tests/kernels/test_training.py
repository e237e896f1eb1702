"""Whole training steps by Triton's kernels: in float64 those of PyTorch, in half precision near them."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgan import gans
from scratchgan.backend import Streams, module_of, to_host
from scratchgan.data import Spec
from scratchgan.graph import StepGraphs
from scratchgan.kernels import dispatch, product
from scratchgan.precision import LossScale, half_dtype, half_products
from tests.test_training_steps import CASES, run

SMALL = {"size": 8, "batch_size": 4}
SETTINGS = {
    "dcgan": {"size": 16, "g_width": 4, "d_width": 4},
    "wgan_gp": {"size": 16, "g_width": 4, "d_width": 4, "n_critic": 1},
    "stylegan": {"width": 4, "max_width": 4, "latent": 4, "mapping_layers": 1, "start": 4, "stable_images": 16,
                 "fade_images": 24},
    "stylegan2": {"g_width": 4, "d_width": 4, "max_width": 4, "latent": 4, "mapping_layers": 1},
}


def small(name: str, device: str) -> tuple:
    """(GAN, batches), always the same."""
    settings = {**SMALL, **SETTINGS[name]}
    gan = gans.get(name)(Spec((1, settings["size"], settings["size"]), -1.0, 1.0), gans.configure(name, **settings), Streams(0), device)
    stream = np.random.default_rng(1)
    shape = (settings["batch_size"], 1, settings["size"], settings["size"])
    return gan, iter([(stream.uniform(-1, 1, shape).astype(np.float32), None) for _ in range(20)])


def first_step(name: str, device: str, half: str | None = None) -> dict[str, float]:
    gan, batches = small(name, device)
    with half_products(half and half_dtype(half), LossScale(64.0) if half == "float16" else None):
        return gan.step(batches)


@pytest.mark.parametrize("case", ["dcgan, 8 pixels", "wgan_gp, images", "srgan, as in the paper", "stylegan2, 8 pixels"])
def test_a_step_equals_pytorchs_in_float64(by_triton, case):
    run(*CASES[case], device=by_triton, steps=1)


@pytest.mark.parametrize("by_triton, half", [
    ("interpreter", "float16"),  # which cannot multiply bfloat16
    *(pytest.param("cuda", half, marks=pytest.mark.gpu) for half in (None, "float16", "bfloat16")),
], indirect=["by_triton"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_step_is_near_that_of_the_references(by_triton, name, half):
    found = first_step(name, by_triton, half)
    with dispatch.implementation("ref"):
        expected = first_step(name, "cpu")
    digits = {None: 1e-3, "float16": 0.03, "bfloat16": 0.1}[half]
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key] == pytest.approx(expected[key], rel=digits, abs=digits), key


@pytest.mark.gpu
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("half", [None, "float16"])
def test_steps_as_cuda_graphs_are_the_steps_themselves(name, half):
    reports = []
    for by_graphs in (True, False):
        gan, batches = small(name, "cuda")
        stepping = StepGraphs(gan) if by_graphs else gan
        with half_products(half and half_dtype(half), LossScale(64.0) if half else None):
            reports.append([stepping.step(batches) for _ in range(8)])
        if by_graphs:
            assert stepping.why_not is None and stepping._graphs
    for step, (found, expected) in enumerate(zip(*reports)):
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-2), step


@pytest.mark.parametrize("shapes", [((5, 3), (3, 7)), ((1, 4), (4, 1)), ((6, 5), (2, 5, 3)), ((2, 1), (3, 1, 17)), ((2, 3, 4), (4, 5))])
def test_products_that_can_be_captured(by_triton, monkeypatch, shapes):
    module = module_of(by_triton)
    if by_triton == "cpu":
        monkeypatch.setattr(product, "on_gpu", lambda array: True)
    stream = np.random.default_rng(0)
    a, b = (stream.standard_normal(shape) for shape in shapes)
    with dispatch.capturable():
        y = product.matmul(module.asarray(a), module.asarray(b))
    np.testing.assert_allclose(to_host(y), a @ b, rtol=1e-12, atol=1e-12)
