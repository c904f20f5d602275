"""The same inputs and config give the same bytes, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.runs import published, run, tokenmill, tokenmill_begun


@pytest.mark.parametrize("workers", [1, 8])
def test_any_number_of_workers(finished_crawl: Path, tmp_path: Path, workers: int) -> None:
    result = tokenmill("run", finished_crawl, "--workers", str(workers), "--output", tmp_path / "other")
    assert result.returncode == 0, result.stderr
    assert published(tmp_path / "other") == published(finished_crawl.parent / "run")


def test_any_order_of_inputs(finished_crawl: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load(finished_crawl.read_text())
    files = sorted(str(file) for file in (finished_crawl.parent / "crawl").glob("*.warc.gz"))
    raw["sources"] = {"texts": raw["sources"]["texts"], "web": {"path": files[::-1]}}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(raw, sort_keys=False))
    run(other, output=tmp_path / "other")
    assert published(tmp_path / "other") == published(finished_crawl.parent / "run")


def test_kill_9_of_the_driver_at_any_moment(finished_crawl: Path, tmp_path: Path) -> None:
    """Killed as it starts and twice in the midst of its work, then let through: the bytes of a run that was never stopped."""
    output = tmp_path / "killed"
    generator = random.Random(time.time_ns())
    for latest in (0, 60, 60):
        committed = _files(output / "steps") + generator.randint(0, latest)
        process = tokenmill_begun("run", finished_crawl, "--workers", "2", "--output", output)
        time.sleep(generator.uniform(0, 2))
        while latest and _files(output / "steps") <= committed and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    result = tokenmill("run", finished_crawl, "--workers", "2", "--output", output)
    assert result.returncode == 0, result.stderr
    assert published(output) == published(finished_crawl.parent / "run")


def _files(folder: Path) -> int:
    """How many there are, of some 145 in the end."""
    return sum(len(names) for _, _, names in os.walk(folder))


def test_kill_9_of_workers(finished_crawl: Path, tmp_path: Path) -> None:
    """Workers that die are replaced, and their tasks done again."""
    output = tmp_path / "killed"
    process = tokenmill_begun("run", finished_crawl, "--workers", "2", "--output", output, stderr=subprocess.PIPE)
    killed = 0
    while process.poll() is None and killed < 2:
        time.sleep(0.2)
        for worker in _ray_workers_below(process.pid):
            if (output / "steps").is_dir():
                os.kill(worker, signal.SIGKILL)
                killed += 1
                break
    _, errors = process.communicate(timeout=240)
    assert killed, "the run was over before a worker could be killed"
    assert process.returncode == 0, errors
    assert published(output) == published(finished_crawl.parent / "run")


def _ray_workers_below(root: int) -> list[int]:
    """Process ids of busy Ray workers among the descendants of a process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found = []
    for process, name in names.items():
        ancestor = process
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root and name.startswith(b"ray::execute"):
            found.append(process)
    return found


def test_sigint_stops_and_says_how_to_go_on(finished_crawl: Path, tmp_path: Path) -> None:
    output = tmp_path / "stopped"
    process = tokenmill_begun(
        *("run", finished_crawl, "--workers", "1", "--output", output),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # a shell that puts the tests in the background has them, and what they start, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (output / "steps").is_dir() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert "go on with" in " ".join(shown.split())
    result = tokenmill("run", finished_crawl, "--output", output)
    assert result.returncode == 0, result.stderr
    assert published(output) == published(finished_crawl.parent / "run")
