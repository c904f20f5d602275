"""The kinds of stages that a config may name: one line each. A user's own is named `package.module:Class`."""

KINDS = {
    "classifier": "tokenmill.stages.filters.classifier:Classifier",
    "decontaminate": "tokenmill.stages.decontaminate.stage:Decontaminate",
    "deduplicate": "tokenmill.stages.dedup.stage:Deduplicate",
    "extract": "tokenmill.stages.extract.stage:Extract",
    "language": "tokenmill.stages.filters.language:Language",
    "quality": "tokenmill.stages.quality.stage:Quality",
    "redact": "tokenmill.stages.filters.redact:Redact",
    "shard": "tokenmill.stages.tokens.stage:Shards",
    "tokenizer": "tokenmill.stages.tokens.tokenizer:TrainedTokenizer",
    "url": "tokenmill.stages.filters.url:Urls",
}


def kind_of(uses: str) -> str:
    """How a stage is named in fingerprints and in run.json: by its kind where it is bundled, so that moving a file makes no run
    stale; a user's own by `package.module:Class`."""
    return next((kind for kind, place in KINDS.items() if place == uses), uses)
