"""Raw web crawls in, training-ready token shards out, and a model trained from them.

What is imported from here is loaded on first use, with what it needs alone: `TokenDataset` and `Mixture` need numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.model.data.dataset import TokenDataset
    from tokenmill.model.data.mixture import Mixture

__all__ = ["Mixture", "TokenDataset"]

_MODULES = {"Mixture": "tokenmill.model.data.mixture", "TokenDataset": "tokenmill.model.data.dataset"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
