"""What a training run reports as it trains: its lines on the terminal, `metrics.jsonl` and `samples.jsonl`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tokenmill.model.training.config import TrainConfig
from tokenmill.model.training.evaluate import Evaluation
from tokenmill.model.training.metrics import Metrics, StepLines
from tokenmill.model.training.optimizer import rate_factor
from tokenmill.model.training.run_folder import SAMPLES_FILE


class MetricsLog:
    """Formats a run's figures for people and for machines. Only the first rank prints and writes."""

    def __init__(self, config: TrainConfig, step: int, is_first: bool) -> None:
        """`step`: steps done so far; what an earlier start wrote of later ones is removed."""
        self._config, self._is_first = config, is_first
        folder = Path(config.output)
        self._metrics = Metrics(folder, step, is_first, config.tensorboard)
        self._samples = StepLines(folder / SAMPLES_FILE, step, is_first)

    def print(self, line: str) -> None:
        """Prints a line for people."""
        if self._is_first:
            print(line, flush=True)

    def steps(self, first: int, losses: list[float], norms: list[float], figures: dict[str, float]) -> None:
        """Logs the steps from `first` on, one or more; `figures` are of all of them (see `Throughput.figures`)."""
        lines = [
            self._step(step, loss, norm) for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), first)
        ]
        lines[-1] |= figures
        self._metrics.write(lines)
        self.print(self._step_line(lines[-1]["step"], losses[-1], figures))
        for line, loss, norm in zip(lines, losses, norms, strict=True):
            if line["loss"] is None:
                self.print(f"step {line['step']:,}: loss {loss}, gradient norm {norm}: step skipped")

    def _step(self, step: int, loss: float, norm: float) -> dict[str, Any]:
        rate = self._config.optimizer.learning_rate * rate_factor(self._config.schedule, step)
        # JSON has neither infinity nor NaN; where one of the two is not finite the step was skipped
        finite = math.isfinite(loss) and math.isfinite(norm)
        shown = {"loss": loss, "gradient_norm": norm} if finite else {"loss": None, "gradient_norm": None}
        return {"step": step, **shown, "learning_rate": rate}

    def _step_line(self, step: int, loss: float, figures: dict[str, float]) -> str:
        config, rate = self._config, figures["tokens_per_second"]
        steps = config.schedule.steps
        tokens_left = (steps - step - 1) * config.batch_size * config.model.context_length
        parts = [f"step {step + 1:,}/{steps:,}", f"loss {loss:.4f}", f"{rate:,.0f} tokens/s"]
        if "mfu" in figures:
            parts.append(f"MFU {figures['mfu']:.1%}")
        parts.append(f"data wait {figures['data_wait']:.1%}")
        parts.append(f"{duration(tokens_left / rate)} left")
        return "  ".join(parts)

    def evaluation(self, step: int, found: dict[str, Evaluation]) -> None:
        """Logs an evaluation after `step`: by source, and of all as ""."""
        whole = found[""]
        sources = {name: one for name, one in found.items() if name}
        line: dict[str, Any] = {"step": step, "validation_loss": whole.loss, "bits_per_byte": whole.bits_per_byte}
        if sources:
            line["sources"] = {
                name: {"loss": one.loss, "bits_per_byte": one.bits_per_byte} for name, one in sources.items()
            }
        self._metrics.write([line])
        shown = f"{whole.bits_per_byte:.4f} bits per byte"
        if len(sources) > 1:
            shown += f" ({', '.join(f'{name} {one.bits_per_byte:.4f}' for name, one in sources.items())})"
        self.print(f"  validation: loss {whole.loss:.4f}, {shown}, {whole.tokens:,} tokens")

    def sample(self, step: int, text: str) -> None:
        """Logs what the model wrote after `step`."""
        self._samples.write([{"step": step, "text": text}])


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
