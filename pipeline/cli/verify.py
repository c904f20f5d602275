"""`tokenmill verify`."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from tokenmill.model.common.exit_codes import DONE, FAILED
from tokenmill.pipeline.cli.options import AsJson, Run


def verify(run: Run, as_json: AsJson = False) -> None:
    """Checks a run: checksums, conservation, index against tokens, decoding of a sample. Exit code 1 if anything is wrong.

    `tokenmill verify runs/quickstart`
    """
    from tokenmill.pipeline.commands.printing import print_verification
    from tokenmill.pipeline.commands.verify import verify as check
    from tokenmill.pipeline.storage.run_folder import open_run

    result = check(open_run(run))
    if as_json:
        print(json.dumps({"problems": result.problems, "checked": result.checked}, indent=1, ensure_ascii=False))
    else:
        print_verification(Console(), result)
    sys.exit(FAILED if result.problems else DONE)
