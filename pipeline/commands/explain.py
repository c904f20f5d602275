"""One document's whole story, from the ledger and from what the run still holds of its text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.commands.locate import tokens_of
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.document_text import held_text, original_text, printable
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.ledger_columns import ENDS, RECORD
from tokenmill.pipeline.storage.run_folder import ledger_paths, rows_where
from tokenmill.pipeline.storage.store import Store

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
