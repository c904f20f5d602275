"""The first run of an installation, which makes machine code of the stages' kernels; numba keeps it beside their modules.

Workers that meet a kernel in the same moment each make it, one as slowly as the other. So a first run begins with the kernels
of all stages that work document by document: side by side, each once.
"""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa

from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.stages.registry import has_machine_code
from tokenmill.stages.stage import DATE, Filter, Stage, Transform

TEXT = "A page of the first run, on which the kernels are tried. It says nothing, and nobody reads it.\n" * 20
DOCUMENTS = pa.record_batch(
    {
        "position": pa.array([0], pa.int32()),
        "url": ["https://first.example/run"],
        "offset": pa.array([0], pa.int64()),
        "date": pa.array([0], DATE),
        "metadata": pa.nulls(1, pa.string()),
        "text": [TEXT],
        "html": [f"<html><body><h1>First</h1><p>{TEXT}</p><a href='/'>run</a></body></html>".encode()],
        "charset": ["utf-8"],
    }
)
"""A document as any stage may find it."""


def needs_warmup() -> bool:
    """Whether no kernel is kept in machine code yet."""
    return not has_machine_code()


def has_kernels(stage: Stage) -> bool:
    """Whether `warm_up` does something for a stage: whether it works document by document."""
    return isinstance(stage, Filter | Transform)


def warm_up(spec: StageSpec) -> None:
    """Has a stage's kernels compiled by giving it a document."""
    with suppress(Exception):  # what goes wrong here goes wrong again where it is reported with its document
        try_out(spec.load())


def try_out(stage: Stage) -> None:
    """Gives a stage of which `has_kernels` says so a document."""
    if isinstance(stage, Filter):
        stage.judge(DOCUMENTS)
    elif isinstance(stage, Transform):
        stage.apply(DOCUMENTS)
