"""Checks a finished run against what it says of itself: checksums, conservation, indexes, and decoding of a sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.report.document_text import held_text
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.storage.run_folder import dataset_nodes, documents_table, on_disk
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.tokens.tokenizer import end_of_text, load_tokenizer

SAMPLED_DOCUMENTS = 64
"""Documents of each shard that are decoded and held against their text."""


@dataclass
class Verification:
    """What is wrong, in words that say where; and how much was checked."""

    problems: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)


def verify(store: Store) -> Verification:
    """Reads every file of a run once."""
    result = Verification()
    described = store.read_json("run.json")
    if not described["complete"]:
        result.problems.append(f"{store.root}: the run has not finished; run it again")
    found = _load(store, described, result)
    for receipt in found:
        _check_files(store, receipt, result)
    _check_conservation(found, result)
    for node in dataset_nodes(store):
        _check_dataset(store, node, found, result)
    return result


def _load(store: Store, described: dict[str, Any], result: Verification) -> list[Receipt]:
    found = []
    for step in described["steps"]:
        for task in step["tasks"]:
            path = receipts.receipt_path(step["name"], task)
            receipt = receipts.load(store, step["name"], task)
            written = store.read_json(path)
            if receipt is None or not isinstance(written, dict):
                result.problems.append(f"{path}: is gone or is no receipt")
                continue
            if receipt.fingerprint != written.get("fingerprint"):
                result.problems.append(f"{path}: the fingerprint does not fit what it says the output was made by")
            result.checked["receipts"] += 1
            found.append(receipt)
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
    rows = sum(receipt.stages["ledger"].entered for receipt in found if receipt.step == "ledger")
    if read != rows:
        result.problems.append(f"{read} records were read, but the ledger has {rows} rows")


def _check_dataset(store: Store, node: str, found: list[Receipt], result: Verification) -> None:
    card = store.read_json(f"{node}/dataset.json")
    if card is None:
        result.problems.append(f"{node}/dataset.json: is no JSON")
        return
    with store.open(f"{node}/tokenizer.json") as file:
        tokenizer = load_tokenizer(file.read(), "tokenizer.json")
    texts = _text_files(found)
    for split, content in card["splits"].items():
        if content["tokens"] != sum(shard["tokens"] for shard in content["shards"]):
            result.problems.append(f"{node}/dataset.json: the tokens of {split} are not the sum over its shards")
        for entry in content["shards"]:
            result.checked["shards"] += 1
            try:
                result.problems += _check_shard(store, node, split, entry, tokenizer, texts, result)
            except (OSError, ValueError, pa.ArrowException) as error:
                result.problems.append(f"{node}/{entry['name']}: cannot be read: {error}")


def _text_files(found: list[Receipt]) -> dict[str, list[str]]:
    """For each partition the files that hold its text, latest first."""
    files: dict[str, list[str]] = {}
    for receipt in found:
        if receipt.partition and "documents" in receipt.outputs:
            files.setdefault(receipt.partition, []).insert(0, receipt.outputs["documents"].path)
    return files


def _check_shard(
    store: Store,
    node: str,
    split: str,
    entry: dict[str, Any],
    tokenizer: Any,
    texts: dict[str, list[str]],
    result: Verification,
) -> list[str]:
    base = f"{node}/{entry['name']}"
    with on_disk(store, f"{base}.bin", f"{base}.idx") as folder:
        return _check_pair(store, node, split, entry, tokenizer, texts, result, Shard(folder / f"{base}.bin"))


def _check_pair(
    store: Store,
    node: str,
    split: str,
    entry: dict[str, Any],
    tokenizer: Any,
    texts: dict[str, list[str]],
    result: Verification,
    shard: Shard,
) -> list[str]:
    base = f"{node}/{entry['name']}"
    problems = [f"{base}: {problem}" for problem in shard.validate(end_of_text=end_of_text(tokenizer))]
    with store.open(documents_table(node, entry["name"])) as file:
        table = read_parquet(file)
    lengths = table.column("tokens").to_numpy()
    if not np.array_equal(lengths, shard.lengths):
        return [*problems, f"{base}.idx: its lengths are not those of the documents table"]
    if entry["documents"] != len(lengths) or entry["tokens"] != int(lengths.sum()):
        problems.append(f"{node}/dataset.json: the counts of {entry['name']} are not those of its index")
    step = max(len(lengths) // SAMPLED_DOCUMENTS, 1)
    for row in range(0, len(lengths), step):
        document = table.slice(row, 1).to_pylist()[0]
        expected = _text_of(store, texts, document["id"])
        if expected is None:
            continue
        result.checked["documents decoded"] += 1
        ids = shard.document(row)[:-1].tolist()
        if tokenizer.decode(ids, skip_special_tokens=False) != expected:
            if tokenizer.encode(expected, add_special_tokens=False).ids == ids:
                continue  # a tokenizer that normalizes: the ids are right, the text cannot be had back
            problems.append(f"{base}.bin: document {document['id']} does not decode to its text")
    return problems


def _text_of(store: Store, texts: dict[str, list[str]], document: str) -> str | None:
    partition, _, position = document.rpartition("#")
    for path in texts.get(partition, []):
        text = held_text(store, path, int(position))
        if text is not None:
            return text
    return None
