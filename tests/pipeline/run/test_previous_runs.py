"""A run that drops what an earlier one kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from tests.runs import STAGES, config_file, crawl_file, jsonl_file, ledger, run, text_of
from tokenmill.pipeline.commands.explain import explain
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.report.run_page import write_run_page
from tokenmill.pipeline.storage.run_folder import open_run


def stages(**deduplicate: Any) -> dict[str, Any]:
    """Stages without shards."""
    return {"extract": {}, "language": {"keep": ["en"]}, "deduplicate": deduplicate}


def june(folder: Path) -> Path:
    """A run over one file of a crawl."""
    crawl_file(folder / "june" / "a.warc.gz", "bread", range(12))
    output = folder / "runs" / "june"
    run(config_file(folder / "june.yaml", output, {"web": {"path": str(folder / "june/*.gz")}}, stages()))
    return output


def july(folder: Path, **deduplicate: Any) -> Path:
    """A config over a later crawl that has some of the same pages."""
    crawl_file(folder / "july" / "a.warc.gz", "bread", range(6, 18))
    jsonl_file(
        folder / "july" / "b.jsonl", [{"url": f"u{n}", "text": text_of("bread", n) + " Truly."} for n in range(4)]
    )
    sources = {"text": {"path": str(folder / "july/*.jsonl")}, "web": {"path": str(folder / "july/*.gz")}}
    return config_file(folder / "july.yaml", folder / "runs" / "july", sources, stages(**deduplicate))


def test_what_june_kept_is_not_kept_in_july(tmp_path: Path) -> None:
    earlier = june(tmp_path)
    config = july(tmp_path, against=[str(earlier)])
    report, _ = run(config)
    rows = ledger(tmp_path / "runs" / "july").to_pylist()
    gone = [row for row in rows if row["rule"] == "deduplicate.previous_run"]
    assert len(gone) == 6 + 4
    kept_in_june = {row["id"]: row for row in ledger(earlier).to_pylist() if row["fate"] == "kept"}
    for row in gone:
        assert row["survivor_run"] == str(earlier)
        assert row["survivor"] in kept_in_june
        if row["source"] == "web":
            assert kept_in_june[row["survivor"]]["url"] == row["url"]
            assert row["similarity"] == 1
        else:
            assert 0.8 <= row["similarity"] < 1
    assert report.stages["deduplicate"].dropped == {"deduplicate.previous_run": 10}
    [story] = explain(open_run(str(tmp_path / "runs" / "july")), gone[0]["id"])
    assert story["measures"]["survivor_run"] == str(earlier)
    store = open_run(str(tmp_path / "runs" / "july"))
    assert verify(store).problems == []
    page = write_run_page(store, report)
    assert "deduplicate.previous_run" in (tmp_path / "runs" / "july" / page.rpartition("/")[2]).read_text()

    again, _ = run(config)
    assert again.tasks_run == 0
    crawl_file(tmp_path / "june" / "a.warc.gz", "bread", range(8))
    run(tmp_path / "june.yaml")
    after, observer = run(config)
    assert {"deduplicate.against", "deduplicate.verdicts"} <= observer.steps()
    assert not {"read+extract", "deduplicate.signatures", "deduplicate.candidates"} & observer.steps()
    assert after.stages["deduplicate"].dropped == {"deduplicate.previous_run": 2 + 4}


def test_shards_of_two_runs_share_no_text(tmp_path: Path) -> None:
    """Two runs to shards: together they hold each text once."""
    earlier = june(tmp_path)
    config = july(tmp_path, against=[str(earlier)])
    settings = [f"stages.{name}={json.dumps(STAGES[name])}" for name in ("tokenizer", "shard")]
    run(config, *settings, "stages.shard.validation=0")
    texts = [
        ledger(folder).filter(pc.equal(ledger(folder).column("fate"), "kept"))
        for folder in (earlier, tmp_path / "runs" / "july")
    ]
    urls = [url for table in texts for url in table.column("url").to_pylist()]
    assert len(urls) == len(set(urls)) == 18


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ngram": 4}, "ngram 5, seed 1, 14 bands x 8 rows, this stage's ngram 4, seed 1, 14 bands x 8 rows"),
        ({"seed": 7}, "seed 1, 14 bands x 8 rows, this stage's ngram 5, seed 7"),
        ({"bands": 20, "rows": 5}, "14 bands x 8 rows, this stage's ngram 5, seed 1, 20 bands x 5 rows"),
    ],
)
def test_signatures_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    earlier = june(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        run(july(tmp_path, against=[str(earlier)], **settings))
    assert f"july.yaml: stages.deduplicate: the previous run {earlier}: its signatures" in str(caught.value)


def test_runs_that_cannot_be_used(tmp_path: Path) -> None:
    earlier = june(tmp_path)
    own = tmp_path / "runs" / "july"
    same = own.parent / "june" / ".." / "july"
    for run_named, message in ((tmp_path, "no run here"), (own, "is this run itself"), (same, "is this run itself")):
        with pytest.raises(ConfigError, match=message):
            run(july(tmp_path, against=[str(run_named)]))
    described = json.loads((earlier / "run.json").read_text())
    for changed, message in (
        ({"complete": False}, "has not finished"),
        (
            {"nodes": {name: node for name, node in described["nodes"].items() if name != "deduplicate"}},
            "no stage like",
        ),
    ):
        (earlier / "run.json").write_text(json.dumps(described | changed))
        with pytest.raises(ConfigError, match=message):
            run(july(tmp_path, against=[str(earlier)]))
