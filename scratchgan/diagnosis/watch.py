"""When a training is looked at: every `log_every` steps its measures, every `eval_every` steps its
metrics."""
from __future__ import annotations

import time

from scratchgan.diagnosis.measures import Measures
from scratchgan.run import Run


class Watch:
    """Looks at `run` around each step; both methods do nothing but on steps that are due."""

    def __init__(self, run: Run):
        self.run, self.last = run, (run.step, time.monotonic())
        self.measures = Measures(run.gan, run.train_data, run.held_out_data, run.plan.seed) \
            if run.plan.log_every else None

    def before_step(self) -> None:
        """Remember what the measures of the coming step compare with."""
        if _due(self.run.plan.log_every, self.run.step + 1):
            self.measures.before_step()

    def after_step(self) -> dict[str, float]:
        """The scalars of the diagnosis and of the evaluation, where they are due, "eval/NAME" for the
        latter."""
        scalars, plan, step = {}, self.run.plan, self.run.step
        if _due(plan.log_every, step):
            scalars |= {**self.measures.after_step(), "steps_per_s": self._pace()}
        if _due(plan.eval_every, step):
            from scratchgan.diagnosis import evaluation  # metrics are many files: only where asked for
            scalars |= evaluation.evaluate(self.run)
        return scalars

    def _pace(self) -> float:
        (step, then), now = self.last, time.monotonic()
        self.last = self.run.step, now
        return round((self.run.step - step) / max(now - then, 1e-9), 3)


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
