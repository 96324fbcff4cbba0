"""Write 16-bit checkpoints that other tools load."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from qpruner_core.models.families import Family
from qpruner_core.models.model_config import CONFIG_FILE
from qpruner_core.models.reshape import copy_modeling_file, own_architectures, runs_as_deci, without_strange_code

TOKENIZER_CONFIG = "tokenizer_config.json"
TRAVELLING_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_DROPOUT = re.compile(rb'"dropout"\s*:\s*[0-9]')
TEMPLATES = "additional_chat_templates"


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the tokenizer, chat templates and generation config of ``source``, byte for byte with two exceptions.

    An ``auto_map`` in the tokenizer's config is dropped: it names code of the model's author, which a user who trusts
    our checkpoint must not run. Dropout of merges is dropped as :func:`~qpruner_core.models.load_tokenizer` does: with
    it, equal text has other ids at each call.
    """
    for name in TRAVELLING_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    tokenizer = directory / TOKENIZER_CONFIG
    if tokenizer.is_file():
        values = json.loads(tokenizer.read_text(encoding="utf-8"))
        if values.pop("auto_map", None) is not None:
            tokenizer.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _drop_dropout(directory / "tokenizer.json")
    for template in sorted((source / TEMPLATES).glob("*.jinja")):
        (directory / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(template, directory / TEMPLATES / template.name)


def _drop_dropout(tokenizer: Path) -> None:
    if not tokenizer.is_file() or not _DROPOUT.search(tokenizer.read_bytes()):
        return
    values = json.loads(tokenizer.read_text(encoding="utf-8"))
    model = values.get("model")
    if isinstance(model, dict) and model.get("dropout") is not None:
        model["dropout"] = None
        tokenizer.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")


def write_model(
    model: PreTrainedModel,
    family: Family,
    directory: Path,
    *,
    tokenizer_from: Path,
    max_shard_size: int = 5_000_000_000,
) -> None:
    """Write ``model`` as safetensors with its config, modeling file if needed, and the files that travel along.

    A model of more than ``max_shard_size`` bytes is split into files of at most that size (a tensor is never split),
    with the index of the tensors.
    """
    model.config._name_or_path = ""  # would name a directory of this machine
    without_strange_code(model.config, family)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    if runs_as_deci(model.config):
        _name_architectures(directory / CONFIG_FILE, own_architectures(model.config, family))
    copy_modeling_file(model.config, family, directory)
    copy_tokenizer(tokenizer_from, directory)


def _name_architectures(config: Path, names: list[str]) -> None:
    """Write ``names`` in place of the class that transformers detected."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values["architectures"] = names
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
