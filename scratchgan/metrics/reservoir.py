"""A bounded random sample of rows that go by, the same in whatever batches they come."""
from __future__ import annotations

import numpy as np


class Reservoir:
    """A uniform sample, without repetition, of at most `limit` rows of all that went by.

    Every row gets a random key as it comes, and those with the `limit` smallest keys stay. A batch is offered
    in two steps, so that a row that has no chance need not be made:

        chosen, keys = reservoir.choose(len(batch))
        reservoir.keep(batch[chosen], keys)

    Holds 2 limit rows at most, and those of one batch.
    """

    def __init__(self, limit: int, random: np.random.Generator) -> None:
        self.limit, self._random = limit, random
        self.seen = 0
        self._highest = 1.0
        self._keys: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def choose(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the next `count` rows may stay, and their keys."""
        keys = self._random.random(count)
        self.seen += count
        chosen = np.flatnonzero(keys < self._highest)
        return chosen, keys[chosen]

    def keep(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Take in the rows that were chosen, with their keys."""
        self._rows.append(rows)
        self._keys.append(keys)
        if sum(map(len, self._keys)) > 2 * self.limit:
            self._prune()

    def rows(self) -> np.ndarray:
        """The rows that stay, in random order."""
        self._prune()
        return self._rows[0]

    def _prune(self) -> None:
        keys = np.concatenate(self._keys)
        order = np.argsort(keys)[:self.limit]
        self._rows, self._keys = [np.concatenate(self._rows)[order]], [keys[order]]
        if len(order) == self.limit:
            self._highest = self._keys[0][-1]
