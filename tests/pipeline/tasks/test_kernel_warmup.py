"""The first run of an installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import CONFIGS
from tests.paths import ROOT
from tests.runs import published, run
from tokenmill.pipeline.graph.stage_spec import StageSpec, stage_class
from tokenmill.pipeline.tasks.kernel_warmup import has_kernels, try_out, warm_up
from tokenmill.stages.stage import CorpusStage


@pytest.mark.parametrize(("kind", "config"), CONFIGS)
def test_its_document_is_one_for_every_stage(kind: str, config: dict[str, Any]) -> None:
    stage = stage_class(kind).model_validate(config)
    assert has_kernels(stage)
    try_out(stage)
    assert not has_kernels(CorpusStage())


def test_a_stage_that_fails_there_fails_with_its_own_documents() -> None:
    warm_up(StageSpec("quality", '{"rules": ["no such"]}'))


def test_an_installation_has_one_first_run(tmp_path: Path) -> None:
    program = (
        "import numpy as np\n"
        "from tokenmill.pipeline.tasks.kernel_warmup import needs_warmup\n"
        "from tokenmill.stages.text.utf8 import eight_bytes\n"
        "assert needs_warmup(); eight_bytes(np.zeros(8, np.uint8), 0); assert not needs_warmup()"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_it_tells_what_it_does_and_makes_the_same(crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmill.pipeline.run.runner.needs_warmup", lambda: False)
    _, later = run(crawl, output=tmp_path / "later")
    assert later.kernels == []
    monkeypatch.setattr("tokenmill.pipeline.run.runner.needs_warmup", lambda: True)
    _, first = run(crawl, output=tmp_path / "first")
    assert first.kernels == ["extract", "language", "quality"]
    assert published(tmp_path / "first") == published(tmp_path / "later")
    _, nothing = run(crawl, output=tmp_path / "first")
    assert nothing.kernels == []


def test_a_first_run_without_such_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmill.pipeline.run.runner.needs_warmup", lambda: True)
    monkeypatch.setenv("TEXT", str(tmp_path / "text.txt"))
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question. " * 50)
    report, told = run(ROOT / "configs/text.yaml", output=tmp_path / "run")
    assert report.tasks_run > 0
    assert told.kernels == []
