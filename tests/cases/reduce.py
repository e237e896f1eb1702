"""Cases of the reductions, the softmaxes and the norms."""

import torch

from tests.cases.case import Case, Input

INF = float("inf")


def _dims(op, *kwargs, shape=(3, 4, 5), domain="normal", **more):
    return [Case(op, (Input(shape, domain),), kw, **more) for kw in kwargs]


def _torch_only(op, **kw):
    return lambda *x: getattr(torch, op)(*x, **kw)


ANY_DIM = (
    {},
    {"dim": None},
    {"dim": 0},
    {"dim": -1},
    {"dim": 1, "keepdim": True},
    {"dim": (0, 2)},
    {"dim": (-1, 0), "keepdim": True},
    {"dim": [1]},
)

CASES = [
    *_dims("sum", *ANY_DIM, {"dim": ()}),
    *_dims("mean", *ANY_DIM),
    *_dims("sum", {}, {"dim": 0}, {"dim": 1}, {"dim": (0, 1)}, shape=(0, 3)),
    *_dims("sum", {}, {"dim": 0}, {"dim": -1, "keepdim": True}, shape=()),
    *_dims("sum", {"dim": 1}, {"dim": 1, "keepdim": True}, shape=(4, 1)),
    *_dims("sum", {}, {"dim": 1}, domain=("int", 9)),
    *_dims("sum", {}, domain="bool"),
    *_dims(
        "sum",
        {"dim": 1, "dtype": "float64"},
        domain=("int", 9),
        torch=lambda x: x.sum(1, dtype=torch.float64),
    ),
    *_dims("mean", {"dtype": "float64"}, domain=("int", 9), torch=lambda x: x.mean(dtype=torch.float64)),
    *_dims("mean", {"dim": 1}, shape=(0, 3)),
    *_dims("mean", {}, {"dim": 0}, shape=(0, 3), order=1, differences=False),
    *[
        Case("sum", (Input((2, 3, 4, 5), layout=layout),), {"dim": dim})
        for layout in ("channels_last", "transposed", "strided")
        for dim in (None, 1, (0, 2, 3))
    ],
    *_dims(
        "var",
        *ANY_DIM,
        {"unbiased": False},
        {"dim": 1, "unbiased": True},
        {"dim": 1, "correction": 0},
        {"dim": (0, 1), "correction": 2, "keepdim": True},
    ),
    *_dims(
        "std",
        *ANY_DIM,
        {"unbiased": False},
        {"dim": 1, "unbiased": True},
        {"dim": 1, "correction": 0},
        {"dim": (0, 1), "correction": 2, "keepdim": True},
    ),
    Case(
        "var",
        (Input((3, 4)),),
        call=lambda F, x: F.var(x, False),
        torch=lambda x: torch.var(x, False),
        note="unbiased as second",
    ),
    Case(
        "std",
        (Input((3, 4)),),
        call=lambda F, x: F.std(x, 1, False),
        torch=lambda x: torch.std(x, 1, False),
        note="dim, unbiased",
    ),
    Case("var", (Input((2, 3, 4, 5), layout="channels_last"),), {"dim": (0, 2, 3)}),
    Case(
        "std",
        (Input((3, 4)),),
        call=lambda F, x: F.std(0 * x, 1),
        torch=lambda x: torch.std(0 * x, 1),
        order=1,
        differences=False,
        note="of equals",
    ),
    *_dims("amax", *[kw for kw in ANY_DIM if kw.get("dim", 0) is not None], domain="distinct"),
    *_dims("amin", *[kw for kw in ANY_DIM if kw.get("dim", 0) is not None], domain="distinct"),
    Case("amax", (Input((3, 1, 4), "distinct"),), {"dim": 1}),
    Case(
        "amax",
        (Input((3, 4)),),
        call=lambda F, x: F.amax(x - x.detach(), 1),
        torch=lambda x: (x - x.detach()).amax(1),
        order=1,
        differences=False,
        note="ties share",
    ),
    Case(
        "amin",
        (Input((3, 4)),),
        call=lambda F, x: F.amin(x - x.detach(), (0, 1)),
        torch=lambda x: (x - x.detach()).amin(),
        order=1,
        differences=False,
        note="ties share",
    ),
    *_dims("max", {}, domain="distinct"),
    *_dims("min", {}, domain="distinct"),
    *[
        Case(
            op,
            (Input((3, 4, 5), "distinct"),),
            call=lambda F, x, op=op, kw=kw: getattr(F, op)(x, **kw)[0],
            torch=lambda x, op=op, kw=kw: getattr(torch, op)(x, **kw)[0],
            note=f"values {kw}",
        )
        for op in ("max", "min")
        for kw in ({"dim": 1}, {"dim": -1, "keepdim": True})
    ],
    *[
        Case(
            op,
            (Input(()),),
            call=lambda F, x, op=op: getattr(F, op)(x, 0)[0],
            torch=lambda x, op=op: getattr(torch, op)(x, 0)[0],
        )
        for op in ("max", "min")
    ],
    *[
        Case(
            op,
            (Input((3, 4, 5), "distinct"),),
            call=lambda F, x, op=op: getattr(F, op)(x, 1)[1],
            torch=lambda x, op=op: getattr(torch, op)(x, 1)[1],
            order=0,
            note="places",
        )
        for op in ("max", "min")
    ],
    *[Case(op, (Input((3, 1), "nonzero"), Input((5,), "unit")), note="of two") for op in ("max", "min")],
    *_dims("argmax", {}, {"dim": 1}, {"dim": -1, "keepdim": True}, domain="distinct", order=0),
    *_dims("argmin", {}, {"dim": 1}, {"dim": -1, "keepdim": True}, domain="distinct", order=0),
    *_dims("all", {}, {"dim": 1}, {"dim": (0, 2), "keepdim": True}, domain="bool", order=0),
    *_dims("any", {}, {"dim": 1}, {"dim": (0, 2), "keepdim": True}, domain="bool", order=0),
    *_dims("logsumexp", *[kw for kw in ANY_DIM if kw.get("dim") is not None]),
    *_dims("logsumexp", {"dim": 1}, {"dim": 1, "keepdim": True}, shape=(3, 1)),
    *_dims("logsumexp", {"dim": 1}, shape=(0, 3)),
    *_dims("logsumexp", {"dim": 0}, shape=(0, 3), order=0),
    *[Case(op, (Input(()),), {"dim": 0}) for op in ("logsumexp", "softmax", "log_softmax")],
    *[
        Case(
            op,
            (Input((5, 4), grad=False),),
            call=lambda F, x, op=op, value=value: getattr(F, op)(F.where(x > 0.5, value, x), 1),
            torch=lambda x, op=op, value=value: getattr(torch, op)(torch.where(x > 0.5, value, x), 1),
            note=f"with {value}",
        )
        for op in ("logsumexp", "softmax", "log_softmax")
        for value in (INF, -INF)
    ],
    *[
        Case(
            op,
            (Input((3, 4)),),
            call=lambda F, x, op=op: getattr(F, op)(1e4 * x, 1),
            torch=lambda x, op=op: getattr(torch, op)(1e4 * x, 1),
            order=1,
            differences=False,
            note="at 1e4",
        )
        for op in ("logsumexp", "log_softmax", "softmax")
    ],
    *_dims("softmax", {"dim": 0}, {"dim": -1}),
    *_dims("softmax", {"dim": 1}, shape=(0, 3)),
    *_dims(
        "softmax",
        {"dim": 1, "dtype": "float64"},
        domain=("int", 4),
        torch=lambda x: torch.softmax(x, 1, dtype=torch.float64),
    ),
    *_dims("log_softmax", {"dim": 0}, {"dim": -1}),
    *_dims("log_softmax", {"dim": 1}, shape=(3, 1)),
    *_dims(
        "log_softmax",
        {"dim": 1, "dtype": "float64"},
        domain=("int", 4),
        torch=lambda x: torch.log_softmax(x, 1, dtype=torch.float64),
    ),
    Case("softmax", (Input((2, 3, 4, 5), layout="channels_last"),), {"dim": 1}),
    Case("log_softmax", (Input((2, 3, 4, 5), layout="strided"),), {"dim": 1}),
    *[
        Case(
            "norm",
            (Input((3, 4, 5), "distinct" if p in (INF, -INF) else "nonzero"),),
            {"p": p, **kw},
            torch=_torch_only("norm", p=p, **kw),
        )
        for p in ("fro", 1, 2, 3, 2.5, 1.5, INF, -INF, 0)
        for kw in ({}, {"dim": 1}, {"dim": (0, -1), "keepdim": True})
    ],
    Case("norm", (Input((3, 4)),), torch=torch.norm),
    Case("norm", (Input((0, 3)),), {"dim": 1}, torch=_torch_only("norm", dim=1)),
    *[
        Case(
            "norm",
            (Input((3, 4)),),
            call=lambda F, x, p=p: F.norm(0 * x, p, 1),
            torch=lambda x, p=p: torch.norm(0 * x, p, 1),
            order=1,
            differences=False,
            note=f"p={p} of zeros",
        )
        for p in (1, 2, 3, 1.5)
    ],
]
