"""The engine itself: what is computed, what is kept, what is let go, and what is refused."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import numpy as np
import pytest

import scratchgan
import scratchgan.functional as F
from scratchgan import autograd, inplace
from scratchgan.autograd import Fused
from scratchgan.check import Agreement, GradcheckError, gradcheck, gradgradcheck, pullback
from scratchgan.tensor import Op, Tensor


def leaf(*values: float, shape=None, dtype=np.float64) -> Tensor:
    array = (
        np.array(values, dtype)
        if shape is None
        else np.random.default_rng(0).standard_normal(shape).astype(dtype)
    )
    return scratchgan.tensor(array, requires_grad=True)


def counted():
    """A multiplication that counts the calls of each VJP."""
    calls = {"a": 0, "b": 0}

    @Op
    def counted_mul(a, b):
        return a * b

    def vjp_a(g, b):
        calls["a"] += 1
        return g * b

    def vjp_b(g, a):
        calls["b"] += 1
        return g * a

    counted_mul.vjp(a=vjp_a, b=vjp_b)
    return counted_mul, calls


# What is computed


def test_a_gradient_nobody_asked_for_is_never_computed():
    mul, calls = counted()
    x, w = leaf(2.0), leaf(3.0)
    y = mul(mul(x, w), w)
    assert scratchgan.grad(y, x)[0].item() == 9 and calls == {"a": 2, "b": 0}


def test_backward_with_inputs_prunes_the_other_leaves():
    mul, calls = counted()
    x, w = leaf(2.0), leaf(3.0)
    mul(x, w).sum().backward(inputs=[x])
    assert calls == {"a": 1, "b": 0} and x.grad.item() == 3 and w.grad is None


def test_a_constant_argument_costs_no_vjp():
    mul, calls = counted()
    mul(leaf(2.0), scratchgan.tensor([3.0])).backward()
    mul(leaf(2.0), np.array([3.0])).backward()
    assert calls == {"a": 2, "b": 0}


def test_nothing_older_than_the_oldest_goal_is_visited():
    mul, calls = counted()
    x = leaf(2.0)
    middle = mul(x, x)
    y = mul(middle, middle)
    assert scratchgan.grad(y, middle)[0].item() == 8 and calls == {"a": 1, "b": 1}


def test_a_branch_that_does_not_lead_to_a_goal_is_not_visited():
    mul, calls = counted()
    x, other = leaf(2.0), leaf(5.0)
    branch = mul(other, other)
    y = x * 3 + branch
    assert scratchgan.grad(y, x)[0].item() == 3 and calls == {"a": 0, "b": 0}


def test_a_diamond_visits_each_node_once():
    mul, calls = counted()
    x = leaf(3.0)
    y = mul(x, x)
    for _ in range(20):
        y = y + y  # 2^20 paths
    assert scratchgan.grad(y, x)[0].item() == 2**20 * 6 and calls == {"a": 1, "b": 1}


def test_repeated_use_adds_up():
    x = leaf(2.0)
    assert scratchgan.grad(x * x * x + x, x)[0].item() == 13
    assert scratchgan.grad(x + x, [x, x])[1].item() == 2


def test_unreached_inputs_give_none():
    x, y = leaf(1.0), leaf(2.0)
    assert scratchgan.grad(x * 2, [y, x, y])[::2] == (None, None)


def test_the_output_itself_is_an_input():
    x = leaf(2.0)
    y = x * 3
    assert scratchgan.grad(y, [y, x])[0].item() == 1
    assert scratchgan.grad(x, x, np.array([5.0]))[0].item() == 5


def test_several_outputs_with_their_cotangents():
    x = leaf(2.0)
    (g,) = scratchgan.grad([x * x, x * 3], x, [np.array([10.0]), np.array([100.0])])
    assert g.item() == 340


def test_gradient_of_a_tensor_that_is_no_leaf():
    x = leaf(2.0)
    y = x * x
    (g,) = scratchgan.grad(y * y, y)
    assert g.item() == 8
    with pytest.raises(RuntimeError, match="leaf"):
        (y * y).backward(inputs=[y])


# backward and .grad


def test_backward_accumulates_into_leaves():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).backward()
    first = x.grad
    (x * x).backward()
    assert x.grad.item() == 7 and y.grad.item() == 2 and first.item() == 3


def test_leaves_never_share_the_memory_of_a_gradient():
    x, y = leaf(shape=(3,)), leaf(shape=(3,))
    (x + y).sum().backward()
    x.grad._array[...] = 7
    assert (y.grad.numpy() == 1).all()
    z = leaf(shape=(2, 2))
    z.sum().backward()
    z.grad._array[0, 0] = 5  # expanded cotangents are made whole
    assert z.grad.numpy()[1, 1] == 1


def test_the_cotangent_that_was_passed_is_not_aliased():
    x, g = leaf(1.0, 2.0), np.array([1.0, 2.0])
    x.backward(g)
    x.grad._array[...] = 0
    assert g.tolist() == [1, 2]


def test_gradients_have_the_shape_and_dtype_of_their_leaf():
    x, y = leaf(shape=(3, 1), dtype=np.float32), leaf(shape=(2, 1, 4))
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.shape == (3, 1)
    assert y.grad.dtype == np.float64 and y.grad.shape == (2, 1, 4)


def test_no_grad_leaves_no_graph():
    x = leaf(2.0)
    with scratchgan.no_grad():
        y = x * x
        with scratchgan.enable_grad():
            z = x * x
    assert not y.requires_grad and y.is_leaf and z.requires_grad and (x * x).requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), scratchgan.no_grad():
        raise KeyError
    assert scratchgan.is_grad_enabled()


def test_detach_cuts_the_graph_and_shares_memory():
    x = leaf(2.0)
    y = (x * x).detach()
    assert not y.requires_grad and scratchgan.grad(x * y, x)[0].item() == 4
    assert x.detach()._array is x._array


# Orders


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_order_of_derivative(order):
    x = leaf(0.3, 0.7)
    y = F.sin(x) * F.exp(x)
    for _ in range(order):
        (y,) = scratchgan.grad(y.sum(), x, create_graph=True)
    expected = (np.exp(x.detach().numpy() * (1 + 1j)) * (1 + 1j) ** order).imag  # sin(x) e^x = Im e^{(1+i)x}
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-13)


def test_without_create_graph_the_gradient_is_a_constant():
    x = leaf(2.0)
    assert not scratchgan.grad(x * x, x)[0].requires_grad
    assert scratchgan.grad(x * x, x, create_graph=True)[0].requires_grad


def test_backward_through_a_gradient_reaches_the_weights():
    x, w = leaf(2.0), leaf(3.0)
    (g,) = scratchgan.grad(w * x * x, x, create_graph=True)  # 2 w x
    (g * g).backward(inputs=[w])
    assert w.grad.item() == 96  # d (2wx)^2 / dw = 8 w x^2


def test_backward_with_create_graph_gives_a_grad_with_a_graph():
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    assert scratchgan.grad(x.grad, x)[0].item() == 12


# Memory


def test_a_long_chain_needs_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 100_001
    del y
    y = x
    for _ in range(100_000):
        y = y * 1.0
    del y  # letting go of it needs none either


def test_memory_is_released_as_backward_proceeds():
    alive = []

    @Op
    def probe(x):
        return x + 0

    def vjp(g, x):
        gc.collect()
        alive.append([r() is not None for r in kept])
        return g

    probe.vjp(x=vjp)
    x = leaf(shape=(5,))
    y, kept = x, []
    for _ in range(3):
        y = probe(y)
        z = F.exp(y)
        kept.append(weakref.ref(z._array))
        y = z * 1.0
    del z
    loss = y.sum()
    del y
    loss.backward()
    assert alive == [[True, True, False], [True, False, False], [False, False, False]]


def test_retained_graphs_stay_and_others_say_that_they_are_gone():
    x = leaf(2.0)
    y = F.exp(x * x)
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.item(), 2 * 4 * np.exp(4))
    with pytest.raises(RuntimeError, match="freed by an earlier backward.*retain_graph=True"):
        y.backward()


def test_what_no_vjp_reads_is_not_kept():
    x = leaf(shape=(4,))
    y = x * 2.0
    z = y + 1.0
    kept = weakref.ref(y._array)
    del y
    assert kept() is None and z.requires_grad


def test_the_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = leaf(shape=(4,))
        y = F.tanh(x * x)
        kept = weakref.ref(y._array)
        del y
        assert kept() is None
    finally:
        gc.enable()


# Writes between forward and backward

WRITES = {
    "data": lambda x: x.data.__setitem__(0, 9.0),
    "numpy": lambda x: x.detach().numpy().__setitem__(0, 9.0),
    "numpy of part": lambda x: x.detach()[:1].numpy().__setitem__(0, 9.0),
    "copy_": lambda x: quietly(lambda: x.copy_(scratchgan.tensor([9.0, 9.0]))),
    "zero_": lambda x: quietly(lambda: x.zero_()),
    "mul_": lambda x: quietly(lambda: x.mul_(2.0)),
    "+=": lambda x: quietly(lambda: x.__iadd__(1.0)),
    "setitem": lambda x: quietly(lambda: x.__setitem__(0, 9.0)),
    "detach().zero_": lambda x: x.detach().zero_(),
    "data =": lambda x: setattr(x, "data", np.array([9.0, 9.0])),
}


def quietly(write):
    with scratchgan.no_grad():
        write()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_between_forward_and_backward_raises(write):
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    write(x)
    with pytest.raises(RuntimeError, match=r"mul: an array of shape \(2,\).*changed in place"):
        y.backward()


def test_a_write_through_an_array_that_was_handed_out_before_raises():
    x = leaf(1.0, 2.0)
    array = x.data
    y = (x * x).sum()
    array[0] = 5
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_write_to_a_result_that_backward_reads_raises():
    x = leaf(1.0, 2.0)
    y = F.exp(x)
    z = y.sum()
    y.data[0] = 0
    with pytest.raises(RuntimeError, match="exp"):
        z.backward()


def test_an_optimiser_step_between_forward_and_backward_raises():
    w = leaf(1.0, 2.0)
    optimiser = scratchgan.optim.SGD([w], lr=0.1)
    first, second = (w * w).sum(), (w * w).sum()
    first.backward()
    optimiser.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        second.backward()


@pytest.mark.parametrize("write", [WRITES["data"], WRITES["copy_"], WRITES["+="]])
def test_writes_after_backward_or_to_what_is_not_read_are_fine(write):
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    write(x)
    z = (x * 2.0).sum()  # the derivative of x * 2 does not read x
    write(x)
    z.backward()
    assert x.grad.tolist() == [4, 6]
    (x * x).sum().backward()  # and a new graph starts afresh


def test_a_usual_training_loop_raises_no_false_alarm():
    rng = np.random.default_rng(0)
    inputs = scratchgan.tensor(rng.standard_normal((8, 3)))
    w, b = leaf(shape=(3, 2)), leaf(0.0, 0.0)
    optimiser = scratchgan.optim.Adam([w, b], lr=0.1)
    buffer = scratchgan.zeros(2)
    seen = []
    for _ in range(5):
        optimiser.zero_grad()
        inputs.data[...] = rng.standard_normal((8, 3))  # the batch's memory is reused
        hidden = inputs @ w + b
        with scratchgan.no_grad():
            buffer.copy_(hidden.detach().mean(0).float())  # a running statistic
        loss = (hidden * hidden).mean()
        seen.append(float(loss.detach().numpy()))
        w.detach().numpy().sum()  # looking is allowed
        loss.backward()
        optimiser.step()
    assert seen[-1] < seen[0] * 10 and len(seen) == 5


def test_the_guards_keep_no_array_alive():
    x = scratchgan.tensor(np.ones(3), requires_grad=True)
    before = len(inplace.exposed)
    array = weakref.ref(x.data)
    assert len(inplace.exposed) == before + 1
    del x
    gc.collect()
    assert array() is None and len(inplace.exposed) == before


# Errors


def test_errors_name_the_op_and_the_shapes():
    with pytest.raises(ValueError, match=r"add\(\(2, 3\) float64, \(4,\) float64\)"):
        leaf(shape=(2, 3)) + leaf(shape=(4,))
    with pytest.raises(ValueError, match=r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit"):
        leaf(shape=(2, 3)) @ leaf(shape=(2, 3))


def test_misuse_of_grad_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="one element.*grad_outputs"):
        scratchgan.grad(x * 2, x)
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(2,\)"):
        scratchgan.grad(x * 2, x, np.ones(3))
    with pytest.raises(RuntimeError, match="does not require gradients"):
        scratchgan.grad(scratchgan.tensor([1.0]), x)
    with pytest.raises(RuntimeError, match="does not require gradients"):
        scratchgan.grad((x * 2).sum(), scratchgan.tensor([1.0]))
    with pytest.raises(ValueError, match="1 outputs but 2"):
        scratchgan.grad([x * 2], [x], [np.ones(2), np.ones(2)])
    with pytest.raises(RuntimeError, match="requires_grad"):
        scratchgan.tensor([1.0]).backward()


def test_integers_have_no_gradient():
    with pytest.raises(RuntimeError, match="int64"):
        scratchgan.tensor([1, 2], requires_grad=True)


def test_an_argument_without_a_formula_says_so():
    @Op
    def half_done(a, b):
        return a + b

    half_done.vjp(a=lambda g: g)
    with pytest.raises(TypeError, match="half_done has no derivative in its argument 'b'"):
        half_done(leaf(1.0), leaf(1.0)).backward()


# Ops that are called with arrays, mixed dtypes, fused ops


def test_ops_on_arrays_answer_arrays():
    assert type(F.exp(np.zeros(3))) is np.ndarray


def test_mixed_precision_gradients_come_in_each_leafs_own():
    x, y = leaf(1.5, dtype=np.float32), leaf(2.5)
    gx, gy = scratchgan.grad(x * y, [x, y])
    assert (gx.dtype, gy.dtype) == (np.float32, np.float64)
    gx, gy = scratchgan.grad(x * y, [x, y], create_graph=True)
    assert (gx.dtype, gy.dtype) == (np.float32, np.float64)


def fused_square_over(wrong: float = 1.0) -> Fused:
    """(a, b, scale) -> scale a^2 / b with a fast path, whose VJP can be made wrong."""

    @Fused
    def square_over(a, b, *, scale):
        return a * a / b * scale

    def forward(a, b, *, scale):
        return scale * a * a / b, a / b

    def vjp(g, ratio, need, a, b, *, scale):
        return [
            2 * scale * g * ratio if need[0] else None,
            -scale * wrong * g * ratio * ratio if need[1] else None,
        ]

    square_over.fast(forward, vjp)
    return square_over


@pytest.mark.parametrize("create_graph", [False, True])
def test_fast_path_and_spec_agree(create_graph):
    op = partial(fused_square_over(), scale=3.0)
    a, b = leaf(shape=(3, 4)), scratchgan.tensor(np.full((3, 4), 2.0), requires_grad=True)
    found = scratchgan.grad(op(a, b).sum(), [a, b], create_graph=create_graph)
    x, y = a.detach().numpy(), b.detach().numpy()
    np.testing.assert_allclose(found[0].detach().numpy(), 6 * x / y, rtol=1e-14)
    np.testing.assert_allclose(found[1].detach().numpy(), -3 * x * x / y**2, rtol=1e-14)
    gradcheck(op, [x, y])
    gradgradcheck(op, [x, y])


def test_fused_partials_are_of_this_call_alone():
    op = partial(fused_square_over(), scale=1.0)
    a = leaf(2.0)
    b = a * a  # b depends on a: op(a, b) = 1
    (g,) = scratchgan.grad(op(a, b), a, create_graph=True)
    assert abs(g.item()) < 1e-15
    assert abs(scratchgan.grad(op(a, b), a)[0].item()) < 1e-15


# The checks themselves


def test_a_wrong_fast_vjp_is_found():
    op = partial(fused_square_over(wrong=1.001), scale=1.0)
    inputs = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    with pytest.raises(GradcheckError, match=r"input 0: .*input 1: "):
        gradcheck(op, inputs)
    gradgradcheck(op, inputs)  # which differentiates the spec


@pytest.mark.parametrize("size", [1, 1000])
def test_one_wrong_entry_is_found(size):
    @Op
    def cube(x):
        return x * x * x

    def vjp(g, x):
        result = 3 * g * x * x
        if type(result) is np.ndarray:
            result[size // 2] *= 1.01
        return result

    cube.vjp(x=vjp)
    result = gradcheck(cube, np.random.default_rng(1).uniform(1, 2, size), raise_exception=False)
    assert isinstance(result, Agreement) and not result.ok and result.error > 1e-7


def test_a_wrong_second_derivative_is_found():
    """The error of caching a raw array: right at first order, blind at second."""

    @Op
    def square(x):
        return x * x

    square.vjp(x=lambda g, x: g * 2.0 * (x if isinstance(x, np.ndarray) else x.detach()))
    gradcheck(square, np.array([1.0, 2.0]))
    with pytest.raises(GradcheckError):
        gradgradcheck(square, np.array([1.0, 2.0]))


def test_a_wrong_third_derivative_is_found():
    @Op
    def cube(x):
        return x * x * x

    @Op
    def slope(x):
        return 3 * x * x

    cube.vjp(x=lambda g, x: g * slope(x))
    slope.vjp(x=lambda g, x: g * 6.0 * (x if isinstance(x, np.ndarray) else x.detach()))
    point = np.array([1.0, 2.0])
    gradcheck(cube, point)
    gradgradcheck(cube, point)
    with pytest.raises(GradcheckError):
        gradgradcheck(*pullback(cube, point))


def test_a_missing_dependence_is_found():
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x * x.detach(), np.array([1.0, 2.0]))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x.detach() * 2, np.array([1.0, 2.0]))


def test_nan_is_no_agreement():
    with np.errstate(invalid="ignore"), pytest.raises(GradcheckError):
        gradcheck(F.log, np.array([-1.0, 2.0]))


def test_errors_of_the_difference_quotient_are_as_small_as_stated():
    x = np.random.default_rng(0).uniform(0.5, 1.5, (20, 30))
    for order in (gradcheck, gradgradcheck):
        assert order(lambda x: F.exp(x) * F.sin(x) / x, x).error < 1e-11


def test_gradcheck_takes_tuples_integers_and_constants():
    def fn(x, index, factor):
        return x[index] * factor, x.sum(), 3

    assert gradcheck(fn, [np.arange(4.0), np.array([0, 2]), 2.0]).ok
    assert gradgradcheck(fn, [np.arange(4.0), np.array([0, 2]), 2.0]).ok


def test_gradcheck_refuses_low_precision_and_nothing_to_vary():
    with pytest.raises(TypeError, match="input 0 is float32"):
        gradcheck(F.exp, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="no input to vary"):
        gradcheck(F.exp, scratchgan.tensor([1.0]))


def test_the_engine_file_is_short():
    lines = [len(open(m.__file__, encoding="utf-8").readlines()) for m in (autograd, inplace)]
    assert max(lines) <= 300
