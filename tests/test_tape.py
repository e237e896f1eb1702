"""A step repeated from what it was fed is the step itself: weights, optimisers, averages and random streams to
the bit, over several steps. What CUDA would capture is here the step run once more on its tape.
"""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from scratchgan import backend, gans, optim, tensor
from scratchgan import functional as F
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.graph import (
    StepGraphs,
    arrays_of,
    copies,
    gradients_of,
    hand_back,
    nothing_copied_from_the_host,
    put,
)
from scratchgan.precision import HALF, LossScale, half_products
from scratchgan.tape import NotRepeatable, Tape, fed, only_eager, reported
from tests.twins import IMAGE, batches

IMAGES, POINTS = Spec((1, 8, 8), *IMAGE, classes=10), Spec((2,), -np.inf, np.inf)
SETUPS = {
    "gan": (IMAGES, {"d_dropout": 0.3}),
    "gan, points": (POINTS, {"data": "ring", "k": 2}),
    "cgan": (IMAGES, {"g_width": 4, "d_width": 4}),
    "lapgan": (IMAGES, {"edges": (4,), "class_conditional": True, "updates": (1, 2)}),
    "dcgan": (IMAGES, {"g_width": 4, "d_width": 4}),
    "wgan": (IMAGES, {"g_width": 4, "d_width": 4, "n_critic": 2}),
    "wgan_gp": (IMAGES, {"g_width": 4, "d_width": 4, "n_critic": 2}),
    "srgan": (Spec((3, 16, 16), *IMAGE), {"blocks": 1, "g_width": 4, "d_width": 4, "d_dense": 8,
                                          "pretrain_steps": 3, "decay_steps": 2}),
    "stylegan": (Spec((1, 16, 16), *IMAGE), {"width": 4, "latent": 8, "mapping_layers": 1, "start": 4, "size": 16,
                                             "stable_images": 32, "fade_images": 40}),
    "stylegan2": (IMAGES, {"g_width": 4, "d_width": 4, "latent": 8, "mapping_layers": 1, "r1_every": 3,
                           "path_every": 5}),
}
STEPS = 10


@pytest.fixture(autouse=True)
def in_arenas(monkeypatch):
    """Optimisers and averages work as on a GPU, here by the references."""
    monkeypatch.setattr(optim, "suits", lambda arrays: True)


def made(name: str) -> tuple:
    """(GAN, batches) of a setup, always the same."""
    spec, settings = SETUPS[name]
    settings = {"batch_size": 4, **settings}
    gan_name = name.partition(",")[0]
    config = gans.configure(gan_name, **settings)
    gan = gans.get(gan_name)(spec, config, use_streams(Streams(3)))
    few = list(itertools.islice(batches(spec, 4, np.float32), 3))
    return gan, itertools.cycle(few)


def trained(name: str, by_graphs: bool) -> tuple:
    """(all arrays, state of the streams, all scalars, the graphs) after STEPS steps."""
    gan, data = made(name)
    graphs = StepGraphs(gan, capture=lambda step: step)
    stepping = graphs if by_graphs else gan
    reports = [stepping.step(data) for _ in range(STEPS)]
    return [a.copy() for a in arrays_of(gan)], gan.streams.state_dict(), reports, graphs


@pytest.mark.parametrize("name", SETUPS)
def test_repeated_steps_are_the_steps_themselves(name):
    expected, found = trained(name, False), trained(name, True)
    assert found[3].why_not is None and found[3]._graphs
    assert found[1] == expected[1] and found[2] == expected[2]
    for a, b in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_counters_go_on():
    """What a checkpoint keeps besides arrays: the optimiser's and the average's counts."""
    gan, data = made("dcgan")
    graphs = StepGraphs(gan, capture=lambda step: step)
    for _ in range(STEPS):
        graphs.step(data)
    assert gan.ema.updates == STEPS
    assert {s["step"] for s in gan.optimizer_d.state.values()} == {STEPS}


def into_the_same_memory(gan):
    """A capture whose launches write gradients where the captured step had them, as CUDA's do."""
    def capture(step):
        state = arrays_of(gan)
        before = copies(state)
        step()
        put(before, state)
        places = gradients_of(gan)

        def launch():
            found = gradients_of(gan)
            step()
            for weight, place in places:
                place._array[...] = weight.grad._array
            hand_back(found)

        return launch

    return capture


