"""Each kernel at the sizes of the papers' networks, against the best of PyTorch's ways to do the same.

`python -m bench kernels` times Triton on the GPU; `--device cpu` the references in NumPy, at batches cut to a few
images, so that the command works everywhere. Inputs are random with a seed of their own; before anything is timed
every result is compared, and the bench stops where one differs.

On a GPU the other side is PyTorch as it comes (NCHW), in channels-last memory with cuDNN's search for the fastest
algorithm, and compiled by torch.compile(mode="max-autotune-no-cudagraphs"); each is captured as a CUDA graph, like ours,
and the fastest one is named. Fractions are of ceilings measured in the same run: see bench/cuda.py.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF

from bench import cuda, timing
from bench.cuda import Times
from scratchgan import backend
from scratchgan.kernels import bias_act as bias_act_kernels
from scratchgan.kernels import conv as conv_kernels
from scratchgan.kernels import dispatch
from scratchgan.kernels import gradient_norms as norm_penalties
from scratchgan.kernels import losses as loss_kernels
from scratchgan.kernels import modulated as modulated_kernels
from scratchgan.kernels import norm as norm_kernels
from scratchgan.kernels import updates as update_kernels
from scratchgan.kernels import upfirdn2d as upfirdn2d_kernels

SEED = 0
TOLERANCES = {"float32": 2e-3, "float16": 2e-2}  # of the largest number: float32 is TF32 on the GPU
CPU_IMAGES = 4  # on the CPU batches are cut to so many
CPU_ROUNDS = 7


@dataclass(frozen=True)
class Layer:
    """A convolution of one of the papers' networks, by its forward shape: x (n, c, size, size), w (k, c, r, r)."""

    name: str
    n: int
    c: int
    k: int
    size: int
    r: int
    stride: int
    padding: int


LAYERS = [
    Layer("DCGAN 64 px, D's 2nd", 128, 64, 128, 32, 4, 2, 1),
    Layer("DCGAN 64 px, D's 3rd", 128, 128, 256, 16, 4, 2, 1),
    Layer("DCGAN 64 px, D's 4th", 128, 256, 512, 8, 4, 2, 1),
    Layer("DCGAN 64 px, G's last", 128, 3, 64, 64, 4, 2, 1),
    Layer("SRGAN residual block", 16, 64, 64, 24, 3, 1, 1),
    Layer("SRGAN before the shuffle", 16, 64, 256, 48, 3, 1, 1),
    Layer("SRGAN, D's 4th", 16, 128, 128, 48, 3, 2, 1),
    Layer("PatchGAN, 2nd", 1, 64, 128, 128, 4, 2, 1),
    Layer("PatchGAN, 4th", 1, 256, 512, 32, 4, 1, 1),
    Layer("StyleGAN2 256 px, D at 64", 16, 256, 256, 64, 3, 1, 1),
    Layer("StyleGAN2 256 px, D at 16", 16, 512, 512, 16, 3, 1, 1),
    Layer("LAPGAN 28 px, D", 16, 64, 64, 28, 5, 1, 2),
]
MAPS = [("DCGAN 32 px map", (128, 128, 32, 32)), ("StyleGAN2 256 px map", (16, 64, 256, 256))]


@dataclass(frozen=True)
class Work:
    """What a row times: ours, the others by name, and what the operation costs at the least."""

    name: str
    ours: Callable[[], Any]
    others: dict[str, Callable[[], Any]]
    flops: float
    bytes: float


