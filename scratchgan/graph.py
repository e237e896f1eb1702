"""A whole training step as one CUDA graph: hundreds of launches become one, and Python stays out of it.

A step is recorded on a `Tape` once, as it runs. The next step of the same course (`Sampler.course`) is captured,
and those after it are: draw anew on the host, copy it to where the graph expects it, launch. Before a graph is
trusted, its first launch is compared with the same step run without it, on the same draws from the same state; a
step that cannot be captured, or differs, goes on without a graph, and `StepGraphs.why_not` says why.

A graph's memory is its own: what the step allocated while it was captured comes from a pool that nothing else
draws from.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from scratchgan.backend import module_of, on_gpu, register, xp
from scratchgan.kernels.dispatch import capturable
from scratchgan.precision import moving
from scratchgan.tape import NotRepeatable, Tape
from scratchgan.tensor import Tensor

CLOSE = 1e-4        # of the largest number of an array: what a graph's result may differ from the step's without it


class StepGraphs:
    """The steps of a GAN, by CUDA graphs where they can be.

    `why_not` is None, or says why there are no graphs (any more); `news` says it once. `capture(step)` makes a
    graph of what step() does on the device and returns what launches it; another one stands in for CUDA in the
    tests.
    """

    def __init__(self, gan: Any, capture: Callable[[Callable[[], object]], Callable[[], None]] | None = None):
        self.gan, self._said = gan, False
        self.why_not: str | None = None
        self._capture = captured if capture is None else capture
        self._tapes: dict[Hashable, Tape] = {}
        self._graphs: dict[Hashable, Graph] = {}

    def step(self, batches: Iterator) -> dict[str, float]:
        """As the GAN's `step`. Always by the kernels that a graph can hold, so that a run that is resumed goes on
        to the same bits."""
        with capturable():
            return self._step(batches)

    def _step(self, batches: Iterator) -> dict[str, float]:
        if self.why_not is not None:
            return self.gan.step(batches)
        course = self.gan.course
        if course in self._graphs:
            if not self._graphs[course].moved():
                return self._graphs[course].step()
            del self._graphs[course], self._tapes[course]       # it would write to where the weights were
        if course in self._tapes:
            return self._captured(course, batches)
        tape = self._tapes[course] = Tape()
        with tape.recording():
            scalars = self.gan.step(batches)
        self.why_not = tape.why_not
        return scalars

    def news(self) -> str | None:
        """Why there are no graphs, the first time that this is asked after it turned out."""
        if self.why_not is None or self._said:
            return None
        self._said = True
        return f"steps run without CUDA graphs: {self.why_not}"

    def _captured(self, course: Hashable, batches: Iterator) -> dict[str, float]:
        """The second step of a course, from one state and one draw twice: without a graph, which is what counts if
        there will be none, and by the graph, which must equal that."""
        tape, state = self._tapes[course], [*arrays_of(self.gan), *moving()]
        tape.draw()
        before = copies(state)

        def play() -> None:
            with tape.playing():
                self.gan.step(batches)

        play()
        after, gradients, scalars, waiting = copies(state), gradients_of(self.gan), tape.read(), tape.after
        try:
            put(before, state)
            launch = self._capture(play)
            launch()
            check(state, after)
        except Exception as error:      # whatever CUDA, CuPy or Triton refuse: the training goes on without
            put(after, state)
            hand_back(gradients)
            tape.after = waiting
            self.why_not = f"{type(error).__name__}: {error}"
            return scalars
        finally:
            tape.settle()
        self._graphs[course] = Graph(tape, launch, gradients_of(self.gan), weights_of(self.gan))
        return tape.read()


class Graph(NamedTuple):
    """A step that was captured, its tape, the gradients of all weights, which lie in the graph's memory: whoever
    looks at them between steps shall find those of the last one; and the memory of the weights."""
    tape: Tape
    launch: Callable[[], None]
    gradients: list[tuple[Tensor, Tensor | None]]
    weights: list[tuple[Tensor, Any]]

    def moved(self) -> bool:
        """Whether a weight lies elsewhere than when the step was captured."""
        return any(weight._array is not array for weight, array in self.weights)

    def step(self) -> dict[str, float]:
        self.tape.draw()
        self.launch()
        hand_back(self.gradients)
        self.tape.settle()
        return self.tape.read()


def captured(step: Callable[[], object]) -> Callable[[], None]:
    """What step() does on CuPy's device as a CUDA graph; returns what launches it."""
    cupy = module_of("cuda")
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)      # CuPy captures no other stream
    with cupy.cuda.using_allocator(pool.malloc), stream, nothing_copied_from_the_host(cupy):
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()

    def launch(memory=pool) -> None:        # which must live as long as the graph
        cupy.cuda.get_current_stream().synchronize()    # what was drawn has arrived
        graph.launch(stream)
        stream.synchronize()

    return launch


@contextmanager
def nothing_copied_from_the_host(module: Any) -> Iterator[None]:
    """Inside of the block the array module refuses to make arrays of a host's: a graph would copy them from where
    they were, whatever is there by then."""
    register(module.ndarray, Refusing(module))
    try:
        yield
    finally:
        register(module.ndarray, module)


class Refusing:
    """An array module that makes no arrays of the host's. NotRepeatable where it should."""

    def __init__(self, module: Any):
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def asarray(self, a: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module.asarray(self._refused(a), *args, **kwargs)

    def array(self, a: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module.array(self._refused(a), *args, **kwargs)

    def _refused(self, a: Any) -> Any:
        if not isinstance(a, self.module.ndarray):
            raise NotRepeatable(f"the step copies {type(a).__name__} from the host besides what it is fed")
        return a


# The state of a training on the device

def arrays_of(gan: Any) -> list[Any]:
    """The arrays that a step moves: all that a checkpoint holds and that lie on the device of the weights."""
    place = on_gpu(next(gan.generator.parameters())._array)
    found: list[Any] = []

    def search(state: Any) -> None:
        if isinstance(state, Mapping):
            for value in state.values():
                search(value)
        elif isinstance(state, Tensor):
            search(state._array)
        elif hasattr(state, "shape") and on_gpu(state) == place:
            found.append(state)

    for part in gan.parts().values():
        search(part.state_dict())
    return found


def weights_of(gan: Any) -> list[tuple[Tensor, Any]]:
    """(weight, its array) of all players."""
    return [(p, p._array) for player in gan.players().values() for p in player.network.parameters()]


def gradients_of(gan: Any) -> list[tuple[Tensor, Tensor | None]]:
    """(weight, its gradient) of all players."""
    return [(p, p.grad) for player in gan.players().values() for p in player.network.parameters()]


def hand_back(gradients: list[tuple[Tensor, Tensor | None]]) -> None:
    """Give the weights these gradients."""
    for weight, gradient in gradients:
        weight.grad = gradient


def copies(arrays: list[Any]) -> list[Any]:
    """What the arrays hold now."""
    return [a.copy() for a in arrays]


def put(source: list[Any], target: list[Any]) -> None:
    """Write what `source` holds into the arrays of `target`."""
    for a, b in zip(source, target):
        b[...] = a


def check(found: list[Any], expected: list[Any]) -> None:
    """NotRepeatable unless the arrays are close."""
    for a, b in zip(found, expected):
        if a.dtype.kind == "f" and a.size:
            off, scale = abs(a - b).max(), abs(b).max()
            if not bool(xp(a).all(off <= CLOSE * scale)):
                raise NotRepeatable(f"weights or averages {tuple(a.shape)} differ by {float(off):.2g}")
