"""One document's whole story, from the ledger and from what the run still holds of its text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.markup import escape

from pipeline import receipts
from pipeline.documents import Held, open_table
from pipeline.errors import RunError
from pipeline.ledger import ENDS, RECORD
from pipeline.locate import tokens_of
from pipeline.partitions import open_input
from pipeline.queries import ledger_paths, rows_where
from pipeline.store import Store
from stages.read import ReadOptions, payload_at

SHOWN_CHARACTERS = 1200
"""Text shown in the terminal of each state of a document."""

IDENTITY = ("id", "source", "path", "position", *RECORD)


def explain(store: Store, document: str) -> list[dict[str, Any]]:
    """The stories of all documents with this id or URL. Raises `RunError` where there is none."""
    paths = ledger_paths(store)
    column = "id" if "#" in document and next(rows_where(store, paths, "id", document, 1), None) else "url"
    rows = list(rows_where(store, paths, column, document))
    if not rows:
        raise RunError(
            f"{store.root}: no document has the id or the URL {document!r}; ids look like source:path#position, "
            "and the ledger can be searched: SELECT id, url FROM 'RUN/ledger/*.parquet' WHERE url LIKE '%word%'"
        )
    return [_story(store, row) for row in rows]


def _story(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "identity": {name: row[name] for name in IDENTITY},
        "fate": row["fate"],
        "ended": {name: row[name] for name in ENDS if row[name] is not None},
        "measures": {
            name: value for name, value in row.items() if name not in (*IDENTITY, "fate", *ENDS) and value is not None
        },
        "tokens": tokens_of(store, row["id"]) if row["fate"] == "kept" else [],
        "texts": _texts(store, row),
    }


def _texts(store: Store, row: dict[str, Any]) -> dict[str, str]:
    """What is still held of a document: as it stands in its source, and after each step that wrote text."""
    texts: dict[str, str] = {}
    if (original := original_text(store, row)) is not None:
        texts["source"] = original
    partition = row["id"].rpartition("#")[0]
    for step in store.read_json("run.json")["steps"]:
        for task in step["tasks"]:
            receipt = receipts.load(store, step["name"], task)
            if receipt and receipt.partition == partition and "documents" in receipt.outputs:
                text = held_text(store, receipt.outputs["documents"].path, row["position"])
                if text is not None:
                    texts[step["name"]] = text
    return texts


def held_text(store: Store, path: str, position: int) -> str | None:
    """The text of a document as a document file holds it; None where it is not there, or is still HTML."""
    positions = Held(path).positions(store)
    row = int(np.searchsorted(positions, position))
    if row == len(positions) or positions[row] != position:
        return None
    starts = _batch_starts(store.root, path)
    number = int(np.searchsorted(starts, row, "right")) - 1
    text = _batch_text(store.root, path, number)
    return None if text is None else str(text[row - int(starts[number])].as_py())


@lru_cache(maxsize=64)
def _batch_starts(root: str, path: str) -> npt.NDArray[np.int64]:
    """The row with which each batch of a document file begins."""
    with open_table(Store(root), path, ["position"]) as reader:
        counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
    return np.cumsum([0, *counts])[:-1]


@lru_cache(maxsize=4)
def _batch_text(root: str, path: str, number: int) -> pa.Array | None:
    with open_table(Store(root), path, ["text"]) as reader:
        return reader.get_batch(number).column("text") if "text" in reader.schema.names else None


def original_text(store: Store, row: dict[str, Any]) -> str | None:
    """The text of a ledger row as it stands in its source; None where that is gone."""
    source = store.read_json("run.json")["config"]["sources"][row["source"]]
    options = ReadOptions(**{name: value for name, value in source.items() if name != "path"})
    try:
        with open_input(row["path"]) as file:
            payload = payload_at(file, path=row["path"], options=options, offset=row["offset"])
    except OSError:
        return None
    return None if payload is None else payload.decode("utf-8", "replace")


def print_story(console: Console, story: dict[str, Any]) -> None:
    """A story, for people."""
    fate = {"kept": "green", "dropped": "yellow", "failed": "red"}[story["fate"]]
    console.rule(escape(story["identity"]["id"]), align="left")
    for name, value in story["identity"].items():
        console.print(f"[bold]{name:14}[/] {escape(printable(str(value)))}", highlight=False)
    ended = story["ended"]
    words = f"[{fate}]{story['fate']}[/]"
    if ended.get("rule"):
        words += f" at {escape(ended['stage'])} by {escape(ended['rule'])}"
    if "value" in ended:
        words += f": {ended['value']:g}"
        words += f" against {ended['threshold']:g}" if "threshold" in ended else ""
    if "message" in ended:
        words += f": {escape(ended['message'])}"
    console.print(f"[bold]{'fate':14}[/] {words}", highlight=False)
    for name, value in story["measures"].items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        console.print(f"  {name:28} {escape(shown)}", highlight=False)
    for place in story["tokens"]:
        console.print(
            f"[bold]{'tokens':14}[/] {place['tokens']:,} in {place['shard']} from {place['token_start']:,} "
            f"(tokenmill locate RUN {place['split']} {place['split_offset']})",
            highlight=False,
        )
    for name, text in story["texts"].items():
        clipped = text[:SHOWN_CHARACTERS] + (" ..." if len(text) > SHOWN_CHARACTERS else "")
        console.print(f"\n[bold]after {escape(name)}[/]" if name != "source" else "\n[bold]in its source[/]")
        console.print(escape(printable(clipped)), highlight=False)


def printable(text: str) -> str:
    """Text without the control characters that could play tricks on a terminal (a crawl is hostile)."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
