"""What a stage would keep and drop with other thresholds, from the ledger alone: `tokenmill what-if`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.model.common.config_file import apply_setting
from tokenmill.model.common.validation import validate
from tokenmill.model.data.permutation import key_of, keys_for
from tokenmill.pipeline.errors import ConfigError, RunError, nearest
from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.pipeline.report.stage_run import column_of_one, load_stages
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.stage import KEPT, NotMeasured, Stage, Verdicts

EXAMPLES = 10
"""Documents named of those that change sides, each way: those with the smallest hashes, so that they are the same each time
and from anywhere in the run."""


@dataclass(frozen=True)
class Question:
    """A stage (`name`) under the config of the run (`before`) and under that asked for (`after`)."""

    name: str
    before: Stage
    after: Stage


@dataclass
class Side:
    """What a stage does with the documents that reach it. `dropped`: by rule. `bytes_kept`: bytes of text, as it came out of
    extraction (of the record, for a source of texts)."""

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_kept: int = 0

    def add(self, verdicts: Verdicts, sizes: npt.NDArray[np.int64]) -> None:
        """Adds the verdicts for some documents."""
        is_kept = verdicts.fate == KEPT
        self.kept += int(is_kept.sum())
        self.bytes_kept += int(sizes[is_kept].sum())
        for item in verdicts.rule.drop_null().value_counts().to_pylist():
            self.dropped[item["values"]] += item["counts"]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        dropped = dict(sorted(self.dropped.items()))
        return {"kept": self.kept, "dropped": sum(dropped.values()), "rules": dropped, "bytes_kept": self.bytes_kept}


@dataclass
class Movers:
    """Documents that change sides. `examples`: each with its hash, the smallest first."""

    documents: int = 0
    bytes: int = 0
    examples: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        examples = [example for _, example in self.examples]
        return {"documents": self.documents, "bytes": self.bytes, "examples": examples}


@dataclass
class Answer:
    """`ids_lost`: of the documents newly dropped that the run kept. `tokens`: of the run's dataset; `tokens_lost`: of those the
    ones of documents newly dropped; None where the run has published no dataset, or several. `unknown`: what the ledger does
    not tell, in sentences."""

    stage: str
    settings: list[str]
    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    newly_dropped: Movers = field(default_factory=Movers)
    newly_kept: Movers = field(default_factory=Movers)
    ids_lost: list[pa.Array] = field(default_factory=list)
    tokens: int | None = None
    tokens_lost: int | None = None
    unknown: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "stage": self.stage,
            "settings": self.settings,
            "now": self.before.as_json(),
            "then": self.after.as_json(),
            "newly_dropped": self.newly_dropped.as_json(),
            "newly_kept": self.newly_kept.as_json(),
            "tokens": self.tokens,
            "tokens_lost": self.tokens_lost,
            "unknown": self.unknown,
        }


def what_if(run: RunFolder, settings: Sequence[str]) -> Answer:
    """Answers for the one stage that the settings (`stages.quality.rules.gopher.min_words=100`) change.

    Reads of the ledger, one file at a time, the columns that the stage measured. Raises `ConfigError` for settings that the
    ledger cannot answer, with the reason, and `RunError` for a run that is not finished or whose ledger is not its own.
    """
    run.require_complete()
    question = ask(run.described, settings, run.root)
    columns = run.measure_columns(question.name)
    if not columns:
        raise ConfigError(f"stages.{question.name}: {_cannot('the stage measured nothing')}")
    stages, _ = load_stages(run)
    text_bytes = column_of_one(run, {name: stage.text_bytes_measure for name, stage in stages.items()})
    answer = Answer(question.name, list(settings))
    for path in run.ledger_paths:
        _answer_for(run.store, path, question, columns, text_bytes, answer)
    kept = sum(one.stages[question.name].kept for one in run.all_receipts if question.name in one.stages)
    if kept != answer.before.kept:
        raise RunError(
            f"{run.root}: by the ledger {question.name!r} keeps {answer.before.kept:,} documents, by its receipts {kept:,}: "
            "run `tokenmill verify`"
        )
    _count_tokens(run, answer)
    answer.unknown = unknown(run, answer, stages)
    return answer


def ask(described: dict[str, Any], settings: Sequence[str], where: str) -> Question:
    """The question that settings ask of a run (`described`: its run.json). Raises `ConfigError`."""
    if not settings:
        raise ConfigError(
            "nothing to evaluate: give --set KEY=VALUE, for example --set stages.quality.rules.gopher.min_words=100"
        )
    before, after = described["config"], copy.deepcopy(described["config"])
    for setting in settings:
        apply_setting(after, setting)
    keys = [setting.partition("=")[0].strip().split(".") for setting in settings]
    for key in keys:
        if key[0] != "stages" or len(key) == 1:
            raise ConfigError(f"--set {'.'.join(key)}: {_cannot('only what a stage decides is in the ledger')}")
    named = list(dict.fromkeys(key[1] for key in keys))
    for name in named:
        if name not in described["nodes"]:
            raise ConfigError(f"--set stages.{name}: the run has no such stage; {nearest(name, described['nodes'])}")
    if len(named) != 1:
        raise ConfigError(
            f"ask for one stage at a time, not for {', '.join(named)}: what documents newly kept by one measure at "
            "the next is not in the ledger"
        )
    name = named[0]
    entries = [dict(config["stages"].get(name) or {}) for config in (before, after)]
    if any(entries[0].get(key) != entries[1].get(key) for key in ("uses", "from")):
        raise ConfigError(f"stages.{name}: {_cannot('the DAG would be another')}")
    kind = stage_class(described["nodes"][name]["uses"])
    stages = [
        validate(
            kind, {k: v for k, v in entry.items() if k not in ("uses", "from")}, where=where, prefix=f"stages.{name}"
        )
        for entry in entries
    ]
    return Question(name, stages[0], stages[1])


def _cannot(reason: str) -> str:
    return (
        f"the ledger cannot answer this: {reason}. Run it: tokenmill run CONFIG --set ... (only what depends on it runs again; "
        "--output OTHER leaves this run as it is)"
    )


def _answer_for(
    store: Store, path: str, question: Question, columns: dict[str, str], text_bytes: str | None, answer: Answer
) -> None:
    """Adds what one file of the ledger tells. `text_bytes`: the column that has the size of a document's text, if any."""
    with store.open(path) as file:
        there = pq.read_schema(file).names
        sizes_in = text_bytes if text_bytes is not None and text_bytes in there else "bytes"
        rows = read_parquet(file, ["position", "fate", sizes_in, *(name for name in columns if name in there)])
    measured = [pc.is_valid(rows.column(name)) for name in columns if name in there]
    if not measured or not rows.num_rows:
        return
    reached = measured[0]
    for column in measured[1:]:
        reached = pc.or_(reached, column)
    rows = rows.filter(reached)
    measures = {measure: rows.column(name).combine_chunks() for name, measure in columns.items()}
    try:
        before = question.before.reevaluate(measures, question.before)
        after = question.after.reevaluate(measures, question.before)
    except NotMeasured as error:
        raise ConfigError(f"stages.{question.name}: {_cannot(str(error))}") from error
    sizes = rows.column(sizes_in).fill_null(0).to_numpy()
    answer.before.add(before, sizes)
    answer.after.add(after, sizes)
    positions = rows.column("position").to_numpy()
    in_file = np.flatnonzero(reached.to_numpy())
    was_kept = pc.equal(rows.column("fate"), "kept").to_numpy()
    for movers, decides, is_mover in (
        (answer.newly_dropped, after, (before.fate == KEPT) & (after.fate != KEPT)),
        (answer.newly_kept, before, (before.fate != KEPT) & (after.fate == KEPT)),
    ):
        places = np.flatnonzero(is_mover)
        if len(places):
            movers.documents += len(places)
            movers.bytes += int(sizes[places].sum())
            with store.open(path) as file:
                named = read_parquet(file, ["id", "url"]).take(in_file[places])
            if movers is answer.newly_dropped:
                answer.ids_lost += named.column("id").filter(pa.array(was_kept[places])).chunks
            _add_examples(movers, named, decides, places, keys_for(key_of("what-if", path), positions[places]))


