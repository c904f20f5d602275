"""The kinds of stages that a config may name: one line each. A user's own is named `package.module:Class`."""

KINDS = {
    "classifier": "stages.classifier:Classifier",
    "decontaminate": "stages.decontaminate:Decontaminate",
    "deduplicate": "stages.deduplicate:Deduplicate",
    "extract": "stages.extract:Extract",
    "language": "stages.language:Language",
    "quality": "stages.quality:Quality",
    "redact": "stages.redact:Redact",
    "shard": "stages.shard:Shards",
    "tokenizer": "stages.tokenizer:TrainedTokenizer",
    "url": "stages.urls:Urls",
}
