"""The config of a run: YAML, strict. Every message names the file, the key and the nearest right word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tokenmill.model.common.config_file import apply_setting, expand, read_config
from tokenmill.model.common.validation import validate
from tokenmill.stages.readers.options import ReadOptions


class Source(ReadOptions):
    """A named set of input files; also says how to read them."""

    path: str | list[str] = Field(
        description="One glob or a list of globs: local paths (relative to the working directory) or any fsspec URL."
    )

    @property
    def paths(self) -> list[str]:
        """The globs as a list."""
        return [self.path] if isinstance(self.path, str) else self.path


class RunConfig(BaseModel):
    """The top level of a config: where the run goes, what it reads, and the stages in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str = Field(description="Folder of the run: a local path or any fsspec URL that can be written.")
    sample: int | None = Field(
        None,
        ge=1,
        description="Run on about so many documents: the first ones of up to 16 partitions (`tokenmill run --sample`).",
    )
    sources: dict[str, Source] = Field(description="Named input files.", min_length=1)
    stages: dict[str, dict[str, Any] | None] = Field(
        description="The DAG: name -> the stage's own keys, `uses:` (its kind where the name is not the kind, or "
        "`package.module:Class`) and `from:` (a source, a stage or a list of them; `language[de]` takes of a language stage's "
        "documents those of one language; default: the stage above).",
        min_length=1,
    )


def load_config(
    path: str, settings: Sequence[str] = (), output: str | None = None, sample: int | None = None
) -> RunConfig:
    """Reads a config file and applies `--set` (`a.b.c=value`), `--output` and `--sample`, which has an output of its own.

    Raises `ConfigError` for a file that cannot be read, is not a YAML mapping, or does not fit the schema.
    """
    return config_of(read_config(path), path, settings, output, sample)


def config_of(
    given: Mapping[str, Any],
    where: str,
    settings: Sequence[str] = (),
    output: str | None = None,
    sample: int | None = None,
) -> RunConfig:
    """A config from a mapping, as `load_config` from a file; `where` is its name in messages. Raises `ConfigError`."""
    raw = deepcopy(dict(given))
    for setting in settings:
        apply_setting(raw, setting)
    if sample is not None:
        raw["sample"] = sample
        if isinstance(raw.get("output"), str):
            raw["output"] = f"{raw['output'].rstrip('/')}-sample-{sample}"
    if output is not None:
        raw["output"] = output
    return validate(RunConfig, expand(raw, where, ""), where=where, prefix="")
