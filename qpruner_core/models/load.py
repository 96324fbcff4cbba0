"""Loading a checked local directory, with nothing fetched and no code of the model run."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from qpruner_core.errors import CorruptModelError


def load_model(directory: Path, *, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The causal language model of ``directory`` in ``dtype``, in evaluation mode.

    Raises:
        CorruptModelError: tensors are missing, of the wrong shape, or of layers that the config does not have.
    """
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(directory),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, OSError, TypeError, KeyError) as error:
        raise _corrupt(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    missing, mismatched = sorted(info["missing_keys"]), sorted(str(key) for key in info["mismatched_keys"])
    surplus = sorted(key for key in info["unexpected_keys"] if is_layer_tensor(key))
    if missing:
        raise _corrupt(f"{len(missing)} tensors are missing, such as {missing[0]!r}")
    if mismatched:
        raise _corrupt(f"{len(mismatched)} tensors are of the wrong shape, such as {mismatched[0]}")
    if surplus:
        raise _corrupt(f"config.json has no place for {len(surplus)} of its tensors, such as {surplus[0]!r}")
    return model.eval()


def is_layer_tensor(name: str) -> bool:
    """Whether a tensor is a weight of a decoder layer, which a model must not leave unused."""
    return ".layers." in name and not name.endswith("inv_freq")  # old checkpoints carry this constant


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of ``directory``.

    Raises:
        CorruptModelError: it is missing, not readable, or needs code of its own.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorruptModelError(
            f"The model's tokenizer cannot be loaded: {first_line}",
            field="model",
            remedy="Put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the weights.",
        ) from error
    return tokenizer


def _corrupt(what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model's weights do not fit its architecture: {what}.",
        field="model",
        remedy="Fetch or export the model again.",
    )
