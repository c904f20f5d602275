"""Two runs side by side, against their ledgers."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.cluster import Cluster
from tests.runs import crawl_file, jsonl_file, ledger, run, text_of, tokenmill


def test_what_changed_between_two_runs(crawl: Path, cluster: Cluster, tmp_path: Path) -> None:
    one, two = crawl.parent / "run", tmp_path / "two"
    run(cluster, crawl)
    jsonl_file(tmp_path / "crawl/more.jsonl", [{"text": text_of("bees", 40)}, {"text": "Zu kurz, und auf Deutsch."}])
    crawl_file(tmp_path / "crawl/0.warc.gz", "bread", range(16))  # two pages more at its end
    scores = sorted(row["language_score"] for row in ledger(one).to_pylist() if row["fate"] == "kept")
    least = round(scores[len(scores) // 3], 5)
    run(cluster, crawl, f"stages.language.min_score={least}", "stages.shard.validation=0.2", output=two)
    result = tokenmill("compare", one, two, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["config"]["stages.language.min_score"][1] == least
    assert found["config"]["stages.shard.validation"] == [0.3, 0.2]
    assert set(found["config"]) == {"output", "stages.language.min_score", "stages.shard.validation"}
    before, after = ({row["id"]: row for row in ledger(output).to_pylist()} for output in (one, two))
    both = before.keys() & after.keys()
    gone = {name for name in both if before[name]["fate"] == "kept" != after[name]["fate"]}
    kept = {name for name in both if before[name]["fate"] != "kept" == after[name]["fate"]}
    assert gone
    assert found["newly_gone"]["documents"] == len(gone)
    assert found["newly_kept"]["documents"] == len(kept)
    assert {row["id"] for row in found["newly_gone"]["examples"]} <= gone
    assert all(row["rule"] == after[row["id"]]["rule"] for row in found["newly_gone"]["examples"])
    assert found["only_second"] == len(after.keys() - before.keys()) >= 4
    assert found["only_first"] == len(before.keys() - after.keys())
    for rows, number in ((before, 0), (after, 1)):
        stayed = [row for row in rows.values() if row["fate"] == "kept"]
        assert found["stages"]["shard"][number] == len(stayed)
        assert found["words"]["language"]["en"][number] == len([row for row in stayed if row["language"] == "en"])
        assert sum(pair[number] for pair in found["tokens"].values()) == sum(row["tokens"] for row in stayed)
        unsure = [row for row in rows.values() if row["rule"] == "language.min_score"]
        assert found["rules"]["language.min_score"][number] == len(unsure)
    shown = " ".join(tokenmill("compare", one, two).stdout.split())
    assert f"{len(gone):,} documents are gone now" in shown
    assert "stages.language.min_score" in shown
    same = json.loads(tokenmill("compare", one, one, "--json").stdout)
    assert same["config"] == {}
    assert same["newly_gone"]["documents"] == same["only_first"] == 0


def test_a_run_that_is_none(tmp_path: Path) -> None:
    result = tokenmill("compare", tmp_path, tmp_path)
    assert result.returncode == 1
    assert "there is no run here" in " ".join(result.stderr.split())
