"""What becomes of a batch of documents in a stage: judged, counted, and entered in the ledger in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.storage.column_types import widened
from tokenmill.pipeline.storage.documents import with_columns, with_known_types
from tokenmill.pipeline.storage.ledger_writer import (
    BatchLedger,
    account,
    check_verdicts,
    content_bytes,
)
from tokenmill.pipeline.storage.receipts import StageCount
from tokenmill.stages.stage import Filter, Transform, Verdicts

Change = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, Verdicts]]
"""As `Transform.apply`."""


def as_change(stage: Filter | Transform) -> Change:
    """What a stage does to documents: a filter leaves them as they are."""
    if isinstance(stage, Transform):
        return stage.apply
    return lambda documents: (documents, stage.judge(documents))


def judge_batch(
    name: str,
    change: Change,
    documents: pa.RecordBatch,
    rows: BatchLedger,
    places: npt.NDArray[np.int64],
    count: StageCount,
    types: dict[str, pa.DataType],
    added: Sequence[str] = (),
    routed_by: str | None = None,
) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """Has a stage (`name`) judge documents, and gives back those that it keeps, as it changed them, with their places.

    `rows`: the ledger rows of the batch that was read, `places`: which of them are the documents'; int64, shape (documents,).
    `types`: of the documents' columns as they left each stage so far, as "stage:column"; `added`: measures that become columns
    of the documents; `routed_by`: the column that the stage routes by.
    Raises `RunError` where the stage's answer does not fit the documents.
    """
    before = content_bytes(documents)
    changed, verdicts = change(documents)
    if changed.num_rows != len(before):
        raise RunError(f"stage {name!r} gave back {changed.num_rows} documents for {len(before)}")
    kept = enter_verdicts(name, verdicts, rows, places, count, before, content_bytes(changed))
    changed = with_columns(changed, {column: verdicts.measures[column] for column in added})
    changed = with_known_types(changed, routed_by)
    for column in changed.schema:
        key = f"{name}:{column.name}"
        types[key] = widened(types.get(key, column.type), column.type, key)
    return changed.filter(pa.array(kept)), places[kept]


def enter_verdicts(
    name: str,
    verdicts: Verdicts,
    rows: BatchLedger,
    places: npt.NDArray[np.int64],
    count: StageCount,
    before: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Enters a stage's verdicts in ledger rows and in its count, and tells which documents it keeps.

    `before`, `after`: bytes of each; the others as for `judge_batch`."""
    check_verdicts(name, verdicts, len(places))
    rows.add(name, places, verdicts, {f"{name}:{measure}": column for measure, column in verdicts.measures.items()})
    return account(count, verdicts, before, after)
