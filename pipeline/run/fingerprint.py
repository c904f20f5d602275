"""What of a stage decides its output."""

from __future__ import annotations

from typing import Any

import orjson

from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.graph.stage_spec import StageSpec, own_source_digest
from tokenmill.pipeline.storage import receipts


def describe(name: str, spec: StageSpec) -> dict[str, Any]:
    """What of a stage decides its output: its kind (or class), version, config, model files, and for a user's own its code.

    Raises `ConfigError` for a model file that cannot be read, or that the stage cannot work with.
    """
    stage = spec.load()
    models = []
    for path in stage.model_files():
        try:
            models.append([path.name, receipts.file_digest(path)])
        except OSError as error:
            raise ConfigError(f"stages.{name}: {path}: cannot be read: {error.strerror}") from error
    try:
        stage.notices()
    except ValueError as error:
        raise ConfigError(f"stages.{name}: {error}") from error
    described: dict[str, Any] = {
        "name": name,
        "uses": spec.uses,
        "version": stage.version,
        "config": orjson.loads(spec.config),
        "models": models,
    }
    if code := own_source_digest(spec.uses):
        described["code"] = code
    return described
