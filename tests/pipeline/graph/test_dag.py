"""Joins, branches, second instances and users' own stages."""

from __future__ import annotations

from pathlib import Path

from tests.runs import config_file, crawl_file, jsonl_file, ledger, run, text_of
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.run.run_plan import RunPlan

OWN_STAGE = '''
import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from tokenmill.stages.stage import Filter, Verdicts


class NoWord(Filter):
    """Drops documents that contain a word."""

    word: str = Field(description="The word.")

    def judge(self, documents):
        found = pc.match_substring(documents.column("text"), self.word).to_numpy(zero_copy_only=False)
        rules = [f"no_word.{self.word}" if hit else None for hit in found]
        return Verdicts.of(found.astype(np.uint8), rule=rules, value=found.astype(float), threshold=np.zeros(len(found)))
'''


def test_two_sources_with_different_filters_meet_at_one_deduplicate(tmp_path: Path) -> None:
    crawl_file(tmp_path / "web.warc.gz", "bread", range(6))
    short = " ".join(text_of("tides", 1).split()[:30])
    rows = [{"url": f"https://text.example/{n}", "text": text_of("bread", n)} for n in range(3)]
    rows += [{"url": "https://text.example/short", "text": short}]
    jsonl_file(tmp_path / "texts.jsonl", rows)
    stages = {
        "extract": {"from": "web"},
        "strict": {"uses": "quality", "rules": ["gopher"]},
        "lenient": {"uses": "quality", "from": "texts", "rules": {"gopher": {"min_words": 10, "min_stop_words": 0}}},
        "deduplicate": {"from": ["strict", "lenient"]},
        "tokenizer": {"vocab_size": 400},
        "shard": {"validation": 0},
    }
    sources = {"web": {"path": str(tmp_path / "web.warc.gz")}, "texts": {"path": str(tmp_path / "texts.jsonl")}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", sources, stages)
    report, _ = run(config)
    rows_by_url = {row["url"]: row for row in ledger(tmp_path / "run").to_pylist()}
    assert rows_by_url["https://text.example/short"]["fate"] == "kept"
    copies = [rows_by_url[f"https://text.example/{n}"] for n in range(3)]
    pages = [rows_by_url[f"https://bread.example/{n}"] for n in range(3)]
    for copy, page in zip(copies, pages, strict=True):
        gone, stays = (copy, page) if copy["fate"] == "dropped" else (page, copy)
        assert (gone["fate"], stays["fate"]) == ("dropped", "kept")
        assert gone["stage"] == "deduplicate"
        assert gone["survivor"] == stays["id"]
        assert stays["copies"] == 2
    assert report.stages["deduplicate"].entered == 10
    assert report.stages["deduplicate"].kept == 7


def test_one_partition_by_two_ways_and_a_tokenizer_of_its_own_branch(tmp_path: Path) -> None:
    """Both branches of one source meet again: each document once, in order, kept if either branch keeps it."""
    jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("maps", n)} for n in range(12)])
    middle = sorted(len(text_of("maps", n).split()) for n in range(12))[6]
    stages = {
        "few": {"uses": "quality", "from": "texts", "rules": {"gopher": {"min_words": middle - 2}}},
        "trained": {"uses": "tokenizer", "from": "few", "vocab_size": 400},
        "other": {"uses": "quality", "from": "texts", "rules": {"gopher": {"max_words": middle}}},
        "shard": {"from": ["few", "other"], "tokenizer": "trained", "validation": 0},
    }
    config = config_file(
        tmp_path / "c.yaml", tmp_path / "run", {"texts": {"path": str(tmp_path / "texts.jsonl")}}, stages
    )
    report, _ = run(config)
    table = ledger(tmp_path / "run")
    assert table.column("position").to_pylist() == list(range(12))
    assert report.stages["few"].kept < 12
    assert report.stages["other"].kept < 12
    assert report.ledger.kept == 12
    assert report.splits["shard"]["train"]["documents"] == 12
    assert {"few_words", "other_words"} <= set(table.column_names)


def test_own_stage_class_and_its_edits(tmp_path: Path) -> None:
    package = tmp_path / "my_stages"
    package.mkdir()
    module = package / "my_filters.py"
    module.write_text(OWN_STAGE)
    import sys

    sys.path.append(str(package))
    try:
        jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("soap", n)} for n in range(10)])
        stages = {"mine": {"uses": "my_filters:NoWord", "word": "kettle"}}
        config = config_file(
            tmp_path / "c.yaml", tmp_path / "run", {"texts": {"path": str(tmp_path / "texts.jsonl")}}, stages
        )
        run(config)
        for row, number in zip(ledger(tmp_path / "run").to_pylist(), range(10), strict=True):
            assert (row["rule"] == "no_word.kettle") == ("kettle" in text_of("soap", number))
    finally:
        sys.path.remove(str(package))


def test_tokenizer_file_named_by_shard(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("soap", n)} for n in range(10)])
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl")}}
    first = config_file(
        tmp_path / "a.yaml", tmp_path / "a", sources, {"tokenizer": {"vocab_size": 300}, "shard": {"validation": 0}}
    )
    run(first)
    given = tmp_path / "a" / "tokenizer" / "tokenizer.json"
    second = config_file(
        tmp_path / "b.yaml", tmp_path / "b", sources, {"shard": {"validation": 0, "tokenizer": str(given)}}
    )
    run(second)
    assert (tmp_path / "a/shard/train-00000.bin").read_bytes() == (tmp_path / "b/shard/train-00000.bin").read_bytes()


def test_steps_end_after_costly_stages_and_at_branches(crawl: Path) -> None:
    state = RunPlan.of(load_config(str(crawl)), str(crawl))
    assert [step.name for step in state.steps][:3] == ["read+extract", "language+quality", "deduplicate.signatures"]
