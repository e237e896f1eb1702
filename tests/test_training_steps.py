"""Ten training steps of each GAN in float64 equal an independent PyTorch version's, on every weight, buffer,
average and moment.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratchgan.backend import to_host
from scratchgan.data import Spec
from tests.double import DoubleArray
from tests.twins import IMAGE, POINT, batches, for_torch, twins

STEPS, BATCH, TOLERANCE = 10, 6, 1e-9
SMALL_MLP = {"g_widths": (12, 10), "d_widths": (11, 9), "latent": 5, "d_dropout": 0.0}
SMALL_PYRAMID = {
    "g_width": 3,
    "g_kernels": (3, 5, 3),
    "d_width": 4,
    "latent": 5,
    "coarse_g_widths": (9, 8),
    "coarse_d_widths": (8, 7),
    "updates": (1,),
    "d_dropout": 0.0,
}
SMALL_MAXOUT = {
    "form": "mlp",
    "g_widths": (6, 5, 9),
    "d_widths": (7, 4, 6),
    "d_pieces": (3, 2),
    "latent": 5,
    "dropout": 0.0,
}
SMALL_PLANE = {"g_width": 8, "d_width": 9, "latent": 2}
SMALL_CONV = {"g_width": 4, "d_width": 3, "latent": 5}
SMALL_SUPER = {"blocks": 1, "g_width": 4, "d_width": 2, "d_dense": 5, "pretrain_steps": 0,
               "feature_weight": 0.3, "lr_adversarial": 2e-3, "adversarial_weight": 0.1}
SMALL_STYLE = {"width": 3, "max_width": 5, "latent": 6, "mapping_layers": 2, "start": 4, "noise_from": 4,
               "stable_images": 2 * BATCH, "fade_images": 4 * BATCH}
SMALL_STYLE_2 = {"g_width": 3, "d_width": 2, "max_width": 5, "latent": 6, "mapping_layers": 2,
                 "mapping_lr": 0.1, "r1_every": 3, "path_every": 2, "mean_decay": 0.9}
FAST = {"lr": 2e-3, "ema_decay": 0.8, "batch_size": BATCH}  # so that ten steps go somewhere
CASES = {
    "gan, images": ("gan", Spec((1, 8, 8), *IMAGE), SMALL_MLP),
    "gan, k = 3, saturating": ("gan", Spec((2, 4, 4), *IMAGE), {**SMALL_MLP, "k": 3, "saturating": True}),
    "gan, points": ("gan", Spec((2,), *POINT), {**SMALL_MLP, "g_norm": False}),
    "cgan, images": ("cgan", Spec((1, 8, 8), *IMAGE, classes=4), SMALL_CONV),
    "cgan, 16 pixels in colour": ("cgan", Spec((3, 16, 16), *IMAGE, classes=2), SMALL_CONV),
    "cgan, mlp": ("cgan", Spec((1, 8, 8), *IMAGE, classes=4), SMALL_MAXOUT),
    "cgan, points": ("cgan", Spec((2,), *POINT, classes=8), SMALL_MAXOUT),
    "lapgan, 20 pixels": ("lapgan", Spec((1, 20, 20), *IMAGE), {**SMALL_PYRAMID, "edges": (9, 4)}),
    "lapgan, 16 pixels in colour, as in the paper": (
        "lapgan",
        Spec((3, 16, 16), *IMAGE),
        {**SMALL_PYRAMID, "edges": (8,), "g_norm": False, "coarse_g_norm": False, "g_kernels": (7, 7, 5),
         "d_padding": 0, "g_bounded": False},
    ),
    "lapgan, told the class": (
        "lapgan",
        Spec((1, 16, 16), *IMAGE, classes=4),
        {**SMALL_PYRAMID, "edges": (9, 8), "class_conditional": True, "updates": (1, 2, 4)},
    ),
    "lapgan, told the class, band beside low-pass image": (
        "lapgan",
        Spec((3, 16, 16), *IMAGE, classes=4),
        {**SMALL_PYRAMID, "edges": (9,), "class_conditional": True, "d_joined": True, "coarse_g_norm": False},
    ),
    "dcgan, 8 pixels": ("dcgan", Spec((1, 8, 8), *IMAGE), SMALL_CONV),
    "dcgan, 16 pixels in colour": ("dcgan", Spec((3, 16, 16), *IMAGE), SMALL_CONV),
    "dcgan, 28 pixels": ("dcgan", Spec((1, 28, 28), *IMAGE), SMALL_CONV),
    "srgan, from one phase into the other": (
        "srgan",
        Spec((3, 16, 16), *IMAGE),
        {**SMALL_SUPER, "pretrain_steps": 4, "decay_steps": 3, "feature_map": 3},
    ),
    "srgan, as in the paper": (
        "srgan",
        Spec((1, 8, 8), *IMAGE),
        {**SMALL_SUPER, "scale": 2, "g_kernel": 9, "g_norm": True, "bicubic": False, "pixel_weight": 0.0, "blocks": 2},
    ),
    "wgan, images": ("wgan", Spec((1, 8, 8), *IMAGE), SMALL_CONV),
    "wgan, 16 pixels in colour": (
        "wgan",
        Spec((3, 16, 16), *IMAGE),
        {**SMALL_CONV, "n_critic": 2, "clip": 0.1, "d_norm": False},
    ),
    "wgan, points": ("wgan", Spec((2,), *POINT), {**SMALL_PLANE, "clip": 0.3, "data": "ring"}),
    "wgan_gp, images": ("wgan_gp", Spec((1, 8, 8), *IMAGE), SMALL_CONV),
    "wgan_gp, 16 pixels in colour": (
        "wgan_gp",
        Spec((3, 16, 16), *IMAGE),
        {**SMALL_CONV, "n_critic": 2, "penalty": 3.0},
    ),
    "wgan_gp, points": ("wgan_gp", Spec((2,), *POINT), SMALL_PLANE),
    "wgan_gp, points, scaled": ("wgan_gp", Spec((2,), *POINT), {**SMALL_PLANE, "scale": 2.5}),
    "stylegan, grows from 4 to 8 pixels": ("stylegan", Spec((2, 8, 8), *IMAGE), SMALL_STYLE),
    "stylegan, grows from 8 to 32 pixels": (
        "stylegan",
        Spec((1, 32, 32), *IMAGE),
        {**SMALL_STYLE, "start": 8, "stable_images": BATCH, "fade_images": 3 * BATCH, "noise_from": 16},
    ),
    "stylegan, full size at once": (
        "stylegan",
        Spec((1, 16, 16), *IMAGE),
        {**SMALL_STYLE, "start": 16, "r1": 1.0, "mapping_lr": 1.0, "mixing": 0.0},
    ),
    "stylegan2, 8 pixels": ("stylegan2", Spec((1, 8, 8), *IMAGE), SMALL_STYLE_2),
    "stylegan2, 16 pixels in colour": (
        "stylegan2",
        Spec((3, 16, 16), *IMAGE),
        {**SMALL_STYLE_2, "mixing": 0.5, "r1_every": 2, "path_every": 3, "betas": (0.5, 0.9), "r1": 2.0},
    ),
    "stylegan2, unmixed": ("stylegan2", Spec((1, 8, 8), *IMAGE), {**SMALL_STYLE_2, "mixing": 0.0}),
    "stylegan2, pictures without bounds": ("stylegan2", Spec((1, 8, 8), *IMAGE), {**SMALL_STYLE_2, "tanh": False}),
    "stylegan, pictures without bounds": ("stylegan", Spec((1, 8, 8), *IMAGE), {**SMALL_STYLE, "tanh": False}),
}


def run(name: str, spec: Spec, settings: dict, device: str = "cpu", steps: int = STEPS):
    """Both sides after `steps` steps, the scalars compared on the way."""
    pair = twins(name, spec, device=device, **{**FAST, **settings})
    enough = [batch for _, batch in zip(range(5 * steps), batches(spec, BATCH))]
    ours, theirs = iter(enough), map(for_torch, enough)
    for _ in range(steps):
        found, expected = pair.ours.step(ours), pair.theirs.step(theirs)
        assert found.keys() == expected.keys()
        for key in found:
            assert found[key] == pytest.approx(expected[key], rel=TOLERANCE, abs=TOLERANCE), key
    assert len(list(ours)) == len(list(theirs)), "one side has taken more batches than the other"
    assert not any(pair.streams.drawn.values()), "scratchgan has drawn noise that PyTorch didn't need"
    return pair


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def agree(key: str, found, expected) -> None:
    np.testing.assert_allclose(
        to_host(found), expected.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=key
    )


def test_ten_steps_equal_pytorchs(case):
    before = weights(twins(*case[:2], **{**FAST, **case[2]}))
    pair = run(*case)
    for which, (ours, theirs) in pair.modules().items():
        expected = theirs.state_dict()
        assert list(ours.state_dict()) == list(expected)
        for key, value in ours.state_dict().items():
            agree(f"{which} {key}", value._array, expected[key])
    for which, (ours, theirs) in pair.optimizers().items():
        found, expected = ours.state_dict()["state"], theirs.state_dict()["state"]
        assert found.keys() == expected.keys()
        for number, state in expected.items():
            for key, value in state.items():
                agree(f"{which} {number} {key}", np.asarray(found[number][key]), torch.as_tensor(value))
    moved = {key: abs(value - before[key]).max() for key, value in weights(pair).items()}
    assert min(moved.values()) > 1e-4, "ten steps that move nothing prove nothing"


def weights(pair) -> dict[tuple[str, str], np.ndarray]:
    """Copies of the weights that G's optimisers move, those that a gradient has reached once there was one, by
    network and key."""
    optimizers = [o for name, (o, _) in pair.optimizers().items() if name.startswith("optimizer_g")]
    moved = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
             if p in optimizer.state or not optimizer.state}
    return {(which, key): np.array(p._array) for which, (ours, _) in pair.modules().items()
            for key, p in ours.named_parameters() if id(p) in moved}


@pytest.mark.parametrize(
    "name",
    [
        "gan, images", "gan, points", "cgan, images", "cgan, mlp", "lapgan, told the class", "dcgan, 8 pixels",
        "wgan, images", "wgan_gp, images",
        "wgan_gp, points", "stylegan, grows from 4 to 8 pixels", "stylegan2, 8 pixels",
    ]
)
def test_steps_on_the_strict_double_equal_pytorchs(name):
    pair = run(*CASES[name], device="double", steps=2)
    for which, (ours, theirs) in pair.modules().items():
        for key, value in ours.state_dict().items():
            assert type(value._array) is DoubleArray
            agree(f"{which} {key}", value._array, theirs.state_dict()[key])
