"""The DAG of a config: nodes with their stages, checked edges, and the steps that the plan makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenmill.model.common.validation import validate
from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.routes import check_route, join_inputs, split_input
from tokenmill.pipeline.graph.stage_spec import StageSpec, stage_class
from tokenmill.stages.registry import KINDS, kind_of
from tokenmill.stages.stage import CorpusStage, Phase, Stage

BASE_COLUMNS = frozenset({"position", "url", "offset", "date", "metadata"})


@dataclass(frozen=True)
class Node:
    """A stage in its place. `inputs`: the sources and nodes that it reads, with a route as `language[de]`; `artifact`: the node
    whose published files it reads."""

    name: str
    spec: StageSpec
    inputs: tuple[str, ...]
    artifact: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the sources and nodes in `inputs`."""
        return tuple(split_input(written)[0] for written in self.inputs)

    @property
    def stage(self) -> Stage:
        """The stage itself."""
        return self.spec.load()


@dataclass(frozen=True)
class Step:
    """What the plan makes of nodes: neighbours that work document by document, in one task a partition (`phase` None;
    `reads`: the sources that it reads itself, `inputs`: the nodes or sources it starts from), or a phase of a corpus stage."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    reads: tuple[str, ...] = ()
    phase: Phase | None = None
    is_last: bool = True


@dataclass(frozen=True)
class Dag:
    """Sources by name, nodes in topological order, and for each of both its place in messages."""

    sources: tuple[str, ...]
    nodes: dict[str, Node]

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read what a source or node gives."""
        return [node for node in self.nodes.values() if name in node.parents]

    def sources_of(self, name: str) -> set[str]:
        """The sources whose documents can reach a node (or the source itself)."""
        if name in self.sources:
            return {name}
        return set().union(*(self.sources_of(parent) for parent in self.nodes[name].parents))

    def steps(self) -> list[Step]:
        """The steps in order. Fuses document-by-document neighbours; ends a step at a branch, before a route and after a stage
        that says so."""
        steps: list[Step] = []
        placed: set[str] = set()
        for source in self.sources:
            readers = self.consumers(source)
            if len(readers) != 1 or isinstance(readers[0].stage, CorpusStage):
                steps.append(Step(f"read-{source}", (), (source,), (source,)))
        read_already = {step.reads[0] for step in steps}
        for node in self.nodes.values():
            if node.name in placed:
                continue
            if isinstance(node.stage, CorpusStage):
                phases = node.stage.phases()
                steps += [
                    Step(f"{node.name}.{phase.name}", (node,), node.inputs, (), phase, phase is phases[-1])
                    for phase in phases
                ]
                placed.add(node.name)
                continue
            chain = [node]
            while not chain[-1].stage.ends_step and (follower := self._only_follower(chain[-1])):
                chain.append(follower)
            placed |= {member.name for member in chain}
            reads = tuple(name for name in node.inputs if name in self.sources and name not in read_already)
            name = "+".join((["read"] if reads else []) + [member.name for member in chain])
            steps.append(Step(name, tuple(chain), node.inputs, reads))
        return steps

    def _only_follower(self, node: Node) -> Node | None:
        followers = self.consumers(node.name)
        if len(followers) != 1 or followers[0].inputs != (node.name,) or isinstance(followers[0].stage, CorpusStage):
            return None
        return followers[0]


def build_dag(config: RunConfig, where: str, given: Mapping[str, Iterable[str]]) -> Dag:
    """Checks the stages and edges of a config and returns its DAG.

    `where`: the config's file name for messages. `given`: for each source what its files hold, of "html" and "text".
    Raises `ConfigError` for unknown kinds and keys, dangling or circular `from:`, and stages that cannot be fed.
    """
    nodes: dict[str, Node] = {}
    names = list(config.stages)
    for number, (name, entry) in enumerate(config.stages.items()):
        key = f"{where}: stages.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ConfigError(f"{key}: a stage's name is made of letters, digits, - and _")
        if name in config.sources:
            raise ConfigError(f"{key}: a source has this name already")
        fields = dict(entry or {})
        uses = fields.pop("uses", name)
        above = (names[number - 1],) if number else tuple(config.sources)
        inputs = _inputs_of(fields.pop("from", None), above, key, [*config.sources, *(n for n in names if n != name)])
        for unit in _make_node(name, uses, fields, inputs, where):
            if unit.name in nodes:
                raise ConfigError(f"{where}: stages.{unit.name}: is the name of a tokenizer made for {name!r}")
            nodes[unit.name] = unit
    dag = Dag(tuple(sorted(config.sources)), _in_topological_order(nodes, config, where))
    for node in dag.nodes.values():
        for written in node.inputs:
            parent = dag.nodes.get(split_input(written)[0])
            uses = (config.stages[parent.name] or {}).get("uses", parent.name) if parent else ""
            check_route(written, parent.stage if parent else None, uses, f"{where}: stages.{node.name}")
    dag = Dag(dag.sources, _resolve_artifacts(dag, where))
    _check_columns(dag, given, where)
    return dag


def _inputs_of(given: Any, above: tuple[str, ...], key: str, known: list[str]) -> tuple[str, ...]:
    if given is None:
        return above
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(name, str) for name in inputs):
        raise ConfigError(f"{key}.from: name a source or a stage, or a list of them")
    joined = join_inputs(inputs, key)
    for name, _ in map(split_input, joined):
        if name not in known:
            raise ConfigError(f"{key}.from: there is no source or stage {name!r}; {nearest(name, known)}")
    return joined


