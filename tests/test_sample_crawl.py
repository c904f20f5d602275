"""The quickstart's crawl is what its generator makes, and its run finds what was planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.paths import CONFIGS
from tests.runs import ledger, run
from tests.sample_crawl.__main__ import files


def test_generator_makes_the_same_content() -> None:
    """Compared once decompressed: zlib's builds differ in the bytes they choose for the same content."""
    import gzip

    for name, content in files().items():
        there = (CONFIGS / "quickstart" / name).read_bytes()
        if name.startswith("crawl"):
            assert gzip.decompress(there) == gzip.decompress(content), name
        elif name.endswith(".json"):
            assert there == content, name


def test_quickstart_finds_what_was_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    report, _ = run(CONFIGS / "quickstart.yaml", output=tmp_path / "run")
    assert report.failed == 0
    manifest = json.loads((CONFIGS / "quickstart/manifest.json").read_text())
    rows = {row["url"]: row for row in ledger(tmp_path / "run").to_pylist()}
    kept = {url for url, row in rows.items() if row["fate"] == "kept"}
    assert len(kept & set(manifest["ordinary"])) > 0.9 * len(manifest["ordinary"])
    assert not kept & set(manifest["poor"])
    assert not kept & set(manifest["other_languages"])
    for url, original in manifest["near_duplicates"].items():
        assert len({url, original} & kept) <= 1
    languages = {rows[url]["language"] for url in manifest["other_languages"]}
    assert {"de", "fr", "es", "it", "ja", "ru"} <= languages
    charsets = {rows[f"https://odd.example/{name}"]["charset"] for name in ("header", "lies", "meta", "wide")}
    assert charsets == {"cp1252", "shift_jis", "utf-16-le"}


def test_commoncrawl_config_is_sound(tmp_path: Path) -> None:
    """Its stages fit together; its bucket is not asked."""
    from tokenmill.pipeline.graph.config import load_config
    from tokenmill.pipeline.graph.dag import build_dag

    path = CONFIGS / "commoncrawl.yaml"
    dag = build_dag(load_config(str(path)), str(path), {"crawl": ["html"]})
    assert list(dag.nodes) == ["extract", "language", "quality", "deduplicate", "tokenizer", "shard"]
