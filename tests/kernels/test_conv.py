"""The forward convolution in Triton: geometries, types and memories, what follows it, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

from scratchgan import functional as F
from scratchgan.check import gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.conv import conv_nhwc
from scratchgan.kernels.conv_epilogue import Epilogue, conv_fused_nhwc
from scratchgan.kernels.dispatch import float32_matmul, implementation
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.gpu import conv as gpu
from scratchgan.kernels.gpu import conv_boxes, launch
from tests.kernels.harness import ON, check, draw, run

SMALL = {"BLOCK_M": 16, "BLOCK_K": 16, "BLOCK_C": 16}  # so that small problems take many tiles


def geometry(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) -> Geometry:
    """The Geometry of a convolution of x of `size`."""
    each = zip(size, kernel, stride, padding, dilation)
    out = tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in each)
    return Geometry(size, kernel, out, stride, padding, dilation, groups)


# name: geometry, N, C, K
CASES = {
    "DCGAN's D, k4 s2": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 2, 16, 20),
    "DCGAN's D, RGB": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 2, 3, 17),
    "DCGAN's D, logit": (geometry((4, 4), (4, 4)), 3, 32, 1),
    "PatchGAN's logits, k4": (geometry((5, 5), (4, 4), (1, 1), (1, 1)), 1, 32, 1),
    "to RGB, k3": (geometry((3, 5), (3, 3), (1, 1), (1, 1)), 2, 33, 3),
    "two channels, k1": (geometry((3, 5), (1, 1)), 2, 70, 2),
    "ResNet, k3": (geometry((5, 4), (3, 3), (1, 1), (1, 1)), 2, 32, 18),
    "1 x 1": (geometry((5, 4), (1, 1)), 2, 37, 19),
    "1 x 1 s2": (geometry((5, 4), (1, 1), (2, 2)), 2, 16, 16),
    "SRGAN, k9 of RGB": (geometry((6, 5), (9, 9), (1, 1), (4, 4)), 1, 3, 5),
    "pix2pix, 6 channels, k5 s2": (geometry((9, 7), (5, 5), (2, 2), (2, 2)), 1, 6, 9),
    "k7, 2 channels": (geometry((7, 9), (7, 7), (1, 1), (3, 3)), 1, 2, 3),
    "one row: 1-D, dilation 3": (geometry((1, 29), (1, 3), (1, 1), (0, 3), (1, 3)), 2, 16, 20),
    "k3 x k2, s2 x s3, d3 x d2": (geometry((11, 8), (3, 2), (2, 3), (2, 0), (3, 2)), 1, 33, 5),
    "stride beyond the kernel": (geometry((7, 8), (2, 2), (3, 4), (1, 0)), 2, 16, 4),
    "padding beyond the kernel": (geometry((2, 3), (2, 2), (2, 1), (3, 4)), 1, 16, 3),
    "two groups": (geometry((5, 4), (3, 3), (2, 1), (1, 1), groups=2), 2, 32, 36),
    "five groups, few channels": (geometry((5, 4), (3, 3), (1, 1), (1, 1), groups=5), 2, 10, 15),
    "depthwise": (geometry((5, 4), (3, 3), (1, 1), (1, 1), groups=7), 2, 7, 7),
    "no images": (geometry((4, 4), (3, 3)), 0, 4, 4),
    "one pixel": (geometry((1, 1), (1, 1)), 1, 1, 1),
}

BOXES = {  # what Hopper's copy engine serves
    "k4 s2": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 2, 32, 64),
    "k3": (geometry((8, 4), (3, 3), (1, 1), (1, 1)), 2, 32, 70),
    "k3 s2, odd images, five steps": (geometry((4, 8), (3, 3), (2, 2), (1, 1)), 15, 160, 64),
    "k5 s2 d2, padding of 3": (geometry((12, 16), (3, 5), (2, 2), (3, 3), (2, 2)), 1, 32, 65),
    "1 x 1": (geometry((2, 16), (1, 1)), 4, 64, 130),
    "one row, dilation 3": (geometry((1, 32), (1, 3), (1, 1), (0, 3), (1, 3)), 4, 32, 64),
    "one window": (geometry((4, 4), (4, 4)), 100, 32, 64),
}


def factors(case, dtype):
    """Random x and w of a case."""
    form, N, C, K = case
    return draw((N, *form.size, C), dtype, 0), draw((K, C // form.groups, *form.kernel), dtype, 1)


def terms(case) -> int:
    """How many products a number of y adds up."""
    form, _, C, _ = case
    return max(1, C // form.groups * form.kernel[0] * form.kernel[1])


def fused(x, w, bias=None, residual=None, *, form, **settings):
    """conv_fused_nhwc with the epilogue's arrays as arguments of their own, so that the harness sees them."""
    return conv_fused_nhwc(x, w, form, Epilogue(bias=bias, residual=residual, **settings))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_the_reference_in_many_small_tiles(on, case):
    with launch.trying(**SMALL):
        check(on, conv_nhwc, *factors(case, np.float32), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_the_reference_in_tiles_as_they_come(on, dtype, case):
    check(on, conv_nhwc, *factors(case, dtype), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("splits", [1, 3, 16])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_splits_are_the_reference(on, case, splits):
    """16 are more than most of these have steps: some of them add up nothing."""
    with launch.trying(**SMALL, SPLITS=splits):
        check(on, conv_nhwc, *factors(case, np.float32), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_few_pixels_are_split_by_themselves(on, dtype, monkeypatch):
    case, asked = (geometry((4, 4), (4, 4), (2, 2), (1, 1)), 2, 64, 40), []
    found = gpu._splits
    monkeypatch.setattr(gpu, "_splits", lambda *of: asked.append(found(*of)) or asked[-1])
    check(on, conv_nhwc, *factors(case, dtype), geometry=case[0], reduction=terms(case))
    assert asked and min(asked) > 1


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES)
def test_boxes_are_the_reference(on, case, monkeypatch):
    monkeypatch.setattr(gpu, "_splits", lambda *_: 1)
    if on == "interpreter":
        monkeypatch.setattr(gpu, "by_pointers", None)
    check(on, conv_nhwc, *factors(case, np.float16), geometry=case[0], reduction=terms(case))


@pytest.mark.parametrize("on", ON)
def test_what_follows_boxes(on, monkeypatch):
    monkeypatch.setattr(gpu, "_splits", lambda *_: 1)
    args, settings = with_epilogue(
        BOXES["k3"], np.float16, bias=True, residual=True, sums=True, activation="relu"
    )
    check(on, fused, *args, **settings, reduction=terms(BOXES["k3"]) * 64)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["k4 s2", "k3"])
def test_pointers_give_what_boxes_give(on, name, monkeypatch):
    monkeypatch.setattr(conv_boxes, "capability", lambda: 80)
    monkeypatch.setattr(conv_boxes, "by_boxes", None)
    check(
        on,
        conv_nhwc,
        *factors(BOXES[name], np.float16),
        geometry=BOXES[name][0],
        reduction=terms(BOXES[name]),
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_reference_is_torch_s(case):
    form = case[0]
    x, w = factors(case, np.float64)
    expected = TF.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w), None, *form[3:])
    np.testing.assert_allclose(conv_nhwc(x, w, form), expected.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-12)


