"""Inputs over HTTP, inputs and outputs on an object store, and atomic writes."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from s3fs.core import S3File

from tests.runs import config_file, crawl_file, run, tokenmill
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.storage.documents import read_columns
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.pipeline.storage.store import Store


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[str]:
    """A plain web server, which knows no ranges, over the test's folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_inputs_over_http(tmp_path: Path, web_server: str) -> None:
    crawl_file(tmp_path / "a.warc.gz", "bread", range(6))
    stages = {"extract": {}, "tokenizer": {"vocab_size": 300}, "shard": {"validation": 0}}
    local = config_file(tmp_path / "a.yaml", tmp_path / "a", {"web": {"path": str(tmp_path / "a.warc.gz")}}, stages)
    remote = config_file(tmp_path / "b.yaml", tmp_path / "b", {"web": {"path": f"{web_server}/a.warc.gz"}}, stages)
    run(local)
    report, _ = run(remote)
    assert report.ledger.kept == 6
    assert (tmp_path / "a/shard/train-00000.bin").read_bytes() == (tmp_path / "b/shard/train-00000.bin").read_bytes()
    assert run(remote)[0].tasks_run == 0


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a real S3 server (moto's) on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("crawls")
        yield "s3://crawls"
    server.stop()


def test_inputs_and_outputs_on_an_object_store(finished_crawl: Path, bucket: str, tmp_path: Path) -> None:
    """In a cluster of its own, whose workers have the server's address."""
    remote = fsspec.filesystem("s3")
    for file in sorted((finished_crawl.parent / "crawl").iterdir()):
        remote.put(str(file), f"crawls/in/{file.name}")
    sources = {"web": {"path": f"{bucket}/in/*.warc.gz"}, "texts": {"path": f"{bucket}/in/*.jsonl"}}
    config = config_file(tmp_path / "s3.yaml", tmp_path / "unused", sources)
    text = config.read_text().replace(str(tmp_path / "unused"), f"{bucket}/run")
    config.write_text(text)
    result = tokenmill("run", config, "--workers", "2")
    assert result.returncode == 0, result.stderr + result.stdout
    remote.invalidate_cache()
    for task in remote.ls("crawls/run/ledger"):
        assert task.endswith(".parquet")
    assert remote.exists("crawls/run/shard/train-00000.bin")
    report = build_report(open_run(f"{bucket}/run"))
    here = build_report(open_run(str(finished_crawl.parent / "run")))
    assert {name: vars(count) for name, count in report.stages.items()} == {n: vars(c) for n, c in here.stages.items()}
    assert "Nothing to do" in tokenmill("run", config, "--workers", "2").stdout
    assert verify(open_run(f"{bucket}/run")).problems == []


def test_a_small_table_is_one_request(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, table = Store(f"{bucket}/small"), pa.table({"a": range(900), "b": range(900), "c": range(900)})
    with store.create("table.arrow") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, 300)
    asked, fetch = [], S3File._fetch_range

    def counted(self: S3File, start: int, end: int) -> bytes:
        asked.append((start, end))
        return bytes(fetch(self, start, end))

    monkeypatch.setattr(S3File, "_fetch_range", counted)
    assert read_columns(store, "table.arrow", ["c", "a"]).equals(table.select(["c", "a"]))
    assert len(asked) == 1


def test_what_others_write_and_remove_on_an_object_store_is_seen(bucket: str) -> None:
    store, other = Store(f"{bucket}/shared"), fsspec.filesystem("s3", skip_instance_cache=True)
    assert store.names("a") == []
    store.write_json("a/first.json", 1)
    assert store.names("a") == ["first.json"]
    assert not store.exists("a/second.json")
    other.pipe("crawls/shared/a/second.json", b"2")
    assert store.names("a") == ["first.json", "second.json"]
    assert store.read_json("a/second.json") == 2
    other.rm("crawls/shared/a/second.json")
    assert not store.exists("a/second.json")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ZeroDivisionError), store.create("a/b") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not store.exists("a/b")
    with store.create("a/b") as file:
        file.write(b"whole")
        assert not store.exists("a/b")
    assert store.checksum("a/b") == file.output
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../outside"])
def test_paths_stay_in_the_run(tmp_path: Path, path: str) -> None:
    with pytest.raises(RunError, match="leads out of the run folder"):
        Store(str(tmp_path)).open(path)
