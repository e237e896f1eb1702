"""Cases of the normalisations, embedding and dropout."""

import torch
import torch.nn.functional as T

from tests.cases.case import Case, Input

RUNNING = (Input((3,), grad=False), Input((3,), "positive", grad=False))  # mean, variance
AFFINE = (Input((3,), "positive"), Input((3,)))


def _moved(op, **kwargs):
    """The running statistics after a call, as one array."""

    def ours(F, x, mean, variance):
        getattr(F, op)(x, mean, variance, **kwargs)
        return F.cat([mean, variance])

    def theirs(x, mean, variance):
        getattr(T, op)(x, mean, variance, **kwargs)
        return torch.cat([mean, variance])

    return Case(
        op,
        (Input((4, 3, 5), grad=False), *RUNNING),
        order=0,
        call=ours,
        torch=theirs,
        note=f"running statistics {kwargs}",
    )


def _with_shape(op, shape, argument, parameters, layout="C"):
    """layer_norm's and group_norm's arguments: input, normalized_shape or num_groups, weight, bias."""
    return Case(
        op,
        (Input(shape, layout=layout), *[Input(p) for p in parameters]),
        note=str(argument),
        call=lambda F, x, *p: getattr(F, op)(x, argument, *p),
        torch=lambda x, *p: getattr(T, op)(x, argument, *p),
    )


SHAPES = ((6, 3), (4, 3, 5), (2, 3, 4, 5), (5, 3, 1, 1), (1, 3, 2, 2))

CASES = [
    *[
        Case("batch_norm", (Input(shape), *RUNNING, *AFFINE), {"training": training})
        for shape in SHAPES
        for training in (True, False)
    ],
    *[
        Case("batch_norm", (Input((2, 3, 4, 5)), *RUNNING), {"training": training})
        for training in (True, False)
    ],
    *[
        Case(
            "batch_norm",
            (Input((2, 3, 4, 5), layout=layout), *RUNNING, *AFFINE),
            {"training": training, "eps": 1e-3},
        )
        for layout in ("channels_last", "strided")
        for training in (True, False)
    ],
    *[_moved("batch_norm", training=True, momentum=momentum) for momentum in (0.1, 1.0)],
    Case(
        "batch_norm",
        (Input((2, 3, 4, 5)),),
        call=lambda F, x: F.batch_norm(x, None, None, training=True),
        torch=lambda x: T.batch_norm(x, None, None, training=True),
        note="no running statistics",
    ),
    Case(
        "batch_norm",
        (Input((2, 3, 4, 5)),),
        call=lambda F, x: F.batch_norm(x + 1e3, None, None, training=True),
        torch=lambda x: T.batch_norm(x + 1e3, None, None, training=True),
        note="far from 0",
    ),
    *[
        Case("instance_norm", (Input(shape), *RUNNING, *AFFINE), {"use_input_stats": use})
        for shape in ((4, 3, 5), (2, 3, 4, 5))
        for use in (True, False)
    ],
    Case("instance_norm", (Input((2, 3, 4, 5), layout="channels_last"), *RUNNING, *AFFINE), {"eps": 1e-3}),
    _moved("instance_norm", momentum=0.3),
    *[Case("instance_norm", (Input(shape),)) for shape in ((4, 3, 5), (2, 3, 4, 5), (1, 3, 2, 1))],
    *[
        _with_shape("layer_norm", (2, 3, 4, 5), shape, parameters)
        for shape in ((5,), (4, 5), (2, 3, 4, 5))
        for parameters in ((), (shape,), (shape, shape))
    ],
    _with_shape("layer_norm", (3, 7), (7,), ((7,), (7,))),
    _with_shape("layer_norm", (0, 7), (7,), ((7,), (7,))),
    _with_shape("layer_norm", (2, 3, 4, 4), (3, 4, 4), ((3, 4, 4), (3, 4, 4)), "channels_last"),
    Case(
        "layer_norm",
        (Input((3, 7)), Input((7,))),
        order=1,
        note="a bias alone",  # where PyTorch's second derivative raises
        call=lambda F, x, b: F.layer_norm(x, (7,), None, b),
        torch=lambda x, b: T.layer_norm(x, (7,), None, b),
    ),
    *[
        _with_shape("group_norm", shape, groups, parameters)
        for shape in ((3, 6), (2, 6, 5), (2, 6, 3, 4))
        for groups in (1, 2)
        for parameters in ((), ((6,), (6,)))
    ],
    _with_shape("group_norm", (2, 6, 5), 3, ((6,), (6,))),
    _with_shape("group_norm", (2, 6, 3, 4), 6, ((6,), (6,)), "channels_last"),
    _with_shape("group_norm", (2, 6, 3, 4), 2, ((6,), (6,)), "channels_last"),
    *[Case("embedding", (Input(shape, ("int", 5)), Input((5, 3)))) for shape in ((4,), (2, 3), (0,), ())],
    *[
        Case("embedding", (Input(shape, ("int", 3)), Input((3, 2))), {"padding_idx": row}, differences=False)
        for shape in ((7,), (2, 3), ())
        for row in (1, -1)
    ],
    *[
        Case("dropout", (Input((3, 4)),), kwargs)
        for kwargs in ({"p": 0.0}, {"p": 1.0}, {"p": 0.3, "training": False})
    ],
]
