"""The datasets of a training run, opened for one of its ranks."""

from __future__ import annotations

from typing import Any

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.parallel import ParallelDims


def open_data(config: TrainConfig, dims: ParallelDims) -> tuple[TokenDataset | Mixture, TokenDataset | None]:
    """What the model learns from, and what it is evaluated on: the validation split of the first dataset.

    Raises `ConfigError` where a dataset cannot be read, or does not fit the config or the others.
    """
    data = config.data
    sharding: dict[str, Any] = {"rank": dims.data_rank, "world_size": dims.data_ranks, "device": dims.device}
    common: dict[str, Any] = {
        "context_length": config.model.context_length,
        "batch_size": config.micro_batch_size,
        **sharding,
    }
    try:
        members = [
            TokenDataset(component.path, data.split, packing=data.packing, seed=config.seed, **common)
            for component in data.components
        ]
        validation = None
        if data.validation is not None:
            common |= {"order": "sequential", "epochs": 1, "documents": data.document_masking}
            validation = TokenDataset(data.components[0].path, data.validation, **common)
        if not data.mixture:
            return members[0], validation
        weights = [component.weight for component in data.components]
        return Mixture(members, weights, batch_size=config.micro_batch_size, seed=config.seed, **sharding), validation
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error
