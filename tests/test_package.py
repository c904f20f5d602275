"""What `pip install .` puts in place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.paths import ROOT

FOLDERS = ("pipeline", "stages", "model")


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        "__pycache__", "*.egg-info", "runs", "build", ".git", ".venv", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode and "setuptools" in made.stderr and "No matching distribution" in made.stderr:
        pytest.skip("setuptools cannot be had here to build a wheel with")
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        f"tokenmill/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }
    assert held == ours | {"tokenmill/__init__.py", "tokenmill/py.typed"}


def test_the_version_is_that_of_the_installation() -> None:
    command = [sys.executable, "-m", "tokenmill.pipeline.cli", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("tokenmill 0.")
