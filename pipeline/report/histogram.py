"""How the values of a measure lie around the threshold of its rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.stage import ThresholdRule

BINS = 60
LOGARITHMIC_FROM = 1000.0
"""Largest value from which on a measure that is never negative is shown on a logarithmic scale."""
SAMPLES = 10
"""Documents named of each rule, each side."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Threshold(NamedTuple):
    """A rule that compares a measure: its stage, the measure's column in the ledger, and that of its `where`."""

    stage: str
    column: str
    where: str | None
    rule: ThresholdRule


@dataclass
class Histogram:
    """Values of the measure that a rule compares, over the documents that were measured.

    `edges`: float64, (bins + 1,), ascending; the threshold is one of them, so its sides are exact. `kept`, `dropped`: int64,
    (bins,): documents by what became of them in the end. A value at an edge counts where the rule says: at the threshold a
    document is kept.
    """

    of: Threshold
    edges: Floats
    is_logarithmic: bool
    kept: Counts = field(init=False)
    dropped: Counts = field(init=False)

    @property
    def compares(self) -> ThresholdRule:
        """The rule."""
        return self.of.rule

    def __post_init__(self) -> None:
        self.kept, self.dropped = (np.zeros(len(self.edges) - 1, np.int64) for _ in range(2))

    @property
    def beyond(self) -> int:
        """Documents on the threshold's wrong side, whether or not another rule ended them before."""
        place = int(np.searchsorted(self.edges, self.compares.threshold))
        both = self.kept + self.dropped
        return int(both[:place].sum() if self.compares.is_least else both[place:].sum())

    @property
    def documents(self) -> int:
        """Documents that were measured."""
        return int(self.kept.sum() + self.dropped.sum())

    def add(self, values: Floats, is_kept: npt.NDArray[np.bool_]) -> None:
        """Counts values, NaN left out."""
        side: Literal["left", "right"] = "right" if self.compares.is_least else "left"
        there = ~np.isnan(values)
        bins = np.clip(np.searchsorted(self.edges, values[there], side) - 1, 0, len(self.kept) - 1)
        self.kept += np.bincount(bins[is_kept[there]], minlength=len(self.kept))
        self.dropped += np.bincount(bins[~is_kept[there]], minlength=len(self.kept))


def edges_around(least: float, most: float, rule: ThresholdRule) -> tuple[Floats, bool]:
    """Edges of bins from `least` to `most`, the threshold among them with a bin on either side, and whether they are
    logarithmic."""
    least, most = min(least, rule.threshold), max(most, rule.threshold)
    step = (most - least) / BINS or 1.0
    # a value at the threshold is kept, so it needs a bin of its side where it is the least or the greatest
    if rule.is_least and most == rule.threshold:
        most += step
    if not rule.is_least and least == rule.threshold:
        least -= min(step, 0.5)
    is_logarithmic = least > -1 and most > LOGARITHMIC_FROM
    if is_logarithmic:
        edges = np.expm1(np.linspace(np.log1p(least), np.log1p(most), BINS + 1))
    else:
        edges = np.linspace(least, most, BINS + 1)
    edges[0], edges[-1] = least, most
    if rule.threshold not in edges:
        # the nearest inner edge moves there
        edges[1 + np.abs(edges[1:-1] - rule.threshold).argmin()] = rule.threshold
    return np.unique(edges), is_logarithmic


@dataclass
class Nearest:
    """The documents whose values lie nearest to a threshold, the first of those that lie as near: rows with the distance, `id`,
    `url` and value."""

    rows: list[tuple[float, str, str | None, float]] = field(default_factory=list)

    def add(self, threshold: float, values: Floats, mask: npt.NDArray[np.bool_], batch: pa.RecordBatch) -> None:
        """Looks at the documents of a batch that `mask` names."""
        places = np.flatnonzero(mask)
        distances = np.abs(values[places] - threshold)
        if len(self.rows) == SAMPLES:
            nearer = distances < self.rows[-1][0]
            places, distances = places[nearer], distances[nearer]
        if len(places) > SAMPLES:
            reach = np.partition(distances, SAMPLES - 1)[SAMPLES - 1]
            first = np.flatnonzero(distances < reach)
            chosen = np.concatenate([first, np.flatnonzero(distances == reach)[: SAMPLES - len(first)]])
            places, distances = places[chosen], distances[chosen]
        if len(places):
            named = batch.select(["id", "url"]).take(pa.array(places))
            columns = (named.column(name).to_pylist() for name in ("id", "url"))
            found = zip(distances.tolist(), *columns, values[places].tolist(), strict=True)
            self.rows = sorted([*self.rows, *found], key=lambda row: row[0])[:SAMPLES]
