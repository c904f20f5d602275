"""What is fixed before a run begins: its config, the DAG, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.dag import Dag, Step, build_dag
from tokenmill.pipeline.graph.partitions import Partition, list_partitions
from tokenmill.pipeline.graph.sampling import sampled, share
from tokenmill.pipeline.run.previous_runs import find_previous_runs
from tokenmill.pipeline.storage.receipts import LEDGER
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.previous_run_files import PreviousRunFiles
from tokenmill.stages.readers.options import format_of, provides
from tokenmill.stages.stage import CorpusStage


@dataclass
class RunSetup:
    """`partitions`: in canonical order. `previous_runs`: what each node uses of previous runs, in order. `import_paths`: where
    a user's own modules lie."""

    config: RunConfig
    dag: Dag
    store: Store
    partitions: list[Partition]
    previous_runs: dict[str, list[PreviousRunFiles]]
    import_paths: tuple[str, ...] = field(default=(), kw_only=True)

    @classmethod
    def of(cls, config: RunConfig, where: str) -> Self:
        """Reads the inputs' names and checks the DAG; `where`: the config's file name for messages. Raises `ConfigError`."""
        partitions = list_partitions(config.sources, where)
        given: dict[str, set[str]] = {name: set() for name in config.sources}
        for partition in partitions:
            given[partition.source].add(provides(format_of(partition.path, config.sources[partition.source])))
        dag = build_dag(config, where, given)
        previous_runs = {name: find_previous_runs(node, config.output, where) for name, node in dag.nodes.items()}
        read = partitions if config.sample is None else sampled(partitions)
        return cls(config, dag, Store(config.output), read, previous_runs)

    @property
    def limit(self) -> int | None:
        """Documents that reading keeps of each partition at most, in a run on a sample."""
        return None if self.config.sample is None else share(self.config.sample, len(self.partitions))

    @cached_property
    def steps(self) -> list[Step]:
        """The steps in order, without the final joining of the ledger."""
        return self.dag.steps()

    @cached_property
    def step_names(self) -> list[str]:
        """Names of all steps in order."""
        return [step.name for step in self.steps] + [LEDGER]

    @cached_property
    def steps_by_name(self) -> dict[str, Step]:
        """The steps by name, without the ledger's."""
        return {step.name: step for step in self.steps}

    def reaching(self, name: str) -> list[Partition]:
        """The partitions whose documents can reach a source or node, in canonical order."""
        sources = self.dag.sources_of(name)
        return [partition for partition in self.partitions if partition.source in sources]

    def sinks(self) -> list[str]:
        """The nodes at which a document counts as kept: those whose stages say so, else those that nothing follows."""
        stages = {name: node.stage for name, node in self.dag.nodes.items()}
        ends = [name for name, stage in stages.items() if isinstance(stage, CorpusStage) and stage.is_end]
        return ends or [name for name in self.dag.nodes if not self.dag.consumers(name)]
