"""A GAN of scratchgan and its PyTorch twin, tests/reference/NAME.py: same weights, same batches, same noise."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch

from scratchgan import gans, nn, optim
from scratchgan.backend import Streams, to_host
from scratchgan.data import Spec
from tests.reference import Average, Draws

IMAGE, POINT = (-1.0, 1.0), (-np.inf, np.inf)
UNRECORDED = {"init", "dropout"}  # initial weights are handed over; what drops out cannot be compared


class Recorder:
    """A random generator that remembers what it has drawn."""

    def __init__(self, generator: np.random.Generator, drawn: deque):
        self.generator, self.drawn = generator, drawn

    def __getattr__(self, name: str):
        draw = getattr(self.generator, name)

        def recorded(*args, **kw):
            result = draw(*args, **kw)
            self.drawn.append(np.array(result))
            return result

        return recorded


class RecordingStreams(Streams):
    """Streams whose draws can be handed to another program, one by one; `drawn` holds those left, by
    stream.
    """

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.drawn: defaultdict[str, deque] = defaultdict(deque)

    def __getitem__(self, name: str):
        generator = super().__getitem__(name)
        return generator if name in UNRECORDED else Recorder(generator, self.drawn[name])


class Replayed(Draws):
    """The oldest draw of a stream that was not yet replayed; it must have as many numbers as are wanted."""

    def __init__(self, streams: RecordingStreams, dtype: torch.dtype):
        self.streams, self.dtype = streams, dtype

    def _next(self, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        if not self.streams.drawn[stream]:
            raise AssertionError(f"PyTorch draws {stream} once more than scratchgan did")
        draw = self.streams.drawn[stream].popleft()
        assert draw.size == math.prod(shape), f"{stream}: {shape} wanted, {draw.shape} was drawn"
        return torch.from_numpy(draw.reshape(shape)).to(torch.get_default_device())

    def normal(self, stream: str, *shape: int) -> torch.Tensor:
        return self._next(stream, shape).to(self.dtype)

    def uniform(self, stream: str, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        draw = self._next(stream, shape).to(self.dtype)
        assert ((low <= draw) & (draw <= high)).all(), f"{stream}: a draw lies outside [{low}, {high}]"
        return draw

    def integers(self, stream: str, high: int, *shape: int) -> torch.Tensor:
        draw = self._next(stream, shape)
        assert not draw.is_floating_point() and ((0 <= draw) & (draw < high)).all(), stream
        return draw


@dataclass
class Twins:
    """Both sides of one GAN. `ours` has what the GAN's class has; `theirs` is the reference's `Training`."""

    ours: object
    theirs: object
    streams: RecordingStreams

    def modules(self) -> dict[str, tuple]:
        """(ours, PyTorch's) networks by name, averages among them."""
        theirs = self.theirs.parts()
        found = {}
        for name, part in self.ours.parts().items():
            if isinstance(part, nn.Module):
                found[name] = part, theirs[name]
            elif isinstance(part, optim.EMA):
                found[name] = part.module, theirs[name].module
        return found

    def optimizers(self) -> dict[str, tuple]:
        """(ours, PyTorch's) optimisers by name."""
        theirs = self.theirs.parts()
        parts = self.ours.parts().items()
        return {name: (part, theirs[name]) for name, part in parts if isinstance(part, optim.Optimizer)}


def twins(
    name: str,
    spec: Spec,
    *,
    dtype=np.float64,
    device: str = "cpu",
    replay: bool = True,
    options: dict | None = None,
    **settings,
) -> Twins:
    """Both sides with scratchgan's initial weights. `replay` hands scratchgan's noise to PyTorch, which else
    draws its own. `options` go to the reference alone. `device` is ours; PyTorch's is its default device.
    """
    streams = RecordingStreams(1)
    config = gans.configure(name, **settings)
    ours = gans.get(name)(spec, config, streams, device)
    torch_dtype = torch.from_numpy(np.zeros(0, dtype)).dtype
    draws = Replayed(streams, torch_dtype) if replay else Draws()
    theirs = import_module(f"tests.reference.{name}").make(spec, config, draws, **(options or {}))
    assert ours.parts().keys() == theirs.parts().keys()
    for part in theirs.parts().values():
        if isinstance(part, (torch.nn.Module, Average)):
            (part.module if isinstance(part, Average) else part).to(torch_dtype)
    pair = Twins(ours, theirs, streams)
    for our_module, their_module in pair.modules().values():
        our_module.to(dtype=dtype)
        their_module.load_state_dict(to_torch(our_module.state_dict()))
    return pair


def to_torch(state: dict) -> dict[str, torch.Tensor]:
    """A state_dict of scratchgan as PyTorch takes it."""
    return {key: torch.from_numpy(np.array(to_host(value._array))) for key, value in state.items()}


def batches(spec: Spec, size: int, dtype=np.float64, seed: int = 0) -> Iterator[tuple]:
    """Endless random samples in the data's range, with random labels where the data has classes."""
    rng = np.random.default_rng(seed)
    while True:
        x = rng.standard_normal((size, *spec.shape))
        y = None if spec.classes is None else rng.integers(spec.classes, size=size)
        yield (np.tanh(x) if np.isfinite(spec.high) else x).astype(dtype), y


def for_torch(batch: tuple) -> tuple:
    """A batch as the references take it, on PyTorch's default device."""
    device = torch.get_default_device()
    return tuple(None if part is None else torch.from_numpy(part).to(device) for part in batch)
