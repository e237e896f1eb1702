"""Cases of the convolutions and of unfold."""

import torch.nn.functional as T

from tests.cases.case import Case, Input


def _conv(op, x, w, bias: int | None = None, layout="C", **kwargs):
    b = () if bias is None else (Input((bias,)),)
    return Case(op, (Input(x, layout=layout), Input(w), *b), kwargs)


CASES = [
    # kernels 4, stride 2, padding 1: the layers of a DCGAN, in both memory orders
    *[
        _conv("conv2d", (2, 3, 8, 8), (4, 3, 4, 4), 4, layout, stride=2, padding=1)
        for layout in ("C", "channels_last", "strided")
    ],
    *[
        _conv("conv_transpose2d", (2, 4, 4, 4), (4, 3, 4, 4), 3, layout, stride=2, padding=1)
        for layout in ("C", "channels_last", "strided")
    ],
    _conv("conv2d", (2, 5, 4, 4), (1, 5, 4, 4)),
    _conv("conv_transpose2d", (2, 5, 1, 1), (5, 3, 4, 4)),
    _conv("conv2d", (2, 3, 7, 6), (4, 3, 3, 2), 4, stride=(2, 1), padding=(1, 2)),
    _conv("conv2d", (2, 4, 9, 7), (6, 2, 3, 2), 6, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
    _conv("conv2d", (2, 4, 5, 6), (4, 1, 3, 3), padding=1, groups=4),
    _conv("conv2d", (2, 3, 7, 6), (4, 3, 2, 1), stride=3),
    _conv("conv2d", (2, 3, 5, 4), (2, 3, 1, 1), 2),
    _conv("conv2d", (2, 3, 5, 4), (2, 3, 1, 1), stride=2),
    _conv("conv2d", (2, 3, 7, 6), (4, 3, 3, 3), 4, padding="same"),
    _conv("conv2d", (2, 3, 7, 6), (4, 3, 5, 3), padding="same", dilation=(1, 2)),
    Case(
        "conv2d",
        (Input((2, 3, 7, 6)), Input((4, 3, 4, 3))),
        {"padding": "same"},
        note="uneven",
        torch=lambda x, w: T.conv2d(T.pad(x, [1, 1, 1, 2]), w),
    ),  # where PyTorch itself warns
    _conv("conv2d", (2, 3, 7, 6), (4, 3, 4, 3), padding="valid"),
    _conv("conv2d", (3, 7, 6), (4, 3, 3, 3), 4, padding=1),
    _conv("conv2d", (0, 3, 7, 6), (4, 3, 3, 3), 4),
    _conv("conv2d", (1, 1, 1, 1), (1, 1, 3, 3), 1, padding=1),
    _conv("conv1d", (2, 3, 9), (4, 3, 4), 4),
    _conv("conv1d", (2, 3, 9), (4, 3, 3), padding="same", dilation=3),
    _conv("conv1d", (2, 4, 9), (4, 2, 3), 4, stride=2, padding=(2,), groups=2),
    _conv("conv1d", (3, 9), (4, 3, 4), stride=2),
    _conv("conv_transpose2d", (2, 4, 5, 4), (4, 3, 3, 3), 6, stride=2, padding=1, output_padding=1, groups=2),
    _conv(
        "conv_transpose2d",
        (2, 4, 3, 4),
        (4, 2, 3, 2),
        stride=(3, 1),
        padding=(0, 1),
        output_padding=(2, 0),
        dilation=(2, 1),
    ),
    _conv("conv_transpose2d", (4, 3, 4), (4, 2, 3, 3), 2, padding=1),
    _conv("conv_transpose2d", (0, 4, 3, 3), (4, 2, 3, 3)),
    _conv("conv_transpose1d", (2, 4, 5), (4, 3, 4), 3, stride=2, padding=1),
    _conv("conv_transpose1d", (4, 5), (4, 3, 3), 3, stride=3, output_padding=(2,), dilation=2),
    *[
        Case("unfold", (Input(shape, layout=layout),), kwargs)
        for shape, layout, kwargs in (
            ((2, 3, 7, 6), "C", {"kernel_size": 3}),
            (
                (2, 3, 7, 6),
                "channels_last",
                {"kernel_size": (3, 2), "padding": 1, "stride": 2, "dilation": (1, 2)},
            ),
            ((3, 7, 6), "C", {"kernel_size": 2, "stride": (3, 2)}),
            ((1, 1, 4, 1), "C", {"kernel_size": (2, 1)}),
        )
    ],
]
