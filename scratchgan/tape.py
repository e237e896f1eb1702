"""What a training step takes from the host, so that the rest of it can be recorded once and repeated.

A step takes batches, noise and counts of steps from the host; everything else is arithmetic on arrays. Where
both meet stands `fed(draw, like)`: draw() makes a host array and moves whatever moves on the host with each
step, such as random streams and counters. Within a step, nothing else may.

A `Tape` keeps what one step drew, and where it was put. To repeat the step with new draws is then: `draw()`,
which fills the same memory anew, and the same arithmetic, be it by running the step once more inside of
`playing()`, or by launching a CUDA graph that was captured there (`graph.py`). What a step would read from the
device (`reported`) waits until the step is over, and what cannot be repeated says so (`only_eager`).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratchgan.backend import to_host, xp

Draw = Callable[[], Any]

_tape: Tape | None = None       # that of the step which is running, if any


class NotRepeatable(Exception):
    """A step cannot be repeated from what it was fed; the message says why."""


class Tape:
    """The draws of one step in their order, the arrays that they filled, and what the step reported."""

    def __init__(self) -> None:
        self.draws: list[Draw] = []
        self.arrays: list[Any] = []
        self.report: dict[str, Any] = {}
        self.after: list[Callable[[], None]] = []       # what the host does once it can see what came out
        self.why_not: str | None = None     # why the step cannot be repeated
        self._place: int | None = None      # of the next array to play; None while recording

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Steps inside of the block draw as ever, and the tape keeps what and where."""
        with self._running(None):
            yield
        self.settle()

    @contextmanager
    def playing(self) -> Iterator[None]:
        """A step inside of the block finds what `draw` has filled. NotRepeatable where it asks for more, or
        for less, than the step that was recorded."""
        if self.why_not is not None:
            raise NotRepeatable(self.why_not)
        with self._running(0):
            yield
            if self._place != len(self.arrays):
                raise NotRepeatable("the step has another course than the one recorded")

    @contextmanager
    def _running(self, place: int | None) -> Iterator[None]:
        global _tape
        before, _tape, self._place, self.after = _tape, self, place, []
        try:
            yield
        finally:
            _tape = before

    def draw(self) -> None:
        """Draw anew, into the same arrays. NotRepeatable where a draw has another shape."""
        for draw, array in zip(self.draws, self.arrays):
            drawn = np.asarray(draw())
            if drawn.shape != array.shape:
                raise NotRepeatable(f"a draw has shape {drawn.shape}, in the step recorded {array.shape}")
            array[...] = xp(array).asarray(drawn, dtype=array.dtype)

    def settle(self) -> None:
        """Do on the host what waited for the step to be over."""
        for function in self.after:
            function()

    def read(self) -> dict[str, float]:
        """What the step last played reported."""
        return _numbers(self.report)

    def next(self, draw: Draw, like, dtype) -> Any:
        """The array that takes the place of draw() beside `like`."""
        if self._place is None:
            self.draws.append(draw)
            self.arrays.append(xp(like).array(draw(), dtype=dtype))     # a copy: batches may hand out views
            return self.arrays[-1]
        if self._place == len(self.arrays):
            raise NotRepeatable("the step has another course than the one recorded")
        self._place += 1
        return self.arrays[self._place - 1]


def fed(draw: Draw, like, dtype=None):
    """draw(), a host array, as an array of `dtype`, by default that of `like`, on the device of `like`."""
    dtype = like.dtype if dtype is None else dtype
    return xp(like).asarray(draw(), dtype=dtype) if _tape is None else _tape.next(draw, like, dtype)


def reported(values: Mapping[str, Any]) -> dict[str, float]:
    """As numbers arrays of one number, and what functions answer; of a step that is played the tape keeps them
    for `read` instead."""
    if _tape is None or _tape._place is None:
        return _numbers(values)
    _tape.report = dict(values)
    return {}


def settled(function: Callable[[], None]) -> None:
    """function(), which reads the device and moves what the host keeps: at once, or when the step on the tape is
    over."""
    if _tape is None:
        function()
    else:
        _tape.after.append(function)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value() if callable(value) else to_host(value).item() for name, value in values.items()}


def only_eager(reason: str) -> None:
    """Say of a step that is recorded why it cannot be repeated."""
    if _tape is not None:
        _tape.why_not = _tape.why_not or reason
