"""The training loop. Of a GAN it knows `step` alone; the rest is when to look, to show, to save and to stop.

A checkpoint is written every `checkpoint_every` steps and every CHECKPOINT_SECONDS, and when the loop ends.
Nothing here draws random numbers from the run's streams, so neither the clock nor an interruption moves a bit
of the result.
"""
from __future__ import annotations

import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from tqdm import tqdm

from scratchgan import report
from scratchgan.checkpoint import Diverged
from scratchgan.diagnosis.alarms import spans
from scratchgan.diagnosis.log import Log
from scratchgan.diagnosis.watch import Watch
from scratchgan.run import Run

CHECKPOINT_SECONDS = 60
PLOT_SECONDS = 60
LOG_SECONDS = 30            # between lines of progress where there is no bar
EARLY = (1, 2, 5)           # times powers of ten: the first pictures come soon, then ever more rarely


def train(run: Run) -> int | None:
    """Train until the run is finished or interrupted; returns the number of the signal that interrupted it,
    or None.

    SIGINT and SIGTERM end the loop after the current step, with a checkpoint. Raises Diverged, naming step
    and quantity, for a loss or a weight that is NaN or infinite, and UserError where the disk refuses; the
    last checkpoint is intact then.
    """
    with Interrupts() as interrupts, _overflow_unannounced(), closing(Progress(run)) as progress, \
            closing(Log(run)) as log:
        if run.step == 0:
            log.picture(run.picture())
        watch, save_timer, plot_timer = Watch(run), Timer(CHECKPOINT_SECONDS), Timer(PLOT_SECONDS)
        while not run.finished and interrupts.received is None:
            watch.before_step()
            scalars = run.advance()
            everything = {**scalars, **watch.after_step()}
            check_finite(run.step, everything)
            for alarm in log.append(everything):
                progress.tell(alarm)
            if run.graphs is not None and (news := run.graphs.news()):
                progress.tell(news)
            progress.update(run.step, scalars)
            if picture_due(run.step, run.plan.config.sample_every) or run.finished:
                log.picture(run.picture())
            if _divides(run.plan.checkpoint_every, run.step) or save_timer.due():
                _save(run, log)
            if plot_timer.due():
                _plot(run)
        _save(run, log)
        _plot(run)
    return interrupts.received


def check_finite(step: int, scalars: Mapping[str, float]) -> None:
    """Raise Diverged for the first scalar that is NaN or infinite."""
    for name, value in scalars.items():
        if not math.isfinite(value):
            raise Diverged(f"step {step}: {name} is {value}; the last checkpoint before it is kept")


@contextmanager
def _overflow_unannounced() -> Iterator[None]:
    """Keep NumPy from warning of overflow, in worker threads too: `check_finite` says where it led."""
    with warnings.catch_warnings():
        message = "(overflow|invalid value|divide by zero) encountered"
        warnings.filterwarnings("ignore", message, RuntimeWarning)
        yield


def picture_due(step: int, every: int) -> bool:
    """Whether to show samples: at every multiple of `every`, before the first of them at 1, 2, 5, 10, 20, 50,
    100, ..."""
    return step % every == 0 or (step < every and step in {m * 10 ** (len(str(step)) - 1) for m in EARLY})


def _divides(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _save(run: Run, log: Log) -> None:
    log.sync()
    run.save()


def _plot(run: Run) -> None:
    rows = report.read_metrics(run.folder / "metrics.jsonl")
    report.save_losses(run.folder / "losses.png", rows, spans(rows))


class Progress:
    """On stderr: a bar with the losses, or a line every LOG_SECONDS where stderr is no terminal."""

    def __init__(self, run: Run):
        self.name, self.total = run.plan.gan, run.plan.config.steps if run.plan.epochs is None else None
        self.bar = tqdm(total=self.total, initial=run.step, desc=self.name, unit="step", dynamic_ncols=True,
                        disable=not sys.stderr.isatty())
        self.timer = Timer(LOG_SECONDS)

    def update(self, step: int, scalars: Mapping[str, float]) -> None:
        """Show that `step` is done, and what it returned."""
        if not self.bar.disable:
            self.bar.set_postfix(_rounded(scalars), refresh=False)
            self.bar.update()
        elif self.timer.due():
            losses = ", ".join(f"{k}={v}" for k, v in _rounded(scalars).items())
            of_total = f"/{self.total}" if self.total else ""
            print(f"{self.name}: step {step}{of_total}, {losses}", file=sys.stderr)

    def tell(self, message: str) -> None:
        """A line on stderr, above the bar."""
        tqdm.write(f"{self.name}: {message}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()


def _rounded(scalars: Mapping[str, float]) -> dict[str, str]:
    return {k: f"{v:.3f}" for k, v in scalars.items()}


class Timer:
    """`due()` is true once `seconds` have gone by since the last time it was."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the time is up; starts it anew if so."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class Interrupts:
    """Within: the first SIGINT or SIGTERM is noted in `received`, a second SIGINT raises KeyboardInterrupt at
    once.

    Python handles signals in the main thread alone; elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> Interrupts:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
