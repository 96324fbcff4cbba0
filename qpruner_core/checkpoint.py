"""Loading what a run exported."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qpruner_core.mixed.adapters import attach_adapter
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.models import load_tokenizer

ADAPTER = "adapter"


def load_mixed_checkpoint(
    model: Path, adapter: Path | None, *, device: str | torch.device = "cpu"
) -> PreTrainedModel | PeftModel:
    """The mixed-precision model of ``model`` with the adapter of ``adapter`` on it, if any, in eval mode."""
    if adapter is None:
        return load_mixed_model(model, device=device)
    return attach_adapter(load_mixed_model(model, device=device), adapter)


def load_compressed(
    directory: Path | str, *, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load the ``mixed`` or ``merged_quantized`` checkpoint of a run: the model, ready to generate, and its tokenizer.

    The ``merged`` checkpoint is for ``AutoModelForCausalLM.from_pretrained``, with ``trust_remote_code=True`` where its
    layers differ in width.

    Raises:
        CorruptModelError: the directory is no such checkpoint, or a tensor is missing.
    """
    directory = Path(directory)
    if not read_mixed_config(directory)[1].adapters:
        return load_mixed_model(directory, device=device), load_tokenizer(directory)
    return load_mixed_checkpoint(directory, directory / ADAPTER, device=device), load_tokenizer(directory)
