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
