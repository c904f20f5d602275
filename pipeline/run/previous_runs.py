"""What a run uses of previous ones: for `CorpusStage.previous_runs` the tables that their stages of its kind left."""

from __future__ import annotations

from typing import Any

from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.graph.dag import Node
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.previous_run_files import PreviousRunFiles
from tokenmill.stages.stage import CorpusStage, PreviousPartition


def find_previous_runs(node: Node, output: str, where: str) -> list[PreviousRunFiles]:
    """The partitions of all previous runs that a node of the run in `output` names, run by run.

    Raises `ConfigError` for a folder that holds no finished run, or one whose stage does not fit.
    """
    stage = node.stage
    if not isinstance(stage, CorpusStage):
        return []
    found: list[PreviousRunFiles] = []
    for run in stage.previous_runs():
        try:
            if Store(run).is_same(Store(output)):
                raise RunError("is this run itself")
            found += _partitions_of(run, node, stage, len(found))
        except RunError as error:
            raise ConfigError(f"{where}: stages.{node.name}: the previous run {run}: {error}") from error
    return found


def _partitions_of(run: str, node: Node, stage: CorpusStage, first: int) -> list[PreviousRunFiles]:
    folder = open_run(run)
    if not folder.is_complete:
        raise RunError("has not finished; run it to its end first")
    step = f"{_stage_of(folder.described, node, stage)}.{stage.index}"
    indexed = {receipt.partition: receipt for receipt in folder.receipts[step]}
    ledgers = {receipt.partition: receipt for receipt in folder.receipts[LEDGER]}
    _check_fit(stage, next(iter(indexed.values())))
    return [
        _files(folder.store, run, first + number, receipt, ledgers[name])
        for number, (name, receipt) in enumerate(indexed.items())
    ]


def _stage_of(described: dict[str, Any], node: Node, stage: CorpusStage) -> str:
    """The stage of a previous run that is used: of the node's kind, and where there are several of its name."""
    steps = {step["name"] for step in described["steps"]}
    same = [name for name, other in described["nodes"].items() if other["uses"] == node.spec.uses]
    names = [name for name in same if f"{name}.{stage.index}" in steps]
    if node.name in names:
        return node.name
    if not names:
        raise RunError(f"has no stage like {node.name!r}")
    if len(names) > 1:
        raise RunError(f"has several such stages ({', '.join(names)}), and none has the name {node.name!r}")
    return str(names[0])


def _check_fit(stage: CorpusStage, receipt: Receipt) -> None:
    [made] = receipt.inputs["stages"]
    if made["version"] != stage.version:
        raise RunError(f"was made by version {made['version']} of the stage, this is {stage.version}; run it again")
    if problem := stage.incompatibility(type(stage).model_validate(made["config"])):
        raise RunError(problem)


def _files(store: Store, run: str, number: int, indexed: Receipt, ledger: Receipt) -> PreviousRunFiles:
    assert indexed.partition is not None
    count = ledger.stages[LEDGER]
    table, rows = indexed.outputs["table"], ledger.outputs["ledger"]
    for output in (table, rows):
        if not store.exists(output.path):
            raise RunError(f"{output.path} is gone; run it again")
    part = PreviousPartition(number, run, indexed.partition, count.kept, count.entered)
    return PreviousRunFiles(part, store, table.path, rows.path, (table.checksum, rows.checksum))
