"""The order of training: shuffled anew each epoch, and a function of (seed, epoch), so a run resumes from one number."""
from __future__ import annotations

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError


class Batches:
    """Endless batches: next(batches) -> (x, y), x float32 (batch_size, *spec.shape), y int64 (batch_size,) or None.

    Each epoch is a fresh permutation cut into steps_per_epoch = N // batch_size batches; what is left over sits that epoch out,
    so every batch has the same size. Raises UserError for a batch size outside [1, N].
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int = 0) -> None:
        if not _is_count(batch_size) or not 1 <= batch_size <= len(dataset):
            raise UserError(f"batch_size={batch_size!r}: expected an integer from 1 to {len(dataset)}, "
                            f"the number of samples of {dataset.name}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.steps_per_epoch = len(dataset) // batch_size
        self._drawn = 0
        self._shuffle()

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self._drawn // self.steps_per_epoch

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray | None]:
        step = self._drawn % self.steps_per_epoch
        indices = self._order[step * self.batch_size:(step + 1) * self.batch_size]
        x = self.dataset.get(indices)
        y = None if self.dataset.labels is None else self.dataset.labels[indices]
        self._drawn += 1
        if step + 1 == self.steps_per_epoch:
            self._shuffle()
        return x, y

    def state_dict(self) -> dict[str, int]:
        """What `load_state_dict` needs to go on with the very next batch: four integers, fit for JSON."""
        return {"drawn": self._drawn, "seed": int(self.seed), "batch_size": self.batch_size, "samples": len(self.dataset)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken. The seed comes from the state; batch size and number of samples must be the same,
        or the order would be another: UserError."""
        own = self.state_dict()
        if not isinstance(state, dict) or state.keys() != own.keys() or not all(_is_count(v) for v in state.values()):
            raise UserError(f"state of batches: found {state!r}, expected integers of at least 0 for {', '.join(own)}")
        for key in ("batch_size", "samples"):
            if state[key] != own[key]:
                raise UserError(f"state of batches: {key} {state[key]}, expected {own[key]} as in this run")
        self._drawn, self.seed = state["drawn"], state["seed"]
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = generator(self.seed, "batches", self.epoch).permutation(len(self.dataset))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
