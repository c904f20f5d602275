"""Configs as pydantic models: strict types, and messages that name the file, the key and the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from tokenmill.model.common.config_file import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)


class StrictConfig(BaseModel):
    """A part of a config: unknown keys, wrong types and numbers that are not finite are refused.

    Strict also refuses a list where a tuple is declared, which YAML cannot write: give such fields `strict=False`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _as_number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_as_number)]
"""A float of a `StrictConfig`. YAML takes 3e-4, which has no point, for a string."""


def require(holds: bool, key: str, message: str) -> None:
    """For a validator of several fields: the fault is told of the field `key`."""
    if not holds:
        raise PydanticCustomError(_OF_FIELD, "{message}", {"key": key, "message": message})


_OF_FIELD = "of_field"


def validate(model: type[Model], value: Mapping[str, Any], *, where: str, prefix: str) -> Model:
    """Validates `value` as `model`; a `ConfigError` lists each fault by its dotted key below `prefix`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [_fault(model, fault, prefix) for fault in error.errors() if fault["type"] not in _FOLLOWING_FAULTS]
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in dict.fromkeys(faults))) from error


_FOLLOWING_FAULTS = {"default_factory_not_called"}
"""A default that is computed from another field has nothing to tell where that field is wrong."""

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


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
        case "literal_error":
            words = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
            return f"{key}: there is no {fault['input']!r}; {nearest(str(fault['input']), words)}"
        case kind if kind == _OF_FIELD:
            return f"{'.'.join(filter(None, [key, fault['ctx']['key']]))}: {fault['msg']}"
        case kind if kind in _KINDS:
            return f"{key}: must be {_KINDS[kind]}, not {fault['input']!r}"
        case _:
            message = fault["msg"]
            return f"{key}: {message[0].lower()}{message[1:]}, not {fault['input']!r}"


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (nested) model that `location` leads to."""
    schema: Any = model.model_json_schema()
    definitions = schema.get("$defs", {})
    place = schema
    for part in location:
        place = place.get("properties", {}).get(part) or place.get("additionalProperties") or place.get("items") or {}
        while isinstance(place, dict) and ("$ref" in place or "anyOf" in place):
            if "$ref" in place:
                place = definitions[place["$ref"].rsplit("/", 1)[-1]]
            else:
                place = next((option for option in place["anyOf"] if "$ref" in option), {})
        if not isinstance(place, dict):
            return []
    return list(place.get("properties", {}))
