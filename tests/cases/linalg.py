"""Cases of the matrix products."""

import torch

from tests.cases.case import Case, Input


def _product(*shapes, **layouts):
    return Case("matmul", tuple(Input(s, **layouts) for s in shapes))


def _einsum(equation, *shapes):
    return Case(
        "einsum",
        tuple(Input(s) for s in shapes),
        call=lambda F, *x: F.einsum(equation, *x),
        torch=lambda *x: torch.einsum(equation, *x),
        note=equation,
    )


CASES = [
    _product((3, 4), (4, 5)),
    _product((3, 4), (4, 5), layout="transposed"),
    _product((3, 4), (4, 5), layout="strided"),
    _product((4,), (4,)),
    _product((4,), (4, 3)),
    _product((3, 4), (4,)),
    _product((2, 3, 4), (4,)),
    _product((4,), (2, 4, 3)),
    _product((2, 3, 4), (4, 5)),
    _product((3, 4), (2, 4, 5)),
    _product((2, 1, 3, 4), (5, 4, 2)),
    _product((1, 3, 4), (2, 4, 1)),
    _product((0, 4), (4, 5)),
    _product((3, 0), (0, 5)),
    _product((2, 0, 3), (3, 2)),
    Case("linear", (Input((3, 4)), Input((5, 4)))),
    Case("linear", (Input((3, 4)), Input((5, 4)), Input((5,)))),
    Case("linear", (Input((4,)), Input((5, 4)), Input((5,)))),
    Case("linear", (Input((2, 3, 4)), Input((5, 4)), Input((5,)))),
    Case("linear", (Input((2, 3, 4)), Input((4,)))),
    Case("linear", (Input((2, 3, 4)), Input((4,)), Input(()))),
    Case("linear", (Input((0, 4)), Input((5, 4)), Input((5,)))),
    Case("linear", (Input((3, 4)), Input((5, 4)), Input((1,)))),
    Case("linear", (Input((3, 4), layout="transposed"), Input((5, 4), layout="strided"), Input((5,)))),
    _einsum("ij,jk->ik", (3, 4), (4, 5)),
    _einsum("ij,jk", (3, 4), (4, 5)),
    _einsum("ba", (3, 4)),
    _einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    _einsum("bij,bkj->kbi", (2, 3, 4), (2, 5, 4)),
    _einsum("i,j->ij", (3,), (4,)),
    _einsum("ij,ij->", (3, 4), (3, 4)),
    _einsum("ij,ij->j", (3, 4), (1, 4)),
    _einsum("ij,ij->i", (3, 1), (3, 4)),
    _einsum("ij,jk->ik", (3, 1), (4, 5)),
    _einsum("ii->i", (4, 4)),
    _einsum("ii", (4, 4)),
    _einsum("iij,ik->kj", (3, 3, 4), (3, 2)),
    _einsum("iii,i", (2, 2, 2), (2,)),
    _einsum("ij->", (3, 4)),
    _einsum("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    _einsum("...ij,jk", (2, 3, 4), (4, 5)),
    _einsum("b...,c...->...bc", (3, 2, 4), (5, 2, 4)),
    _einsum("i...->...", (3, 2, 4)),
    _einsum(" i j , k j -> i k ", (3, 4), (5, 4)),
    _einsum("ab,bc,cd->ad", (2, 3), (3, 4), (4, 5)),
    _einsum("ai,bi,ci->abc", (2, 5), (3, 5), (4, 5)),
    _einsum("Ab,bA->A", (2, 3), (3, 2)),
    _einsum("ij,jk->ik", (3, 0), (0, 5)),
    Case(
        "einsum",
        (Input((3, 4)), Input((4, 5))),
        call=lambda F, a, b: F.einsum("ij,jk->ik", [a, b]),
        torch=lambda a, b: torch.einsum("ij,jk->ik", [a, b]),
        note="list of operands",
    ),
    Case(
        "einsum",
        (Input((3, 4)), Input((4, 5))),
        call=lambda F, a, b: F.einsum(a, [0, 1], b, [1, 2], [0, 2]),
        torch=lambda a, b: torch.einsum(a, [0, 1], b, [1, 2], [0, 2]),
        note="numbered labels",
    ),
    Case(
        "einsum",
        (Input((2, 3, 4)), Input((4, 30))),
        call=lambda F, a, b: F.einsum(a, [..., 1], b, [1, 27]),
        torch=lambda a, b: torch.einsum(a, [..., 1], b, [1, 27]),
        note="numbered labels, ellipsis, no result",
    ),
]
