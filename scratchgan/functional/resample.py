"""Pooling, interpolation, pixel shuffling and FIR resampling under PyTorch's and StyleGAN's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from scratchgan.backend import kept, to_host
from scratchgan.functional.conv import batched, per_axis, unbatched
from scratchgan.kernels import windows as kernel
from scratchgan.kernels.windows import Windows
from scratchgan.ops import reduce
from scratchgan.ops import resample as ops
from scratchgan.ops.shape import reshape
from scratchgan.tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "interpolate",
    "max_pool2d",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upfirdn2d",
]

Ints = int | Sequence[int]


# Pooling


def avg_pool2d(
    input,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
):
    """Means of windows of x (N, C, H, W) or (C, H, W), `stride` (by default their size) apart.

    A window at the border is divided by its size within the padded input, or with `count_include_pad=False`
    by what of x it covers, or by `divisor_override`. `ceil_mode` keeps a last window that begins inside but
    ends outside.
    """
    x, alone = batched("avg_pool2d", input, 2)
    windows = _pooling("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override is 0, expected a number to divide by")
    counts = [
        np.full(n, math.sqrt(divisor_override))
        if divisor_override
        else _counts(h, n, k, s, p, count_include_pad)
        for h, n, k, s, p in zip(
            windows.x_size, windows.size, windows.kernel, windows.stride, windows.padding
        )
    ]
    return unbatched(_window_means(x, windows, counts, divisor_override), alone)


def max_pool2d(
    input,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
):
    """Maxima of windows of x (N, C, H, W) or (C, H, W); the gradient goes to the first of equals.

    With `return_indices` also where they were found: r W + c for each.
    """
    x, alone = batched("max_pool2d", input, 2)
    windows = _pooling("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    y = unbatched(ops.max_pool2d(x, windows=windows), alone)
    if not return_indices:
        return y
    array = x._array if isinstance(x, Tensor) else x
    places = kernel.places(kernel.first_maxima(array, kernel.maxima(array, windows), windows), windows)
    return y, Tensor(places[0] if alone else places)


def adaptive_avg_pool2d(input, output_size: int | Sequence[int | None] | None):
    """Means of P x Q windows that cover x (N, C, H, W) or (C, H, W) evenly; None keeps an axis as it is.

    Window i reaches from floor(i H / P) to ceil((i + 1) H / P).
    """
    x, alone = batched("adaptive_avg_pool2d", input, 2)
    wanted = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * 2
    size = per_axis(
        "adaptive_avg_pool2d", "output_size", [n if w is None else w for n, w in zip(x.shape[2:], wanted)], 2
    )
    if size == (1, 1):
        return unbatched(reduce.mean(x, axis=(2, 3), keepdims=True), alone)
    return unbatched(_adaptive_means(x, size), alone)


def _adaptive_means(x, size):
    """x (N, C, *spatial) averaged down, or repeated up, to `size`."""
    for axis, p in enumerate(size, start=2):
        h = x.shape[axis]
        if h != p:
            matrix = np.zeros((p, h))
            for i in range(p):
                start, stop = i * h // p, -(-(i + 1) * h // p)
                matrix[i, start:stop] = 1 / (stop - start)
            x = ops.along(x, matrix=matrix, axis=axis)
    return x


def _pooling(name, x, kernel_size, stride, padding, dilation, ceil_mode) -> Windows:
    kernel_size = per_axis(name, "kernel_size", kernel_size, 2)
    stride = kernel_size if stride is None or stride == [] else per_axis(name, "stride", stride, 2)
    padding, dilation = per_axis(name, "padding", padding, 2), per_axis(name, "dilation", dilation, 2)
    if 0 in x.shape[2:]:
        raise ValueError(f"{name}: input has shape {tuple(x.shape)}, expected at least one pixel")
    if any(2 * p > k for p, k in zip(padding, kernel_size)):
        raise ValueError(f"{name}: padding {padding} is more than half of kernel_size {kernel_size}")
    size = []
    for h, k, s, p, d in zip(x.shape[2:], kernel_size, stride, padding, dilation):
        room = h + 2 * p - d * (k - 1) - 1
        n = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (n - 1) * s >= h + p:  # the last window would lie in the padding alone
            n -= 1
        size.append(n)
    if min(size) < 1:
        raise ValueError(
            f"{name}: windows {kernel_size} do not fit into input {tuple(x.shape)} with padding {padding}"
        )
    return Windows(tuple(x.shape[2:]), tuple(size), kernel_size, stride, padding, dilation)


def _counts(h: int, n: int, k: int, s: int, p: int, include_pad: bool) -> np.ndarray:
    """How many positions along one axis each of n windows counts."""
    start = np.arange(n) * s - p
    stop = np.minimum(start + k, h + p)
    return stop - start if include_pad else np.minimum(stop, h) - np.maximum(start, 0)


def _window_means(x, windows: Windows, counts: list[np.ndarray], divisor: int | None):
    """Sums over windows of x, divided by the product of the two axes' counts, or by one divisor."""
    rows, columns = windows.kernel
    uniform = all((c == c[0]).all() for c in counts)
    weight = 1 / (divisor or int(counts[0][0]) * int(counts[1][0])) if uniform else 1.0
    y = _filtered(
        x, [1.0] * rows, [1.0] * columns, weight, (1, 1), windows.stride, windows.padding, windows.size
    )
    return (
        y
        if uniform
        else y * kept(1 / np.outer(*counts), x._array if isinstance(x, Tensor) else x)
    )


