"""Every setting of the service: ``QPRUNER_*`` environment variables."""

from __future__ import annotations

from app.guide.reference.schema_table import HEADER, rows
from app.settings import Settings

_INTRODUCTION = """\
# Settings of the service

Environment variables, or lines of a `.env` file in the working directory. API, workers and command line read the same
ones. An empty default is explained in the meaning.
"""


def render() -> str:
    """The page in Markdown."""
    schema = Settings.model_json_schema()
    for name, field in Settings.model_fields.items():
        if field.default_factory is not None:  # depends on the machine
            schema["properties"][name].pop("default", None)
    properties = {name.upper(): one for name, one in schema["properties"].items()}
    return "\n".join([_INTRODUCTION, HEADER, *rows(properties, prefix="QPRUNER_")])