def test_gradients_are_those_of_the_last_step():
    gradients = []
    for by_graphs in (False, True):
        gan, data = made("gan")
        stepping = StepGraphs(gan, into_the_same_memory(gan)) if by_graphs else gan
        for _ in range(5):
            hand_back([(weight, None) for weight, _ in gradients_of(gan)])      # as a step of another course may
            stepping.step(data)
        gradients.append([p.grad.numpy().copy() for p in gan.generator.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


# When there is no graph

def steps_without(name: str, capture, steps: int = 4) -> tuple[StepGraphs, list]:
    """The graphs after some steps, and all arrays, which are those of steps without graphs."""
    gan, data = made(name)
    graphs = StepGraphs(gan, capture)
    for _ in range(steps):
        graphs.step(data)
    arrays = [a.copy() for a in arrays_of(gan)]
    gan, data = made(name)
    for _ in range(steps):
        gan.step(data)
    for a, b in zip(arrays, arrays_of(gan), strict=True):
        np.testing.assert_array_equal(a, b)
    return graphs, arrays


def test_a_capture_that_fails_leaves_the_training_as_it_was():
    def refused(step):
        step()
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, _ = steps_without("dcgan", refused)
    assert graphs.news() == ("steps run without CUDA graphs: RuntimeError: operation not permitted when stream "
                             "is capturing")
    assert graphs.news() is None


def test_a_graph_that_computes_something_else_is_not_used():
    graphs, _ = steps_without("dcgan", lambda step: lambda: None)
    assert "differ by" in graphs.why_not and not graphs._graphs


def test_each_course_of_a_growing_gan_has_a_graph():
    """At 4 pixels; while 8 are faded in, with fewer batches from the second such step on; at 8."""
    graphs = trained("stylegan", True)[3]
    assert [(top, fading) for _, top, fading in graphs._graphs] == [(0, False), (1, True), (1, False)]


def test_steps_with_a_penalty_have_graphs_of_their_own():
    graphs = trained("stylegan2", True)[3]
    assert graphs._graphs.keys() == {(False, False), (True, False), (False, True)}      # R1, path length


@pytest.mark.filterwarnings("ignore::RuntimeWarning:scratchgan")      # of what overflows
@pytest.mark.parametrize("name, updates, factor", [
    ("dcgan", 2 * STEPS, 2.0**6), ("dcgan", 2 * STEPS, 2.0**20), ("wgan_gp", 3 * STEPS, 2.0**6),
    ("stylegan2", 2 * STEPS + 3 + 2, 2.0**6), ("stylegan2", 2 * STEPS + 3 + 2, 2.0**20)])
def test_steps_in_float16_are_repeated_with_their_loss_scale(name, updates, factor):
    """The larger one overflows at first: updates are left out, and not counted, until S has been halved."""
    results = []
    for by_graphs in (False, True):
        scale = LossScale(factor)
        with half_products(HALF, scale):
            state, streams, reports, graphs = trained(name, by_graphs)
        results.append((state, streams, reports, scale.state_dict()))
    (a, *plain), (b, *repeated) = results
    assert graphs.why_not is None and graphs._graphs and plain == repeated
    left_out = math.log2(factor / scale.factor)
    counts = [{s["step"] for s in player.optimizer.state.values()} for player in graphs.gan.players().values()]
    assert sum(max(count) for count in counts) == updates - left_out
    assert (left_out > 0) == (factor == 2.0**20)
    for found, expected in zip(b, a, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_graph_is_made_anew_where_weights_have_moved():
    gan, data = made("dcgan")
    graphs = StepGraphs(gan, capture=lambda step: step)
    for _ in range(3):
        graphs.step(data)
    (first,) = graphs._graphs.values()
    weight = next(gan.generator.parameters())
    weight.data = weight._array.copy()
    graphs.step(data)
    assert not graphs._graphs, "recorded once more"
    graphs.step(data)
    (second,) = graphs._graphs.values()
    assert graphs.why_not is None and second is not first and not second.moved()


def test_updates_one_by_one_say_why(monkeypatch):
    monkeypatch.setattr(optim, "suits", lambda arrays: False)
    gan, data = made("dcgan")
    graphs = StepGraphs(gan, capture=lambda step: step)
    graphs.step(data)
    assert graphs.why_not == "parameters are updated one by one"


def test_a_graph_copies_nothing_from_the_host():
    with nothing_copied_from_the_host(np):
        assert backend.xp(np.zeros(1)).asarray(np.ones(2)).sum() == 2
        for brought in (3.0, [1, 2]):
            with pytest.raises(NotRepeatable, match=f"copies {type(brought).__name__} from the host"):
                backend.xp(np.zeros(1)).asarray(brought)
    assert backend.xp(np.zeros(1)) is np


# The tape

def test_outside_of_a_step_a_draw_is_an_array():
    like = np.zeros(2, np.float32)
    assert fed(lambda: [1, 2], like).dtype == np.float32
    assert fed(lambda: 3, like, np.float64) == np.float64(3)
    assert reported({"a": np.float32([2]), "b": lambda: 3.0}) == {"a": 2.0, "b": 3.0}
    only_eager("nobody records")


def test_a_draw_is_kept_apart_from_what_it_was_drawn_into():
    batch, like, tape = np.ones(3, np.float32), np.zeros(1, np.float32), Tape()
    with tape.recording():
        taken = fed(lambda: batch, like)
    batch[:] = 2
    assert taken.tolist() == [1, 1, 1]
    tape.draw()
    assert taken.tolist() == [2, 2, 2]


@pytest.mark.parametrize("draws", [0, 2])
def test_another_course_is_refused(draws):
    like, tape = np.zeros(1, np.float32), Tape()
    with tape.recording():
        fed(lambda: [1], like)
    with pytest.raises(NotRepeatable, match="another course"), tape.playing():
        for _ in range(draws):
            fed(lambda: [1], like)


def test_another_shape_is_refused():
    sizes, tape = iter([3, 2]), Tape()
    with tape.recording():
        fed(lambda: np.ones(next(sizes)), np.zeros(1))
    with pytest.raises(NotRepeatable, match=r"shape \(2,\), in the step recorded \(3,\)"):
        tape.draw()


def test_dropout_draws_anew():
    x, tape = tensor(np.ones((50,), np.float32)), Tape()
    with tape.recording():
        first = F.dropout(x, 0.5).numpy().copy()
    tape.draw()
    with tape.playing():
        second = F.dropout(x, 0.5).numpy()
    assert (first != second).any()
