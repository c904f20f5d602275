"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.cluster import Cluster
from tests.runs import NO_SHARED, SHARED, config_file, crawl_file, jsonl_file, text_of

# Hypothesis would fail an example for the 200 ms that it took, which is the machine's affair
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One embedded Ray for all tests that need no process of their own."""
    started = Cluster(workers=2)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real crawls and texts; skips where they are not there."""
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """A config over a crawl of three WARC files and a JSONL file, with duplicates between them."""
    for number, subject in enumerate(("bread", "bees", "maps")):
        crawl_file(tmp_path / "crawl" / f"{number}.warc.gz", subject, range(14))
    rows = [{"id": f"{n}", "url": f"https://text.example/{n}", "text": text_of("tides", n)} for n in range(14)]
    rows += [{"id": f"copy {n}", "text": text_of("bread", n)} for n in range(5)]
    jsonl_file(tmp_path / "crawl" / "texts.jsonl", rows)
    return config_file(
        tmp_path / "config.yaml",
        tmp_path / "run",
        {"web": {"path": str(tmp_path / "crawl/*.warc.gz")}, "texts": {"path": str(tmp_path / "crawl/*.jsonl")}},
    )
