"""A Llama of any size with random weights, written to disk tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from qpruner_core.models.checkpoint import WEIGHT_FILE
from qpruner_core.models.reshape import empty_model

SHAPES = {
    "7b": {"hidden": 4096, "layers": 32, "intermediate": 11008, "heads": 32, "vocabulary": 32000},
    "1b": {"hidden": 2048, "layers": 22, "intermediate": 5632, "heads": 32, "vocabulary": 32000},
    "tiny": {"hidden": 64, "layers": 18, "intermediate": 384, "heads": 4, "vocabulary": 300},
}
"""Arguments of :func:`llama_config` by name: Llama 2's of 7 billion parameters, TinyLlama's but for its shared keys
and values, and one to try a script with, of enough
layers that half can go while some are protected."""

_DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def llama_config(hidden: int, layers: int, intermediate: int, heads: int, vocabulary: int) -> PretrainedConfig:
    """A Llama with as many key-value heads as query heads and an output matrix of its own."""
    return AutoConfig.for_model(
        "llama", hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=vocabulary, tie_word_embeddings=False,
        max_position_embeddings=4096, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def write_random_checkpoint(
    config: PretrainedConfig, directory: Path, *, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> int:
    """Write a model of ``config`` into one safetensors file, made on ``device``, and give the bytes of its weights.

    Matrices are drawn from N(0, 0.02²) in bfloat16 and stored in ``dtype`` (bfloat16 or float32), norms are one. One
    tensor is in memory at a time. A single file, since a checkpoint of this size is one on the hub.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in empty_model(config).named_parameters()}
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        entries[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    generator = torch.Generator(device).manual_seed(0)
    with (directory / WEIGHT_FILE).open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for shape in shapes.values():
            tensor = torch.ones(shape, dtype=torch.bfloat16, device=device)
            if len(shape) > 1:
                tensor.normal_(std=0.02, generator=generator)
            tensor.to("cpu", dtype).view(torch.uint8).numpy().tofile(stream)
    config.architectures = config.architectures or ["LlamaForCausalLM"]  # that of a pruned shape stays
    config.dtype = dtype
    config.save_pretrained(directory)
    return end


def write_random_model(shape: str, directory: Path, device: torch.device) -> int:
    """Write a checkpoint of the shape of that name with a tokenizer, and give the bytes of its weights."""
    weights = write_random_checkpoint(llama_config(**SHAPES[shape]), directory, device=device.type)
    _write_tokenizer(directory)
    return weights


def _write_tokenizer(directory: Path) -> None:
    """A tokenizer of single bytes; the weights are random, so that the text does not matter."""
    alphabet = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")  # noqa: S106 - no passwords
    tokenizer.save_pretrained(directory)
