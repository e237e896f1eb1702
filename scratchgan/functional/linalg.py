"""Matrix products in all of PyTorch's forms, each brought down to products of matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence

from scratchgan.backend import xp
from scratchgan.functional.shape import squeeze, unsqueeze
from scratchgan.ops import linalg as ops
from scratchgan.ops.elementwise import mul
from scratchgan.ops.reduce import sum
from scratchgan.ops.shape import getitem, permute, reshape, swap
from scratchgan.precision import factors
from scratchgan.tensor import Tensor

__all__ = ["einsum", "linear", "matmul"]


def matmul(input, other):
    """The product of two matrices, a vector counting as a row on the left and as a column on the right; axes
    before broadcast.
    """
    try:
        left, right = input.shape, other.shape
    except AttributeError:
        found = f"{type(input).__name__} and {type(other).__name__}"
        raise TypeError(f"matmul: expected two tensors, found {found}") from None
    if not left or not right:
        raise ValueError(f"matmul: expected at least one axis each, found shapes {tuple(left)} and {tuple(right)}")
    rows = right[-2] if len(right) > 1 else right[0]
    if left[-1] != rows:
        raise ValueError(
            f"matmul: shapes {tuple(left)} and {tuple(right)} do not fit: {left[-1]} columns times {rows} rows"
        )
    if len(left) == 1:
        return squeeze(matmul(unsqueeze(input, 0), other), -2 if len(right) > 1 else 0)
    if len(right) == 1:
        return squeeze(matmul(input, unsqueeze(other, 1)), -1)
    input, other = factors(input, other)
    _check_dtypes("matmul", input, other)
    if len(left) > 2 and len(right) == 2:  # one large product, not a batch of small ones
        return reshape(ops.matmul(_rows(input), other), shape=(*left[:-1], right[1]))
    return ops.matmul(input, other)


def _check_dtypes(name: str, *tensors) -> None:
    """Products of different dtypes are most often a mistake, and slow; PyTorch refuses them, too."""
    dtype = tensors[0].dtype
    for t in tensors:
        if t.dtype != dtype:
            found = " and ".join(str(t.dtype) for t in tensors)
            raise TypeError(f"{name}: found {found}, expected one dtype")


def _rows(x):
    """x as a matrix, its last axis the columns."""
    return reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def linear(input, weight, bias=None):
    """input weight^T + bias over the last axis; weight (m, k) or (k,), bias (m,), (1,), () or none."""
    if weight.ndim not in (1, 2) or input.ndim == 0 or input.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"linear: weight has shape {tuple(weight.shape)}, expected (m, k) or (k,), "
            f"k being the last size of the input {tuple(input.shape)}"
        )
    if bias is not None and bias.ndim == 1 and bias.shape[0] not in (1, weight.shape[0]):
        raise ValueError(f"linear: bias has shape {tuple(bias.shape)}, expected ({weight.shape[0]},)")
    if bias is not None and weight.ndim == 2 and bias.shape == weight.shape[:1]:
        input, weight, bias = factors(input, weight, bias)
        _check_dtypes("linear", input, weight, bias)
        product = ops.affine(input if input.ndim == 2 else _rows(input), weight, bias)
        return product if input.ndim == 2 else reshape(product, shape=(*input.shape[:-1], weight.shape[0]))
    product = matmul(input, swap(weight) if weight.ndim == 2 else weight)
    return product if bias is None else product + bias


# Einstein's sums. An axis carries a label: a letter, or a negative number for the axes behind an ellipsis, -1
# the last.

Labels = list[Hashable]


def einsum(equation, *operands):
    """Sums of products over labelled axes: einsum("bij,bjk->bik", a, b).

    Repeated labels take diagonals, "..." stands for any axes and broadcasts, without "->" the labels that
    occur once come out in alphabetical order. Also einsum(equation, [a, b]) and einsum(a, [0, 1], b, [1, 2],
    [0, 2]). Contracts from left to right, each pair as a batch of matrix products.
    """
    if not isinstance(equation, str):
        equation, operands = _as_equation([equation, *operands])
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = operands[0]
    terms, output = _parsed(equation, operands)
    operands, terms = _without_repeats(operands, terms, equation)
    result, labels = operands[0], terms[0]
    for i in range(1, len(operands)):
        keep = {*output, *(label for term in terms[i + 1 :] for label in term)}
        result, labels = _contracted(result, labels, operands[i], terms[i], keep)
    result, labels = _summed(result, labels, set(output))
    return _arranged(result, labels, output)


def _as_equation(arguments: list) -> tuple[str, list]:
    """The form with lists of numbers from 0 to 51 in place of letters."""

    def term(numbers: Sequence) -> str:
        return "".join("..." if n is Ellipsis else chr(n + (65 if n < 26 else 71)) for n in numbers)

    pairs = len(arguments) // 2
    equation = ",".join(term(numbers) for numbers in arguments[1 : 2 * pairs : 2])
    return equation + ("->" + term(arguments[-1]) if len(arguments) % 2 else ""), arguments[: 2 * pairs : 2]


def _parsed(equation: str, operands: Sequence) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {equation!r} describes {len(terms)} operands, found {len(operands)}")
    for term in (*terms, output):
        if not re.fullmatch(r"[a-zA-Z]*(\.\.\.)?[a-zA-Z]*", term):
            raise ValueError(f"einsum: {term!r} in {equation!r} is not made of letters and at most one '...'")
    hidden = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, operands)]
    for term, x, n in zip(terms, operands, hidden):
        if n < 0 or (n > 0 and "..." not in term):
            raise ValueError(
                f"einsum: {term!r} in {equation!r} does not fit an operand of shape {tuple(x.shape)}"
            )
    labelled = [_labels(term, n) for term, n in zip(terms, hidden)]
    if arrow:
        result = _labels(output, max(hidden))
    else:
        letters = [label for term in labelled for label in term if isinstance(label, str)]
        result = [*range(-max(hidden), 0), *sorted(c for c in letters if letters.count(c) == 1)]
    known = {label for term in labelled for label in term}
    if len(set(result)) != len(result) or not known.issuperset(result):
        raise ValueError(f"einsum: the result of {equation!r} must name labels of the operands, each once")
    return labelled, result


def _labels(term: str, hidden: int) -> Labels:
    before, dots, after = term.partition("...")
    return [*before, *(range(-hidden, 0) if dots else ()), *after]


def _without_repeats(operands: Sequence, terms: list[Labels], equation: str) -> tuple[list, list[Labels]]:
    """Operands whose labels differ and whose sizes agree: diagonals taken, broadcast axes of size 1 dropped.
    """
    operands, terms = zip(*[_diagonal(x, term) for x, term in zip(operands, terms)])
    sizes: dict[Hashable, int] = {}
    for x, term in zip(operands, terms):
        for n, label in zip(x.shape, term):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                raise ValueError(
                    f"einsum: label {label!r} of {equation!r} stands for sizes {sizes[label]} and {n}"
                )
    fitted = []
    for x, term in zip(operands, terms):
        kept = [i for i, (n, label) in enumerate(zip(x.shape, term)) if n == sizes[label]]
        fitted.append(
            (
                x if len(kept) == x.ndim else reshape(x, shape=tuple([x.shape[i] for i in kept])),
                [term[i] for i in kept],
            )
        )
    operands, terms = zip(*fitted)
    return list(operands), list(terms)


def _diagonal(x, labels: Labels):
    """x without repeated labels: the elements whose indices on the axes of one label agree, which becomes the
    first axis.
    """
    for label in labels:
        axes = [i for i, other in enumerate(labels) if other == label]
        if len(axes) > 1:
            rest = [i for i in range(x.ndim) if i not in axes]
            sizes = {x.shape[i] for i in axes}
            if len(sizes) > 1:
                raise ValueError(
                    f"einsum: label {label!r} repeats within an operand with sizes {sorted(sizes)}"
                )
            array = x._array if isinstance(x, Tensor) else x
            places = (xp(array).arange(sizes.pop()),) * len(axes)
            return _diagonal(
                getitem(permute(x, axes=(*axes, *rest)), index=places), [label, *(labels[i] for i in rest)]
            )
    return x, labels


def _summed(x, labels: Labels, keep: set) -> tuple:
    """x summed over the labels that are not in `keep`."""
    gone = tuple([i for i, label in enumerate(labels) if label not in keep])
    return (
        (sum(x, axis=gone, keepdims=False), [label for label in labels if label in keep])
        if gone
        else (x, labels)
    )


def _arranged(x, labels: Labels, wanted: Labels):
    """x with its axes in the order `wanted`."""
    return x if labels == wanted else permute(x, axes=tuple([labels.index(label) for label in wanted]))


def _contracted(a, a_labels: Labels, b, b_labels: Labels, keep: set) -> tuple:
    """The product of two operands, summed over the labels that nothing else names."""
    a, a_labels = _summed(a, a_labels, keep | set(b_labels))
    b, b_labels = _summed(b, b_labels, keep | set(a_labels))
    common = [label for label in a_labels if label in b_labels]
    batch, inner = [c for c in common if c in keep], [c for c in common if c not in keep]
    rows, columns = [c for c in a_labels if c not in common], [c for c in b_labels if c not in common]
    a, b = _arranged(a, a_labels, batch + rows + inner), _arranged(b, b_labels, batch + inner + columns)
    i, j = len(batch), len(batch) + len(inner)
    batch_shape, row_shape = a.shape[:i], a.shape[i : i + len(rows)]
    inner_shape, column_shape = b.shape[i:j], b.shape[j:]
    if inner:
        m, k, n = math.prod(row_shape), math.prod(inner_shape), math.prod(column_shape)
        product = ops.matmul(reshape(a, shape=(*batch_shape, m, k)), reshape(b, shape=(*batch_shape, k, n)))
    else:
        product = mul(
            reshape(a, shape=(*a.shape, *[1] * len(columns))),
            reshape(b, shape=(*batch_shape, *[1] * len(rows), *column_shape)),
        )
    return reshape(product, shape=(*batch_shape, *row_shape, *column_shape)), batch + rows + columns
