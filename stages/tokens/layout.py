"""Which documents go into which shard: greedy, in canonical order, from the documents' token counts alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "validation")
TRAIN = SPLITS.index("train")


@dataclass
class Place:
    """A shard's documents: from row `first_row` of part `first_part` to before row `end_row` of part `last_part`.

    Rows count the documents of the split in the part.
    """

    name: str
    split: str
    first_part: int
    first_row: int
    last_part: int
    end_row: int
    documents: int
    tokens: int

    @property
    def documents_file(self) -> str:
        """Name of the table of its documents."""
        return f"{self.split}-documents-{self.name.rpartition('-')[2]}.parquet"


def lay_into_shards(split: str, lengths: Iterable[npt.NDArray[np.int64]], size: int) -> list[Place]:
    """Lays documents into shards of at most `size` tokens (a longer document has a shard of its own).

    `lengths`: for each part in order the token counts of its documents in this split, int64, shape (documents,); one part is
    held at a time. Parts without documents stay out of every shard's range where they can.
    """
    places: list[Place] = []
    for part, counts in enumerate(lengths):
        ends = np.cumsum(counts)
        row = 0
        while row < len(counts):
            before = int(ends[row - 1]) if row else 0
            room = size - places[-1].tokens if places else 0
            fit = int(np.searchsorted(ends, before + room, "right"))
            if fit <= row:
                places.append(Place(f"{split}-{len(places):05d}", split, part, row, part, row, 0, 0))
                fit = max(int(np.searchsorted(ends, before + size, "right")), row + 1)
            place = places[-1]
            place.last_part, place.end_row = part, fit
            place.documents += fit - row
            place.tokens += int(ends[fit - 1]) - before
            row = fit
    return places
