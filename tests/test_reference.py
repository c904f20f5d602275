"""The README files say what the code says."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT
from tests.reference import is_current, parts

PARTS = parts()


@pytest.mark.parametrize(("file", "name"), PARTS)
def test_a_part_is_what_the_code_has(file: str, name: str) -> None:
    assert is_current(ROOT / file, name, PARTS[file, name]), "run: python -m tests.reference"


def test_the_readme_fits_a_look() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    for linked in re.findall(r"\]\(([^)#:]+)\)", "\n".join(lines)):
        assert (ROOT / linked).exists(), linked
