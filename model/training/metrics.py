"""What a training run says while it goes on: lines for people, `metrics.jsonl` for machines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.common.files import write_whole
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.training.run_folder import METRICS_FILE

PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 FLOP/s with fp32 accumulation of a GPU whose name holds the key, by NVIDIA's data sheets. The first fits."""


def flops_a_token(config: ModelConfig, parameters: int) -> float:
    """FLOPs that training takes a token, forward and backward: 6 N + 12 L d T (Chowdhery et al. 2022, appendix B).

    Full attention, whatever the model's windows; N is `Transformer.parameter_count`; recomputed activations do not count.
    """
    return 6 * parameters + 12 * config.layers * config.heads * config.size_of_head * config.window


def peak_flops(device: torch.device) -> float | None:
    """A device's dense bf16 FLOP/s; None where they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for key, peak in PEAK_FLOPS.items() if key in name), None)


class StepLines:
    """A file of JSON lines, each with its `step` (from 0)."""

    def __init__(self, path: Path, begin: int, writes: bool) -> None:
        """Keeps what an earlier start wrote of the steps before `begin`. `writes`: whether this process does."""
        self._path, self._writes = path, writes
        if writes and path.exists():
            kept = [line for line in self._lines() if line["step"] < begin]
            write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Adds lines."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the end of a line that a kill cut off
                break
        return lines


class Metrics(StepLines):
    """The lines of `metrics.jsonl`: one a step, and one an evaluation after it."""

    def __init__(self, folder: Path, begin: int, writes: bool, tensorboard: bool) -> None:
        """`tensorboard`: writes to `folder/tensorboard` too. Raises `ConfigError` where that cannot be, for want of its
        package."""
        super().__init__(folder / METRICS_FILE, begin, writes)
        self._board = _summary_writer(folder / "tensorboard", begin) if tensorboard and writes else None

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Adds lines."""
        super().write(lines)
        if self._board is not None:
            for line in lines:
                for name, value in line.items():
                    if name != "step" and isinstance(value, float):
                        self._board.add_scalar(name, value, line["step"])
            self._board.flush()


def _summary_writer(folder: Path, begin: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("tensorboard: true needs its package: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=begin)


class Clock:
    """Where the time of the steps between two lines goes."""

    def __init__(self, tokens_a_step: int, flops: float, peak: float | None) -> None:
        """`peak`: FLOP/s of all ranks together."""
        self._tokens, self._flops, self._peak = tokens_a_step, flops, peak
        self.restart()

    def restart(self) -> None:
        """Begins anew: what went before (a compilation, an evaluation, a checkpoint) does not count."""
        self._began = time.perf_counter()
        self._steps = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Adds seconds in which the step waited for data."""
        self._waited += seconds

    def step_done(self) -> None:
        """Counts a step."""
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """`tokens_per_second` of all ranks, `data_wait` as a share of the time, `mfu` where the device's peak is known."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        rate = self._steps * self._tokens / seconds
        figures = {"tokens_per_second": round(rate, 1), "data_wait": round(self._waited / seconds, 5)}
        if self._peak is not None:
            figures["mfu"] = round(rate * self._flops / self._peak, 4)
        return figures


def line_for(step: int, steps: int, loss: float, figures: dict[str, float], tokens_left: int) -> str:
    """A line for people about the step that was done last."""
    rate = figures["tokens_per_second"]
    parts = [f"step {step + 1:,}/{steps:,}", f"loss {loss:.4f}", f"{rate:,.0f} tokens/s"]
    if "mfu" in figures:
        parts.append(f"MFU {figures['mfu']:.1%}")
    parts.append(f"data wait {figures['data_wait']:.1%}")
    parts.append(f"{duration(tokens_left / rate)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
