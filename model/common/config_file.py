"""Config files: YAML, strict, changed by `--set`; of the pipeline and of training."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml


class ConfigError(Exception):
    """The config or the command line is wrong (exit code 2)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a wrong word: the nearest of those that are known, or all of them."""
    words = sorted(known)
    if close := difflib.get_close_matches(word, words, 1, 0.5):
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(words)}" if words else "nothing is known here"


def read_config(path: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in a config file, with `--set` (`a.b.c=value`) applied; variables are not replaced yet (see `expand`).

    Raises `ConfigError` for a file that cannot be read or is not a YAML mapping, and for a setting that fits nowhere.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}{_hint(error)}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys, not a {type(raw).__name__}")
    for setting in settings:
        apply_setting(raw, setting)
    return raw


def _hint(error: Exception) -> str:
    is_bracket = isinstance(error, yaml.MarkedYAMLError) and "but got '['" in (error.problem or "")
    return '\nwithin [...] and {...} a name with brackets needs quotes: "language[en]"' if is_bracket else ""


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
            raise ConfigError(f"--set {setting}: {parent!r} is below a value that is not a mapping")
        if place.get(parent) is None:
            place[parent] = {}
        elif isinstance(place[parent], list) and child in place[parent]:
            place[parent] = dict.fromkeys(place[parent])  # `rules: [gopher]` is short for `rules: {gopher: null}`
        place = place[parent]
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: the value is not YAML: {error}{_hint(error)}") from error
    if isinstance(place, list):
        place[_index(place, last, setting)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise ConfigError(f"--set {setting}: {last!r} is below a value that is not a mapping")


def _index(items: list[Any], word: str, setting: str) -> int:
    if not word.isdigit() or int(word) >= len(items):
        raise ConfigError(f"--set {setting}: {word!r} is not an index of a list of {len(items)}")
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
