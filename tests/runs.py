"""Runs for tests: small crawls, configs over them, and what a run left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.paths import SHARED
from tests.sample_crawl.english import SUBJECTS
from tests.sample_crawl.pages import choice, html_page, paragraphs
from tests.warc_writer import page, warc_gz
from tokenmill.pipeline.cli.main import main
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.report.report import Report
from tokenmill.pipeline.run.executor import Executor, InProcess
from tokenmill.pipeline.run.runner import run as run_config
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.storage.step_folder import StepFolder
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.task import Task

NO_SHARED = f"needs the real crawls and texts in {SHARED.parent.name}/{SHARED.name} beside the checkout"

STAGES: dict[str, Any] = {
    "extract": {},
    "language": {"keep": ["en"]},
    "quality": {"rules": ["gopher"]},
    "deduplicate": {},
    "tokenizer": {"vocab_size": 600},
    "shard": {"tokens_per_shard": 4000, "validation": 0.3},
}


class Record:
    """An observer that remembers which tasks ran, by step."""

    def __init__(self) -> None:
        self.ran: dict[str, list[str]] = {}
        self.kernels: list[str] = []

    def run_begins(self, described: dict[str, Any]) -> None:
        pass

    def on_warmup(self, stages: Sequence[str]) -> None:
        self.kernels = list(stages)

    def step_begins(self, step: str, number: int, of: int, tasks: int, finished: Mapping[str, Receipt]) -> None:
        self.ran[step] = []

    def task_ends(self, task: Task, receipt: Receipt) -> None:
        self.ran[task.step].append(task.key)

    def step_ends(self, step: str) -> None:
        pass

    def steps(self) -> set[str]:
        """The steps in which something ran."""
        return {step for step, tasks in self.ran.items() if tasks}


def text_of(subject: str, number: int, sentences: int = 9) -> str:
    """A readable text, another for every number."""
    return "\n\n".join(paragraphs(choice(f"{subject} {number}", SUBJECTS[subject], sentences)))


def crawl_file(path: Path, subject: str, pages: Iterable[int]) -> Path:
    """Writes a .warc.gz of pages about a subject."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for number in pages:
        chosen = choice(f"{subject} {number}", SUBJECTS[subject], 9)
        records.append(page(f"https://{subject}.example/{number}", html_page(subject, paragraphs(chosen))))
    path.write_bytes(warc_gz(records))
    return path


def jsonl_file(path: Path, rows: Iterable[Any]) -> Path:
    """Writes JSON lines; a row that is a string is a line as it stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def config_file(path: Path, output: Path, sources: dict[str, Any], stages: dict[str, Any] | None = None) -> Path:
    """Writes a config."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump({"output": str(output), "sources": sources, "stages": stages or STAGES}, sort_keys=False)
    )
    return path


def run(
    config: Path, *settings: str, output: Path | None = None, executor: Executor | None = None
) -> tuple[Report, Record]:
    """Runs a config, in this process where no other executor is given."""
    observer = Record()
    loaded = load_config(str(config), settings, None if output is None else str(output))
    return run_config(loaded, str(config), executor or InProcess(), [observer], tuple(sys.path)).report, observer


def tokenmill(*arguments: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(_command(arguments), capture_output=True, text=True, timeout=timeout, env=None)


def tokenmill_begun(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own, which goes on. `options` are Popen's; what is not piped is not shown."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(_command(arguments), text=True, **(quiet | options))


def _command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "tokenmill.pipeline.cli", *(str(argument) for argument in arguments)]


def tokenmill_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which has imported torch already."""
    command, printed, complained = ["tokenmill", *(str(argument) for argument in arguments)], StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(complained):
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), printed.getvalue(), complained.getvalue())


def published(output: Path, node: str = "shard") -> dict[str, str]:
    """Digest of every file that a run published, ledger included, by name."""
    files = [*sorted((output / node).iterdir()), *sorted((output / "ledger").iterdir())]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def receipts_of(output: Path, step: str) -> list[Receipt]:
    """The receipts of a step of a run, in order."""
    return list(StepFolder(Store(str(output)), step).receipts().values())


def ledger(output: Path) -> pa.Table:
    """The ledger of a run."""
    tables = [pq.read_table(file) for file in sorted((output / "ledger").glob("*.parquet"))]
    return pa.concat_tables(tables, promote_options="permissive")
