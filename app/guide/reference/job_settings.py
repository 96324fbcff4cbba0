"""Every setting of a job: the body of ``POST /jobs``, ``parse_config`` and ``qpruner compress --set``."""

from __future__ import annotations

import json
from typing import Any

from app.guide.reference.schema_table import HEADER, rows
from qpruner_core.config import CompressionConfig
from qpruner_core.precision_names import PRECISIONS
from qpruner_core.presets import PRESETS

_INTRODUCTION = """\
# Settings of a job

The same names work in the body of `POST /jobs`, in `parse_config` in Python, and on the command line as
`--set path=value` (`--set allocate.trials=80`). An unknown name is refused. `recipe.json`, which every job returns,
holds the values that were used.
"""
_PRESETS = """\
## Presets

A preset gives starting values; anything set by name overrides them. `best` is the defaults above.
"""


def render() -> str:
    """The page in Markdown."""
    schema = CompressionConfig.model_json_schema()
    sections = {name: one["$ref"] for name, one in schema["properties"].items() if "$ref" in one}
    sections["fit"] = "FitConfig"
    parts = [_INTRODUCTION, "## Whole job\n", HEADER, *rows(schema["properties"], skip=frozenset(sections)), ""]
    for name, reference in sections.items():
        part = schema["$defs"][reference.rsplit("/", 1)[-1]]
        parts += [f"## `{name}`\n", _first_paragraph(part.get("description", "")), ""]
        parts += [HEADER, *rows(part["properties"], prefix=f"{name}."), ""]
    return "\n".join([*parts, _PRESETS, *_presets(), "", *_precisions()])


def _presets() -> list[str]:
    lines = ["| preset | sets |", "|---|---|"]
    for name, values in PRESETS.items():
        flat = [
            f"`{section}.{key}={_spelled(value)}`"
            for section, settings in values.items()
            for key, value in settings.items()
        ]
        lines.append(f"| `{name}` | {', '.join(flat) or 'nothing'} |")
    return lines


def _spelled(value: Any) -> str:
    """``value`` as ``--set`` takes it: JSON, or a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _precisions() -> list[str]:
    lines = ["## Precisions\n", "Bits per weight include block constants.\n"]
    lines += ["| precision | bits per weight | targets |", "|---|---:|---|"]
    for name, declared in PRECISIONS.items():
        lines.append(
            f"| `{name}` | {declared.bits_per_weight:g} | {', '.join(f'`{one}`' for one in sorted(declared.targets))} |"
        )
    return lines


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
