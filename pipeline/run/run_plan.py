"""What a run consists of: for each step its tasks, each with everything that decides its output; and what is done already.

The plan knows nothing of Ray: it makes tasks for a step once the receipts of the steps before are entered, and compares
their fingerprints with the receipts that lie in the run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tokenmill.pipeline.run.document_views import DocumentViews
from tokenmill.pipeline.run.fingerprint import describe
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.run.ledger_tasks import ledger_tasks
from tokenmill.pipeline.run.partition_tasks import partition_tasks
from tokenmill.pipeline.run.phase_tasks import phase_tasks
from tokenmill.pipeline.run.run_setup import RunSetup
from tokenmill.pipeline.storage import receipts
from tokenmill.pipeline.storage.receipts import LEDGER, READ, Receipt, digest_of, fingerprint
from tokenmill.pipeline.storage.step_folder import Manifest, StepFolder
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.task import Task
from tokenmill.stages.readers.options import READ_VERSION


@dataclass
class StepStatus:
    """The tasks of a step. `total`: how many. `done`: receipts of those that are done, by task. `pending`: the others, and why
    each must run. `keys`: of all, in order; None where the step is sealed, and `done` has them."""

    step: str
    inputs: str
    total: int = 0
    done: Mapping[str, Receipt] = field(default_factory=dict)
    pending: list[tuple[Task, str]] = field(default_factory=list)
    keys: list[str] | None = None
    manifest: Manifest | None = None
    """What seals the step, where it is done as it stands."""


@dataclass
class RunPlan(RunSetup):
    """The steps of a run, and what is known of it so far."""

    finished: FinishedSteps = field(default_factory=FinishedSteps, kw_only=True)

    @property
    def receipts(self) -> Mapping[str, Mapping[str, Receipt]]:
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
        """The tasks of a step, given that the steps before are finished.

        A step that was sealed over the same inputs is done whole, without a look at its tasks; else each task is compared.
        """
        folder, inputs = StepFolder(self.store, name), self._inputs_digest(name)
        manifest = folder.manifest
        if manifest is not None and manifest.inputs == inputs and folder.is_whole(manifest):
            return StepStatus(name, inputs, manifest.tasks, folder.sealed(), manifest=manifest)
        sealed, loose = folder.sealed(), folder.loose()
        there = _Names(self.store)
        done: dict[str, Receipt] = {}
        status = StepStatus(name, inputs, done=done, keys=[])
        assert status.keys is not None
        for task in self.tasks(name):
            status.keys.append(task.key)
            wanted = fingerprint(task.inputs)
            # a task that ran for another config since the step was sealed has two
            known = [receipt for receipt in (loose.get(task.key), sealed.get(task.key)) if receipt is not None]
            receipt = next((one for one in known if one.fingerprint == wanted), known[0] if known else None)
            cause = "not run yet" if receipt is None else self._why_again(task, receipt, wanted, there)
            if cause is None:
                assert receipt is not None
                done[task.key] = receipt
            else:
                status.pending.append((task, cause))
        status.total = len(status.keys)
        return status

    @staticmethod
    def _why_again(task: Task, receipt: Receipt, wanted: str, there: _Names) -> str | None:
        if receipt.fingerprint != wanted:
            return receipts.difference(receipt.inputs, task.inputs) or "its receipt was edited"
        lost = next((output.path for output in receipt.outputs.values() if output.path not in there), None)
        return None if lost is None else f"{lost} is gone"

    def enter(self, status: StepStatus, ran: Mapping[str, Receipt] | None = None) -> None:
        """Tells the plan that a step is finished: what was done before, and what ran; seals it where it is not."""
        step = self.steps_by_name.get(status.step)
        last_stage = step.nodes[-1].name if step and step.nodes else READ
        finished, manifest = status.done, status.manifest
        if manifest is None:
            assert status.keys is not None
            every = {**status.done, **(ran or {})}
            finished = {key: every[key] for key in status.keys}
            manifest = StepFolder(self.store, status.step).seal(status.inputs, finished)
        self.finished.enter(status.step, last_stage, step, finished, manifest.outputs)

    def _inputs_digest(self, name: str) -> str:
        """Digest of everything that any task of a step may depend on: more than each does, but found without making them."""
        step = self.steps_by_name.get(name)
        nodes = step.nodes if step else ()
        before = self.step_names[: self.step_names.index(name)]
        return fingerprint(
            {
                "step": name,
                "stages": [describe(node.name, node.spec) for node in nodes],
                "inputs": list(step.inputs) if step else self.sinks(),
                "read": self._read_digest if step and step.reads else self._partitions_digest,
                "limit": self.limit,
                "before": [self.finished.outputs[one] for one in before],
                "earlier": [files.checksums for node in nodes for files in self.previous_runs[node.name]],
            }
        )

    @cached_property
    def _partitions_digest(self) -> str:
        return digest_of(partition.name for partition in self.partitions)

    @cached_property
    def _read_digest(self) -> str:
        options = {name: source.model_dump(exclude={"path"}) for name, source in self.config.sources.items()}
        read = fingerprint({"version": READ_VERSION, "options": options})
        return digest_of([read, *(f"{partition.name}\0{partition.identity}" for partition in self.partitions)])

    def published_paths(self) -> dict[str, set[str]]:
        """For each publishing node the files that its folder should hold, and those of the ledger."""
        paths = {node: {output.path for output in files.values()} for node, files in self.finished.published.items()}
        ledger = self.receipts.get(LEDGER, {})
        return paths | {LEDGER: {output.path for receipt in ledger.values() for output in receipt.outputs.values()}}


class _Names:
    """Which files of a run are there, by one listing a folder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folders: dict[str, set[str]] = {}

    def __contains__(self, path: object) -> bool:
        folder, _, name = str(path).rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = {*self._store.names(folder)}
        return name in self._folders[folder]
