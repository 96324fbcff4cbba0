"""The README says nothing that is not true today, as far as a test can tell."""

from __future__ import annotations

import re
from pathlib import Path

from app.cli import app as commands
from app.settings import Settings
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.device_fit.config import FitConfig
from qpruner_core.export.config import ExportConfig
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.presets import PRESETS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def settings_table() -> list[str]:
    """One row a setting, as the README has it."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, ()) else f"`{field.default}`"
        rows.append(f"| `QPRUNER_{name.upper()}` | {default} | {(field.description or '').replace('|', '/')} |")
    return rows


def test_every_setting_is_in_the_table_with_its_default() -> None:
    lines = README.splitlines()
    assert [row for row in settings_table() if row not in lines] == []
    listed = set(re.findall(r"^\| `(QPRUNER_\w+)`", README, re.M))
    assert listed == {f"QPRUNER_{name.upper()}" for name in Settings.model_fields}


def test_every_setting_of_pruning_is_in_the_table_with_its_default() -> None:
    settings = {f"prune.{name}": field for name, field in PruneConfig.model_fields.items()}
    settings["export.max_shard_size"] = ExportConfig.model_fields["max_shard_size"]
    rows = [
        f"| `{name}` | {'' if field.default is None else f'`{field.default}`'} | {field.description} |"
        for name, field in settings.items()
    ]
    assert [row for row in rows if row not in README.splitlines()] == []
    assert set(re.findall(r"^\| `(prune\.\w+|export\.\w+)`", README, re.M)) == set(settings)


def test_every_setting_of_a_whole_job_is_in_the_table_with_its_default() -> None:
    named = {"model", "dataset", "memory_budget", "preset"}  # explained in the text
    rows = [
        f"| `{name}` | `{field.default}` | {field.description} |"
        for name, field in CompressionConfig.model_fields.items()
        if name not in named and field.description
    ]
    assert len(rows) >= 4
    assert [row for row in rows if row not in README.splitlines()] == []


def test_every_setting_of_recovery_is_in_the_table_with_its_default() -> None:
    rows = [
        f"| `finetune.{name}` | `{field.default}` | {field.description} |"
        for name, field in FinetuneConfig.model_fields.items()
    ]
    assert [row for row in rows if row not in README.splitlines()] == []
    assert len(re.findall(r"^\| `finetune\.\w+`", README, re.M)) == len(rows)


def test_every_setting_of_precisions_is_in_the_table_with_its_default() -> None:
    stages = {"score": ScoreConfig, "allocate": AllocateConfig, "quantize": QuantizeConfig}
    rows = [
        f"| `{stage}.{name}` | `{field.default}` | {field.description} |"
        for stage, settings in stages.items()
        for name, field in settings.model_fields.items()
    ]
    assert [row for row in rows if row not in README.splitlines()] == []
    assert len(re.findall(r"^\| `(?:score|allocate|quantize)\.\w+`", README, re.M)) == len(rows)


def test_every_preset_is_named() -> None:
    assert [name for name in PRESETS if f"`{name}`" not in README] == []


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_command_named_exists() -> None:
    import typer

    known = set(typer.main.get_command(commands).commands)  # type: ignore[attr-defined]
    for command in ("compress", "estimate", "evaluate", "generate", "serve", "worker", "migrate", "keys"):
        assert f"qpruner {command}" in README or f"| {command}" in README
        assert command in known


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"\b[A-Z]+_TABLE\b|TODO|FIXME", README)


def test_every_setting_of_a_device_is_in_the_table_with_its_default() -> None:
    rows = [
        f"| `fit.{name}` | {'' if field.is_required() else f'`{field.default}`'} | {field.description} |"
        for name, field in FitConfig.model_fields.items()
    ]
    assert [row for row in rows if row not in README.splitlines()] == []
