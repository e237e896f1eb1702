"""Alarms: when the measures of a training say that it fails, and why at that threshold.

An alarm has a level, computed from the last lines that hold measures (every `log_every` steps). It begins
when the level reaches one threshold and ends when it is back behind another, less strict, so that a level
that wavers about a threshold is one alarm and not many. Levels are medians or sums over several lines: one
odd value alarms nobody, and nothing alarms in the first WINDOW lines, when networks have yet to find their
scale.

Everything follows from the rows of metrics.jsonl alone. An alarm that reads what a run does not have (d_real
of a critic, logits of held-out data where none are held out) is silent there.

    alarm                   level                                       begins      ends
    mode collapse           diversity                                   < 0.3       > 0.4
    D saturated             d_real - d_fake                             > 0.98      < 0.95
    D overfitting           logit_gap / (logit_real - logit_fake)       > 0.6       < 0.45
    exploding gradients     gradient norm of either player              > 1000      < 300
    vanishing gradients     gradient norm of G                          < 0.01      > 0.03
    oscillation             periodicity of both losses                  > 0.4       < 0.2
"""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

WINDOW = 5              # lines with measures that a median is taken over
LONG_WINDOW = 10        # for ratios of noisy differences
PLAYERS = ("d", "g")
SWINGING = ("loss_d", "loss_g")
SWING_STEPS = 500       # whose losses are searched for a period
STRETCHES = 100         # means that they are reduced to
MEASURED = "grad_norm_g"                # what tells a row with measures
CONTENT = "pixels"      # the mean squared error of pictures, of a GAN that has such a loss
AVERAGED = ("d_real", "d_fake")         # over the steps since the last such row
LEAST_MOVE = 0.25       # of loss_d, in standard deviations, as a share of its mean

Line = Mapping[str, float]


class Event(NamedTuple):
    """An alarm begins or ends with a step; `message` says so with the level and the threshold."""

    step: int
    alarm: str
    begins: bool
    message: str


class Span(NamedTuple):
    """An alarm from its first step to the one where it ended, None where it has not."""

    alarm: str
    begins: int
    ends: int | None


class Alarm(NamedTuple):
    """`level` of the last lines, oldest first, or of the last losses: None where it cannot be said. The alarm
    begins where the level is above `begins` and ends where it is below `ends`. `message` is formatted with
    `shown` of the level."""

    name: str
    level: Callable[..., float | None]
    begins: float
    ends: float
    message: str
    shown: Callable[[float], float] = float


def recent(lines: list[Line], name: str) -> float | None:
    """Median of `name` over the last WINDOW lines; None where there are fewer, or they do not have it."""
    last = [line[name] for line in lines[-WINDOW:] if name in line]
    return float(np.median(last)) if len(last) == WINDOW else None


# Levels

def sameness(lines: list[Line]) -> float | None:
    """1 - diversity. Begins above 0.7: samples differ from each other by less than 0.3 of what examples do.

    Reason: two neighbours of the ring's eight modes give 0.30 and one gives 0, while healthy runs were at
    0.65 and more from the first WINDOW lines on. A generator that keeps half of the modes all over the data
    is not noticed: that takes a metric (--eval-every).
    """
    diversity = recent(lines, "diversity")
    return None if diversity is None else 1 - diversity


def certainty(lines: list[Line]) -> float | None:
    """d_real - d_fake, means of D's probabilities over all steps between lines. Begins above 0.98.

    Reason: D then errs on either side by one percent on average. log(1 - D(G(z))) moves G no more (Goodfellow
    et al. 2014, section 3), and D's own gradient, of weight 1 - D(x) and D(G(z)), is a hundredth. Critics
    report no probabilities and have no such alarm: they may be trained to optimality.
    """
    real, fake = recent(lines, "d_real"), recent(lines, "d_fake")
    return None if real is None or fake is None else real - fake


