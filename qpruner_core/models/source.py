"""From a reference to a loadable local directory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig

from qpruner_core.errors import InvalidConfigError, ModelNotFoundError, ModelTooLargeError, UnsafeModelError
from qpruner_core.hub import HubRepository, parse_hub_id
from qpruner_core.local_paths import (
    check_entry_within_roots,
    check_within_roots,
    is_local_reference,
    resolve_local_path,
    unreadable_as_error,
)
from qpruner_core.models.checkpoint import (
    INDEX_FILE,
    WEIGHT_FILE,
    read_checkpoint,
    refuse_without_safetensors,
    shards_of_index,
)
from qpruner_core.models.checkpoint_writer import TEMPLATES
from qpruner_core.models.demo import DEMO_PREFIX, demo_file
from qpruner_core.models.gguf import convert_gguf, gguf_models, missing_shard, shard_names
from qpruner_core.models.json_files import LARGEST_JSON, require_regular
from qpruner_core.models.model_config import CONFIG_FILE, LARGEST_CONFIG, read_config
from qpruner_core.models.weight_values import checked_sha256, has_own_head
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import file_sha256
from qpruner_core.strict import StrictModel

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_CHOOSE = "Choose a smaller model, or ask the operator for a higher limit."
_TELL = "Choose another revision, or report it to its authors."
_SMALL_FILES = (CONFIG_FILE, "generation_config.json", *TOKENIZER_FILES)
_REGULAR = frozenset((*_SMALL_FILES, INDEX_FILE, WEIGHT_FILE))


class ModelSource(StrictModel):
    """A model on this machine.

    ``directory`` holds config.json, safetensors and tokenizer. ``revision``: commit of the hub. ``digest``: SHA-256
    (hex) over names and SHA-256 of the files that loading reads. ``own_head``: the weights hold a separate head,
    although config.json ties it to the embeddings.
    """

    reference: str
    directory: Path
    revision: str | None
    digest: str
    own_head: bool = False

    @property
    def dense_config(self) -> PretrainedConfig:
        """The config that matches the weights, read now."""
        config = read_config(self.directory / CONFIG_FILE)
        if self.own_head:
            config.tie_word_embeddings = False
        return config

    @property
    def origin(self) -> dict[str, str | None]:
        """Origin as recorded in checkpoints: model and revision, without a path of this machine."""
        local = self.revision is None and not self.reference.startswith(DEMO_PREFIX)
        return {"model": Path(self.reference).name if local else self.reference, "revision": self.revision}


@dataclass(frozen=True)
class LocalModel:
    """A local model: a safetensors directory, or a GGUF model before conversion.

    ``path``: the directory, or the GGUF model's file (any of its shards, which are in one directory).
    """

    path: Path

    @property
    def is_gguf(self) -> bool:
        """Whether :attr:`path` is a GGUF file instead of a directory."""
        return self.path.is_file()


@unreadable_as_error("model")
def resolve_model(reference: str, policy: SourcePolicy) -> ModelSource:
    """Provide the model of ``reference`` as a loadable local directory.

    Raises:
        ModelNotFoundError, ModelGatedError, ModelTooLargeError, UnsafeModelError, UnsupportedArchitectureError,
            CorruptModelError, PathNotAllowedError, HubUnavailableError, DiskFullError.
    """
    found = locate_model(reference, policy)
    revision = None
    if isinstance(found, HubRepository):
        revision = found.commit
        found = LocalModel(_download(found, policy))
    directory = convert_gguf(found.path, policy.cache_dir) if found.is_gguf else found.path
    config, checkpoint = read_config(directory / CONFIG_FILE), read_checkpoint(directory)
    digest = _digest(directory, checkpoint.files)
    named = policy.uploads[reference].name if reference in policy.uploads else reference
    return ModelSource(
        reference=named, directory=directory, revision=revision, digest=digest,
        own_head=has_own_head(directory, config, checkpoint),
    )  # fmt: skip


def locate_model(reference: str, policy: SourcePolicy) -> LocalModel | HubRepository:
    """The source of ``reference``. Raises as :func:`resolve_model` does."""
    if reference.startswith(DEMO_PREFIX):
        return LocalModel(demo_file(reference.removeprefix(DEMO_PREFIX)))
    if reference in policy.uploads:
        folder = policy.uploads[reference].resolve()
        return LocalModel(_local_model(str(folder), policy.model_copy(update={"allowed_roots": (folder,)}), reference))
    if is_local_reference(reference, policy):
        return LocalModel(_local_model(reference, policy, reference))
    hub_id = parse_hub_id(reference)
    if hub_id is None:
        raise ModelNotFoundError(
            f"{reference!r} is not an existing path or a hub id.",
            field="model",
            remedy='Give a path that starts with "/", "./" or "~", a hub id such as "org/name@revision", '
            'or "demo:smollm2-135m-instruct".',
        )
    return HubRepository(hub_id, policy, "model")


def hub_weight_files(repository: HubRepository, policy: SourcePolicy) -> tuple[str, ...]:
    """Names of the weight files of a repository to download: safetensors, else all files of one GGUF model.

    Raises:
        ModelTooLargeError: the download exceeds the limit of the policy.
    """
    for name, limit in ((CONFIG_FILE, LARGEST_CONFIG), (INDEX_FILE, LARGEST_JSON)):
        _refuse_more_than(limit, repository.sizes.get(name, 0), f"{name} of {str(repository.id)!r}", _TELL)
    weights = _weight_files(repository)
    if policy.max_model_bytes is not None:
        size = sum(repository.sizes.get(name, 0) for name in (*_small_files(repository), *weights))
        _refuse_more_than(policy.max_model_bytes, size, f"The model {str(repository.id)!r}", _CHOOSE)
    return weights


def fetched_directory(repository: HubRepository) -> Path | None:
    """The directory of a hub model whose config and safetensors are in the cache; sends no request."""
    if WEIGHT_FILE in repository.sizes:
        return repository.cached([CONFIG_FILE, WEIGHT_FILE])
    directory = repository.cached([CONFIG_FILE, INDEX_FILE]) if INDEX_FILE in repository.sizes else None
    return None if directory is None else repository.cached([CONFIG_FILE, *shards_of_index(directory / INDEX_FILE)])


def _refuse_more_than(limit: int, size: int, what: str, remedy: str) -> None:
    if size > limit:
        raise ModelTooLargeError(
            f"{what} has {format_bytes(size)}; the limit of this installation is {format_bytes(limit)}.",
            field="model",
            remedy=remedy,
        )


def _weight_files(repository: HubRepository) -> tuple[str, ...]:
    names = [name for name in repository.sizes if "/" not in name]
    if repository.id.file is not None:
        if repository.id.file not in names or not repository.id.file.endswith(".gguf"):
            raise ModelNotFoundError(
                f"The hub model {repository.id.repository!r} has no GGUF file {repository.id.file!r}.",
                field="model",
                remedy="Name one of its .gguf files after the colon, or none.",
            )
        return _gguf_files(repository.id.file, names)
    _refuse_adapter(names, str(repository.id))
    if WEIGHT_FILE in names:
        return (WEIGHT_FILE,)
    if INDEX_FILE in names:
        return shards_of_index(repository.small(INDEX_FILE, LARGEST_JSON))
    return _gguf_files(_single_gguf(names, str(repository.id)), names)


def _gguf_files(name: str, present: list[str]) -> tuple[str, ...]:
    """All files of the GGUF model that the file ``name`` belongs to."""
    missing = missing_shard(name, present)
    if missing is not None:
        raise missing
    return shard_names(name)


def _small_files(repository: HubRepository) -> list[str]:
    templates = [name for name in repository.sizes if name.startswith(f"{TEMPLATES}/")]
    index = [INDEX_FILE] if WEIGHT_FILE not in repository.sizes else []
    return [*(name for name in (*_SMALL_FILES, *index) if name in repository.sizes), *sorted(templates)]


def _download(repository: HubRepository, policy: SourcePolicy) -> Path:
    """Download the files that loading needs, and no others; returns the directory, or the GGUF file."""
    weights = hub_weight_files(repository, policy)
    if weights[0].endswith(".gguf"):
        return repository.download(weights) / weights[0]
    return repository.download([*_small_files(repository), *weights])


def _local_model(named: str, policy: SourcePolicy, reference: str) -> Path:
    """The model at the path ``named``; errors name ``reference``."""
    path = resolve_local_path(named, policy, "model")
    if path.is_file():
        target = path.resolve()
        if target.suffix == ".gguf" and len(shard_names(path.name)) == 1:
            path = target  # a link of any name to a model, which may be the first of several files
        if path.suffix == ".gguf":
            return _local_gguf(path.parent, path.name, policy)
    if not path.is_dir():
        raise ModelNotFoundError(
            f"There is no model directory at {reference!r}.",
            field="model",
            remedy="Give a directory with config.json and safetensors weights, or a .gguf file.",
        )
    names = []
    with os.scandir(path) as entries:  # which tells links and regular files apart without a look at each
        for entry in entries:
            if entry.is_symlink():  # otherwise it is where its checked directory is
                check_within_roots(path / entry.name, policy, "model")
            names.append(entry.name)
            is_read = entry.name in _REGULAR or entry.name.endswith(".gguf")
            if is_read and not entry.is_file(follow_symlinks=False):
                require_regular(path / entry.name)
    for template in _templates(path) if TEMPLATES in names else ():
        check_entry_within_roots(template, policy, "model")
        require_regular(template)
    _refuse_adapter(names, reference)
    if INDEX_FILE in names or WEIGHT_FILE in names:
        return path
    return _local_gguf(path, _single_gguf(names, reference), policy)


def _local_gguf(directory: Path, name: str, policy: SourcePolicy) -> Path:
    """The file ``name`` of a GGUF model, after checking that all of its files exist and may be read."""
    files = [directory / shard for shard in shard_names(name)]
    for file in files:
        check_within_roots(file, policy, "model")
    missing = missing_shard(name, [file.name for file in files if file.is_file()])
    if missing is not None:
        raise missing
    return directory / name


def _refuse_adapter(names: list[str], model: str) -> None:
    """Reject adapters, also beside a model's weights, where transformers would attach them."""
    alone = "adapter_model.safetensors" in names and not {WEIGHT_FILE, INDEX_FILE} & set(names)
    if "adapter_config.json" in names or alone:
        raise UnsafeModelError(
            f"{model!r} is an adapter, not a complete model.",
            field="model",
            remedy="Merge it into its base model (PEFT: merge_and_unload) and save that.",
        )


def _single_gguf(names: list[str], model: str) -> str:
    """The file of the only GGUF model among ``names``: its first shard if it has several."""
    models = gguf_models(names)
    if not models:
        refuse_without_safetensors(names, model)
    if len(models) > 1:
        raise InvalidConfigError(
            f"The model {model!r} has {len(models)} GGUF models.",
            field="model",
            remedy=f'Name one: the file\'s path, or on the hub "org/name:{models[0]}".',
        )
    return models[0]


def _templates(directory: Path) -> list[Path]:
    """Chat templates that belong to the model, besides the one beside its tokenizer."""
    return list((directory / TEMPLATES).glob("*.jinja"))


def _digest(directory: Path, weights: tuple[str, ...]) -> str:
    index = [INDEX_FILE] if weights != (WEIGHT_FILE,) else []
    names = [name for name in (*_SMALL_FILES, *index) if (directory / name).is_file()]
    names += [str(path.relative_to(directory)) for path in _templates(directory)]
    hashes = {name: file_sha256(directory / name) for name in names}
    hashes |= {name: checked_sha256(directory / name) for name in weights}
    digest = hashlib.sha256()
    for name in sorted(hashes):
        digest.update(f"{name}\0{hashes[name]}\n".encode())
    return digest.hexdigest()
