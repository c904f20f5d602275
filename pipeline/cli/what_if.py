"""`tokenmill what-if`."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from tokenmill.pipeline.cli.options import AsJson, Run, Settings


def what_if(run: Run, settings: Settings = None, as_json: AsJson = False) -> None:
    """Tells what a stage would keep and drop with other thresholds, from the ledger alone: nothing runs.

    For thresholds of quality and language stages; anything else must be run.

    `tokenmill what-if runs/quickstart --set stages.quality.rules.gopher.min_words=100`
    """
    from tokenmill.pipeline.commands.printing import print_answer
    from tokenmill.pipeline.commands.what_if import what_if as answer_for
    from tokenmill.pipeline.run.runner import python_paths
    from tokenmill.pipeline.storage.run_folder import open_run

    sys.path.extend(path for path in python_paths() if path not in sys.path)
    answer = answer_for(open_run(run), settings or [])
    if as_json:
        print(json.dumps(answer.as_json(), indent=1, ensure_ascii=False))
    else:
        print_answer(Console(), answer)
