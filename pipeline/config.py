"""The config of a run: YAML, strict. Every message names the file, the key and the nearest right word."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError, nearest
from stages.read import ReadOptions

Model = TypeVar("Model", bound=BaseModel)


class Source(ReadOptions):
    """A named set of input files; also says how to read them."""

    path: str | list[str] = Field(
        description="One glob or a list of globs: local paths (relative to the working directory) or any fsspec URL."
    )

    @property
    def paths(self) -> list[str]:
        """The globs as a list."""
        return [self.path] if isinstance(self.path, str) else self.path


class RunConfig(BaseModel):
    """The top level of a config: where the run goes, what it reads, and the stages in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str = Field(description="Folder of the run: a local path or any fsspec URL that can be written.")
    sources: dict[str, Source] = Field(description="Named input files.", min_length=1)
    stages: dict[str, dict[str, Any] | None] = Field(
        description="The DAG: name -> the stage's own keys, `uses:` (its kind where the name is not the kind, or "
        "`package.module:Class`) and `from:` (a source, a stage or a list of them; default: the stage above).",
        min_length=1,
    )


def load_config(path: str, settings: Sequence[str] = (), output: str | None = None) -> RunConfig:
    """Reads a config file and applies `--set` (`a.b.c=value`) and `--output`.

    Raises `ConfigError` for a file that cannot be read, is no YAML mapping, or does not fit the schema.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a config is a mapping with the keys output, sources and stages")
    for setting in settings:
        apply_setting(raw, setting)
    if output is not None:
        raw["output"] = output
    return validate(RunConfig, expand(raw, path, ""), where=path, prefix="")


class UniqueKeyLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key given twice, of which YAML would silently take the last."""


def _unique_mapping(loader: UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.YAMLError(f"the key {key!r} is given twice (line {key_node.start_mark.line + 1})")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def apply_setting(raw: dict[str, Any], setting: str) -> None:
    """Applies one `--set`: a dotted path, `=`, and a YAML value. Raises `ConfigError`."""
    path, equals, value = setting.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {setting}: write it as path.to.key=value, for example stages.language.min_score=0.8")
    *parents, last = path.strip().split(".")
    place: Any = raw
    for parent, child in pairwise([*parents, last]):
        if isinstance(place, list):
            place = place[_index(place, parent, setting)]
            continue
        if not isinstance(place, dict):
            raise ConfigError(f"--set {setting}: {parent!r} lies below a value that is no mapping")
        if place.get(parent) is None:
            place[parent] = {}
        elif isinstance(place[parent], list) and child in place[parent]:
            place[parent] = dict.fromkeys(place[parent])  # `rules: [gopher]` is short for `rules: {gopher: null}`
        place = place[parent]
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: the value is not YAML: {error}") from error
    if isinstance(place, list):
        place[_index(place, last, setting)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise ConfigError(f"--set {setting}: {last!r} lies below a value that is no mapping")


def _index(items: list[Any], word: str, setting: str) -> int:
    if not word.isdigit() or int(word) >= len(items):
        raise ConfigError(f"--set {setting}: {word!r} is no index of a list of {len(items)}")
    return int(word)


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def expand(value: Any, where: str, key: str) -> Any:
    """Replaces `${NAME}` by the environment's value and a leading `~` by the home folder, in every string."""
    if isinstance(value, dict):
        return {name: expand(item, where, f"{key}.{name}" if key else str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [expand(item, where, f"{key}.{number}") for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{where}: {key}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    value = _VARIABLE.sub(substitute, value)
    return str(Path(value).expanduser()) if value.startswith("~") else value


def validate(model: type[Model], value: Mapping[str, Any], *, where: str, prefix: str) -> Model:
    """Validates `value` as `model`; a `ConfigError` lists each fault by its dotted key below `prefix`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [_fault(model, fault, prefix) for fault in error.errors()]
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in dict.fromkeys(faults))) from error


def _fault(model: type[BaseModel], fault: Any, prefix: str) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(([prefix] if prefix else []) + location)
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {nearest(location[-1], _keys_at(model, location[:-1]))}"
        case "missing":
            return f"{key}: is missing"
        case "value_error":
            return f"{key}: {fault['ctx']['error']}"
        case _:
            message = fault["msg"]
            return f"{key}: {message[0].lower()}{message[1:]}, not {fault['input']!r}"


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (nested) model that `location` leads to."""
    schema: Any = model.model_json_schema()
    definitions = schema.get("$defs", {})
    place = schema
    for part in location:
        place = place.get("properties", {}).get(part) or place.get("additionalProperties") or {}
        while isinstance(place, dict) and ("$ref" in place or "anyOf" in place):
            if "$ref" in place:
                place = definitions[place["$ref"].rsplit("/", 1)[-1]]
            else:
                place = next((option for option in place["anyOf"] if "$ref" in option), {})
        if not isinstance(place, dict):
            return []
    return list(place.get("properties", {}))