EPILOGUES = {
    "bias": {"bias": True},
    "sums": {"bias": True, "sums": True},
    "residual": {"bias": True, "residual": True, "activation": "relu", "gain": 0.7},
    "shuffle": {"bias": True, "shuffle": 2, "activation": "leaky_relu", "slope": 0.2},
    "everything": {
        "bias": True,
        "residual": True,
        "sums": True,
        "shuffle": 2,
        "activation": "tanh",
        "gain": 1.4,
    },
}


def with_epilogue(case, dtype, bias=False, residual=False, **settings):
    """Arguments of `fused`; bias and residual say whether there are any."""
    form, N, _, K = case
    x, w = factors(case, dtype)
    arrays = (
        draw((K,), np.float32, 2) if bias else None,
        draw((N, *form.out, K), dtype, 3) if residual else None,
    )
    return (x, w / np.sqrt(terms(case)).astype(dtype), *arrays), {"form": form, **settings}


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["DCGAN's D, k4 s2", "two groups", "no images"])
@pytest.mark.parametrize("epilogue", EPILOGUES.values(), ids=EPILOGUES)
@pytest.mark.parametrize("splits", [1, 2])
def test_what_follows(on, name, epilogue, splits):
    form, N, C, K = CASES[name]
    case = form, N, C, K - K % (4 * form.groups)
    with launch.trying(**SMALL, SPLITS=splits):
        args, settings = with_epilogue(case, np.float32, **epilogue)
        check(on, fused, *args, **settings, reduction=terms(case) + N * form.out[0] * form.out[1])


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["to RGB, k3", "DCGAN's D, logit", "depthwise", "five groups, few channels"])
def test_what_follows_few_channels(on, name):
    case = CASES[name]
    args, settings = with_epilogue(
        case, np.float32, bias=True, residual=True, sums=True, activation="tanh", gain=1.4
    )
    with launch.trying(**SMALL):
        check(on, fused, *args, **settings, reduction=terms(case) + 40)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_types_and_activations(on, dtype, activation):
    case = CASES["ResNet, k3"]
    args, settings = with_epilogue(
        case, dtype, bias=True, sums=True, activation=activation, slope=0.1, gain=2**0.5
    )
    y, total, squares = run(on, fused, *args, **settings)
    assert y.dtype == dtype and total.dtype == squares.dtype == (
        np.float64 if dtype == np.float64 else np.float32
    )
    check(on, fused, *args, **settings, reduction=terms(case) * 70)


