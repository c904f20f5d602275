"""What a stage says of a run, in reports: the parts of which a report is made, and what the stage is shown of the run.

The pipeline lays them out; it knows no stage's measures and metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

Values = Sequence[float]


@dataclass(frozen=True)
class Curve:
    """A line through points."""

    label: str
    x: Values
    y: Values


@dataclass(frozen=True)
class Bars:
    """Bars from 0 up, in the background; `edges`: one more than there are `heights`."""

    label: str
    edges: Values
    heights: Values


@dataclass(frozen=True)
class Points:
    """Points with what each was measured of, and how sure it is. `reach`: from `y` up and down; `shown`: more columns, with
    their formats as Bokeh takes them ("0,0"), for who points at one."""

    label: str
    x: Values
    y: Values
    reach: Values
    shown: Mapping[str, tuple[str, Values]]


@dataclass(frozen=True)
class Chart:
    """Several of these over the same axes. `top`: the upper end of the y axis, which begins at 0."""

    x_label: str
    y_label: str
    top: float
    series: Sequence[Curve | Bars | Points]


@dataclass(frozen=True)
class Paragraph:
    """Sentences. `is_soft`: of less weight than others."""

    text: str
    is_soft: bool = False


@dataclass(frozen=True)
class Heading:
    """Within a section."""

    text: str


@dataclass(frozen=True)
class Table:
    """`numeric`: columns that are set to the right. A cell that is an int is written with commas, None as nothing."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | None]]
    numeric: Sequence[str] = ()


@dataclass(frozen=True)
class Snippets:
    """Short pieces of text whose white space counts."""

    label: str
    texts: Sequence[str]


@dataclass(frozen=True)
class DocumentPair:
    """A document that was kept, by its ledger id, and one that was dropped for it: their texts are set side by side, with the
    differences marked. `similarity`: of the two (0 to 1), where it was measured."""

    title: str
    kept: str
    dropped: str
    similarity: float | None


Part = Paragraph | Heading | Table | Chart | Snippets | DocumentPair


@dataclass(frozen=True)
class Section:
    """A part of a run's page, under a title; several stages may give the same one, and are named then."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class StageSummary:
    """What a stage says of a run in few words. `lines`: for the terminal; `notices`: what somebody should know who looks at the
    run. Both are whole sentences, which name the stage. `facts`: figures for the head of the page, by what they are;
    `figures`: for machines, JSON-able."""

    lines: Sequence[str] = ()
    notices: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


class StageRun(Protocol):
    """What a stage is shown of a run, which may not be finished: then the ledger is empty, and of metrics there are some."""

    @property
    def name(self) -> str:
        """The stage's name in the config."""

    @property
    def sources(self) -> Mapping[str, tuple[int, int]]:
        """Documents that reached the stage, and of these the kept ones, by source."""

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Phase -> task -> the task's metrics, of a corpus stage."""

    def ledger(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The ledger in batches: `id`, `url`, `fate`, and measures of this stage by the names that it gives them, as asked for.

        Files that lack one, because no document of theirs came to the stage, are left out.
        """

    def table(self, phase: str, partition: str, columns: Sequence[str]) -> pa.Table | None:
        """Columns of the table that a phase over partitions wrote for a partition (by name); None where it is gone or far."""

    def file(self, name: str) -> BinaryIO | None:
        """A file that the stage has published; None where there is none."""
