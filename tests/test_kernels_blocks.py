"""What kernels do block by block and on threads: same numbers wherever blocks are cut, same bits."""

import subprocess
import sys
import weakref

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.kernels import bias_act, blocks, norm, upfirdn2d
from scratchgan.kernels.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from scratchgan.ops import shape
from tests.cases import CASES, Case
from tests.test_ops import assert_equal, derivatives

BLOCKWISE = {
    "avg_pool2d",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "softmax",
    "unfold",
    "upfirdn2d",
    "adaptive_avg_pool2d",
}


@pytest.mark.parametrize("case", [c for c in CASES if c.op in BLOCKWISE], ids=lambda case: case.id)
def test_cutting_into_blocks_changes_nothing(case: Case, monkeypatch):
    whole = derivatives(case, min(case.order, 1))
    monkeypatch.setattr(blocks, "BLOCK", 1)  # every image is a block
    monkeypatch.setattr(norm, "SMALL", 0)
    assert_equal(derivatives(case, min(case.order, 1)), whole, case, tolerance=1e-12)


@pytest.mark.parametrize(
    "kernel",
    [norm.moments, lambda x, axes: norm.scale_shift(x, *norm.moments(x, axes))],
    ids=["moments", "scale_shift"],
)
def test_the_number_of_threads_changes_no_bit(kernel, monkeypatch):

    x = np.random.default_rng(0).standard_normal((40, 16, 16, 32), dtype=np.float32).transpose(0, 3, 1, 2)
    shared = kernel(x, (0, 2, 3))
    monkeypatch.setattr(backend, "workers", 1)
    for a, b in zip(shared, kernel(x, (0, 2, 3))):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("images", [70, 10])
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e3])
@pytest.mark.parametrize(
    "axes, weight",
    [((0, 2, 3), (1, 6, 1, 1)), ((2, 3), (1, 6, 1, 1)), ((1, 2, 3), (1, 6, 9, 8)), ((1, 2, 3), None)],
)
def test_data_far_from_zero_keeps_its_digits(axes, weight, offset, images):
    """float32 against float64: the error stays that of x itself, whose digits the offset eats."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((images, 6, 9, 8)) + offset).astype(np.float32)
    g = rng.standard_normal(x.shape).astype(np.float32)
    w = None if weight is None else rng.uniform(0.5, 2, weight).astype(np.float32)

    def run(x, g, w):
        mean, variance = norm.moments(x, axes)
        rstd = (variance + x.dtype.type(1e-5)) ** -0.5
        found = norm.normalize(x, mean, rstd, w, None), *norm.normalize_vjp(g, x, mean, rstd, w, axes)
        return [a for a in found if a is not None]

    narrow, wide = (
        run(x, g, w),
        run(x.astype(np.float64), g.astype(np.float64), None if w is None else w.astype(np.float64)),
    )
    for a, b in zip(narrow, wide):
        assert a.dtype == np.float32
        assert abs(a - b).max() <= (1e-5 + 2e-7 * offset) * abs(b).max()


@pytest.mark.parametrize("up, down", [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2)), ((3, 2), (2, 3))])
def test_long_rows_take_slices_and_short_ones_a_matrix(up, down, monkeypatch):
    """The two ways of filtering a row agree."""
    x = np.random.default_rng(2).standard_normal((3, 2, 9, 11))
    f = tuple(map(tuple, np.random.default_rng(3).standard_normal((4, 5)).tolist()))
    dense = upfirdn2d.upfirdn2d(x, f, up, down, (1, 2), (7, 8))
    monkeypatch.setattr(upfirdn2d, "WIDE", 0)
    np.testing.assert_allclose(
        upfirdn2d.upfirdn2d(x, f, up, down, (1, 2), (7, 8)), dense, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("activation", bias_act.ACTIVATIONS)
@pytest.mark.parametrize("slope", [0.2, 1.5])
def test_bias_act_of_many_blocks_is_that_of_each_image(activation, slope):
    x, g = np.random.default_rng(4).standard_normal((2, 5, 3, 140, 150))
    b, settings = np.array([0.5, -1.0, 0.0]), (activation, slope, 1.25)
    y = bias_act.bias_act(x, b, 1, *settings)
    dx = bias_act.bias_act_dx(g, y, *settings)
    for i in range(len(x)):
        np.testing.assert_array_equal(y[i : i + 1], bias_act.bias_act(x[i : i + 1], b, 1, *settings))
        np.testing.assert_array_equal(dx[i : i + 1], bias_act.bias_act_dx(g[i : i + 1], y[i : i + 1], *settings))


@pytest.mark.parametrize("f", [
    np.outer([1, 3, 3, 1], [1, 2, 1]) / 32, np.outer([0, -1e-9, 2], [0, 1e9, 3, 1]), np.zeros((3, 2))])
def test_a_separable_filter_is_taken_apart(f):
    a, b = upfirdn2d._factors(tuple(map(tuple, f)))
    np.testing.assert_allclose(np.outer(a, b), f, rtol=1e-14, atol=1e-14 * abs(f).max())


@pytest.mark.parametrize("f", [np.eye(3), np.outer([1, 2], [1, 2]) + [[0, 0], [0, 1e-9]]])
def test_no_other_filter_is(f):
    assert upfirdn2d._factors(tuple(map(tuple, f))) is None


def test_parallel_work_may_ask_for_parallel_work():
    """The inner call stays in its thread; it used to wait for the worker that it was running on."""
    done = []

    def outer(_):
        backend.parallel(16, lambda part: done.append(part.stop - part.start))

    backend.parallel(2, outer)
    assert sum(done) == 16 * min(backend.workers, 2)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(backend, "workers", 2)
    monkeypatch.setattr(backend, "_shares_work", True)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_any_thread_is_the_callers(failing, two_threads):
    done = []

    def work(part):
        if part.start == failing:
            raise ValueError(f"part {part.start}")
        done.append(part.start)

    with pytest.raises(ValueError, match=f"part {failing}"):
        backend.parallel(2, work)
    assert done == [1 - failing]  # the other one came to its end before
    backend.parallel(2, lambda part: done.append(part.start))
    assert sorted(done[1:]) == [0, 1]


def test_a_job_that_is_done_keeps_nothing_of_its_work(two_threads, monkeypatch):
    """The helper may hold on to the job for a moment longer than the caller waits."""
    jobs, start = [], backend._Helper.start
    monkeypatch.setattr(backend._Helper, "start", lambda *a: jobs.append(start(*a)) or jobs[-1])
    array = np.zeros(4)
    watched = weakref.ref(array)
    backend.parallel(2, lambda part, array=array: array[part].fill(1))
    del array
    assert len(jobs) == 1 and watched() is None


def test_a_forked_process_has_helpers_of_its_own():
    code = """
