"""PyTorch's training steps as CUDA graphs: what `torch.cuda.graph` makes of a whole step of tests/reference.

New batches are copied to where the graph expects them, the graph is launched, losses are read: as with ours
(`scratchgan/graph.py`). Steps of StyleGAN2 are not alike, some have a penalty; then each of a period is a graph of
its own. What Python counts stands still in a graph, so the average of G's weights keeps the decay of the step that
was captured, which changes no time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import torch

from bench import cuda
from tests.reference import Parts, numbers
from tests.twins import for_torch


class Held:
    """Batches, always in the same memory: `next` hands out the tensors of one step in their order, `refill` begins
    the next step with new batches in them."""

    def __init__(self, batches: Iterator[tuple]):
        self.batches, self.tensors, self.place = batches, [], 0

    def __iter__(self) -> Held:
        return self

    def __next__(self) -> tuple:
        if self.place == len(self.tensors):
            self.tensors.append(tuple(t if t is None else t.clone() for t in for_torch(next(self.batches))))
        self.place += 1
        return self.tensors[self.place - 1]

    def rewind(self) -> None:
        """Begin the next step with the batches of the last."""
        self.place = 0

    def refill(self) -> None:
        """Begin the next step."""
        self.rewind()
        for held in self.tensors:
            for tensor, new in zip(held, next(self.batches)):
                if tensor is not None:
                    tensor.copy_(torch.from_numpy(new))


def graphed(training: Parts, batches: Iterator[tuple], period: int,
            capture: Callable[[Callable, int], Callable[[], None]] | None = None) -> Callable[[], dict[str, float]]:  # fmt: skip
    """A function that takes a step by a graph and returns what it reports. `batches` are of the host.

    `period` is the number of steps after which their courses repeat. Raises a RuntimeError where a step can't be
    captured. `capture(update, warm_up)` is `cuda.graphed`; another one stands in for CUDA in the tests.
    """
    capture = capture or functools.partial(cuda.graphed, pool=torch.cuda.graph_pool_handle())
    held, report = Held(batches), {}

    def update() -> None:
        held.rewind()
        report.clear()
        report.update(training.update(held))

    update()
    for part in training.parts().values():
        if isinstance(part, torch.optim.Optimizer):
            _count_on_device(part)
    warm_up, graphs = -(-cuda.WARM_UP // period) * period, []
    for _ in range(period):
        graphs.append((capture(update, warm_up), dict(report)))
        warm_up = 0

    def step(turn=itertools.cycle(graphs)) -> dict[str, float]:
        launch, reported = next(turn)
        held.refill()
        launch()
        return numbers(reported)

    return step


def _count_on_device(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimiser of weights on a GPU count its steps there, where a graph can."""
    for group in optimizer.param_groups:
        if not group["params"][0].is_cuda:
            continue
        group["capturable"] = True
        for p in group["params"]:
            if p in optimizer.state:
                optimizer.state[p]["step"] = optimizer.state[p]["step"].to(p.device)
