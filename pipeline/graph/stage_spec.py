"""Which stage a node is: its kind or class, and its config."""

from __future__ import annotations

import hashlib
import importlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenmill.stages.registry import KINDS
from tokenmill.stages.stage import CorpusStage, Filter, Stage, Transform


@dataclass(frozen=True)
class StageSpec:
    """All that another process needs to make a stage again, and all of it that decides its output."""

    uses: str
    """The stage's kind, or `package.module:Class` for a user's own."""
    config: str
    """The stage's config as JSON."""

    def load(self) -> Stage:
        """The stage, once a process (so that its models load once)."""
        return _load_stage(self.uses, self.config)


@cache
def _load_stage(uses: str, config: str) -> Stage:
    return stage_class(uses).model_validate_json(config)


def stage_class(uses: str) -> type[Stage]:
    """The class of a kind or of `package.module:Class`. Raises ImportError, AttributeError or TypeError."""
    module, _, name = KINDS.get(uses, uses).partition(":")
    loaded = getattr(importlib.import_module(module), name)
    if not (isinstance(loaded, type) and issubclass(loaded, Filter | Transform | CorpusStage)):
        raise TypeError(f"{uses} is not a Filter, Transform or CorpusStage of tokenmill.stages.stage")
    return loaded


def own_source_digest(uses: str) -> str | None:
    """Digest of the module of a user's own stage: an edit makes its output stale even where `version` was forgotten."""
    if uses in KINDS:
        return None
    file = sys.modules[stage_class(uses).__module__].__file__
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest() if file else None
