"""The files that a training run's figures are written to: JSON lines, and TensorBoard's events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.common.files import write_whole
from tokenmill.model.training.run_folder import METRICS_FILE


class StepLines:
    """A file of JSON lines, each with its `step` (from 0)."""

    def __init__(self, path: Path, begin: int, writes: bool) -> None:
        """Keeps what an earlier start wrote of the steps before `begin`. `writes`: whether this process writes the file."""
        self._path, self._writes = path, writes
        if writes and path.exists():
            kept = [line for line in self._lines() if line["step"] < begin]
            write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Appends lines."""
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
        """`tensorboard`: writes to `folder/tensorboard` too. Raises `ConfigError` where its package is not installed."""
        super().__init__(folder / METRICS_FILE, begin, writes)
        self._board = _summary_writer(folder / "tensorboard", begin) if tensorboard and writes else None

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Appends lines."""
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
