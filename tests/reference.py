"""Writes the parts of the README files that the code knows better: `python -m tests.reference` (a test compares them).

A part stands between `<!-- NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tests.paths import ROOT
from tokenmill.model.training.config import TrainConfig
from tokenmill.pipeline.cli.main import app
from tokenmill.pipeline.graph.config import Source
from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.stages.quality.stage import RULE_SETS
from tokenmill.stages.registry import KINDS


def parts() -> dict[tuple[str, str], str]:
    """The text of each part, by file and name."""
    return {
        ("stages/README.md", "sources"): keys_of(Source),
        ("stages/README.md", "stages"): "\n\n".join(_stage(kind) for kind in KINDS),
        ("stages/README.md", "rules"): "\n\n".join(
            f"**`{name}`**: {_prose(rules)}\n\n{keys_of(rules)}" for name, rules in RULE_SETS.items()
        ),
        ("pipeline/README.md", "commands"): "\n\n".join(_command(name, command) for name, command in _commands()),
        ("model/README.md", "config"): _sections(TrainConfig),
    }


def written(text: str, name: str, content: str) -> str:
    """A file's text with a part replaced. Raises ValueError where it has no such part."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"there are no marks {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end, 1)[1]}"


def keys_of(model: type[BaseModel], prefix: str = "") -> str:
    """A table of a model's keys: type, default, meaning."""
    rows = [
        f"| `{prefix}{name}` | {_type(field.annotation)} | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows]) if rows else "No keys."


def _stage(kind: str) -> str:
    stage = stage_class(kind)
    adds = f"\n\nAdds {', '.join(f'`{name}`' for name in stage.adds)}." if stage.adds else ""
    return f"### {kind}\n\n{_prose(stage)}{adds}\n\n{keys_of(stage)}"


def _sections(config: type[BaseModel]) -> str:
    nested = {
        name: field.annotation
        for name, field in config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    plain = [name for name in config.model_fields if name not in nested]
    top = "\n".join(
        line for line in keys_of(config).splitlines() if not any(f"| `{name}` |" in line for name in nested)
    )
    assert plain
    return "\n\n".join(
        [top, *(f"### {name}\n\n{_prose(kind)}\n\n{keys_of(kind, f'{name}.')}" for name, kind in nested.items())]
    )


def _prose(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "")


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    text = re.sub(r"\b(typing|pathlib|collections\.abc|tokenmill(\.\w+)+)\.", "", text)
    text = re.sub(r"Annotated\[(\w+), .*?\]", r"\1", text).replace("NoneType", "null").replace("None", "null")
    return _cell(re.sub(r"Literal\[([^]]*)\]", lambda found: " or ".join(re.findall(r"'([^']*)'", found[1])), text))


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    if field.default_factory_takes_validated_data:
        return "by other keys"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value is PydanticUndefined:
        return ""
    return f"`{str(value) if not isinstance(value, bool) else str(value).lower()}`".replace("`None`", "null")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _commands() -> list[tuple[str, Any]]:
    group: Any = typer.main.get_command(app)
    return list(group.commands.items())


def _command(name: str, command: Any) -> str:
    shown = {parameter: _shown(parameter) for parameter in command.params if parameter.name != "help"}
    usage = [text for parameter, text in shown.items() if parameter.param_type_name == "argument"]
    rows = [f"| `{text}` | {_cell(getattr(parameter, 'help', None) or '')} |" for parameter, text in shown.items()]
    table = "\n".join(["| argument | meaning |", "| --- | --- |", *rows]) if rows else ""
    return f"### tokenmill {' '.join([name, *usage])}\n\n{inspect.cleandoc(command.help or '')}\n\n{table}".rstrip()


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join(parameter.opts)


def main() -> None:
    """Rewrites the parts."""
    for (file, name), content in parts().items():
        path = ROOT / file
        path.write_text(written(path.read_text(), name, content))


def is_current(path: Path, name: str, content: str) -> bool:
    """Whether a part stands in a file as the code has it."""
    text = path.read_text()
    return written(text, name, content) == text


if __name__ == "__main__":
    main()
