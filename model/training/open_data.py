"""The datasets of a training run, opened for one of its ranks."""

from __future__ import annotations

from typing import Any

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.parallel import Ranks


def open_data(config: TrainConfig, ranks: Ranks) -> tuple[TokenDataset | Mixture, TokenDataset | None]:
    """What the model learns from, and what it is evaluated on: the validation split of the first dataset.

    Raises `ConfigError` where a dataset cannot be read, or does not fit the config or the others.
    """
    data = config.data
    ranked: dict[str, Any] = {"rank": ranks.data_rank, "world_size": ranks.data_ranks, "device": ranks.device}
    common: dict[str, Any] = {"window": config.model.window, "batch_size": config.rows, **ranked}
    try:
        members = [
            TokenDataset(part.path, data.split, packing=data.packing, seed=config.seed, **common) for part in data.parts
        ]
        validation = None
        if data.validation is not None:
            common |= {"order": "sequential", "epochs": 1, "documents": data.documents_apart}
            validation = TokenDataset(data.parts[0].path, data.validation, **common)
        if not data.mixture:
            return members[0], validation
        weights = [part.weight for part in data.parts]
        return Mixture(members, weights, batch_size=config.rows, seed=config.seed, **ranked), validation
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error