# Resampling


def interpolate(
    input,
    size: Ints | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
):
    """x (N, C, L) or (N, C, H, W) resampled to `size`, or to floor(scale_factor n) along each axis.

    Modes: "nearest" (y[i] = x[floor(i r)] with the ratio r), "nearest-exact" (x[floor((i + 1/2) r)]),
    "linear", "bilinear" and "bicubic" (at (i + 1/2) r - 1/2, or with `align_corners` at i (n - 1) / (m - 1)),
    "area" (adaptive average pooling). The ratio is 1 / scale_factor where that is given, unless
    `recompute_scale_factor`, and n / m otherwise. `antialias` widens the kernel of "bilinear" and "bicubic"
    to the ratio where that is above 1. The cubic's parameter (Keys 1981) is -0.75, with `antialias` -0.5, as
    Pillow and Matlab have it.
    """
    axes = input.ndim - 2
    modes = {
        1: ("nearest", "nearest-exact", "linear", "area"),
        2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    }
    if mode not in modes.get(axes, ()):
        raise ValueError(
            f"interpolate: mode is {mode!r} for {tuple(input.shape)}, expected {modes[1]} for (N, C, L) "
            f"or {modes[2]} for (N, C, H, W)"
        )
    smooth = mode in ("linear", "bilinear", "bicubic")
    if align_corners is not None and not smooth:
        raise ValueError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias is there for modes 'bilinear' and 'bicubic', not {mode!r}")
    sizes, ratios = _target(input.shape[2:], size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return _adaptive_means(input, sizes)
    if smooth:
        weights = {
            ("bilinear", True): partial(_antialiased_weights, kernel=_triangle),
            ("bicubic", True): partial(_antialiased_weights, kernel=partial(_cubic, a=-0.5)),
            ("bicubic", False): _cubic_weights,
        }.get((mode, antialias), _linear_weights)
        matrices = [
            weights(n, m, ratio, bool(align_corners)) for n, m, ratio in zip(input.shape[2:], sizes, ratios)
        ]
    else:
        sources = [_nearest(n, m, ratio, mode) for n, m, ratio in zip(input.shape[2:], sizes, ratios)]
        factors = [_factors(n, source) for n, source in zip(input.shape[2:], sources)]
        if None not in factors:
            return _repeated(input, factors, sizes)
        matrices = [np.eye(n)[source] for n, source in zip(input.shape[2:], sources)]
    for axis, matrix in enumerate(matrices, start=2):
        if matrix.shape[0] != matrix.shape[1] or (matrix != np.eye(len(matrix))).any():
            input = ops.along(input, matrix=matrix, axis=axis)
    return input


def _target(shape, size, scale_factor, recompute: bool) -> tuple[tuple[int, ...], list[float]]:
    """The sizes to reach and, per axis, the step through the input that one output pixel is."""
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: expected one of size and scale_factor")
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor needs scale_factor")
        sizes = per_axis("interpolate", "size", size, len(shape))
        return sizes, [n / m for n, m in zip(shape, sizes)]
    factors = tuple(scale_factor) if isinstance(scale_factor, Sequence) else (scale_factor,) * len(shape)
    if len(factors) != len(shape) or any(not f > 0 for f in factors):
        raise ValueError(
            f"interpolate: scale_factor is {scale_factor!r}, expected a positive number or {len(shape)}"
        )
    sizes = tuple(math.floor(n * f) for n, f in zip(shape, factors))
    if min(sizes) < 1:
        raise ValueError(
            f"interpolate: scale_factor {scale_factor!r} leaves nothing of an input of size {tuple(shape)}"
        )
    return sizes, [n / m for n, m in zip(shape, sizes)] if recompute else [1 / f for f in factors]


def _nearest(n: int, m: int, ratio: float, mode: str) -> np.ndarray:
    """Which of n pixels each of m takes: PyTorch's formula in float32, with its exceptions for 1 and 2."""
    i = np.arange(m, dtype=np.float32)
    if mode == "nearest-exact":
        i += np.float32(0.5)
    elif m in (n, 2 * n):
        return np.arange(m) * n // m
    return np.minimum((i * np.float32(ratio)).astype(int), n - 1)


def _factors(n: int, source: np.ndarray) -> tuple[int, int] | None:
    """(u, 1) if each of n pixels comes u times, (1, d) if the first of every d is kept, otherwise None."""
    m = len(source)
    up, down = max(1, m // max(n, 1)), max(1, n // m)
    regular = np.arange(m) // up * down
    return (up, down) if 1 in (up, down) and (source == regular).all() else None


def _repeated(x, factors: list[tuple[int, int]], sizes: tuple[int, ...]):
    """Every pixel `up` times, or the first of every `down`, along each axis."""
    flat = x.ndim == 3
    if flat:
        x, factors, sizes = reshape(x, shape=(*x.shape[:2], 1, x.shape[2])), [(1, 1), *factors], (1, *sizes)
    up, down = zip(*factors)
    f = ((1.0,) * up[1],) * up[0]
    y = ops.upfirdn2d(x, f=f, up=up, down=down, pad=(up[0] - 1, up[1] - 1), size=sizes)
    return reshape(y, shape=(*y.shape[:2], y.shape[3])) if flat else y


def _linear_weights(n: int, m: int, ratio: float, align_corners: bool) -> np.ndarray:
    """(m, n) with 1 - t and t at the two neighbours of each output's place; the identity where n = m."""
    if n == m:
        return np.eye(n)
    if align_corners:
        place = np.arange(m) * _corner_ratio(n, m)
    else:
        place = np.maximum((np.arange(m) + 0.5) * ratio - 0.5, 0)
    low = np.minimum(place.astype(int), n - 1)
    high, t = np.minimum(low + 1, n - 1), (place - low)[:, None]
    return (1 - t) * np.eye(n)[low] + t * np.eye(n)[high]


def _corner_ratio(n: int, m: int) -> float:
    """The step through n pixels that brings the first and the last of m to their corners."""
    return (n - 1) / (m - 1) if m > 1 else 0.0


def _cubic_weights(n: int, m: int, ratio: float, align_corners: bool) -> np.ndarray:
    """(m, n): the cubic at the four pixels about each output's place; those beyond the border repeat it."""
    place = np.arange(m) * _corner_ratio(n, m) if align_corners else (np.arange(m) + 0.5) * ratio - 0.5
    nearest, weights = np.floor(place).astype(int), np.zeros((m, n))
    for tap in range(-1, 3):
        pixel = nearest + tap
        weights[np.arange(m), np.clip(pixel, 0, n - 1)] += _cubic(pixel - place, a=-0.75)
    return weights


def _triangle(t: np.ndarray) -> np.ndarray:
    """1 - |t| within a distance of 1."""
    return np.maximum(1 - abs(t), 0)


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """The convolution kernel of Keys 1981: two cubics that meet smoothly at |t| = 1 and end at 2."""
    t = abs(t)
    inner = ((a + 2) * t - (a + 3)) * t * t + 1
    outer = a * (((t - 5) * t + 8) * t - 4)
    return np.where(t < 1, inner, np.where(t < 2, outer, 0))


def _antialiased_weights(
    n: int, m: int, ratio: float, align_corners: bool, kernel: Callable
) -> np.ndarray:
    """(m, n): the kernel around each output's place, widened by `ratio` where that is above 1; the identity
    where n = m.
    """
    if n == m:
        return np.eye(n)
    if align_corners:
        ratio = _corner_ratio(n, m)
    width = max(ratio, 1.0)
    centre = ratio * (np.arange(m) + 0.5)[:, None]
    weights = kernel((np.arange(n) + 0.5 - centre) / width)
    return weights / weights.sum(axis=1, keepdims=True)


def pixel_shuffle(input, upscale_factor: int):
    """(..., C r^2, H, W) to (..., C, H r, W r): channel c r^2 + i r + j is pixel (i, j) of a block."""
    r, (*_, channels, _, _) = upscale_factor, _image("pixel_shuffle", input, upscale_factor)
    if channels % (r * r):
        raise ValueError(
            f"pixel_shuffle: {channels} channels of {tuple(input.shape)} are not divisible by {r} squared"
        )
    return ops.pixel_shuffle(input, r=r)


def pixel_unshuffle(input, downscale_factor: int):
    """(..., C, H r, W r) to (..., C r^2, H, W): the inverse of `pixel_shuffle`."""
    r, (*_, h, w) = downscale_factor, _image("pixel_unshuffle", input, downscale_factor)
    if h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: input {tuple(input.shape)} is not divisible by {r} in height and width"
        )
    return ops.pixel_unshuffle(input, r=r)


def _image(name: str, x, factor: int) -> tuple[int, ...]:
    if x.ndim < 3 or factor < 1:
        raise ValueError(
            f"{name}: expected input (..., C, H, W) and a factor >= 1, got {tuple(x.shape)} and {factor}"
        )
    return tuple(x.shape)


def upfirdn2d(
    input, f=None, up: Ints = 1, down: Ints = 1, padding: Ints = 0, flip_filter: bool = False, gain: float = 1
):
    """StyleGAN's resampler on x (N, C, H, W): `up` - 1 zeros after each pixel, pad, convolve with f, keep
    every `down`-th pixel.

    f (R, S), or (T,) for the separable filter f f^T, or None; a constant. `up` and `down` are one number or
    (x, y); padding, which refers to the upsampled image, one number, (x, y) or (x0, x1, y0, y1), and crops
    where it is negative. `flip_filter` correlates instead of convolving, and `gain` scales the result.
    """
    if input.ndim != 4:
        raise ValueError(f"upfirdn2d: input has shape {tuple(input.shape)}, expected (N, C, H, W)")
    f = np.ones((1, 1)) if f is None else to_host(f._array) if isinstance(f, Tensor) else to_host(f)
    if f.ndim not in (1, 2) or not f.size:
        raise ValueError(f"upfirdn2d: f has shape {f.shape}, expected (R, S) or (T,)")
    if not flip_filter:
        f = np.flip(f)
    up, down = per_axis("upfirdn2d", "up", up, 2)[::-1], per_axis("upfirdn2d", "down", down, 2)[::-1]
    x0, x1, y0, y1 = _four(padding)
    shape = (f.shape[0], f.shape[-1])
    size = tuple(
        (n * u + before + after - t) // d + 1
        for n, u, d, t, before, after in zip(input.shape[2:], up, down, shape, (y0, x0), (y1, x1))
    )
    if min(size) < 1:
        raise ValueError(
            f"upfirdn2d: a filter of size {shape} does not fit into input {tuple(input.shape)} "
            f"with up {up[::-1]} and padding {padding}"
        )
    if f.ndim == 1:
        taps = f.tolist()
        return _filtered(input, taps, taps, gain, up, down, (y0, x0), size)
    return ops.upfirdn2d(
        input, f=tuple(map(tuple, (f * gain).tolist())), up=up, down=down, pad=(y0, x0), size=size
    )


def _four(padding) -> tuple[int, int, int, int]:
    values = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    if len(values) == 2:
        values = (values[0], values[0], values[1], values[1])
    if len(values) != 4:
        raise ValueError(f"upfirdn2d: padding is {padding!r}, expected an int, (x, y) or (x0, x1, y0, y1)")
    return values


def _filtered(x, rows: list[float], columns: list[float], gain: float, up, down, pad, size):
    """x filtered with gain rows columns^T, one axis after the other where that is less work."""
    if len(rows) * len(columns) <= len(rows) + len(columns):
        f = tuple(tuple(gain * r * c for c in columns) for r in rows)
        return ops.upfirdn2d(x, f=f, up=up, down=down, pad=pad, size=size)
    vertical, horizontal = tuple((gain * r,) for r in rows), (tuple(columns),)

    def down_columns(x):
        return ops.upfirdn2d(
            x, f=vertical, up=(up[0], 1), down=(down[0], 1), pad=(pad[0], 0), size=(size[0], x.shape[3])
        )

    def along_rows(x):
        return ops.upfirdn2d(
            x, f=horizontal, up=(1, up[1]), down=(1, down[1]), pad=(0, pad[1]), size=(x.shape[2], size[1])
        )

    grows = size[0] > x.shape[2]  # the axis that grows comes last
    return down_columns(along_rows(x)) if grows else along_rows(down_columns(x))
