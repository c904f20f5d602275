"""The JSON schema of a config, with the keys of every bundled stage."""

from __future__ import annotations

from typing import Any

from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.stages.registry import KINDS


def config_schema() -> dict[str, Any]:
    """The schema: stages are matched by their name, or by `uses:` where a name is the user's own."""
    schema = RunConfig.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for kind in KINDS:
        stage = stage_class(kind).model_json_schema(ref_template="#/$defs/{model}")
        definitions |= stage.pop("$defs", {})
        stage["properties"] = {
            "uses": {"type": "string", "const": kind, "description": "The kind of this stage."},
            "from": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "The source or stage that it reads, or several; name[value] takes the documents of a value "
                "alone, where the stage routes; default: the stage above.",
            },
            **stage.get("properties", {}),
        }
        definitions[f"stage-{kind}"] = stage
    by_kind = [
        {
            "if": {"properties": {"uses": {"const": kind}}, "required": ["uses"]},
            "then": {"$ref": f"#/$defs/stage-{kind}"},
        }
        for kind in KINDS
    ]
    schema["properties"]["stages"]["properties"] = {
        kind: {"anyOf": [{"type": "null"}, {"required": ["uses"], "type": "object"}, {"$ref": f"#/$defs/stage-{kind}"}]}
        for kind in KINDS
    }
    schema["properties"]["stages"]["additionalProperties"] = {"type": ["object", "null"], "allOf": by_kind}
    return schema