def memory(lines: list[Line]) -> float | None:
    """(E D(x_train) - E D(x_held_out)) / (E D(x_train) - E D(G(z))), over the last LONG_WINDOW lines in which D
    moved (SRGAN's waits until G has learnt from pixels alone). Begins above 0.6.

    This is r_v of Karras et al. 2020 ("Training generative adversarial networks with limited data", arXiv
    2006.06676, equation 1): 0 where D treats unseen examples like seen ones, 1 where it treats them like
    samples. The denominator is at least half the standard deviation of the logits: where D cannot tell at
    all, the ratio of two small numbers means nothing. Reason: healthy runs on 1,600 digits stayed below 0.3,
    on 64 digits it goes through 0.6 on its way to 1.
    """
    last = [line for line in lines[-LONG_WINDOW:] if "logit_gap" in line and line.get("update_ratio_d") != 0]
    if len(last) < WINDOW:
        return None
    gap, real, fake, std = (sum(line[name] for line in last)
                            for name in ("logit_gap", "logit_real", "logit_fake", "logit_std"))
    scale = max(real - fake, std / 2)
    return gap / scale if scale > 0 else None


def explosion(lines: list[Line]) -> float | None:
    """The larger of the players' gradient norms. Begins above 1000.

    Reason: the losses are functions of logits with slopes of at most 1, so the norm is that of a mean logit
    in the weights and has a scale of its own. Medians of healthy runs stayed below 90 (DCGAN's D, whose
    batch normalisation makes single norms jump); a WGAN without penalty goes through 1000 and on.
    """
    norms = [recent(lines, f"grad_norm_{player}") for player in PLAYERS]
    known = [norm for norm in norms if norm is not None]
    return max(known) if known else None


def starvation(lines: list[Line]) -> float | None:
    """1 / G's gradient norm. Begins above 100: a norm below 0.01.

    Reason: as above; healthy runs stayed above 0.4 from beginning to end, and with the minimax loss a D that
    is sure of itself leaves G 0.01 within a hundred steps and less and less from there (Arjovsky and Bottou
    2017, arXiv 1701.04862, theorem 2.4). D's own may be small for a good reason: it is right, or there is
    nothing to tell. A GAN that has pictures to come near, and reports by how much it misses them, is not
    looked at: its gradient is not D's alone, and is small where it has come near.
    """
    norm = recent(lines, "grad_norm_g")
    return None if norm is None or CONTENT in lines[-1] else 1 / max(norm, 1e-300)


def swing(losses: Mapping[str, deque[float]]) -> float | None:
    """How periodic both players' losses are, the less periodic of them, 0 to 1. Begins above 0.4.

    Of each loss the last SWING_STEPS steps, as means over stretches of a hundredth, less their linear trend,
    are correlated with themselves a lag later; a swing leaves a trough below 0 (half a period) and then a
    peak above it (a period). Periodicity is the smaller of -trough and peak: near 1 for a sine, about 0.1
    for noise. 0 where loss_d moves by less than a quarter of its size: D's loss follows the order of a small
    data set with the period of an epoch, and that is no chase.

    Reason: where the game's dynamics turn instead of settling, both players' losses swing together (Mescheder
    et al. 2018, arXiv 1801.04406, section 3). Healthy runs stayed below 0.16, games that circle go through
    0.4 to 0.75. Periods between some 10 and 330 steps are seen.
    """
    if any(len(losses[name]) < SWING_STEPS for name in SWINGING):
        return None
    smooth = {name: np.reshape(losses[name], (STRETCHES, -1)).mean(axis=1) for name in SWINGING}
    moves = detrended(smooth["loss_d"]).std()
    if moves < LEAST_MOVE * abs(smooth["loss_d"].mean()):
        return 0.0
    return min(periodicity(detrended(smooth[name])) for name in SWINGING)


def detrended(y: np.ndarray) -> np.ndarray:
    """y less the straight line that fits it best."""
    t = np.arange(len(y)) - (len(y) - 1) / 2
    return y - y.mean() - (t @ y) / (t @ t) * t


