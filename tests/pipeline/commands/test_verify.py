"""`verify` finds one flipped byte in anything that a run published."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import run
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.pipeline.storage.step_folder import MANIFEST, RECEIPTS, StepFolder
from tokenmill.pipeline.storage.store import Store


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
    next(output.glob("steps/language+quality/*.arrow")).unlink()
    (output / "steps/read+extract" / RECEIPTS).unlink()
    (output / "steps/shard.plan" / MANIFEST).unlink()
    receipts = output / "steps/ledger" / RECEIPTS
    receipts.write_bytes(receipts.read_bytes() + b"x")
    problems = verify(open_run(str(output))).problems
    assert any(".arrow: is gone; run again" in problem for problem in problems)
    assert f"steps/read+extract/{RECEIPTS}: is gone; run again" in problems
    assert f"steps/shard.plan/{MANIFEST}: is gone or is not that of 1 tasks" in problems
    assert f"steps/ledger/{RECEIPTS}: its bytes have changed" in problems


def test_finds_tokens_that_are_not_the_text(crawl: Path) -> None:
    """Even where somebody mends the checksum: the decoded text differs from the document."""
    run(crawl)
    output = crawl.parent / "run"
    file = sorted(output.glob("shard/train-*.bin"))[0]
    content = bytearray(file.read_bytes())
    content[0:2] = (300).to_bytes(2, "little")
    file.write_bytes(bytes(content))
    store = Store(str(output))
    pack = StepFolder(store, "shard.pack")
    manifest, receipts = pack.manifest, pack.receipts()
    assert manifest is not None
    receipts[file.stem].outputs[f"file:{file.name}"] = store.checksum(f"shard/{file.name}")
    pack.seal(manifest.inputs, receipts)
    assert any("does not decode" in problem for problem in verify(open_run(str(output))).problems)
