"""The training loop of one process among its ranks.

A step takes `batch_size` samples in the loader's order, whatever the number of ranks and of micro-batches, so that the same
documents are in the same step everywhere; `model.data.data_log` computes which.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer
from torch import Tensor

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.common.files import write_whole
from tokenmill.model.data.data_log import record_steps
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.nn.attention import attention_kernel, kernel_in_use
from tokenmill.model.nn.generate import Sampling, generate
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.bad_steps import BadSteps
from tokenmill.model.training.checkpoint import restore, save_checkpoint
from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.evaluate import evaluate
from tokenmill.model.training.gpus import peak_flops
from tokenmill.model.training.metrics_log import MetricsLog
from tokenmill.model.training.open_data import open_data
from tokenmill.model.training.optimizer import Optimizers, rate_factor
from tokenmill.model.training.parallel import ParallelDims, no_gradient_sync, parallel_dims, parallelize
from tokenmill.model.training.run_folder import find_checkpoint
from tokenmill.model.training.saved_model import CheckpointState, Vocabulary, read_state
from tokenmill.model.training.signals import gc_paused, signals_deferred
from tokenmill.model.training.throughput import Throughput, flops_per_token

COLLECT_EVERY = 1000
"""Steps between collections of Python's garbage (see `gc_paused`)."""


def train(config: TrainConfig) -> bool:
    """Trains until `schedule.steps`, from the run's latest checkpoint where there is one.

    False where a signal stopped it early; called again, it resumes from there. Raises `ConfigError` for what does not fit
    together, `TrainingStopped` after too many steps whose loss or gradient is not finite.
    """
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    with parallel_dims(config) as dims, attention_kernel(config.attention_kernel):
        return Trainer(config, dims).train()


