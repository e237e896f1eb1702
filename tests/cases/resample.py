"""Cases of pooling, interpolation, pixel shuffling and upfirdn2d."""

import numpy as np
import torch
import torch.nn.functional as T

from tests.cases.case import Case, Input


def _over(op, shapes, arguments, domain="normal", layout="C", **more):
    return [
        Case(op, (Input(shape, domain, layout=layout),), kwargs, **more)
        for shape in shapes
        for kwargs in arguments
    ]


def _upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1):
    """StyleGAN's definition, step by step in plain PyTorch."""
    (ux, uy), (dx, dy) = (v if isinstance(v, tuple) else (v, v) for v in (up, down))
    pad = (padding,) * 4 if isinstance(padding, int) else padding
    if len(pad) == 2:
        pad = (pad[0], pad[0], pad[1], pad[1])
    f = torch.as_tensor(f, dtype=x.dtype)
    if f.ndim == 1:
        f = f[:, None] * f[None, :]
    f = f * gain if flip_filter else f.flip([0, 1]) * gain
    n, c, h, w = x.shape
    x = T.pad(x.reshape(n, c, h, 1, w, 1), [0, ux - 1, 0, 0, 0, uy - 1]).reshape(n, c, h * uy, w * ux)
    x = T.conv2d(T.pad(x, list(pad)), f[None, None].repeat(c, 1, 1, 1), groups=c)
    return x[:, :, ::dy, ::dx]


FILTERS = {
    "binomial": np.array([1.0, 3.0, 3.0, 1.0]) / 8,
    "uneven": np.array([0.3, -1.2, 0.7, 0.4, 2.0]),
    "matrix": np.array([[0.5, -1.0, 2.0], [0.1, 0.0, -0.7]]),
}


def _resampled(f, layout="C", shape=(2, 3, 8, 7), **kwargs):
    return Case(
        "upfirdn2d",
        (Input(shape, layout=layout),),
        note=f"{f} {kwargs}",
        call=lambda F, x: F.upfirdn2d(x, FILTERS[f].astype(x.dtype), **kwargs),
        torch=lambda x: _upfirdn2d(x, FILTERS[f], **kwargs),
    )


IMAGES = ((2, 3, 8, 7), (3, 8, 7))

