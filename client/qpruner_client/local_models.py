"""The files of a local model that a service reads, with their sizes and SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qpruner_client.errors import UploadError

_KINDS = (".json", ".txt", ".model", ".jinja")
_WEIGHTS = ".safetensors"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TEMPLATES = "additional_chat_templates"
_SHARD = re.compile(r"(?P<stem>.+)-[0-9]{5}-of-(?P<count>[0-9]{5})\.gguf")
_PIECE = 2**20
_REMEDY = "Give a folder with config.json and .safetensors weights, or a .gguf file."


@dataclass(frozen=True)
class LocalFile:
    """A file to send: its name on the service, its path here, bytes and SHA-256 (hex)."""

    name: str
    path: Path
    bytes: int
    sha256: str


def find_files(path: Path) -> dict[str, Path]:
    """The files of the model at ``path`` by their names on the service: those of a folder that belong to a model, or
    all shards of a GGUF file.

    Raises:
        UploadError: there is no model.
    """
    if path.is_file() and path.suffix == ".gguf":
        return {shard.name: shard for shard in _shards(path)}
    if not path.is_dir():
        raise UploadError(f"There is no model at {str(path)!r}.", remedy=_REMEDY)
    here = {file.name: file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")}
    weights = _weights(here)
    if not weights:
        models = [name for name in here if name.endswith(".gguf")]
        if len(models) != 1 and not all(_SHARD.fullmatch(name) for name in models):
            raise UploadError(f"{str(path)!r} has {len(models)} GGUF models.", remedy="Name the one to send.")
        if not models:
            raise UploadError(f"{str(path)!r} has no readable model.", remedy=_REMEDY)
        return find_files(here[models[0]])
    small = {name: file for name, file in here.items() if name.endswith(_KINDS) and name != "recipe.json"}
    templates = {f"{_TEMPLATES}/{file.name}": file for file in sorted((path / _TEMPLATES).glob("*.jinja"))}
    return {**small, **weights, **templates}


def read_files(found: dict[str, Path], check_stop: Callable[[], None]) -> list[LocalFile]:
    """``found`` with sizes and SHA-256; reads every file once."""
    return [_read(name, path, check_stop) for name, path in found.items()]


def _weights(here: dict[str, Path]) -> dict[str, Path]:
    if _WHOLE in here:
        return {_WHOLE: here[_WHOLE]}
    if _INDEX not in here:
        return {name: path for name, path in here.items() if name.endswith(_WEIGHTS)}
    try:
        shards = sorted(set(json.loads(here[_INDEX].read_text())["weight_map"].values()))
        return {name: here[name] for name in shards}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UploadError(
            f"{_INDEX} cannot be read, or names a file that is missing: {error}.", remedy="Download the model again."
        ) from error


def _shards(path: Path) -> list[Path]:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    shards = [path.with_name(f"{match['stem']}-{index:05}-of-{count:05}.gguf") for index in range(1, count + 1)]
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise UploadError(f"The shard {missing.name!r} is missing.", remedy="Put all shards into one folder.")
    return shards


def _read(name: str, path: Path, check_stop: Callable[[], None]) -> LocalFile:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            check_stop()
            digest.update(piece)
            size += len(piece)
    if not size:
        raise UploadError(f"The file {name!r} is empty.", remedy="Download it again.")
    return LocalFile(name, path, size, digest.hexdigest())
