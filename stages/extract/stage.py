"""Main text out of HTML."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from tokenmill.stages.extract.charset import declared_charset, decode_page
from tokenmill.stages.extract.classifier import MODEL, main_text
from tokenmill.stages.extract.nesting_depth import MAX_DEPTH, is_too_deep
from tokenmill.stages.report import StageRun, StageSummary
from tokenmill.stages.stage import DROPPED, FAILED, Transform, Verdicts
from tokenmill.stages.text.unicode import to_utf8

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters but tab, line feed, carriage return and next line."""


class Extract(Transform):
    """Replaces a page's HTML by its main text; documents that are text already pass unchanged.

    Rules: `extract.no_text`; failure: `extract.error`. Ledger: `text_bytes`, `charset` (the one the page was read in) and
    `charset_declared` (by header or meta tag; where it differs from `charset`, it was wrong).
    """

    version: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[str, ...]] = ("text",)
    ends_step: ClassVar[bool] = True
    text_bytes_measure: ClassVar[str | None] = "text_bytes"

    engine: Literal["tokenmill", "resiliparse", "trafilatura"] = Field(
        default="tokenmill",
        description="tokenmill: judges every block of text by a learned model, fast and exact; resiliparse: fast, by rules "
        "over the DOM, keeps more boilerplate; trafilatura: ten times slower (needs the package: "
        "pip install 'tokenmill[trafilatura]').",
    )

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return (MODEL,) if self.engine == "tokenmill" else ()

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        """See `Transform`."""
        count = documents.num_rows
        if "html" not in documents.schema.names:
            sizes = pc.binary_length(documents.column("text")).cast(pa.int64())
            unknown = pa.nulls(count, pa.string())
            measures = {"text_bytes": sizes, "charset": unknown, "charset_declared": unknown}
            return documents, Verdicts.all_kept(count, measures)
        texts: list[bytes] = []
        fate = np.zeros(count, np.uint8)
        rules: list[str | None] = [None] * count
        messages: list[str | None] = [None] * count
        charsets: list[str | None] = []
        declared: list[str | None] = []
        for row, (cell, header) in enumerate(zip(documents.column("html"), documents.column("charset"), strict=True)):
            page = cell.as_py() or b""
            declared.append(declared_charset(page, header.as_py()))
            try:
                html, charset = decode_page(page, header.as_py())
                is_utf8 = charset == "utf-8"
                text = tidy(self._extract(html, page.removeprefix(codecs.BOM_UTF8) if is_utf8 else None))
            except Exception as error:  # a parser may raise anything on hostile input; it costs this document alone
                fate[row], rules[row], charset, text = FAILED, "extract.error", None, ""
                messages[row] = f"{type(error).__name__}: {error}"[:500]
            if not text and not fate[row]:
                fate[row], rules[row] = DROPPED, "extract.no_text"
            charsets.append(charset)
            texts.append(to_utf8(text))
        kept = {
            name: column
            for name, column in zip(documents.schema.names, documents.columns, strict=True)
            if name not in ("html", "charset", "text")
        }
        kept["text"] = pa.array(texts, pa.binary()).cast(pa.string())
        measures = {
            "text_bytes": pa.array(map(len, texts), pa.int64()),
            "charset": pa.array(charsets, pa.string()),
            "charset_declared": pa.array(declared, pa.string()),
        }
        verdicts = Verdicts.of(fate, rule=rules, message=messages, measures=measures)
        return pa.RecordBatch.from_arrays(list(kept.values()), list(kept)), verdicts

    def _extract(self, html: str, utf8: bytes | None) -> str:
        if self.engine == "tokenmill":
            return main_text(html.encode("utf-8", "replace") if utf8 is None else utf8)
        if is_too_deep(html):
            raise ValueError(f"its elements nest more than {MAX_DEPTH:,} deep, which {self.engine} takes too long for")
        if self.engine == "trafilatura":
            import trafilatura

            return trafilatura.extract(html, include_comments=False, include_tables=True) or ""
        return str(
            extract_plain_text(HTMLTree.parse(html), main_content=True, alt_texts=False, preserve_formatting=True)
        )

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`: how many pages are in another charset than they declare. `pages`: that were read in a charset,
        `declared`: of these, that name one, `lies`: of those, that are in another, and `lie_rate`, their share (0 to 1)."""
        pages = declared = lies = 0
        for batch in run.ledger(["charset", "charset_declared"]):
            found, named = batch.columns
            pages += len(batch) - found.null_count
            differs = pc.not_equal(found, named)  # null where one of them is
            declared += len(batch) - differs.null_count
            lies += pc.sum(differs).as_py() or 0
        if not pages:
            return StageSummary()
        rate = lies / declared if declared else 0.0
        return StageSummary(
            lines=[f"charsets: {lies:,} of {declared:,} pages that declare one are in another ({rate:.1%})"]
            if declared
            else [],
            facts={"declared charset wrong": f"{rate:.1%}"},
            figures={"charsets": {"pages": pages, "declared": declared, "lies": lies, "lie_rate": rate}},
        )


def tidy(text: str) -> str:
    """Text without control characters, with no white space at line ends and at most one empty line in a row."""
    text = _CONTROL.sub("", text)
    lines = [line.rstrip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
