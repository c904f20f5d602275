"""How large a model, on how many tokens: what the scaling laws say of a budget, what it takes, and a config for it.

* Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 6: N = 1.3e9 C^0.73 weights without embeddings and
  D = 2e10 C^0.27 tokens, C in PF-days (8.64e19 FLOPs).
* Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (Chinchilla), table 3: both grow with the square root
  of compute, 20.2 tokens a weight, with compute as 6 N D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import yaml

from tokenmill.model.common.config_file import ConfigError, nearest
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.training.metrics import flops_a_token

PF_DAY = 8.64e19
CHINCHILLA_RATIO = 20.2
BYTES_A_WEIGHT = 16
"""fp32 weights, gradients, and AdamW's two moments."""
BYTES_A_LOGIT = 10
"""bf16, fp32, and the gradient of the latter."""


@dataclass(frozen=True)
class GPU:
    """`peak`: dense bf16 FLOP/s; `memory`: bytes. From NVIDIA's data sheets."""

    peak: float
    memory: float


GPUS = {
    "h200": GPU(989e12, 141e9),
    "h100": GPU(989e12, 80e9),
    "a100": GPU(312e12, 80e9),
    "l40s": GPU(362e12, 48e9),
    "rtx4090": GPU(165e12, 24e9),
}


@dataclass(frozen=True)
class Optimum:
    """What a law calls best. `weights`: with embeddings for Chinchilla, without for Kaplan. `flops`: 6 N D."""

    law: str
    weights: float
    tokens: float

    @property
    def flops(self) -> float:
        """Of training, by 6 N D."""
        return 6 * self.weights * self.tokens


@dataclass(frozen=True)
class Plan:
    """A model near an optimum and a run of it. `weights`: without the vocabulary's padding. `flops`: by 6 N + 12 L d T a
    token. `memory`: bytes on one GPU at `rows` windows at a time. `gpu_hours`: at the share of the peak that was assumed."""

    model: ModelConfig
    weights: int
    tokens: float
    flops: float
    rows: int
    memory: float
    gpu_hours: float
    config: str


def optima(flops: float | None = None, tokens: float | None = None) -> tuple[Optimum, Optimum]:
    """Kaplan's and Chinchilla's, for a budget of `flops` or of `tokens`. Raises `ConfigError` for none, both or nothing."""
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


def gpu_named(name: str) -> GPU:
    """Raises `ConfigError` for one that is not known."""
    if name.lower() not in GPUS:
        raise ConfigError(f"there is no figure for the GPU {name!r}; {nearest(name.lower(), GPUS)}")
    return GPUS[name.lower()]


def plan_for(
    optimum: Optimum, tokens: float | None, vocabulary: int, window: int, gpu: GPU, utilization: float
) -> Plan:
    """The model nearest to an optimum with embeddings, and a run of `tokens`, or of the optimum's FLOPs.

    Width is 64 times the depth, as in nanochat (2025), with heads of 64, and of 128 from a width of 1,024 on.
    """
    shapes = {layers: _shape(layers, window) for layers in (*range(1, 16), *range(16, 129, 2))}
    sizes = {layers: weights_of(shape, vocabulary) for layers, shape in shapes.items()}
    layers = min(sizes, key=lambda number: abs(math.log(sizes[number] / optimum.weights)))
    shape, weights = shapes[layers], sizes[layers]
    a_token = flops_a_token(shape, weights)
    tokens = optimum.flops / a_token if tokens is None else tokens
    rows = 1
    while rows < 512 and memory_of(shape, weights, vocabulary, 2 * rows) < 0.9 * gpu.memory:
        rows *= 2
    batch_tokens = 2 ** min(max(round(math.log2(tokens / 10_000)), 14), 19)
    batch_size = max(batch_tokens // window, 1)
    rows = min(rows, batch_size)
    steps = max(round(tokens / (batch_size * window)), 1)
    flops = a_token * steps * batch_size * window
    embeddings = vocabulary * shape.width
    # Kaplan et al. 2020, equation D.1, N without embeddings
    rate = 0.003239 - 0.0001395 * math.log(max(weights - embeddings, 1e4))
    config = {
        "output": "train/budget",
        "data": {"path": "runs/mine/shard"},
        "model": {
            "layers": shape.layers,
            "width": shape.width,
            "heads": shape.heads,
            "head_size": shape.head_size,
            "window": window,
        },
        "optimizer": {"learning_rate": float(f"{rate:.2g}")},
        "schedule": {"steps": steps, "warmup": min(max(steps // 50, 1), 1000)},
        "batch_size": batch_size,
        "rows": rows,
    }
    return Plan(
        model=shape,
        weights=weights,
        tokens=float(steps * batch_size * window),
        flops=flops,
        rows=rows,
        memory=memory_of(shape, weights, vocabulary, rows),
        gpu_hours=flops / (gpu.peak * utilization) / 3600,
        config=yaml.safe_dump(config, sort_keys=False, default_flow_style=None),
    )


def memory_of(shape: ModelConfig, weights: int, vocabulary: int, rows: int) -> float:
    """Bytes that training takes on one GPU: state, activations and logits of `rows` windows.

    Activations: 34 bytes a token, layer and unit of width in bf16 without attention scores (Korthikanti et al. 2022, equation
    2 and below), nothing recomputed.
    """
    tokens = rows * shape.window
    return BYTES_A_WEIGHT * weights + 34.0 * tokens * shape.layers * shape.width + BYTES_A_LOGIT * tokens * vocabulary


def _shape(layers: int, window: int) -> ModelConfig:
    width = 64 * layers
    head_size = 128 if width >= 1024 else 64
    return ModelConfig(layers=layers, width=width, heads=width // head_size, head_size=head_size, window=window)


def weights_of(shape: ModelConfig, vocabulary: int) -> int:
    """What `Transformer.parameter_count` says of a suggested shape, without making the model."""
    attention = 2 * shape.width * shape.size_of_head * (shape.heads + shape.kv_heads)
    block = attention + 3 * shape.width * shape.size_of_mlp + 2 * shape.width
    return shape.layers * block + shape.width + vocabulary * shape.width