def _add_examples(
    movers: Movers, named: pa.Table, decides: Verdicts, places: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
) -> None:
    """Keeps the documents with the smallest hashes. `named`, `keys`: of those that move; `places`: where these stand in
    `decides`."""
    for number in np.argsort(keys)[:EXAMPLES].tolist():
        place = int(places[number])
        example = {
            **named.slice(number, 1).to_pylist()[0],
            "rule": decides.rule[place].as_py(),
            "value": decides.value[place].as_py(),
            "threshold": decides.threshold[place].as_py(),
        }
        movers.examples.append((int(keys[number]), example))
    movers.examples = sorted(movers.examples, key=lambda one: (one[0], one[1]["id"]))[:EXAMPLES]


def _count_tokens(run: RunFolder, answer: Answer) -> None:
    if len(run.datasets) != 1:
        return
    [dataset] = run.datasets.values()
    answer.tokens, answer.tokens_lost = dataset.tokens, 0
    lost = pa.chunked_array(answer.ids_lost, pa.string()).combine_chunks()
    for path in dataset.documents_tables() if len(lost) else []:
        with run.store.open(path) as file:
            documents = read_parquet(file, ["id", "tokens"])
        chosen = documents.filter(pc.is_in(documents.column("id"), lost))
        answer.tokens_lost += pc.sum(chosen.column("tokens")).as_py() or 0


