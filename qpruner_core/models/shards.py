"""Weights in one or several safetensors files, read and written a tensor or a file at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Container, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import safe_open
from safetensors.torch import save_file

from qpruner_core.models.checkpoint import (
    INDEX_FILE,
    OWN_INDEX_FILE,
    OWN_WEIGHT_FILE,
    WEIGHT_FILE,
    TensorShapes,
    read_checkpoint,
    tensor_bytes,
    weight_files,
)


class StoredTensors:
    """The tensors of a directory's safetensors files, opened together; each is read on access.

    Raises:
        CorruptModelError: a file is missing, truncated, or not safetensors (before anything is read).
    """

    def __init__(self, directory: Path, *, device: str | torch.device = "cpu") -> None:
        self.shapes: TensorShapes = read_checkpoint(directory).tensors
        self._files: dict[str, Any] = {}
        with ExitStack() as stack:
            for name in weight_files(directory):
                file = stack.enter_context(safe_open(directory / name, framework="pt", device=str(device)))
                self._files |= dict.fromkeys(file.keys(), file)
            self._open = stack.pop_all()

    def __enter__(self) -> StoredTensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._files)

    def get(self, name: str) -> torch.Tensor:
        """The tensor ``name``, read now."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def names_by_module(names: Iterable[str], modules: Container[str]) -> dict[str, list[str]]:
    """``names`` of tensors by the one of ``modules`` that each belongs to, in alphabetical order, without others."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        module = name.rpartition(".")[0]
        while module and module not in modules:
            module = module.rpartition(".")[0]
        if module:
            found.setdefault(module, []).append(name)
    return found


def copy_weights(source: Path, target: Path, max_shard_size: int, *, own_names: bool = False) -> None:
    """Write the weights of ``source`` to ``target`` as files of at most ``max_shard_size`` bytes of tensors each.

    A tensor is never split; several files get an index in transformers' format; a single file is linked. ``own_names``:
    use names that no other package looks for.
    """
    whole, listing = (OWN_WEIGHT_FILE, OWN_INDEX_FILE) if own_names else (WEIGHT_FILE, INDEX_FILE)
    with StoredTensors(source) as stored:
        sizes = {name: tensor_bytes(*stored.shapes[name]) for name in sorted(stored.names())}
        split = split_state_dict_into_shards_factory(
            sizes,
            get_storage_size=lambda size: size,
            filename_pattern=whole.replace(".", "{suffix}.", 1),
            max_shard_size=max_shard_size,
        )
        files = split.filename_to_tensors
        stored_files = weight_files(source)
        if len(files) == len(stored_files) == 1:  # the distribution of tensors over files may differ
            link_or_copy(source / stored_files[0], target / whole)
            files = {}
        for file, names in files.items():
            save_file({name: stored.get(name) for name in names}, target / file, {"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (target / listing).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link to weights if the file system allows it, else a copy.

    Files that people edit in place (configs, chat templates, the model card) are always copied, so that an edit of one
    file changes no other.
    """
    if source.suffix == ".safetensors":
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def link_tree(source: Path, target: Path, *, but: tuple[str, ...] = ()) -> None:
    """Copy a directory, except files in ``but``; weights as hard links if the file system allows it."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in but:
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, destination)