CASES = [
    *_over(
        "avg_pool2d",
        IMAGES,
        (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "ceil_mode": True},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
            {"kernel_size": 3, "padding": 1, "divisor_override": 5},
        ),
    ),
    *_over(
        "avg_pool2d",
        ((2, 3, 8, 8),),
        ({"kernel_size": 2}, {"kernel_size": 4, "stride": 1}),
        layout="channels_last",
    ),
    *_over("avg_pool2d", ((0, 3, 4, 4), (1, 1, 2, 2)), ({"kernel_size": 2},)),
    *_over(
        "max_pool2d",
        IMAGES,
        (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "ceil_mode": True},
            {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
        ),
        domain="distinct",
    ),
    *_over(
        "max_pool2d",
        ((2, 3, 8, 8),),
        ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1}),
        domain="distinct",
        layout="channels_last",
    ),
    *_over("max_pool2d", ((0, 3, 4, 4), (1, 1, 2, 2)), ({"kernel_size": 2},), domain="distinct"),
    Case(
        "max_pool2d",
        (Input((2, 3, 4, 4), "distinct"),),
        call=lambda F, x: F.max_pool2d(F.interpolate(x, scale_factor=2), 3, 2),
        torch=lambda x: T.max_pool2d(T.interpolate(x, scale_factor=2), 3, 2),
        note="one of equals",
    ),
    Case(
        "max_pool2d",
        (Input((2, 3, 6, 6)),),
        order=0,
        note="the first of equals",
        call=lambda F, x: F.max_pool2d(F.clamp(x, max=0.1), 3, 2, return_indices=True)[1],
        torch=lambda x: T.max_pool2d(x.clamp(max=0.1), 3, 2, return_indices=True)[1],
    ),
    *[
        Case(
            "max_pool2d",
            (Input(shape, "distinct"),),
            order=0,
            note=f"indices {kwargs}",
            call=lambda F, x, kw=kwargs: F.max_pool2d(x, return_indices=True, **kw)[1],
            torch=lambda x, kw=kwargs: T.max_pool2d(x, return_indices=True, **kw)[1],
        )
        for shape in IMAGES
        for kwargs in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1})
    ],
    *_over(
        "adaptive_avg_pool2d",
        IMAGES,
        [{"output_size": s} for s in (1, 3, (2, 3), (None, 4), (5, None), (16, 7), (8, 7))],
    ),
    *_over(
        "adaptive_avg_pool2d",
        ((2, 3, 8, 8),),
        ({"output_size": 4}, {"output_size": (3, 5)}),
        layout="channels_last",
    ),
    *_over(
        "interpolate",
        ((2, 3, 8, 6),),
        [
            {"mode": mode, **size}
            for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
            for size in (
                {"scale_factor": 2},
                {"size": (16, 12)},
                {"size": (5, 9)},
                {"scale_factor": (2.0, 0.5)},
                {"scale_factor": 1.3},
                {"scale_factor": 1.12},
                {"scale_factor": 1.1, "recompute_scale_factor": True},
                {"size": 4},
                {"size": (1, 18)},
            )
            if (mode, size) != ("bicubic", {"scale_factor": 1.12})
        ],
    ),
    # A factor that leaves the size as it is: PyTorch's gradient is not that of what it computes.
    *[
        Case("interpolate", (Input((2, 3, 8, 6), grad=False),), {"scale_factor": factor, **how})
        for factor in (1.12, (1.12, 2.0))
        for how in (
            {"mode": "bicubic"},
            {"mode": "bicubic", "antialias": True},
            {"mode": "bilinear", "antialias": True},
        )
    ],
    *_over(
        "interpolate",
        ((2, 3, 8, 6), (2, 3, 1, 5)),
        [
            {"mode": mode, "align_corners": True, **size}
            for mode in ("bilinear", "bicubic")
            for size in ({"scale_factor": 2}, {"size": (5, 9)}, {"scale_factor": 1.3}, {"size": 1})
        ],
    ),
    *_over(
        "interpolate",
        ((2, 3, 8, 6),),
        [
            {"mode": mode, "antialias": True, "align_corners": corners, **size}
            for mode in ("bilinear", "bicubic")
            for corners in (False, True)
            for size in ({"scale_factor": 2}, {"size": (3, 4)}, {"scale_factor": (0.4, 1.3)})
        ],
    ),
    *_over(
        "interpolate",
        ((2, 3, 8),),
        [
            {"mode": mode, **size}
            for mode in ("nearest", "linear", "area")
            for size in ({"scale_factor": 2}, {"size": 5}, {"scale_factor": 1.7}, {"scale_factor": (0.5,)})
        ],
    ),
    *_over(
        "interpolate",
        ((2, 3, 4, 4),),
        [{"mode": mode, "scale_factor": 2} for mode in ("nearest", "bilinear", "bicubic")],
        layout="channels_last",
    ),
    *_over("pixel_shuffle", ((2, 12, 3, 4), (12, 3, 1), (2, 1, 8, 2, 3)), ({"upscale_factor": 2},)),
    *_over("pixel_shuffle", ((2, 12, 3, 4),), ({"upscale_factor": 2},), layout="channels_last"),
    *_over("pixel_unshuffle", ((2, 3, 6, 9), (3, 6, 9)), ({"downscale_factor": 3},)),
    *_over("pixel_unshuffle", ((2, 3, 6, 4),), ({"downscale_factor": 2},), layout="channels_last"),
    *[
        _resampled(f, up=up, down=down, padding=padding, flip_filter=flip, gain=gain)
        for f in FILTERS
        for up, down, padding, flip, gain in (
            (1, 1, 0, False, 1),
            (2, 1, (2, 1, 2, 1), False, 4),
            (1, 2, 1, True, 1),
            ((2, 3), (3, 1), (4, 3, 5, 2), False, 2.0),
            (2, 3, (4, -1, 5, -2), True, 1),
            (3, 2, (-2, 3, -1, 6), False, 1),
            (1, 1, (2, 1), False, 1),
        )
    ],
    _resampled("binomial", "channels_last", (2, 3, 4, 4), up=2, padding=(2, 1, 2, 1), gain=4),
]
