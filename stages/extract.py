"""Main text out of HTML."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from stages.charset import decode_page
from stages.nesting import MAX_DEPTH, is_too_deep
from stages.stage import DROPPED, FAILED, Transform, Verdicts

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters but tab, line feed, carriage return and next line."""


class Extract(Transform):
    """Replaces a page's HTML by its main text; documents that are text already pass unchanged.

    Rules: `extract.no_text`; failure: `extract.error`. Ledger: `text_bytes`, `charset` (the one the page was read in).
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[str, ...]] = ("text",)
    costly: ClassVar[bool] = True

    engine: Literal["resiliparse", "trafilatura"] = Field(
        default="resiliparse",
        description="resiliparse: fast, by rules over the DOM; trafilatura: ten times slower, more exact (needs the "
        "package: pip install 'tokenmill[trafilatura]').",
    )

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        """See `Transform`."""
        count = documents.num_rows
        if "html" not in documents.schema.names:
            sizes = [None if text is None else len(text.encode()) for text in documents.column("text").to_pylist()]
            measures = {"text_bytes": pa.array(sizes, pa.int64()), "charset": pa.nulls(count, pa.string())}
            return documents, Verdicts.all_kept(count, measures)
        texts: list[bytes | None] = []
        fate = np.zeros(count, np.uint8)
        rules: list[str | None] = [None] * count
        messages: list[str | None] = [None] * count
        charsets: list[str | None] = []
        pages, declared = documents.column("html"), documents.column("charset").to_pylist()
        for row, page in enumerate(pages):
            try:
                html, charset = decode_page(page.as_py() or b"", declared[row])
                if is_too_deep(html):
                    raise ValueError(f"its elements nest more than {MAX_DEPTH:,} deep")
                text = tidy(self._extract(html))
            except Exception as error:  # a parser may raise anything on hostile input; the document alone pays
                fate[row], rules[row], charset, text = FAILED, "extract.error", None, ""
                messages[row] = f"{type(error).__name__}: {error}"[:500]
            if not text and not fate[row]:
                fate[row], rules[row] = DROPPED, "extract.no_text"
            charsets.append(charset)
            texts.append(text.encode("utf-8", "replace"))
        sizes = [len(text) for text in texts if text is not None]
        kept = {
            name: column
            for name, column in zip(documents.schema.names, documents.columns, strict=True)
            if name not in ("html", "charset", "text")
        }
        kept["text"] = pa.array(texts, pa.binary()).cast(pa.string())
        measures = {"text_bytes": pa.array(sizes, pa.int64()), "charset": pa.array(charsets, pa.string())}
        verdicts = Verdicts.of(fate, rule=rules, message=messages, measures=measures)
        return pa.RecordBatch.from_arrays(list(kept.values()), list(kept)), verdicts

    def _extract(self, html: str) -> str:
        if self.engine == "trafilatura":
            import trafilatura

            return trafilatura.extract(html, include_comments=False, include_tables=True) or ""
        return str(
            extract_plain_text(HTMLTree.parse(html), main_content=True, alt_texts=False, preserve_formatting=True)
        )


def tidy(text: str) -> str:
    """Text without control characters, with no white space at line ends and at most one empty line in a row."""
    text = _CONTROL.sub("", text)
    lines = [line.rstrip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
