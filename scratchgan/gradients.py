"""The examples that `scratchgan check` runs through `check.gradcheck` and `check.gradgradcheck`: every
function, every GAN's losses.

They are a sample for a quick look at an installation; the test-suite's table of cases is far longer.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from scratchgan import functional as F
from scratchgan import gans
from scratchgan.check import Agreement, gradcheck, gradgradcheck
from scratchgan.errors import UserError
from scratchgan.gans import gan, srgan, stylegan, stylegan2, wgan, wgan_gp
from scratchgan.settings import nearest
from scratchgan.tensor import Tensor


class Example(NamedTuple):
    """A function and the shapes of the arrays that are varied. Values lie in (-1, 1), or in (1, 3) where
    `positive`, are distinct, and keep away from 0, so that no kink is near."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    function: Callable
    positive: bool = False

    def arrays(self) -> list[np.ndarray]:
        """The point to check at."""
        rng = np.random.default_rng(0)
        return [_values(shape, i, rng) + 2 * self.positive for i, shape in enumerate(self.shapes)]


def _values(shape: tuple[int, ...], i: int, rng: np.random.Generator) -> np.ndarray:
    """A shuffled grid on (-1, 1); offsets keep it clear of 0, and the grids of neighbouring arguments
    apart."""
    n = math.prod(shape)
    return ((rng.permutation(n) + 0.3 + 0.5 * (i % 2)) / n * 2 - 1).reshape(shape)


def _of(name: str, *shapes: tuple[int, ...], positive: bool = False, **settings: Any) -> Example:
    """An example of the function of that name in `scratchgan.functional`."""
    return Example(name, shapes, lambda *arrays: getattr(F, name)(*arrays, **settings), positive)


MATRIX, IMAGES = (3, 4), (2, 4, 6, 5)
INDICES = np.array([[0, 2, 1, 2], [1, 1, 0, 2]])
CLASSES = np.array([2, 0, 3])

POINTWISE = ("neg", "exp", "abs", "sin", "cos", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "silu",
             "gelu", "softplus", "logsigmoid")
POINTWISE_POSITIVE = ("log", "log1p", "sqrt", "rsqrt")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "mse_loss", "l1_loss", "smooth_l1_loss",
          "binary_cross_entropy_with_logits")
REDUCTIONS = ("sum", "mean", "var", "std", "amax", "amin", "logsumexp", "norm", "softmax", "log_softmax")

