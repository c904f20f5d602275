"""How many pages lie about their charset: the ledger's figure, in the report and on the page."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from tests.runs import config_file, jsonl_file, run, text_of, tokenmill
from tests.warc_writer import http_response, record, warc_gz
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.report.run_page import run_page
from tokenmill.pipeline.storage.run_folder import open_run

TEXT = "<html><body><p>" + "Größe, Übermut und Äpfel: schöne Wörter für alle, die gern lange Sätze lesen. " * 6 + "</p>"


def test_lies_are_counted(tmp_path: Path) -> None:
    pages = [
        (TEXT.encode(), "text/html; charset=utf-8"),
        (TEXT.encode("latin-1"), "text/html; charset=utf-8"),
        (TEXT.encode(), "text/html; charset=iso-8859-1"),
        (b'<meta charset="koi8-r">' + TEXT.encode(), "text/html"),
        (TEXT.encode("latin-1"), "text/html"),
        (TEXT.encode("latin-1"), "text/html; charset=latin1"),
    ]
    records = [record(f"https://x.example/{n}", http_response(*one)) for n, one in enumerate(pages)]
    records.append(record("https://x.example/none", http_response(b"no page", "text/plain; charset=utf-8")))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.warc.gz").write_bytes(warc_gz(records))
    jsonl_file(tmp_path / "in/b.jsonl", [{"text": text_of("bread", 1)}])
    config = config_file(
        tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, {"extract": {}}
    )
    run(config)
    store = open_run(str(tmp_path / "run"))
    report = build_report(store)
    counted = {"pages": 6, "declared": 5, "lies": 3, "lie_rate": 0.6}
    assert report.figures["extract"]["charsets"] == counted
    asked = duckdb.sql(
        f"SELECT count(*) FILTER (charset <> charset_declared) / count(charset_declared) "
        f"FROM '{tmp_path}/run/ledger/*.parquet' WHERE charset IS NOT NULL"
    ).fetchall()
    assert asked == [(pytest.approx(0.6),)]
    assert json.loads((tmp_path / "run/report.json").read_text())["figures"]["extract"]["charsets"] == counted
    assert "3 of 5 pages that declare one are in another (60.0%)" in tokenmill("report", tmp_path / "run").stdout
    assert "declared charset wrong" in run_page(store, report)


def test_a_run_over_texts_has_no_such_figure(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "in/b.jsonl", [{"text": text_of("bread", 1)}])
    stages: dict[str, dict[str, str]] = {"redact": {}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    run(config)
    report = build_report(open_run(str(tmp_path / "run")))
    assert report.figures == {}
    assert report.as_json()["figures"] == {}
