"""Every runtime dependency is used by a runtime module."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions

from tests.paths import ROOT

NAMED = {"datasketch", "fasttext-predict", "tokenizers", "pyarrow", "ray", "torch"}
"""Distributions that the project was asked to build on."""


def distribution(requirement: str) -> str:
    """The normalized name of a requirement's distribution (PEP 503)."""
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def runtime_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {distribution(requirement) for requirement in project["dependencies"]}


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Top-level names of packages that are imported, or located by `find_spec("name")` for a data file in them."""
    for node in nodes:
        match node:
            case ast.Import(names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(func=ast.Attribute(attr="find_spec"), args=[ast.Constant(value=str(name))]):
                yield name


def modules() -> list[ast.Module]:
    files = (file for folder in ("pipeline", "stages", "model") for file in (ROOT / folder).rglob("*.py"))
    return [ast.parse(file.read_bytes()) for file in files]


def test_every_runtime_dependency_is_imported_by_a_runtime_module() -> None:
    names = {name for module in modules() for name in imported(ast.walk(module))}
    providers = packages_distributions()
    used = {distribution(provider) for name in names for provider in providers.get(name, ())}
    assert runtime_dependencies() - used == set()
    assert used >= NAMED
    assert runtime_dependencies() >= NAMED


def test_datasketch_is_not_loaded_by_importing_a_module() -> None:
    """It brings SciPy, which a worker that signs no documents must not wait for."""
    assert "datasketch" not in {name for module in modules() for name in imported(module.body)}
