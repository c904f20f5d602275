"""Wrong configs: exit code 2 and one message that names file, key and the nearest right word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runs import config_file, crawl_file, jsonl_file, text_of, tokenmill
from tokenmill.model.common.config_file import apply_setting
from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.run.run_plan import RunPlan


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    crawl_file(tmp_path / "a.warc.gz", "bread", range(2))
    jsonl_file(tmp_path / "b.jsonl", [{"text": text_of("bees", 1)}])
    return {
        "output": str(tmp_path / "run"),
        "sources": {"web": {"path": str(tmp_path / "a.warc.gz")}, "notes": {"path": str(tmp_path / "b.jsonl")}},
        "stages": {"extract": {}, "language": {"keep": ["en"]}},
    }


def problem(base: dict[str, Any], tmp_path: Path, *settings: str) -> str:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(base, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        RunPlan.of(load_config(str(path), settings), str(path))
    assert str(path) in str(caught.value) or "--set" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stages.language.min_scor=0.5", ["stages.language.min_scor", "did you mean 'min_score'?"]),
        ("stages.language.min_score=high", ["stages.language.min_score", "'high'"]),
        ("stages.langage={}", ["stages.langage", "did you mean 'language'?"]),
        ("sources.web.paht=x", ["sources.web.paht", "did you mean 'path'?"]),
        ("outptu=x", ["outptu", "did you mean 'output'?"]),
        ("sources.web.path=nowhere/*.gz", ["sources.web.path", "'nowhere/*.gz' matches no file"]),
        ("stages.language.from=wed", ["stages.language.from", "did you mean 'web'?"]),
        ("stages.extract.from=language", ["circle", "extract", "language"]),
        ("stages.extract.engine=resilliparse", ["stages.extract.engine", "resiliparse"]),
        ("stages.shard={}", ["stages.shard", "tokenizer"]),
        ("stages.mine={uses: 'no.such:Thing'}", ["stages.mine.uses", "no.such:Thing"]),
        ("stages.quality={rules: [gofer]}", ["stages.quality.rules", "did you mean 'gopher'?"]),
        ("stages.quality={rules: {gopher: {min_word: 3}}}", ["did you mean 'min_words'?"]),
        ("output=${NO_SUCH_VARIABLE}/x", ["output", "NO_SUCH_VARIABLE"]),
        ("nonsense", ["--set nonsense", "path.to.key=value"]),
    ],
)
def test_message_names_key_and_remedy(base: dict[str, Any], tmp_path: Path, setting: str, says: list[str]) -> None:
    message = problem(base, tmp_path, setting)
    for words in says:
        assert words in message


def test_stage_that_cannot_be_fed(base: dict[str, Any], tmp_path: Path) -> None:
    base["stages"] = {"language": {"keep": ["en"]}}
    message = problem(base, tmp_path)
    assert "stages.language: needs 'text'" in message
    assert "extract" in message


def test_key_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("output: a\noutput: b\n")
    with pytest.raises(ConfigError, match="given twice"):
        load_config(str(path))


def test_exit_code_and_one_message(base: dict[str, Any], tmp_path: Path) -> None:
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", base["sources"], {"extract": {"engin": "x"}})
    result = tokenmill("run", config)
    assert result.returncode == 2
    assert "did you mean 'engine'?" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_environment_and_home(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    base["output"] = "~/runs"
    base["sources"]["web"]["path"] = "${WHERE}/a.warc.gz"
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(base))
    loaded = load_config(str(path))
    assert loaded.output == f"{tmp_path}/runs"
    assert loaded.sources["web"].paths == [f"{tmp_path}/a.warc.gz"]


def test_set_reaches_lists_and_makes_mappings() -> None:
    stages = {"extract": None, "quality": {"rules": ["gopher", "c4"]}}
    raw: dict[str, Any] = {"sources": {"a": {"path": ["x", "y"]}}, "stages": stages}
    apply_setting(raw, "sources.a.path.1=z")
    apply_setting(raw, "stages.extract.engine=trafilatura")
    apply_setting(raw, "stages.quality.rules.c4.min_sentences=3")
    assert raw["sources"]["a"]["path"] == ["x", "z"]
    assert raw["stages"]["extract"] == {"engine": "trafilatura"}
    assert raw["stages"]["quality"]["rules"] == {"gopher": None, "c4": {"min_sentences": 3}}


def test_schema_knows_every_stage() -> None:
    schema = json.loads(tokenmill("schema").stdout)
    for kind in ("extract", "language", "quality", "deduplicate", "tokenizer", "shard"):
        assert f"stage-{kind}" in schema["$defs"]
    assert "description" in schema["$defs"]["stage-language"]["properties"]["min_score"]
