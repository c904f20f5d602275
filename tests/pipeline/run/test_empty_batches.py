"""Batches, partitions, sources and routes that lose all their documents, at any stage: how documents fall into batches decides
nothing, neither what becomes of them nor the types of what is measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenmill.pipeline.storage.documents
import tokenmill.pipeline.storage.ledger_writer
import tokenmill.pipeline.tasks.task
from tests.fasttext_writer import write_classifier
from tests.runs import config_file, jsonl_file, ledger, published, text_of
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.documents import with_columns
from tokenmill.pipeline.storage.ledger_writer import BatchLedger, LedgerWriter, read_streams
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.readers.batch_builder import BatchBuilder
from tokenmill.stages.registry import KINDS
from tokenmill.stages.stage import DROPPED, KEPT, CorpusStage, Filter, Phase, Stage, TaskContext, Transform, Verdicts

HERE = "tests.pipeline.run.test_empty_batches"
GONE_FROM = 10_000
"""Documents of these numbers and above are dropped by every stage of this module."""

Values = Literal["none", "numbers", "mixed", "words", "lists"]


class Choice(Stage):
    """What the stages below have in common: which documents stay, and a measure whose type is what Arrow infers."""

    kept: int = 3
    """Of three stretches of `stretch` documents so many stay."""
    stretch: int = 1
    values: Values = "numbers"

    def verdicts(self, documents: pa.RecordBatch, measure: str) -> Verdicts:
        """A batch of no rows would end the run here, as it may in a user's own stage."""
        numbers = [int(text.split()[1]) for text in documents.column("text").to_pylist()]
        assert max(numbers) >= 0
        stays = [number < GONE_FROM and number // self.stretch % 3 < self.kept for number in numbers]
        return Verdicts.of(
            np.where(stays, KEPT, DROPPED).astype(np.uint8),
            rule=pa.array([None if stay else "chosen" for stay in stays]),
            measures={measure: pa.array([self.value(number) for number in numbers])},
        )

    def value(self, number: int) -> Any:
        """Nothing for a stretch of documents, and whole numbers for another."""
        kind = number // 7 % 3
        if self.values == "none" or not kind:
            return None
        return {
            "numbers": number,
            "mixed": number + 0.5 if kind == 1 else number,
            "words": str(number),
            "lists": [] if kind == 1 else [number],
        }[self.values]


class Picks(Choice, Filter):
    """Its documents can be routed to `a` and `b`; none goes to `c`."""

    adds: ClassVar[tuple[str, ...]] = ("picked", "side")
    routes_by: ClassVar[str | None] = "side"

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        verdicts = self.verdicts(documents, "picked")
        sides = [(None, "a", "b")[len(text) % 3] for text in documents.column("text").to_pylist()]
        return replace(verdicts, measures=verdicts.measures | {"side": pa.array(sides)})


class Marks(Choice, Transform):
    """Changes texts, adds a column and takes another's values away."""

    adds: ClassVar[tuple[str, ...]] = ("mark",)
    changes: bool = True

    @property
    def modifies_text(self) -> bool:
        """See `Transform`."""
        return self.changes

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        """See `Transform`."""
        verdicts = self.verdicts(documents, "marked")
        columns = {"mark": verdicts.measures["marked"]}
        if self.changes:
            columns["text"] = pa.array([f"{text} marked" for text in documents.column("text").to_pylist()])
            columns["metadata"] = pa.array([None] * documents.num_rows)
        return with_columns(documents, columns), verdicts


class Collects(Choice, CorpusStage):
    """Judges, or edits, partition by partition, and says of no documents that it measured nothing."""

    adds: ClassVar[tuple[str, ...]] = ("collected",)
    changes: bool = False

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
        run = self._edit if self.changes else self._judge
        return (Phase("all", run, reads_documents=True, judges=True, modifies_text=self.changes),)

    def _judge(self, context: TaskContext) -> None:
        context.judge(np.empty(0, np.int32), Verdicts.all_kept(0))
        for documents in context.documents(["position", "text"]):
            context.judge(documents.column("position").to_numpy(), self.verdicts(documents, "collected"))

    def _edit(self, context: TaskContext) -> None:
        def change(documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
            verdicts = self.verdicts(documents, "collected")
            return with_columns(documents, {"collected": verdicts.measures["collected"]}), verdicts

        context.transform(change)


class Clashes(Filter):
    """Measures numbers of some documents, and words of others."""

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        texts = documents.column("text").to_pylist()
        values = [len(text) if "number 0" in text else text for text in texts]
        return Verdicts.all_kept(len(texts), {"length": pa.array(values)})


def own(kind: type[Stage], **keys: Any) -> dict[str, Any]:
    """A stage of this module as a config has it."""
    return {"uses": f"{HERE}:{kind.__name__}", **keys}


def documents(numbers: Sequence[int]) -> list[Any]:
    """Rows of texts that all differ, so that none is a duplicate."""
    return [
        {"url": f"https://x.example/{n}", "text": f"number {n} of {'ab' * (n % 5)}", "extra": n % 2} for n in numbers
    ]


@contextmanager
def cut(sizes: Sequence[int] = (4096,), *, held_bytes: int = 1 << 23, group_rows: int = 16) -> Iterator[None]:
    """Reading cuts batches of these sizes, by position; document files have batches of so many bytes, ledgers groups of
    so many rows."""

    def is_full(builder: BatchBuilder) -> bool:
        return len(builder) >= sizes[builder.position % len(sizes)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchBuilder, "is_full", property(is_full))
        patch.setattr(tokenmill.pipeline.storage.documents, "BATCH_TEXT_BYTES", held_bytes)
        patch.setattr(tokenmill.pipeline.storage.ledger_writer, "ROW_GROUP_ROWS", group_rows)
        yield


def run_here(folder: Path, output: str, files: Mapping[str, list[Any]], stages: dict[str, Any]) -> Path:
    """Runs stages over JSONL files, each a source of its own, task by task in this process."""
    for name, rows in files.items():
        if not (folder / f"{name}.jsonl").exists():
            jsonl_file(folder / f"{name}.jsonl", rows)
    sources = {name: {"path": str(folder / f"{name}.jsonl")} for name in files}
    config = config_file(folder / f"{output}.yaml", folder / output, sources, stages)
    plan = RunPlan.of(load_config(str(config)), str(config))
    with pytest.MonkeyPatch.context() as patch:
        # this process has other tests to run
        patch.setattr(tokenmill.pipeline.tasks.task, "hold_to_threads", lambda threads: None)
        patch.setattr(os, "fsync", lambda file: None)  # a third of the time, and nobody cuts the power
        for step in plan.step_names:
            status = plan.status(step)
            plan.enter(status, {task.key: task.execute() for task, _ in status.pending})
    return folder / output


FILES = {
    "many": documents(range(150)),
    "few": documents(range(150, 170)),
    "all-go": documents(range(GONE_FROM, GONE_FROM + 30)),
    "broken": ["no JSON"],
    "blank": [" "],
}
ENDS: dict[str, Any] = {
    "deduplicate": {"ngram": 2, "bands": 2, "rows": 2},
    "tokenizer": {"kind": "character", "vocab_size": 300},
    "shard": {"tokens_per_shard": 1000, "validation": 0},
}

choices = {
    "kept": st.sampled_from([0, 1, 2, 2, 3, 3, 3]),
    "stretch": st.sampled_from([1, 9, 40]),
    "values": st.sampled_from(["none", "numbers", "mixed", "words", "lists"]),
}
stages_of_any_kind = st.one_of(
    st.fixed_dictionaries({"uses": st.just(f"{HERE}:Picks"), **choices}),
    st.fixed_dictionaries({"uses": st.just(f"{HERE}:Marks"), "changes": st.booleans(), **choices}),
    st.fixed_dictionaries({"uses": st.just(f"{HERE}:Collects"), "changes": st.booleans(), **choices}),
)


@st.composite
def dags(draw: st.DrawFn) -> dict[str, Any]:
    """Stages in a row, or a fork by routes that joins again, before what ends in shards."""
    row = {f"stage{n}": draw(stages_of_any_kind) for n in range(draw(st.integers(1, 3)))}
    if not draw(st.booleans()):
        return row | ENDS
    fork = {"fork": draw(st.fixed_dictionaries({"uses": st.just(f"{HERE}:Picks"), **choices}))}
    ways = {f"way-{side}": draw(stages_of_any_kind) | {"from": f"fork[{side}]"} for side in "abc"}
    ends = {"deduplicate": ENDS["deduplicate"] | {"from": list(ways)}}
    return row | fork | ways | ENDS | ends


@settings(max_examples=10)
@given(
    stages=dags(),
    sizes=st.lists(st.integers(1, 12) | st.integers(1, 5000), min_size=1, max_size=7),
    held_bytes=st.sampled_from([1, 2000, 1 << 23]),
)
def test_batches_decide_nothing(stages: dict[str, Any], sizes: list[int], held_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for output, how in (("whole", cut()), ("cut", cut(sizes, held_bytes=held_bytes))):
            with how:
                try:
                    found.append(published(run_here(Path(folder), output, FILES, stages)))
                except ValueError as error:  # all documents are gone
                    found.append({"error": str(error)})
        assert found[0] == found[1]
        assert "error" not in found[0] or "no document is left" in found[0]["error"]


def test_files_of_many_pages_do_not_depend_on_batches(tmp_path: Path) -> None:
    """Parquet pages end at a size that is looked at after so many rows of each piece of a table that it is given."""
    rows = [{"url": f"https://x.example/{n}/{'long' * 220}", "text": f"number {n}"} for n in range(3000)]
    stages = {"tokenizer": ENDS["tokenizer"], "shard": {"validation": 0}}
    found = []
    for size in (4096, 700):
        with cut([size], held_bytes=1, group_rows=65_536):
            found.append(published(run_here(tmp_path, f"run-{size}", {"texts": rows}, stages)))
    assert found[0] == found[1]


def test_one_german_line_behind_a_batch_of_english(tmp_path: Path) -> None:
    german = "Der Bäcker steht um drei Uhr auf, denn das Brot soll fertig sein, wenn die Leute kommen."
    rows = [{"text": text_of("bread", n % 40)} for n in range(4096)] + [{"text": german}]
    found = ledger(
        run_here(tmp_path, "run", {"texts": rows}, {"language": {"keep": ["en"]}, "quality": {}})
    ).to_pylist()
    assert len(found) == 4097
    assert (found[-1]["fate"], found[-1]["stage"], found[-1]["language"]) == ("dropped", "language", "de")
    assert found[-1]["words"] is None
    assert all(row["words"] > 50 for row in found[:-1])


@pytest.mark.parametrize(
    "numbers", [range(14), [*range(7, 14), *range(7)], range(7)], ids=["null first", "last", "only"]
)
@pytest.mark.parametrize("values", ["numbers", "lists"])
@pytest.mark.parametrize("kind", [Picks, Marks, Collects])
def test_a_type_that_is_known_late(tmp_path: Path, kind: type[Choice], values: Values, numbers: Sequence[int]) -> None:
    """Rows are written before the type is known, in ledger and documents; the stage below reads them with that type."""
    stages = {"first": own(kind, values=values), "then": own(Collects, changes=True)}
    with cut([1], held_bytes=1, group_rows=3):
        output = run_here(tmp_path, "run", {"texts": documents(numbers)}, stages)
    made = kind(values=values)
    measure = {Picks: "picked", Marks: "marked", Collects: "first_collected"}[kind]
    found = ledger(output)
    assert found.column(measure).to_pylist() == [made.value(number) for number in numbers]
    expected = pa.array([made.value(number) for number in numbers]).type
    assert found.schema.field(measure).type == expected
    column = {Picks: "picked", Marks: "mark", Collects: "collected"}[kind]
    [kept] = (output / "steps").glob("*first*/*.arrow")
    assert pa.ipc.open_file(kept).read_all().schema.field(column).type == expected


def test_types_go_together_over_partitions(tmp_path: Path) -> None:
    """One partition has whole numbers, one fractions, one no value, and one no document: their ledgers have one schema."""
    files = {
        "none": documents(range(7)),
        "halves": documents(range(7, 14)),
        "whole": documents(range(14, 21)),
        "empty": [" "],
    }
    output = run_here(tmp_path, "run", files, {"picks": own(Picks, values="mixed"), "collects": own(Collects, kept=0)})
    schemas = [pq.read_schema(file) for file in sorted((output / "ledger").iterdir())]
    assert schemas == schemas[:1] * 4
    assert schemas[0].field("picked").type == pa.float64()
    assert schemas[0].field("collected").type == pa.int64()
    assert {row["picked"] for row in ledger(output).to_pylist()} == {
        None,
        *range(14, 21),
        *(n + 0.5 for n in range(7, 14)),
    }


@pytest.mark.parametrize("files", [{"one": documents([0, 1])}, {"one": documents([0]), "other": documents([1])}])
def test_types_that_do_not_go_together(tmp_path: Path, files: dict[str, list[Any]]) -> None:
    """In two batches of a partition, or in two partitions."""
    with cut([1]), pytest.raises(RunError, match=r"stage 'clashes' .* column 'length' as int64 .* as string"):
        run_here(tmp_path, "run", files, {"clashes": own(Clashes)})


def test_types_that_do_not_go_together_in_documents(tmp_path: Path) -> None:
    """Two ways that join again give a column of one name."""
    stages = {
        "fork": own(Picks),
        "numbers": own(Marks, **{"from": "fork[a]"}),
        "words": own(Marks, values="words", **{"from": "fork[b]"}),
        "joined": own(Marks, **{"from": ["numbers", "words"]}),
    }
    with pytest.raises(RunError, match=r"do not go together: .* mark .*int64 vs string"):
        run_here(tmp_path, "run", {"texts": documents(range(7, 21))}, stages)


def test_memory_of_a_column_that_stays_null(tmp_path: Path) -> None:
    """Rows are written as they come, however long the type is not known."""
    store = Store(str(tmp_path))
    with cut(group_rows=10), store.create("part") as file:
        writer = LedgerWriter(file)
        for start in range(0, 95, 4):
            rows = BatchLedger(pa.array(range(start, start + 4), pa.int32()))
            measures = {"a:x": pa.nulls(4) if start < 80 else pa.array([1, None, 2, 3])}
            rows.add("a", np.arange(4), Verdicts.all_kept(4), measures)
            writer.write(rows.table())
            assert sum(table.num_rows for table in writer._waiting) < 10
        writer.close()
    assert writer.columns == {"a:x": "int64"}
    tables = list(read_streams(store, "part", {"a:x": pa.int64()}))
    assert [table.num_rows for table in tables] == [10] * 9 + [6]
    assert {table.schema.field("a:x").type for table in tables} == {pa.int64()}


@pytest.fixture(scope="module")
def of_kinds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """A config of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    model = write_classifier(folder / "model.bin", ["the", "of"], {"hq": 2, "cc": 1}, loss=3)
    items = jsonl_file(folder / "items.jsonl", [{"text": text_of("maps", 1)}])
    keys: dict[str, dict[str, Any]] = {
        "classifier": {"model": str(model), "label": "hq", "threshold": 0.5},
        "decontaminate": {"against": [str(items)]},
        "language": {"keep": ["en"]},
        "tokenizer": {"kind": "character", "vocab_size": 300},
        "shard": {"tokenizer": "tokenizer", "validation": 0},
    }
    return lambda kind: keys.get(kind, {})


@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_behind_a_stage_that_drops_everything(
    tmp_path: Path, of_kinds: Callable[[str], dict[str, Any]], kind: str, kept: int
) -> None:
    """All documents of all partitions, or those of some of them, in a step with the stage and before it."""
    stages = {
        "drops": own(Picks, kept=kept),
        "collects": own(Collects, kept=kept),
        "drops-too": own(Picks, kept=kept, **{"from": "drops[a,b]"}),
        **({"tokenizer": {**of_kinds("tokenizer"), "from": "drops"}} if kind == "shard" else {}),
        "asked": {"uses": kind, **of_kinds(kind), "from": ["collects", "drops-too"]},
    }
    if kind == "shard" and not kept:
        with pytest.raises(ValueError, match="no document is left for the training split"):
            run_here(tmp_path, "run", FILES, stages)
        return
    found = ledger(run_here(tmp_path, "run", FILES, stages)).to_pylist()
    assert len(found) == sum(map(len, FILES.values()))
    fates = [row["fate"] for row in found if row["source"] not in ("many", "few")]
    assert sorted(set(fates)) == ["dropped", "failed"]
    if not kept:
        assert not any(row["fate"] == "kept" for row in found)
        assert {row["stage"] for row in found} == {"read", "drops"}


def test_a_way_without_documents_takes_no_columns_from_another(tmp_path: Path) -> None:
    """What joins a way whose documents are all gone still has the columns that both would give."""
    stages = {
        "fork": own(Picks),
        "way-a": own(Marks, **{"from": "fork[a]"}),
        "way-b": own(Marks, kept=0, **{"from": "fork[b]"}),
        "way-c": own(Marks, **{"from": "fork[c]"}),
        "joined": {"uses": "deduplicate", "from": ["way-b", "way-c", "way-a"]},
        "tokenizer": ENDS["tokenizer"],
        "shard": {**ENDS["shard"], "shuffle": "documents", "rehydrate": {1: 2}},
    }
    found = ledger(run_here(tmp_path, "run", {"texts": documents(range(60))}, stages)).to_pylist()
    kept = [row for row in found if row["fate"] == "kept"]
    assert {row["side"] for row in kept} == {"a"}
    assert {row["times_written"] for row in kept} == {2}
    assert {row["stage"] for row in found if row["side"] == "b"} == {"way-b"}
