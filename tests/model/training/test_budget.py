"""The scaling laws' numbers against what the papers print."""

from __future__ import annotations

import pytest
import torch
import yaml

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.budget import memory_of, optima, plan_for, weights_of
from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.gpus import GPUS, gpu_named


@pytest.mark.parametrize(
    ("flops", "weights", "tokens"),
    # Hoffmann et al. 2022, table 3
    [
        (1.92e19, 400e6, 8.0e9),
        (1.21e20, 1e9, 20.2e9),
        (1.23e22, 10e9, 205.1e9),
        (5.76e23, 67e9, 1.5e12),
        (1.27e26, 1e12, 21.2e12),
    ],
)
def test_chinchilla_is_its_table(flops: float, weights: float, tokens: float) -> None:
    _, found = optima(flops=flops)
    # the table rounds: its 67 B and 1.5 T are 5 % more than the compute beside them
    assert found.weights == pytest.approx(weights, rel=0.05)
    assert found.tokens == pytest.approx(tokens, rel=0.08)
    assert found.flops == pytest.approx(flops, rel=1e-9)


def test_kaplan_is_its_table() -> None:
    found, _ = optima(flops=8.64e19)  # a PF-day
    assert (found.weights, found.tokens) == (1.3e9, 2e10)
    larger, _ = optima(flops=8.64e21)
    assert larger.weights / found.weights == pytest.approx(100**0.73)
    again, _ = optima(tokens=larger.tokens)
    assert again.weights == pytest.approx(larger.weights)


@pytest.mark.parametrize("flops", [1e16, 1e18, 1e19, 1e21, 1e23])
@pytest.mark.parametrize("gpu", GPUS)
def test_a_plan_spends_the_budget(flops: float, gpu: str) -> None:
    plan = plan_for(optima(flops=flops)[1], None, 32_768, 1024, GPUS[gpu], 0.4)
    assert plan.flops == pytest.approx(flops, rel=0.01)
    assert plan.gpu_hours == pytest.approx(flops / (0.4 * GPUS[gpu].peak_flops) / 3600, rel=0.01)
    assert 0.55 < plan.weights / optima(flops=flops)[1].weights < 1.8
    assert plan.memory == memory_of(plan.model, plan.weights, 32_768, plan.micro_batch_size)
    assert plan.memory < GPUS[gpu].memory or plan.micro_batch_size == 1
    assert TrainConfig.model_validate(yaml.safe_load(plan.config), strict=False).model == plan.model


@pytest.mark.parametrize("flops", [1e16, 1e18, 1e20])
def test_weights_are_those_of_the_model(flops: float) -> None:
    shape = plan_for(optima(flops=flops)[1], None, 32_000, 256, GPUS["h200"], 0.4).model
    with torch.device("meta"):
        assert weights_of(shape, 32_000) == Transformer(shape, 32_000).parameter_count()


def test_what_is_not_a_budget() -> None:
    for wrong in ({}, {"flops": 1e19, "tokens": 1e9}, {"flops": -1.0}, {"tokens": 0.0}):
        with pytest.raises(ConfigError, match="give one budget above 0"):
            optima(**wrong)
    with pytest.raises(ConfigError, match=r"no figure for the GPU 'h201'; did you mean 'h200'\?"):
        gpu_named("h201")
