"""GGUF weights: checked by their header, and converted once to a safetensors directory."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import read_checkpoint
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import check_sizes
from qpruner_core.stage_store import disk_full_as_error, file_sha256
from qpruner_core.writable import cache_errors

_LAYOUT = "1"  # raise when the conversion changes, so that older results are not taken for new ones
_ABANDONED_SECONDS = 6 * 3600
_CHAT_TEMPLATE_KEY = "tokenizer.chat_template"


def read_gguf_config(path: Path) -> PretrainedConfig:
    """The config that the header of a GGUF file describes.

    Raises:
        UnsupportedArchitectureError: no family declares its architecture.
        CorruptModelError: not a GGUF file, truncated, or with impossible sizes.
    """
    architecture = _read_string(_open(path), "general.architecture", path)
    find_family(architecture)
    try:
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except Exception as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error
    check_sizes(config, path)
    return config


def convert_gguf(path: Path, cache_dir: Path) -> Path:
    """The directory of ``path`` as bfloat16 safetensors with config and tokenizer, converted once.

    The directory is named after the file's content, and appears whole or not at all.

    Raises:
        CorruptModelError, UnsupportedArchitectureError: as :func:`read_gguf_config`.
        DiskFullError: no space is left below ``cache_dir``.
        CacheUnusableError: ``cache_dir`` cannot be read or written.
    """
    directory = _directory_of(path, cache_dir)
    if _is_whole(directory):
        return directory
    config = read_gguf_config(path)
    with disk_full_as_error(cache_dir), cache_errors(cache_dir):
        directory.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(directory)
        partial = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".partial", dir=directory.parent))
        try:
            _convert(path, config, partial)
            _move_into_place(partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return directory


def converted_before(path: Path, cache_dir: Path) -> Path | None:
    """The result of an earlier :func:`convert_gguf` of a file with this content, if there is one."""
    directory = _directory_of(path, cache_dir)
    return directory if _is_whole(directory) else None


def _directory_of(path: Path, cache_dir: Path) -> Path:
    return cache_dir / "converted" / f"{file_sha256(path)[:32]}-{_LAYOUT}"


def _convert(path: Path, config: PretrainedConfig, destination: Path) -> None:
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    except Exception as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error
    # transformers does not save what it loaded from GGUF, so the weights move to a model of the plain class
    config.name_or_path = ""
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(destination)
    if not tokenizer.chat_template and (template := _optional_string(_open(path), _CHAT_TEMPLATE_KEY)):
        tokenizer.chat_template = template
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(destination)


def _remove_abandoned(directory: Path) -> None:
    """Delete what conversions that were killed have left; one that still runs is younger."""
    for partial in directory.parent.glob(f"{directory.name}.*.partial"):
        with suppress(OSError):  # another process deletes it too
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(partial: Path, directory: Path) -> None:
    partial.chmod(0o755)
    for file in partial.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    if directory.exists() and not _is_whole(directory):
        shutil.rmtree(directory)
    try:
        partial.rename(directory)
    except OSError:
        if not _is_whole(directory):  # else another process was faster, and its result is the same
            raise


def _is_whole(directory: Path) -> bool:
    with cache_errors(directory.parents[1]):
        if not (directory / "config.json").is_file():
            return False
    try:
        read_checkpoint(directory)
    except Exception:  # noqa: BLE001  whatever is wrong with it, it is converted again
        return False
    return True


def _open(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    except Exception as error:
        raise _corrupt(path, "it is truncated, or not a GGUF file") from error


def _optional_string(reader: GGUFReader, key: str) -> str | None:
    field = reader.get_field(key)
    return None if field is None else str(field.contents())


def _read_string(reader: GGUFReader, key: str, path: Path) -> str:
    value = _optional_string(reader, key)
    if value is None:
        raise _corrupt(path, f"its header has no {key}")
    return value


def _corrupt(path: Path, what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model file {path.name} cannot be used: {what}.", field="model", remedy="Fetch the file again."
    )
