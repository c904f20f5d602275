"""Where things are in a training run's folder; needs no torch."""

from __future__ import annotations

from pathlib import Path

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
CHECKPOINTS = "checkpoints"
LATEST = "latest"
"""The link among the checkpoints that leads to the last complete one."""


def find_checkpoint(place: Path | str) -> Path | None:
    """The folder of a checkpoint, given it or a training run's folder (its latest then); None where there is none."""
    place = Path(place)
    for folder in (place, place / CHECKPOINTS / LATEST, place / LATEST):
        if (folder / "state.json").is_file():
            return folder.resolve()
    return None
