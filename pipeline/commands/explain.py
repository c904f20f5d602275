"""One document's whole story, from the ledger and from what the run still holds of its text."""

from __future__ import annotations

from typing import Any

from tokenmill.pipeline.commands.locate import tokens_of
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.document_text import original_text, text_in
from tokenmill.pipeline.storage.ledger_columns import ENDS, IDENTITY
from tokenmill.pipeline.storage.run_folder import RunFolder


def explain(run: RunFolder, document: str) -> list[dict[str, Any]]:
    """The stories of all documents with this id or URL. Raises `RunError` where there is none."""
    column = "id" if "#" in document and next(run.rows_where("id", document, 1), None) else "url"
    rows = list(run.rows_where(column, document))
    if not rows:
        raise RunError(
            f"{run.root}: no document has the id or the URL {document!r}; ids look like source:path#position, "
            "and the ledger can be searched: SELECT id, url FROM 'RUN/ledger/*.parquet' WHERE url LIKE '%word%'"
        )
    return [_story(run, row) for row in rows]


def _story(run: RunFolder, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "identity": {name: row[name] for name in IDENTITY},
        "fate": row["fate"],
        "ended": {name: row[name] for name in ENDS if row[name] is not None},
        "measures": {
            name: value for name, value in row.items() if name not in (*IDENTITY, "fate", *ENDS) and value is not None
        },
        "tokens": tokens_of(run, row["id"]) if row["fate"] == "kept" else [],
        "texts": _texts(run, row),
    }


def _texts(run: RunFolder, row: dict[str, Any]) -> dict[str, str]:
    """What is still there of a document: as it stands in its source, and after each step that wrote text."""
    texts: dict[str, str] = {}
    if (original := original_text(run, row)) is not None:
        texts["source"] = original
    for step, path in run.text_files.get(row["id"].rpartition("#")[0], {}).items():
        text = text_in(run.store, path, row["position"])
        if text is not None:
            texts[step] = text
    return texts
