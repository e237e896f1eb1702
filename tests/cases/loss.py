"""Cases of the losses."""

import torch.nn.functional as T

from tests.cases.case import Case, Input

REDUCTIONS = ({}, {"reduction": "sum"}, {"reduction": "none"})


def _errors(op, *arguments, shapes=((4, 3), (4, 3)), **more):
    return [
        Case(op, tuple(Input(s) for s in shapes), {**kwargs, **reduction}, **more)
        for kwargs in arguments
        for reduction in REDUCTIONS
    ]


def _weighted(op):
    """input, target and a weight given by keyword."""
    return [
        Case(
            op,
            (Input((4, 3)), Input((4, 3)), Input((4, 3), "positive")),
            note=f"weight {kw}",
            call=lambda F, a, b, w, kw=kw: getattr(F, op)(a, b, weight=w, **kw),
            torch=lambda a, b, w, kw=kw: getattr(T, op)(a, b, weight=w, **kw),
        )
        for kw in REDUCTIONS
    ]


def _logits(*weights, names=(), shape=(4, 3), grad=False, scale=5.0):
    """Logits, targets and, by keyword, constant weights that broadcast."""
    inputs = (
        Input(shape),
        Input(shape, "unit", grad=grad),
        *[Input(w, "positive", grad=False) for w in weights],
    )
    return [
        Case(
            "binary_cross_entropy_with_logits",
            inputs,
            note=f"{' '.join(names)} logits times {scale} {kw}",
            call=lambda F, z, t, *w, kw=kw: F.binary_cross_entropy_with_logits(
                scale * z, t, **dict(zip(names, w)), **kw
            ),
            torch=lambda z, t, *w, kw=kw: T.binary_cross_entropy_with_logits(
                scale * z, t, **dict(zip(names, w)), **kw
            ),
        )
        for kw in REDUCTIONS
    ]


def _classes(op, shape, *arguments, weighted=False, labels=4):
    """Logits (N, 4, ...) or (4,), class indices and, where `weighted`, a constant weight of each class."""
    batch = () if len(shape) == 1 else (shape[0], *shape[2:])
    weight = (Input((4,), "positive", grad=False),) if weighted else ()
    return [
        Case(op, (Input(shape), Input(batch, ("int", labels)), *weight), {**kwargs, **reduction})
        for kwargs in arguments
        for reduction in REDUCTIONS
    ]


def _probabilities(shape, *arguments, weighted=False, grad=True):
    weight = (Input((4,), "positive", grad=False),) if weighted else ()
    return [
        Case(
            "cross_entropy", (Input(shape), Input(shape, "unit", grad=grad), *weight), {**kwargs, **reduction}
        )
        for kwargs in arguments
        for reduction in REDUCTIONS
    ]


SMOOTHING = ({}, {"label_smoothing": 0.1})
IGNORING = (*SMOOTHING, {"ignore_index": 1}, {"ignore_index": 1, "label_smoothing": 0.3})

CASES = [
    *_errors("mse_loss", {}),
    *_errors("mse_loss", {}, shapes=((3, 1, 2), (3, 1, 2))),
    *_weighted("mse_loss"),
    *_errors("l1_loss", {}),
    *_weighted("l1_loss"),
    *_errors("smooth_l1_loss", {}, {"beta": 0.3}, {"beta": 3.0}, {"beta": 0.0}),
    *[
        Case(op, (Input((4, 3), layout="transposed"), Input((4, 3), layout="strided")))
        for op in ("mse_loss", "l1_loss", "smooth_l1_loss")
    ],
    *[
        Case(op, (Input((0, 3)), Input((0, 3))), {"reduction": "sum"})
        for op in ("mse_loss", "l1_loss", "smooth_l1_loss")
    ],
    *[Case("binary_cross_entropy", (Input((4, 3), "unit"), Input((4, 3), "unit")), kw) for kw in REDUCTIONS],
    *[
        Case(
            "binary_cross_entropy",
            (Input((4, 3), "unit"), Input((4, 3), "unit"), Input(w, "positive", grad=False)),
            kw,
        )
        for w in ((4, 3), (3,))
        for kw in REDUCTIONS
    ],
    Case(
        "binary_cross_entropy",
        (Input((4, 3), "unit"), Input((4, 3), "unit")),
        order=0,
        note="certain, right and wrong",
        call=lambda F, x, t: F.binary_cross_entropy(
            F.clamp(1e3 * (x - 0.5), 0, 1), F.clamp(1e3 * (t - 0.5), 0, 1)
        ),
        torch=lambda x, t: T.binary_cross_entropy(
            (1e3 * (x - 0.5)).clamp(0, 1), (1e3 * (t - 0.5)).clamp(0, 1)
        ),
    ),
    *_logits(),
    *_logits(grad=True),
    *_logits(shape=(1, 1)),
    *_logits(shape=(5, 2, 3)),
    *_logits((4, 3), names=("weight",)),
    *_logits((3,), names=("weight",)),
    *_logits((3,), names=("pos_weight",)),
    *_logits((3,), (3,), names=("weight", "pos_weight")),
    *_logits((4, 1), (3,), names=("weight", "pos_weight"), grad=True),
    *_logits(scale=1e4),
    *_classes("cross_entropy", (5, 4), *IGNORING),
    *_classes("cross_entropy", (5, 4), *IGNORING, weighted=True),
    *_classes("cross_entropy", (3, 4, 2), *IGNORING),
    *_classes("cross_entropy", (2, 4, 3, 2), *IGNORING, weighted=True),
    *_classes("cross_entropy", (4,), *SMOOTHING),
    *_classes("cross_entropy", (4,), *SMOOTHING, weighted=True),
    *_classes("cross_entropy", (3, 1, 2), {}, labels=1),
    *_classes("cross_entropy", (3, 100), *SMOOTHING, labels=100),
    *_probabilities((5, 4), *SMOOTHING),
    *_probabilities((5, 4), *SMOOTHING, grad=False),
    *_probabilities((2, 4, 3), *SMOOTHING, weighted=True),
    *_probabilities((4,), *SMOOTHING),
    *[
        Case(
            "cross_entropy",
            (Input((5, 4)), Input((5,), ("int", 4))),
            note="logits of +-1e4",
            call=lambda F, x, t: F.cross_entropy(1e4 * x, t),
            torch=lambda x, t: T.cross_entropy(1e4 * x, t),
        )
    ],
    *_classes("nll_loss", (5, 4), {}, {"ignore_index": 1}),
    *_classes("nll_loss", (5, 4), {}, {"ignore_index": 1}, weighted=True),
    *_classes("nll_loss", (2, 4, 3, 2), {}, {"ignore_index": 1}, weighted=True),
    *_classes("nll_loss", (4,), {}),
]
