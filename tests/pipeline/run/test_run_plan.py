"""What the plan costs: nothing for a sealed step, and tasks that are made once a step where something differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.runs import published, run
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.tasks.partition_task import PartitionTask
from tokenmill.pipeline.tasks.task import Task


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the tasks of each step were made."""
    counts: Counter[str] = Counter()
    make = RunPlan.tasks

    def counted(plan: RunPlan, name: str) -> Iterable[Task]:
        counts[name] += 1
        return make(plan, name)

    monkeypatch.setattr(RunPlan, "tasks", counted)
    return counts


def test_a_sealed_step_is_done_without_a_look_at_its_tasks(finished_crawl: Path, made: Counter[str]) -> None:
    report, _ = run(finished_crawl)
    assert report.tasks_run == 0
    assert not made


def test_tasks_are_made_once_a_step_and_only_where_something_differs(crawl: Path, made: Counter[str]) -> None:
    run(crawl)
    assert set(made.values()) == {1}
    made.clear()
    report, observer = run(crawl, "stages.quality.rules.gopher.min_words=60")
    assert report.tasks_run > 0
    assert set(made.values()) == {1}
    assert "read+extract" not in made
    assert observer.steps() <= set(made)


def test_a_step_that_was_cut_short_goes_on_with_both_kinds_of_receipts(
    crawl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed, then run in part for another config: those of the first are found again, those of the other too."""
    run(crawl)
    before = published(crawl.parent / "run")
    execute = PartitionTask.execute

    def stops(task: PartitionTask) -> Receipt:
        if task.step == "language+quality" and "2.warc" in task.key:
            raise KeyboardInterrupt
        return execute(task)

    with monkeypatch.context() as patch:
        patch.setattr(PartitionTask, "execute", stops)
        with pytest.raises(KeyboardInterrupt):
            run(crawl, "stages.language.min_score=0.7")
    _, observer = run(crawl)
    assert "language+quality" not in observer.steps()
    assert published(crawl.parent / "run") == before


def test_what_later_tasks_ask_for_is_arranged_as_a_step_ends(finished_crawl: Path) -> None:
    plan = RunPlan.of(load_config(str(finished_crawl)), str(finished_crawl))
    for name in plan.step_names:
        plan.enter(plan.status(name))
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
