"""The config of a training run: pydantic models, read strictly from YAML.

A config may name another with `base:` (a path relative to its own); its own keys replace those of its base. The presets in
`configs/` are complete except for the data and the output. `tokenmill schema --training` prints the JSON schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tokenmill.model.common.config_file import ConfigError, apply_setting, expand, read_config
from tokenmill.model.common.validation import Number, StrictConfig, require, validate
from tokenmill.model.nn.model_config import ModelConfig


class MixtureComponent(StrictConfig):
    """A dataset of a mixture and its share of the samples."""

    path: str = Field(description="Folder of a dataset.")
    weight: Number = Field(1.0, gt=0, description="Share of the samples; weights need not sum to 1.")


class DataConfig(StrictConfig):
    """What the model learns from: `path` or `mixture`."""

    path: str | None = Field(
        None, description="Folder of a dataset (it holds dataset.json), as `tokenmill run` writes it."
    )
    mixture: tuple[MixtureComponent, ...] = Field(
        (), strict=False, description="Several datasets by weight, in place of `path`."
    )
    split: str = Field("train", description="The split that is learned from.")
    validation: str | None = Field("validation", description="The split for evaluation; null for none.")
    packing: Literal["none", "best_fit"] = Field(
        "none", description="best_fit: windows are filled with whole documents, as few as possible cut."
    )
    document_masking: bool = Field(False, description="Attention does not cross document ends.")

    @model_validator(mode="after")
    def _names_data(self) -> Self:
        require(
            (self.path is None) != (not self.mixture),
            "path",
            "name a dataset's folder (--set data.path=runs/quickstart/shard), or a mixture of several",
        )
        return self

    @property
    def components(self) -> tuple[MixtureComponent, ...]:
        """The datasets with their weights."""
        return self.mixture if self.path is None else (MixtureComponent(path=self.path),)


class OptimizerConfig(StrictConfig):
    """AdamW (Loshchilov and Hutter 2019), or Muon (Jordan et al. 2024) for the blocks' matrices and AdamW for the rest."""

    kind: Literal["adamw", "muon"] = Field("adamw", description="Which of the two.")
    learning_rate: Number = Field(6e-4, gt=0, description="The highest rate of AdamW.")
    betas: tuple[Number, Number] = Field(
        (0.9, 0.95), strict=False, description="Decay of AdamW's averages of the gradient and of its square, a step."
    )
    eps: Number = Field(1e-8, gt=0, description="Added to what AdamW divides by.")
    weight_decay: Number = Field(0.1, ge=0, description="Of matrices; norms and biases have none.")
    decay_embeddings: bool = Field(False, description="Whether embeddings have weight decay too.")
    grad_clip: Number = Field(1.0, ge=0, description="Largest norm of the gradient; 0 for any.")
    muon_learning_rate: Number = Field(0.02, gt=0, description="The highest rate of Muon.")
    muon_momentum: Number = Field(0.95, ge=0, lt=1, description="Share of the momentum that a step keeps.")

    @model_validator(mode="after")
    def _averages(self) -> Self:
        require(
            all(0 <= beta < 1 for beta in self.betas), "betas", f"must be from 0 to below 1, not {list(self.betas)}"
        )
        return self


class ScheduleConfig(StrictConfig):
    """The learning rate's course, as a factor of the optimizer's."""

    steps: int = Field(1000, ge=1, description="Steps of the whole run.")
    kind: Literal["cosine", "warmup_stable_decay"] = Field(
        "cosine",
        description="Half a cosine (Loshchilov and Hutter 2017), or a plateau and a linear fall (Hu et al. 2024).",
    )
    warmup_steps: int = Field(100, ge=0, description="Steps in which the rate rises from 0.")
    decay_ratio: Number = Field(
        0.2, ge=0, le=1, description="Share of the steps, at the end, in which warmup_stable_decay falls."
    )
    min_lr_ratio: Number = Field(0.1, ge=0, le=1, description="Where the rate ends, as a share of the highest.")

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        require(
            self.warmup_steps <= self.steps,
            "warmup_steps",
            f"must be from 0 to the {self.steps} steps, not {self.warmup_steps}",
        )
        return self


