"""GGUF models: inspected by their headers, and converted once to a safetensors directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from transformers import GenerationConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from qpruner_core.models.checkpoint import INDEX_FILE, read_checkpoint, tensor_bytes
from qpruner_core.models.families import find_family
from qpruner_core.models.gguf.architectures import Architecture, find_architecture
from qpruner_core.models.gguf.header import corrupt
from qpruner_core.models.gguf.keys import ArchitectureKeys
from qpruner_core.models.gguf.split import GgufModel, read_model
from qpruner_core.models.gguf.tensors import account_for_tensors, read_parameter
from qpruner_core.models.gguf.tokenizer import build_tokenizer, check_tokenizer, end_ids, special_ids
from qpruner_core.models.model_config import check_sizes, expected_tensors
from qpruner_core.models.tensor_checks import require_bounded
from qpruner_core.stage_store import disk_full_as_error, file_sha256
from qpruner_core.writable import cache_errors

_LAYOUT = "3"  # raise it when the conversion changes, so that older results are not reused
_ABANDONED_SECONDS = 6 * 3600
_PARAMETERS_PER_BYTE = 8  # the smallest types have 1.6 bits per weight
_SHARD_BYTES = 2_000_000_000  # memory of the conversion at once


def read_gguf_config(path: Path) -> PretrainedConfig:
    """The config of a GGUF model from its headers, after accounting for all of its tensors.

    ``path``: its only file, or any of its shards.

    Raises:
        UnsupportedArchitectureError: the architecture is not declared, or a feature is not supported.
        CorruptModelError: not a GGUF file, truncated, a shard is missing, impossible sizes, or tensors that are
            missing, of another shape, or unknown to the architecture.
    """
    return _check(read_model(path))[1]


def convert_gguf(path: Path, cache_dir: Path) -> Path:
    """The directory of the model of ``path`` as bfloat16 safetensors with config and tokenizer, converted once.

    The directory is named after the files' content. It appears atomically.

    Raises:
        CorruptModelError, UnsupportedArchitectureError: as :func:`read_gguf_config`.
        DiskFullError: no space is left below ``cache_dir``.
        CacheUnusableError: ``cache_dir`` cannot be read or written.
    """
    model = read_model(path)
    directory = _directory_of(model, cache_dir)
    if _is_whole(directory):
        return directory
    architecture, config = _check(model)
    with disk_full_as_error(cache_dir), cache_errors(cache_dir):
        directory.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(directory)
        partial = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".partial", dir=directory.parent))
        try:
            _convert(model, architecture, config, partial)
            _move_into_place(partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return directory


def _directory_of(model: GgufModel, cache_dir: Path) -> Path:
    digests = [file_sha256(path) for path in model.paths]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return cache_dir / "converted" / f"{digest[:32]}-{_LAYOUT}"


def declared_model(model: GgufModel) -> tuple[Architecture, PretrainedConfig]:
    """The declaration of the architecture of ``model``, and the config from its metadata.

    Raises:
        CorruptModelError, UnsupportedArchitectureError: as :func:`read_gguf_config`.
    """
    if model.metadata.get("general.type", "model") != "model":
        raise corrupt(
            model.path, f"it is not a model but has the type {model.metadata['general.type']!r}", "Name a model."
        )
    keys = ArchitectureKeys(model)
    architecture = find_architecture(keys.architecture)
    find_family(architecture.model_type)  # whose classes it registers
    values = architecture.values(keys, model)
    keys.refuse_unread()
    check_tokenizer(model)
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None} | special_ids(model)
    try:
        config = CONFIG_MAPPING[architecture.model_type](**values, **ids, dtype="bfloat16")
    except Exception as error:
        raise corrupt(model.path, f"{type(error).__name__}: {error}") from error
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[architecture.model_type]]
    check_sizes(config, model.path)
    return architecture, config


def _check(model: GgufModel) -> tuple[Architecture, PretrainedConfig]:
    architecture, config = declared_model(model)
    account_for_tensors(model, architecture, expected_tensors(config))
    weight_bytes = sum(path.stat().st_size for path in model.paths)
    require_bounded(config, weight_bytes, parameters_per_byte=_PARAMETERS_PER_BYTE)
    return architecture, config


def _convert(model: GgufModel, architecture: Architecture, config: PretrainedConfig, destination: Path) -> None:
    expected = expected_tensors(config)
    split = split_state_dict_into_shards_factory(
        {name: tensor_bytes(*shape) for name, shape in expected.items()},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=_SHARD_BYTES,
    )
    for file, names in split.filename_to_tensors.items():
        tensors = {name: read_parameter(name, model.tensors, architecture, config) for name in names}
        save_file(tensors, destination / file, {"format": "pt"})
        del tensors
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (destination / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    config.save_pretrained(destination)
    generation = GenerationConfig.from_model_config(config)
    generation.eos_token_id = end_ids(model) or None
    generation.save_pretrained(destination)
    build_tokenizer(model).save_pretrained(destination)


def _remove_abandoned(directory: Path) -> None:
    """Delete leftovers of killed conversions; running ones are younger."""
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
        if not _is_whole(directory):  # otherwise another process was faster, with the same result
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
