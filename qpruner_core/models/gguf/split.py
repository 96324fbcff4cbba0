"""A GGUF model in one file or several: finds every shard and checks that they belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.gguf.header import Header, StoredTensor, Value, corrupt, read_header

_SHARD = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_SHARDS = 4096
_ALL = "Put all files of the split model into one directory under their published names."


@dataclass(frozen=True)
class GgufModel:
    """All files of a model, its metadata, and its tensors by their GGUF names."""

    paths: tuple[Path, ...]
    metadata: dict[str, Value]
    tensors: dict[str, StoredTensor]

    @property
    def path(self) -> Path:
        """The first file, by which errors name the model."""
        return self.paths[0]


def shard_names(name: str) -> tuple[str, ...]:
    """Names of all files of the model that the file ``name`` belongs to, in order; often only one."""
    match = _SHARD.fullmatch(name)
    if match is None or not 1 <= int(match["count"]) <= _MOST_SHARDS:
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['model']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))


def gguf_models(names: Iterable[str]) -> list[str]:
    """One file name for each GGUF model among ``names``: its only file, or its first shard."""
    return sorted({shard_names(name)[0] for name in names if name.endswith(".gguf")})


def missing_shard(name: str, present: Iterable[str]) -> CorruptModelError | None:
    """The error for the model of the file ``name`` if one of its files is missing from ``present``."""
    missing = sorted(set(shard_names(name)) - set(present))
    if not missing:
        return None
    return CorruptModelError(
        f"The split model of {name} lacks {len(missing)} of its {len(shard_names(name))} files: {missing[0]}.",
        field="model",
        remedy=_ALL,
    )


def read_model(path: Path) -> GgufModel:
    """The headers of the model of ``path``, its only file or any of its shards.

    Raises:
        CorruptModelError: a shard is missing or belongs to another model, a tensor is in two of them, or a header is
            damaged.
        UnsupportedArchitectureError: a tensor has an unsupported format.
    """
    names = shard_names(path.name)
    first = path.with_name(names[0])
    error = missing_shard(path.name, (name for name in names if path.with_name(name).is_file()))
    if error is not None:
        raise error
    header = read_header(first)
    headers = [header, *(read_header(path.with_name(name)) for name in names[1:])]
    _check_split(headers)
    tensors: dict[str, StoredTensor] = {}
    for shard in headers:
        twice = tensors.keys() & shard.tensors.keys()
        if twice:
            raise corrupt(shard.path, f"it holds {min(twice)!r}, which another file of the model also holds", _ALL)
        tensors |= shard.tensors
    _check_total(headers, len(tensors))
    return GgufModel(tuple(shard.path for shard in headers), header.metadata, tensors)


def _check_split(headers: Sequence[Header]) -> None:
    count = len(headers)
    for number, header in enumerate(headers):
        said = header.metadata.get("split.count", 0 if count == 1 else None)
        if count == 1 and said in (0, 1):
            continue
        if said != count or header.metadata.get("split.no") != number:
            at = header.metadata.get("split.no")
            raise corrupt(
                header.path,
                f"its header says file {('?' if not isinstance(at, int) else at + 1)} of {said}, but its name "
                f"says file {number + 1} of {count}",
                _ALL,
            )
        for key, value in header.metadata.items():
            if not key.startswith("split.") and headers[0].metadata.get(key) != value and not _is_long(value):
                raise corrupt(
                    header.path, (f"it belongs to another model than {headers[0].path.name}: {key} differs"), _ALL
                )


def _check_total(headers: Sequence[Header], found: int) -> None:
    for header in headers:
        total = header.metadata.get("split.tensors.count", found)
        if total not in (found, 0):
            raise corrupt(header.path, f"its model has {total} tensors, but its files hold {found}", _ALL)


def _is_long(value: Value) -> bool:
    return not isinstance(value, str | int | float | list)
