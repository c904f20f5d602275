"""What a run consists of: for each step its tasks, each with everything that decides its output; and what is done already.

The plan knows nothing of Ray: it makes tasks for a step once the receipts of the steps before are entered, and compares
their fingerprints with the receipts that lie in the run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.ledger_tasks import ledger_tasks
from tokenmill.pipeline.run.partition_tasks import partition_tasks
from tokenmill.pipeline.run.phase_tasks import phase_tasks
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.receipts import LEDGER, READ, Receipt, fingerprint
from tokenmill.pipeline.tasks.task import Task


@dataclass
class StepStatus:
    """The tasks of a step: those that are done, and for the others why they must run. `keys`: of all, in order."""

    step: str
    keys: list[str] = field(default_factory=list)
    done: list[tuple[Task, Receipt]] = field(default_factory=list)
    pending: list[tuple[Task, str]] = field(default_factory=list)


@dataclass
class RunPlan(RunSetup):
    """The steps of a run, and what is known of it so far."""

    finished: FinishedSteps = field(default_factory=FinishedSteps, kw_only=True)

    @property
    def receipts(self) -> dict[str, dict[str, Receipt]]:
        """Step -> task -> receipt, for the steps that are finished."""
        return self.finished.receipts

    @cached_property
    def views(self) -> DocumentViews:
        """Where documents lie."""
        return DocumentViews(self.dag, self.steps, self.finished)

    def tasks(self, name: str) -> Iterable[Task]:
        """All tasks of a step, in canonical order, given that the steps before are finished."""
        step = self.steps_by_name.get(name)
        if step is None:
            return ledger_tasks(self, self.finished, self.views)
        if step.phase is None:
            return partition_tasks(self, self.views, step)
        return phase_tasks(self, self.finished, self.views, step)

    def status(self, name: str) -> StepStatus:
        """The tasks of a step, given that the steps before are finished."""
        status = StepStatus(name)
        for task in self.tasks(name):
            status.keys.append(task.key)
            receipt = receipts.load(self.store, task.step, task.key)
            cause = "not run yet" if receipt is None else self._why_again(task, receipt)
            if cause is None:
                assert receipt is not None
                status.done.append((task, receipt))
            else:
                status.pending.append((task, cause))
        return status

    def _why_again(self, task: Task, receipt: Receipt) -> str | None:
        if receipt.fingerprint != fingerprint(task.inputs):
            return receipts.difference(receipt.inputs, task.inputs) or "its receipt was edited"
        missing = (output.path for output in receipt.outputs.values() if not self.store.exists(output.path))
        lost = next(missing, None)
        return None if lost is None else f"{lost} is gone"

    def enter(self, name: str, finished: Mapping[str, Receipt]) -> None:
        """Tells the plan that a step is finished: the receipts of all its tasks, in order."""
        step = self.steps_by_name.get(name)
        last_stage = step.nodes[-1].name if step and step.nodes else READ
        self.finished.enter(name, last_stage, step, finished)

    def published_paths(self) -> dict[str, set[str]]:
        """For each publishing node the files that its folder should hold, and those of the ledger."""
        paths = {node: {output.path for output in files.values()} for node, files in self.finished.published.items()}
        ledger = self.receipts.get(LEDGER, {})
        return paths | {LEDGER: {output.path for receipt in ledger.values() for output in receipt.outputs.values()}}