class Trainer:
    """A training run of one process among its ranks."""

    def __init__(self, config: TrainConfig, dims: ParallelDims) -> None:
        self.config, self.dims, self.folder = config, dims, Path(config.output)
        self.samples, self.validation = open_data(config, dims)
        source = self.samples.datasets[0] if isinstance(self.samples, Mixture) else self.samples
        self.tokenizer = (source.folder / source.card["tokenizer"]).read_bytes()
        self.vocabulary = Vocabulary(
            size=source.vocab_size, end_of_text=source.end_of_text, tokenizer_hash=source.card["tokenizer_hash"]
        )
        self.precision = _precision(config, dims.device)
        torch.manual_seed(config.seed)  # weights are drawn on the host, so that every device begins with the same ones
        self.model = Transformer(config.model, source.vocab_size).to(dims.device)
        self.ddp_model = parallelize(self.model, config, dims, self.precision)
        self.optimizers = Optimizers(self.model, config.optimizer)
        self.step = self.saved_step = 0
        self.bad_steps = BadSteps(0, config.stop_after_bad_steps, config.output)
        self._resume()
        self._write_config()
        self.log = MetricsLog(config, self.step, dims.is_first)
        self.unlogged: list[tuple[Tensor, Tensor]] = []
        """Losses and gradient norms since the last log. They stay on the device: reading one would make the host wait."""
        peak = peak_flops(dims.device)
        self.throughput = Throughput(
            config.batch_size * config.model.context_length,
            flops_per_token(config.model, self.model.parameter_count()),
            None if peak is None else peak * dims.world_size,
        )

    def train(self) -> bool:
        """All steps that are left; see the function `train`."""
        steps = self.config.schedule.steps
        self.log.print(self._opening())
        if self.step >= steps:
            self.log.print(f"Nothing to do: {self.folder} has done its {steps:,} steps.")
            return True
        stopped = False
        with signals_deferred() as caught, gc_paused():
            batches = iter(self.samples)
            while self.step < steps and not (stopped := self._stops(caught)):
                self.unlogged.append(self._step(batches))
                self.step += 1
                stopped = self._stops(caught)
                self._after_step(stopped)
            if self.saved_step != self.step:  # the signal came between two steps, during an evaluation for example
                self._log()
                self._save()
        if stopped:
            self.log.print(f"Stopped after step {self.step:,}; run the same command again to resume.")
        return not stopped

    def _step(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """One step: its loss (nats a target, of this rank's share) and its gradient's norm, on the device."""
        config, dims = self.config, self.dims
        micro_batches = config.batch_size // (config.micro_batch_size * dims.data_ranks)
        targets = config.batch_size * config.model.context_length
        summed = torch.zeros((), device=dims.device)
        for number in range(micro_batches):
            batch = self._next(batches)
            documents = self._documents(batch) if config.data.document_masking else None
            with no_gradient_sync(self.ddp_model, number < micro_batches - 1):
                with self._autocast():
                    loss = self.ddp_model(batch.inputs, batch.targets, documents, config.loss_chunk)
                # Divided by all targets of the step, padding included, so that each token weighs the same in every step;
                # times the data ranks, because these average their gradients
                (loss * (dims.data_ranks / targets)).backward()
            summed += loss.detach()
        norm = self.optimizers.step(rate_factor(config.schedule, self.step))
        self.optimizers.zero()
        self.throughput.add_step()
        return summed / targets, norm

    def _next(self, batches: Iterator[Any]) -> Any:
        began = time.perf_counter()
        batch = next(batches)
        self.throughput.add_wait(time.perf_counter() - began)
        return batch

    def _documents(self, batch: Any) -> Tensor:
        """The number of the document that each input is of, in its row: a document begins with the end of the one before."""
        return (batch.inputs == self.vocabulary.end_of_text).cumsum(1)

    def _stops(self, caught: list[int]) -> bool:
        """Whether a signal ends the run here. Several ranks ask each other, where they log, and so stop after the same step."""
        if self.dims.world_size == 1:
            return bool(caught)
        return self.step % self.config.log_every == 0 and self.dims.any(bool(caught))

    def _after_step(self, stopped: bool) -> None:
        """Logs, evaluates and saves where it is time to, and at the end."""
        config = self.config
        at_end = stopped or self.step == config.schedule.steps
        evaluates = at_end or self.step % config.evaluation.every == 0
        saves = at_end or self.step % config.checkpoint.every == 0
        if evaluates or saves or self.step % config.log_every == 0:
            self._log()
        if evaluates and not stopped:
            self._evaluate()
        if saves:
            self._save()
        if evaluates or saves or self.step % COLLECT_EVERY == 0:
            gc.collect()
            self.throughput.restart()

    def _log(self) -> None:
        """Logs the steps since the last log. Raises `TrainingStopped` after too many bad steps in a row."""
        if not self.unlogged:
            return
        losses = self.dims.sum(torch.stack([loss for loss, _ in self.unlogged])).tolist()
        norms = torch.stack([norm for _, norm in self.unlogged]).tolist()
        first = self.step - len(self.unlogged)
        self.unlogged = []
        self.log.steps(first, losses, norms, self.throughput.figures())
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), first):
            self.bad_steps.count(step, loss, norm)
        self.throughput.restart()

    def _evaluate(self) -> None:
        """Evaluates, and has the model continue the prompt."""
        settings = self.config.evaluation
        if self.validation is not None:
            with self._autocast():
                found = evaluate(self.ddp_model, self.validation, self.dims, settings.tokens, self.config.loss_chunk)
            self.log.evaluation(self.step - 1, found)
        if settings.prompt is not None:
            self.log.sample(self.step - 1, self._sample(settings.prompt))

    def _sample(self, prompt: str) -> str:
        tokenizer = Tokenizer.from_buffer(self.tokenizer)
        ids = [self.vocabulary.end_of_text, *tokenizer.encode(prompt).ids]
        self.model.eval()
        # the shapes change with every token: compiling for each would take minutes, and not every attention kernel takes them
        with self._autocast(), attention_kernel("auto"), torch.compiler.set_stance("force_eager"):
            (made,) = generate(self.model, [ids], self.vocabulary.end_of_text, Sampling(tokens=100))
        self.model.train()
        return str(tokenizer.decode(ids[1:] + made))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.dims.device.type, self.precision, enabled=self.precision != torch.float32)

    def _resume(self) -> None:
        """Restores the latest checkpoint where there is one."""
        checkpoint = find_checkpoint(self.folder)
        if checkpoint is None:
            return
        try:
            state = read_state(checkpoint)
            if (state.model, state.vocabulary) != (self.config.model, self.vocabulary):
                raise ValueError("the model's shape or its vocabulary is another")
            self.samples.load_state_dict(state.stream)
        except ValueError as error:
            raise ConfigError(
                f"{checkpoint}: cannot resume from it: {error}; give another output, or remove it"
            ) from error
        restore(checkpoint, self.model, self.optimizers)
        self.step = self.saved_step = state.step
        self.bad_steps.total = state.bad_steps

    def _write_config(self) -> None:
        """Writes the config and what the run learns from into its folder."""
        if not self.dims.is_first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        write_whole(self.folder / "config.yaml", content)
        try:
            record_steps(self.folder, self.samples, self.step, self.config.batch_size)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _save(self) -> None:
        state = CheckpointState(
            step=self.step,
            stream=self.samples.state_dict(),
            bad_steps=self.bad_steps.total,
            model=self.config.model,
            vocabulary=self.vocabulary,
        )
        save_checkpoint(self.folder, state, self.model, self.optimizers, self.tokenizer, self.config.checkpoint.keep)
        self.saved_step = self.step

    def _opening(self) -> str:
        """What will be trained on what, in a line for people."""
        config, dims, weights = self.config, self.dims, self.model.parameter_count()
        kernel = kernel_in_use(config.model, dims.device, self.precision)
        device = torch.cuda.get_device_name(dims.device) if dims.device.type == "cuda" else "CPU"
        tokens, steps = config.batch_size * config.model.context_length, config.schedule.steps
        parts = [
            f"{weights / 1e6:,.1f} M weights on {dims.world_size} x {device}, {str(self.precision).removeprefix('torch.')}",
            f"attention by the {kernel} kernel",
            f"{steps:,} steps of {tokens:,} tokens, {tokens * steps / weights:.1f} a weight",
            f"{flops_per_token(config.model, weights) / 1e6:,.0f} MFLOPs a token (6 N + 12 L d T)",
        ]
        return "; ".join([*parts, f"resumes after step {self.step:,}"] if self.step else parts)


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    native = device.type == "cuda"
    if not native:
        # torch tells from 2.13 on; with an older one, a CPU is taken to multiply no bf16
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if config.precision == "bf16" or (config.precision == "auto" and native) else torch.float32
