"""`tokenmill schema`."""

from __future__ import annotations

import json


def schema() -> None:
    """Prints the JSON schema of a config, every stage's keys included (for editors and for reading).

    `tokenmill schema > tokenmill.schema.json`
    """
    from tokenmill.pipeline.graph.schema import config_schema

    print(json.dumps(config_schema(), indent=1))
