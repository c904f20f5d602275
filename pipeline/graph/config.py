"""The config of a run: YAML, strict. Every message names the file, the key and the nearest right word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenmill.model.common.config_file import ConfigError, expand, nearest, read_config
from tokenmill.stages.readers.options import ReadOptions

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
    sample: int | None = Field(
        None,
        ge=1,
        description="Run on about so many documents: the first ones of up to 16 partitions (`tokenmill run --sample`).",
    )
    sources: dict[str, Source] = Field(description="Named input files.", min_length=1)
    stages: dict[str, dict[str, Any] | None] = Field(
        description="The DAG: name -> the stage's own keys, `uses:` (its kind where the name is not the kind, or "
        "`package.module:Class`) and `from:` (a source, a stage or a list of them; `language[de]` takes of a language stage's "
        "documents those of one language; default: the stage above).",
        min_length=1,
    )


def load_config(
    path: str, settings: Sequence[str] = (), output: str | None = None, sample: int | None = None
) -> RunConfig:
    """Reads a config file and applies `--set` (`a.b.c=value`), `--output` and `--sample`, which has an output of its own.

    Raises `ConfigError` for a file that cannot be read, is not a YAML mapping, or does not fit the schema.
    """
    raw = read_config(path, settings)
    if sample is not None:
        raw["sample"] = sample
        if isinstance(raw.get("output"), str):
            raw["output"] = f"{raw['output'].rstrip('/')}-sample-{sample}"
    if output is not None:
        raw["output"] = output
    return validate(RunConfig, expand(raw, path, ""), where=path, prefix="")


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
