"""The whole path against datatrove: the same input, the same stages, whole processes, one after the other in one run.

python tests/benchmarks/whole_path.py DATA PEER_SCRIPT --peer-python PYTHON

DATA holds text.jsonl.gz, crawl/*.warc.gz and tokenizers/gpt2.json; PEER_SCRIPT runs datatrove over a folder (arguments:
input, output, tokenizer, language model, --format, --filters) and PYTHON is an interpreter that has datatrove
(`pip install 'tokenmill[peers]'` in an environment of its own). Stages on both sides: read, extract, language en >= 0.65,
with --filters all the rules of Gopher (repetition and quality), C4 and FineWeb, MinHash 14 x 8 over word 5-grams, GPT-2
tokens. Ours is run with a warm numba cache (a first run compiles for some seconds).

The last column is of the work up to the signatures alone: seconds of processor time of ours, of theirs the seconds of the
steps "filter" and "signature" times their two processes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tokenmill.stages.filters.language import bundled_model

COPIES = 8

RULES = {"gopher_repetition": {}, "gopher": {}, "c4": {"line_terminal_punctuation": False}, "fineweb": {}}
"""As the peer has them, in its order."""

TO_SIGNATURES = ("read", "language", "deduplicate.signatures")
"""How the names of the steps begin that read, extract, filter and sign."""


def ours(folder: Path, source: str, tokenizer: Path, filters: str, *, is_web: bool) -> tuple[float, dict[str, object]]:
    """Seconds of a whole `tokenmill run`, Ray's start included, and its report."""
    stages: dict[str, object] = {"extract": {}} if is_web else {}
    stages |= {
        "language": {"keep": ["en"], "min_score": 0.65},
        **({"quality": {"rules": RULES}} if filters == "all" else {}),
        "deduplicate": {"bands": 14, "rows": 8},
        "tokenizer": {"path": str(tokenizer)},
        "shard": {"validation": 0},  # a crawl of which 238 documents are left may have none for a share of 0.5 %
    }
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"output": str(folder / "run"), "sources": {"in": {"path": source}}, "stages": stages}, sort_keys=False
        )
    )
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tokenmill.pipeline.cli", "run", str(config), "--workers", "2"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - began
    return seconds, json.loads((folder / "run/report.json").read_text())


def theirs(folder: Path, source: Path, arguments: argparse.Namespace, *, is_web: bool) -> tuple[float, float]:
    """Seconds of a whole peer run, and of its steps to the signatures."""
    command = [
        arguments.peer_python,
        arguments.peer,
        source,
        folder / "peer",
        arguments.data / "tokenizers/gpt2.json",
        bundled_model(),
    ]
    command += ["--format", "warc" if is_web else "jsonl", "--tasks", "2", "--filters", arguments.filters]
    began = time.perf_counter()
    with (folder / "peer.log").open("wb") as log:
        subprocess.run([str(word) for word in command], check=True, stdout=log, stderr=log)
    seconds = time.perf_counter() - began
    result = next(line for line in (folder / "peer.log").read_text().splitlines() if line.startswith("RESULT "))
    steps = json.loads(result.removeprefix("RESULT "))
    return seconds, steps["filter"] + steps["signature"]


def inputs(data: Path, folder: Path) -> dict[str, tuple[Path, str, bool]]:
    """Name -> folder for the peer, glob for us, whether it is a web crawl."""
    texts, crawl = folder / "texts", folder / "crawl"
    texts.mkdir()
    crawl.mkdir()
    shutil.copy(data / "text.jsonl.gz", texts)
    for file in sorted((data / "crawl").glob("*.warc.gz")):
        for copy in range(COPIES):
            shutil.copy(file, crawl / f"copy{copy}-{file.name}")
    return {
        "text.jsonl.gz": (texts, f"{texts}/*.jsonl.gz", False),
        f"crawl x {COPIES}": (crawl, f"{crawl}/*.warc.gz", True),
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["text", "crawl"], help="one of the two inputs")
    parser.add_argument("--filters", choices=["language", "all"], default="language", help="all: quality rules too")
    arguments = parser.parse_args()
    arguments.data = arguments.data.resolve()
    print(
        "| input | tokenmill | datatrove | ratio | kept | peak memory of a task | to the signatures |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name, (source, pattern, is_web) in inputs(arguments.data, Path(scratch)).items():
            if arguments.only and not name.startswith(arguments.only):
                continue
            for _ in range(arguments.rounds):
                folder = Path(tempfile.mkdtemp(dir=scratch))
                tokenizer = arguments.data / "tokenizers/gpt2.json"
                mine, report = ours(folder, pattern, tokenizer, arguments.filters, is_web=is_web)
                other, signed = theirs(folder, source, arguments, is_web=is_web)
                steps = report["steps"]
                documents = report["documents"]
                assert isinstance(steps, list)
                assert isinstance(documents, dict)
                peak = max(step["peak_memory_bytes"] for step in steps) / 1e6
                kept = f"{documents['kept']:,} of {documents['in']:,}"
                work = sum(step["seconds"] for step in steps if step["step"].startswith(TO_SIGNATURES))
                both = f"{work:.1f} s, {2 * signed:.1f} s, 1 : {2 * signed / work:.1f}"
                print(
                    f"| {name} | {mine:.1f} s | {other:.1f} s | 1 : {other / mine:.1f} | {kept} | {peak:.0f} MB | {both} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
