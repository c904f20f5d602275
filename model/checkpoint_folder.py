"""Where checkpoints are. Looking for one needs no torch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = "checkpoints"
"""The folder in a training run's."""
LATEST = "latest"
"""The link in it to the last that is whole."""


def find_checkpoint(place: Path | str) -> Path | None:
    """The folder of a checkpoint, given it or a training run's folder (then its latest); None where there is none."""
    place = Path(place)
    for folder in (place, place / CHECKPOINTS / LATEST, place / LATEST):
        if (folder / "state.json").is_file():
            return folder.resolve()
    return None
