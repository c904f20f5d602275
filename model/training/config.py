"""The config of a training run: frozen dataclasses, read strictly from YAML.

A config may name another with `base:` (a path relative to its own); what it says itself goes before. The presets in
`configs/` are complete but for the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenmill.model.common.config_file import ConfigError, apply_setting, expand, read_config
from tokenmill.model.common.dataclass_config import _require, build
from tokenmill.model.nn.model_config import ModelConfig


@dataclass(frozen=True)
class Part:
    """A dataset of a mixture and its share of the samples."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class DataConfig:
    """What the model learns from."""

    path: str | None = None
    """Folder of a dataset (it holds dataset.json), as `tokenmill run` writes it."""
    mixture: tuple[Part, ...] = ()
    """Several datasets by weight, in place of `path`."""
    split: str = "train"
    validation: str | None = "validation"
    """The split for evaluation; null for none."""
    packing: Literal["none", "best_fit"] = "none"
    documents_apart: bool = False
    """Attention does not cross document ends."""

    def __post_init__(self) -> None:
        _require(
            (self.path is None) != (not self.mixture),
            "path: name a dataset's folder (--set data.path=runs/quickstart/shard), or a mixture of several",
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The datasets with their weights."""
        return self.mixture if self.path is None else (Part(self.path),)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), or Muon (Jordan et al. 2024) for the blocks' matrices and AdamW for the rest."""

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 6e-4
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    """Of matrices; norms and biases have none."""
    decay_embeddings: bool = False
    clip: float = 1.0
    """Largest norm of the gradient; 0 for any."""
    muon_learning_rate: float = 0.02
    muon_momentum: float = 0.95


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate's course, as a factor of the optimizer's."""

    steps: int = 1000
    kind: Literal["cosine", "warmup_stable_decay"] = "cosine"
    warmup: int = 100
    """Steps in which the rate rises from 0."""
    decay: float = 0.2
    """Share of the steps, at the end, in which warmup_stable_decay falls."""
    final: float = 0.1
    """Where it ends, as a share of the highest."""

    def __post_init__(self) -> None:
        _require(self.steps > 0, f"steps: is above 0, not {self.steps}")
        _require(0 <= self.warmup <= self.steps, f"warmup: is from 0 to the {self.steps} steps, not {self.warmup}")
        _require(0 <= self.decay <= 1 and 0 <= self.final <= 1, "decay, final: are shares from 0 to 1")


@dataclass(frozen=True)
class ParallelConfig:
    """How ranks divide the work; data x tensor is the number of processes that torchrun starts."""

    data: int | None = None
    """Ranks that see different samples; default: all that `tensor` leaves."""
    tensor: int = 1
    """Ranks that share each block's matrices."""
    shard: bool = False
    """Weights, gradients and optimizer state divided among the data ranks (FSDP2) instead of held by each (DDP)."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run can go on from."""

    every: int = 500
    """Steps between checkpoints; one is written at the end in any case."""
    keep: int = 2
    """How many of the last are kept."""

    def __post_init__(self) -> None:
        _require(self.every > 0 and self.keep > 0, "every, keep: are above 0")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is looked at along the way; at the end in any case."""

    every: int = 250
    tokens: int | None = None
    """Tokens of the validation split to look at, from its first; default: all."""
    prompt: str | None = None
    """Continued at each evaluation, to samples.jsonl."""

    def __post_init__(self) -> None:
        _require(self.every > 0, "every: is above 0")


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    output: str
    """The run's folder: checkpoints, metrics, loader.json. A run that is there already goes on."""
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    batch_size: int = 512
    """Samples (windows) of a step, of all ranks together."""
    rows: int = 16
    """Samples that a rank takes through the model at once; what is missing to `batch_size` is accumulated."""
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto is bf16 where the device multiplies it (GPUs; processors with AVX512-BF16 or AMX, where it is twice as fast), else
    fp32. Weights and optimizer state are fp32 either way."""
    compile: bool | None = None
    """torch.compile; default: on a GPU."""
    attention_kernel: Literal["auto", "cudnn", "flash", "efficient", "math"] = "auto"
    loss_chunk: int | None = None
    """Tokens whose logits are held at once; default: all, which is fastest where memory holds them."""
    activation_checkpointing: Literal["none", "selective", "block"] = "none"
    """Recomputes in the backward pass: all but matrix products and attention, or whole blocks."""
    deterministic: bool = False
    """On a GPU: the same losses bit by bit, slower. On a CPU they are anyway."""
    tensorboard: bool = False
    """Writes the metrics for TensorBoard too; needs the package tensorboard."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    stop_after_bad_steps: int = 10
    """Steps with a loss or gradient that is not finite are skipped; the run stops after this many in a row."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "rows", "log_every", "stop_after_bad_steps"):
            _require(getattr(self, name) > 0, f"{name}: is above 0, not {getattr(self, name)}")
        _require(self.loss_chunk is None or self.loss_chunk > 0, "loss_chunk: is above 0")
        _require(
            self.optimizer.kind == "adamw" or (self.parallel.tensor == 1 and not self.parallel.shard),
            "optimizer.kind: muon needs whole matrices: no parallel.shard and no parallel.tensor beside it",
        )


def load_train_config(path: str, settings: Sequence[str] = (), output: str | None = None) -> TrainConfig:
    """Reads a training config, its bases and `--set`s. Raises `ConfigError` that names file, key and the nearest right word."""
    raw = _with_bases(path, ())
    for setting in settings:
        apply_setting(raw, setting)
    if output is not None:
        raw["output"] = output
    return build(TrainConfig, expand(raw, path, ""), path)


def _with_bases(path: str, above: tuple[str, ...]) -> dict[str, Any]:
    raw = read_config(path)
    base = raw.pop("base", None)
    if base is None:
        return raw
    place = str(Path(path).parent / str(base))
    if place in above:
        raise ConfigError(f"{path}: base: {base} leads back to itself")
    return _merged(_with_bases(place, (*above, place)), raw)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
