"""What the plan costs: tasks are made once a step, receipts are read once, and a task costs the same however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.runs import run
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.run.cluster import Cluster
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.task import Task


def test_tasks_are_made_once_and_receipts_read_once(
    finished_crawl: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()
    read: Counter[tuple[str, str]] = Counter()
    make, load = RunPlan.tasks, receipts.load

    def counted_tasks(plan: RunPlan, name: str) -> Iterable[Task]:
        made[name] += 1
        return make(plan, name)

    def counted_load(store: Store, step: str, task: str) -> Receipt | None:
        read[step, task] += 1
        return load(store, step, task)

    monkeypatch.setattr(RunPlan, "tasks", counted_tasks)
    monkeypatch.setattr(receipts, "load", counted_load)
    outcome, _ = run(cluster, finished_crawl)
    assert outcome.ran == 0
    assert set(made.values()) == {1}
    assert set(read.values()) == {1}
    assert len(read) == sum(len(found) for found in outcome.folder.receipts.values())


def test_what_later_tasks_ask_for_is_arranged_as_a_step_ends(finished_crawl: Path) -> None:
    plan = RunPlan.of(load_config(str(finished_crawl)), str(finished_crawl))
    for name in plan.step_names:
        plan.enter(name, {task.key: receipt for task, receipt in plan.status(name).done})
    finished = plan.finished
    before = [receipt for name in plan.step_names if name != LEDGER for receipt in plan.receipts[name].values()]
    assert finished.checksums == {out.path: out.checksum for one in before for out in one.outputs.values()}
    assert sum(finished.sizes.values()) == sum(one.size for one in before)
    assert sum(count.kept for count in finished.counts["deduplicate"].values()) == sum(
        one.stages["deduplicate"].kept for one in before if "deduplicate" in one.stages
    )
    stages = {tuple(stage for _, stage in parts) for parts in finished.ledger_parts.values()}
    assert stages == {("extract", "quality", "deduplicate", "shard")}
    assert set(finished.published) == {"tokenizer", "shard"}
    assert set(plan.published_paths()) == {"tokenizer", "shard", LEDGER}
    assert all(plan.store.exists(path) for paths in plan.published_paths().values() for path in paths)
