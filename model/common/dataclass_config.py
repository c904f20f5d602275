"""Frozen dataclasses from YAML mappings, strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

from tokenmill.model.common.config_file import ConfigError, nearest


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


Config = typing.TypeVar("Config")


def build(kind: type[Config], raw: Any, where: str, key: str = "") -> Config:
    """A dataclass from a mapping: unknown and missing keys and wrong types raise `ConfigError`."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {key}: is a mapping, not {raw!r}")
    prefix = f"{key}." if key else ""
    hints = typing.get_type_hints(kind)
    for name in raw:
        if name not in hints:
            raise ConfigError(f"{where}: {prefix}{name}: unknown key; {nearest(str(name), hints)}")
    values = {name: _value(hints[name], value, where, f"{prefix}{name}") for name, value in raw.items()}
    fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    for entry in fields:
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and entry.name not in values:
            values[entry.name] = _absent(hints[entry.name], where, f"{prefix}{entry.name}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {prefix}{error}") from error


def _absent(hint: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), {}, where, key)
    raise ConfigError(f"{where}: {key}: is missing")


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    """A value as the field's type says, ints for floats let be; else `ConfigError`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in options:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return _value(hint, value, where, key)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where, key)
    if origin is Literal:
        if value in options and isinstance(value, str):
            return value
        raise ConfigError(f"{where}: {key}: there is no {value!r}; {nearest(str(value), options)}")
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: {key}: is a list, not {value!r}")
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: {key}: holds {len(kinds)} values, not {len(value)}")
        return tuple(
            _value(kind, item, where, f"{key}.{n}") for n, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if hint is float and isinstance(value, str):
        # YAML takes 3e-4, without a point, for a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, (int, float) if hint is float else hint):
        raise ConfigError(f"{where}: {key}: is {_NAMES[hint]}, not {value!r}")
    return hint(value)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
