"""Cases of the element-wise functions."""

import operator

import torch
import torch.nn.functional as TF

from tests.cases.case import Case, Input

LAYOUTS = ("channels_last", "transposed", "strided")
PAIRS = (
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (1, 4)),
    ((), (3,)),
    ((0, 3), (3,)),
    ((0, 3), (1, 1)),
    ((1,), (1,)),
)

BOUNDS_AT_0 = ((0, 1), (-1, 0), (0, None), (None, 0))


def _unary(op, domain="normal", *kwargs, order=2):
    shapes = [Case(op, (Input(shape, domain),), order=order) for shape in ((3, 5), (), (0, 3), (1, 7))]
    layouts = [Case(op, (Input((2, 3, 4, 5), domain, layout=layout),), order=order) for layout in LAYOUTS]
    return [*shapes, *layouts, *[Case(op, (Input((3, 5), domain),), kw, order=order) for kw in kwargs]]


def _binary(op, left="normal", right="normal", *kwargs, order=2):
    shapes = [Case(op, (Input(a, left), Input(b, right)), order=order) for a, b in PAIRS]
    layouts = [
        Case(op, (Input((2, 3, 4, 5), left, layout="channels_last"), Input((3, 1, 1), right)), order=order),
        Case(
            op,
            (Input((3, 4), left, layout="transposed"), Input((3, 4), right, layout="strided")),
            order=order,
        ),
    ]
    return [
        *shapes,
        *layouts,
        *[Case(op, (Input((3, 4), left), Input((4,), right)), kw, order=order) for kw in kwargs],
    ]


OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "remainder": operator.mod,
}


def _with_number(op, number, domain="normal", sides=2):
    """op(x, number) and, with two sides, op(number, x)."""
    spelled = OPERATORS[op]
    cases = [
        Case(
            op,
            (Input((3, 4), domain),),
            call=lambda F, x: getattr(F, op)(x, number),
            torch=lambda x: spelled(x, number),
            note=f"x, {number}",
        ),
        Case(
            op,
            (Input((3, 4), domain),),
            call=lambda F, x: getattr(F, op)(number, x),
            torch=lambda x: spelled(number, x),
            note=f"{number}, x",
        ),
    ]
    return cases[:sides]


def _method(op, spelled, *inputs, order=2, note=""):
    """Operators, which F does not name."""
    return Case(
        op, inputs, call=lambda F, *x: spelled(*x), torch=spelled, order=order, note=note or "operator"
    )


def _at(op, value, torch_op=None, **kw):
    """The function at +-value, where a careless formula overflows; at 0, where some have a kink."""
    torch_op = torch_op or getattr(TF, op, None) or getattr(torch, op)
    return Case(
        op,
        (Input((2, 3)),),
        call=lambda F, x: getattr(F, op)(value * x, **kw),
        torch=lambda x: torch_op(value * x, **kw),
        order=1,
        differences=False,
        note=f"at {value}",
    )


