"""The model of a checkpoint, for generation and export: without what only training needs, which takes a second to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tokenmill.model.common.files import read_json
from tokenmill.model.common.validation import StrictConfig, validate
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.nn.transformer import Transformer

VERSION = 2


class Vocabulary(StrictConfig):
    """What a model knows of its tokens, from the dataset's card. `tokenizer_hash`: hex blake2b-128 of the tokenizer.json."""

    size: int
    end_of_text: int
    tokenizer_hash: str


class CheckpointState(StrictConfig):
    """A checkpoint's `state.json`. `step`: steps done. `stream`: the loader's `state_dict`. `bad_steps`: skipped so far."""

    step: int
    stream: dict[str, Any]
    bad_steps: int
    model: ModelConfig
    vocabulary: Vocabulary


def read_state(folder: Path) -> CheckpointState:
    """The state of a checkpoint. Raises ValueError where this version cannot read it, `ConfigError` where it is broken."""
    content: Any = read_json(folder / "state.json", "give a checkpoint's folder, or a training run's")
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{folder}: is not a checkpoint of version {VERSION}")
    del content["version"]
    return validate(CheckpointState, content, where=str(folder / "state.json"), prefix="")


def load_model(folder: Path, device: torch.device) -> tuple[Transformer, CheckpointState]:
    """The model of a checkpoint, ready for inference."""
    state = read_state(folder)
    with device:
        model = Transformer(state.model, state.vocabulary.size)
    model.load_state_dict(load_file(folder / "model.safetensors", device=str(device)))
    return model.eval(), state
