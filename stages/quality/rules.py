"""What a rule and a set of rules are; each set stands in a file of its own, with its published thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

Measures = dict[str, npt.NDArray[np.float64]]
"""Columns by name, a number for each document."""

THRESHOLDS = ("min_", "max_")


@dataclass(frozen=True)
class Rule:
    """Drops a document where `measure` is below (`is_least`) or above `threshold`."""

    name: str
    measure: str
    threshold: float
    is_least: bool


class RuleSet(BaseModel):
    """Rules that were published together. Each field whose name starts with `min_` or `max_` is the threshold of one rule, the
    rest of its name the measure; other fields say how to measure, or to edit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def rules(self, name: str) -> list[Rule]:
        """The rules in order, for a set of this name."""
        return [
            Rule(f"{name}.{key}", key[4:], value, key.startswith("min_"))
            for key, value in self.model_dump().items()
            if key.startswith(THRESHOLDS)
        ]

    def settings(self) -> dict[str, float]:
        """The fields that say how to measure and edit."""
        return {key: value for key, value in self.model_dump().items() if not key.startswith(THRESHOLDS)}

    def measure(self, text: pa.Array, stop_words: tuple[str, ...]) -> tuple[pa.Array, Measures]:
        """The texts as this set leaves them, and what its rules compare. `stop_words`: see `Gopher`."""
        raise NotImplementedError


def columns(names: tuple[str, ...], measured: npt.NDArray[np.float64]) -> Measures:
    """The columns of an array of shape (documents, names) by their names."""
    return dict(zip(names, measured.T, strict=True))
