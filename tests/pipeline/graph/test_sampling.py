"""`--sample`: the same heads of the same partitions each time, in a run of its own that is like any other."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.runs import STAGES, config_file, jsonl_file, ledger, published, run, text_of
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.pipeline.graph.sampling import SAMPLED_PARTITIONS, sampled, share
from tokenmill.pipeline.report.run_page import run_page
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.run_folder import open_run


def partitions(**counts: int) -> list[Partition]:
    return [Partition(source, f"{n}.jsonl", 1, "") for source in sorted(counts) for n in range(counts[source])]


def test_each_source_is_asked_in_turn() -> None:
    found = sampled(partitions(big=1000, middle=40, small=2))
    assert [sum(one.source == name for one in found) for name in ("big", "middle", "small")] == [7, 7, 2]
    assert len(sampled(partitions(**{f"s{n:02d}": 3 for n in range(20)}))) == 20
    assert len(sampled(partitions(one=5))) == 5
    assert (share(1000, 16), share(1, 16), share(32, 16)) == (63, 1, 2)


def test_the_choice_depends_on_names_alone() -> None:
    known = partitions(a=50, b=50)
    shuffled = random.Random(1).sample(known, len(known))
    assert sampled(shuffled) == sampled(known)
    assert len(sampled(known)) == SAMPLED_PARTITIONS
    assert sampled(known) != known[:8] + known[50:58]


def test_a_sample_is_the_head_of_the_run(crawl: Path, tmp_path: Path) -> None:
    stages = STAGES | {"shard": {"validation": 0.005}, "tokenizer": {"vocab_size": 32768}}
    config = config_file(
        tmp_path / "small.yaml", tmp_path / "run", load_config(str(crawl)).model_dump()["sources"], stages
    )
    report, _ = run(config, "sample=14", output=tmp_path / "sample")
    run(config, "sample=14", output=tmp_path / "again")
    assert published(tmp_path / "sample") == published(tmp_path / "again")

    only_read = config_file(tmp_path / "full.yaml", tmp_path / "full", load_config(str(crawl)).model_dump()["sources"])
    run(only_read, 'stages={"extract": {}, "language": {"keep": ["en"]}}')
    columns = ["id", "url", "date", "offset", "bytes", "digest", "metadata", "text_bytes", "language_score"]
    everything = ledger(tmp_path / "full").select(columns).to_pylist()
    rows = ledger(tmp_path / "sample").select(columns).to_pylist()
    heads = [row for row in everything if int(row["id"].rpartition("#")[2]) < 4]
    assert rows == heads
    assert len(rows) == 16
    assert report.ledger.entered == report.stages["read"].entered == 16
    # a split of 0.5 % of 16 documents is empty, or else (by the name of the folder) of one
    splits = report.splits["shard"]
    assert report.ledger.kept == splits["train"]["documents"] + splits["validation"]["documents"] > 0
    assert splits["validation"]["documents"] < 3
    assert not verify(open_run(str(tmp_path / "sample"))).problems
    assert "Sample of about 14 documents: 16 records came in" in run_page(open_run(str(tmp_path / "sample")), report)
    _, record = run(config, "sample=14", output=tmp_path / "sample")
    assert record.steps() == set()


def test_records_that_are_no_documents_do_not_count(tmp_path: Path) -> None:
    rows = ["{broken", {"text": ""}, *({"text": text_of("maps", n)} for n in range(5))]
    jsonl_file(tmp_path / "texts.jsonl", rows)
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl")}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", sources, STAGES)
    report, _ = run(config, 'stages={"language": {"keep": ["en"]}}', "sample=2")
    count = report.stages["read"]
    assert (count.entered, count.kept, count.dropped, count.failed) == (4, 2, {"read.empty": 1}, {"read.json": 1})
    with pytest.raises(RunError, match="a larger sample may hold some"):
        run(config, "sample=2", "stages.language.keep=[xx]")


def test_a_sample_has_an_output_of_its_own(crawl: Path, tmp_path: Path) -> None:
    assert load_config(str(crawl), sample=9).output == str(tmp_path / "run-sample-9")
    assert load_config(str(crawl), output="here", sample=9).output == "here"
    assert load_config(str(crawl), ["sample=9"]).output == str(tmp_path / "run")
    whole, part = (RunPlan.of(load_config(str(crawl), sample=n), str(crawl)) for n in (None, 9))
    assert [p.name for p in whole.partitions] == [p.name for p in part.partitions]
    first, second = (next(iter(state.tasks("read+extract"))) for state in (whole, part))
    assert second.inputs["read"].pop("limit") == 3
    assert first.inputs == second.inputs