def periodicity(y: np.ndarray) -> float:
    """min(-trough, peak) of the correlation of y with itself: the trough while it is first below 0, the peak
    while it is above 0 again. 0 where there is none within lags of two thirds."""
    lags = range(2 * len(y) // 3)
    scale = [math.sqrt((y[:len(y) - k] @ y[:len(y) - k]) * (y[k:] @ y[k:])) for k in lags]
    correlation = np.array([y[:len(y) - k] @ y[k:] / s if s > 0 else 0.0 for k, s in zip(lags, scale)])
    below = _first_run(correlation < 0, 0)
    above = _first_run(correlation > 0, below.stop)
    if above.start == above.stop:
        return 0.0
    return float(min(-correlation[below].min(), correlation[above].max()))


def _first_run(true: np.ndarray, start: int) -> slice:
    """Where `true` first holds from `start` on, until it does no more; empty at the end where it never
    does."""
    after = np.flatnonzero(true[start:])
    begin = start + int(after[0]) if len(after) else len(true)
    ends = np.flatnonzero(~true[begin:])
    return slice(begin, begin + int(ends[0]) if len(ends) else len(true))


ALARMS = (
    Alarm("mode collapse", sameness, 0.7, 0.6,
          "samples differ from each other by {:.2g} of what examples do (begins below 0.3)", lambda x: 1 - x),
    Alarm("D saturated", certainty, 0.98, 0.95,
          "D's probabilities of examples and samples are {:.3f} apart (begins above 0.98)"),
    Alarm("D overfitting", memory, 0.6, 0.45,
          "D's logits of unseen examples lie {:.2f} of the way from seen ones to samples (begins above 0.6)"),
    Alarm("exploding gradients", explosion, 1000, 300, "a gradient has norm {:.3g} (begins above 1000)"),
    Alarm("vanishing gradients", starvation, 100, 1 / 0.03,
          "G's gradient has norm {:.2g} (begins below 0.01)", lambda x: 1 / x),
    Alarm("oscillation", swing, 0.4, 0.2, "both losses swing, with periodicity {:.2f} (begins above 0.4)"),
)


# What watches

class Alarms:
    """Reads the rows of metrics.jsonl as they come and says which alarms begin and end with each."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.lines: deque[Line] = deque(maxlen=LONG_WINDOW)     # rows with measures, losses averaged
        self.since: list[Line] = []                             # rows since the last of them
        self.losses = {name: deque(maxlen=SWING_STEPS) for name in SWINGING}

    def read(self, row: Line) -> list[Event]:
        """The events of a row; only one with measures has any."""
        self.since.append(row)
        for name, values in self.losses.items():
            if name in row:
                values.append(row[name])
        if MEASURED not in row:
            return []
        self.lines.append({name: self._mean(name) if name in AVERAGED else row[name] for name in row})
        self.since = []
        return [event for alarm in ALARMS if (event := self._event(alarm, row["step"]))]

    def _mean(self, name: str) -> float:
        return float(np.mean([row[name] for row in self.since if name in row]))

    def _event(self, alarm: Alarm, step: int) -> Event | None:
        level = alarm.level(self.losses if alarm.level is swing else list(self.lines))
        on = alarm.name in self.active
        if level is None or not (level < alarm.ends if on else level > alarm.begins):
            return None
        self.active.symmetric_difference_update({alarm.name})
        verb = "ends" if on else "begins"
        message = f"step {step}: alarm {verb}: {alarm.name}: {alarm.message.format(alarm.shown(level))}"
        return Event(step, alarm.name, not on, message)


def spans(rows: Iterable[Line]) -> list[Span]:
    """The alarms in the rows of a metrics.jsonl, in the order in which they begin."""
    alarms, found = Alarms(), []
    for row in rows:
        for event in alarms.read(row):
            if event.begins:
                found.append(Span(event.alarm, event.step, None))
            else:
                k = max(k for k, span in enumerate(found) if span.alarm == event.alarm)
                found[k] = found[k]._replace(ends=event.step)
    return found
