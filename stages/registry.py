"""What the pipeline may ask of the stages: the kinds that a config may name, one line each (a user's own is named
`package.module:Class`), and reading. What it does not use is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.stage import Verdicts

KINDS = {
    "classifier": "tokenmill.stages.filters.classifier:Classifier",
    "decontaminate": "tokenmill.stages.decontaminate.stage:Decontaminate",
    "deduplicate": "tokenmill.stages.dedup.stage:Deduplicate",
    "extract": "tokenmill.stages.extract.stage:Extract",
    "language": "tokenmill.stages.filters.language:Language",
    "quality": "tokenmill.stages.quality.stage:Quality",
    "redact": "tokenmill.stages.filters.redact:Redact",
    "shard": "tokenmill.stages.tokens.stage:Shards",
    "tokenizer": "tokenmill.stages.tokens.tokenizer:TrainedTokenizer",
    "url": "tokenmill.stages.filters.url:Urls",
}


def kind_of(uses: str) -> str:
    """How a stage is named in fingerprints and in run.json: by its kind where it is bundled, so that moving a file makes no run
    stale; a user's own by `package.module:Class`."""
    return next((kind for kind, place in KINDS.items() if place == uses), uses)


def read_documents(
    file: BinaryIO, *, path: str, options: ReadOptions, start: int = 0, end: int | None = None
) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """See `stages.readers.reader.read`."""
    from tokenmill.stages.readers.reader import read

    return read(file, path=path, options=options, start=start, end=end)


def payload_at(file: BinaryIO, *, path: str, options: ReadOptions, offset: int) -> bytes | None:
    """See `stages.readers.reader.payload_at`."""
    from tokenmill.stages.readers.reader import payload_at as read_payload

    return read_payload(file, path=path, options=options, offset=offset)


def has_machine_code() -> bool:
    """Whether the machine code of a kernel is kept already, beside the stages' modules."""
    from tokenmill.stages.text.utf8 import eight_bytes

    return any(Path(eight_bytes._cache.cache_path).glob("*.nbi"))


def preload() -> None:
    """Imports all kinds of stages, and does what the first use of their kernels costs a process, wherever it comes."""
    from tokenmill.stages.text.utf8 import character_classes, eight_bytes

    for place in KINDS.values():
        import_module(place.partition(":")[0])
    character_classes()
    eight_bytes(np.zeros(8, np.uint8), 0)  # the first compiled call of a process takes numba 0.4 s
