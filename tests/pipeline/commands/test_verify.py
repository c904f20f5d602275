"""`verify` finds one flipped byte in anything that a run published."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import run
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.storage.run_folder import open_run


@pytest.mark.parametrize(
    "pattern", ["shard/train-*.bin", "shard/train-*.idx", "ledger/*.parquet", "shard/dataset.json"]
)
def test_finds_one_flipped_byte(crawl: Path, pattern: str) -> None:
    run(crawl)
    output = crawl.parent / "run"
    assert verify(open_run(str(output))).problems == []
    file = sorted(output.glob(pattern))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    problems = verify(open_run(str(output))).problems
    assert any(str(file.relative_to(output)) in problem for problem in problems), problems


def test_finds_lost_files_and_receipts(crawl: Path) -> None:
    run(crawl)
    output = crawl.parent / "run"
    next(output.glob("steps/language+quality/*/*.arrow")).unlink()
    next(output.glob("steps/read+extract/*/receipt.json")).unlink()
    problems = verify(open_run(str(output))).problems
    assert any("is gone; run again" in problem for problem in problems)
    assert any("receipt.json" in problem for problem in problems)


def test_finds_tokens_that_are_not_the_text(crawl: Path) -> None:
    """Even where somebody mends the checksum: the decoded text differs from the document."""
    import json

    from tokenmill.pipeline.storage.store import Store

    run(crawl)
    output = crawl.parent / "run"
    file = sorted(output.glob("shard/train-*.bin"))[0]
    content = bytearray(file.read_bytes())
    content[0:2] = (300).to_bytes(2, "little")
    file.write_bytes(bytes(content))
    receipt = output / "steps" / "shard.pack" / file.stem / "receipt.json"
    written = json.loads(receipt.read_text())
    written["outputs"][f"file:{file.name}"]["checksum"] = Store(str(output)).checksum(f"shard/{file.name}").checksum
    receipt.write_text(json.dumps(written))
    assert any("does not decode" in problem for problem in verify(open_run(str(output))).problems)
