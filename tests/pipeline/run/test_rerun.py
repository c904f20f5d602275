"""Only what changed runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.runs import crawl_file, published, run
from tokenmill.pipeline.graph.stage_spec import _load_stage
from tokenmill.stages.quality import stage as quality
from tokenmill.stages.registry import KINDS


def test_second_run_has_nothing_to_do(crawl: Path) -> None:
    first, _ = run(crawl)
    before = published(crawl.parent / "run")
    again, observer = run(crawl)
    assert first.tasks_run > 0
    assert again.tasks_run == 0
    assert observer.steps() == set()
    assert published(crawl.parent / "run") == before


def test_a_stage_s_file_may_move(crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run(crawl)
    (tmp_path / "another_house").mkdir()
    (tmp_path / "another_house" / "rooms.py").write_text(Path(quality.__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KINDS, "quality", "another_house.rooms:Quality")
    _load_stage.cache_clear()
    again, _ = run(crawl)
    assert type(_load_stage("quality", "{}")).__module__ == "another_house.rooms"
    _load_stage.cache_clear()
    assert first.tasks_run > 0
    assert again.tasks_run == 0
    nodes = json.loads((crawl.parent / "run" / "run.json").read_text())["nodes"]
    assert {name: node["uses"] for name, node in nodes.items()} == {name: name for name in nodes}


def test_min_score_leaves_extraction_alone(crawl: Path) -> None:
    run(crawl)
    _, observer = run(crawl, "stages.language.min_score=0.7")
    assert "language+quality" in observer.steps()
    assert "read+extract" not in observer.steps()


def test_same_result_of_an_earlier_step_stops_the_rerun(crawl: Path) -> None:
    """A threshold that changes nobody's fate changes nothing downstream but the ledger."""
    run(crawl)
    _, observer = run(crawl, "stages.language.min_score=0.64")
    assert observer.steps() <= {"language+quality", "ledger"}


def test_vocab_size_reruns_from_the_tokenizer(crawl: Path) -> None:
    run(crawl)
    _, observer = run(crawl, "stages.tokenizer.vocab_size=700")
    before_tokenizer = {"read+extract", "language+quality"} | {s for s in observer.ran if s.startswith("deduplicate")}
    assert not before_tokenizer & observer.steps()
    assert {"tokenizer.train", "shard.encode", "shard.pack"} <= observer.steps()


def test_one_changed_input_is_the_only_one_read_again(crawl: Path) -> None:
    run(crawl)
    crawl_file(crawl.parent / "crawl" / "1.warc.gz", "bees", range(15))
    report, observer = run(crawl)
    assert len(observer.ran["read+extract"]) == 1
    assert "1.warc.gz" in observer.ran["read+extract"][0]
    assert report.stages["read"].entered == 62


def test_touched_input_is_read_again_and_nothing_else_runs(crawl: Path) -> None:
    run(crawl)
    os.utime(crawl.parent / "crawl" / "1.warc.gz", (1_700_000_000, 1_700_000_000))
    _, observer = run(crawl)
    assert observer.steps() == {"read+extract"}


def test_added_file_reruns_no_other_partition_before_the_first_gather(crawl: Path) -> None:
    run(crawl)
    crawl_file(crawl.parent / "crawl" / "0-new.warc.gz", "soap", range(5))
    _, observer = run(crawl)
    for step in ("read+extract", "language+quality", "deduplicate.signatures"):
        assert len(observer.ran[step]) == 1, step


def test_removed_file_leaves_no_trace(crawl: Path, tmp_path: Path) -> None:
    run(crawl)
    (crawl.parent / "crawl" / "2.warc.gz").unlink()
    run(crawl)
    run(crawl, output=tmp_path / "fresh")
    assert published(crawl.parent / "run") == published(tmp_path / "fresh")


def test_lost_output_is_made_again(crawl: Path) -> None:
    run(crawl)
    before = published(crawl.parent / "run")
    shard = crawl.parent / "run" / "shard" / "train-00000.bin"
    shard.unlink()
    _, observer = run(crawl)
    assert observer.steps() == {"shard.pack"}
    assert published(crawl.parent / "run") == before


@pytest.mark.parametrize("setting", ["stages.shard.tokens_per_shard=100000", "stages.shard.validation=0.4"])
def test_no_shard_of_an_earlier_config_stays(crawl: Path, tmp_path: Path, setting: str) -> None:
    run(crawl)
    run(crawl, setting)
    run(crawl, setting, output=tmp_path / "fresh")
    assert published(crawl.parent / "run") == published(tmp_path / "fresh")
