"""`tokenmill schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    training: Annotated[
        bool, typer.Option("--training", help="Of a training run's config (`tokenmill train`).")
    ] = False,
) -> None:
    """Prints the JSON schema of a config, every stage's keys included (for editors and for reading).

    `tokenmill schema > tokenmill.schema.json`

    `tokenmill schema --training > training.schema.json`
    """
    from tokenmill.model.training.config import train_config_schema
    from tokenmill.pipeline.graph.schema import config_schema

    print(json.dumps(train_config_schema() if training else config_schema(), indent=1))
