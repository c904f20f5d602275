"""What a stage would keep and drop with other thresholds, from the ledger alone: `tokenmill what-if`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenmill.model.common.config_file import apply_setting
from tokenmill.model.common.validation import validate
from tokenmill.pipeline.errors import ConfigError, RunError, nearest
from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.pipeline.report.document_text import printable
from tokenmill.pipeline.storage.ledger_columns import measure_columns
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import (
    dataset_nodes,
    document_tables,
    ledger_paths,
    load_receipts,
    read_dataset_card,
)
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.registry import KINDS
from tokenmill.stages.stage import KEPT, NotMeasured, Stage, Verdicts
from tokenmill.stages.tokens.tokenizer import document_hashes

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
    examples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

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


def what_if(store: Store, settings: Sequence[str]) -> Answer:
    """Answers for the one stage that the settings (`stages.quality.rules.gopher.min_words=100`) change.

    Reads of the ledger, one file at a time, the columns that the stage measured. Raises `ConfigError` for settings that the
    ledger cannot answer, with the reason, and `RunError` for a run that is not finished or whose ledger is not its own.
    """
    described = store.read_json("run.json")
    if not described["complete"]:
        raise RunError(f"{store.root}: the run is not finished, so it has no ledger yet; run again to go on with it")
    question = ask(described, settings, store.root)
    receipts = [receipt for found in load_receipts(store).values() for receipt in found]
    columns = measure_columns(receipts, question.name)
    if not columns:
        raise ConfigError(f"stages.{question.name}: {_cannot('the stage measured nothing')}")
    answer = Answer(question.name, list(settings))
    for path in ledger_paths(store):
        _answer_for(store, path, question, columns, answer)
    kept = sum(receipt.stages[question.name].kept for receipt in receipts if question.name in receipt.stages)
    if kept != answer.before.kept:
        raise RunError(
            f"{store.root}: by the ledger {question.name!r} keeps {answer.before.kept:,} documents, by its receipts {kept:,}: "
            "run `tokenmill verify`"
        )
    _count_tokens(store, answer)
    answer.unknown = unknown(described, answer)
    return answer


def ask(described: dict[str, Any], settings: Sequence[str], where: str) -> Question:
    """The question that settings ask of a run (`described`: its run.json). Raises `ConfigError`."""
    if not settings:
        raise ConfigError("what if what? Give --set, for example --set stages.quality.rules.gopher.min_words=100")
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
    kind = stage_class(described["nodes"][name]["class"])
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


def _answer_for(store: Store, path: str, question: Question, columns: dict[str, str], answer: Answer) -> None:
    """Adds what one file of the ledger tells."""
    with store.open(path) as file:
        held = pq.read_schema(file).names
        sizes_in = "text_bytes" if "text_bytes" in held else "bytes"
        rows = read_parquet(file, ["position", "fate", sizes_in, *(name for name in columns if name in held)])
    measured = [pc.is_valid(rows.column(name)) for name in columns if name in held]
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
            _add_examples(movers, named, decides, places, document_hashes(path, positions[places], "what-if"))


def _add_examples(
    movers: Movers, named: pa.Table, decides: Verdicts, places: npt.NDArray[np.int64], keys: npt.NDArray[np.float64]
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
        movers.examples.append((float(keys[number]), example))
    movers.examples = sorted(movers.examples, key=lambda one: (one[0], one[1]["id"]))[:EXAMPLES]


def _count_tokens(store: Store, answer: Answer) -> None:
    nodes = dataset_nodes(store)
    if len(nodes) != 1:
        return
    answer.tokens = sum(split["tokens"] for split in read_dataset_card(store, nodes[0])["splits"].values())
    answer.tokens_lost = 0
    lost = pa.chunked_array(answer.ids_lost, pa.string()).combine_chunks()
    for path in document_tables(store, nodes[0]) if len(lost) else []:
        with store.open(path) as file:
            documents = read_parquet(file, ["id", "tokens"])
        chosen = documents.filter(pc.is_in(documents.column("id"), lost))
        answer.tokens_lost += pc.sum(chosen.column("tokens")).as_py() or 0


def unknown(described: dict[str, Any], answer: Answer) -> list[str]:
    """What the ledger does not tell of an answer to a run (`described`: its run.json), in sentences."""
    below: list[str] = []
    for node, entry in described["nodes"].items():
        if answer.stage in entry["inputs"] or set(below) & set(entry["inputs"]):
            below.append(node)
    kinds = {node: described["nodes"][node]["class"] for node in below}
    judging = [node for node in below if kinds[node] not in (KINDS["tokenizer"], KINDS["shard"])]
    choosing = [node for node in judging if kinds[node] == KINDS["deduplicate"]]
    said = []
    if answer.newly_kept.documents and judging:
        said.append(
            f"What {', '.join(judging)} would do with the documents newly kept: they never came so far, and have no tokens yet."
        )
    moves = answer.newly_dropped.documents or answer.newly_kept.documents
    if moves and choosing:
        said.append(
            f"Whom {', '.join(choosing)} would choose: a document dropped here may stand for duplicates that then stay, and "
            "one newly kept may take the place of others."
        )
    if moves and KINDS["tokenizer"] in kinds.values():
        said.append("How many tokens there would be: the tokenizer would be trained on other documents.")
    if answer.newly_dropped.documents and _is_passed_by(described, answer.stage):
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


def print_answer(console: Console, answer: Answer) -> None:
    """An answer, for people."""
    before, after = answer.before, answer.after
    console.print(f"[bold]{escape(answer.stage)}[/] with {escape(', '.join(answer.settings))}\n", highlight=False)
    table = Table(box=None, pad_edge=False)
    for title in ("documents", "now", "then", "change"):
        table.add_column(title, justify="left" if title == "documents" else "right")
    rows = [("kept", before.kept, after.kept)]
    rules = sorted(
        before.dropped | after.dropped, key=lambda rule: (-max(before.dropped[rule], after.dropped[rule]), rule)
    )
    rows += [(f"dropped by {rule}", before.dropped[rule], after.dropped[rule]) for rule in rules]
    for label, one, other in rows:
        table.add_row(escape(label), f"{one:,}", f"{other:,}", f"{other - one:+,}" if other != one else "")
    megabytes = before.bytes_kept / 1e6, after.bytes_kept / 1e6
    table.add_row("MB of text kept", *(f"{size:,.2f}" for size in megabytes), f"{megabytes[1] - megabytes[0]:+,.2f}")
    console.print(table)
    for title, movers in (("newly dropped", answer.newly_dropped), ("newly kept", answer.newly_kept)):
        words = f"\n[bold]{movers.documents:,} {title}[/], {movers.bytes / 1e6:,.2f} MB of text"
        if movers is answer.newly_dropped and answer.tokens is not None:
            words += f", {answer.tokens_lost:,} of the {answer.tokens:,} tokens in the shards"
        console.print(words, highlight=False)
        for _, example in movers.examples:
            shown = escape(printable(example["url"] or example["id"]))
            numbers = f"{example['value']:g} against {example['threshold']:g}" if example["value"] is not None else ""
            console.print(f"  {shown}  [dim]{escape(example['rule'])} {numbers}[/]", highlight=False, soft_wrap=True)
    if answer.unknown:
        console.print("\nNot known from the ledger:")
    for sentence in answer.unknown:
        console.print(f"- {escape(sentence)}", highlight=False)
