"""How large a model, on how many tokens: the scaling laws' optimum for a budget, its cost, and a config for it.

* Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 6: N = 1.3e9 C^0.73 weights without embeddings and
  D = 2e10 C^0.27 tokens, C in PF-days (8.64e19 FLOPs).
* Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (Chinchilla), table 3: both grow with the square root
  of compute, 20.2 tokens a weight, with compute as 6 N D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import yaml

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.training.gpus import GPU
from tokenmill.model.training.throughput import flops_per_token

PF_DAY = 8.64e19
CHINCHILLA_RATIO = 20.2
BYTES_PER_WEIGHT = 16
"""fp32 weights, gradients, and AdamW's two moments."""
BYTES_PER_LOGIT = 10
"""bf16, fp32, and the gradient of the latter."""


@dataclass(frozen=True)
class Optimum:
    """What a law calls optimal. `weights`: with embeddings for Chinchilla, without for Kaplan."""

    law: str
    weights: float
    tokens: float

    @property
    def flops(self) -> float:
        """Of training, by 6 N D."""
        return 6 * self.weights * self.tokens


@dataclass(frozen=True)
class TrainingPlan:
    """A model near an optimum, and a run of it.

    `weights`: without the vocabulary's padding. `flops`: by 6 N + 12 L d T a token. `memory`: bytes on one GPU at
    `micro_batch_size` windows at a time. `gpu_hours`: at the assumed share of the peak. `config`: YAML.
    """

    model: ModelConfig
    weights: int
    tokens: float
    flops: float
    micro_batch_size: int
    memory: float
    gpu_hours: float
    config: str


def optima(flops: float | None = None, tokens: float | None = None) -> tuple[Optimum, Optimum]:
    """Kaplan's and Chinchilla's, for a budget of `flops` or of `tokens`. Raises `ConfigError` unless one is given, above 0."""
    if (flops is None) == (tokens is None) or not (flops or tokens or 0) > 0:
        raise ConfigError("give one budget above 0: --flops, --gpu-hours or --tokens")
    if tokens is not None:
        compute = (tokens / 2e10) ** (1 / 0.27)
        return Optimum("Kaplan 2020", 1.3e9 * compute**0.73, tokens), Optimum(
            "Chinchilla 2022", tokens / CHINCHILLA_RATIO, tokens
        )
    assert flops is not None
    days = flops / PF_DAY
    weights = math.sqrt(flops / (6 * CHINCHILLA_RATIO))
    kaplan = Optimum("Kaplan 2020", 1.3e9 * days**0.73, 2e10 * days**0.27)
    return kaplan, Optimum("Chinchilla 2022", weights, CHINCHILLA_RATIO * weights)


def plan_for(
    optimum: Optimum, tokens: float | None, vocab_size: int, context_length: int, gpu: GPU, utilization: float
) -> TrainingPlan:
    """The model nearest to an optimum with embeddings, and a run of `tokens`, or of the optimum's FLOPs.

    Its width is 64 times the depth, as in nanochat (2025), with heads of 64, and of 128 from a width of 1,024 on.
    """
    shape = _nearest_shape(optimum.weights, vocab_size, context_length)
    weights = weights_of(shape, vocab_size)
    per_token = flops_per_token(shape, weights)
    tokens = optimum.flops / per_token if tokens is None else tokens
    batch_size = max(_batch_tokens(tokens) // context_length, 1)
    micro_batch_size = min(_largest_micro_batch(shape, weights, vocab_size, gpu), batch_size)
    steps = max(round(tokens / (batch_size * context_length)), 1)
    flops = per_token * steps * batch_size * context_length
    config = {
        "output": "train/budget",
        "data": {"path": "runs/mine/shard"},
        "model": {
            "n_layers": shape.n_layers,
            "d_model": shape.d_model,
            "n_heads": shape.n_heads,
            "head_dim": shape.head_dim,
            "context_length": context_length,
        },
        "optimizer": {"learning_rate": _learning_rate(weights - vocab_size * shape.d_model)},
        "schedule": {"steps": steps, "warmup_steps": min(max(steps // 50, 1), 1000)},
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
    }
    return TrainingPlan(
        model=shape,
        weights=weights,
        tokens=float(steps * batch_size * context_length),
        flops=flops,
        micro_batch_size=micro_batch_size,
        memory=memory_of(shape, weights, vocab_size, micro_batch_size),
        gpu_hours=flops / (gpu.peak_flops * utilization) / 3600,
        config=yaml.safe_dump(config, sort_keys=False, default_flow_style=None),
    )


def _nearest_shape(weights: float, vocab_size: int, context_length: int) -> ModelConfig:
    shapes = [_shape(layers, context_length) for layers in (*range(1, 16), *range(16, 129, 2))]
    return min(shapes, key=lambda shape: abs(math.log(weights_of(shape, vocab_size) / weights)))


def _shape(layers: int, context_length: int) -> ModelConfig:
    d_model = 64 * layers
    head_dim = 128 if d_model >= 1024 else 64
    return ModelConfig(
        n_layers=layers, d_model=d_model, n_heads=d_model // head_dim, head_dim=head_dim, context_length=context_length
    )


def _batch_tokens(tokens: float) -> int:
    """Tokens of a step: about 10,000 steps, between 16,384 and half a million tokens."""
    return int(2 ** min(max(round(math.log2(tokens / 10_000)), 14), 19))


def _learning_rate(weights: int) -> float:
    """Kaplan et al. 2020, equation D.1, of the weights without embeddings.

    It falls below 0 at 1.2e10 weights; the least is that of GPT-3 with 1.75e11 (Brown et al. 2020).
    """
    return float(f"{max(0.003239 - 0.0001395 * math.log(max(weights, 1e4)), 6e-5):.2g}")


def _largest_micro_batch(shape: ModelConfig, weights: int, vocab_size: int, gpu: GPU) -> int:
    """The power of two, at most 512, with which nine tenths of the GPU's memory are enough; 1 where none is."""
    size = 1
    while size < 512 and memory_of(shape, weights, vocab_size, 2 * size) < 0.9 * gpu.memory:
        size *= 2
    return size


def memory_of(shape: ModelConfig, weights: int, vocab_size: int, micro_batch_size: int) -> float:
    """Bytes that training takes on one GPU: state, activations and logits of `micro_batch_size` windows.

    Activations: 34 bytes a token, layer and unit of width in bf16 without attention scores (Korthikanti et al. 2022, equation
    2 and below), nothing recomputed.
    """
    tokens = micro_batch_size * shape.context_length
    activations = 34.0 * tokens * shape.n_layers * shape.d_model
    return BYTES_PER_WEIGHT * weights + activations + BYTES_PER_LOGIT * tokens * vocab_size


def weights_of(shape: ModelConfig, vocab_size: int) -> int:
    """`Transformer.parameter_count` of a suggested shape, without making the model."""
    attention = 2 * shape.d_model * shape.head_dim * (shape.n_heads + shape.n_kv_heads)
    block = attention + 3 * shape.d_model * shape.d_ff + 2 * shape.d_model
    return shape.n_layers * block + shape.d_model + vocab_size * shape.d_model
