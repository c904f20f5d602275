"""The text of a document, as a run holds it or as its source has it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.graph.partitions import open_input
from tokenmill.pipeline.storage.documents import Stored, open_table
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.registry import payload_at


def text_in(store: Store, path: str, position: int) -> str | None:
    """The text of a document as a document file has it; None where it is not there, or is still HTML."""
    positions = Stored(path).positions(store)
    row = int(np.searchsorted(positions, position))
    if row == len(positions) or positions[row] != position:
        return None
    starts = _batch_starts(store.root, path)
    number = int(np.searchsorted(starts, row, "right")) - 1
    text = _batch_text(store.root, path, number)
    return None if text is None else str(text[row - int(starts[number])].as_py())


@lru_cache(maxsize=64)
def _batch_starts(root: str, path: str) -> npt.NDArray[np.int64]:
    """The row with which each batch of a document file begins."""
    with open_table(Store(root), path, ["position"]) as reader:
        counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
    return np.cumsum([0, *counts])[:-1]


@lru_cache(maxsize=4)
def _batch_text(root: str, path: str, number: int) -> pa.Array | None:
    with open_table(Store(root), path, ["text"]) as reader:
        return reader.get_batch(number).column("text") if "text" in reader.schema.names else None


def text_of(run: RunFolder, row: dict[str, Any]) -> str:
    """The text of a ledger row as the last step left it that wrote it, else as it stands in its source; empty where both are
    gone."""
    for path in reversed(run.text_files.get(row["id"].rpartition("#")[0], {}).values()):
        text = text_in(run.store, path, row["position"])
        if text is not None:
            return text
    return original_text(run, row) or ""


def original_text(run: RunFolder, row: dict[str, Any]) -> str | None:
    """The text of a ledger row as it stands in its source; None where that is gone."""
    source = run.described["config"]["sources"][row["source"]]
    options = ReadOptions(**{name: value for name, value in source.items() if name != "path"})
    try:
        with open_input(row["path"]) as file:
            payload = payload_at(file, path=row["path"], options=options, offset=row["offset"])
    except OSError:
        return None
    return None if payload is None else payload.decode("utf-8", "replace")


def printable(text: str) -> str:
    """Text without the control characters that could play tricks on a terminal (a crawl is hostile)."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
