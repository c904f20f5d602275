"""Routes: `from: language[de]` takes of a stage's documents those whose column has a value, so that branches go by it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.stages.registry import KINDS
from tokenmill.stages.stage import CorpusStage, Stage

NOT_TAKEN = "routes.not_taken"
"""Rule of documents that a stage kept, and that no route takes to an end of the DAG."""
NOT_TAKEN_ROW = "not taken"
"""Where a report counts them; no stage can have this name."""

_WRITTEN = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")


def split_input(written: str) -> tuple[str, tuple[str, ...]]:
    """The source or stage that an input names, and the values that are taken of it (none: all documents)."""
    found = _WRITTEN.fullmatch(written)
    assert found is not None
    name, values = found.groups()
    return name, () if values is None else tuple(value.strip() for value in values.split(","))


def join_inputs(written: Iterable[str], key: str) -> tuple[str, ...]:
    """Inputs in their one form: each name once, its values together and in order. Raises `ConfigError` for bad brackets."""
    taken: dict[str, set[str] | None] = {}
    for one in written:
        found = _WRITTEN.fullmatch(one)
        if found is None or (found[2] is not None and not all(value.strip() for value in found[2].split(","))):
            raise ConfigError(f"{key}.from: {one!r} is not an input: write a name, name[value] or name[value,value]")
        name, values = split_input(one)
        before = taken.setdefault(name, set())
        taken[name] = before | set(values) if values and before is not None else None
    return tuple(name if not values else f"{name}[{','.join(sorted(values))}]" for name, values in taken.items())


def check_route(written: str, stage: Stage | None, uses: str, key: str) -> None:
    """Raises `ConfigError` where an input takes values of a source (`stage` None) or of a stage that cannot give them."""
    name, values = split_input(written)
    if not values:
        return
    if stage is None or column_of(stage) is None:
        what = "a source" if stage is None else f"a {uses} stage"
        routing = ", ".join(_routing_kinds())
        raise ConfigError(
            f"{key}.from: {written!r}: {name!r} is {what}, whose documents no value routes; {routing} can"
        )
    given = stage.routes()
    for value in values:
        if given is not None and value not in given:
            raise ConfigError(
                f"{key}.from: {written!r}: {name!r} gives no documents of {value!r}; {nearest(value, given)}"
            )


def column_of(stage: Stage) -> str | None:
    """The column by which a stage's documents can be routed, if any; a corpus stage has none."""
    return None if isinstance(stage, CorpusStage) else stage.routes_by


def _routing_kinds() -> list[str]:
    from tokenmill.pipeline.graph.stage_spec import stage_class

    return [kind for kind in KINDS if stage_class(kind).routes_by]
