"""Writing 16-bit checkpoints that load elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel

from qpruner_core.models.families import Family
from qpruner_core.models.reshape import copy_modeling_file

TRAVELLING_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
TEMPLATES = "additional_chat_templates"


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the tokenizer, chat templates and generation config of ``source``, byte for byte."""
    for name in TRAVELLING_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    for template in sorted((source / TEMPLATES).glob("*.jinja")):
        (directory / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(template, directory / TEMPLATES / template.name)


def write_model(
    model: PreTrainedModel,
    family: Family,
    directory: Path,
    *,
    tokenizer_from: Path,
    max_shard_size: int = 5_000_000_000,
) -> None:
    """Write ``model`` as safetensors with its config, modeling file where needed, and what travels along.

    A model of more than ``max_shard_size`` bytes is split into files of at most that size (a tensor is never split),
    with the index that tells which tensor is where.
    """
    model.config._name_or_path = ""  # would name a directory of this machine
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    copy_modeling_file(model.config, family, directory)
    copy_tokenizer(tokenizer_from, directory)
