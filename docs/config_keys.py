"""Write the tables of the page "Config keys" from the models that check configs: a hook of mkdocs.

A line ``{{ package.module.Model }}`` of a page becomes a table of the model's keys, defaults and meanings.
"""

from __future__ import annotations

import pydoc
import re
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

MARKER = re.compile(r"^\{\{ (\S+) \}\}$", flags=re.MULTILINE)
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "a multiple of"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page."""
    return MARKER.sub(lambda found: table(found.group(1)), markdown)


def table(name: str) -> str:
    """Return the keys of the model at a dotted path as a Markdown table."""
    model: Any = pydoc.locate(name)
    rows = [f"| `{key}` | {default(field)} | {meaning(field)} |" for key, field in model.model_fields.items()]
    return "\n".join(["| key | default | |", "|---|---|---|", *rows])


def default(field: FieldInfo) -> str:
    """Return a key's default; a section stands for its own table."""
    if field.is_required():
        return "*needed*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "*a section*"
    return "–" if value is None else f"`{value}`"


def meaning(field: FieldInfo) -> str:
    """Return a key's description and the range that its values must have."""
    ranges = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in BOUNDS.items()
        if isinstance(getattr(bound, name, None), int | float)
    ]
    text = "; ".join(filter(None, [field.description, ", ".join(ranges)]))
    return text.replace("|", "\\|").replace("{", "&#123;")  # braces at the end of a cell would be its attributes
