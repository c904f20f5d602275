"""Where the documents of a partition lie as they leave a source or node, and as they enter another."""

from __future__ import annotations

from collections.abc import Sequence

from tokenmill.pipeline.graph.dag import Dag, Step
from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.pipeline.graph.routes import column_of, split_input
from tokenmill.pipeline.run.finished_steps import FinishedSteps
from tokenmill.pipeline.storage.documents import Routed, Selected, Stored, View, union_of, view_digest
from tokenmill.pipeline.storage.receipts import READ
from tokenmill.stages.stage import CorpusStage


class DocumentViews:
    """Views over what the finished steps have written, and how many documents they hold."""

    def __init__(self, dag: Dag, steps: Sequence[Step], finished: FinishedSteps) -> None:
        self._dag = dag
        self._finished = finished
        self._sources = {name: dag.sources_of(name) for name in (*dag.sources, *dag.nodes)}
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._written_by: dict[str, list[str]] = {name: [] for name in dag.nodes}
        for step in steps:
            if step.nodes:
                last = step.nodes[-1].name
                self._inputs.setdefault(last, step.inputs)
                if step.phase is None or step.phase.judges:
                    self._written_by[last].append(step.name)

    def entering(self, inputs: Sequence[str], partition: Partition) -> View | None:
        """The documents of a partition that sources and nodes (with routes, as `Node.inputs`) give together."""
        views: list[View] = []
        for name, values in map(split_input, inputs):
            reaches = partition.source in self._sources[name]
            if reaches and (view := self.leaving(name, partition)) is not None:
                column = column_of(self._dag.nodes[name].stage) if values else None
                views.append(Routed(view, column, values) if column else view)
        return union_of(views) if views else None

    def leaving(self, name: str, partition: Partition) -> View | None:
        """The documents of a partition as they leave a source or a node; None where they are read on the way."""
        receipts = self._finished.receipts
        if name in self._dag.sources:
            read = receipts.get(f"read-{name}", {}).get(partition.folder)
            return Stored(read.outputs["documents"].path) if read else None
        written = (receipts[step].get(partition.folder) for step in self._written_by[name])
        receipt = next((one for one in written if one), None)
        if receipt and "documents" in receipt.outputs:
            return Stored(receipt.outputs["documents"].path)
        base = self.entering(self._inputs[name], partition)
        passes_all = receipt is None or "kept" not in receipt.outputs
        if passes_all or (isinstance(self._dag.nodes[name].stage, CorpusStage) and base is None):
            return base
        assert base is not None and receipt is not None
        return Selected(base, receipt.outputs["kept"].path)

    def digest(self, view: View) -> list[str]:
        """What decides the documents of a view, for fingerprints."""
        return view_digest(view, self._finished.checksums)

    def counts_entering(self, inputs: Sequence[str], partition: Partition) -> tuple[int, int]:
        """Documents of a partition that sources and nodes give together, and their bytes."""
        kept = size = 0
        for name, values in map(split_input, inputs):
            if partition.source in self._sources[name]:
                one = self._counts_leaving(name, values, partition)
                kept, size = kept + one[0], size + one[1]
        return kept, size

    def _counts_leaving(self, name: str, values: tuple[str, ...], partition: Partition) -> tuple[int, int]:
        counted = READ if name in self._dag.sources else name
        count = self._finished.counts.get(counted, {}).get(partition.folder)
        if count is not None:
            return count.kept_of(values)
        return self.counts_entering(self._dag.nodes[name].inputs, partition)
