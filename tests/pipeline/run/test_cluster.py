"""Tasks on a cluster that was started elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.run.cluster import Cluster, execute


class Where:
    def execute(self) -> Any:
        return Path("here").read_text()


def test_relative_paths_are_those_of_who_submits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, of_the_cluster = tmp_path / "mine", tmp_path / "cluster"
    mine.mkdir()
    of_the_cluster.mkdir()
    (mine / "here").write_text("mine")
    (of_the_cluster / "here").write_text("the cluster's")
    monkeypatch.chdir(of_the_cluster)
    work: Any = Where()
    assert execute(work, str(mine)) == "mine"  # type: ignore[comparison-overlap]
    os.chdir(of_the_cluster)
    assert execute(work, str(tmp_path / "on another machine")) == "the cluster's"  # type: ignore[comparison-overlap]


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(RunError, match=r"no Ray cluster answers at head:6379: Failed to connect .*RAY_AUTH_MODE=token"):
        Cluster(address="head:6379").start()