class ParallelConfig(StrictConfig):
    """How ranks divide the work; data x tensor is the number of processes that torchrun starts."""

    data: int | None = Field(
        None, ge=1, description="Ranks that see different samples; default: all that `tensor` leaves."
    )
    tensor: int = Field(1, ge=1, description="Ranks that share each block's matrices (tensor parallelism).")
    fsdp: bool = Field(
        False,
        description="Weights, gradients and optimizer state are divided among the data ranks (FSDP2), not held by each (DDP).",
    )


class CheckpointConfig(StrictConfig):
    """When the run can be resumed from."""

    every: int = Field(500, ge=1, description="Steps between checkpoints; one is written at the end in any case.")
    keep: int = Field(2, ge=1, description="How many of the last are kept.")


class EvaluationConfig(StrictConfig):
    """What is evaluated along the way, and at the end in any case."""

    every: int = Field(250, ge=1, description="Steps between evaluations.")
    tokens: int | None = Field(
        None, ge=1, description="Tokens of the validation split to evaluate on, from its first; default: all."
    )
    prompt: str | None = Field(None, description="Continued at each evaluation, to samples.jsonl.")


class TrainConfig(StrictConfig):
    """A training run."""

    output: str = Field(
        description="The run's folder: checkpoints, metrics, data_log.json. A run that it already holds is resumed."
    )
    data: DataConfig
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    parallel: ParallelConfig = ParallelConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    batch_size: int = Field(
        512, ge=1, description="Samples (windows of context_length tokens) a step, of all ranks together."
    )
    micro_batch_size: int = Field(
        16,
        ge=1,
        description="Samples that a rank takes through the model at once; the gradients of several are accumulated to "
        "`batch_size`.",
    )
    seed: int = Field(0, ge=0, description="Of the initial weights and of the samples' order.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="auto is bf16 where the device multiplies it (GPUs; CPUs with AVX512-BF16 or AMX, at twice the speed), "
        "else fp32. Weights and optimizer state are fp32 either way.",
    )
    compile: bool | None = Field(None, description="torch.compile; default: on a GPU.")
    attention_kernel: Literal["auto", "cudnn", "flash", "efficient", "math"] = Field(
        "auto", description="The kernel of full attention; auto is the first of these that can be used."
    )
    loss_chunk: int | None = Field(
        None,
        ge=1,
        description="Tokens whose logits are held at once; default: all, which is fastest where memory holds them.",
    )
    activation_checkpointing: Literal["none", "selective", "block"] = Field(
        "none", description="Recomputes in the backward pass: all but matrix products and attention, or whole blocks."
    )
    deterministic: bool = Field(
        False, description="On a GPU: the same losses bit by bit, slower. On a CPU they are anyway."
    )
    tensorboard: bool = Field(
        False, description="Writes the metrics for TensorBoard too; needs the package tensorboard."
    )
    log_every: int = Field(10, ge=1, description="Steps between writes to metrics.jsonl and lines on the terminal.")
    stop_after_bad_steps: int = Field(
        10,
        ge=1,
        description="Steps with a loss or gradient that is not finite are skipped; the run stops after this many in a row.",
    )

    @model_validator(mode="after")
    def _muon_has_whole_matrices(self) -> Self:
        require(
            self.optimizer.kind == "adamw" or (self.parallel.tensor == 1 and not self.parallel.fsdp),
            "optimizer.kind",
            "muon needs whole matrices: it cannot be used with parallel.fsdp or parallel.tensor",
        )
        return self


def load_train_config(path: str, settings: Sequence[str] = (), output: str | None = None) -> TrainConfig:
    """Reads a training config, its bases and `--set`s. Raises `ConfigError` that names file, key and the nearest right word."""
    raw = _with_bases(path, ())
    for setting in settings:
        apply_setting(raw, setting)
    if output is not None:
        raw["output"] = output
    # the presets have no data, and "data.path: name a dataset's folder" helps more than "data: is missing"
    raw.setdefault("data", {})
    return validate(TrainConfig, expand(raw, path, ""), where=path, prefix="")


def train_config_schema() -> dict[str, Any]:
    """The JSON schema of a training config's file: no key is required in it, since a base or `--set` may give any."""
    schema = TrainConfig.model_json_schema()
    del schema["required"]
    base = {
        "type": "string",
        "description": "Another config, by a path relative to this one; the keys here replace its keys.",
    }
    schema["properties"] = {"base": base, **schema["properties"]}
    return schema


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
