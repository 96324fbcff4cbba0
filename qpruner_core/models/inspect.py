"""Every check of a model that is possible before work, without downloading its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PretrainedConfig

from qpruner_core.errors import CorruptModelError, ModelNotFoundError
from qpruner_core.hub import HubRepository
from qpruner_core.local_paths import unreadable_as_error
from qpruner_core.models.checkpoint import TensorShapes, read_checkpoint, tensor_bytes
from qpruner_core.models.gguf import read_gguf_config
from qpruner_core.models.hub_headers import hub_gguf, hub_tensors
from qpruner_core.models.model_config import CONFIG_FILE, LARGEST_CONFIG, expected_tensors, read_config
from qpruner_core.models.source import LocalModel, hub_weight_files, locate_model
from qpruner_core.models.tensor_checks import require_fit
from qpruner_core.models.tokenizer_files import require_small_files, require_tokenizer_files
from qpruner_core.models.weight_values import has_own_head
from qpruner_core.source_policy import SourcePolicy


@dataclass(frozen=True)
class ModelDescription:
    """A model as described by its headers.

    ``weight_bytes``: bytes of all tensors as stored (of a GGUF file: after conversion to 16 bits). ``tensors``: shape
    and dtype by name. ``directory``: location of its tokenizer; ``None`` if it still has to be downloaded or converted.
    """

    reference: str
    revision: str | None
    config: PretrainedConfig
    weight_bytes: int
    tensors: TensorShapes
    directory: Path | None = None


@unreadable_as_error("model")
def inspect_model(reference: str, policy: SourcePolicy) -> ModelDescription:
    """Describe the model of ``reference``, and reject now any model that would fail later.

    Raises:
        ModelNotFoundError, ModelGatedError, ModelTooLargeError, UnsafeModelError, UnsupportedArchitectureError,
            CorruptModelError, PathNotAllowedError, HubUnavailableError.
    """
    return inspect_found(reference, locate_model(reference, policy), policy)


@unreadable_as_error("model")
def inspect_found(reference: str, found: LocalModel | HubRepository, policy: SourcePolicy) -> ModelDescription:
    """:func:`inspect_model` for a ``reference`` that is already resolved."""
    if isinstance(found, HubRepository):
        return _inspect_hub(reference, found, policy)
    if found.is_gguf:
        return _inspect_gguf(reference, None, found)
    return _inspect_directory(reference, found.path)


def _inspect_directory(reference: str, directory: Path) -> ModelDescription:
    _require_files([path.name for path in directory.iterdir()], reference)
    config, checkpoint = read_config(directory / CONFIG_FILE), read_checkpoint(directory)
    require_fit(config, checkpoint.tensors)
    require_small_files(directory)
    if has_own_head(directory, config, checkpoint, sample=True):
        config.tie_word_embeddings = False
    return replace(_describe(reference, None, config, checkpoint.tensors), directory=directory)


def _inspect_gguf(reference: str, revision: str | None, model: LocalModel) -> ModelDescription:
    config = read_gguf_config(model.path)
    return _describe(reference, revision, config, expected_tensors(config))


def _inspect_hub(reference: str, repository: HubRepository, policy: SourcePolicy) -> ModelDescription:
    weights = hub_weight_files(repository, policy)
    if weights[0].endswith(".gguf"):
        return _inspect_gguf(reference, repository.commit, LocalModel(hub_gguf(repository, weights)))
    _require_files(list(repository.sizes), reference)
    config = read_config(repository.small(CONFIG_FILE, LARGEST_CONFIG))
    missing = [name for name in weights if name not in repository.sizes]
    if missing:
        raise CorruptModelError(
            f"The hub model {reference!r} lacks the shard {missing[0]!r} that its index names.",
            field="model",
            remedy="Choose another revision, or report it to its authors.",
        )
    fetched = repository.cached([CONFIG_FILE, *weights])
    if fetched is not None:
        return replace(_inspect_directory(reference, fetched), revision=repository.commit)
    tensors = hub_tensors(repository, weights, reference)
    # Whether the weights' head equals the embeddings is checked once they are local, before the first stage
    require_fit(config, tensors)
    return _describe(reference, repository.commit, config, tensors)


def _require_files(names: list[str], reference: str) -> None:
    if CONFIG_FILE not in names:
        raise ModelNotFoundError(
            f"The model {reference!r} has no {CONFIG_FILE}.",
            field="model",
            remedy="Give the directory that holds config.json and the safetensors files.",
        )
    require_tokenizer_files(names, reference)


def _describe(
    reference: str, revision: str | None, config: PretrainedConfig, tensors: TensorShapes
) -> ModelDescription:
    size = sum(tensor_bytes(shape, dtype) for shape, dtype in tensors.values())
    return ModelDescription(reference, revision, config, size, tensors)
