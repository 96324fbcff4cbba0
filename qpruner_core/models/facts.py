"""Facts about a model that planning needs: computed once per identity, and small enough to store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from qpruner_core.hub import HubRepository
from qpruner_core.models.families import find_family
from qpruner_core.models.gguf import shard_names
from qpruner_core.models.inspect import ModelDescription
from qpruner_core.models.model_config import without_implementations
from qpruner_core.models.source import LocalModel, fetched_directory
from qpruner_core.strict import StrictModel


class ModelFacts(StrictModel):
    """A model that passed every check of :func:`qpruner_core.models.inspect_model`.

    ``config``: its config as JSON values, from which :func:`config_of_facts` makes the same config again.
    ``weight_bytes``: bytes of all tensors as stored. ``revision``: commit of the hub.
    """

    config: dict[str, Any]
    weight_bytes: int
    revision: str | None


def facts_of(description: ModelDescription) -> ModelFacts:
    """The facts of ``description`` to store."""
    return ModelFacts(
        config=description.config.to_dict(), weight_bytes=description.weight_bytes, revision=description.revision
    )


def config_of_facts(facts: ModelFacts) -> PretrainedConfig:
    """The config that ``facts`` were taken from."""
    find_family(facts.config["model_type"])  # whose classes it registers
    return CONFIG_MAPPING[facts.config["model_type"]].from_dict(without_implementations(facts.config))


def model_identity(found: LocalModel | HubRepository) -> str:
    """A digest (SHA-256, hex) of a model's identity: it changes with the model, its files, or the release of the code
    that inspects it.

    Of a local model: path, inode, size and times of every file that loading may read. The time of the last change of a
    file's state (``ctime``) cannot be set by its writer, so content cannot be exchanged unnoticed. Of a hub model:
    endpoint, repository, commit and file, and whether its weights are in the cache, because more is checked then.
    """
    digest = hashlib.sha256(_release().encode())
    for part in _hub_parts(found) if isinstance(found, HubRepository) else _local_parts(found):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


@cache
def _release() -> str:
    return f"{version('qpruner')}\0{version('transformers')}\n"


def tokenizer_directory(found: LocalModel | HubRepository) -> Path | None:
    """Location of the model's tokenizer; ``None`` if it still has to be downloaded or converted."""
    if isinstance(found, HubRepository):
        return fetched_directory(found)
    return None if found.is_gguf else found.path


def _hub_parts(repository: HubRepository) -> Iterable[str]:
    yield f"hub\0{repository.api.endpoint}\0{repository.id.repository}\0{repository.commit}\0{repository.id.file or ''}"
    yield f"fetched\0{fetched_directory(repository) is not None}"


def _local_parts(model: LocalModel) -> Iterable[str]:
    if model.is_gguf:
        paths = [model.path.with_name(name) for name in shard_names(model.path.name)]
        files = [(str(path), path.stat()) for path in paths]
    else:
        files = sorted(_files(model.path))
    for path, state in files:
        yield f"{path}\0{state.st_dev}\0{state.st_ino}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"


def _files(directory: str | Path, *, below: bool = True) -> Iterator[tuple[str, os.stat_result]]:
    """Files of a model's directory and, with ``below``, of its direct subfolders, one of which holds chat templates."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield entry.path, _state(entry)
            elif below:
                yield from _files(entry.path, below=False)


def _state(entry: os.DirEntry[str]) -> os.stat_result:
    """That of the file; of a link to nothing, which no run can read, its own."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)
