"""Several processes (gloo) learn what one learns, however the work is divided."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.model.runs import config_for, losses, train_process, train_ranks
from tests.model.training.test_trainer import weights
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.run_folder import find_checkpoint
from tokenmill.model.training.trainer import train

COMMON: dict[str, Any] = {
    "schedule": {"steps": 10, "warmup_steps": 2},
    "checkpoint": {"every": 5},
    "micro_batch_size": 2,
}
DIVIDED = {
    "ddp": ["parallel.data=2"],
    "fsdp": ["parallel.data=2", "parallel.fsdp=true"],
    "fsdp, compiled": ["parallel.data=2", "parallel.fsdp=true", "compile=true"],
    "tensor": ["parallel.tensor=2"],
    "fsdp and tensor": ["parallel.data=2", "parallel.tensor=2"],
}
GPT2 = {"norm": "layernorm", "position_embedding": "learned", "mlp": "gelu", "bias": True}
GROUPED = {"qk_norm": True, "n_kv_heads": 2, "tied_embeddings": False}


@pytest.mark.parametrize(
    ("how", "shape"),
    [("ddp", {}), ("fsdp, compiled", GPT2), ("tensor", GPT2), ("tensor", GROUPED), ("fsdp and tensor", GROUPED)],
    ids=str,
)
def test_processes_learn_what_one_learns(tmp_path: Path, how: str, shape: dict[str, Any]) -> None:
    model = {"n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 16, **shape}
    common = {**COMMON, "evaluation": {"every": 6, "prompt": "w3 w4"}}
    alone, divided = (config_for(tmp_path, name, model=model, **common) for name in ("alone", "divided"))
    train(load_train_config(str(alone)))
    train_ranks(divided, *DIVIDED[how], processes=4 if "and" in how else 2)
    assert losses(tmp_path / "divided") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    for name, weight in weights(tmp_path / "alone").items():
        torch.testing.assert_close(weights(tmp_path / "divided")[name], weight, rtol=1e-2, atol=1e-4)
    evaluated = [line for line in (tmp_path / "divided/metrics.jsonl").read_text().splitlines() if "validation" in line]
    assert len(evaluated) == 2
    assert (tmp_path / "divided/samples.jsonl").read_text() == (tmp_path / "alone/samples.jsonl").read_text()


def test_an_interrupt_stops_all_processes_after_the_same_step(tmp_path: Path) -> None:
    schedule = {"kind": "warmup_stable_decay", "warmup_steps": 2, "decay_ratio": 0.0}
    config = config_for(tmp_path, schedule={**schedule, "steps": 100_000}, checkpoint={"every": 100_000})
    process = train_process(config, *DIVIDED["ddp"], processes=2)
    while not (tmp_path / "run/metrics.jsonl").exists() or len(losses(tmp_path / "run")) < 10:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert "run the same command again to resume" in printed
    done = len(losses(tmp_path / "run"))
    assert done % 5 == 0
    assert find_checkpoint(tmp_path / "run") == tmp_path / f"run/checkpoints/step-{done:08d}"
    steps = {**schedule, "steps": done + 5}
    train(load_train_config(str(config_for(tmp_path, "alone", schedule=steps))))
    train(load_train_config(str(config_for(tmp_path, "run", schedule=steps))))
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


@pytest.mark.parametrize("how", ["fsdp", "tensor"])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, how: str) -> None:
    flat = {"kind": "warmup_stable_decay", "warmup_steps": 2, "decay_ratio": 0.0, "steps": 10}
    alone, divided = (config_for(tmp_path, name, **{**COMMON, "schedule": flat}) for name in ("alone", "divided"))
    train(load_train_config(str(alone)))
    train_ranks(divided, *DIVIDED[how], "schedule.steps=5", processes=2)
    train(load_train_config(str(divided)))
    assert losses(tmp_path / "divided") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
