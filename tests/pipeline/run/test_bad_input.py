"""Broken input is named, ends the run with exit code 3, and costs no other document."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

from tests.runs import STAGES, config_file, crawl_file, jsonl_file, ledger, text_of, tokenmill


def test_each_broken_file_is_named_and_all_else_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "crawl"
    whole = crawl_file(folder / "whole.warc.gz", "bread", range(8))
    cut = crawl_file(folder / "cut.warc.gz", "bees", range(8))
    cut.write_bytes(cut.read_bytes()[:-300])
    (folder / "noise.warc.gz").write_bytes(os.urandom(4000))
    (folder / "empty.warc.gz").write_bytes(b"")
    rows = [
        {"text": text_of("tides", 1), "url": "https://text.example/1"},
        '{"text": "this line breaks off',
        {"txet": text_of("tides", 2)},
        {"text": 17},
        {"text": text_of("tides", 3), "url": "https://text.example/3"},
    ]
    jsonl_file(folder / "rows.jsonl", rows)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": text_of("maps", 1)}).encode() + b"\n")[:-9])
    sources = {"crawl": {"path": [str(whole.parent / "*.warc.gz"), str(folder / "*.jsonl*")]}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", sources, {**STAGES, "shard": {"validation": 0}})

    result = tokenmill("run", config, "--workers", "0")

    assert result.returncode == 3, result.stderr + result.stdout
    assert "up to date" not in result.stdout
    shown = " ".join(result.stdout.split())
    report = json.loads(tokenmill("report", tmp_path / "run", "--json").stdout)
    named = {(failure["partition"].rsplit("/", 1)[1], failure["rule"]) for failure in report["failures"]}
    assert named >= {
        ("cut.warc.gz", "read.truncated"),
        ("noise.warc.gz", "read.corrupt"),
        ("empty.warc.gz", "read.empty_file"),
        ("rows.jsonl", "read.json"),
        ("rows.jsonl", "read.wrong_field"),
        ("cut.jsonl.gz", "read.truncated"),
    }
    assert "noise.warc.gz" in shown.replace(" ", "")
    table = ledger(tmp_path / "run")
    kept = {row["url"] for row in table.to_pylist() if row["fate"] == "kept"}
    assert kept >= {f"https://bread.example/{n}" for n in range(8)}
    assert kept >= {f"https://bees.example/{n}" for n in range(7)}
    assert kept >= {"https://text.example/1", "https://text.example/3"}
    assert tokenmill("run", config, "--workers", "0").returncode == 3, (
        "a run that is up to date still says that input failed"
    )


def test_hostile_pages_cost_no_other(tmp_path: Path) -> None:
    """A page beyond the size cap, NULs, no text, one line of 10 MB, deep nesting."""
    from tests.warc_writer import page, warc_gz

    folder = tmp_path / "crawl"
    folder.mkdir()
    crawl_file(folder / "good.warc.gz", "bread", range(4))
    records = [
        page("https://odd.example/huge", "<p>" + "word " * 9_000_000 + "</p>"),
        page("https://odd.example/nul", "<p>\0" + text_of("soap", 1) + "\0</p>"),
        page("https://odd.example/none", "<html><body><img src=x></body></html>"),
        page("https://odd.example/line", "<p>" + "a line without an end " * 480_000 + "</p>"),
        page("https://odd.example/deep", "<div>" * 1_000_000 + text_of("soap", 2)),
    ]
    (folder / "odd.warc.gz").write_bytes(warc_gz(records))
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"crawl": {"path": str(folder / "*.gz")}})
    result = tokenmill("run", config, "--workers", "0")
    assert result.returncode == 3, result.stderr + result.stdout
    fates = {row["url"].rpartition("/")[2]: row for row in ledger(tmp_path / "run").to_pylist()}
    assert fates["huge"]["rule"] == "read.too_large"
    assert fates["none"]["rule"] == "extract.no_text"
    assert fates["nul"]["fate"] == "kept"
    assert fates["line"]["fate"] in ("kept", "dropped")
    assert fates["deep"]["fate"] in ("kept", "dropped", "failed")
    assert all(fates[str(number)]["fate"] == "kept" for number in range(4))


def test_a_run_that_keeps_nothing_fails_and_says_where_to_look(tmp_path: Path) -> None:
    crawl_file(tmp_path / "a.warc.gz", "bread", range(3))
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "a.warc.gz")}})
    result = tokenmill("run", config, "--workers", "0", "--set", "stages.language.keep=[de]")
    assert result.returncode == 1
    assert "no document is left" in " ".join(result.stderr.split())
    report = tokenmill("report", tmp_path / "run")
    assert "language.not_kept" in report.stdout
    assert "has not finished" in " ".join(report.stdout.split())
