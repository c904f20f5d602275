"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.kernels import make_all_once
from tests.paths import SHARED
from tests.runs import NO_SHARED, config_file, crawl_file, jsonl_file, run, text_of

# Hypothesis would fail an example for the 200 ms that it took, which is the machine's affair
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # in the process that starts the others
        make_all_once()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real crawls and texts; skips where they are not there."""
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """A config over a crawl of three WARC files and a JSONL file, with duplicates between them. Its run goes beside it."""
    return _crawl(tmp_path)


@pytest.fixture(scope="session")
def finished_crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its run done, one for all tests that change nothing in it."""
    config = _crawl(tmp_path_factory.mktemp("finished"))
    run(config)
    return config


def _crawl(folder: Path) -> Path:
    for number, subject in enumerate(("bread", "bees", "maps")):
        crawl_file(folder / "crawl" / f"{number}.warc.gz", subject, range(14))
    rows = [{"id": f"{n}", "url": f"https://text.example/{n}", "text": text_of("tides", n)} for n in range(14)]
    rows += [{"id": f"copy {n}", "text": text_of("bread", n)} for n in range(5)]
    jsonl_file(folder / "crawl" / "texts.jsonl", rows)
    return config_file(
        folder / "config.yaml",
        folder / "run",
        {"web": {"path": str(folder / "crawl/*.warc.gz")}, "texts": {"path": str(folder / "crawl/*.jsonl")}},
    )