CASES = [
    *_binary("add", "normal", "normal", {"alpha": 2}, {"alpha": -0.5}),
    *_binary("sub", "normal", "normal", {"alpha": 2}),
    *_binary("mul"),
    *_binary("div", "normal", "nonzero"),
    *_binary("div", "normal", "nonzero", {"rounding_mode": "floor"}, {"rounding_mode": "trunc"})[-2:],
    *[
        Case("remainder", (Input((3, n)), Input((m, 4), "nonzero")), differences=False, note="with jumps")
        for n, m in ((4, 3), (1, 1))
    ],
    *_with_number("remainder", 2.5, sides=1),
    *[case for op in ("add", "sub", "mul") for case in _with_number(op, 2.5)],
    *_with_number("div", 2.5, "nonzero"),
    *_with_number("mul", 2, ("int", 5)),
    *_with_number("mul", 2.5, ("int", 5), sides=1),
    *_with_number("div", 2, ("int", 5), sides=1),
    Case("div", (Input((3, 4), ("int", 5)), Input((3, 4), "positive"))),
    Case("mul", (Input((3, 4), "bool"), Input((4,)))),
    *_unary("neg"),
    *_binary("pow", "positive"),
    *[case for p in (2, 3, 0.5, -1, 1, 0, -2.5) for case in _with_number("pow", p, "positive", sides=1)],
    *[case for p in (2, 3, 1, 0) for case in _with_number("pow", p, sides=1)],
    *[
        Case(
            "pow",
            (Input((3, 4)),),
            call=lambda F, x, base=base: F.pow(base, x),
            torch=lambda x, base=base: torch.pow(base, x),
            note=f"{base}, x",
        )
        for base in (2, 0.5, 1)
    ],
    Case(
        "pow",
        (Input((3, 4), ("int", 3)),),
        call=lambda F, x: F.pow(x, 2),
        torch=lambda x: torch.pow(x, 2),
        note="integers",
    ),
    Case(
        "pow",
        (Input((3, 4), "positive"),),
        call=lambda F, x: F.pow(0 * x, 1 + x),
        torch=lambda x: torch.pow(0 * x, 1 + x),
        order=1,
        note="0 to a power",
    ),
    Case(
        "pow",
        (Input((3, 4), "positive"),),
        call=lambda F, x: F.pow(x, 0 * x),
        torch=lambda x: torch.pow(x, 0 * x),
        order=1,
        note="to the power 0",
    ),
    *[
        case
        for op in ("exp", "sin", "cos", "tanh", "sigmoid", "silu", "logsigmoid", "erf")
        for case in _unary(op)
    ],
    *[case for op in ("log", "log1p", "sqrt", "rsqrt") for case in _unary(op, "positive")],
    *[Case(op, (Input((3, 4), ("int", 5)),)) for op in ("exp", "log1p", "sqrt", "sin", "tanh", "sigmoid")],
    *_unary("abs", "nonzero"),
    *_unary("sign", "nonzero"),
    _at("abs", 0.0),
    _at("relu", 0.0),
    _at("leaky_relu", 0.0, negative_slope=0.2),
    *_binary("maximum"),
    *_binary("minimum"),
    *[
        Case(
            op,
            (Input((3, 4)),),
            call=lambda F, x, op=op: getattr(F, op)(x, F.relu(x)),
            torch=lambda x, op=op: getattr(torch, op)(x, torch.relu(x)),
            note="ties",
        )
        for op in ("maximum", "minimum")
    ],
    *[
        Case("clamp", (Input((4, 5)),), kw)
        for kw in ({"min": -0.5}, {"max": 0.5}, {"min": -0.4, "max": 0.8}, {"min": 1, "max": -1})
    ],
    Case("clamp", (Input((4, 5)), Input((5,)), Input((4, 1)))),
    Case("clamp", (Input((4, 5)), Input((5,)))),
    Case(
        "clamp",
        (Input((4, 5)), Input((1,))),
        call=lambda F, x, b: F.clamp(x, max=b),
        torch=lambda x, b: torch.clamp(x, max=b),
        note="max",
    ),
    Case(
        "clamp",
        (Input((4, 5)),),
        call=lambda F, x: sum(F.clamp(x - x.detach(), *bounds) for bounds in BOUNDS_AT_0),
        torch=lambda x: sum(torch.clamp(x - x.detach(), *bounds) for bounds in BOUNDS_AT_0),
        order=1,
        differences=False,
        note="at its bounds",
    ),
    *[
        Case("where", (Input(c, "bool"), Input(a), Input(b)))
        for c, a, b in (
            ((3, 4), (3, 4), (3, 4)),
            ((4,), (3, 1), ()),
            ((3, 1), (4,), (3, 4)),
            ((0, 3), (3,), (1,)),
        )
    ],
    Case(
        "where",
        (Input((3, 4), "bool"), Input((3, 4))),
        call=lambda F, c, x: F.where(c, x, 0.0),
        torch=lambda c, x: torch.where(c, x, 0.0),
        note="number",
    ),
    *_unary("relu", "nonzero"),
    *_unary(
        "leaky_relu",
        "nonzero",
        {"negative_slope": 0.2},
        {"negative_slope": 0},
        {"negative_slope": 1.5},
        {"negative_slope": -0.5},
    ),
    *[
        Case("prelu", (Input(shape, "nonzero", layout=layout), Input(weight)))
        for shape, weight, layout in (
            ((2, 3, 4, 5), (3,), "C"),
            ((2, 3, 4, 5), (1,), "channels_last"),
            ((2, 3, 4, 5), (3,), "channels_last"),
            ((4, 3), (3,), "transposed"),
            ((4, 3), (1,), "C"),
            ((5,), (1,), "strided"),
            ((), (1,), "C"),
            ((0, 3), (3,), "C"),
        )
    ],
    Case("prelu", (Input((3, 4)), Input(())), note="a number"),
    *_unary("elu", "nonzero", {"alpha": 0.5}, {"alpha": 2.0}),
    *_unary("gelu", "normal", {"approximate": "none"}, {"approximate": "tanh"}),
    *_unary("softplus", "normal", {"beta": 2}, {"beta": 5.0, "threshold": 3.0}),
    *[
        _at(op, value)
        for op in ("sigmoid", "logsigmoid", "softplus", "silu", "gelu", "elu", "tanh")
        for value in (30.0, 1e4)
    ],
    *[
        case
        for op in ("eq", "ne", "lt", "le", "gt", "ge")
        for case in _binary(op, ("int", 3), ("int", 3), order=0)
    ],
    *[
        Case(op, (Input((3, 4), "bool"), Input((4,), "bool")), order=0)
        for op in ("bitwise_and", "bitwise_or")
    ],
    Case("bitwise_not", (Input((3, 4), "bool"),), order=0),
    *[
        Case(
            op,
            (Input((3, 4), "positive"),),
            call=lambda F, x, op=op: getattr(F, op)(F.log(F.sub(F.relu(x - 1), 0) * 0 + x)),
            torch=lambda x, op=op: getattr(torch, op)(torch.log(x)),
            order=0,
        )
        for op in ("isfinite", "isnan")
    ],
    _method("add", lambda x, y: 1 + x + y + 2.0, Input((3, 4)), Input((4,))),
    _method("sub", lambda x, y: 1 - (x - y) - 2.0, Input((3, 4)), Input((4,))),
    _method("mul", lambda x, y: 2 * x * y * 3.0, Input((3, 4)), Input((4,))),
    _method("div", lambda x, y: (2 / x) / (y / 3), Input((3, 4), "nonzero"), Input((4,), "nonzero")),
    _method(
        "div", lambda x, y: x // y, Input((3, 4)), Input((4,), "nonzero"), note="floor operator", order=0
    ),
    _method("pow", lambda x, y: (x**y) ** 2 + 2**x, Input((3, 4), "positive"), Input((4,))),
    _method("neg", lambda x: -x + abs(+x), Input((3, 4), "nonzero")),
    _method("gt", lambda x, y: (x > y) | (x < 0) & ~(y >= 0), Input((3, 4)), Input((4,)), order=0),
]
