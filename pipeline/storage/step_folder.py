"""The folder of a step, `steps/STEP`: what its tasks wrote, and their receipts.

A running step has a receipt in a file of its own for each task. A finished one is *sealed*: all receipts in one file, and a
manifest that says what the step was made from, so that a step of 100,000 tasks is found done by a small read and a listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import orjson
import zstandard

from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.receipts import RECEIPT_ENDING, Receipt, fingerprint
from tokenmill.pipeline.storage.store import Store

MANIFEST, RECEIPTS = "manifest.json", "receipts.jsonl.zst"


@dataclass(frozen=True)
class Manifest:
    """What seals a step. `inputs`: digest of all that its tasks are made from. `outputs`: digest of all that they left that
    others may read. `names`: digest of the names of the files in its folder. `published`: its files in other folders
    of the run, by folder. `receipts`: checksum of the file of all receipts. `tasks`: how many there are."""

    inputs: str
    outputs: str
    names: str
    published: dict[str, list[str]]
    receipts: str
    tasks: int


class SealedReceipts(Mapping[str, Receipt]):
    """The receipts of a sealed step by task, in order; read when one is asked for."""

    def __init__(self, store: Store, step: str, tasks: int) -> None:
        self._store, self._step, self._tasks = store, step, tasks

    @cached_property
    def _found(self) -> dict[str, Receipt]:
        with self._store.open(f"steps/{self._step}/{RECEIPTS}") as file:
            lines = zstandard.decompress(file.read()).splitlines()
        found = (receipts.receipt_of(orjson.loads(line)) for line in lines)
        return {receipt.task: receipt for receipt in found if receipt is not None}

    def __getitem__(self, task: str) -> Receipt:
        return self._found[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return self._tasks


class StepFolder:
    """The folder of one step in a run's store."""

    def __init__(self, store: Store, step: str) -> None:
        self.store = store
        self.step = step
        self.path = f"steps/{step}"

    @cached_property
    def manifest(self) -> Manifest | None:
        """What seals the step, read once; None where it has not come to its end."""
        value = self.store.read_json(f"{self.path}/{MANIFEST}")
        try:
            return Manifest(**value)
        except TypeError:
            return None

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether the folder holds the files that it held when it was sealed, and the others those that the step published."""
        return _names_digest(self.store.names(self.path)) == manifest.names and all(
            {*names} <= {*self.store.names(folder)} for folder, names in manifest.published.items()
        )

    def problem(self, tasks: int) -> str | None:
        """What is wrong with the receipts of a step that a finished run says to have so many tasks; None where nothing is."""
        manifest, path = self.manifest, f"{self.path}/{RECEIPTS}"
        if manifest is None or manifest.tasks != tasks:
            return f"{self.path}/{MANIFEST}: is gone or is not that of {tasks} tasks"
        if not self.store.exists(path):
            return f"{path}: is gone; run again"
        if self.store.checksum(path).checksum != manifest.receipts:
            return f"{path}: its bytes have changed"
        return None

    def sealed(self) -> Mapping[str, Receipt]:
        """The receipts of the step as it was sealed; empty where it never was."""
        manifest = self.manifest
        if manifest is None or not self.store.exists(f"{self.path}/{RECEIPTS}"):
            return {}
        return SealedReceipts(self.store, self.step, manifest.tasks)

    def loose(self) -> dict[str, Receipt]:
        """The receipts of tasks that were committed since the step was sealed, if ever."""
        tasks = [
            name.removesuffix(RECEIPT_ENDING) for name in self.store.names(self.path) if name.endswith(RECEIPT_ENDING)
        ]
        loaded = {task: receipts.load(self.store, self.step, task) for task in tasks}
        return {task: receipt for task, receipt in loaded.items() if receipt is not None}

    def receipts(self) -> dict[str, Receipt]:
        """All receipts that are there, the latest of each task."""
        return dict(self.sealed()) | self.loose()

    def seal(self, inputs: str, finished: Mapping[str, Receipt]) -> Manifest:
        """Puts the receipts of all tasks into one file and removes what none of them names."""
        with self.store.create(f"{self.path}/{RECEIPTS}") as file:
            lines = (
                orjson.dumps(asdict(receipt) | {"fingerprint": receipt.fingerprint}) for receipt in finished.values()
            )
            file.write(zstandard.compress(b"\n".join(lines)))
        written: dict[str, list[str]] = {self.path: [MANIFEST, RECEIPTS]}
        for receipt in finished.values():
            for output in receipt.outputs.values():
                folder, _, name = output.path.rpartition("/")
                written.setdefault(folder, []).append(name)
        kept = {*written.pop(self.path)}
        manifest = Manifest(
            inputs, outputs_digest(finished), _names_digest(kept), written, file.output.checksum, len(finished)
        )
        # from here on the step is sealed: what follows only tidies up
        self.store.write_json(f"{self.path}/{MANIFEST}", asdict(manifest))
        for name in self.store.names(self.path):
            if name not in kept:
                self.store.remove(f"{self.path}/{name}")
        return manifest


def outputs_digest(finished: Mapping[str, Receipt]) -> str:
    """Digest of what the tasks of a step left that the tasks of another may depend on: no times, no memory."""
    digest = hashlib.blake2b(digest_size=16)
    for task, receipt in finished.items():
        counts = {name: asdict(count) for name, count in receipt.stages.items()}
        left = {"task": task, "counts": counts, "size": receipt.size, "columns": receipt.columns, **receipt.digest()}
        digest.update(fingerprint(left).encode())
    return digest.hexdigest()


def _names_digest(names: set[str] | list[str]) -> str:
    # the manifest is written after it is made, and is in the folder in any case
    return hashlib.blake2b("\n".join(sorted({*names} - {MANIFEST})).encode(), digest_size=16).hexdigest()
