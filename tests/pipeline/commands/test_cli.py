"""The command line as people meet it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.runs import ledger, run, tokenmill, tokenmill_here


@pytest.mark.parametrize("command", ["run", "plan", "report", "explain", "what-if", "locate", "verify", "schema"])
def test_help_teaches_by_example(command: str) -> None:
    assert command in tokenmill_here("--help").stdout
    result = tokenmill_here(command, "--help")
    assert result.returncode == 0
    assert f"tokenmill {command}" in result.stdout


def test_wrong_usage() -> None:
    assert tokenmill("run").returncode == 2
    assert tokenmill("nonsense").returncode == 2
    missing = tokenmill("run", "no/such.yaml")
    assert missing.returncode == 2
    assert "no/such.yaml" in missing.stderr
    nowhere = tokenmill("report", "no/such/run")
    assert nowhere.returncode == 1
    assert "there is no run here" in " ".join(nowhere.stderr.split())


def test_locate_and_explain_are_inverse(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    card = json.loads((output / "shard/dataset.json").read_text())
    total = card["splits"]["train"]["tokens"]
    tokens = np.concatenate(
        [np.fromfile(output / f"shard/{s['name']}.bin", np.uint16) for s in card["splits"]["train"]["shards"]]
    )
    for offset in (0, total // 3, total - 1):
        place = json.loads(tokenmill("locate", output, "train", str(offset), "--json").stdout)
        assert place["token_id"] == tokens[offset]
        story = json.loads(tokenmill("explain", output, place["document"], "--json").stdout)[0]
        assert story["fate"] == "kept"
        assert story["identity"]["offset"] == place["record_offset"]
        where = story["tokens"][0]
        assert where["split_offset"] <= offset < where["split_offset"] + where["tokens"]
        assert place["before"].lstrip()[-20:] in story["texts"]["read+extract"]
    beyond = tokenmill("locate", output, "train", str(total))
    assert beyond.returncode == 2
    assert f"{total - 1:,}" in beyond.stderr
    assert tokenmill("locate", output, "trian", "0").returncode == 2


def test_explain_tells_why_and_by_which_survivor(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    row = next(row for row in ledger(output).to_pylist() if row["stage"] == "deduplicate")
    shown = " ".join(tokenmill("explain", output, row["url"]).stdout.split())
    assert f"dropped at deduplicate by {row['rule']}" in shown
    assert row["survivor"].rpartition("/")[2] in shown.replace(" ", "")
    survivor = tokenmill("explain", output, row["survivor"]).stdout
    assert "kept" in survivor
    assert "<article>" in survivor, "the page as it stands in its source"
    unknown = tokenmill("explain", output, "https://nowhere.example/")
    assert unknown.returncode == 1
    assert "no document has the id or the URL" in " ".join(unknown.stderr.split())


def test_plan_names_what_is_done_and_what_a_change_makes_invalid(crawl: Path) -> None:
    fresh = {s["step"]: s for s in json.loads(tokenmill("plan", crawl, "--json").stdout)["steps"]}
    assert fresh["read+extract"]["state"] == "pending"
    assert fresh["language+quality"]["state"] == "waits"
    run(crawl)
    done = json.loads(tokenmill("plan", crawl, "--json").stdout)["steps"]
    assert {step["state"] for step in done} == {"done"}
    setting = "stages.language.min_score=0.8"
    changed = {s["step"]: s for s in json.loads(tokenmill("plan", crawl, "--set", setting, "--json").stdout)["steps"]}
    assert changed["read+extract"]["state"] == "done"
    assert changed["language+quality"]["state"] == "invalid"
    assert "min_score: 0.65 -> 0.8" in changed["language+quality"]["because"]
    assert changed["shard.pack"]["state"] == "waits"


def test_report_for_machines_equals_the_ledger(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    report = json.loads(tokenmill("report", output, "--json").stdout)
    rows = ledger(output).to_pylist()
    assert report["documents"]["in"] == len(rows)
    assert report["documents"]["kept"] == sum(row["fate"] == "kept" for row in rows)
    for stage in report["stages"]:
        for rule, count in stage["dropped"].items():
            assert count == sum(row["stage"] == stage["stage"] and row["rule"] == rule for row in rows)
    shard_rows = sum(pq.read_metadata(file).num_rows for file in (output / "shard").glob("*.parquet"))
    assert shard_rows == report["documents"]["kept"]


def test_two_runs_do_not_write_one_folder(crawl: Path) -> None:
    from tokenmill.pipeline.storage.store import Store

    with Store(str(crawl.parent / "run")).locked():
        result = tokenmill("run", crawl)
    assert result.returncode == 1
    assert "another tokenmill run" in " ".join(result.stderr.split())
