"""Steps that were skipped because their loss or gradient was not finite."""

from __future__ import annotations

import math


class TrainingStopped(Exception):
    """The run cannot go on; `step` is the first of the bad steps that stopped it."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class BadSteps:
    """Counts bad steps: `total` of the run, and those in a row, too many of which stop it."""

    def __init__(self, total: int, limit: int, folder: str) -> None:
        """`total`: those before the checkpoint that the run resumed from. `limit`: bad steps in a row that stop the run."""
        self.total = total
        self._limit, self._folder, self._in_a_row = limit, folder, 0

    def count(self, step: int, loss: float, norm: float) -> None:
        """Looks at a step; call it for every one, in order. Raises `TrainingStopped` after too many bad ones in a row."""
        if math.isfinite(loss) and math.isfinite(norm):
            self._in_a_row = 0
            return
        self.total += 1
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            first = step + 1 - self._in_a_row
            raise TrainingStopped(
                f"{self._in_a_row} steps in a row had no finite loss or gradient, from step {first:,} on. Inspect what they "
                f"learned from (tokenmill trace {self._folder} {first}); a lower learning rate or a longer warm-up may help",
                first,
            )
