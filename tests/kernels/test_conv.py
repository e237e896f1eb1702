"""The forward convolution in Triton: values over geometries, types and memories, what follows it, derivatives."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

from scratchgan.errors import UserError
from scratchgan.kernels.bias_act import ACTIVATIONS
from scratchgan.kernels.conv import Geometry, conv_nhwc
from scratchgan.kernels.conv_epilogue import Epilogue, conv_fused_nhwc
from scratchgan.kernels.dispatch import float32_matmul_precision, implementation, set_float32_matmul_precision
from scratchgan.kernels.gpu import conv as gpu
from scratchgan.kernels.gpu import launch
from tests.kernels.harness import ON, check, compare, draw, run

SMALL = {"BLOCK_M": 16, "BLOCK_K": 16, "BLOCK_C": 16, "BLOCK_T": 2}  # so that small problems take many tiles


def geometry(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) -> Geometry:
    """The Geometry of a convolution of x of `size`."""
    each = zip(size, kernel, stride, padding, dilation)
    out = tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in each)
    return Geometry(size, kernel, out, stride, padding, dilation, groups)


# name: geometry, N, C, K
CASES = {
    "DCGAN's D, k4 s2": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 3, 16, 20),
    "DCGAN's D, RGB": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 2, 3, 17),
    "DCGAN's D, logit": (geometry((4, 4), (4, 4)), 3, 32, 1),
    "PatchGAN's logits, k4": (geometry((5, 5), (4, 4), (1, 1), (1, 1)), 1, 32, 1),
    "ResNet, k3": (geometry((7, 5), (3, 3), (1, 1), (1, 1)), 2, 48, 18),
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
    "no images": (geometry((4, 4), (3, 3)), 0, 4, 3),
    "one pixel": (geometry((1, 1), (1, 1)), 1, 1, 1),
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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_reference_is_torch_s(case):
    form = case[0]
    x, w = factors(case, np.float64)
    expected = TF.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w), None, *form[3:])
    np.testing.assert_allclose(conv_nhwc(x, w, form), expected.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-12)
