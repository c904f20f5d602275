"""Real crawls and texts in one DAG, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.browser import browser
from tests.runs import config_file, ledger, run
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.report.report import Report
from tokenmill.pipeline.report.run_page import write_run_page
from tokenmill.pipeline.run.cluster import Cluster
from tokenmill.pipeline.storage.run_folder import open_run

STAGES = {
    "extract": {},
    "language": {"keep": ["en"]},
    "quality": {"rules": ["gopher"]},
    "deduplicate": {"similarity": 0.8},
    "tokenizer": {"vocab_size": 8192, "sample_bytes": 4_000_000},
    "shard": {"tokens_per_shard": 1_000_000},
}


@pytest.fixture(scope="module")
def finished(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The folder of a run over all of it, and its report."""
    folder = tmp_path_factory.mktemp("shared")
    sources = {
        "crawl": {"path": str(shared_data / "crawl/*.warc.gz")},
        "archives": {"path": str(shared_data / "archives/*")},
        "texts": {"path": str(shared_data / "text.jsonl.gz")},
    }
    workers = Cluster(workers=2)  # whose peak memory is a run's own, not that of all that the tests have imported
    report, _ = run(config_file(folder / "c.yaml", folder / "run", sources, STAGES), executor=workers)
    workers.stop()
    return folder / "run", report


def test_crawl_archives_and_texts(finished: tuple[Path, Report]) -> None:
    output, report = finished
    before = None
    for name, count in report.stages.items():
        assert count.balances(), name
        assert before is None or count.entered == before, name
        before = count.kept
    rows = ledger(output)
    by_source = rows.column("source").value_counts().to_pylist()
    counts = {item["values"]: item["counts"] for item in by_source}
    assert counts["texts"] == 7017
    assert counts["crawl"] == 788
    assert report.failed == 0
    assert verify(open_run(str(output))).problems == []
    card = json.loads((output / "shard/dataset.json").read_text())
    for split in card["splits"].values():
        for shard in split["shards"]:
            tokens = np.memmap(output / "shard" / f"{shard['name']}.bin", np.uint16, "r")
            assert len(tokens) == shard["tokens"]
    peak = max(cost.peak_memory_bytes for cost in report.costs.values())
    assert peak < 1_500_000_000


def test_the_page_of_real_crawls_in_a_browser(finished: tuple[Path, Report]) -> None:
    output, report = finished
    write_run_page(open_run(str(output)), report)
    with browser() as shown:
        for width, dark in ((1400, False), (400, True)):
            shown.open(output / "report.html", width, dark=dark)
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            # nothing of a page is markup here: neither in its text, nor in its address, nor in a message
            assert (
                shown.evaluate("document.querySelectorAll('main :is(img, iframe, link, style, form, base)').length")
                == 0
            )
            assert shown.evaluate("document.querySelectorAll('main script:not([data-chart])').length") == 0
        outcome = shown.evaluate("document.querySelector('main > p').textContent")
        assert outcome.startswith(
            f"{report.ledger.entered:,} records came in, {report.ledger.kept:,} documents were kept"
        )
        for stage, count in report.stages.items():
            row = f"[...document.querySelectorAll('td')].find(cell => cell.textContent == '{stage}').parentElement"
            figures = f"{row}.innerText.split(/\\s+/).slice(0, 3).join(' ')"
            assert shown.evaluate(figures) == f"{stage} {count.entered:,} {count.kept:,}"
        assert shown.evaluate("document.querySelectorAll('details.story').length") > 50
        assert not shown.complaints
