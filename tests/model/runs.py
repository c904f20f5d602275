"""Training runs for tests: a dataset that can be learned, configs as files, and processes of their own."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from tests.model.datasets import END, write_dataset
from tests.paths import ROOT
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.trainer import train

VOCABULARY = 60
COMPILE_BY_TRACING = functools.partialmethod(nn.Module.compile, backend="aot_eager")
"""Traces and differentiates as on a GPU, but does not make kernels, which takes most of a minute."""


def learnable_dataset(folder: Path, documents: int = 60, seed: int = 0) -> Path:
    """Documents in which every token follows from the one before it, but for some noise."""
    random = np.random.default_rng(seed)
    follows = np.random.default_rng(99).permutation(np.arange(1, VOCABULARY))

    def document() -> Any:
        tokens = [int(random.integers(1, VOCABULARY))]
        for _ in range(int(random.integers(10, 60))):
            tokens.append(int(random.integers(1, VOCABULARY) if random.random() < 0.1 else follows[tokens[-1] - 1]))
        return np.array([*tokens, END])

    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    splits = {
        "train": [[document() for _ in range(documents)]],
        "validation": [[document() for _ in range(documents // 4)]],
    }
    return write_dataset(folder, splits, VOCABULARY, words.to_str().encode())


def config_for(tmp_path: Path, name: str = "run", **changes: Any) -> Path:
    """A config file of a small run over `tmp_path / "data"`, changed by top-level keys."""
    if not (tmp_path / "data").exists():
        learnable_dataset(tmp_path / "data")
    content = {
        "output": str(tmp_path / name),
        "data": {"path": str(tmp_path / "data")},
        "model": {"n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 16},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"steps": 12, "warmup_steps": 2},
        "checkpoint": {"every": 4},
        "evaluation": {"every": 6},
        "batch_size": 8,
        "micro_batch_size": 4,
        "log_every": 5,
        "precision": "fp32",
        **changes,
    }
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train_process(config: Path, *settings: str, processes: int = 1, **options: Any) -> subprocess.Popen[str]:
    """`python -m tokenmill.model.train`, by torchrun where there are several processes; output is piped."""
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "tokenmill.model.train",
    ]
    command = [sys.executable, *(launcher if processes > 1 else ["-m", "tokenmill.model.train"]), str(config)]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def train_ranks(config: Path, *settings: str, processes: int) -> None:
    """Trains in several processes that are forked from one which has torch already, so that they start at once."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tokenmill.model.train"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        context.Process(target=_rank, args=(rank, processes, port, str(config), settings)) for rank in range(processes)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
    assert [rank.exitcode for rank in ranks] == [0] * processes


def _rank(rank: int, processes: int, port: int, config: str, settings: tuple[str, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    nn.Module.compile = COMPILE_BY_TRACING  # type: ignore[method-assign, assignment]
    train(load_train_config(config, settings))


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process printed, once it has ended with `code`."""
    printed, complained = process.communicate(timeout=300)
    assert process.returncode == code, printed + complained
    return printed + complained


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    """The loss of each step."""
    return [line["loss"] for line in metrics(run) if "loss" in line]
