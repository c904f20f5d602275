"""A run from Python, with and without Ray, and from a folder that has modules of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from tests.runs import config_file, jsonl_file, published, text_of
from tokenmill import Pipeline
from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.run.pipeline import executor_for
from tokenmill.stages.stage import Filter, Verdicts

STAGES = {"language": {"keep": ["en"]}, "tokenizer": {"vocab_size": 300}, "shard": {"validation": 0}}


class Raises(Filter):
    """A user's stage with a fault."""

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        raise KeyError("no such column")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"id": f"{number}", "text": text_of("tides", number)} for number in range(6)]
    return jsonl_file(tmp_path / "texts.jsonl", rows)


def test_a_mapping_runs_like_a_file(texts: Path, tmp_path: Path) -> None:
    sources = {"texts": {"path": str(texts)}}
    of_file = Pipeline(config_file(tmp_path / "c.yaml", tmp_path / "one", sources, STAGES)).run(workers=0)
    config = {"output": str(tmp_path / "two"), "sources": sources, "stages": STAGES}
    of_mapping = Pipeline(config, settings=["stages.language.min_score=0.5"]).run(workers=0)
    assert of_file.ledger.kept == of_mapping.ledger.kept == 6
    assert of_mapping.tasks_run > 0
    assert (tmp_path / "one/shard/train-00000.bin").read_bytes() == (
        tmp_path / "two/shard/train-00000.bin"
    ).read_bytes()
    assert (tmp_path / "two/report.html").exists()
    assert config["stages"] == STAGES, "the mapping is the caller's"
    assert Pipeline(config, settings=["stages.language.min_score=0.5"]).run(workers=0).tasks_run == 0


def test_a_notebook_shows_the_report(texts: Path, tmp_path: Path) -> None:
    sources = {"<b>bold</b>": {"path": str(texts)}}
    stages = {"language": {"keep": ["de"]}, **{name: STAGES[name] for name in ("tokenizer", "shard")}}
    report = Pipeline({"output": str(tmp_path / "run"), "sources": sources, "stages": {"language": stages["language"]}})
    shown = report.run(workers=0)._repr_html_()
    assert "6 language.not_kept" in shown
    assert "6 documents read, 0 kept" in shown
    assert "<b>" not in shown


def test_no_ray_where_this_process_is_enough(texts: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"texts": {"path": str(texts)}}, STAGES)
    program = (
        "import sys; from tokenmill import Pipeline\n"
        f"assert Pipeline({str(config)!r}).run(workers=0).ledger.kept == 6\n"
        "assert 'ray' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_of_the_caller_come_back(texts: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"texts": {"path": str(texts)}}, STAGES)
    before = pa.cpu_count(), pa.io_thread_count(), os.environ.get("RAYON_NUM_THREADS")
    Pipeline(config).run(workers=0)
    assert (pa.cpu_count(), pa.io_thread_count(), os.environ.get("RAYON_NUM_THREADS")) == before


def test_a_stage_that_raises_is_named_and_its_error_kept(texts: Path, tmp_path: Path) -> None:
    stages = {"mine": {"uses": f"{__name__}:Raises"}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"texts": {"path": str(texts)}}, stages)
    with pytest.raises(RunError, match=r"step read\+mine, task .*texts.jsonl.*KeyError: 'no such column'") as raised:
        Pipeline(config).run(workers=0)
    assert "in judge" in str(raised.value)
    assert isinstance(raised.value.__cause__, KeyError), "what a debugger's post mortem goes to"


def test_workers_0_and_a_cluster_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"--workers 0 .* give one of them"):
        executor_for(0, "head:6379")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_folder_with_modules_of_the_users_own(texts: Path, tmp_path: Path, workers: str) -> None:
    """nanoGPT has a `model.py`, and a user's stages lie in `stages/` as ours do."""
    for name in ("model.py", "pipeline.py", "tokenizer.py"):
        (tmp_path / name).write_text("raise RuntimeError('the user did not ask for this')\n")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text("")
    (tmp_path / "stages/mine.py").write_text(
        "import numpy as np\n"
        "import pyarrow as pa\n"
        "from tokenmill.stages.stage import DROPPED, Filter, Verdicts\n\n\n"
        "class Mine(Filter):\n"
        "    def judge(self, documents: pa.RecordBatch) -> Verdicts:\n"
        "        odd = documents.column('position').to_numpy() % 2 == 1\n"
        "        rule = pa.array(['mine.odd' if one else None for one in odd], pa.string())\n"
        "        return Verdicts.of((odd * DROPPED).astype(np.uint8), rule=rule)\n"
    )
    stages = {"mine": {"uses": "stages.mine:Mine"}, **STAGES}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {"output": "run", "sources": {"texts": {"path": "texts.jsonl"}}, "stages": stages}, sort_keys=False
        )
    )
    command = [sys.executable, "-m", "tokenmill.pipeline.cli", "run", "c.yaml", "--workers", workers]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 mine.odd" in result.stdout
    assert published(tmp_path / "run")
