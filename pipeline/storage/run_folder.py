"""A finished run's folder, as reports and questions read it: `run.json`, the receipts, the ledger, the published datasets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenmill.model.data.shard_format import CARD_FILE
from tokenmill.pipeline.errors import ConfigError, RunError, nearest
from tokenmill.pipeline.storage.dataset import Dataset
from tokenmill.pipeline.storage.ledger_columns import ledger_names
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.storage.step_folder import StepFolder
from tokenmill.pipeline.storage.store import Store

RUN_FILE = "run.json"


class RunFolder:
    """What a run left. Whatever is asked for is read once and kept: make another to see what has changed since."""

    def __init__(
        self,
        store: Store,
        described: dict[str, Any] | None = None,
        finished: Mapping[str, Mapping[str, Receipt]] | None = None,
    ) -> None:
        """`described`: what `run.json` says, `finished`: the receipts by step and task, where they are at hand."""
        self.store = store
        self._described = described
        self._finished = finished

    @property
    def root(self) -> str:
        """The folder's path or URL."""
        return self.store.root

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return self.root.rstrip("/").rpartition("/")[2]

    @cached_property
    def described(self) -> dict[str, Any]:
        """What `run.json` says."""
        found = self.store.read_json(RUN_FILE) if self._described is None else self._described
        if not isinstance(found, dict):
            raise RunError(f"{self.root}/{RUN_FILE}: is not JSON any more; run again")
        return found

    @property
    def is_complete(self) -> bool:
        """Whether the run has finished."""
        return bool(self.described["complete"])

    def require_complete(self) -> None:
        """Raises `RunError` where the run has not finished."""
        if not self.is_complete:
            raise RunError(f"{self.root}: the run is not finished; run it again to go on with it")

    @cached_property
    def receipts(self) -> dict[str, list[Receipt]]:
        """All receipts by step, in order; of a run that is not finished those that are there.

        Raises `RunError` where a finished run names one that is gone.
        """
        if self._finished is not None:
            return {step: list(by_task.values()) for step, by_task in self._finished.items()}
        found: dict[str, list[Receipt]] = {}
        for step in self.described["steps"]:
            name = step["name"]
            folder = StepFolder(self.store, name)
            loaded = folder.sealed() if self.is_complete else folder.receipts()
            if self.is_complete and len({*loaded}) != step["tasks"]:
                raise RunError(f"{self.root}: receipts of step {name} are gone or broken; run again")
            found[name] = list(loaded.values())
        return found

    @property
    def all_receipts(self) -> Iterator[Receipt]:
        """The same, step after step."""
        return (receipt for found in self.receipts.values() for receipt in found)

    @cached_property
    def _ledger_names(self) -> dict[str, str]:
        return ledger_names(column for receipt in self.all_receipts for column in receipt.columns)

    def measure_columns(self, node: str) -> dict[str, str]:
        """Ledger column -> measure, for the measures of a stage (or of reading)."""
        split = ((name, *column.split(":", 1)) for column, name in self._ledger_names.items())
        return {name: measure for name, stage, measure in split if stage == node}

    @cached_property
    def text_files(self) -> dict[str, dict[str, str]]:
        """By partition: step -> file of the documents that it wrote, first step first."""
        files: dict[str, dict[str, str]] = {}
        for receipt in self.all_receipts:
            if receipt.partition and "documents" in receipt.outputs:
                files.setdefault(receipt.partition, {})[receipt.step] = receipt.outputs["documents"].path
        return files

    @cached_property
    def ledger_paths(self) -> list[str]:
        """The ledger's files."""
        return [f"{LEDGER}/{name}" for name in self.store.names(LEDGER) if name.endswith(".parquet")]

    def rows_where(self, column: str, value: object, limit: int = 20) -> Iterator[dict[str, Any]]:
        """Whole rows of the ledger in which a column has a value."""
        found = 0
        for path in self.ledger_paths:
            with self.store.open(path) as file:
                table = read_parquet(file, where=(column, [value]))
            rows = table.slice(0, limit - found).to_pylist()
            yield from rows
            found += len(rows)
            if found >= limit:
                return

    def rows_of(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Whole rows of the ledger by the documents' ids."""
        found: dict[str, dict[str, Any]] = {}
        wanted = list(ids)
        for path in self.ledger_paths if wanted else ():
            with self.store.open(path) as file:
                found |= {row["id"]: row for row in read_parquet(file, where=("id", wanted)).to_pylist()}
        return found

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets that the run has published, by stage."""
        return {
            name: Dataset(self.store, name)
            for name in self.described["nodes"]
            if self.store.exists(f"{name}/{CARD_FILE}")
        }

    def choose_dataset(self, given: str | None) -> Dataset:
        """The dataset of the stage asked for, or the only one. Raises `ConfigError` where that is not clear, `RunError` for
        none."""
        names: Sequence[str] = list(self.datasets)
        if not names:
            raise RunError("this run has published no shards: its config has no shard stage, or it has not come so far")
        if given is None and len(names) > 1:
            raise ConfigError(f"this run has several datasets; choose one with --dataset: {', '.join(names)}")
        if given is not None and given not in names:
            raise ConfigError(f"there is no dataset {given!r}; {nearest(given, names)}")
        return self.datasets[given or names[0]]

    @contextmanager
    def on_disk(self, *paths: str) -> Iterator[Path]:
        """A local folder in which files of the run lie: the run's own, or one with copies of them."""
        if self.store.local:
            yield self.store.local
            return
        with tempfile.TemporaryDirectory() as folder:
            for path in paths:
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                with self.store.open(path) as remote, (Path(folder) / path).open("wb") as copy:
                    shutil.copyfileobj(remote, copy, 1 << 20)
            yield Path(folder)


def open_run(path: str) -> RunFolder:
    """The folder of a run that exists. Raises `RunError`."""
    store = Store(path)
    if not store.exists(RUN_FILE):
        raise RunError(
            f"{path}: there is no run here (no {RUN_FILE}); give the folder that a config names as `output:`"
        )
    return RunFolder(store)
