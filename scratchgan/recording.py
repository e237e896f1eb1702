"""Whether ops record what backward needs: `no_grad`, `enable_grad`."""
from __future__ import annotations

from contextlib import ContextDecorator


class state:
    """One per process: threads share it."""
    recording = True


class set_recording(ContextDecorator):
    """Context manager and decorator that turns recording on or off inside."""

    def __init__(self, mode: bool):
        self.mode, self.before = mode, []

    def __enter__(self):
        self.before.append(state.recording)
        state.recording = self.mode
        return self

    def __exit__(self, *exc):
        state.recording = self.before.pop()


def no_grad() -> set_recording:
    """`with no_grad():` or `@no_grad()`: ops inside leave no graph."""
    return set_recording(False)


def enable_grad() -> set_recording:
    """Record again inside `no_grad`."""
    return set_recording(True)


def is_grad_enabled() -> bool:
    """Whether a call made here and now would be recorded."""
    return state.recording
