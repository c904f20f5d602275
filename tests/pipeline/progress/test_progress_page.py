"""The page of a run that has not finished: in its folder, and served to a browser while the run goes on."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.browser import browser
from tests.runs import Record, config_file, jsonl_file, run, text_of, tokenmill, tokenmill_begun
from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.progress.page_server import PageServer
from tokenmill.pipeline.progress.progress_page import ProgressPage
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.run.cluster import Cluster
from tokenmill.pipeline.run.executor import InProcess
from tokenmill.pipeline.run.runner import run as run_config
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.storage.run_folder import RunFolder, open_run
from tokenmill.pipeline.storage.store import Store

HOSTILE = '<script>document.title = "run"</script><img src=x onerror=alert(1)>'


class Stopper(Record):
    """Ends the run as a step begins, and keeps the page as it was within another."""

    def __init__(self, progress: ProgressPage, *, stop_at: str, look_at: str) -> None:
        super().__init__()
        self.progress, self.stop_at, self.look_at = progress, stop_at, look_at
        self.seen: list[str] = []

    def step_begins(self, step: str, number: int, of: int, tasks: int, finished: Mapping[str, Receipt]) -> None:
        super().step_begins(step, number, of, tasks, finished)
        if step == self.stop_at:
            raise RunError(f"{step}: no room for {HOSTILE}")

    def task_ends(self, task: Any, receipt: Receipt) -> None:
        super().task_ends(task, receipt)
        if task.step == self.look_at:
            self.seen.append(seen(self.progress.html()))


def seen(page: str) -> str:
    """What a reader sees."""
    body = page[page.index("<main>") : page.index("</main>")]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_run_that_is_stopped_says_how_far_it_came(crawl: Path, tmp_path: Path) -> None:
    jsonl_file(tmp_path / "crawl/broken.jsonl", ["{" + HOSTILE])
    store = Store(str(tmp_path / "run"))
    progress = ProgressPage(store)
    stopper = Stopper(progress, stop_at="deduplicate.verified", look_at="language+quality")
    with pytest.raises(RunError) as stopped:
        run_config(load_config(str(crawl), (), None), str(crawl), InProcess(), [progress, stopper], tuple(sys.path))
    progress.stop(str(stopped.value))
    page = (tmp_path / "run/report.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    shown = seen(page)
    assert re.search(r"This run stopped at \S+ \S+ \S+ in step 6 of 16, deduplicate.verified, with 0 of 1 tasks", shown)
    assert f"no room for {HOSTILE}" in shown
    report = build_report(RunFolder(store))
    for stage in ("read", "extract", "language", "quality"):
        assert f"{stage} {report.stages[stage].entered:,} {report.stages[stage].kept:,} " in shown
    assert "deduplicate 5" not in shown.partition("Steps")[0]  # its counts come with its last step
    assert report.failed == 1
    assert "1 failed so far" in shown
    assert report.failures[0]["message"] in " ".join(unescape(page).split())
    assert re.search(r"deduplicate.sets finished \d+ of \d+ ", shown)
    assert "deduplicate.kept waiting" in shown
    for number, within in enumerate(stopper.seen, 1):
        assert f"in step 2 of 16, language+quality, with {number} of {len(stopper.seen)} tasks done" in within
    assert re.search(r"[\d,]+ documents/s", stopper.seen[-1])
    within = stopper.seen[-1].partition("In language+quality, as far as it is")[2].partition("Steps")[0]
    assert re.search(rf"language {report.stages['language'].entered} [\d ]+", within)
    assert "extract" not in within
    assert "deduplicate" not in within

    # as after a process that was killed when all was done but the page: that is still to be drawn
    run(crawl)
    again = tokenmill("run", crawl, "--workers", "0")
    assert "Nothing to do" in again.stdout
    whole = seen((tmp_path / "run/report.html").read_text())
    assert "records came in" in whole
    assert "Language language documents kept" in whole  # though one file has no document with a language
    assert "documents stand as one" in whole


def test_a_run_is_watched(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("maps", number)} for number in range(9)])
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl")}}
    stages: dict[str, Any] = {"language": {"keep": ["en"]}, "quality": {"rules": ["gopher"]}}
    config = config_file(tmp_path / "config.yaml", tmp_path / "run", sources, stages)
    with browser() as shown, tokenmill_begun("run", config, "--watch", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Watch: ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        shown.open(address, 400, dark=True)
        outcome = "document.querySelector('main > p')?.textContent"
        before = shown.evaluate(outcome)
        assert before.startswith("This run has not finished: at ")
        assert shown.evaluate("document.documentElement.scrollWidth") <= 400
        deadline = time.monotonic() + 120
        texts = [before]
        while "records came in" not in texts[-1]:
            assert time.monotonic() < deadline, texts
            text = shown.evaluate(outcome)  # nothing while the page is loaded again
            texts += [text] if text and text != texts[-1] else []
            time.sleep(0.05)
        assert any(", with " in text for text in texts)
        assert f"{build_report(open_run(str(tmp_path / 'run'))).ledger.entered:,} records came in" in texts[-1]
        assert process.wait(30) == 0
        assert not shown.complaints


def test_nothing_but_the_page_is_served(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    server = PageServer(lambda: "the page")
    port = server.server_port

    def answer(path: str, host: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers={"Host": host})
        found = connection.getresponse()
        return found.status, found.read().decode()

    assert answer("/", f"127.0.0.1:{port}") == answer("/", f"localhost:{port}") == (200, "the page")
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example", ""):
        status, text = answer("/", host)
        assert status == 403
        assert "the page" not in text
    for path in (
        "/run.json",
        f"/..{tmp_path}/secret.txt",
        "//run.json",
        "/%2e%2e/secret.txt",
        "/?x",
        "http://evil.example/",
    ):
        assert answer(path, f"127.0.0.1:{port}")[0] == 404
    assert answer("/", f"127.0.0.1:{port}", "POST")[0] == 501
    with pytest.raises(ConfigError, match=f"--port {port}: is not available"):
        PageServer(lambda: "another", port)
    server.last_asked = float("-inf")  # nobody watches any more, so nobody is waited for
    server.finish("the last page")
    with pytest.raises(ConnectionRefusedError):
        answer("/", f"127.0.0.1:{port}")


def test_a_port_is_for_watching(crawl: Path) -> None:
    result = tokenmill("run", crawl, "--port", "8000")
    assert result.returncode == 2
    assert "--watch" in result.stderr


@pytest.mark.parametrize(("url", "told"), [("10.0.0.1:8265", ["http://10.0.0.1:8265"]), ("", [])])
def test_a_cluster_s_dashboard_is_told(monkeypatch: pytest.MonkeyPatch, url: str, told: list[str]) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: SimpleNamespace(dashboard_url=url))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4})
    heard: list[str] = []
    Cluster(address="head:6379", tell_dashboard=heard.append).start()
    assert heard == told
