"""The receipt: the small JSON file that commits what a task made, written last.

Its `inputs` is everything that decided the output; `fingerprint` is its digest. A task whose receipt holds the fingerprint
that it would have now is done. Files carry their fingerprint in their names, so a late writer of an older run never mixes
its bytes with newer ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from tokenmill.pipeline.storage.store import Output, Store

FAILURES_NAMED = 20
"""Failed documents named in a receipt with their messages; the ledger holds them all."""


@dataclass
class StageCount:
    """What a stage did with the documents of one task: counts, and bytes of text (or of HTML before extraction). `routes`: of a
    stage that routes, documents kept and their bytes by value."""

    entered: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    bytes_entered: int = 0
    bytes_kept: int = 0
    routes: dict[str, list[int]] = field(default_factory=dict)

    def balances(self) -> bool:
        """in = kept + dropped + failed."""
        return self.entered == self.kept + sum(self.dropped.values()) + sum(self.failed.values())

    def add(self, other: StageCount) -> None:
        """Adds another task's counts."""
        self.entered += other.entered
        self.kept += other.kept
        self.bytes_entered += other.bytes_entered
        self.bytes_kept += other.bytes_kept
        for mine, theirs in ((self.dropped, other.dropped), (self.failed, other.failed)):
            for rule, count in theirs.items():
                mine[rule] = mine.get(rule, 0) + count
        for value, (count, size) in other.routes.items():
            before = self.routes.get(value, [0, 0])
            self.routes[value] = [before[0] + count, before[1] + size]

    def kept_of(self, values: Sequence[str]) -> tuple[int, int]:
        """Documents kept and their bytes, of all or, where values are given, of these routes."""
        if not values:
            return self.kept, self.bytes_kept
        taken = [self.routes.get(value, [0, 0]) for value in values]
        return sum(count for count, _ in taken), sum(size for _, size in taken)


@dataclass
class Receipt:
    """See the module. `outputs`: "documents", "kept", "ledger", "table" and "file:NAME" -> file. `size`: documents in the
    partition, known to the step that reads it. `columns`: measures in the ledger part, as "node:measure", and their types."""

    step: str
    task: str
    inputs: dict[str, Any]
    partition: str | None = None
    outputs: dict[str, Output] = field(default_factory=dict)
    stages: dict[str, StageCount] = field(default_factory=dict)
    size: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def fingerprint(self) -> str:
        """Digest of `inputs`."""
        return fingerprint(self.inputs)

    def digest(self) -> dict[str, Any]:
        """What a task that reads this one's output depends on: checksums and metrics, not times or paths."""
        return {"outputs": {name: out.checksum for name, out in sorted(self.outputs.items())}, "metrics": self.metrics}


def fingerprint(inputs: dict[str, Any]) -> str:
    """Hex blake2b-128 of a JSON-able value."""
    return hashlib.blake2b(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def digest_of(parts: Iterable[str]) -> str:
    """Hex blake2b-128 of strings in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


RECEIPT_ENDING = ".receipt.json"


def receipt_path(step: str, task: str) -> str:
    """Where a task's receipt lies in the run folder."""
    return f"steps/{step}/{task}{RECEIPT_ENDING}"


def commit(store: Store, receipt: Receipt) -> None:
    """Writes the receipt. Files of the task's earlier runs stay until its step is sealed."""
    value = asdict(receipt) | {"fingerprint": receipt.fingerprint}
    store.write_json(receipt_path(receipt.step, receipt.task), value)


def load(store: Store, step: str, task: str) -> Receipt | None:
    """The receipt of a task, or None where there is none (or none that can be read)."""
    return receipt_of(store.read_json(receipt_path(step, task)))


def receipt_of(value: Any) -> Receipt | None:
    """A receipt from its JSON; None where it is none."""
    if not isinstance(value, dict):
        return None
    try:
        value.pop("fingerprint")
        value["outputs"] = {name: Output(**output) for name, output in value["outputs"].items()}
        value["stages"] = {name: StageCount(**count) for name, count in value["stages"].items()}
        return Receipt(**value)
    except (KeyError, TypeError, AttributeError):
        return None


def difference(old: Any, new: Any, key: str = "") -> str | None:
    """The first place where two fingerprint payloads differ, for people; None where they are the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            place = f"{key}.{name}" if key else str(name)
            if found := difference(old.get(name), new.get(name), place):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            if found := difference(one, other, f"{key}[{number}]"):
                return found
        return None
    return None if old == new else f"{key}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "none" if value is None else orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def file_digest(path: Path) -> str:
    """Hex blake2b-128 of a local file, remembered while its size and modification time are the same."""
    stat = path.stat()
    return _file_digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache
def _file_digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return digest.hexdigest()


READ = "read"
"""Name under which reading stands in ledger, counts and reports."""

LEDGER = "ledger"
"""Name of the last step, which joins the ledger, of the folder of its files, and of its counts in receipts."""
