"""The receipts of finished steps, arranged once as a step ends, so that making a task costs the same however many there are."""

from __future__ import annotations

from collections.abc import Mapping

from tokenmill.pipeline.graph.dag import Step
from tokenmill.pipeline.storage.receipts import Receipt, StageCount, fingerprint
from tokenmill.pipeline.storage.store import Output


class FinishedSteps:
    """`receipts`: step -> task -> receipt, steps in their order. The others are made of them:

    `checksums`: of every file, by path. `digests`: phase step -> task -> digest of what a task that reads it depends on.
    `counts`: stage -> partition's folder -> what the stage counted there. `sizes`: partition's folder -> documents before any
    stage. `ledger_parts`: partition's folder -> its files of ledger rows, each with the last stage of its step. `measures`: of
    all steps, as "node:measure", in order. `published`: node -> its published files.
    """

    def __init__(self) -> None:
        self.receipts: dict[str, dict[str, Receipt]] = {}
        self.checksums: dict[str, str] = {}
        self.digests: dict[str, dict[str, str]] = {}
        self.counts: dict[str, dict[str, StageCount]] = {}
        self.sizes: dict[str, int] = {}
        self.ledger_parts: dict[str, list[tuple[Output, str]]] = {}
        self.measures: dict[str, None] = {}
        self.published: dict[str, dict[str, Output]] = {}

    def enter(self, name: str, last_stage: str, step: Step | None, finished: Mapping[str, Receipt]) -> None:
        """Adds a step. `last_stage`: the last of its stages; `step`: None for the ledger's, which no step follows."""
        self.receipts[name] = dict(finished)
        if step is None:
            return
        if step.phase is not None:
            self.digests[name] = {task: fingerprint(receipt.digest()) for task, receipt in finished.items()}
            if step.phase.publishes:
                files = self.published.setdefault(step.nodes[0].name, {})
                for receipt in finished.values():
                    files |= {key: out for key, out in receipt.outputs.items() if key.startswith("file:")}
        for task, receipt in finished.items():
            self.checksums |= {output.path: output.checksum for output in receipt.outputs.values()}
            self.measures |= dict.fromkeys(receipt.columns)
            if receipt.partition is None:
                continue
            if receipt.size:
                self.sizes[task] = receipt.size
            for stage, count in receipt.stages.items():
                self.counts.setdefault(stage, {})[task] = count
            if "ledger" in receipt.outputs:
                self.ledger_parts.setdefault(task, []).append((receipt.outputs["ledger"], last_stage))
