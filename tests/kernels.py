"""The stages' kernels, which the first tests of an installation would make in every process at once."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.tasks.kernel_warmup import needs_warmup, warm_up
from tokenmill.stages.quality.stage import RULE_SETS

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *(("quality", {"rules": [name]}) for name in RULE_SETS),
    ("language", {"keep": ["en"]}),
    ("extract", {}),
    ("url", {"block_words": ["casino"]}),
    ("redact", {}),
]
"""Stages that together use all kernels of those that work document by document."""


def make_all_once() -> None:
    """Compiles them side by side, each once, where none is kept yet."""
    if needs_warmup():
        specs = [StageSpec(kind, json.dumps(config)) for kind, config in CONFIGS]
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            list(pool.map(warm_up, specs))
