"""E-mail addresses, IP addresses and phone numbers out of texts, by RE2 over whole batches.

RE2 has no look-around, so the patterns also match some text that only looks like an address (a version number of four parts);
losing that costs little. Placeholders are those of dolma (Soldaini et al. 2024, section 4.3 and appendix).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tokenmill.stages.stage import Transform, Verdicts

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = r"[0-9A-Fa-f]{1,4}"
_FIRST = r"(?:[0-9][0-9A-Fa-f]{0,3}|[Ff][CDEcde][0-9A-Fa-f]{2})"
"""The first group of an address with ::, a digit first or a local prefix (fc, fd, fe), so that std::array is no match."""

PATTERNS = {
    "email": r"\b[A-Za-z0-9][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}\b",
    "ip": rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b|\b(?:{_GROUP}:){{7}}{_GROUP}\b"
    rf"|\b{_FIRST}(?::{_GROUP}){{0,6}}::(?:{_GROUP}(?::{_GROUP}){{0,6}}\b)?",
    "phone": r"\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){2,4}\b"
    r"|\([0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}\b|\b[0-9]{3}[.-][0-9]{3}[.-][0-9]{4}\b",
}
"""E-mail; IPv4 in four parts and IPv6 in eight groups or with ::; phone numbers with a country's code, or of ten digits in the
North American grouping."""

PLACEHOLDERS = {"email": "|||EMAIL_ADDRESS|||", "ip": "|||IP_ADDRESS|||", "phone": "|||PHONE_NUMBER|||"}

Kind = Literal["email", "ip", "phone"]


class Redact(Transform):
    """Replaces what identifies people by placeholders. Ledger: `redacted_email`, `redacted_ip`, `redacted_phone`, how many in
    each document."""

    version: ClassVar[int] = 1

    kinds: list[Kind] = Field(["email", "ip", "phone"], min_length=1, description="What to take out, in this order.")
    placeholders: dict[Kind, str] = Field(
        {}, description=f"What to put there instead of {', '.join(PLACEHOLDERS.values())}."
    )

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        """See `Transform`."""
        text = documents.column("text")
        counts = {}
        for kind in self.kinds:
            counts[f"redacted_{kind}"] = pc.count_substring_regex(text, PATTERNS[kind]).cast(pa.int32())
            # in a replacement RE2 takes a backslash for a group
            placeholder = (PLACEHOLDERS | self.placeholders)[kind].replace("\\", "\\\\")
            hit = pc.greater(counts[f"redacted_{kind}"], 0)
            if pc.any(hit).as_py():
                text = pc.if_else(hit, pc.replace_substring_regex(text, PATTERNS[kind], placeholder), text)
        edited = documents.set_column(documents.schema.get_field_index("text"), "text", text)
        return edited, Verdicts.all_kept(documents.num_rows, counts)
