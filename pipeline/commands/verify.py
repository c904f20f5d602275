"""Checks a finished run against what it says of itself: checksums, conservation, indexes, and decoding of a sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.document_text import text_in
from tokenmill.pipeline.storage.dataset import Dataset
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.pipeline.storage.step_folder import StepFolder
from tokenmill.pipeline.storage.store import Store

SAMPLED_DOCUMENTS = 64
"""Documents of each shard that are decoded and compared with their text."""


@dataclass
class Verification:
    """What is wrong, and where; and how much was checked."""

    problems: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)


def verify(run: RunFolder) -> Verification:
    """Reads every file of a run once."""
    result = Verification()
    if not run.is_complete:
        result.problems.append(f"{run.root}: the run has not finished; run it again")
    found = _load(run, result)
    for receipt in found:
        _check_files(run.store, receipt, result)
    _check_conservation(found, result)
    texts = _text_files(found)
    for dataset in run.datasets.values():
        try:
            _check_dataset(run, dataset, texts, result)
        except RunError as error:
            result.problems.append(str(error))
    return result


def _load(run: RunFolder, result: Verification) -> list[Receipt]:
    found: list[Receipt] = []
    for step in run.described["steps"]:
        folder = StepFolder(run.store, step["name"])
        if problem := folder.problem(step["tasks"]):
            result.problems.append(problem)
            continue
        sealed = folder.sealed()
        result.checked["receipts"] += len(sealed)
        found += sealed.values()
    return found


def _check_files(store: Store, receipt: Receipt, result: Verification) -> None:
    for output in receipt.outputs.values():
        result.checked["files"] += 1
        if not store.exists(output.path):
            result.problems.append(f"{output.path}: is gone; run again to make it anew")
            continue
        now = store.checksum(output.path)
        if now.size != output.size:
            result.problems.append(f"{output.path}: has {now.size:,} bytes, not {output.size:,} as its receipt says")
        elif now.checksum != output.checksum:
            result.problems.append(
                f"{output.path}: its bytes have changed (checksum {now.checksum}, not {output.checksum})"
            )


def _check_conservation(found: list[Receipt], result: Verification) -> None:
    for receipt in found:
        for stage, count in receipt.stages.items():
            result.checked["stage counts"] += 1
            if not count.balances():
                result.problems.append(
                    f"steps/{receipt.step}/{receipt.task}: {stage}: {count.entered} in is not {count.kept} kept + "
                    f"{sum(count.dropped.values())} dropped + {sum(count.failed.values())} failed"
                )
    read = sum(receipt.size for receipt in found)
    rows = sum(receipt.stages[LEDGER].entered for receipt in found if receipt.step == LEDGER)
    if read != rows:
        result.problems.append(f"{read} records were read, but the ledger has {rows} rows")


def _text_files(found: list[Receipt]) -> dict[str, list[str]]:
    """For each partition the files that hold its text, latest first."""
    files: dict[str, list[str]] = {}
    for receipt in found:
        if receipt.partition and "documents" in receipt.outputs:
            files.setdefault(receipt.partition, []).insert(0, receipt.outputs["documents"].path)
    return files


def _check_dataset(run: RunFolder, dataset: Dataset, texts: dict[str, list[str]], result: Verification) -> None:
    for content in dataset.splits.values():
        for entry in content["shards"]:
            result.checked["shards"] += 1
            base = f"{dataset.name}/{entry['name']}"
            try:
                with run.on_disk(f"{base}.bin", f"{base}.idx") as folder:
                    _check_shard(run.store, dataset, entry, texts, result, Shard(folder / f"{base}.bin"))
            except (OSError, ValueError, pa.ArrowException) as error:
                result.problems.append(f"{base}: cannot be read: {error}")


def _check_shard(
    store: Store,
    dataset: Dataset,
    entry: dict[str, Any],
    texts: dict[str, list[str]],
    result: Verification,
    shard: Shard,
) -> None:
    base = f"{dataset.name}/{entry['name']}"
    problems = shard.validate(end_of_text=dataset.card["end_of_text"])
    result.problems += [f"{base}: {problem}" for problem in problems]
    with store.open(dataset.documents_table(entry["name"])) as file:
        table = read_parquet(file)
    lengths = table.column("tokens").to_numpy()
    if not np.array_equal(lengths, shard.lengths):
        result.problems.append(f"{base}.idx: its lengths are not those of the documents table")
        return
    if entry["documents"] != len(lengths) or entry["tokens"] != int(lengths.sum()):
        result.problems.append(f"{dataset.name}: the card's counts of {entry['name']} are not those of its index")
    step = max(len(lengths) // SAMPLED_DOCUMENTS, 1)
    for row in range(0, len(lengths), step):
        document = table.slice(row, 1).to_pylist()[0]["id"]
        expected = _text_of(store, texts, document)
        if expected is None:
            continue
        result.checked["documents decoded"] += 1
        if not _is_text_of(dataset, shard.document(row)[:-1].tolist(), expected):
            result.problems.append(f"{base}.bin: document {document} does not decode to its text")


def _is_text_of(dataset: Dataset, ids: list[int], text: str) -> bool:
    if dataset.tokenizer.decode(ids, skip_special_tokens=False) == text:
        return True
    # of a tokenizer that normalizes the ids are right, and the text cannot be had back
    return bool(dataset.tokenizer.encode(text, add_special_tokens=False).ids == ids)


def _text_of(store: Store, texts: dict[str, list[str]], document: str) -> str | None:
    partition, _, position = document.rpartition("#")
    for path in texts.get(partition, []):
        text = text_in(store, path, int(position))
        if text is not None:
            return text
    return None
