"""Two runs side by side: what was configured otherwise, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.pipeline.report.report import Report, sum_up
from tokenmill.pipeline.report.stage_run import categorical_columns, load_stages
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder

EXAMPLES = 10


@dataclass
class Moved:
    """Documents that are on another side in the second run; `examples`: the first, with `id`, `url`, `rule` that ended it."""

    documents: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        """Adds documents; `rows` has `id`, `url` and `rule`."""
        self.documents += rows.num_rows
        self.examples += rows.slice(0, EXAMPLES - len(self.examples)).to_pylist()


@dataclass
class Comparison:
    """Pairs are (first run, second run). `config`: key -> values, None where a run has none. `kept`: documents in the end.
    `stages`, `rules`, `tokens` (by dataset and split), `categories` (by column and value: documents kept): counts.
    `newly_kept`, `newly_dropped`: of the documents in both; `only_first`, `only_second`: documents that the other run did not
    read."""

    config: dict[str, tuple[Any, Any]]
    kept: tuple[int, int]
    stages: dict[str, tuple[int, int]]
    rules: dict[str, tuple[int, int]]
    tokens: dict[str, tuple[int, int]]
    categories: dict[str, dict[str, tuple[int, int]]]
    newly_kept: Moved
    newly_dropped: Moved
    only_first: int
    only_second: int

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        moved = {name: vars(getattr(self, name)) for name in ("newly_kept", "newly_dropped")}
        return {**vars(self), **moved}


def compare(first: RunFolder, second: RunFolder) -> Comparison:
    """Compares two finished runs. Raises `RunError` where one is not.

    Documents are the same by their ids: source, file and position. A pair of ledger files is in memory at a time.
    """
    for run in (first, second):
        run.require_complete()
    reports = [sum_up(run.described, run.receipts) for run in (first, second)]
    config = _pairs(*(dict(_flat(run.described["config"], "")) for run in (first, second)), default=None)
    stages = [{name: count.kept for name, count in report.stages.items()} for report in reports]
    rules = [_rules(report) for report in reports]
    tokens = [
        {
            f"{name} {split}": content["tokens"]
            for name, dataset in run.datasets.items()
            for split, content in dataset.splits.items()
        }
        for run in (first, second)
    ]
    newly_kept, newly_dropped = Moved(), Moved()
    only_first, only_second, categories = _documents(first, second, newly_kept, newly_dropped)
    return Comparison(
        changed(config),
        (reports[0].ledger.kept, reports[1].ledger.kept),
        _pairs(stages[0], stages[1], default=0),
        _pairs(rules[0], rules[1], default=0),
        _pairs(tokens[0], tokens[1], default=0),
        {column: _pairs(*counts, default=0) for column, counts in categories.items()},
        newly_kept,
        newly_dropped,
        only_first,
        only_second,
    )


def changed(pairs: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """The pairs whose two values differ."""
    return {key: values for key, values in pairs.items() if values[0] != values[1]}


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a config by their dotted keys."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _pairs(first: dict[str, Any], second: dict[str, Any], *, default: Any) -> dict[str, tuple[Any, Any]]:
    return {key: (first.get(key, default), second.get(key, default)) for key in dict.fromkeys([*first, *second])}


def _rules(report: Report) -> dict[str, int]:
    rules: dict[str, int] = {}
    for count in report.stages.values():
        for rule, documents in [*count.dropped.items(), *count.failed.items()]:
            rules[rule] = rules.get(rule, 0) + documents
    return rules


Counts = dict[str, tuple[dict[str, int], dict[str, int]]]
"""By column: of each run the documents that it kept, by value."""


def _documents(first: RunFolder, second: RunFolder, newly_kept: Moved, newly_dropped: Moved) -> tuple[int, int, Counts]:
    """Fills what moved; gives back the documents that only one run read, and the kept ones by their categories."""
    columns = dict.fromkeys(
        column for run in (first, second) for column in categorical_columns(run, load_stages(run)[0])
    )
    paths = [set(run.ledger_paths) for run in (first, second)]
    counts: Counts = {}
    only = [0, 0]
    for path in sorted(paths[0] | paths[1]):
        tables = [
            _read(run, path, columns) if path in there else None
            for run, there in zip((first, second), paths, strict=True)
        ]
        for number, table in enumerate(tables):
            if table is not None:
                _count_kept(table, number, columns, counts)
        before, after = tables
        if before is None or after is None:
            only[0 if after is None else 1] += (before if after is None else after).num_rows  # type: ignore[union-attr]
            continue
        places = pc.index_in(after.column("id"), before.column("id").combine_chunks())
        is_there = pc.is_valid(places)
        only[1] += int(pc.sum(pc.invert(is_there)).as_py() or 0)
        only[0] += before.num_rows - int(pc.sum(is_there).as_py() or 0)
        now = after.filter(is_there)
        was = before.take(places.filter(is_there))
        kept = [pc.equal(table.column("fate"), "kept").to_numpy() for table in (was, now)]
        named = ["id", "url", "rule"]
        newly_kept.add(was.select(named).filter(pa.array(~kept[0] & kept[1])))
        newly_dropped.add(now.select(named).filter(pa.array(kept[0] & ~kept[1])))
    return only[0], only[1], counts


def _read(run: RunFolder, path: str, columns: Iterable[str]) -> pa.Table:
    with run.store.open(path) as file:
        there = pq.read_schema(file).names
        return read_parquet(file, ["id", "url", "fate", "rule", *(name for name in columns if name in there)])


def _count_kept(table: pa.Table, number: int, columns: Iterable[str], into: Counts) -> None:
    kept = table.filter(pc.equal(table.column("fate"), "kept"))
    for column in columns:
        if column in table.schema.names:
            counts = into.setdefault(column, ({}, {}))[number]
            for item in kept.column(column).drop_null().value_counts().to_pylist():
                counts[item["values"]] = counts.get(item["values"], 0) + item["counts"]
