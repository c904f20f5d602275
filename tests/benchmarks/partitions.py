"""What many partitions cost the driver: `python -m tests.benchmarks.partitions FOLDER --files 2000 --workers 2`.

Writes so many JSONL files of one document each, runs a DAG over them, and runs it again with nothing to do; prints seconds
of both, the files below `steps/`, and what a task is sent at most.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path

from tests.runs import text_of
from tokenmill import Pipeline
from tokenmill.pipeline.run.run_plan import RunPlan

STAGES = {
    "language": {"keep": ["en"]},
    "quality": {"rules": ["gopher"]},
    "deduplicate": {},
    "tokenizer": {"vocab_size": 600},
    "shard": {"validation": 0},
}


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="0: all in this process")
    arguments = parser.parse_args()
    inputs = arguments.folder / f"in-{arguments.files}"
    inputs.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.files):
        (inputs / f"{number:06}.jsonl").write_text(json.dumps({"text": text_of("bread", number)}) + "\n")
    output = arguments.folder / f"run-{arguments.files}"
    config = {
        "output": str(output),
        "sources": {"texts": {"path": str(inputs / "*.jsonl")}},
        "stages": STAGES,
    }
    for what in ("first run", "nothing to do"):
        began = time.perf_counter()
        report = Pipeline(config).run(workers=arguments.workers)
        print(f"{what}: {time.perf_counter() - began:.1f} s, {report.tasks_run:,} tasks", flush=True)
    began = time.perf_counter()
    plan = RunPlan.of(Pipeline(config).config, "config")
    largest = 0
    for name in plan.step_names:
        status = plan.status(name)
        plan.enter(status)
        sent = (len(pickle.dumps(replace(task, shared=None))) for task in plan.tasks(name))
        largest = max([largest, *sent])
    print(f"every task made anew: {time.perf_counter() - began:.1f} s; the largest is sent as {largest:,} bytes")
    print(f"{sum(1 for path in (output / 'steps').rglob('*') if path.is_file()):,} files below steps/")


if __name__ == "__main__":
    main()
