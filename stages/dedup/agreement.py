"""How many bands of duplicates agree: measured, beside what theory says of their similarity.

A pair is found where one band or more agrees. By theory each of b bands of r rows agrees with chance s^r, s being the exact
Jaccard similarity, whatever the others do; so among the pairs found the number of bands that agree is binomial (b, s^r) given
that it is not 0, and its mean b s^r / (1 - (1 - s^r)^b). Pairs that no band finds cannot be counted, nor need they be.

One pair is taken for each document that is kept, so that a page copied a thousandfold is one pair. Even so pairs are not
independent: documents of one template differ by the same words, and then the same bands agree in all of them. The bands are
independent of each other, so the error of a mean is taken from how much they differ. (On 355 pairs of real texts, many of them
two versions of one manual, the means of 200 seeds lay around theory's, with 4.6 times the standard deviation of independent
pairs; 94 % of the bins lay within two of these standard errors.)

Two things bend the choice a little: a document is dropped for the first of several kept ones that match it, and in a bucket of
more than 65 only the first 64 are paired with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.stages.dedup.ids import band_column
from tokenmill.stages.report import StageRun

BIN = 0.02
"""Width in similarity: s^8 bends little in it, so the mean of a bin lies on the curve."""
MOST_TABLES = 256
"""Tables of signatures opened, each for the pairs that lie in it."""

Floats = npt.NDArray[np.float64]


class Pair(NamedTuple):
    """Ledger ids of a dropped document and of the one that is kept for it, and their exact Jaccard similarity."""

    dropped: str
    kept: str
    similarity: float


class Bin(NamedTuple):
    """Pairs of about one similarity: how many, their mean similarity, the mean of the bands that agree, theory's mean, and the
    standard error between the two."""

    pairs: int
    similarity: float
    agreeing: float
    expected: float
    error: float


@dataclass(frozen=True)
class Agreement:
    """Of pairs that were found the similarity, float64, shape (pairs,), and which bands agree, bool, shape (pairs, bands)."""

    rows: int
    similarity: Floats
    agrees: npt.NDArray[np.bool_]

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return self.agrees.shape[1]

    def bins(self) -> list[Bin]:
        """By similarity, those that hold pairs."""
        place = np.minimum(self.similarity // BIN, round(1 / BIN) - 1)
        return [self._bin(place == one) for one in np.unique(place)]

    def all(self) -> Bin:
        """All pairs as one."""
        return self._bin(np.ones(len(self.similarity), np.bool_))

    def _bin(self, mask: npt.NDArray[np.bool_]) -> Bin:
        similarity, agrees = self.similarity[mask], self.agrees[mask]
        mean, variance = agreeing_bands(similarity, self.bands, self.rows)
        shares = mean / self.bands
        of_independent = (shares * (1 - shares)).sum() / len(shares) ** 2
        spread = agrees.mean(axis=0).var(ddof=1) if self.bands > 1 else 0.0
        times = max(spread / of_independent, 1.0) if of_independent else 1.0
        error = float(np.sqrt(times * variance.sum())) / len(shares)
        return Bin(len(shares), float(similarity.mean()), float(agrees.sum(1).mean()), float(mean.mean()), error)


def agreeing_bands(similarity: Floats, bands: int, rows: int) -> tuple[Floats, Floats]:
    """Mean and variance of the bands that agree in pairs of which one does at least, by their similarity (above 0)."""
    chance = similarity**rows
    with np.errstate(divide="ignore"):
        found = -np.expm1(bands * np.log1p(-chance))
    mean = bands * chance / found
    squares = bands * chance * (1 - chance + bands * chance) / found
    return mean, np.maximum(squares - mean**2, 0)


def measure_agreement(run: StageRun, bands: int, rows: int, pairs: Sequence[Pair]) -> Agreement | None:
    """Counts the bands that agree in pairs, from the signatures that a run on this machine still has; None without them."""
    places: dict[str, set[int]] = {}
    chosen = []
    for pair in pairs:
        ends = [_place(pair.dropped), _place(pair.kept)]
        if len({*places, *(part for part, _ in ends)}) <= MOST_TABLES:
            chosen.append((pair, ends))
            for part, position in ends:
                places.setdefault(part, set()).add(position)
    keys: dict[str, dict[int, npt.NDArray[np.uint64]]] = {}
    for part, positions in places.items():
        found = _keys(run, part, sorted(positions), bands)
        if found is None:
            return None
        keys[part] = found
    if not chosen:
        return None
    agrees = [keys[one][a] == keys[other][b] for _, ((one, a), (other, b)) in chosen]
    similarity = np.array([pair.similarity for pair, _ in chosen], np.float64)
    return Agreement(rows, similarity, np.array(agrees, np.bool_))


def _place(document: str) -> tuple[str, int]:
    partition, _, position = document.rpartition("#")
    return partition, int(position)


def _keys(run: StageRun, partition: str, wanted: list[int], bands: int) -> dict[int, npt.NDArray[np.uint64]] | None:
    """The keys of all bands, by position."""
    names = [band_column(band) for band in range(bands)]
    table = run.table("signatures", partition, ["position", *names])
    if table is None:
        return None
    rows = np.searchsorted(table.column("position").to_numpy(), wanted)
    columns = [table.column(name).take(rows).to_numpy() for name in names]
    return dict(zip(wanted, np.stack(columns, axis=1), strict=True))
