"""The training loop of one process among its ranks.

A step takes `batch_size` samples in the loader's order, whatever the number of ranks and of accumulated parts, so the same
documents are in the same step everywhere; `model.data.data_log` computes which.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
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
from tokenmill.model.data.data_log import note_steps
from tokenmill.model.data.mixture import Mixture
from tokenmill.model.nn.attention import attention_kernel, kernel_in_use
from tokenmill.model.nn.generate import Sampling, generate
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.checkpoint import restore, save_checkpoint
from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.evaluate import evaluate
from tokenmill.model.training.metrics import Clock, Metrics, StepLines, flops_a_token, line_for, peak_flops
from tokenmill.model.training.open_data import open_data
from tokenmill.model.training.optimizer import Optimizers, rate_factor
from tokenmill.model.training.parallel import Ranks, gradients_stay, ranks_of, spread
from tokenmill.model.training.run_folder import SAMPLES_FILE, find_checkpoint
from tokenmill.model.training.saved_model import CheckpointState, Vocabulary, read_state
from tokenmill.model.training.signals import garbage_waits, signals_wait

COLLECT_EVERY = 1000
"""Steps between collections of Python's garbage, which is not looked for otherwise: it would stop the step."""


class TrainingStopped(Exception):
    """The run cannot go on; `step` is the first of the bad steps that stopped it."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def train(config: TrainConfig) -> bool:
    """Trains until `schedule.steps`, from the run's latest checkpoint where there is one.

    False where a signal stopped it early; it goes on from there when it is called again. Raises `ConfigError` for what does
    not fit together, `TrainingStopped` after too many steps whose loss or gradient is not finite.
    """
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    with ranks_of(config) as ranks, attention_kernel(config.attention_kernel):
        return Run(config, ranks).go()


class Run:
    """A training run of one process among its ranks."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self.ranks, self.folder = config, ranks, Path(config.output)
        self.samples, self.validation = open_data(config, ranks)
        source = self.samples.datasets[0] if isinstance(self.samples, Mixture) else self.samples
        self.tokenizer = (source.folder / source.card["tokenizer"]).read_bytes()
        self.vocabulary = Vocabulary(source.vocab_size, source.end_of_text, source.card["tokenizer_hash"])
        self.precision = _precision(config, ranks.device)
        torch.manual_seed(config.seed)  # on the host, so that every device begins with the same weights
        self.model = Transformer(config.model, source.vocab_size).to(ranks.device)
        self.called = spread(self.model, config, ranks, self.precision)
        self.optimizers = Optimizers(self.model, config.optimizer)
        self.step = self.bad_steps = self.bad_in_a_row = 0
        self._resume()
        self.metrics = Metrics(self.folder, self.step, ranks.first, config.tensorboard)
        self.written = StepLines(self.folder / SAMPLES_FILE, self.step, ranks.first)
        tokens = config.batch_size * config.model.window
        peak = peak_flops(ranks.device)
        flops = flops_a_token(config.model, self.model.parameter_count())
        self.clock = Clock(tokens, flops, None if peak is None else peak * ranks.world_size)

    def go(self) -> bool:
        """All steps that are left; see `train`."""
        config, steps = self.config, self.config.schedule.steps
        self._say(self._opening())
        if self.step >= steps:
            self._say(f"Nothing to do: {self.folder} has done its {steps:,} steps.")
            return True
        unwritten: list[tuple[Tensor, Tensor]] = []
        saved = self.step
        stopped = False
        with signals_wait() as caught, garbage_waits():
            batches = iter(self.samples)
            while self.step < steps and not (stopped := self._stops(caught)):
                unwritten.append(self._step(batches))
                self.step += 1
                stopped = self._stops(caught)
                at_end = self.step == steps or stopped
                looks = at_end or self.step % config.evaluation.every == 0
                saves = at_end or self.step % config.checkpoint.every == 0
                if looks or saves or self.step % config.log_every == 0:
                    self._log(unwritten)
                    unwritten = []
                if looks and not stopped:
                    self._look()
                if saves:
                    self._save()
                    saved = self.step
                if looks or saves or self.step % COLLECT_EVERY == 0:
                    gc.collect()
                    self.clock.restart()
            if saved != self.step:  # the signal came while nothing was being learned
                if unwritten:
                    self._log(unwritten)
                self._save()
        if stopped:
            self._say(f"Stopped after step {self.step:,}; run the same command again to go on.")
        return not stopped

    def _stops(self, caught: list[int]) -> bool:
        """Whether a signal ends the run after this step. Several ranks ask each other where they log, and so stop together."""
        if self.ranks.world_size == 1:
            return bool(caught)
        return self.step % self.config.log_every == 0 and self.ranks.any(bool(caught))

    def _step(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """One step: its loss (nats a target, of this rank's share) and its gradient's norm, on the device."""
        config, ranks = self.config, self.ranks
        parts = config.batch_size // (config.rows * ranks.data_ranks)
        targets = config.batch_size * config.model.window
        summed = torch.zeros((), device=ranks.device)
        for part in range(parts):
            began = time.perf_counter()
            batch = next(batches)
            self.clock.waited(time.perf_counter() - began)
            documents = (batch.inputs == self.vocabulary.end_of_text).cumsum(1) if config.data.documents_apart else None
            with gradients_stay(self.called, part == parts - 1):
                with self._autocast():
                    loss = self.called(batch.inputs, batch.targets, documents, config.loss_chunk)
                # data ranks average their gradients, and each token weighs the same in every step
                (loss * (ranks.data_ranks / targets)).backward()
            summed += loss.detach()
        norm = self.optimizers.step(rate_factor(config.schedule, self.step))
        self.optimizers.zero()
        self.clock.step_done()
        return summed / targets, norm

    def _log(self, unwritten: list[tuple[Tensor, Tensor]]) -> None:
        losses = self.ranks.sum(torch.stack([loss for loss, _ in unwritten])).tolist()
        norms = torch.stack([norm for _, norm in unwritten]).tolist()
        figures = self.clock.figures()
        first = self.step - len(unwritten)
        lines: list[dict[str, Any]] = []
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True), first):
            rate = self.config.optimizer.learning_rate * rate_factor(self.config.schedule, number)
            finite = math.isfinite(loss) and math.isfinite(norm)
            shown = {"loss": loss, "gradient_norm": norm} if finite else {"loss": None, "gradient_norm": None}
            lines.append({"step": number, **shown, "learning_rate": rate})
        lines[-1] |= figures
        self.metrics.write(lines)
        left = (self.config.schedule.steps - self.step) * self.config.batch_size * self.config.model.window
        self._say(line_for(self.step - 1, self.config.schedule.steps, losses[-1], figures, left))
        self._count_bad(lines)
        self.clock.restart()

    def _count_bad(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["loss"] is not None:
                self.bad_in_a_row = 0
                continue
            self.bad_steps += 1
            self.bad_in_a_row += 1
            self._say(
                f"step {line['step']:,}: loss {line['loss']}, gradient norm {line['gradient_norm']}: step skipped"
            )
            if self.bad_in_a_row >= self.config.stop_after_bad_steps:
                first = line["step"] + 1 - self.bad_in_a_row
                raise TrainingStopped(
                    f"{self.bad_in_a_row} steps in a row had no finite loss or gradient, from step {first:,} on. Look at "
                    f"what they were fed (tokenmill trace {self.folder} {first}); a lower learning rate or a longer warm-up "
                    "may help",
                    first,
                )

    def _look(self) -> None:
        """Evaluates, and lets the model write."""
        settings = self.config.evaluation
        if self.validation is not None:
            with self._autocast():
                found = evaluate(self.called, self.validation, self.ranks, settings.tokens, self.config.loss_chunk)
            whole = found.pop("")
            line = {"step": self.step - 1, "validation_loss": whole.loss, "bits_per_byte": whole.bits_per_byte}
            by_source = {name: {"loss": one.loss, "bits_per_byte": one.bits_per_byte} for name, one in found.items()}
            self.metrics.write([{**line, "sources": by_source} if by_source else line])
            shown = f"{whole.bits_per_byte:.4f} bits per byte"
            if len(found) > 1:
                shown += f" ({', '.join(f'{name} {one.bits_per_byte:.4f}' for name, one in found.items())})"
            self._say(f"  validation: loss {whole.loss:.4f}, {shown}, {whole.tokens:,} tokens")
        if settings.prompt is not None:
            self.written.write([{"step": self.step - 1, "text": self._sample(settings.prompt)}])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.ranks.device.type, self.precision, enabled=self.precision != torch.float32)

    def _sample(self, prompt: str) -> str:
        tokenizer = Tokenizer.from_buffer(self.tokenizer)
        ids = [self.vocabulary.end_of_text, *tokenizer.encode(prompt).ids]
        self.model.eval()
        # its lengths change with every token: nothing to compile for, and not every kernel takes them
        with self._autocast(), attention_kernel("auto"), torch.compiler.set_stance("force_eager"):
            (made,) = generate(self.model, [ids], self.vocabulary.end_of_text, Sampling(tokens=100))
        self.model.train()
        return str(tokenizer.decode(ids[1:] + made))

    def _resume(self) -> None:
        checkpoint = find_checkpoint(self.folder)
        if checkpoint is not None:
            try:
                earlier = read_state(checkpoint)
                if (earlier.model, earlier.vocabulary) != (self.config.model, self.vocabulary):
                    raise ValueError("the model's shape or its vocabulary is another")
                self.samples.load_state_dict(earlier.stream)
            except ValueError as error:
                raise ConfigError(
                    f"{checkpoint}: cannot go on from here: {error}; give another output, or remove it"
                ) from error
            restore(checkpoint, self.model, self.optimizers)
            self.step, self.bad_steps = earlier.step, earlier.bad_steps
        if self.ranks.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = json.loads(json.dumps(dataclasses.asdict(self.config)))
            write_whole(self.folder / "config.yaml", yaml.safe_dump(content, sort_keys=False))
            try:
                note_steps(self.folder, self.samples, self.step, self.config.batch_size)
            except ValueError as error:
                raise ConfigError(str(error)) from error

    def _save(self) -> None:
        state = CheckpointState(
            self.step, self.samples.state_dict(), self.bad_steps, self.config.model, self.vocabulary
        )
        save_checkpoint(self.folder, state, self.model, self.optimizers, self.tokenizer, self.config.checkpoint.keep)

    def _opening(self) -> str:
        config, ranks, weights = self.config, self.ranks, self.model.parameter_count()
        kernel = kernel_in_use(config.model, ranks.device, self.precision)
        name = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "CPU"
        tokens = config.batch_size * config.model.window
        parts = [
            f"{weights / 1e6:,.1f} M weights on {ranks.world_size} x {name}, {str(self.precision).removeprefix('torch.')}",
            f"attention by the {kernel} kernel",
            f"{config.schedule.steps:,} steps of {tokens:,} tokens, {tokens * config.schedule.steps / weights:.1f} a weight",
            f"{flops_a_token(config.model, weights) / 1e6:,.0f} MFLOPs a token (6 N + 12 L d T)",
        ]
        return "; ".join([*parts, f"goes on after step {self.step:,}"] if self.step else parts)

    def _say(self, line: str) -> None:
        if self.ranks.first:
            print(line, flush=True)


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    native = device.type == "cuda"
    if not native:
        # asked of torch from 2.13 on; before, a processor is taken to have none
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if config.precision == "bf16" or (config.precision == "auto" and native) else torch.float32
