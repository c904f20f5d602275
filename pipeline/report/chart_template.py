"""Many charts of one form: Bokeh takes a tenth of a second to make and write down a chart, and here it does so once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item

_IDENTIFIER = re.compile(r'"(p\d+)"')
_PLACEHOLDER = re.compile(r'\["@(\w+)@"\]|"@(\w+)@"')


def placeholder(key: str) -> str:
    """What stands in a template for the text or the number of a key."""
    return f"@{key}@"


def column_placeholder(key: str) -> list[str]:
    """What stands in a template for the column of a key."""
    return [placeholder(key)]


class ChartTemplate:
    """A chart with placeholders for what differs: texts, numbers and columns."""

    def __init__(self, chart: Any) -> None:
        self._item = json.dumps(json_item(chart, ID(placeholder("place"))))

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The chart of this name, as the JSON that a page draws it from: texts and numbers for each `placeholder`, lists of
        numbers for each `column_placeholder`."""
        item = _IDENTIFIER.sub(rf'"{name}-\1"', self._item)  # Bokeh knows what is drawn in a page by these
        return _PLACEHOLDER.sub(lambda found: json.dumps({"place": name, **values}[found[1] or found[2]]), item)
