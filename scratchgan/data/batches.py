"""The order of training: shuffled anew each epoch by (seed, epoch) alone, so resuming takes one count."""
from __future__ import annotations

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.seeds import generator
from scratchgan.errors import UserError


class Batches:
    """Endless batches of (x, y): x float32 (batch_size, *spec.shape), y int64 (batch_size,) or None.

    Each epoch is a fresh permutation cut into steps_per_epoch = N // batch_size batches; what is left over
    sits that epoch out, so every batch has the same size. Raises UserError for a batch size outside [1, N].
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
        return {"drawn": self._drawn, "seed": int(self.seed),
                "batch_size": self.batch_size, "samples": len(self.dataset)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken, with its seed.

        Raises UserError where batch size or number of samples differ, since the order would be another, and
        for anything that `state_dict` does not return.
        """
        own = self.state_dict()
        keys_fit = isinstance(state, dict) and state.keys() == own.keys()
        if not keys_fit or not all(map(_is_count, state.values())):
            raise UserError(f"state of batches: found {state!r}, expected counts for {', '.join(own)}")
        for key in ("batch_size", "samples"):
            if state[key] != own[key]:
                raise UserError(f"state of batches: {key} {state[key]}, expected {own[key]} as in this run")
        self._drawn, self.seed = state["drawn"], state["seed"]
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = generator(self.seed, "batches", self.epoch).permutation(len(self.dataset))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
