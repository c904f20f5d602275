"""The types of what stages measure and give back are those of their code, never of the documents that they happen to see."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from tests.fasttext_writer import write_classifier
from tests.kernels import CONFIGS
from tests.runs import jsonl_file, text_of
from tests.stages.in_memory import SCHEMA, MemoryRun
from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.stages.quality.stage import RULE_SETS
from tokenmill.stages.registry import KINDS
from tokenmill.stages.stage import CorpusStage, Filter, Transform, Verdicts
from tokenmill.stages.tokens.tokenizer import TOKENIZER_FILE

PHONE = "Call +1 212 555 0100 or write to a@example.org, from 10.0.0.1. "
TEXTS = [
    text_of("bread", 1),
    text_of("maps", 2),
    PHONE * 9,
    "Der Bäcker backt das Brot für die Leute im Dorf.",
    "",
    "1",
]

OWN: list[tuple[str, dict[str, Any]]] = [
    ("quality", {"rules": list(RULE_SETS)}),
    ("language", {"keep": "all", "min_score": 0}),
    ("language", {"keep": {"en": 0.5, "de": 0.9}, "sample_bytes": None}),
    ("extract", {"engine": "resiliparse"}),
    ("url", {}),
    ("url", {"allow_domains": ["bread.example"], "block_domains": ["x.example"]}),
    ("redact", {"kinds": ["ip"], "placeholders": {"ip": "x"}}),
    ("classifier", {"model": "MODEL", "label": "hq", "threshold": 0.5}),
    ("classifier", {"model": "MODEL", "label": "cc", "threshold": 0}),
    ("decontaminate", {"against": ["ITEMS"]}),
    ("decontaminate", {"against": {"items": "ITEMS"}, "ngram": 2, "min_words": 1, "max_overlap": 10}),
]
CORPUS_STAGES: list[tuple[str, dict[str, Any]]] = [
    ("deduplicate", {}),
    ("deduplicate", {"keep": "newest", "verify": False, "similarity": 0.5}),
    ("deduplicate", {"scope": "paragraph", "min_words": 1}),
    ("tokenizer", {"kind": "character", "vocab_size": 300}),
    ("shard", {"validation": 0}),
    ("shard", {"validation": 0, "shuffle": "documents"}),
]


def named(configs: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Parameters with readable names."""
    return [pytest.param(kind, config, id=f"{kind} {json.dumps(config)}") for kind, config in configs]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], Any]:
    """Makes a stage, its files put in their places."""
    folder = tmp_path_factory.mktemp("files")
    model = write_classifier(folder / "model.bin", ["the", "bread"], {"hq": 2, "cc": 1}, loss=3)
    items = jsonl_file(folder / "items.jsonl", [{"text": text_of("maps", 2)}])

    def make(kind: str, config: dict[str, Any]) -> Any:
        written = json.dumps(config).replace("MODEL", str(model)).replace("ITEMS", str(items))
        return stage_class(kind).model_validate_json(written)

    return make


def of_texts() -> pa.RecordBatch:
    """Documents of a text source, some without a URL or a date."""
    rows = [
        {
            "position": n,
            "url": f"https://{'bread' if n % 2 else 'x'}.example/{n}" if n % 3 else "",
            "offset": n,
            "date": n or None,
            "text": text,
            "copies": n + 1,
        }
        for n, text in enumerate(TEXTS)
    ]
    return pa.RecordBatch.from_pylist(rows, SCHEMA.append(pa.field("copies", pa.int32())))


def of_pages() -> pa.RecordBatch:
    """Pages as they are read, one of them empty."""
    html = [f"<html><body><p>{text}</p></body></html>".encode() if text else None for text in TEXTS]
    batch = of_texts().drop_columns(["text"]).append_column("html", pa.array(html, pa.binary()))
    return batch.append_column("charset", pa.array(["utf-8", None, "latin-1", "utf-8", None, None], pa.string()))


def judged(stage: Any, documents: pa.RecordBatch) -> tuple[Verdicts, pa.Schema]:
    """What a stage says of documents, and the schema of those that it gives back."""
    if isinstance(stage, Filter):
        return stage.judge(documents), documents.schema
    assert isinstance(stage, Transform)
    changed, verdicts = stage.apply(documents)
    return verdicts, changed.schema


def types_of(verdicts: Verdicts) -> dict[str, Any]:
    """The types of all that verdicts hold, in order."""
    own = {name: getattr(verdicts, name).type for name in ("rule", "value", "threshold", "message")}
    return own | {"fate": verdicts.fate.dtype} | {name: column.type for name, column in verdicts.measures.items()}


@pytest.mark.parametrize(("kind", "config"), named(CONFIGS + OWN))
def test_types_do_not_depend_on_documents(
    made: Callable[[str, dict[str, Any]], Any], kind: str, config: dict[str, Any]
) -> None:
    """Of no document, of each one alone, and of all."""
    stage = made(kind, config)
    for documents in [of_texts()] if "text" in stage.columns_needed() else [of_texts(), of_pages()]:
        verdicts, schema = judged(stage, documents)
        types = types_of(verdicts)
        assert pa.null() not in types.values()
        for piece in [documents.slice(0, 0), *(documents.slice(n, 1) for n in range(documents.num_rows))]:
            found, its_schema = judged(stage, piece)
            assert list(types_of(found).items()) == list(types.items())
            assert its_schema == schema


@pytest.mark.parametrize(("kind", "config"), named(CORPUS_STAGES))
def test_types_do_not_depend_on_a_corpus_stages_documents(
    made: Callable[[str, dict[str, Any]], Any], kind: str, config: dict[str, Any]
) -> None:
    """One document a batch, a partition without any, and one whose documents did not come so far."""
    stage = made(kind, config)
    assert isinstance(stage, CorpusStage)
    tokenizer = MemoryRun(made("tokenizer", {"kind": "character", "vocab_size": 300}), {"a": TEXTS})
    artifact = {TOKENIZER_FILE: tokenizer.done["train"]["tokenizer"].files[TOKENIZER_FILE].getvalue()}
    partitions: dict[str, Sequence[str | None]] = {
        "full": TEXTS,
        "copies": TEXTS[::-1],
        "none": [],
        "gone": [None, None],
    }
    run = MemoryRun(stage, partitions, artifact=artifact, batch_rows=1)
    found = [
        list(types_of(verdicts).items())
        for contexts in run.done.values()
        for context in contexts.values()
        for _, verdicts in context.judged
    ]
    assert len(found) == (0 if kind == "tokenizer" else 2 * len(TEXTS))
    assert found == found[:1] * len(found)
    assert not any(pa.null() in dict(types).values() for types in found)


def test_every_kind_is_looked_at() -> None:
    assert {kind for kind, _ in CONFIGS + OWN + CORPUS_STAGES} == set(KINDS)
