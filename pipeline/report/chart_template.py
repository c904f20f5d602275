"""Many charts of one form: Bokeh takes a tenth of a second to make and write down a chart, and here it does so once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item

_IDENTIFIER = re.compile(r'"(p\d+)"')
_MARK = re.compile(r'\["@(\w+)@"\]|"@(\w+)@"')


def mark(key: str) -> str:
    """What stands in a mould for the text or the number of a key."""
    return f"@{key}@"


def marks(key: str) -> list[str]:
    """What stands in a mould for the column of a key."""
    return [mark(key)]


class ChartTemplate:
    """A chart with marks in the places of what differs: of texts, of numbers and of columns."""

    def __init__(self, chart: Any) -> None:
        self._item = json.dumps(json_item(chart, ID(mark("place"))))

    def filled(self, name: str, values: Mapping[str, Any]) -> str:
        """The chart of this name, as the JSON that a page draws it from: texts and numbers in the places of `mark`, lists of
        numbers in those of `marks`."""
        item = _IDENTIFIER.sub(rf'"{name}-\1"', self._item)  # Bokeh knows what is drawn in a page by these
        return _MARK.sub(lambda found: json.dumps({"place": name, **values}[found[1] or found[2]]), item)
