"""Quality rules within a run: what C4's line rules do to texts, counts and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import ledger, published, receipts_of, run
from tokenmill.pipeline.commands.explain import explain
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.storage.run_folder import open_run

C4 = "stages.quality.rules={gopher: {min_words: 30}, c4: {min_sentences: 3}}"


def documents_file(output: Path) -> str:
    return next(name for name in receipts_of(output, "language+quality")[0].outputs if name != "ledger")


def test_edited_texts_are_what_later_stages_see(crawl: Path) -> None:
    report, _ = run(crawl, C4)
    output = crawl.parent / "run"
    assert documents_file(output) == "documents"
    rows = [row for row in ledger(output).to_pylist() if row["fate"] == "kept"]
    edited = [row for row in rows if row["removed_line_terminal_punctuation"]]
    assert edited
    texts = explain(open_run(str(output)), edited[0]["id"])[0]["texts"]
    before, after = (texts[step].splitlines() for step in ("read+extract", "language+quality"))
    gone = [line for line in before if line and line not in after]
    assert len(gone) == edited[0]["removed_line_terminal_punctuation"]
    assert [line for line in before if line and line not in gone] == after
    count = report.stages["quality"]
    assert report.stages["language"].bytes_kept == count.bytes_entered > count.bytes_kept
    assert count.bytes_kept == report.stages["deduplicate"].bytes_entered
    split_bytes = sum(split["bytes"] for split in report.splits["shard"].values())
    assert split_bytes == report.stages["deduplicate"].bytes_kept
    assert verify(open_run(str(output))).problems == []


@pytest.mark.parametrize("rules", ["[gopher]", "[gopher, gopher_repetition, fineweb]"])
def test_sets_that_edit_nothing_write_no_text(rules: str, crawl: Path) -> None:
    run(crawl, C4)
    report, observer = run(crawl, f"stages.quality.rules={rules}")
    output = crawl.parent / "run"
    assert "language+quality" in observer.steps()
    assert documents_file(output) == "kept"
    assert report.stages["quality"].kept
    run(crawl, f"stages.quality.rules={rules}", output=crawl.parent / "fresh")
    assert published(output) == published(crawl.parent / "fresh")
