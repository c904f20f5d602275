"""The receipts of finished steps, arranged once as a step ends, so that making a task costs the same however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenmill.pipeline.graph.dag import Step
from tokenmill.pipeline.storage.receipts import Receipt, StageCount, fingerprint
from tokenmill.pipeline.storage.store import Output


@dataclass(frozen=True)
class _Facts:
    """See `FinishedSteps`."""

    checksums: dict[str, str] = field(default_factory=dict)
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    counts: dict[str, dict[str, StageCount]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    ledger_parts: dict[str, list[tuple[Output, str]]] = field(default_factory=dict)
    measures: dict[tuple[str, str], None] = field(default_factory=dict)
    published: dict[str, dict[str, Output]] = field(default_factory=dict)


class FinishedSteps:
    """`receipts`: step -> task -> receipt, steps in their order. `outputs`: step -> digest of what its tasks left. The others
    are made of the receipts, once for each step, when something asks for them (where nothing is to do, nothing does):

    `checksums`: of every file, by path. `digests`: phase step -> task -> digest of what a task that reads it depends on.
    `counts`: stage -> partition's folder -> what the stage counted there. `sizes`: partition's folder -> documents before any
    stage. `ledger_parts`: partition's folder -> its files of ledger rows, each with the last stage of its step. `measures`: of
    all steps, as "node:measure" and type, in order. `published`: node -> its published files.
    """

    def __init__(self) -> None:
        self.receipts: dict[str, Mapping[str, Receipt]] = {}
        self.outputs: dict[str, str] = {}
        self._facts = _Facts()
        self._waiting: list[tuple[str, str, Step]] = []

    def enter(
        self, name: str, last_stage: str, step: Step | None, finished: Mapping[str, Receipt], outputs: str
    ) -> None:
        """Adds a step. `last_stage`: the last of its stages; `step`: None for the ledger's, which no step follows."""
        self.receipts[name] = finished
        self.outputs[name] = outputs
        if step is not None:
            self._waiting.append((name, last_stage, step))

    @property
    def checksums(self) -> dict[str, str]:
        return self._arranged().checksums

    @property
    def digests(self) -> dict[str, dict[str, str]]:
        return self._arranged().digests

    @property
    def counts(self) -> dict[str, dict[str, StageCount]]:
        return self._arranged().counts

    @property
    def sizes(self) -> dict[str, int]:
        return self._arranged().sizes

    @property
    def ledger_parts(self) -> dict[str, list[tuple[Output, str]]]:
        return self._arranged().ledger_parts

    @property
    def measures(self) -> dict[tuple[str, str], None]:
        return self._arranged().measures

    @property
    def published(self) -> dict[str, dict[str, Output]]:
        return self._arranged().published

    def _arranged(self) -> _Facts:
        while self._waiting:
            self._arrange(*self._waiting.pop(0))
        return self._facts

    def _arrange(self, name: str, last_stage: str, step: Step) -> None:
        facts, finished = self._facts, self.receipts[name]
        if step.phase is not None:
            facts.digests[name] = {task: fingerprint(receipt.digest()) for task, receipt in finished.items()}
            if step.phase.publishes:
                files = facts.published.setdefault(step.nodes[0].name, {})
                for receipt in finished.values():
                    files |= {key: out for key, out in receipt.outputs.items() if key.startswith("file:")}
        for task, receipt in finished.items():
            facts.checksums.update((output.path, output.checksum) for output in receipt.outputs.values())
            facts.measures.update(dict.fromkeys(receipt.columns.items()))
            if receipt.partition is None:
                continue
            if receipt.size:
                facts.sizes[task] = receipt.size
            for stage, count in receipt.stages.items():
                facts.counts.setdefault(stage, {})[task] = count
            if "ledger" in receipt.outputs:
                facts.ledger_parts.setdefault(task, []).append((receipt.outputs["ledger"], last_stage))
