"""`tokenmill plan`."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from tokenmill.pipeline.cli.options import AsJson, Config, OutputFolder, Sample, Settings


def plan(
    config: Config,
    settings: Settings = None,
    output: OutputFolder = None,
    sample: Sample = None,
    as_json: AsJson = False,
) -> None:
    """Shows the DAG and its steps: what is done, what is pending, and because of what. Runs nothing.

    `tokenmill plan my.yaml --set stages.quality.rules=[gopher]`
    """
    from tokenmill.pipeline.commands.plan import plan_status
    from tokenmill.pipeline.commands.printing import print_plan
    from tokenmill.pipeline.graph.config import load_config
    from tokenmill.pipeline.run.runner import python_paths

    sys.path.extend(path for path in python_paths() if path not in sys.path)
    status = plan_status(load_config(config, settings or [], output, sample), config)
    if as_json:
        print(json.dumps(status.as_json(), indent=1))
    else:
        print_plan(Console(), status)
