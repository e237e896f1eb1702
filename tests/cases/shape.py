"""Cases of rearranging, joining, indexing and padding."""

import numpy as np
import torch

from scratchgan.backend import xp
from scratchgan.tensor import Tensor
from tests.cases.case import Case, Input


def _same(op, spelled, *inputs, note="", order=2):
    """The same spelling for both libraries: `spelled(F, *tensors)` with F or torch."""
    return Case(op, inputs, call=spelled, torch=lambda *x: spelled(torch, *x), note=note, order=order)


def _index(index, shape=(4, 5, 6), note=None):
    def torch_index(i):
        return torch.from_numpy(i) if isinstance(i, np.ndarray) else i

    there = tuple(map(torch_index, index)) if isinstance(index, tuple) else torch_index(index)
    shown = str(index).replace("\n", "").replace(" ", "")
    return Case(
        "getitem",
        (Input(shape),),
        call=lambda F, x: x[_beside(x, index)],
        torch=lambda x: x[there],
        note=note or f"x[{shown}]",
    )


def _beside(x, index):
    """The index with its arrays on the device of x."""
    if isinstance(index, tuple):
        return tuple(_beside(x, i) for i in index)
    return xp(x._array).asarray(index) if isinstance(index, np.ndarray) else index


def _set(shape, index, value_shape, note):
    """x[index] = value on a copy, which both libraries differentiate in both."""

    def assigned(x, value):
        y = x * 1
        y[_beside(x, index) if isinstance(x, Tensor) else index] = value
        return y

    return Case(
        "setitem",
        (Input(shape), Input(value_shape)),
        call=lambda F, x, v: assigned(x, v),
        torch=assigned,
        note=note,
    )


def _pad(shape, pad, mode="constant", value=None):
    return Case("pad", (Input(shape),), {"pad": pad, "mode": mode, "value": value})


COLUMN, ROW = np.array([[0], [2]]), np.array([1, 1, 3])
MASK = np.arange(20).reshape(4, 5) % 3 == 0