import os
from scratchgan import backend
backend.workers, backend._shares_work = 2, True
found = []
backend.parallel(2, lambda part: found.append(part.start))
child = os.fork()
backend.parallel(2, lambda part: found.append(part.start))
assert sorted(found) == [0, 0, 1, 1]
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.fixture(params=["one thread", "threads"])
def runs_of_memory(request, monkeypatch):
    """Arrays of a thousand numbers are large; copies of runs of memory are shared among threads or not."""
    monkeypatch.setattr(blocks, "BLOCK", 1 << 10)
    monkeypatch.setattr(blocks, "SMALL", 0)
    monkeypatch.setattr(blocks, "RUNS", 1 if request.param == "threads" else 1 << 20)


@pytest.mark.parametrize("order", ["C", "K"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("size", [(), (3,), (0, 3), (70, 15, 20), (70, 1, 20), (3, 70, 20), (20, 2, 70, 3), (3, 2)])
def test_copies_are_numpys(size, layout, order, runs_of_memory):
    a = layout(np.random.default_rng(0).random(size))
    b = blocks.copy(a, order)
    assert b.strides == a.copy(order=order).strides and not np.shares_memory(a, b)
    np.testing.assert_array_equal(b, a)


@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)])
@pytest.mark.parametrize("size", [(3, 2, 5, 7), (4, 16, 3, 2), (2, 3, 8, 8), (0, 2, 3, 3)])
def test_shuffled_pixels_keep_the_memory_order(size, order, r, runs_of_memory):
    n, c, h, w = size
    channels_first = np.random.default_rng(0).random((n, c * r * r, h, w))
    x = np.ascontiguousarray(channels_first.transpose(order)).transpose(np.argsort(order))
    y = pixel_shuffle(x, r)
    for i, j in np.ndindex(r, r):
        np.testing.assert_array_equal(y[:, :, i::r, j::r], x[:, i * r + j :: r * r])
    assert y.transpose(order).flags.c_contiguous
    back = pixel_unshuffle(y, r)
    np.testing.assert_array_equal(back, x)
    assert back.strides == x.strides


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_large_arrays_are_joined_as_numpy_does(axis, runs_of_memory):
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 20, 30)), rng.random((3, 20, 30)).astype(np.float32)
    for ours, theirs in ((shape.cat, np.concatenate), (shape.stack, np.stack)):
        found, expected = ours(a, b, axis=axis), theirs((a, b), axis=axis)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
