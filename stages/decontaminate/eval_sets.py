"""Evaluation sets as JSON lines: their texts, and which item each is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.readers.compression import compression_of, pieces
from tokenmill.stages.readers.jsonl import parse_line
from tokenmill.stages.readers.metadata import field_of
from tokenmill.stages.text.unicode import to_utf8


@dataclass(frozen=True)
class EvaluationTexts:
    """The texts of all sets, in the sets' order. `sets`: their names. `set_of`, `item_of`: int64, shape (texts,): the number of
    a text's set in `sets`, and of its item: the line it stands in, counted from 1 over the set's files in order."""

    text: pa.Array
    sets: list[str]
    set_of: npt.NDArray[np.int64]
    item_of: npt.NDArray[np.int64]


def read_evaluation_sets(sets: Mapping[str, Sequence[Path]], fields: Sequence[str]) -> EvaluationTexts:
    """Reads sets of files of JSON lines (plain, .gz, .zst, .lz4).

    `fields`: of an item, dots lead into objects; each that is a string, or a list of them, gives texts of their own. Raises
    ValueError for a line that is not a JSON object or has text in none of the fields, by file and line; OSError.
    """
    texts: list[bytes] = []
    set_of: list[int] = []
    item_of: list[int] = []
    for number, files in enumerate(sets.values()):
        before = 0
        for file in files:
            lines = _content(file).split(b"\n")
            for line_number, line in enumerate(lines, 1):
                if line.strip():
                    found = _texts_of(line, fields, f"{file}, line {line_number:,}")
                    texts += found
                    set_of += [number] * len(found)
                    item_of += [before + line_number] * len(found)
            before += len(lines) - (not lines[-1])
    text = pa.array(texts, pa.binary()).cast(pa.string())
    return EvaluationTexts(text, list(sets), np.array(set_of, np.int64), np.array(item_of, np.int64))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        content = bytearray()
        for piece in pieces(file, compression_of(head)):
            if piece.error:
                raise ValueError(f"{path}: {piece.error}")
            content += piece.data
    return bytes(content)


def _texts_of(line: bytes, fields: Sequence[str], place: str) -> list[bytes]:
    try:
        row = parse_line(line)
    except ValueError as error:
        raise ValueError(f"{place}: is no JSON object: {error}") from error
    texts = [to_utf8(text) for field in fields for text in _strings(field_of(row, field)) if text.strip()]
    if not texts:
        raise ValueError(f"{place}: no text in {', '.join(fields)}; its fields are {', '.join(list(row)[:8])}")
    return texts


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))
