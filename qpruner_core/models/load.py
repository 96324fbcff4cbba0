"""Load a checked local directory, without downloads and without running the model's code."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from qpruner_core.errors import CorruptModelError, QPrunerError
from qpruner_core.models.checkpoint import weight_files
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.models.reshape import PATCHING
from qpruner_core.models.tensor_checks import is_layer_tensor
from qpruner_core.models.tokenizer_files import (
    require_small_files,
    require_tokenizer_files,
    require_vocabulary,
    tokenizer_errors,
)


def load_model(directory: Path, *, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The causal language model of ``directory`` in ``dtype``, in evaluation mode.

    Weights are read tensor by tensor, and cast before the next is read: memory holds one copy of them in ``dtype`` and
    a few tensors as stored, and no pages of the files.

    Raises:
        CorruptModelError: tensors are missing, of the wrong shape, or of layers that the config does not have.
        UnsupportedArchitectureError, UnsafeModelError: as :func:`qpruner_core.models.inspect_model`.
    """
    config = read_config(directory / CONFIG_FILE)
    try:
        model, info = _read_weights(directory, config, dtype)
    except Exception as error:  # model classes have no error type for a config that they do not support
        if isinstance(error, QPrunerError | MemoryError) or _out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or ["no details"]
        raise _corrupt(f"{type(error).__name__}: {lines[0]}") from error
    missing, mismatched = sorted(info["missing_keys"]), sorted(str(key) for key in info["mismatched_keys"])
    surplus = sorted(key for key in info["unexpected_keys"] if is_layer_tensor(key, find_family(config.model_type)))
    if missing:
        raise _corrupt(f"{len(missing)} tensors are missing, such as {missing[0]!r}")
    if mismatched:
        raise _corrupt(f"{len(mismatched)} tensors are of the wrong shape, such as {mismatched[0]}")
    if surplus:
        raise _corrupt(f"config.json does not describe {len(surplus)} of its tensors, such as {surplus[0]!r}")
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False  # the weights decide, and everything that follows reads the config
    return model.eval()


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _read_weights(
    directory: Path, config: PretrainedConfig, dtype: torch.dtype
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and transformers' report of mismatched tensors."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with ExitStack() as stack:
        slices = {}
        for name in weight_files(directory):
            # Mapped files, the default, would count as resident beside the tensors made from them
            file = stack.enter_context(safe_open(directory / name, framework="pt", backend="pread"))
            slices.update({key: file.get_slice(key) for key in file.keys()})  # noqa: SIM118 - it is no dict
        stack.enter_context(PATCHING)  # it sets torch's default type meanwhile
        loaded: tuple[PreTrainedModel, dict[str, Any]] = model_class.from_pretrained(
            None, config=config, state_dict=slices, dtype=dtype, output_loading_info=True
        )
    return loaded


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of ``directory``, without the dropout of merges that some have for training.

    Raises:
        ModelNotFoundError: it is missing, or only exists as a SentencePiece file.
        CorruptModelError: it is not readable, or needs code of its own.
    """
    require_tokenizer_files([path.name for path in directory.iterdir()], directory.name)
    require_small_files(directory)
    with tokenizer_errors():
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
        tokenizer("a", verbose=False)[
            "input_ids"
        ]  # wrong settings, such as a length that is not a number, only appear here
    require_vocabulary(tokenizer.vocab_size)
    _without_dropout(tokenizer)
    return tokenizer


def _without_dropout(tokenizer: PreTrainedTokenizerBase) -> None:
    """Always choose the same merges: with dropout, equal text has other ids at each call."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None) is not None:
        model.dropout = None  # type: ignore[union-attr]


def _corrupt(what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model's weights do not fit its architecture: {what}.",
        field="model",
        remedy="Fetch or export the model again.",
    )
