"""How the files of a source are read: the keys of a source, and formats by file name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

READ_VERSION = 4
"""Raised when the same file and options would give other documents."""

Format = Literal["warc", "wet", "jsonl", "parquet", "text"]

COMPRESSIONS = (".gz", ".zst", ".lz4")

ENDINGS: dict[str, Format] = {
    ".warc": "warc",
    ".wet": "wet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}


class ReadOptions(BaseModel):
    """How the files of a source are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["auto", "warc", "wet", "jsonl", "parquet", "text"] = Field(
        default="auto", description="What the files are; `auto`: by their names."
    )
    text_field: str = Field(
        default="text", description="JSONL, Parquet: field that holds the text; dots lead into objects."
    )
    url_field: str = Field(default="url", description="JSONL, Parquet: field that holds the URL, where there is one.")
    id_field: str = Field(
        default="id", description="JSONL, Parquet: field that stands for the URL where that is missing."
    )
    date_field: str = Field(
        default="date",
        description="JSONL, Parquet: field that holds the document's date: ISO 8601 text (UTC where it names no zone), a date, "
        "or seconds since 1970. Anything else is no date and costs nothing. WARC and WET have it in their records' headers.",
    )
    metadata: Literal["all", "none"] | list[str] = Field(
        default="all",
        description="JSONL, Parquet: fields that a document carries as one JSON object: all that are not its text, URL, id or "
        "date, none, or a list of fields; dots lead into objects. Of more than 64 KiB the longest fields are left out, and "
        "`_left_out` says so.",
    )
    max_document_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1,
        description="A document larger than this many bytes fails, by name; it costs no other.",
    )

    @property
    def named_fields(self) -> tuple[str, ...]:
        """The fields of text, URL, id and date."""
        return self.text_field, self.url_field, self.id_field, self.date_field


def format_of(path: str, options: ReadOptions) -> Format:
    """The format of a file. Raises ValueError where neither the options nor its name say it."""
    if options.format != "auto":
        return options.format
    name = path.rsplit("/", 1)[-1].lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    if name.endswith((".warc.wet", ".wet")):
        return "wet"
    for ending, known in ENDINGS.items():
        if name.endswith(ending):
            return known
    raise ValueError(
        f"cannot tell what {path!r} is from its name; known endings: {', '.join(ENDINGS)} "
        f"(with {', '.join(COMPRESSIONS)}), or give `format:`"
    )


def provides(file_format: Format) -> Literal["html", "text"]:
    """What a format's documents are: pages that must be extracted, or text."""
    return "html" if file_format == "warc" else "text"
