"""Paragraphs that several documents repeat, taken out on the way to shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from tests.runs import STAGES, config_file, crawl_file, jsonl_file, ledger, published, run, text_of, tokenmill
from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.commands.explain import explain
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.report.run_page import write_run_page
from tokenmill.pipeline.report.terminal import print_report
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.stages.tokens.tokenizer import load_tokenizer

FOOTER = "Write to the editors of this page if you find a mistake."
STAGES_WITH_PARAGRAPHS: dict[str, Any] = {
    "extract": {},
    "paragraphs": {"uses": "deduplicate", "scope": "paragraph"},
    "deduplicate": {},
    "tokenizer": STAGES["tokenizer"],
    "shard": {"tokens_per_shard": 4000, "validation": 0},
}


def test_a_footer_is_left_in_one_document(tmp_path: Path) -> None:
    crawl_file(tmp_path / "in/bread.warc.gz", "bread", range(8))
    rows = [{"url": f"u{n}", "text": f"{text_of('maps', n)}\n\n{FOOTER}"} for n in range(8)] + [
        {"url": "u8", "text": FOOTER}
    ]
    jsonl_file(tmp_path / "in/maps.jsonl", rows)
    sources = {"web": {"path": str(tmp_path / "in/*.gz")}, "texts": {"path": str(tmp_path / "in/*.jsonl")}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", sources, STAGES_WITH_PARAGRAPHS)
    report, _ = run(config)
    store = open_run(str(tmp_path / "run"))

    found = {row["url"]: row for row in ledger(tmp_path / "run").to_pylist()}
    assert found["u8"]["rule"] == "deduplicate.paragraphs"
    assert found["u8"]["repeated_from"] == found["u0"]["id"]
    assert found["u3"]["repeated_bytes"] >= len(FOOTER)
    [story] = explain(store, "u3")
    assert FOOTER in story["texts"]["read+extract"]
    assert FOOTER not in story["texts"]["paragraphs.edited"]
    assert story["texts"]["paragraphs.edited"] == story["texts"]["paragraphs.edited"].rstrip("\n")

    shards = tmp_path / "run/shard"
    tokenizer = load_tokenizer((shards / "tokenizer.json").read_bytes(), "tokenizer.json")
    decoded = "".join(tokenizer.decode(Shard(file).tokens.tolist()) for file in sorted(shards.glob("train-*.bin")))
    assert decoded.count(FOOTER) == 1
    count = report.stages["paragraphs"]
    assert count.bytes_entered - count.bytes_kept == sum(row["repeated_bytes"] or 0 for row in found.values())
    assert report.stages["deduplicate"].bytes_entered == count.bytes_kept
    assert verify(store).problems == []

    console = Console(record=True, width=200)
    print_report(console, report)
    assert f"paragraphs: 9 documents held: {FOOTER}" in console.export_text()

    page = Path(write_run_page(store, report)).read_text()
    assert f"paragraphs: 9 documents held: {FOOTER}" in page

    result = tokenmill("run", config, "--workers", "1", "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    assert published(tmp_path / "one") == published(tmp_path / "run")
    again, _ = run(config)
    assert again.tasks_run == 0