def unknown(run: RunFolder, answer: Answer, stages: Mapping[str, Stage]) -> list[str]:
    """What the ledger does not tell of an answer, in sentences. `stages`: of the run, by name."""
    below: list[str] = []
    for node, entry in run.described["nodes"].items():
        if answer.stage in entry["inputs"] or set(below) & set(entry["inputs"]):
            below.append(node)
    judging = [node for node in below if node in stages and not stages[node].keeps_all]
    said = []
    if answer.newly_kept.documents and judging:
        said.append(
            f"What {', '.join(judging)} would do with the documents newly kept: they never came so far, and have no tokens yet."
        )
    if answer.newly_dropped.documents or answer.newly_kept.documents:
        of_stages = (stages[node].left_unknown(node) for node in below if node in stages)
        said += [sentence for sentence in of_stages if sentence is not None]
    if answer.newly_dropped.documents and _is_passed_by(run.described, answer.stage):
        said.append("Which of the documents newly dropped still come to the end: the DAG has a way around this stage.")
    return said


def _is_passed_by(described: dict[str, Any], name: str) -> bool:
    """Whether documents that can reach a stage can come to an end without it."""
    there = _ways(described, name, None)
    around = [way for sink in described["sinks"] for way in _ways(described, sink, name)]
    return any(_is_same(one, other) for one in there for other in around)


Way = tuple[str, frozenset[tuple[str, tuple[str, ...]]]]
"""A source, and the routes that lead from it."""


def _ways(described: dict[str, Any], node: str, without: str | None) -> set[Way]:
    if node == without:
        return set()
    if node in described["sources"]:
        return {(node, frozenset())}
    entry = described["nodes"][node]
    found: set[Way] = set()
    for parent in entry["inputs"]:
        values = entry["routes"].get(parent)
        route = {(parent, tuple(values))} if values else set()
        found |= {(source, routes | route) for source, routes in _ways(described, parent, without)}
    return found


def _is_same(one: Way, other: Way) -> bool:
    """Whether a document can go both ways."""
    pairs = ((mine, theirs) for stage, mine in one[1] for at, theirs in other[1] if stage == at)
    return one[0] == other[0] and all(set(mine) & set(theirs) for mine, theirs in pairs)
