"""`tokenmill verify`."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.cli.options import DONE, RUN_FAILED, AsJson, Run


def verify(run: Run, as_json: AsJson = False) -> None:
    """Checks a run: checksums, conservation, index against tokens, decoding of a sample. Exit code 1 if anything is wrong.

    `tokenmill verify runs/quickstart`
    """
    from tokenmill.pipeline.commands.verify import verify as check
    from tokenmill.pipeline.storage.run_folder import open_run

    result = check(open_run(run))
    if as_json:
        print(json.dumps({"problems": result.problems, "checked": result.checked}, indent=1, ensure_ascii=False))
    else:
        console = Console()
        for problem in result.problems:
            console.print(f"[red]wrong[/]: {escape(problem)}", highlight=False)
        console.print(", ".join(f"{count:,} {what}" for what, count in result.checked.items()) + " checked.")
        console.print("All is well." if not result.problems else f"{len(result.problems)} problems.")
    sys.exit(RUN_FAILED if result.problems else DONE)