FUNCTIONS = [
    *(_of(name, MATRIX) for name in POINTWISE),
    *(_of(name, MATRIX, positive=True) for name in POINTWISE_POSITIVE),
    *(_of(name, MATRIX, MATRIX) for name in BINARY),
    *(_of(name, MATRIX, dim=1) for name in REDUCTIONS),
    _of("div", MATRIX, (4,), positive=True),
    _of("pow", MATRIX, (3, 1), positive=True),
    _of("clamp", MATRIX, min=-0.61, max=0.43),
    _of("prelu", IMAGES, (4,)),
    Example("where", (MATRIX, (4,)), lambda a, b: F.where(np.eye(3, 4, dtype=bool), a, b)),
    _of("reshape", MATRIX, shape=(2, 6)),
    _of("permute", (2, 3, 4), dims=(2, 0, 1)),
    _of("transpose", MATRIX, dim0=0, dim1=1),
    Example("expand", ((3, 1),), lambda a: F.expand(a, (2, 3, 4))),
    _of("squeeze", (3, 1, 2), dim=1),
    _of("unsqueeze", MATRIX, dim=1),
    Example("cat", (MATRIX, (3, 2)), lambda a, b: F.cat((a, b), dim=1)),
    Example("stack", (MATRIX, MATRIX), lambda a, b: F.stack((a, b), dim=1)),
    _of("flip", MATRIX, dims=(1,)),
    _of("pad", IMAGES, pad=(1, 2, 0, 1), mode="reflect"),
    Example("gather", (MATRIX,), lambda a: F.gather(a, 0, INDICES)),
    Example("index_select", (MATRIX,), lambda a: F.index_select(a, 1, INDICES[0])),
    _of("matmul", (2, 3, 4), (4, 2)),
    _of("linear", MATRIX, (2, 4), (2,)),
    Example("einsum", ((2, 3, 4), (2, 4, 5)), lambda a, b: F.einsum("bij,bjk->ik", a, b)),
    _of("conv1d", (2, 4, 7), (6, 2, 3), (6,), stride=2, padding=1, groups=2),
    _of("conv2d", IMAGES, (6, 2, 3, 3), (6,), stride=2, padding=1, groups=2),
    _of("conv_transpose1d", (2, 4, 5), (4, 3, 3), (6,), stride=2, padding=1, output_padding=1, groups=2),
    _of("conv_transpose2d", IMAGES, (4, 3, 3, 3), (6,), stride=2, padding=1, output_padding=1, groups=2),
    _of("unfold", IMAGES, kernel_size=3, padding=1, stride=2),
    _of("avg_pool2d", IMAGES, kernel_size=2),
    _of("max_pool2d", (1, 2, 6, 5), kernel_size=2),
    _of("adaptive_avg_pool2d", IMAGES, output_size=(3, 2)),
    _of("interpolate", IMAGES, scale_factor=2, mode="bilinear", align_corners=False),
    _of("pixel_shuffle", IMAGES, upscale_factor=2),
    _of("pixel_unshuffle", (2, 1, 4, 6), downscale_factor=2),
    Example("batch_norm", (IMAGES, (4,), (4,)),
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    Example("instance_norm", (IMAGES, (4,), (4,)), lambda x, w, b: F.instance_norm(x, weight=w, bias=b)),
    Example("layer_norm", (MATRIX, (4,), (4,)), lambda x, w, b: F.layer_norm(x, (4,), w, b)),
    Example("group_norm", (IMAGES, (4,), (4,)), lambda x, w, b: F.group_norm(x, 2, w, b)),
    Example("embedding", ((3, 5),), lambda table: F.embedding(INDICES, table)),
    Example("binary_cross_entropy", (MATRIX,),
            lambda x: F.binary_cross_entropy(F.sigmoid(x), np.full(MATRIX, 0.3))),
    Example("cross_entropy", (MATRIX,), lambda x: F.cross_entropy(x, CLASSES, label_smoothing=0.1)),
    Example("nll_loss", (MATRIX,), lambda x: F.nll_loss(x, CLASSES)),
]


def _penalty(w: Any, v: Any) -> Any:
    """The gradient penalty of the critic tanh(x w) v, as a function of the critic's weights."""
    real, fake = Tensor(np.linspace(-1, 1, 8).reshape(4, 2)), Tensor(np.linspace(2, -1, 8).reshape(4, 2))
    epsilon = Tensor(np.array([[0.1], [0.4], [0.6], [0.9]]))
    return wgan_gp.gradient_penalty(lambda x: F.tanh(x @ w) @ v, real, fake, epsilon)


def _path_penalty(w: Any, v: Any) -> Any:
    """The path length penalty of the mapping tanh(z w) and the synthesis tanh(. v), as a function of both."""
    z = Tensor(np.linspace(-1, 1, 6).reshape(3, 2))
    latents = F.tanh(z @ w)
    y = Tensor(np.linspace(-1, 2, 12).reshape(3, 4))
    return stylegan2.path_penalty(stylegan2.path_lengths(F.tanh(latents @ v), [latents], y), 0.5)


def _feature_loss(made: Any) -> Any:
    """The distance of pictures in smooth features, as a function of those made. These are varied alone: nothing
    flows into the features of the photographs."""
    kernels, high = (Tensor(np.linspace(-1, 1, n)) for n in (18, 20))
    return srgan.feature_loss(lambda x: F.tanh(F.conv2d(x, kernels.reshape(2, 1, 3, 3))),
                              high.reshape(1, 1, 4, 5), made)


def _r1(w: Any, v: Any) -> Any:
    """The R1 penalty of the critic tanh(x w) v, as a function of the critic's weights."""
    x = Tensor(np.linspace(-1, 1, 8).reshape(4, 2)).requires_grad_()
    return stylegan.r1_penalty(F.tanh(x @ w) @ v, x)


LOGITS = (5,)
VALUE = Example("value", (LOGITS, LOGITS), gan.value)
NON_SATURATING = Example("non_saturating_loss", (LOGITS,), gan.non_saturating_loss)
CRITIC = [Example("critic_loss", (LOGITS, LOGITS), wgan.critic_loss),
          Example("generator_loss", (LOGITS,), wgan.generator_loss)]
LOSSES = {
    "gan": [VALUE, Example("saturating_loss", (LOGITS,), gan.saturating_loss), NON_SATURATING],
    "lapgan": [VALUE, NON_SATURATING],
    "cgan": [VALUE, NON_SATURATING],
    "dcgan": [VALUE, NON_SATURATING],
    "srgan": [VALUE, NON_SATURATING, Example("mse", (IMAGES, IMAGES), srgan.mse),
              Example("feature_loss", ((1, 1, 4, 5),), _feature_loss)],
    "wgan": CRITIC,
    "wgan_gp": [*CRITIC, Example("gradient_penalty", ((2, 3), (3,)), _penalty)],
    "stylegan": [VALUE, NON_SATURATING, Example("r1_penalty", ((2, 3), (3,)), _r1)],
    "stylegan2": [VALUE, NON_SATURATING, Example("r1_penalty", ((2, 3), (3,)), _r1),
                  Example("path_penalty", ((2, 3), (3, 4)), _path_penalty)],
}


def chosen(name: str | None) -> list[Example]:
    """The examples of a function, of a GAN's losses, or all. Raises UserError, with the nearest name, for an
    unknown one."""
    if name is None:
        return [*FUNCTIONS, *LOSSES["gan"], *LOSSES["wgan_gp"]]
    examples = [e for e in FUNCTIONS if e.name == name] or LOSSES.get(name.lower().replace("-", "_"))
    if examples is None:
        names = [*(e.name for e in FUNCTIONS), *gans.names()]
        raise UserError(f"{name!r} is no function to check and no GAN{nearest(name, names)}")
    return examples


def table(name: str | None) -> tuple[list[str], bool]:
    """Lines with the relative error of the first and second derivative of each example, and whether all are
    within tolerance."""
    rows = [(e.name, gradcheck(e.function, e.arrays(), raise_exception=False),
             gradgradcheck(e.function, e.arrays(), raise_exception=False)) for e in chosen(name)]
    lines = [f"{'':<34}{'first derivative':>18}{'second':>12}", *(_line(*row) for row in rows)]
    failed = [row[0] for row in rows if not _all_ok(row[1:])]
    verdict = f"{len(rows)} checked, {len(failed)} failed{': ' * bool(failed)}{', '.join(failed)}"
    return [*lines, f"{verdict} (relative errors, tolerance {rows[0][1].tolerance:g})"], not failed


def _all_ok(agreements: Iterable[Agreement]) -> bool:
    return all(a.ok for a in agreements)


def _line(name: str, first: Agreement, second: Agreement) -> str:
    verdict = "ok" if _all_ok((first, second)) else "FAILED"
    return f"{name:<34}{first.error:>18.1e}{second.error:>12.1e}  {verdict}"
