"""Every op of the test table on arrays as large as a network meets, forward and backward, against PyTorch.

Both sides get the same float32 arrays in the same memory layout, and a cotangent that was made beforehand: the
same numbers, for each side in the layout in which its own y lies, as the op after it in a network would hand it
down. Before an op is timed its values and gradients are compared. Backward goes to every input that has
a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import scratchgan
import scratchgan.functional as F
from bench.timing import Budget, Row, check_close, compare
from tests.cases import CASES, Case, Input, make_inputs

ACTIVATIONS = (64, 128, 16, 16)  # one batch inside DCGAN: 2 million numbers, 8 MiB
LOGITS = (1024, 1000)
POINTS = (1 << 20,)
TOLERANCE = 2e-4
RANDOM = {"dropout", "dropout2d"}  # masks differ; the tests check them by their statistics


def _same(op: str, domain: str = "normal", **kwargs) -> Case:
    return Case(op, (Input(ACTIVATIONS, domain),), kwargs)


def _two(op: str, *shapes, domain: str = "normal", **kwargs) -> Case:
    return Case(op, tuple(Input(s, domain) for s in shapes), kwargs)


ELEMENTWISE = [
    *(
        _same(op)
        for op in (
            "neg",
            "exp",
            "abs",
            "sigmoid",
            "tanh",
            "relu",
            "leaky_relu",
            "elu",
            "silu",
            "gelu",
            "softplus",
            "logsigmoid",
            "sin",
            "cos",
            "erf",
        )
    ),
    *(_same(op, "positive") for op in ("log", "log1p", "sqrt", "rsqrt")),
    _same("gelu", approximate="tanh"),
    _same("clamp", min=-0.5, max=0.5),
    _two("prelu", ACTIVATIONS, (128,)),
    Case("pow", (Input(ACTIVATIONS, "positive"),), {"exponent": 2.5}),
    *(_two(op, ACTIVATIONS, ACTIVATIONS) for op in ("add", "sub", "mul", "maximum", "minimum")),
    _two("div", ACTIVATIONS, ACTIVATIONS, domain="positive"),
    _two("pow", ACTIVATIONS, ACTIVATIONS, domain="positive"),
    _two("remainder", ACTIVATIONS, ACTIVATIONS, domain="positive"),
    _two("add", ACTIVATIONS, (1, 128, 1, 1)),
    _two("mul", ACTIVATIONS, (1, 128, 1, 1)),
    Case("where", (Input(ACTIVATIONS, "bool", grad=False), Input(ACTIVATIONS), Input(ACTIVATIONS))),
]
REDUCTIONS = [
    *(_same(op) for op in ("sum", "mean", "var", "std", "norm")),
    _same("sum", dim=(0, 2, 3)),
    _same("mean", dim=1, keepdim=True),
    _same("var", dim=(0, 2, 3)),
    *(Case(op, (Input(LOGITS, "distinct"),), {"dim": 1}) for op in ("amax", "amin", "max", "min")),
    *(Case(op, (Input(LOGITS),), {"dim": 1}) for op in ("logsumexp", "softmax", "log_softmax")),
]


def _assigned(x, value):
    y = x * 1
    y[:, ::2] = value
    return y


SHAPE = [
    _same("reshape", shape=(64, -1)),
    _same("permute", dims=(0, 2, 3, 1)),
    _same("transpose", dim0=1, dim1=3),
    _same("flip", dims=(3,)),
    Case(
        "expand",
        (Input((64, 128, 1, 1)),),
        {},
        lambda F, x: F.expand(x, 64, 128, 16, 16),
        lambda x: x.expand(64, 128, 16, 16),
    ),
    Case(
        "broadcast_to",
        (Input((64, 128, 1, 1)),),
        {},
        lambda F, x: F.broadcast_to(x, ACTIVATIONS),
        lambda x: torch.broadcast_to(x, ACTIVATIONS),
    ),
    _same("clone"),
    _same("contiguous"),
    _same("flatten", start_dim=1),
    Case("t", (Input(LOGITS),)),
    Case(
        "unflatten",
        (Input((64, 8192)),),
        {},
        lambda F, x: F.unflatten(x, 1, (128, 64)),
        lambda x: x.unflatten(1, (128, 64)),
    ),
    Case(
        "setitem",
        (Input(ACTIVATIONS), Input((64, 64, 16, 16))),
        {},
        lambda F, x, v: _assigned(x, v),
        _assigned,
    ),
    _same("chunk", chunks=2, dim=1),
    _same("split", split_size_or_sections=64, dim=1),
    _same("unbind", dim=0),
    Case("narrow", (Input(ACTIVATIONS),), {"dim": 1, "start": 0, "length": 64}),
    Case("squeeze", (Input((64, 8192, 1)),), {"dim": 2}),
    Case("unsqueeze", (Input((64, 8192)),), {"dim": 1}),
    _same("pad", pad=(1, 1, 1, 1)),
    _same("pad", pad=(1, 1, 1, 1), mode="reflect"),
    Case(
        "cat",
        (Input(ACTIVATIONS), Input(ACTIVATIONS)),
        {},
        lambda F, a, b: F.cat([a, b], dim=1),
        lambda a, b: torch.cat([a, b], dim=1),
    ),
    Case(
        "stack",
        (Input(ACTIVATIONS), Input(ACTIVATIONS)),
        {},
        lambda F, a, b: F.stack([a, b]),
        lambda a, b: torch.stack([a, b]),
    ),
    Case("getitem", (Input(ACTIVATIONS),), {}, lambda F, x: x[:, :64, ::2, 1:], lambda x: x[:, :64, ::2, 1:]),
    Case(
        "gather",
        (Input(LOGITS), Input((1024, 1), ("int", 1000), grad=False)),
        {},
        lambda F, x, i: F.gather(x, 1, i),
        lambda x, i: torch.gather(x, 1, i),
    ),
    Case(
        "index_select",
        (Input(LOGITS), Input((512,), ("int", 1024), grad=False)),
        {},
        lambda F, x, i: F.index_select(x, 0, i),
        lambda x, i: torch.index_select(x, 0, i),
    ),
]
LINALG = [
    _two("matmul", (512, 512), (512, 512)),
    _two("matmul", (64, 128, 64), (64, 64, 128)),
    _two("linear", (64, 784), (1024, 784), (1024,)),
    Case(
        "einsum",
        (Input((64, 128, 64)), Input((64, 64, 128))),
        {},
        lambda F, a, b: F.einsum("bij,bjk->bik", a, b),
        lambda a, b: torch.einsum("bij,bjk->bik", a, b),
    ),
]


def _conv(op: str, x, w, layout: str = "C", **kwargs) -> Case:
    return Case(op, (Input(x, layout=layout), Input(w)), kwargs)


CONVOLUTION = [
    _conv("conv2d", (64, 64, 16, 16), (128, 64, 4, 4), stride=2, padding=1),
    _conv("conv2d", (64, 64, 16, 16), (128, 64, 4, 4), "channels_last", stride=2, padding=1),
    _conv("conv2d", (64, 3, 64, 64), (64, 3, 4, 4), stride=2, padding=1),
    _conv("conv2d", (64, 64, 16, 16), (64, 64, 3, 3), padding=1),
    _conv("conv2d", (64, 128, 16, 16), (128, 128, 1, 1)),
    _conv("conv_transpose2d", (64, 128, 8, 8), (128, 64, 4, 4), stride=2, padding=1),
    _conv("conv_transpose2d", (64, 128, 8, 8), (128, 64, 4, 4), "channels_last", stride=2, padding=1),
    _conv("conv_transpose2d", (64, 100, 1, 1), (100, 256, 4, 4)),
    _conv("conv1d", (32, 64, 256), (64, 64, 5), padding=2),
    _conv("conv_transpose1d", (32, 64, 128), (64, 64, 4), stride=2, padding=1),
    Case("unfold", (Input((16, 64, 32, 32)),), {"kernel_size": 3, "padding": 1}),
]
MAPS = (16, 64, 32, 32)
RESAMPLING = [
    Case("avg_pool2d", (Input(MAPS),), {"kernel_size": 2}),
    Case("max_pool2d", (Input(MAPS, "distinct"),), {"kernel_size": 2}),
    Case("adaptive_avg_pool2d", (Input(MAPS),), {"output_size": 4}),
    Case("interpolate", (Input(MAPS),), {"scale_factor": 2}),
    Case("interpolate", (Input(MAPS),), {"scale_factor": 2, "mode": "bicubic", "align_corners": False}),
    Case("interpolate", (Input(MAPS),), {"scale_factor": 2, "mode": "bilinear", "align_corners": False}),
    Case("pixel_shuffle", (Input(MAPS),), {"upscale_factor": 2}),
    Case("pixel_unshuffle", (Input(MAPS),), {"downscale_factor": 2}),
]


def _upfirdn2d_in_torch(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Zeros between the pixels, a border, the filter (flipped: a true convolution), every second pixel."""
    n, c, h, w = x.shape
    wide = torch.nn.functional.pad(x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).reshape(
        n, c, 2 * h, 2 * w
    )
    wide = torch.nn.functional.pad(wide, (2, 1, 2, 1))
    return torch.nn.functional.conv2d(wide, f.flip([0, 1])[None, None].repeat(c, 1, 1, 1), groups=c)