class Bench:
    """Makes inputs on one device in one dtype, ours and torch's on the same memory."""

    def __init__(self, device: str, dtype: str):
        self.device, self.dtype = device, dtype
        self.on_gpu = device != "cpu"
        self.random = np.random.default_rng(SEED)

    def array(self, *shape: int, channels_last: bool = True):
        """Standard normal numbers as our array, in channels-last memory where there are four axes."""
        last = channels_last and len(shape) == 4
        made = [shape[i] for i in (0, 2, 3, 1)] if last else shape
        numbers = self.random.standard_normal(made, dtype=np.float32).astype(self.dtype)
        array = backend.module_of(self.device).asarray(numbers)
        return array.transpose(0, 3, 1, 2) if last else array

    def tensor(self, array) -> torch.Tensor:
        """The same memory as a torch tensor."""
        return torch.from_dlpack(array) if self.on_gpu else torch.from_numpy(array)

    def images(self, n: int) -> int:
        """The batch of a layer on this device."""
        return n if self.on_gpu else min(n, CPU_IMAGES)

    def others(self, function: Callable, *tensors: torch.Tensor) -> dict[str, Callable[[], Any]]:
        """PyTorch's ways to run `function`: as it comes, and on a GPU in channels-last memory and compiled."""
        plain = [t.contiguous() for t in tensors]
        if not self.on_gpu:
            return {"eager": lambda: function(*plain)}
        last = [t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
        compiled = torch.compile(function, mode="max-autotune-no-cudagraphs")
        return {
            "eager": lambda: function(*plain),
            "channels_last": lambda: function(*last),
            "compiled": lambda: compiled(*last),
        }

    def size(self, *arrays) -> int:
        return sum(a.nbytes for a in arrays)


def convolutions(bench: Bench) -> Iterator[Work]:
    """conv, conv_dx and conv_dw of every layer."""
    for layer in LAYERS:
        n, p, settings = bench.images(layer.n), layer.padding, ((layer.stride,) * 2, (layer.padding,) * 2, (1, 1), 1)
        out = (layer.size + 2 * p - layer.r) // layer.stride + 1
        x, g = bench.array(n, layer.c, layer.size, layer.size), bench.array(n, layer.k, out, out)
        w = bench.array(layer.k, layer.c, layer.r, layer.r)
        tx, tg, tw = map(bench.tensor, (x, g, w))
        flops = 2.0 * n * out * out * layer.k * layer.c * layer.r**2
        moved = bench.size(x, g, w)
        stride, padding = (layer.stride,) * 2, (layer.padding,) * 2

        def forward(x, w, stride=stride, padding=padding):
            return TF.conv2d(x, w, stride=stride, padding=padding)

        def backward(g, x, w, mask, stride=stride, padding=padding):
            adjoints = torch.ops.aten.convolution_backward
            return adjoints(g, x, w, None, stride, padding, (1, 1), False, (0, 0), 1, mask)

        def by_x(g, x, w, backward=backward):
            return backward(g, x, w, (True, False, False))[0]

        def by_w(g, x, w, backward=backward):
            return backward(g, x, w, (False, True, False))[1]

        shape = f"{layer.name}: {n}x{layer.c}x{layer.size}x{layer.size} to {layer.k}, k{layer.r} s{layer.stride}"
        yield Work(f"conv     {shape}", functools.partial(conv_kernels.conv, x, w, *settings),
                   bench.others(forward, tx, tw), flops, moved)  # fmt: skip
        yield Work(f"conv_dx  {shape}", functools.partial(conv_kernels.conv_dx, g, w, x.shape, *settings),
                   bench.others(by_x, tg, tx, tw), flops, moved)  # fmt: skip
        yield Work(f"conv_dw  {shape}", functools.partial(conv_kernels.conv_dw, x, g, w.shape, *settings),
                   bench.others(by_w, tg, tx, tw), flops, moved)  # fmt: skip


def pointwise(bench: Bench) -> Iterator[Work]:
    """Bias and leaky rectifier, batch norm, blur."""
    for name, (n, *rest) in MAPS:
        x = bench.array(bench.images(n), *rest)
        b, channels = bench.array(rest[0]), (1, rest[0], 1, 1)
        tx, tb = bench.tensor(x), bench.tensor(b)
        shape = f"{name}: {'x'.join(map(str, x.shape))}"

        def leaky(x, b):
            return TF.leaky_relu(x + b[:, None, None], 0.2)

        yield Work(f"bias_act      {shape}",
                   functools.partial(bias_act_kernels.bias_act, x, b, 1, "leaky_relu", 0.2, 1.0),
                   bench.others(leaky, tx, tb), 4.0 * x.size, 2 * bench.size(x))  # fmt: skip

        def normalised(x, w):
            return TF.batch_norm(x, None, None, w, w, training=True)

        yield Work(f"batch_norm    {shape}", functools.partial(batch_norm, x, b.reshape(channels)),
                   bench.others(normalised, tx, tb), 8.0 * x.size, 3 * bench.size(x))  # fmt: skip
        taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
        kernel = torch.as_tensor(taps, dtype=tx.dtype, device=tx.device).expand(rest[0], 1, 4, 4).contiguous()

        def blurred(x, kernel):
            return TF.conv2d(TF.pad(x, (2, 1, 2, 1)), kernel, groups=x.shape[1])

        yield Work(f"upfirdn2d     {shape}", functools.partial(blur, x, taps.tolist()),
                   bench.others(blurred, tx, kernel), 32.0 * x.size, 2 * bench.size(x))  # fmt: skip


def batch_norm(x, weight):
    """Batch norm in training with one array as weight and bias."""
    mean, variance = norm_kernels.moments(x, (0, 2, 3))
    return norm_kernels.normalize(x, mean, (variance + 1e-5) ** -0.5, weight, weight)


def blur(x, taps):
    """x filtered by a 4 x 4 filter, its size kept."""
    return upfirdn2d_kernels.upfirdn2d(x, taps, (1, 1), (1, 1), (2, 2), x.shape[2:])


def modulated(bench: Bench) -> Iterator[Work]:
    """StyleGAN2's convolution with noise, bias and rectifier, against weights made for each image and grouped."""
    for edge, channels in ((16, 512), (64, 256), (256, 64)):
        n = bench.images(16)
        x, style = bench.array(n, channels, edge, edge), bench.array(n, channels)
        w, noise, bias = bench.array(channels, channels, 3, 3), bench.array(n, edge, edge), bench.array(channels)
        geometry = conv_kernels.Geometry((edge,) * 2, (3, 3), (edge,) * 2, (1, 1), (1, 1), (1, 1), 1)
        ours = functools.partial(modulated_conv, x, w, style, noise, bias, geometry)
        others = bench.others(grouped, *map(bench.tensor, (x, w, style, noise, bias)))
        flops = 2.0 * x.size * channels * 9
        yield Work(f"modulated_conv {n}x{channels}x{edge}x{edge}", ours, others, flops, bench.size(x, x, w, noise))


def modulated_conv(x, w, style, noise, bias, geometry):
    """Images in the logical order (N, C, H, W) in and out; leaky rectifier of slope 0.2."""
    y = modulated_kernels.modulated_conv(x.transpose(0, 2, 3, 1), w, style, geometry, True, noise, bias[:1].reshape(()), bias,
                                         "leaky_relu", 0.2)  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def grouped(x, w, style, noise, bias):
    """The same in PyTorch, as the authors' code has it for training: one group for each image."""
    n, c, height, width = x.shape
    weights = w[None] * style[:, None, :, None, None]
    weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    y = TF.conv2d(x.reshape(1, n * c, height, width), weights.reshape(-1, *w.shape[1:]), padding=1, groups=n)
    y = y.reshape(n, -1, height, width) + bias[0] * noise[:, None] + bias[:, None, None]
    return TF.leaky_relu(y, 0.2)


def losses(bench: Bench) -> Iterator[Work]:
    """D's non-saturating loss of a PatchGAN's logits and an R1 penalty, value and gradients."""
    real, fake = bench.array(1 << 16), bench.array(1 << 16)

    def logistic(real, fake):
        r, f = real.detach().requires_grad_(), fake.detach().requires_grad_()
        value = TF.softplus(-r).mean() + TF.softplus(f).mean()
        return value.detach(), *torch.autograd.grad(value, (r, f))

    yield Work("minimax_d 65536 logits", functools.partial(loss_kernels.minimax_d, real, fake),
               bench.others(logistic, *map(bench.tensor, (real, fake))), 20.0 * real.size, 4 * real.nbytes)  # fmt: skip
    slopes = bench.array(bench.images(16), 3 * 256 * 256)

    def penalty(g):
        g = g.detach().requires_grad_()
        value = 5 * g.square().sum(1).mean()
        return value.detach(), *torch.autograd.grad(value, g)

    yield Work(f"r1_penalty {len(slopes)}x3x256x256", functools.partial(norm_penalties.r1_penalty, slopes, 10.0),
               bench.others(penalty, bench.tensor(slopes)), 3.0 * slopes.size, 2 * slopes.nbytes)  # fmt: skip


def optimisers(bench: Bench) -> Iterator[Work]:
    """Adam with the moving average of the weights, over 24 million of them in float32, against fused Adam and lerp."""
    if bench.dtype != "float32":
        return
    count = 24_000_000 if bench.on_gpu else 1_000_000
    p, g, m, ema = (bench.array(count) for _ in range(4))
    v = abs(bench.array(count))
    module = backend.xp(p)
    clock, lr = module.array([1.0, 0.1, 0.1**0.5]), module.asarray(np.float32(1e-3))
    tp, tg, tm, tv, te = (bench.tensor(a.copy()) for a in (p, g, m, v, ema))
    steps = torch.ones((), device=tp.device if bench.on_gpu else None)

    def ours():
        found = update_kernels.adam(p, g, m, v, None, clock, lr, beta1=0.9, beta2=0.9, ema=ema, zero=False)
        return found[0]

    def adam():
        torch._fused_adam_([tp], [tg], [tm], [tv], [], [steps], lr=1e-3, beta1=0.9, beta2=0.9, weight_decay=0.0,
                           eps=1e-8, amsgrad=False, maximize=False)  # fmt: skip
        te.lerp_(tp, 0.001)
        return tp

    yield Work(f"adam and ema, {count:,} weights", ours, {"eager": adam}, 16.0 * count, 9 * p.nbytes)


FAMILIES = (convolutions, pointwise, modulated, losses, optimisers)


@dataclass(frozen=True)
class Row:
    """One line of the table: milliseconds of ours and of the fastest other, rates, fractions of the ceilings."""

    name: str
    dtype: str
    ours: Times
    best: str  # the other's name
    other: Times
    tflops: float
    gbytes: float
    fraction: float | None  # of the nearer ceiling, the larger of both fractions; None on the CPU

    @property
    def ratio(self) -> float:
        return self.ours.p50 / self.other.p50


def measure(only: str = "", device: str = "cuda") -> list[Row]:
    """Rows of every operation whose name contains `only`, in float32 and on a GPU in float16 too.

    Raises AssertionError where a result differs from PyTorch's.
    """
    ceilings = cuda.ceilings() if device != "cpu" else None
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    rows = []
    with tf32(device):
        for dtype in ("float32",) if device == "cpu" else ("float16", "float32"):
            for family in FAMILIES:
                for work in family(Bench(device, dtype)):
                    if only in work.name:
                        check(work, dtype)
                        rows.append(timed(work, dtype, device, ceilings))
    print(f"all results match PyTorch's within {TOLERANCES}")
    return rows


def tf32(device: str) -> contextlib.AbstractContextManager:
    """On a GPU float32 products may take TF32 on both sides."""
    return contextlib.nullcontext() if device == "cpu" else dispatch.float32_matmul("high")


def check(work: Work, dtype: str) -> None:
    """Ours gives PyTorch's numbers."""
    expected = [t.float().cpu().numpy() for t in _listed(work.others["eager"]())]
    found = [backend.to_host(a).astype(np.float32) for a in _listed(work.ours())]
    timing.check_close(work.name, found, expected, TOLERANCES[dtype])


def _listed(results) -> list:
    return list(results) if isinstance(results, tuple) else [results]


def timed(work: Work, dtype: str, device: str, ceilings: dict[str, float] | None) -> Row:
    """The row of one operation."""
    functions = {"ours": work.ours, **work.others}
    times = on_host(functions) if device == "cpu" else cuda.compare(functions)
    best = min(work.others, key=lambda name: times[name].p50)
    tflops, gbytes = work.flops / times["ours"].p50 / 1e9, work.bytes / times["ours"].p50 / 1e6
    fraction = None if ceilings is None else max(tflops / ceilings[dtype], gbytes / ceilings["copy"])
    return Row(work.name, dtype, times["ours"], best, times[best], tflops, gbytes, fraction)


def on_host(functions: dict[str, Callable[[], Any]]) -> dict[str, Times]:
    """Times on the CPU, in turn."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(CPU_ROUNDS):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            samples[name].append((time.perf_counter() - begin) * 1e3)
    return {name: Times(*map(float, np.quantile(own, (0.2, 0.5, 0.8)))) for name, own in samples.items()}


def show(rows: list[Row]) -> None:
    """Print the table; the ratio is ours over the fastest other's, so below 1 we are faster."""
    width = max((len(row.name) for row in rows), default=4)
    print(f"{'kernel':<{width}}  {'dtype':<8}  {'ours ms (p20 p50 p80)':>26}  {'best of the others':>24}  "
          f"{'ratio':>5}  {'TFLOP/s':>8}  {'GB/s':>6}  ceiling")  # fmt: skip
    for row in rows:
        ours = " ".join(f"{t:8.4g}" for t in (row.ours.p20, row.ours.p50, row.ours.p80))
        share = "" if row.fraction is None else f"{row.fraction:.0%}"
        print(f"{row.name:<{width}}  {row.dtype:<8}  {ours:>26}  {row.best + f' {row.other.p50:.4g}':>24}  "
              f"{row.ratio:>5.2f}  {row.tflops:>8.3g}  {row.gbytes:>6.0f}  {share}")  # fmt: skip


HEADER = ["kernel", "dtype", "ours_p20_ms", "ours_p50_ms", "ours_p80_ms", "best", "best_p20_ms", "best_p50_ms", "best_p80_ms",
          "ratio", "tflops", "gbytes_per_s", "fraction_of_ceiling"]  # fmt: skip


def save(rows: list[Row], device: str = "cuda") -> Path:
    """results/kernels_cpu.csv or results/kernels_NAME_OF_THE_GPU.csv, with a roofline plot beside the latter."""
    lines = [
        [row.name, row.dtype, *(f"{t:.5g}" for t in astuple(row.ours)), row.best, *(f"{t:.5g}" for t in astuple(row.other)),
         f"{row.ratio:.4g}", f"{row.tflops:.4g}", f"{row.gbytes:.4g}", "" if row.fraction is None else f"{row.fraction:.3g}"]
        for row in rows
    ]  # fmt: skip
    if device == "cpu":
        return timing.save("kernels_cpu", HEADER, lines)
    facts = {**cuda.environment(), **{f"ceiling {k}": f"{v:.4g}" for k, v in cuda.ceilings().items()}, "seed": str(SEED)}
    kind = "kernels_" + re.sub(r"[^A-Za-z0-9]+", "_", facts["gpu"])
    plot(rows, cuda.ceilings(), timing.RESULTS / f"{kind}.png")
    return timing.save(kind, HEADER, lines, facts)


def plot(rows: list[Row], ceilings: dict[str, float], path: Path) -> None:
    """The roofline: TFLOP/s over FLOPs per byte, a point for each row, under what this GPU can do at the best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    intensity = np.logspace(-1, 4, 200)
    for dtype, marker in (("float16", "o"), ("float32", "s")):
        own = [row for row in rows if row.dtype == dtype]
        roof = np.minimum(ceilings["copy"] * intensity / 1e3, ceilings[dtype])
        (line,) = axes.loglog(intensity, roof, label=f"ceiling, {dtype}")
        axes.loglog([1e3 * row.tflops / row.gbytes for row in own], [row.tflops for row in own], marker,
                    color=line.get_color(), label=dtype)  # fmt: skip
    axes.set_xlabel("FLOPs per byte")
    axes.set_ylabel("TFLOP/s")
    axes.legend()
    figure.savefig(path, dpi=120)
