"""What a training run learns from, in one small file beside its checkpoints, so that any step's batch can be computed later.

`data_log.json` holds the datasets with all that determines their samples, and how many samples a step takes from which step on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tokenmill.model.common.files import read_json, write_whole
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.data.mmap_shards import Numbers

DATA_LOG_FILE = "data_log.json"
DATA_LOG_VERSION = 1
_SETTINGS = ("split", "context_length", "order", "packing", "seed")


def record_steps(folder: Path | str, stream: TokenDataset | Mixture, step: int, samples_per_step: int) -> None:
    """Records in a training run's folder that from `step` on, whose first sample is the stream's next, each step takes
    `samples_per_step` samples (batch size x ranks x accumulated batches).

    Call it when training begins and when it resumes: what an earlier start recorded from that step on is replaced. Written
    atomically. Raises ValueError where the folder's file is of other samples.
    """
    path = Path(folder) / DATA_LOG_FILE
    described = describe(stream)
    segments: list[dict[str, int]] = []
    if path.exists():
        earlier = _load(path)
        if _identities(earlier["stream"]) != _identities(described):
            raise ValueError(f"{path}: is of other samples; give the training run a folder of its own")
        segments = [segment for segment in earlier["segments"] if segment["step"] < step]
    segments.append({"step": step, "sample": stream.samples, "samples_per_step": samples_per_step})
    content = {"version": DATA_LOG_VERSION, "stream": described, "segments": segments}
    write_whole(path, json.dumps(content, indent=1) + "\n")


def samples_of_step(folder: Path | str, step: int) -> tuple[TokenDataset | Mixture, Numbers]:
    """What a run learns from, and the samples of it, int64, shape (samples,), that all ranks together took in a step.

    Raises ValueError where the folder has no such file, or a dataset is not the one that the run was trained on.
    """
    path = Path(folder) / DATA_LOG_FILE
    content = _load(path)
    passed = [segment for segment in content["segments"] if segment["step"] <= step]
    if not passed:
        raise ValueError(f"{path}: the run began with step {content['segments'][0]['step']}, so it has no step {step}")
    last = passed[-1]
    first = last["sample"] + (step - last["step"]) * last["samples_per_step"]
    return _open(content["stream"]), np.arange(first, first + last["samples_per_step"])


def describe(stream: TokenDataset | Mixture) -> dict[str, Any]:
    """All that determines a stream's samples, and where its datasets are; JSON-able."""
    if isinstance(stream, Mixture):
        return {**stream.identity(), "datasets": [describe(member) for member in stream.datasets]}
    return {"path": str(stream.folder.resolve()), **stream.identity()}


def _open(described: dict[str, Any]) -> TokenDataset | Mixture:
    if "datasets" in described:
        members = [_open_dataset(member) for member in described["datasets"]]
        return Mixture(members, described["weights"], seed=described["seed"], rank=0, world_size=1)
    return _open_dataset(described)


def _open_dataset(described: dict[str, Any]) -> TokenDataset:
    dataset = TokenDataset(described["path"], **{name: described[name] for name in _SETTINGS}, rank=0, world_size=1)
    if dataset.identity()["fingerprint"] != described["fingerprint"]:
        raise ValueError(
            f"{dataset.folder}: is not the dataset that the run was trained on (its fingerprint is "
            f"{dataset.card['fingerprint']}, the run's {described['fingerprint']}): put the right one there to trace its steps"
        )
    return dataset


def _identities(described: dict[str, Any]) -> dict[str, Any]:
    """A description without its paths: a dataset that was moved is the same."""
    return {
        name: [_identities(member) for member in value] if name == "datasets" else value
        for name, value in described.items()
        if name != "path"
    }


def _load(path: Path) -> dict[str, Any]:
    content: Any = read_json(path, "give the folder of a training run")
    if not isinstance(content, dict) or content.get("version") != DATA_LOG_VERSION:
        raise ValueError(f"{path}: is not a data log of version {DATA_LOG_VERSION}")
    return content