CASES = [
    *[
        Case("reshape", (Input((3, 4, 2)),), {"shape": shape})
        for shape in ((6, 4), (-1,), (2, -1, 3), (3, 1, 8))
    ],
    *[
        Case("reshape", (Input((2, 3, 4, 5), layout=layout),), {"shape": (6, 20)})
        for layout in ("channels_last", "transposed", "strided")
    ],
    _same("reshape", lambda F, x: F.reshape(x, (0, 5)), Input((0, 3))),
    _same("reshape", lambda F, x: x.view(4, -1), Input((2, 6)), note="view"),
    _same("reshape", lambda F, x: x.reshape((1,)), Input(()), note="method"),
    _same("permute", lambda F, x: F.permute(x, (2, 0, 1)), Input((3, 4, 5))),
    _same("permute", lambda F, x: F.permute(x, dims=(-1, 0, 1)), Input((3, 4, 5)), note="dims"),
    _same("permute", lambda F, x: x.permute(1, -1, 0), Input((3, 0, 5)), note="method"),
    _same("permute", lambda F, x: x.T, Input((3, 4)), note="T"),
    _same("transpose", lambda F, x: F.transpose(x, 0, -1), Input((3, 4, 5))),
    _same("transpose", lambda F, x: F.transpose(x, 0, 0), Input(())),
    _same("transpose", lambda F, x: x.mT, Input((2, 3, 4)), note="mT"),
    *[Case("t", (Input(shape),)) for shape in ((3, 4), (3,), ())],
    _same("expand", lambda F, x: x.expand(2, 3, -1), Input((3, 1)), note="-1"),
    _same("expand", lambda F, x: x.expand((4, 3)), Input((1, 3))),
    Case(
        "expand",
        (Input((1, 3)),),
        call=lambda F, x: F.expand(x, 4, -1),
        torch=lambda x: x.expand(4, -1),
        note="function",
    ),
    _same("broadcast_to", lambda F, x: F.broadcast_to(x, (2, 3, 4)), Input((3, 1))),
    _same("broadcast_to", lambda F, x: F.broadcast_to(x, (0, 4)), Input((1, 4))),
    *[
        Case("squeeze", (Input((1, 3, 1, 4)),), kw)
        for kw in ({}, {"dim": 0}, {"dim": -2}, {"dim": 1}, {"dim": (0, 2)}, {"dim": (0, 1)})
    ],
    *[Case("unsqueeze", (Input((3, 4)),), {"dim": dim}) for dim in (0, 1, 2, -1, -3)],
    Case("unsqueeze", (Input(()),), {"dim": 0}),
    *[
        Case("flatten", (Input((2, 3, 4)),), kw)
        for kw in ({}, {"start_dim": 1}, {"end_dim": 1}, {"start_dim": -2, "end_dim": -1})
    ],
    Case("flatten", (Input(()),)),
    *[
        Case("unflatten", (Input((3, 8)),), {"dim": dim, "sizes": sizes})
        for dim, sizes in ((1, (2, 4)), (-1, (2, -1)), (0, (3, 1)))
    ],
    *[Case("flip", (Input((3, 4, 2)),), {"dims": dims}) for dims in ((0,), (1, -1), (0, 1, 2))],
    _same("flip", lambda F, x: x.flip(0, 1), Input((3, 4)), note="method"),
    *[Case(op, (Input((3, 4)),)) for op in ("clone",)],
    *[Case("clone", (Input((2, 3, 4, 5), layout="channels_last"),))],
    *[
        Case("contiguous", (Input((2, 3, 4, 5), layout=layout),), torch=lambda x: x.contiguous())
        for layout in ("C", "channels_last")
    ],
    *[
        _same("cat", lambda F, *x, dim=dim: F.cat(x, dim), *[Input(s) for s in shapes], note=f"dim={dim}")
        for dim, shapes in (
            (0, ((2, 3), (1, 3), (4, 3))),
            (-1, ((2, 3), (2, 1))),
            (1, ((2, 0), (2, 3))),
            (0, ((0,), (2, 3))),
            (0, ((3,),)),
        )
    ],
    *[
        _same(op, lambda F, a, b, op=op: getattr(F, op)([a, b], dim=1), Input((2, 3)), Input((2, 3)))
        for op in ("concat", "concatenate")
    ],
    _same(
        "cat",
        lambda F, a, b: F.cat((a, b), 1),
        Input((2, 3, 4, 5), layout="channels_last"),
        Input((2, 1, 4, 5)),
    ),
    *[
        _same(
            "stack",
            lambda F, *x, dim=dim: F.stack(x, dim),
            Input((3, 4)),
            Input((3, 4)),
            Input((3, 4)),
            note=f"dim={dim}",
        )
        for dim in (0, 1, -1, -3)
    ],
    _same("stack", lambda F, x: F.stack([x, x * x]), Input(()), note="numbers"),
    *[
        _same("narrow", lambda F, x, at=at: F.narrow(x, *at), Input((3, 5)), note=str(at))
        for at in ((0, 1, 2), (-1, -2, 2), (1, 5, 0))
    ],
    *[
        _same("split", lambda F, x, kw=kw: F.split(x, **kw)[-1] * 2, Input((7, 3)), note=str(kw))
        for kw in (
            {"split_size_or_sections": 3},
            {"split_size_or_sections": [1, 4, 2]},
            {"split_size_or_sections": 2, "dim": -1},
        )
    ],
    *[
        _same("chunk", lambda F, x, n=n: F.chunk(x, n)[0] * F.chunk(x, n)[0], Input((7, 3)), note=str(n))
        for n in (1, 2, 3)
    ],
    *[
        _same(
            "unbind",
            lambda F, x, dim=dim: F.unbind(x, dim)[1] * F.unbind(x, dim)[0],
            Input((2, 3)),
            note=str(dim),
        )
        for dim in (0, -1)
    ],
    *[
        _index(i)
        for i in (
            0,
            -1,
            slice(1, 3),
            slice(None, None, 2),
            None,
            Ellipsis,
            (1, 2),
            (1, 2, 3),
            (Ellipsis, 0),
            (slice(None), 1),
            (None, 0, Ellipsis, None),
            (slice(3, 1),),
            [0, 2],
            ([0, 0, 1],),
            (slice(None), [1, 4]),
            (Ellipsis, [0, 0]),
        )
    ],
    *[
        _index(i, note=n)
        for i, n in (
            (ROW, "x[row]"),
            (COLUMN, "x[column]"),
            ((ROW, ROW), "x[row,row]"),
            ((COLUMN, ROW), "x[column,row]"),
            ((slice(None), ROW, COLUMN), "x[:,row,column]"),
            ((ROW, slice(None), ROW), "x[row,:,row]"),
            ((0, slice(None), ROW), "x[0,:,row]"),
            ((slice(None), 0, ROW), "x[:,0,row]"),
            ((ROW, Ellipsis, 0), "x[row,...,0]"),
            ((None, ROW, 0), "x[None,row,0]"),
            ((ROW, None, ROW), "x[row,None,row]"),
            (MASK, "x[mask]"),
            ((MASK, 0), "x[mask,0]"),
            ((slice(None), MASK[0]), "x[:,mask]"),
            ((MASK[:, 0], slice(1, 3)), "x[mask,1:3]"),
            (np.zeros(0, int), "x[no rows]"),
            (np.zeros((4, 5), bool), "x[no mask]"),
        )
    ],
    _index(0, (3,)),
    _index(slice(0, 0), (3,)),
    _index(None, ()),
    _index(ROW, (4, 0), "x[row] of nothing"),
    _same("getitem", lambda F, x, i: x[i], Input((4, 3)), Input((2, 5), ("int", 4)), note="x[tensor]"),
    _same("getitem", lambda F, x, i: x[:, i[0]], Input((4, 3)), Input((2,), ("int", 3)), note="x[:, number]"),
    _same("getitem", lambda F, x: x[x > 0], Input((4, 3)), note="x[x > 0]"),
    Case("getitem", (Input((4, 3)),), {"index": 1}, torch=lambda x: x[1]),
    _set((3, 4), 1, (4,), "x[1]"),
    _set((3, 4), (slice(None), slice(1, 3)), (2,), "x[:, 1:3]"),
    _set((4, 5), MASK, (), "x[mask]"),
    _set((4, 5), (ROW[1:],), (2, 5), "x[row]"),
    _set((4, 5, 6), (0, slice(None), ROW[1:]), (5, 2), "x[0, :, row]"),
    *[
        _same(
            "gather",
            lambda F, x, i, dim=dim: F.gather(x, dim, i),
            Input((3, 4, 5)),
            Input(shape, ("int", 3)),
            note=f"dim={dim}",
        )
        for dim, shape in ((0, (2, 4, 5)), (1, (3, 7, 2)), (-1, (3, 4, 5)), (2, (1, 1, 1)), (0, (0, 4, 5)))
    ],
    *[
        _same(
            "index_select",
            lambda F, x, i, dim=dim: F.index_select(x, dim, i),
            Input((3, 4)),
            Input((n,), ("int", 3)),
            note=f"dim={dim}",
        )
        for dim, n in ((0, 5), (1, 2), (-1, 0))
    ],
    *[
        _pad(shape, pad)
        for shape, pad in (
            ((3, 4), (1, 2)),
            ((3, 4), (1, 2, 0, 3)),
            ((2, 3, 4, 5), (1, 1, 2, 2)),
            ((3, 4), (-1, 2)),
            ((3, 4), (-1, -1, 2, -1)),
            ((3,), (0, 0)),
            ((0, 3), (1, 1, 2, 0)),
        )
    ],
    _pad((3, 4), (1, 2), "constant", 1.5),
    *[
        Case("pad", (Input((2, 3, 4, 5), layout=layout),), {"pad": (1, 2, 0, 1)})
        for layout in ("channels_last", "strided")
    ],
    *[
        _pad(shape, pad, mode)
        for mode in ("reflect", "replicate", "circular")
        for shape, pad in (((2, 3, 4), (1, 2)), ((2, 3, 4, 5), (1, 2, 3, 0)), ((2, 3, 4, 5), (4, 4, 3, 3)))
    ],
]