RESAMPLING.append(
    Case(
        "upfirdn2d",
        (Input(MAPS), Input((4, 4), grad=False)),
        {},
        lambda F, x, f: F.upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1)),
        _upfirdn2d_in_torch,
    )
)


def _batch_norm(module, x, w, b):
    return module.batch_norm(x, None, None, w, b, training=True)


def _norm(op: str, *sizes, **kwargs) -> Case:
    return Case(op, (Input(ACTIVATIONS), *(Input(s) for s in sizes)), kwargs)


NORMALISATION = [
    *(
        Case(
            "batch_norm",
            (Input(ACTIVATIONS, layout=layout), Input((128,)), Input((128,))),
            {},
            _batch_norm,
            lambda *a: _batch_norm(torch.nn.functional, *a),
        )
        for layout in ("C", "channels_last")
    ),
    _norm("instance_norm"),
    Case(
        "layer_norm",
        (Input((1024, 512)), Input((512,)), Input((512,))),
        {},
        lambda F, x, w, b: F.layer_norm(x, (512,), w, b),
        lambda x, w, b: torch.nn.functional.layer_norm(x, (512,), w, b),
    ),
    Case(
        "group_norm",
        (Input(ACTIVATIONS), Input((128,)), Input((128,))),
        {},
        lambda F, x, w, b: F.group_norm(x, 8, w, b),
        lambda x, w, b: torch.nn.functional.group_norm(x, 8, w, b),
    ),
    Case("embedding", (Input((64, 128), ("int", 1000), grad=False), Input((1000, 64))), {}),
    Case("dropout", (Input(ACTIVATIONS),), {"p": 0.5}),
]
LOSSES = [
    _two("mse_loss", POINTS, POINTS),
    _two("l1_loss", POINTS, POINTS),
    _two("smooth_l1_loss", POINTS, POINTS),
    Case("binary_cross_entropy", (Input(POINTS, "unit"), Input(POINTS, "unit", grad=False)), {}),
    Case("binary_cross_entropy_with_logits", (Input(POINTS), Input(POINTS, "unit", grad=False)), {}),
    Case("binary_cross_entropy_with_logits", (Input((64, 1)), Input((64, 1), "unit", grad=False)), {}),
    Case("cross_entropy", (Input(LOGITS), Input((1024,), ("int", 1000), grad=False)), {}),
    Case("nll_loss", (Input(LOGITS), Input((1024,), ("int", 1000), grad=False)), {}),
]


