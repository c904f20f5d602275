"""What several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="The YAML file that describes the run.", show_default=False)
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder that a config names as `output:`.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change any key of the config, e.g. stages.language.min_score=0.8."
    ),
]
OutputFolder = Annotated[str | None, typer.Option("--output", help="Write here instead of the config's `output:`.")]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Try the config on about N documents, in a run of its own (OUTPUT-sample-N): of up to 16 partitions, chosen by a "
        "hash of their names, each source in turn, the first N/16 documents that reading keeps. Always the same ones; heads "
        "of files, so what stands further down in them is not seen.",
        show_default=False,
    ),
]
Dataset = Annotated[str | None, typer.Option(help="The shard stage, where the run has several.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON value.")]
