"""Small files, read with a helpful error and written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path, hint: str) -> Any:
    """The content of a JSON file. Raises ValueError where it is missing (with `hint`: what to do) or is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: is not there; {hint}") from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error


def write_whole(path: Path, content: str) -> None:
    """Writes a text file so that a crash at any moment leaves the old content or the new, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