def _make_node(name: str, uses: Any, fields: dict[str, Any], inputs: tuple[str, ...], where: str) -> list[Node]:
    key = f"stages.{name}"
    if not isinstance(uses, str):
        raise ConfigError(f"{where}: {key}.uses: name a kind of stage, or package.module:Class")
    if uses not in KINDS and ":" not in uses:
        raise ConfigError(
            f"{where}: {key}: there is no kind of stage {uses!r}; {nearest(uses, KINDS)} "
            "(`uses:` names the kind where the stage's name is not the kind itself)"
        )
    try:
        kind = stage_class(uses)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {key}.uses: {uses!r} cannot be loaded: {error}") from error
    stage = validate(kind, fields, where=where, prefix=key)
    return [Node(name, StageSpec(kind_of(uses), stage.model_dump_json()), inputs)]


def _in_topological_order(nodes: dict[str, Node], config: RunConfig, where: str) -> dict[str, Node]:
    """Config order as far as the edges allow, so that the plan reads like the config."""
    ordered: dict[str, Node] = {}
    waiting = dict(nodes)
    while waiting:
        ready = next(
            (n for n in waiting.values() if all(i in ordered or i in config.sources for i in n.parents)),
            None,
        )
        if ready is None:
            raise ConfigError(f"{where}: stages: these feed each other in a circle: {', '.join(waiting)}")
        ordered[ready.name] = waiting.pop(ready.name)
    return ordered


def _resolve_artifacts(dag: Dag, where: str) -> dict[str, Node]:
    """Finds for each corpus stage that reads another's files which node that is."""
    resolved: dict[str, Node] = {}
    for node in dag.nodes.values():
        stage = node.stage
        if not isinstance(stage, CorpusStage) or stage.artifact_from is None:
            resolved[node.name] = node
            continue
        kind = stage.artifact_from
        named: str | None = getattr(stage, kind, None)
        if named is None:
            target = _nearest_above(dag, node, kind)
            if target is None:
                raise ConfigError(
                    f"{where}: stages.{node.name}: has no {kind} above it; add a {kind} stage, "
                    f"or name a stage or a file with `{kind}:`"
                )
        elif named in dag.nodes:
            target = named
            if dag.nodes[target].spec.uses != kind:
                raise ConfigError(f"{where}: stages.{node.name}.{kind}: the stage {named!r} is not a {kind}")
            if node.name in _ancestors(dag, target):
                raise ConfigError(f"{where}: stages.{node.name}.{kind}: {named!r} lies below this stage")
        elif Path(named).is_file():
            target = f"{node.name}-{kind}"
            given = validate(stage_class(kind), {"path": named}, where=where, prefix=f"stages.{node.name}")
            resolved[target] = Node(target, StageSpec(kind, given.model_dump_json()), node.inputs)
        else:
            raise ConfigError(
                f"{where}: stages.{node.name}.{kind}: {named!r} is neither a stage nor a file; "
                f"{nearest(named, dag.nodes)}"
            )
        resolved[node.name] = Node(node.name, node.spec, node.inputs, target)
    return _in_order_of_need(resolved)


def _in_order_of_need(nodes: dict[str, Node]) -> dict[str, Node]:
    ordered: dict[str, Node] = {}

    def place(node: Node) -> None:
        if node.name in ordered:
            return
        for parent in (*node.parents, *([node.artifact] if node.artifact else [])):
            if parent in nodes:
                place(nodes[parent])
        ordered[node.name] = node

    for node in nodes.values():
        place(node)
    return ordered


def _ancestors(dag: Dag, name: str) -> set[str]:
    if name not in dag.nodes:
        return {name}
    return {name}.union(*(_ancestors(dag, parent) for parent in dag.nodes[name].parents))


def _nearest_above(dag: Dag, node: Node, kind: str) -> str | None:
    level = list(node.parents)
    while level:
        for name in level:
            if name in dag.nodes and dag.nodes[name].spec.uses == kind:
                return name
        level = [parent for name in level if name in dag.nodes for parent in dag.nodes[name].parents]
    return None


def _check_columns(dag: Dag, given: Mapping[str, Iterable[str]], where: str) -> None:
    columns: dict[str, frozenset[str]] = {
        source: BASE_COLUMNS | (frozenset({"text"}) if set(holds) == {"text"} else frozenset())
        for source, holds in given.items()
    }
    for node in dag.nodes.values():
        have = frozenset.intersection(*(columns[name] for name in node.parents))
        for column in node.stage.columns_needed():
            if column not in have:
                lacking = next(name for name in node.parents if column not in columns[name])
                mend = f"put a stage that adds it between them ({_adders(column)})"
                if column == "text":
                    mend = f"its documents are still HTML: {mend}"
                raise ConfigError(
                    f"{where}: stages.{node.name}: needs {column!r}, which {lacking!r} does not give; {mend}"
                )
        columns[node.name] = have | frozenset(node.stage.adds)


def _adders(column: str) -> str:
    kinds = [kind for kind in KINDS if column in stage_class(kind).adds]
    return ", ".join(kinds) or "none of the bundled stages does"
