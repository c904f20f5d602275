"""Small questions to the Parquet files of a run: rows of the ledger, and files of published folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenmill.model.data.shard_format import check_card
from tokenmill.pipeline.errors import ConfigError, RunError, nearest
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.storage.store import Store


def rows_where(store: Store, paths: list[str], column: str, value: object, limit: int = 20) -> Iterator[dict[str, Any]]:
    """Rows of Parquet files in which a column has a value."""
    found = 0
    for path in paths:
        with store.open(path) as file:
            table = read_parquet(file, where=(column, [value]))
        for row in table.slice(0, limit - found).to_pylist():
            found += 1
            yield row
        if found >= limit:
            return


def ledger_paths(store: Store) -> list[str]:
    """The ledger's files."""
    return [f"ledger/{name}" for name in store.names("ledger") if name.endswith(".parquet")]


def rows_of(store: Store, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Whole rows of the ledger by the documents' ids."""
    found: dict[str, dict[str, Any]] = {}
    wanted = list(ids)
    for path in ledger_paths(store) if wanted else ():
        with store.open(path) as file:
            found |= {row["id"]: row for row in read_parquet(file, where=("id", wanted)).to_pylist()}
    return found


def document_tables(store: Store, node: str) -> list[str]:
    """The documents tables of a shard stage."""
    return [f"{node}/{name}" for name in store.names(node) if "-documents-" in name]


def dataset_nodes(store: Store) -> list[str]:
    """The stages of a run that have published a dataset."""
    return [name for name in store.read_json("run.json")["nodes"] if store.exists(f"{name}/dataset.json")]


def choose_dataset(store: Store, given: str | None) -> str:
    """The shard stage that is asked for, or the only one. Raises `ConfigError` where that is not clear, `RunError` for none."""
    nodes = dataset_nodes(store)
    if not nodes:
        raise RunError("this run has published no shards: its config has no shard stage, or it has not come so far")
    if given is None and len(nodes) > 1:
        raise ConfigError(f"this run has several datasets; choose one with --dataset: {', '.join(nodes)}")
    if given is not None and given not in nodes:
        raise ConfigError(f"there is no dataset {given!r}; {nearest(given, nodes)}")
    return given or nodes[0]


def read_dataset_card(store: Store, node: str) -> dict[str, Any]:
    """The card of a shard stage. Raises `RunError` where it is none."""
    card = store.read_json(f"{node}/dataset.json")
    try:
        check_card(card, f"{node}/dataset.json")
    except ValueError as error:
        raise RunError(f"{error}; run `tokenmill verify`") from error
    return dict(card)


def documents_table(node: str, shard: str) -> str:
    """Where the documents table of a shard lies."""
    split, _, number = shard.rpartition("-")
    return f"{node}/{split}-documents-{number}.parquet"


@contextmanager
def on_disk(store: Store, *paths: str) -> Iterator[Path]:
    """A local folder in which files of the run lie: the run's own, or one with copies of them."""
    if store.local:
        yield store.local
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            with store.open(path) as remote, (Path(folder) / path).open("wb") as copy:
                shutil.copyfileobj(remote, copy, 1 << 20)
        yield Path(folder)


def open_run(path: str) -> Store:
    """The store of a run that exists. Raises `RunError`."""
    store = Store(path)
    if not store.exists("run.json"):
        raise RunError(f"{path}: there is no run here (no run.json); give the folder that a config names as `output:`")
    return store


def load_receipts(store: Store) -> dict[str, list[Receipt]]:
    """All receipts of a run by step, in order. Raises `RunError` where the run names one that is gone."""
    found: dict[str, list[Receipt]] = {}
    for step in store.read_json("run.json")["steps"]:
        found[step["name"]] = []
        for task in step["tasks"]:
            receipt = receipts.load(store, step["name"], task)
            if receipt is None:
                raise RunError(
                    f"{store.root}: the receipt of step {step['name']}, task {task} is gone or broken; run again"
                )
            found[step["name"]].append(receipt)
    return found
