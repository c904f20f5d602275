"""Checkpoints: all that a run needs to resume as if it had never stopped.

`checkpoints/step-00000500` is the state after 500 steps: `model.safetensors`, `optimizer.safetensors`, `random.safetensors`,
`tokenizer.json`, and `state.json` with the step, the loader's position, the model's config and its vocabulary. A folder
appears whole or not at all; the link `checkpoints/latest` leads to one that is whole. `training.saved_model` reads the model
alone.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from tokenmill.model.common.files import write_whole
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.optimizer import Optimizers
from tokenmill.model.training.run_folder import CHECKPOINTS, LATEST
from tokenmill.model.training.saved_model import VERSION, CheckpointState, read_state


def save_checkpoint(
    run: Path, state: CheckpointState, model: Transformer, optimizers: Optimizers, tokenizer: bytes, keep: int
) -> None:
    """Writes a checkpoint and removes all but the last `keep`. Every rank calls it; the first writes."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    # gathering the ranks' shards is collective, so every rank takes part; the others are given nothing
    weights = get_model_state_dict(model, options=options)
    moments: Any = get_optimizer_state_dict(model, optimizers.all, options=options)
    if not dist.is_initialized() or dist.get_rank() == 0:
        folder = run / CHECKPOINTS / f"step-{state.step:08d}"
        _write_checkpoint(folder, state, weights, moments, tokenizer)
        _point(run / CHECKPOINTS / LATEST, folder.name)
        _remove_old(folder, keep)
    if dist.is_initialized():
        dist.barrier()


def _write_checkpoint(
    folder: Path, state: CheckpointState, weights: dict[str, Any], moments: Any, tokenizer: bytes
) -> None:
    """Writes under another name, and renames when all is on the disk: a kill leaves no folder that is half a checkpoint."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(_on_host(weights), unfinished / "model.safetensors")
    flat = {f"{weight}/{name}": value for weight, held in moments["state"].items() for name, value in held.items()}
    save_file(_on_host(flat), unfinished / "optimizer.safetensors")
    save_file(_random_states(), unfinished / "random.safetensors")
    (unfinished / "tokenizer.json").write_bytes(tokenizer)
    content = {"version": VERSION, **state.model_dump(mode="json")}
    write_whole(unfinished / "state.json", json.dumps(content, indent=1) + "\n")
    for path in (*unfinished.iterdir(), unfinished):
        _flush(path)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _remove_old(newest: Path, keep: int) -> None:
    # steps beyond the newest are of a run that was resumed before them: they are not counted among the kept
    finished = sorted(path for path in newest.parent.glob("step-*") if path.name <= newest.name)
    for old in finished[:-keep]:
        shutil.rmtree(old)


def restore(folder: Path, model: Transformer, optimizers: Optimizers) -> CheckpointState:
    """Puts a checkpoint's weights, optimizer state and random states in place. Every rank calls it and reads the files."""
    state = read_state(folder)
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, load_file(folder / "model.safetensors"), options=options)
    held: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        weight, _, name = key.rpartition("/")
        held.setdefault(weight, {})[name] = value
    # learning rates and decay are the config's, which may have changed; the file holds the moments alone
    groups = get_optimizer_state_dict(model, optimizers.all)["param_groups"]
    content: Any = {"state": held, "param_groups": groups}
    set_optimizer_state_dict(model, optimizers.all, content, options=options)
    states = load_file(folder / "random.safetensors")
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    return state


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _on_host(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(link: Path, name: str) -> None:
    """Makes a link lead to `name`; at any moment it leads to the old or the new."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(name)
    fresh.replace(link)
