"""Loading of the checkpoints that a run exports, and of any GGUF file of a supported family."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qpruner_core.adapters import adapter_bytes, attach_adapter, largest_rank
from qpruner_core.errors import ModelNotFoundError
from qpruner_core.formats.declarations import declared
from qpruner_core.measure.llama_cpp import llama_cpp_speed
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.measure.speed import Speed
from qpruner_core.measure.vllm import vllm_speed
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.models import load_tokenizer
from qpruner_core.models.checkpoint import read_checkpoint, tensor_bytes
from qpruner_core.models.gguf.split import read_model
from qpruner_core.models.gguf.tokenizer import build_tokenizer
from qpruner_core.models.json_files import read_json_object, require_regular
from qpruner_core.models.model_config import CONFIG_FILE, LARGEST_CONFIG
from qpruner_core.resources import best_device
from qpruner_core.targets.compressed_tensors import read_compressed_tensors
from qpruner_core.targets.gguf import read_gguf, read_with_adapter

ADAPTER = "adapter"


def load_mixed_checkpoint(
    model: Path, adapter: Path | None, *, device: str | torch.device = "cpu"
) -> PreTrainedModel | PeftModel:
    """The mixed-precision model of ``model`` with the adapter of ``adapter`` attached, if any, in eval mode."""
    if adapter is None:
        return load_mixed_model(model, device=device)
    return attach_adapter(load_mixed_model(model, device=device), adapter)


def load_compressed(
    path: Path | str, *, device: str | torch.device = "auto"
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load an exported checkpoint in torch: the model in eval mode, and its tokenizer.

    Weights of GGUF and compressed-tensors are unpacked to bfloat16: the model computes the same as the engine, in more
    memory. Load the ``merged`` checkpoint with ``AutoModelForCausalLM.from_pretrained`` instead, with
    ``trust_remote_code=True`` if its layers differ in width.

    Args:
        path: directory of a ``compressed-tensors``, ``mixed`` or ``merged_quantized`` checkpoint, or a GGUF file of a
            supported family. An adapter in the directory is attached, and so is the ``adapter.gguf`` beside the
            ``model.gguf`` of a run.
        device: device of the model. ``"auto"``: the GPU if there is one, otherwise the CPU.

    Raises:
        CorruptModelError: the path is no such checkpoint, or a tensor is missing.
        ModelNotFoundError: the file does not exist.
        UnsupportedArchitectureError: the model or tokenizer of a GGUF file is not supported.
    """
    path = Path(path)
    device = best_device() if device == "auto" else device
    if is_gguf(path):
        return _load_gguf(path, device)
    if _is_compressed_tensors(path):
        model = read_compressed_tensors(path, device=device)
        adapter = path / ADAPTER
        return attach_adapter(model, adapter) if adapter.is_dir() else model, load_tokenizer(path)
    if not read_mixed_config(path)[1].adapters:
        return load_mixed_model(path, device=device), load_tokenizer(path)
    return load_mixed_checkpoint(path, path / ADAPTER, device=device), load_tokenizer(path)


def is_gguf(path: Path) -> bool:
    """Whether ``path`` is read as a GGUF file: any file is, and any path with that suffix."""
    return path.suffix == ".gguf" or path.is_file()


def engine_speed(path: Path, new_tokens: int, *, gpu: bool) -> Speed | None:
    """Speed of the checkpoint's engine, llama.cpp or vLLM, for ``new_tokens``; ``None`` if it is not installed or not
    known.

    Raises:
        EngineFailedError: the engine is installed, but the measurement failed.
    """
    if is_gguf(path):  # llama-bench would time the base alone
        return None if _adapters_beside(path) else llama_cpp_speed(path, new_tokens, gpu=gpu)
    if not _is_compressed_tensors(path):
        return None
    adapter = path / ADAPTER if (path / ADAPTER).is_dir() else None
    rank = 0 if adapter is None else largest_rank(adapter)
    return vllm_speed(path, new_tokens, gpu=gpu, adapter=adapter, adapter_rank=rank)


def held_bytes(path: Path, model: nn.Module) -> int:
    """Bytes of the weights of ``model``, which was loaded from ``path``, as its engine holds them."""
    if is_gguf(path):
        files = [path, *_adapters_beside(path)]
        return sum(tensor.size for file in files for tensor in read_model(file).tensors.values())
    if _is_compressed_tensors(path):
        own = sum(tensor_bytes(*shape) for shape in read_checkpoint(path).tensors.values())
        return own + (adapter_bytes(path / ADAPTER) if (path / ADAPTER).is_dir() else 0)
    return loaded_bytes(model)


def _load_gguf(path: Path, device: str | torch.device) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    if not path.exists():
        raise ModelNotFoundError(
            f"There is no file {path}.", field="model", remedy="Name a .gguf file, or the directory of a checkpoint."
        )
    require_regular(path)
    tokenizer = build_tokenizer(read_model(path))
    for adapter in _adapters_beside(path):
        require_regular(adapter)
        return read_with_adapter(path, adapter).to(device), tokenizer
    return read_gguf(path).to(device), tokenizer


def _adapters_beside(path: Path) -> list[Path]:
    """The adapter that a run wrote beside its model file, if any."""
    adapter = path.with_name(declared("gguf_adapter").place)
    return [adapter] if path.name == declared("gguf").place and adapter.is_file() else []


def _is_compressed_tensors(directory: Path) -> bool:
    """Whether the directory is a checkpoint of compressed-tensors. One in 16 bits throughout has no quantization
    settings and is recognised by its adapter."""
    config = directory / CONFIG_FILE
    if not config.is_file():
        return False
    found = read_json_object(config, most_bytes=LARGEST_CONFIG).get("quantization_config")
    if not found:
        return (directory / ADAPTER).is_dir()
    return isinstance(found, dict) and found.get("quant_method") == "compressed-tensors"
