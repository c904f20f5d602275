"""Real crawls and texts in one DAG, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipeline.cluster import Cluster
from pipeline.report import open_run
from pipeline.verify import verify
from tests.runs import config_file, ledger, run

STAGES = {
    "extract": {},
    "language": {"keep": ["en"]},
    "quality": {"rules": ["gopher"]},
    "deduplicate": {"similarity": 0.8},
    "tokenizer": {"vocab_size": 8192, "sample_bytes": 4_000_000},
    "shard": {"tokens_per_shard": 1_000_000},
}


def test_crawl_archives_and_texts(shared_data: Path, tmp_path: Path, cluster: Cluster) -> None:
    sources = {
        "crawl": {"path": str(shared_data / "crawl/*.warc.gz")},
        "archives": {"path": str(shared_data / "archives/*")},
        "texts": {"path": str(shared_data / "text.jsonl.gz")},
    }
    outcome, _ = run(cluster, config_file(tmp_path / "c.yaml", tmp_path / "run", sources, STAGES))
    report = outcome.report
    before = None
    for name, count in report.stages.items():
        assert count.balances(), name
        assert before is None or count.entered == before, name
        before = count.kept
    rows = ledger(tmp_path / "run")
    by_source = rows.column("source").value_counts().to_pylist()
    counts = {item["values"]: item["counts"] for item in by_source}
    assert counts["texts"] == 7017
    assert counts["crawl"] == 788
    assert report.failed == 0
    assert verify(open_run(str(tmp_path / "run"))).problems == []
    card = json.loads((tmp_path / "run/shard/dataset.json").read_text())
    for split in card["splits"].values():
        for shard in split["shards"]:
            tokens = np.memmap(tmp_path / "run/shard" / f"{shard['name']}.bin", np.uint16, "r")
            assert len(tokens) == shard["tokens"]
    peak = max(cost.peak_memory_bytes for cost in report.costs.values())
    assert peak < 1_500_000_000
