"""Training configs: what is refused, with file, key and the right word; what follows from other keys; the JSON schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.model.runs import config_for
from tests.paths import CONFIGS
from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.training.config import TrainConfig, load_train_config, train_config_schema


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.n_layer=3", "model.n_layer: unknown key; did you mean 'n_layers'?"),
        ("model.n_layers=0", "model.n_layers: input should be greater than or equal to 1, not 0"),
        ("model.n_layers=true", "model.n_layers: must be a whole number, not True"),
        ("model.n_layers=2.0", "model.n_layers: must be a whole number, not 2.0"),
        ("model.n_layers=many", "model.n_layers: must be a whole number, not 'many'"),
        ("model.bias=1", "model.bias: must be true or false, not 1"),
        ("model.norm=layer", "model.norm: there is no 'layer'; did you mean 'layernorm'?"),
        ("model.attention=full", "model.attention: must be a list, not 'full'"),
        ("model.attention=[full, slidin]", "model.attention.1: there is no 'slidin'; did you mean 'sliding'?"),
        ("model.n_kv_heads=3", "model.n_heads: 4 is not a multiple of 3 n_kv_heads"),
        ("model.d_model=30", "model.d_model: 30 is not a multiple of 4 n_heads; give another, or a head_dim"),
        ("model.head_dim=5", "model.head_dim: 5 is odd, and rope turns pairs of numbers"),
        ("model=null", "model: must be a mapping, not None"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: must be a number, not 'fast'"),
        ("optimizer.learning_rate=true", "optimizer.learning_rate: must be a number, not True"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: input should be a finite number, not nan"),
        ("optimizer.learning_rate=-1e-3", "optimizer.learning_rate: input should be greater than 0, not -0.001"),
        ("optimizer.betas=[0.9]", "optimizer.betas.1: is missing"),
        ("optimizer.betas=[0.9, 1]", "optimizer.betas: must be from 0 to below 1, not [0.9, 1.0]"),
        ("schedule.warmup_steps=13", "schedule.warmup_steps: must be from 0 to the 12 steps, not 13"),
        ("schedule.min_lr_ratio=1.5", "schedule.min_lr_ratio: input should be less than or equal to 1, not 1.5"),
        ("data.path=null", "data.path: name a dataset's folder (--set data.path=runs/quickstart/shard), or a mixture"),
        ("data.mixture=[{path: x}]", "data.path: name a dataset's folder"),
        ("data.mixture=[{path: x, wieght: 2}]", "data.mixture.0.wieght: unknown key; did you mean 'weight'?"),
        ("data.mixture=[{path: x, weight: 0}]", "data.mixture.0.weight: input should be greater than 0, not 0"),
        ("evaluation.prompt=7", "evaluation.prompt: must be a text, not 7"),
        ("seed=-1", "seed: input should be greater than or equal to 0, not -1"),
        ("row=3", "row: unknown key; known here: "),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(tmp_path: Path, setting: str, message: str) -> None:
    config = config_for(tmp_path)
    with pytest.raises(ConfigError) as refused:
        load_train_config(str(config), [setting])
    assert str(refused.value).startswith(f"{config}: {message}")
    assert "\n" not in str(refused.value)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_train_config(str(CONFIGS / "tiny.yaml"), ["model.n_heads=x", "optimizer.kind=muon", "batch_size=0"])
    faults = [line.removeprefix(f"{CONFIGS / 'tiny.yaml'}: ").split(":")[0] for line in str(refused.value).splitlines()]
    assert faults == ["output", "data.path", "model.n_heads", "batch_size"]


@pytest.mark.parametrize("parallel", [{"fsdp": True}, {"tensor": 2}])
def test_muon_needs_whole_matrices(tmp_path: Path, parallel: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: optimizer\.kind: muon needs whole matrices"):
        load_train_config(str(config_for(tmp_path, parallel=parallel, optimizer={"kind": "muon"})))


def test_numbers_that_yaml_takes_for_strings_are_numbers(tmp_path: Path) -> None:
    config = load_train_config(str(config_for(tmp_path)), ["optimizer.learning_rate=3e-4", "optimizer.betas=[9e-1, 0]"])
    assert config.optimizer.learning_rate == 3e-4
    assert config.optimizer.betas == (0.9, 0)


def test_sizes_follow_from_others() -> None:
    shape = ModelConfig(d_model=384, n_heads=6)
    assert (shape.n_kv_heads, shape.head_dim, shape.d_ff) == (6, 64, 1024)
    assert ModelConfig(d_model=384, n_heads=6, mlp="gelu").d_ff == 1536
    assert ModelConfig(d_model=100, n_heads=6, head_dim=16).head_dim == 16
    with pytest.raises(ValidationError, match="3 is odd"):
        ModelConfig(d_model=12, n_heads=4)


def test_a_written_config_is_the_same_config(tmp_path: Path) -> None:
    config = load_train_config(str(config_for(tmp_path, model={"d_model": 100, "n_heads": 6, "head_dim": 16})))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_train_config(str(tmp_path / "again.yaml")) == config


def keys(model: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of a config by its dotted name, with its schema."""
    for name, content in model["properties"].items():
        below = content.get("$ref") or content.get("items", {}).get("$ref")
        if below is None:
            yield name, content
        else:
            for key, described in keys(schema["$defs"][below.rsplit("/", 1)[-1]], schema):
                yield f"{name}.{key}", described


def test_the_schema_describes_every_key() -> None:
    schema = train_config_schema()
    described = dict(keys(schema, schema))
    assert {"base", "output", "data.mixture.weight", "model.n_kv_heads", "micro_batch_size"} <= set(described)
    assert len(described) > 50
    for key, content in described.items():
        assert content.get("description"), key
        assert key == "base" or content.get("default", ...) is not ... or key in (
            "output", "data.mixture.path", "model.n_kv_heads", "model.head_dim", "model.d_ff",
        ), key  # fmt: skip
    assert "required" not in schema  # a base, or --set, may give any of them
    assert schema["additionalProperties"] is False
    assert set(TrainConfig.model_fields) | {"base"} == set(schema["properties"])
