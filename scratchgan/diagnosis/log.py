"""What a training writes down as it goes: metrics.jsonl, alarms.jsonl, and TensorBoard's files where asked
for.

metrics.jsonl is the source: alarms follow from its rows alone, so a resumed run, which cuts the rows beyond
its checkpoint, finds the alarms as they were there.
"""
from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from scratchgan import report, storage, tensorboard
from scratchgan.diagnosis.alarms import Alarms, Event
from scratchgan.run import Run


class Log:
    """The files of `run` from its present step on; what they hold beyond it is cut."""

    def __init__(self, run: Run):
        self.run, path = run, run.folder / "metrics.jsonl"
        self.metrics = report.Metrics(path, run.step)
        self.alarms, self.alarms_path = Alarms(), run.folder / "alarms.jsonl"
        events = [event for row in report.read_metrics(path) for event in self.alarms.read(row)]
        storage.write_atomically(self.alarms_path, b"".join(map(_line, events)))
        folder = run.folder / tensorboard.FOLDER
        self.board = tensorboard.EventFile(folder, run.step) if run.plan.tensorboard else None
        self.began = time.monotonic() - self.metrics.seconds

    def append(self, scalars: Mapping[str, float]) -> list[str]:
        """Write down the scalars of the run's step; returns a line for each alarm that begins with it."""
        row = self.metrics.append(self.run.step, time.monotonic() - self.began, scalars)
        if self.board:
            self.board.scalars(row)
        events = self.alarms.read(row)
        for event in events:
            with storage.disk_errors(self.alarms_path, "written"), open(self.alarms_path, "ab") as file:
                file.write(_line(event))
        return [event.message for event in events if event.begins]

    def picture(self, path: Path) -> None:
        """Show a picture of samples of the run's step in TensorBoard, too."""
        if self.board:
            self.board.picture(path, self.run.step)

    def sync(self) -> None:
        """Put everything on the disk: a checkpoint must not know of steps that the log lost."""
        self.metrics.sync()
        if self.board:
            self.board.sync()

    def close(self) -> None:
        """Close the files; nothing may follow."""
        self.metrics.close()
        if self.board:
            self.board.close()


def _line(event: Event) -> bytes:
    return (json.dumps(event._asdict()) + "\n").encode()