def _forward_only(op: str, *domains: str, shape=ACTIVATIONS, **kwargs) -> Case:
    return Case(op, tuple(Input(shape, d, grad=False) for d in domains), kwargs)


WITHOUT_GRADIENT = [
    *(_forward_only(op, "normal", "normal") for op in ("eq", "ne", "lt", "le", "gt", "ge")),
    *(_forward_only(op, "bool", "bool") for op in ("bitwise_and", "bitwise_or")),
    _forward_only("bitwise_not", "bool"),
    *(_forward_only(op, "bool") for op in ("all", "any")),
    *(_forward_only(op, "normal") for op in ("isfinite", "isnan", "sign")),
    *(_forward_only(op, "distinct", shape=LOGITS, dim=1) for op in ("argmax", "argmin")),
]
WORKLOADS: list[Case] = [
    *ELEMENTWISE,
    *REDUCTIONS,
    *SHAPE,
    *LINALG,
    *CONVOLUTION,
    *RESAMPLING,
    *NORMALISATION,
    *LOSSES,
    *WITHOUT_GRADIENT,
]


@dataclass(frozen=True)
class Pair:
    """One workload in both libraries; a call returns the gradients or, where there are none, the value."""

    name: str
    ours: Callable[[], list]
    theirs: Callable[[], list]
    checked: bool


