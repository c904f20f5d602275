"""Windows as a trainer sees them, and which documents are in them: `tokenmill peek` and `tokenmill trace`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tokenmill.model.data.data_log import samples_of_step
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.data.mmap_shards import Numbers
from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.storage.dataset import documents_table
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import RUN_FILE, RunFolder
from tokenmill.pipeline.storage.store import Store

DOCUMENT_COLUMNS = ["id", "url", "source", "path", "offset"]


def peek(
    run: RunFolder, split: str, index: int, context_length: int, dataset: str | None, packing: str, seed: int
) -> dict[str, Any]:
    """Sample `index` of a split as a trainer with this context length and seed is given it.

    `text`: its inputs decoded, a part for each document (an end of text ends its part); `documents`: where they are from.
    Raises `ConfigError` where there is no such window.
    """
    if run.store.local is None:
        raise RunError(f"{run.root} is not on this machine: copy the dataset's folder here to look into it")
    chosen = run.choose_dataset(dataset)
    try:
        samples = TokenDataset(
            run.store.local / chosen.name,
            split,
            context_length,
            packing=packing,  # type: ignore[arg-type]
            documents=True,
            seed=seed,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if index >= samples.windows:
        raise ConfigError(
            f"an epoch of {split!r} has {samples.windows:,} windows of {context_length:,} tokens; the last is "
            f"{samples.windows - 1:,}"
        )
    batch = samples.read(np.array([index]))
    starts = np.flatnonzero(batch.positions[0] == 0)
    pieces = np.split(np.asarray(batch.inputs[0]), starts[1:])
    return {
        "split": split,
        "index": index,
        "windows": samples.windows,
        "text": [chosen.tokenizer.decode(piece.tolist(), skip_special_tokens=False) for piece in pieces],
        "documents": documents_of(samples, np.array([index])),
    }


def trace(training_run: Path, step: int) -> list[dict[str, Any]]:
    """The documents in a step's batch: tokens, URL, source, and the ledger's measures where the dataset lies in its run.

    Computed from `data_log.json`; nothing else was logged for it. Raises `RunError` where it cannot be.
    """
    try:
        stream, samples = samples_of_step(training_run, step)
        return documents_of(stream, samples, with_ledger=True)
    except (ValueError, OSError) as error:
        raise RunError(str(error)) from error


def documents_of(
    stream: TokenDataset | Mixture, samples: Numbers, *, with_ledger: bool = False
) -> list[dict[str, Any]]:
    """A row for each document in each sample, in the order of the samples: `sample`, `tokens`, what the documents table says
    and, `with_ledger`, the document's row of the ledger as `ledger` (None where the run is not beside the dataset)."""
    sources = stream.documents_in(samples)
    members = stream.datasets if isinstance(stream, Mixture) else [stream]
    rows: list[dict[str, Any]] = [{} for _ in sources.rows]
    for number, shard in sorted(set(zip(sources.datasets.tolist(), sources.shards.tolist(), strict=True))):
        member = members[number]
        mine = np.flatnonzero((sources.datasets == number) & (sources.shards == shard))
        table = read_parquet(member.folder / documents_table(member.shard_name(shard)), columns=DOCUMENT_COLUMNS)
        found = table.take(pa.array(sources.documents[mine])).to_pylist()
        ledger = _ledger_rows(member.folder, [row["id"] for row in found]) if with_ledger else {}
        for place, row in zip(mine.tolist(), found, strict=True):
            rows[place] = {
                "sample": int(samples[sources.rows[place]]),
                "tokens": int(sources.tokens[place]),
                "dataset": str(member.folder),
                **row,
                **({"ledger": ledger.get(row["id"])} if with_ledger else {}),
            }
    return rows


def _ledger_rows(folder: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not (folder.parent / RUN_FILE).exists():
        return {}
    return RunFolder(Store(str(folder.parent))).rows_of(ids)
