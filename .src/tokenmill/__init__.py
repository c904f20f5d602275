"""Raw web crawls in, training-ready token shards out, and a model trained from them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.model.data.dataset import TokenDataset
    from tokenmill.model.data.mixture import Mixture
    from tokenmill.pipeline.run.pipeline import Pipeline

__all__ = ["Mixture", "Pipeline", "TokenDataset"]

_PLACES = {
    "Mixture": "tokenmill.model.data.mixture",
    "Pipeline": "tokenmill.pipeline.run.pipeline",
    "TokenDataset": "tokenmill.model.data.dataset",
}


def __getattr__(name: str) -> Any:
    """Imports a name as it is asked for: the loader needs numpy alone, the pipeline much more."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