def missing() -> list[str]:
    """Ops that the test table has and this one has not."""
    covered = {c.op for c in WORKLOADS}
    functions = {id(getattr(F, op, None)) for op in covered}  # concat is cat under another name
    return sorted(op for op in {c.op for c in CASES} - covered if id(getattr(F, op, None)) not in functions)


def name_of(case: Case) -> str:
    shapes = " ".join("x".join(map(str, i.shape)) for i in case.inputs)
    more = [f"{k}={v}" for k, v in case.kwargs.items()] + [i.layout for i in case.inputs if i.layout != "C"]
    return " ".join([case.op, shapes, *more])


def torch_function(case: Case) -> Callable:
    """What PyTorch calls the same thing."""
    if case.torch is not None:
        return case.torch
    function = (
        getattr(torch.nn.functional, case.op, None)
        or getattr(torch, case.op, None)
        or getattr(torch.Tensor, case.op)
    )
    return lambda *tensors: function(*tensors, **case.kwargs)


def pair(case: Case) -> Pair:
    arrays = make_inputs(case, np.float32)
    wants = [i.differentiable for i in case.inputs]
    in_torch = torch_function(case)
    ours = [scratchgan.as_tensor(a).requires_grad_(w) for a, w in zip(arrays, wants)]
    theirs = [torch.from_numpy(a).requires_grad_(w) for a, w in zip(arrays, wants)]
    if not any(wants):
        return Pair(
            name_of(case), lambda: [case.run(F, *ours)], lambda: [in_torch(*theirs)], case.op not in RANDOM
        )
    y, torch_y = (_first(result).detach().numpy() for result in (case.run(F, *ours), in_torch(*theirs)))
    cotangent = np.random.default_rng(1).uniform(0.5, 1.5, y.shape)
    ours_g = scratchgan.as_tensor(in_layout_of(y, cotangent))
    torch_g = torch.from_numpy(in_layout_of(torch_y, cotangent))
    ours_x, torch_x = ([x for x, w in zip(xs, wants) if w] for xs in (ours, theirs))

    def run_ours():
        return scratchgan.grad(_first(case.run(F, *ours)), ours_x, ours_g)

    def run_torch():
        return torch.autograd.grad(_first(in_torch(*theirs)), torch_x, torch_g)

    return Pair(name_of(case), run_ours, run_torch, case.op not in RANDOM)


def in_layout_of(array: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A copy of the numbers with the dtype of `array` and its order of axes in memory."""
    copy = np.empty_like(array)
    copy[...] = numbers
    return copy


def _first(result):
    """Of several results (parts, values with their indices) the first."""
    return result[0] if isinstance(result, (tuple, list)) else result


def check(p: Pair) -> None:
    if p.checked:
        check_close(p.name, [g.numpy() for g in p.ours()], [g.numpy() for g in p.theirs()], TOLERANCE)


def measure(budget: Budget, only: str = "") -> list[Row]:
    """Milliseconds forward plus backward of each workload."""
    if missing():
        print("no workload yet for:", ", ".join(missing()))
    rows = []
    for case in WORKLOADS:
        if only in name_of(case):
            p = pair(case)
            check(p)
            rows.append(compare(p.name, p.ours, p.theirs, budget))
    return rows