@pytest.mark.parametrize("on", ON)
def test_a_shuffle_across_groups(on):
    case = geometry((4, 3), (3, 3), (1, 1), (1, 1), groups=2), 2, 32, 36  # 2^2 does not divide 18
    args, settings = with_epilogue(case, np.float32, bias=True, residual=True, shuffle=2)
    check(on, fused, *args, **settings, reduction=terms(case))


def test_the_reference_s_epilogue_is_torch_s():
    (x, w, b, _), settings = with_epilogue(CASES["ResNet, k3"][:3] + (12,), np.float64, bias=True)
    shuffled, total, squares = fused(
        x, w, b, **settings, sums=True, shuffle=2, activation="leaky_relu", slope=0.3
    )
    z = TF.conv2d(*(torch.from_numpy(a) for a in (x.transpose(0, 3, 1, 2), w, b.astype(x.dtype))), padding=1)
    expected = TF.pixel_shuffle(TF.leaky_relu(z, 0.3), 2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(shuffled, expected, rtol=1e-6)
    np.testing.assert_allclose(total, z.sum((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(squares, z.square().sum((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("on", ON)
def test_sums_are_the_same_bits_every_time(on):
    args, settings = with_epilogue(CASES["ResNet, k3"], np.float32, sums=True)
    first, second = (run(on, fused, *args, **settings) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second))


@pytest.mark.parametrize("on", ON)
def test_any_memory(on):
    form, N, C, K = CASES["DCGAN's D, k4 s2"]
    x, w = draw((2 * N, 8, 8, C), np.float32, 0, (0, 3, 1, 2))[::2, ::-1], draw((K, C, 4, 4), np.float32, 1)
    for weights in (
        w,
        draw(w.shape, np.float32, 1, (0, 2, 3, 1)),
        draw(w.shape, np.float32, 1, (1, 2, 3, 0)),
        w[:, :, ::-1],
    ):
        check(on, conv_nhwc, x, weights, geometry=form, reduction=terms(CASES["DCGAN's D, k4 s2"]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("name", ["ResNet, k3", "k7, 2 channels", "two groups"])
def test_an_infinite_number_reaches_its_windows_alone(on, name):
    x, w = factors(CASES[name], np.float32)
    x[0, 1, 2, 1] = np.inf
    with np.errstate(invalid="ignore"), implementation("ref"):
        expected = conv_nhwc(x, w, CASES[name][0])
    with np.errstate(invalid="ignore"):
        found = run(on, conv_nhwc, x, w, geometry=CASES[name][0])
    assert (np.isfinite(found) == np.isfinite(expected)).all() and not np.isfinite(expected).all()


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", [CASES["ResNet, k3"], BOXES["k3"]])
def test_tf32_where_it_is_allowed(on, case):
    x, w = factors(case, np.float32)
    with float32_matmul("high"):
        check(on, conv_nhwc, x, w, geometry=case[0], reduction=terms(case), dtype=np.float16)


def test_what_is_not_covered_is_said():
    form = geometry((1, 1), (1, 1))
    x, w = np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    with implementation("triton"), pytest.raises(UserError, match="activation 'swish'"):
        conv_fused_nhwc(x, w, form, Epilogue(activation="swish"))
    with implementation("triton"), pytest.raises(UserError, match="expected one dtype"):
        conv_nhwc(x, w.astype(np.float32), form)


@pytest.mark.parametrize(
    "settings", [{"stride": 2, "padding": 1}, {"padding": (1, 0), "dilation": (1, 2), "groups": 2}]
)
def test_every_order_through_the_triple(settings):
    x, w = draw((2, 4, 6, 5), np.float64, 0), draw((4, 4 // settings.get("groups", 1), 3, 2), np.float64, 1)
    b = draw((4,), np.float64, 2)
    with implementation("triton"):
        gradcheck(lambda *args: F.conv2d(*args, **settings), [x, w, b])
        gradgradcheck(lambda *args: F.conv2d(*args, **settings), [x, w, b])
