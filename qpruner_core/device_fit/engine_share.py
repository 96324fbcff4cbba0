"""Bytes of an engine without weights: process, libraries, GPU context, reserve."""

from __future__ import annotations

from qpruner_core.device_fit.config import FitConfig
from qpruner_core.targets.config import RunsOn, TargetName

_MIB = 2**20

VLLM_UTILISATION_PERCENT = 92
"""vLLM's ``gpu_memory_utilization`` in hundredths: its share of a card's memory (default of 0.32)."""
_VLLM_OWN = 1024 * _MIB
"""A GPU's context, NCCL and CUDA graphs within vLLM's share. From the examples of its documentation; not measured."""
_VLLM_CPU_PROCESSES, _VLLM_CPU_ENTRY = 1360 * _MIB, 8 * 1024
"""Memory of the three processes of ``vllm serve`` on a CPU, and per entry of the vocabulary."""
_GPU_CONTEXT = 512 * _MIB
"""A CUDA context with the kernels of cuBLAS. A safe assumption above what NVIDIA's tools show for torch and llama.cpp
(300 to 500 MiB); not measured."""
_TORCH_PROCESS = 512 * _MIB
"""Resident memory of a Python process with torch 2.13, transformers 5.23, PEFT and bitsandbytes, without weights: 476
MiB after a first ``generate``, on a CPU."""
_LLAMA_CPP_PROCESS, _LLAMA_CPP_ENTRY = 32 * _MIB, 144
"""Resident memory of ``llama-server``: of the process, and per entry of the vocabulary (text, scores, maps)."""
_LLAMA_CPP_SEQUENCE, _LLAMA_CPP_CANDIDATE = 1 * _MIB, 16
"""The same per concurrent sequence: of its slot, and per entry of the vocabulary (candidates of its sampler)."""


def engine_bytes(fit: FitConfig, target: TargetName, runs_on: RunsOn, vocabulary: int) -> int:
    """Bytes of ``fit.memory`` that the engine of ``target`` takes from weights, cache and activations.

    On a GPU the engine's context takes memory of the card; on a CPU the process itself takes main memory.

    vLLM uses 92 % of a card by ``--gpu-memory-utilization`` and leaves the rest to others, so the rest is not available
    for weights. The other shares do not depend on the device's size: on a CPU, ``--kv-cache-memory-bytes`` gives vLLM
    its cache, and it takes no share of main memory.

    For vLLM on a CPU the figure is 0 to 6 % above the measured memory of release 0.32 (anonymous and shared pages at
    their peak, from the start to the end of four prompts of 2,028 tokens) beside weights, cache and activations: 1,359
    MiB with a vocabulary of 512 entries, 1,643 MiB with SmolLM2-135M and 3,383 MiB with Gemma 3 270M. All with
    ``--enforce-eager``; compiling, vLLM's default, was not measured.

    For llama.cpp on a CPU the figure is 3 to 10 MiB above the measured memory of release 11434 beside all buffers of
    its log, after a prompt of 1,822 tokens in each sequence: 41.6 and 37.5 MiB with SmolLM2-135M and 4 or 1 sequences,
    77.8 and 65.4 MiB with Gemma 3 270M; with ``--cache-ram 0 --ctx-checkpoints 0``, without which it also keeps old
    prompts in main memory.
    """
    if target == "compressed-tensors" and runs_on == "cpu":
        return _VLLM_CPU_PROCESSES + _VLLM_CPU_ENTRY * vocabulary
    if target == "compressed-tensors":
        return fit.memory - fit.memory * VLLM_UTILISATION_PERCENT // 100 + _VLLM_OWN
    if runs_on != "cpu":
        return _GPU_CONTEXT
    if target == "gguf":
        sequence = _LLAMA_CPP_SEQUENCE + _LLAMA_CPP_CANDIDATE * vocabulary
        return _LLAMA_CPP_PROCESS + _LLAMA_CPP_ENTRY * vocabulary + fit.sequences * sequence
    return _TORCH_PROCESS
